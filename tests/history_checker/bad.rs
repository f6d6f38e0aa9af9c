//! Bad histories, each of which earns one verdict.

use crate::history::{Call, End, Got, Group, LEASE_TOLERANCE, Nanos, Published, Verb, Verdict};
use crate::tale::*;

#[test]
fn lost_accepted_and_never_seen() {
    tale().left([accepted(1, 0)]).is(Verdict::Lost);
}

#[test]
fn lost_when_the_holder_died() {
    tale().left([accepted(1, 0)]).killed(20, [first(1, 10)]).is(Verdict::Lost);
}

#[test]
fn lost_after_a_nack() {
    tale().left([accepted(1, 0)]).left([first(1, 10), settle(1, Verb::Nack, 20)]).is(Verdict::Lost);
}

#[test]
fn lost_to_one_of_two_groups() {
    let mut tale = tale().killed(5, [offered(1, 0)]).left([first(1, 20), ack(1, 30)]);
    tale.0.groups.push(Group { name: "second".into(), drained: true, ..Group::default() });
    tale.is(Verdict::Lost);
}

#[test]
fn lost_when_a_dead_letter_is_gone() {
    tale().left([accepted(1, 0)]).left([first(1, 10), settle(1, Verb::Reject, 20)]).is(Verdict::Lost);
}

#[test]
fn nothing_is_lost_from_a_queue_that_was_not_drained() {
    let mut tale = tale().left([accepted(1, 0)]);
    tale.0.groups[0].drained = false;
    tale.is_good();
}

#[test]
fn phantom_never_offered() {
    tale().left([first(1, 10), ack(1, 20)]).is(Verdict::Phantom);
}

#[test]
fn phantom_refused() {
    tale().left([refused(1, 0)]).left([first(1, 10), ack(1, 20)]).is(Verdict::Phantom);
}

#[test]
fn phantom_damaged() {
    let torn = Got { id: 1, position: 1001, attempt: 1, failures: 0, intact: false, tag: 1 };
    let torn = Call::Receive { began: 10, got: Some((11, torn)) };
    tale().left([accepted(1, 0)]).left([torn, ack(1, 20)]).is(Verdict::Phantom);
}

#[test]
fn phantom_at_another_position() {
    let moved = Got { id: 1, position: 7, attempt: 1, failures: 0, intact: true, tag: 1 };
    let moved = Call::Receive { began: 10, got: Some((11, moved)) };
    tale().left([accepted(1, 0)]).left([moved, ack(1, 20)]).is(Verdict::Phantom);
}

#[test]
fn phantom_two_messages_at_one_position() {
    let twice = |id| Call::Publish { id, began: 0, answer: Some((1, Published::Accepted { position: 5 })) };
    let receive = |id| {
        let got = Got { id, position: 5, attempt: 1, failures: 0, intact: true, tag: id as u16 };
        Call::Receive { began: 10, got: Some((11, got)) }
    };
    let consumer = [receive(1), ack(1, 20), receive(2), ack(2, 30)];
    tale().left([twice(1)]).left([twice(2)]).left(consumer).is(Verdict::Phantom);
}

#[test]
fn phantom_before_it_was_offered() {
    tale().left([accepted(1, 50)]).left([first(1, 10), ack(1, 60)]).is(Verdict::Phantom);
}

#[test]
fn acked_again_delivered_after_the_ack() {
    let second = [got(1, 30, 2, 0), settle(1, Verb::Release, 40)];
    tale().left([accepted(1, 0)]).left([first(1, 10), ack(1, 20)]).left(second).is(Verdict::AckedAgain);
}

#[test]
fn acked_again_by_two() {
    // The second one's ack was confirmed although the message had gone to the first one.
    tale()
        .timed()
        .left([accepted(1, 0)])
        .left([got(1, 10, 2, 0), ack(1, 3 * LEASE)])
        .left([first(1, 5), ack(1, 9)])
        .is(Verdict::AckedAgain);
}

#[test]
fn acked_again_from_among_the_dead() {
    let verdicts = tale().left([accepted(1, 0)]).left([first(1, 10), ack(1, 20)]).dead(1, true).verdicts();
    assert!(verdicts.contains(&Verdict::AckedAgain), "{verdicts:?}");
}

#[test]
fn double_held_until_death() {
    let offences = tale()
        .left([accepted(1, 0)])
        .left([first(1, 10), ack(1, 50)])
        .killed(60, [got(1, 20, 2, 1)])
        .verdicts();
    assert!(offences.contains(&Verdict::DoubleHeld), "{offences:?}");
}

#[test]
fn double_held_by_a_paused_process() {
    // Stopped, but alive until it is killed: its lease must not be given away.
    tale()
        .left([accepted(1, 0)])
        .killed(100, [first(1, 10)])
        .left([got(1, 50, 2, 1), ack(1, 60)])
        .is(Verdict::DoubleHeld);
}

#[test]
fn double_held_before_the_lease_ran_out() {
    tale()
        .timed()
        .left([accepted(1, 0)])
        .left([first(1, 10), too_late(1, Verb::Ack, 2 * LEASE)])
        .left([got(1, LEASE - 2 * LEASE_TOLERANCE, 2, 1), ack(1, 2 * LEASE)])
        .is(Verdict::DoubleHeld);
}

#[test]
fn double_held_in_spite_of_an_extension() {
    let extended = [first(1, 10), settle(1, Verb::Extend, LEASE / 2), too_late(1, Verb::Ack, 3 * LEASE)];
    tale()
        .timed()
        .left([accepted(1, 0)])
        .left(extended)
        .left([got(1, LEASE + LEASE / 4, 2, 1), ack(1, 2 * LEASE)])
        .is(Verdict::DoubleHeld);
}

#[test]
fn double_held_when_a_live_holder_is_told_that_it_lost_its_lease() {
    tale()
        .left([accepted(1, 0)])
        .left([first(1, 10), too_late(1, Verb::Ack, 20), got(1, 30, 2, 1), ack(1, 40)])
        .is(Verdict::DoubleHeld);
}

#[test]
fn order_broken_at_the_first_delivery() {
    for exclusive in [false, true] {
        tale()
            .ordered(exclusive)
            .left([accepted(1, 0), accepted(2, 10)])
            .left([first(2, 20), ack(2, 30), first(1, 40), ack(1, 50)])
            .is(Verdict::OrderBroken);
    }
}

#[test]
fn order_broken_within_a_batch() {
    tale()
        .ordered(true)
        .left([accepted(1, 0), accepted(2, 10)])
        .left([
            Call::Receive { began: 20, got: first_got(2, 21) },
            Call::Receive { began: 20, got: first_got(1, 22) },
            ack(1, 30),
            ack(2, 40),
        ])
        .is(Verdict::OrderBroken);
}

#[test]
fn order_broken_past_a_returned_message() {
    tale()
        .ordered(true)
        .left([accepted(1, 0), accepted(2, 10)])
        .left([
            first(1, 20),
            settle(1, Verb::Nack, 25),
            first(2, 30),
            ack(2, 40),
            got(1, 50, 2, 1),
            ack(1, 60),
        ])
        .is(Verdict::OrderBroken);
}

#[test]
fn order_broken_past_the_messages_of_a_dead_exclusive_consumer() {
    tale()
        .ordered(true)
        .left([accepted(1, 0), accepted(2, 10)])
        .killed(30, [first(1, 20)])
        .left([first(2, 40), ack(2, 45), got(1, 50, 2, 1), ack(1, 60)])
        .is(Verdict::OrderBroken);
}

#[test]
fn order_broken_by_a_producer() {
    let at = |id, began, position| Call::Publish {
        id,
        began,
        answer: Some((began + 1, Published::Accepted { position })),
    };
    let mut tale = tale().left([at(1, 0, 8), at(2, 10, 7)]);
    tale.0.groups[0].drained = false;
    tale.is(Verdict::OrderBroken);
}

#[test]
fn over_delivered() {
    let mut calls = Vec::new();
    for attempt in 1..=4 {
        let at = Nanos::from(attempt) * 10;
        calls.extend([got(1, at, attempt, attempt - 1), settle(1, Verb::Nack, at + 5)]);
    }
    tale().left([accepted(1, 0)]).left(calls).dead(1, false).is(Verdict::OverDelivered);
}

#[test]
fn over_delivered_past_deaths() {
    let mut tale = tale().left([accepted(1, 0)]);
    for attempt in 1..=3 {
        let at = Nanos::from(attempt) * 10;
        tale = tale.killed(at + 5, [got(1, at, attempt, attempt - 1)]);
    }
    tale.left([got(1, 100, 4, 3), ack(1, 110)]).is(Verdict::OverDelivered);
}

#[test]
fn miscounted_failures() {
    let nacked = [first(1, 10), settle(1, Verb::Nack, 15)];
    let tale = || tale().left([accepted(1, 0)]).left(nacked);
    tale().left([got(1, 20, 2, 0), ack(1, 30)]).is(Verdict::Miscounted);
    tale().left([got(1, 20, 2, 2), ack(1, 30)]).is(Verdict::Miscounted);
}

#[test]
fn miscounted_failures_after_a_wait_too_short_for_a_lease_to_run_out() {
    let waited = Call::Wait { began: 10, ended: LEASE / 2 };
    let tale = tale().timed().left([accepted(1, 0)]).left([waited]);
    tale.left([got(1, LEASE, 2, 1), ack(1, LEASE + 30)]).is(Verdict::Miscounted);
}

#[test]
fn miscounted_attempts() {
    tale()
        .left([accepted(1, 0)])
        .left([first(1, 10), settle(1, Verb::Release, 15), first(1, 20), ack(1, 30)])
        .is(Verdict::Miscounted);
}

#[test]
fn miscounted_dead_before_the_limit() {
    tale()
        .left([accepted(1, 0)])
        .left([first(1, 10), settle(1, Verb::Nack, 15)])
        .dead(1, false)
        .is(Verdict::Miscounted);
}

#[test]
fn miscounted_rejected_by_nobody() {
    tale().left([accepted(1, 0)]).dead(1, true).is(Verdict::Miscounted);
}

#[test]
fn wedged() {
    let mut tale = tale();
    tale.0.stalls.push("nothing was received for 1 s".into());
    tale.is(Verdict::Wedged);
}

#[test]
fn crashed() {
    tale().process(Vec::new(), End::Failed("ended with SIGBUS".into())).is(Verdict::Crashed);
}

#[test]
fn every_verdict_has_a_name_of_its_own() {
    let mut names = Verdict::ALL.map(Verdict::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Verdict::ALL.len());
}

#[test]
fn the_life_of_a_message_is_told_in_order() {
    let tale = tale().left([accepted(1, 0)]).killed(20, [first(1, 10)]).left([got(1, 30, 2, 1), ack(1, 40)]);
    let story = tale.0.story(1).join("\n");
    let parts = ["accepted at position 1001", "attempt 1", "killed", "attempt 2", "Ack -> Done"];
    let places: Vec<Option<usize>> = parts.iter().map(|part| story.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{story}");
    assert_eq!(tale.0.deliveries(), 2);
}

//! Good histories, some of which come close to bad ones.

use crate::history::{Burial, Call, Dead, Got, Nanos, Recovery, Verb};
use crate::tale::*;

#[test]
fn a_plain_course_is_good() {
    tale()
        .left([accepted(1, 0), accepted(2, 10)])
        .left([first(1, 20), ack(1, 30), first(2, 40), ack(2, 50)])
        .is_good();
}

#[test]
fn a_publish_without_an_answer_may_be_delivered_or_not() {
    tale().killed(5, [offered(1, 0)]).left([first(1, 20), ack(1, 30)]).is_good();
    tale().killed(5, [offered(1, 0)]).is_good();
}

#[test]
fn a_message_of_a_killed_holder_comes_back() {
    tale().left([accepted(1, 0)]).killed(20, [first(1, 10)]).left([got(1, 30, 2, 1), ack(1, 40)]).is_good();
}

#[test]
fn a_settle_without_an_answer_may_have_happened_or_not() {
    for verb in [Verb::Ack, Verb::Release] {
        let tale = || tale().left([accepted(1, 0)]).killed(25, [first(1, 10), unanswered(1, verb, 20)]);
        tale().left([got(1, 30, 2, 1), ack(1, 40)]).is_good();
    }
    tale().left([accepted(1, 0)]).killed(25, [first(1, 10), unanswered(1, Verb::Ack, 20)]).is_good();
}

#[test]
fn a_consumer_killed_inside_receive_may_have_been_handed_the_message() {
    tale().left([accepted(1, 0)]).killed(20, [asking(10)]).left([got(1, 30, 2, 1), ack(1, 40)]).is_good();
    tale().left([accepted(1, 0)]).killed(20, [asking(10)]).left([got(1, 30, 1, 0), ack(1, 40)]).is_good();
}

#[test]
fn an_expired_lease_goes_to_another_and_the_late_ack_is_refused() {
    let late = 2 * LEASE;
    tale()
        .timed()
        .left([accepted(1, 0)])
        .left([first(1, 10), too_late(1, Verb::Ack, late)])
        .left([got(1, LEASE + 20, 2, 1), ack(1, LEASE + 30)])
        .is_good();
}

#[test]
fn a_confirmed_ack_long_after_the_time_of_the_lease_is_good_if_nobody_else_had_it() {
    tale().timed().left([accepted(1, 0)]).left([first(1, 10), ack(1, 5 * LEASE)]).is_good();
}

#[test]
fn a_consumer_paused_between_the_lease_and_its_note_is_no_second_holder() {
    // It was handed the message right after asking, was stopped until its lease had run out, and
    // noted the receive while the next one had the message already.
    let held = Got { id: 1, position: 1001, attempt: 1, failures: 0, intact: true, tag: 1 };
    let paused = Call::Receive { began: 10, got: Some((2 * LEASE, held)) };
    tale()
        .timed()
        .left([accepted(1, 0)])
        .left([paused, too_late(1, Verb::Ack, 2 * LEASE + 10)])
        .left([got(1, LEASE + 20, 2, 1), ack(1, 3 * LEASE)])
        .is_good();
}

#[test]
fn an_extended_lease_stands_longer() {
    let extended = [first(1, 10), settle(1, Verb::Extend, LEASE / 2), ack(1, LEASE + LEASE / 4)];
    tale().timed().left([accepted(1, 0)]).left(extended).is_good();
}

#[test]
fn releases_do_not_count_against_the_limit() {
    let mut calls = Vec::new();
    for round in 0..6 {
        let at = 10 + Nanos::from(round) * 10;
        calls.extend([got(1, at, round + 1, 0), settle(1, Verb::Release, at + 5)]);
    }
    calls.extend([got(1, 100, 7, 0), ack(1, 110)]);
    tale().left([accepted(1, 0)]).left(calls).is_good();
}

#[test]
fn a_message_that_failed_to_the_limit_rests_among_the_dead() {
    let nacked = |attempt: u16| {
        let at = Nanos::from(attempt) * 10;
        [got(1, at, attempt, attempt - 1), settle(1, Verb::Nack, at + 5)]
    };
    let calls = (1..=3).flat_map(nacked);
    tale().left([accepted(1, 0)]).left(calls).dead(1, false).is_good();
}

#[test]
fn a_rejected_message_rests_among_the_dead_or_is_purged() {
    let tale = || tale().left([accepted(1, 0)]).left([first(1, 10), settle(1, Verb::Reject, 20)]);
    tale().dead(1, true).is_good();
    let dead = Dead { id: 1, position: 1001, intact: true, rejected: true };
    let purge = |answer| Call::Bury { dead, verb: Burial::Purge, began: 30, answer };
    tale().left([purge(Some((31, true)))]).is_good();
    tale().killed(33, [purge(None)]).is_good();
}

#[test]
fn a_retried_dead_letter_starts_anew() {
    let dead = Dead { id: 1, position: 1001, intact: true, rejected: true };
    let retry = Call::Bury { dead, verb: Burial::Retry, began: 30, answer: Some((31, true)) };
    tale()
        .left([accepted(1, 0)])
        .left([first(1, 10), settle(1, Verb::Reject, 20), got(1, 40, 2, 0), ack(1, 50)])
        .left([retry])
        .is_good();
}

#[test]
fn order_is_not_promised_by_a_relaxed_group() {
    tale()
        .left([accepted(1, 0), accepted(2, 10)])
        .left([first(2, 20), ack(2, 30), first(1, 40), ack(1, 50)])
        .is_good();
}

#[test]
fn an_ordered_group_may_hand_later_messages_out_while_an_earlier_one_is_held() {
    tale()
        .ordered(false)
        .left([accepted(1, 0), accepted(2, 10)])
        .left([first(1, 20), settle(1, Verb::Nack, 40), got(1, 50, 2, 1), ack(1, 60)])
        .left([first(2, 25), ack(2, 45)])
        .is_good();
}

#[test]
fn a_later_message_may_come_first_if_the_holder_of_the_earlier_one_died_unheard() {
    tale()
        .ordered(false)
        .left([accepted(1, 0), accepted(2, 10)])
        .killed(30, [asking(15)])
        .left([first(2, 20), ack(2, 25), got(1, 50, 2, 1), ack(1, 60)])
        .is_good();
}

#[test]
fn recoveries_are_measured_where_someone_was_there() {
    let tale = || tale().left([accepted(1, 0), accepted(2, 5)]).killed(20, [first(1, 10)]);
    let other = [first(2, 8), ack(2, 12), got(1, 29, 2, 1), ack(1, 40)];
    assert_eq!(tale().left(other).0.judge().recoveries, [Recovery { id: 1, since_kill: 10, since_death: 8 }]);
    let recoveries = tale().left([got(1, 29, 2, 1), ack(1, 40)]).0.judge().recoveries;
    assert!(recoveries.is_empty(), "nobody was there before");
}

#[test]
fn a_lease_may_run_out_inside_receive() {
    // Leased and never handed over: the consumer was stopped in between, and then waited for another.
    let waited = Call::Wait { began: 10, ended: 2 * LEASE };
    let tale = |stopped| tale().timed().left([accepted(1, 0)]).left([stopped]);
    tale(waited).left([got(1, LEASE + 20, 2, 1), ack(1, LEASE + 30)]).is_good();
}

#[test]
fn a_later_message_may_come_before_a_returned_one_that_somebody_had_and_died_unheard() {
    let tale = || tale().ordered(false).left([accepted(1, 0), accepted(2, 10)]);
    tale()
        .killed(45, [asking(28)])
        .left([
            first(1, 20),
            settle(1, Verb::Nack, 25),
            first(2, 40),
            ack(2, 42),
            got(1, 50, 3, 2),
            ack(1, 60),
        ])
        .is_good();
}

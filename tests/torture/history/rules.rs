//! The rules about single messages: lost, phantom, held twice, counted wrong.

use std::collections::HashSet;

use super::holds::{Hold, Holds, Offers};
use super::{
    Burial, Call, Dead, End, Group, History, LEASE_TOLERANCE, Ms, Nanos, Offence, Published, Verb, Verdict,
};

/// Phantoms: whatever was seen must have been offered, unharmed, and at one position.
pub(super) fn messages(history: &History, offers: &Offers, holds: &Holds, offences: &mut Vec<Offence>) {
    for deliveries in holds.by_message() {
        let id = deliveries[0].got.id;
        let mut accuse = |what: String| offences.push(Offence::about(Verdict::Phantom, id, what));
        let Some(offer) = offers.find(id) else {
            accuse(format!("received by {}, never offered", name(history, &deliveries[0])));
            continue;
        };
        for hold in deliveries {
            let by = name(history, hold);
            if !hold.got.intact {
                accuse(format!("received by {by} with a damaged payload at position {}", hold.got.position));
            }
            if hold.received < offer.began {
                accuse(format!("received by {by} before it was offered"));
            }
            if matches!(offer.answer, Some((_, Published::Refused))) {
                accuse(format!("received by {by}, but its producer was told that it was not accepted"));
            }
            let position = offer.position().unwrap_or(deliveries[0].got.position);
            if hold.got.position != position {
                accuse(format!("received by {by} at position {}, expected {position}", hold.got.position));
            }
        }
    }
    let mut places: Vec<(u64, u64)> = offers.iter().filter_map(|o| Some((o.position()?, o.id))).collect();
    places.sort_unstable();
    for pair in places.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let what = format!("accepted at position {}, and so was another message", pair[0].0);
        offences.extend(pair.iter().map(|&(_, id)| Offence::about(Verdict::Phantom, id, what.clone())));
    }
}

/// What a delivery's end says about the others of the same message.
pub(super) fn settled(history: &History, offers: &Offers, holds: &Holds, offences: &mut Vec<Offence>) {
    let revived = revived(history);
    let unheard = all_unheard(history);
    for deliveries in holds.by_message() {
        let number = deliveries[0].group;
        let group = &history.groups[number];
        acked_again(history, deliveries, offences);
        double_held(history, group, deliveries, offences);
        if !revived.contains(&(number, deliveries[0].got.id)) {
            over_delivered(history, group, deliveries, offences);
            let unheard =
                |hold: &Hold| overlapping(&unheard[number], offers.began(hold.got.id), hold.received);
            miscounted(history, group, deliveries, unheard, offences);
        }
    }
}

fn acked_again(history: &History, deliveries: &[Hold], offences: &mut Vec<Offence>) {
    let mut acked = deliveries.iter().filter_map(|hold| Some((hold.acked()?, hold)));
    let Some((at, first)) = acked.next() else { return };
    let mut accuse = |what: String| offences.push(Offence::about(Verdict::AckedAgain, first.got.id, what));
    let by = name(history, first);
    if let Some((_, other)) = acked.next() {
        accuse(format!("acked by {by} and by {}", name(history, other)));
    }
    for late in deliveries.iter().filter(|hold| hold.asked > at) {
        let start = history.start();
        let (asked, at) = (Ms(late.asked, start), Ms(at, start));
        accuse(format!("received by {} that asked at {asked}, acked by {by} by {at}", name(history, late)));
    }
}

fn double_held(history: &History, group: &Group, deliveries: &[Hold], offences: &mut Vec<Offence>) {
    let start = history.start();
    let mut accuse =
        |hold: &Hold, what: String| offences.push(Offence::about(Verdict::DoubleHeld, hold.got.id, what));
    for (i, hold) in deliveries.iter().enumerate() {
        let until = hold.surely_until(group.lease);
        if let Some(floor) = hold.lost_too_early(group.lease) {
            let stands =
                if floor == Nanos::MAX { "until death".into() } else { Ms(floor, start).to_string() };
            accuse(hold, format!("{} lost its lease, which stood until {stands}", name(history, hold)));
        }
        for (j, other) in deliveries.iter().enumerate() {
            let both = other.received.max(hold.received)..until.min(other.surely_until(group.lease));
            // The other one's lease began while this holder had it, even if it was soon lost again.
            let within = other.asked > hold.received && other.received < until;
            if i != j && (within || (i < j && both.start < both.end)) {
                accuse(
                    hold,
                    format!(
                        "held by {} from {} to {}, received by {} from {} to {}",
                        name(history, hold),
                        Ms(hold.received, start),
                        Ms(until, start),
                        name(history, other),
                        Ms(other.received, start),
                        Ms(other.surely_until(group.lease), start),
                    ),
                );
            }
        }
    }
}

/// How many of the other deliveries have surely failed before this one.
fn sure_failures(group: &Group, deliveries: &[Hold], hold: &Hold) -> usize {
    let failed = |other: &&Hold| other.precedes(hold, group.lease) && other.surely_failed(group.lease);
    deliveries.iter().filter(failed).count()
}

fn over_delivered(history: &History, group: &Group, deliveries: &[Hold], offences: &mut Vec<Offence>) {
    let limit = group.max_deliveries as usize;
    for hold in deliveries.iter().filter(|_| limit > 0) {
        let failures = sure_failures(group, deliveries, hold);
        if failures >= limit {
            let by = name(history, hold);
            let what = format!("received by {by} after {failures} failures, the limit is {limit}");
            offences.push(Offence::about(Verdict::OverDelivered, hold.got.id, what));
        }
    }
}

/// Attempts and failures as delivered against those that were seen, and those that nobody may have
/// heard of.
fn miscounted(
    history: &History,
    group: &Group,
    deliveries: &[Hold],
    unheard: impl Fn(&Hold) -> usize,
    offences: &mut Vec<Offence>,
) {
    for hold in deliveries {
        let mut accuse = |what: String| offences.push(Offence::about(Verdict::Miscounted, hold.got.id, what));
        let by = name(history, hold);
        let (found, least) = (hold.got.failures as usize, sure_failures(group, deliveries, hold));
        let others = deliveries.iter().filter(|other| other.asked < hold.received && other.may_have_failed());
        let seen = others.filter(|other| !std::ptr::eq(*other, hold)).count();
        let most = if found > seen { seen + unheard(hold) } else { seen };
        if found < least || found > most {
            accuse(format!("received by {by} with failures {found}, expected {least} to {most}"));
        }
        let before = deliveries.iter().filter(|other| other.precedes(hold, group.lease)).count();
        if (hold.got.attempt as usize) <= before {
            accuse(format!("received by {by} as attempt {}, after {before} others", hold.got.attempt));
        }
    }
}

/// The spans in which a consumer of the group may have been handed messages that nobody heard of:
/// killed inside a receive, or right after it, when it had no time to write down what came; or, with
/// timed leases, so long inside a receive that a lease may have run out in there.
pub(super) fn unheard(history: &History, group: usize) -> Vec<(Nanos, Nanos)> {
    let least = history.groups[group].lease.map(|lease| lease.saturating_sub(LEASE_TOLERANCE));
    let mut spans = Vec::new();
    for process in history.processes.iter().filter(|process| process.group == group) {
        if let (&End::Killed { gone, .. }, Some(&Call::Receive { began, .. })) =
            (&process.end, process.calls.last())
        {
            spans.push((began, gone));
        }
        spans.extend(process.calls.iter().filter_map(|call| match *call {
            Call::Receive { began, got: Some((ended, _)) } | Call::Wait { began, ended } => {
                least.is_some_and(|least| ended - began >= least).then_some((began, ended))
            }
            _ => None,
        }));
    }
    spans
}

/// The unheard spans of each group.
fn all_unheard(history: &History) -> Vec<Vec<(Nanos, Nanos)>> {
    (0..history.groups.len()).map(|group| unheard(history, group)).collect()
}

/// How many of the spans overlap this one.
pub(super) fn overlapping(spans: &[(Nanos, Nanos)], from: Nanos, to: Nanos) -> usize {
    spans.iter().filter(|&&(start, end)| start < to && from < end).count()
}

/// A dead letter as somebody saw it.
struct Sighting {
    group: usize,
    dead: Dead,
    purged: Option<Nanos>,
}

/// Lost messages, and dead letters that should not be.
pub(super) fn dead_letters(history: &History, offers: &Offers, holds: &Holds, offences: &mut Vec<Offence>) {
    let mut at_rest: HashSet<(usize, u64)> = HashSet::new();
    let revived = revived(history);
    let unheard = all_unheard(history);
    for sighting in sightings(history) {
        let (number, id) = (sighting.group, sighting.dead.id);
        let deliveries = holds.of_message(number, id);
        at_rest.insert((number, id));
        if offers.find(id).is_none() || !sighting.dead.intact {
            offences.push(Offence::about(Verdict::Phantom, id, "a dead letter, never offered so".into()));
        } else if !revived.contains(&(number, id)) {
            let sighting = (&sighting, &unheard[number][..]);
            dead_for_a_cause(history, offers, deliveries, sighting, offences);
        }
        if let Some(at) = sighting.purged {
            for late in deliveries.iter().filter(|hold| hold.asked > at) {
                let what = format!("received by {} after it was purged", name(history, late));
                offences.push(Offence::about(Verdict::AckedAgain, id, what));
            }
        }
    }
    for number in (0..history.groups.len()).filter(|&number| history.groups[number].drained) {
        lost(history, number, offers, holds, &at_rest, offences);
    }
}

/// Everything accepted, or seen by anybody, must have come to an end in each group.
fn lost(
    history: &History,
    number: usize,
    offers: &Offers,
    holds: &Holds,
    at_rest: &HashSet<(usize, u64)>,
    offences: &mut Vec<Offence>,
) {
    let group = &history.groups[number].name;
    let mut seen: Vec<u64> = holds.iter().map(|hold| hold.got.id).collect();
    seen.extend(offers.iter().filter(|offer| offer.position().is_some()).map(|offer| offer.id));
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        let deliveries = holds.of_message(number, id);
        let done = deliveries.iter().any(|hold| hold.may_have(Verb::Ack));
        if !done && !at_rest.contains(&(number, id)) {
            let what = format!("delivered {} times to {group:?}, never acked, not dead", deliveries.len());
            offences.push(Offence::about(Verdict::Lost, id, what));
        }
    }
}

/// A dead letter was rejected, or has failed as often as the group allows; and it was not acked.
fn dead_for_a_cause(
    history: &History,
    offers: &Offers,
    deliveries: &[Hold],
    (sighting, unheard): (&Sighting, &[(Nanos, Nanos)]),
    offences: &mut Vec<Offence>,
) {
    let id = sighting.dead.id;
    let group = &history.groups[sighting.group];
    if let Some(hold) = deliveries.iter().find(|hold| hold.acked().is_some()) {
        let what = format!("a dead letter, but acked by {}", name(history, hold));
        offences.push(Offence::about(Verdict::AckedAgain, id, what));
    }
    if sighting.dead.rejected {
        if !deliveries.iter().any(|hold| hold.may_have(Verb::Reject)) {
            let what = "a dead letter as rejected, which nobody did".to_owned();
            offences.push(Offence::about(Verdict::Miscounted, id, what));
        }
        return;
    }
    let offered = offers.began(id);
    let hidden = overlapping(unheard, offered, Nanos::MAX);
    let most = deliveries.iter().filter(|hold| hold.may_have_failed()).count() + hidden;
    if most < group.max_deliveries as usize {
        let what = format!("a dead letter after at most {most} failures of {}", group.max_deliveries);
        offences.push(Offence::about(Verdict::Miscounted, id, what));
    }
}

/// Every dead letter that was seen, at the end or by those who purge and retry them.
fn sightings(history: &History) -> Vec<Sighting> {
    let mut sightings = Vec::new();
    for (group, state) in history.groups.iter().enumerate() {
        sightings.extend(state.dead.iter().map(|&dead| Sighting { group, dead, purged: None }));
    }
    for process in &history.processes {
        for call in &process.calls {
            // A retried one comes back and must find its end like any other.
            if let Call::Bury { dead, verb: Burial::Purge, answer, .. } = *call {
                let purged = answer.and_then(|(at, done)| done.then_some(at));
                if answer.is_none() || purged.is_some() {
                    sightings.push(Sighting { group: process.group, dead, purged });
                }
            }
        }
    }
    sightings
}

/// The messages that were, or may have been, given another chance: their failures start anew.
fn revived(history: &History) -> HashSet<(usize, u64)> {
    let mut revived = HashSet::new();
    for process in &history.processes {
        for call in &process.calls {
            if let Call::Bury { dead, verb: Burial::Retry, .. } = call {
                revived.insert((process.group, dead.id));
            }
        }
    }
    revived
}

fn name<'h>(history: &'h History, hold: &Hold) -> &'h str {
    &history.processes[hold.process].name
}

//! The rules about order.

use std::collections::HashSet;

use super::holds::{Hold, HoldEnd, Holds, Offers, by_message};
use super::rules::{overlapping, unheard};
use super::{Call, History, Id, Ms, Nanos, Offence, Published, Verb, Verdict};

pub(super) fn check(history: &History, offers: &Offers, holds: &Holds, offences: &mut Vec<Offence>) {
    producers(history, offences);
    for number in (0..history.groups.len()).filter(|&number| history.groups[number].ordered) {
        let holds = holds.of_group(number);
        let mut by_time = holds.to_vec();
        by_time.sort_by_key(|hold| hold.received);
        first_deliveries(history, offers, &by_time, offences);
        returned_first(history, number, holds, &by_time, offences);
    }
}

/// What one producer publishes one after the other stands in that order.
fn producers(history: &History, offences: &mut Vec<Offence>) {
    for process in &history.processes {
        let accepted = process.calls.iter().filter_map(|call| match *call {
            Call::Publish { id, answer: Some((_, Published::Accepted { position })), .. } => {
                Some((id, position))
            }
            _ => None,
        });
        let mut last: Option<(u64, u64)> = None;
        for (id, position) in accepted {
            if let Some((before, at)) = last.filter(|&(_, at)| at >= position) {
                let what = format!(
                    "accepted at position {position} after {} of the same producer at position {at}",
                    Id(before)
                );
                offences.push(Offence::about(Verdict::OrderBroken, id, what));
            }
            last = Some((id, position));
        }
    }
}

/// A message that is delivered for the first time after one of a later position had been delivered.
///
/// The first delivery may have gone to a consumer that was killed before it wrote it down. In an
/// exclusive group that changes nothing, since whoever comes next gets the message back first;
/// elsewhere others may rightly have been handed later ones meanwhile.
fn first_deliveries(history: &History, offers: &Offers, by_time: &[Hold], offences: &mut Vec<Offence>) {
    let Some(number) = by_time.first().map(|hold| hold.group) else { return };
    let unheard = if history.groups[number].exclusive { Vec::new() } else { unheard(history, number) };
    let mut known = HashSet::new();
    let mut first: Vec<&Hold> = by_time.iter().filter(|hold| known.insert(hold.got.id)).collect();
    // One consumer at a time notes things in the order in which it was handed them; several are
    // compared by when they asked.
    let moment = |hold: &Hold| if history.groups[number].exclusive { hold.received } else { hold.asked };
    first.sort_by_key(|hold| moment(hold));
    let mut later = by_time.iter().peekable();
    let mut highest: Option<&Hold> = None;
    for hold in first {
        while let Some(earlier) = later.next_if(|earlier| earlier.received < moment(hold)) {
            highest = highest.filter(|high| high.got.position >= earlier.got.position).or(Some(earlier));
        }
        let offered = offers.began(hold.got.id);
        let Some(high) = highest.filter(|high| high.got.position > hold.got.position) else { continue };
        if overlapping(&unheard, offered, hold.received) == 0 {
            accuse(history, hold, high, "first delivered", offences);
        }
    }
}

/// A message of a later position that is delivered while an earlier one waits for its redelivery.
fn returned_first(
    history: &History,
    number: usize,
    holds: &[Hold],
    by_time: &[Hold],
    offences: &mut Vec<Offence>,
) {
    let exclusive = history.groups[number].exclusive;
    // In between it may have been handed to one who was killed, as above.
    let unheard = if exclusive { Vec::new() } else { unheard(history, number) };
    let mut by_asking = by_time.to_vec();
    by_asking.sort_by_key(|hold| hold.asked);
    for pair in by_message(holds).flat_map(|deliveries| deliveries.windows(2)) {
        let (hold, again) = (&pair[0], &pair[1]);
        let Some(returned) = returned_by(hold, again, exclusive) else { continue };
        let until = if exclusive { again.received } else { again.asked };
        if overlapping(&unheard, returned, until) > 0 {
            continue;
        }
        let from = by_asking.partition_point(|other| other.asked < returned);
        let between = by_asking[from..].iter().take_while(|other| other.asked < until);
        if let Some(other) = between
            .filter(|other| other.received < until && other.got.position > hold.got.position)
            .min_by_key(|other| other.received)
        {
            accuse(history, again, other, "returned, then delivered again", offences);
        }
    }
}

/// When the message was surely back in the queue, given that it was delivered again.
fn returned_by(hold: &Hold, again: &Hold, exclusive: bool) -> Option<Nanos> {
    match hold.end {
        HoldEnd::Settled { verb: Verb::Nack | Verb::Release, at, .. } => Some(at),
        // A death counts when it is noticed, which it has been once there is another exclusive consumer.
        HoldEnd::Died { gone, .. } if exclusive && hold.process != again.process => Some(gone),
        _ => None,
    }
}

fn accuse(history: &History, hold: &Hold, other: &Hold, how: &str, offences: &mut Vec<Offence>) {
    let start = history.start();
    let what = format!(
        "position {} {how} to {} (asked at {}), after {} at position {} to {} by {}",
        hold.got.position,
        history.processes[hold.process].name,
        Ms(hold.asked, start),
        Id(other.got.id),
        other.got.position,
        history.processes[other.process].name,
        Ms(other.received, start),
    );
    offences.push(Offence::about(Verdict::OrderBroken, hold.got.id, what));
}

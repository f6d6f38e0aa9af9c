//! How long a message of a killed holder takes to its next consumer.

use super::holds::{HoldEnd, Holds};
use super::{Call, End, History, Nanos, Recovery};

/// See [`Judgement`](super::Judgement).
pub(super) fn recoveries(history: &History, holds: &Holds) -> Vec<Recovery> {
    let mut times = Vec::new();
    for deliveries in holds.by_message() {
        for hold in deliveries {
            let HoldEnd::Died { sent, gone } = hold.end else { continue };
            let next = deliveries.iter().find(|next| next.received > sent && next.process != hold.process);
            // A holder whose lease had run out before it was killed had lost the message already.
            let ran_out = hold.surely_until(history.groups[hold.group].lease) < sent;
            if let (Some(next), false) = (next, ran_out)
                && someone_was_there(history, hold.group, sent, next.received)
            {
                times.push(Recovery {
                    id: hold.got.id,
                    since_kill: next.received - sent,
                    since_death: next.received.saturating_sub(gone),
                });
            }
        }
    }
    times
}

/// Whether some consumer of the group had been receiving before, lived through the whole span and
/// was not stopped in it.
fn someone_was_there(history: &History, group: usize, from: Nanos, to: Nanos) -> bool {
    history.processes.iter().any(|process| {
        let receiving = |call: &Call| matches!(call, Call::Receive { began, .. } if *began < from);
        let alive = match process.end {
            End::Killed { sent, .. } => sent > to,
            End::Left => process.calls.last().is_some_and(|call| call.began() > to),
            End::Failed(_) => false,
        };
        let stopped = process.pauses.iter().any(|&(start, end)| start < to && from < end);
        process.group == group && alive && !stopped && process.calls.iter().any(receiving)
    })
}

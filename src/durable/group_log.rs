//! What groups make of their messages, read off their ledgers: see [`queue_log`](super::queue_log).

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::entry::{GroupEntry, Standing, StateEntry, kind};
use crate::delivery::policy::REASON_REJECTED;
use crate::journal::{Files, Writer};
use crate::mapped::Mapped;
use crate::memory::{Memory, Place};
use crate::queue::core::QueueCore;
use crate::queue::groups::{name_of, settings_of};
use crate::ring::repair::is_decided;
use crate::ring::{Claim, Kind, Lease, Seq, before, lap_of, position_near};

/// Slots beyond the settled ones that are looked at for each batch, per group.
const WINDOW: u64 = 4096;

/// What the journal knows of a group.
#[derive(Debug)]
pub(super) struct GroupLog {
    pub(super) index: u8,
    /// Which group it is: another one may come to its place.
    pub(super) entry: GroupEntry,
    /// Everything before this is settled.
    pub(super) settled: u64,
    /// The same, as it was written last.
    pub(super) written: u64,
    /// How many slots beyond the next look begins.
    pub(super) at: u64,
    /// What was written of single messages beyond.
    pub(super) states: HashMap<u64, Standing>,
}

/// A group as it is now.
pub(super) fn entry_of(queue: &QueueCore, index: u8) -> GroupEntry {
    let words = queue.mapped.group(index);
    GroupEntry {
        index,
        name: name_of(words),
        options: settings_of(queue, index),
        start: words.start.load(Relaxed),
        birth: words.birth.load(Relaxed),
    }
}

impl GroupLog {
    /// Goes on over what is settled, and writes how far.
    pub(super) fn take_settled(&mut self, mapped: &Mapped, writer: &mut Writer<Files>, id: u64) -> bool {
        while let Some(Standing::Done) = standing_at(mapped, self.index, self.settled) {
            self.settled += 1;
        }
        if self.settled == self.written {
            return true;
        }
        if writer.reserve(kind::SETTLED, self.index.into(), id, self.settled, 0).is_none() {
            return false;
        }
        self.written = self.settled;
        let settled = self.settled;
        self.states.retain(|position, _| *position >= settled);
        true
    }

    /// Looks at what is beyond, slot by slot: what became of each message since it was written last. At some of the
    /// slots, and at others the next time; or at `all`.
    pub(super) fn take_single(
        &mut self,
        queue: &QueueCore,
        writer: &mut Writer<Files>,
        id: u64,
        (tail, all): (u64, bool),
    ) -> bool {
        let mapped = &queue.mapped;
        let count = tail.saturating_sub(self.settled).min(mapped.capacity());
        if self.at >= count || all {
            self.at = 0;
        }
        let to = if all { count } else { count.min(self.at + WINDOW) };
        while self.at < to {
            let slot = (self.settled + self.at) & (mapped.capacity() - 1);
            let lease = Lease::from_bits(mapped.load(Place::Lease(self.index, slot), Acquire));
            let position = position_near(tail, lease.lap(), slot, mapped.capacity());
            // What was never handed out, or is out for the first time, is as the journal has it.
            let is_out = lease.is_held() && lease.failures() == 0;
            let is_news = position >= self.settled && position < tail && !is_out;
            let standing = Standing::of(lease);
            if is_news && self.states.get(&position) != Some(&standing) {
                let text = match standing {
                    Standing::Dead { reason: REASON_REJECTED, .. } => queue.note_of(self.index, position),
                    _ => None,
                };
                let text = text.unwrap_or_default();
                let entry = StateEntry { group: self.index, standing };
                let Some(body) = writer.reserve(kind::STATE, entry.encode(), id, position, text.len()) else {
                    return false;
                };
                body.copy_from_slice(text.as_bytes());
                self.states.insert(position, standing);
            }
            self.at += 1;
        }
        true
    }
}

/// What a group makes of a position: `None` if it has not settled it, or nobody has decided it yet.
fn standing_at(mapped: &Mapped, group: u8, position: u64) -> Option<Standing> {
    let lap = lap_of(position, mapped.capacity());
    let lease = Lease::from_bits(mapped.load(Place::Lease(group, position), Acquire));
    if lease.is_done_with(lap) || before(lap, lease.lap()) {
        return Some(Standing::Done);
    }
    if lease.lap() == lap || !is_decided(mapped, position) {
        return None;
    }
    let claim = Claim::from_bits(mapped.load(Place::Claim(position), Acquire));
    let seq = Seq::from_bits(mapped.load(Place::Seq(position), Acquire));
    let real = claim.real_lap(Mapped::SKIPS_MAX).unwrap_or(seq.lap());
    // Skipped; or the slot went on; or void.
    let nothing = real != lap || (seq.lap() == lap && seq.kind() == Kind::Void) || before(lap, seq.lap());
    nothing.then_some(Standing::Done)
}

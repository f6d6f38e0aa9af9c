//! The sweep: what keeps a queue going without a daemon.
//!
//! Every consumer that receives or waits, and every producer that waits, comes by here once in a while. One
//! word holds the time of the last sweep; who moves it on does the next one. So there is one sweeper at a
//! time as long as all run, and nobody holds a duty that could die with him. Should one pause in the middle,
//! another begins the next sweep: each step is a CAS and may be done twice.
//!
//! A sweep looks for dead participants and recovers them, ends what a dead maker or remover of a group began,
//! and goes on through the lease words of each group, some at a time: leases whose time is over, returned
//! messages and late arrivals whose mark was lost.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::core::QueueCore;
use crate::RepairReport;
use crate::delivery::policy::policy_of;
use crate::layout::queue::group;
use crate::memory::Memory;
use crate::participant::store::StoreCore;
use crate::ring::repair::{return_lease, sweep, void_unfinished};
use crate::ring::settle::Return;
use crate::ring::{Lease, Owner};
use crate::sys::clock;

/// Milliseconds between two sweeps.
pub(crate) const SWEEP_MS: u64 = 2;

/// Lease words that one sweep looks at, per group: 32 KiB, some microseconds.
const SWEEP_SLOTS: u64 = 4096;

impl QueueCore {
    /// Sweeps if it is time. `mine`: the group that the caller receives from, and where it stands there.
    /// Whether it swept.
    pub(crate) fn tend(&self, store: &Arc<StoreCore>, now_ms: u64, mine: Option<(u8, u64)>) -> bool {
        let word = &self.mapped.words().swept_ms;
        let last = word.load(Relaxed);
        // A time in the future was scribbled, unless it is less than a tick of the coarse clock away: it must not stop
        // the sweeps.
        let earliest = last.saturating_sub(clock::tick_ms());
        if (earliest..last.saturating_add(SWEEP_MS)).contains(&now_ms) {
            return false;
        }
        if word.compare_exchange(last, now_ms, AcqRel, Relaxed).is_err() {
            return false;
        }
        // What it cannot do now (no descriptors, say) the next sweep tries again.
        let _ = store.recover_dead();
        self.tidy(store);
        // Deadlines are written by the coarse clock, which may be late by any time: so it is that which tells when they
        // are over, whatever the caller's tells.
        for group in self.groups_in_use() {
            let head = mine.filter(|(mine, _)| *mine == group).map_or(0, |(_, head)| head);
            self.sweep_some(group, clock::coarse_ms(), head);
        }
        true
    }

    /// The indices of the groups that have a ledger: in use, or being removed.
    pub(crate) fn groups_in_use(&self) -> impl Iterator<Item = u8> + '_ {
        (0..self.mapped.geometry().max_groups as u8).filter(|&group| {
            matches!(self.mapped.group(group).state.load(Acquire), group::ACTIVE | group::LEAVING)
        })
    }

    /// The same without the journal's.
    pub(crate) fn user_groups(&self) -> impl Iterator<Item = u8> + '_ {
        let journal = self.mapped.geometry().journal();
        self.groups_in_use().filter(move |&group| Some(group) != journal)
    }

    /// Sweeps the next slots of a group.
    fn sweep_some(&self, group: u8, now_ms: u64, head: u64) {
        let cursor = &self.mapped.group(group).sweep_at;
        let capacity = self.mapped.capacity();
        let from = u64::from(cursor.load(Relaxed)) & (capacity - 1);
        let to = (from + SWEEP_SLOTS).min(capacity);
        cursor.store((to & (capacity - 1)) as u32, Relaxed);
        self.sweep_slots(group, from..to, now_ms, head);
    }

    /// Sweeps these slots of a group; how many leases ran out.
    pub(crate) fn sweep_slots(
        &self,
        group: u8,
        slots: std::ops::Range<u64>,
        now_ms: u64,
        head: u64,
    ) -> (u64, u64) {
        let words = self.mapped.group(group);
        let policy = policy_of(words);
        let decide = |held: Lease| policy.failed(held, now_ms, policy.backoff_ms(held, chance(held, now_ms)));
        let swept = sweep(&self.mapped, group, slots, now_ms, head, decide);
        if swept.expired > 0 {
            words.expired.fetch_add(swept.expired, Relaxed);
        }
        if swept.expired + swept.marked > 0 {
            self.ring_group(group, u32::MAX);
        }
        (swept.expired, swept.dead)
    }

    /// Gives back all that a dead participant held in this queue. The caller has proved the death, and keeps
    /// its index from being taken.
    ///
    /// The records go last: as long as one is there, a recovery that died half way is done again.
    pub(crate) fn return_work_of(&self, dead: Owner, report: &mut RepairReport) {
        if !self.has_records_of(dead) {
            return;
        }
        // At once: it was its holder that failed, not the message, and nobody is waiting between attempts.
        let now_ms = clock::due_in(0);
        let slots = self.mapped.capacity();
        report.voided += (0..slots).filter(|&slot| void_unfinished(&self.mapped, slot, dead)).count() as u64;
        for group in self.groups_in_use() {
            let words = self.mapped.group(group);
            let policy = policy_of(words);
            let decide = |held: Lease| policy.failed(held, now_ms, 0);
            let mut returned = 0;
            for slot in 0..slots {
                match return_lease(&self.mapped, group, slot, dead, decide) {
                    Some(Return::Dead { .. }) => report.dead_lettered += 1,
                    Some(Return::Retry { .. }) => returned += 1,
                    None => {}
                }
            }
            if returned > 0 {
                words.recovered.fetch_add(returned, Relaxed);
                report.returned += returned;
            }
        }
        report.freed += self.free_records_of(dead);
        self.ring_everyone();
    }
}

/// A number for the jitter of a lease's backoff: different for each, and no state to keep. (SplitMix64's
/// finaliser, Steele et al. 2014.)
pub(crate) fn chance(held: Lease, now_ms: u64) -> u64 {
    let mut z = held.bits() ^ now_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

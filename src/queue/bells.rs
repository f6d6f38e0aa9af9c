//! Who sleeps, and how they are woken.
//!
//! A consumer that is about to sleep sets its group's bit in `sleepers`, looks once more, and sleeps on the
//! group's bell, a futex. A publisher reads `sleepers` after its message is visible; while nobody sleeps that
//! is all it does: no system call and no fence.
//!
//! *Why nobody oversleeps.* The publisher stores `seq`, then loads `sleepers`; the sleeper stores `sleepers`,
//! then loads `seq`. One of the two must see the other's store, which takes a full barrier on each side. The
//! sleeper's is `membarrier(GLOBAL_EXPEDITED)`, which is a barrier on all processors that run a registered
//! process, the publisher's among them. Where the system call is missing the publisher runs a fence, and a
//! sleeper without it sleeps a millisecond at a time.
//!
//! *Why the dead do not matter.* The bit says "maybe". Who rings clears it first and sets it again if the
//! kernel did wake somebody, since there may be more. A bit that a dead sleeper left costs one futile system
//! call. A waker that dies between clearing the bit and the wake-up delays a sleeper until the end of its
//! nap, which is bounded.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, fence};
use std::time::Duration;

use super::core::QueueCore;
use crate::participant::store::StoreCore;
use crate::sys::{futex, membarrier};

/// The longest sleep without a look around: bounds how late a death among the wakers is noticed.
pub(crate) const NAP: Duration = Duration::from_millis(20);

/// The same for a consumer that has nobody's work to look after.
pub(crate) const NAP_ALONE: Duration = Duration::from_millis(100);

/// The longest sleep where `membarrier` is missing.
const NAP_UNFENCED: Duration = Duration::from_millis(1);

impl QueueCore {
    /// Wakes a consumer of each of these groups that may have sleeping ones. After a message became visible to
    /// them.
    #[inline(always)]
    pub(crate) fn ring_consumers(&self, fenced: bool, groups: u64) {
        if !fenced {
            fence(SeqCst);
        }
        let sleepers = self.mapped.words().sleepers.load(Relaxed) & groups;
        if sleepers != 0 {
            self.ring_groups(sleepers, 1);
        }
    }

    /// Wakes up to `most` consumers of one group, if there may be sleeping ones.
    pub(crate) fn ring_group(&self, group: u8, most: u32) {
        fence(SeqCst);
        let bit = 1_u64 << (group & 63);
        if self.mapped.words().sleepers.load(Relaxed) & bit != 0 {
            self.ring_groups(bit, most);
        }
    }

    #[cold]
    fn ring_groups(&self, mut groups: u64, most: u32) {
        while groups != 0 {
            let group = groups.trailing_zeros() as u8;
            groups &= groups - 1;
            let bit = 1_u64 << group;
            self.mapped.words().sleepers.fetch_and(!bit, AcqRel);
            let bell = self.bell_of(group);
            bell.fetch_add(1, AcqRel);
            if futex::wake(bell, most) > 0 {
                self.mapped.words().sleepers.fetch_or(bit, AcqRel);
            }
        }
    }

    /// What the sleepers of a group sleep on. Those who write the journal sleep for all queues at once.
    fn bell_of(&self, group: u8) -> &AtomicU32 {
        match &self.journal_words {
            Some(table) if self.mapped.geometry().journal() == Some(group) => &table.journal().work_bell,
            _ => &self.mapped.group(group).bell,
        }
    }

    /// The bit of the journal's group; 0 in a volatile queue.
    pub(crate) fn journal_bit(&self) -> u64 {
        self.mapped.geometry().journal().map_or(0, |group| 1 << group)
    }

    /// Whom a producer wakes: all groups, or only the journal's, if they get only what it has.
    pub(crate) fn audience(&self, store: &StoreCore) -> u64 {
        match crate::durable::options_of(store) {
            Some(options) if !options.deliver_early => self.journal_bit(),
            _ => u64::MAX,
        }
    }

    /// Marks that a writer of the journal is about to sleep. Its barrier is its caller's.
    pub(crate) fn mark_writer_asleep(&self) {
        self.mapped.words().sleepers.fetch_or(self.journal_bit(), AcqRel);
    }

    /// Wakes who may go on now that the journal has written a batch. The caller's fence stands before.
    pub(crate) fn ring_for_journal(&self) {
        self.ring_consumers(true, !self.journal_bit());
        self.ring_producers(true);
    }

    /// Wakes a producer that waits for room. After a slot was settled.
    #[inline(always)]
    pub(crate) fn ring_producers(&self, fenced: bool) {
        if !fenced {
            fence(SeqCst);
        }
        if self.mapped.words().space_wanted.load(Relaxed) != 0 {
            self.ring_space(1);
        }
    }

    #[cold]
    fn ring_space(&self, most: u32) {
        let words = self.mapped.words();
        words.space_wanted.store(0, SeqCst);
        words.space_bell.fetch_add(1, AcqRel);
        if futex::wake(&words.space_bell, most) > 0 {
            words.space_wanted.store(1, SeqCst);
        }
    }

    /// Wakes everyone: something changed that anyone may wait for.
    pub(crate) fn ring_everyone(&self) {
        fence(SeqCst);
        let sleepers = self.mapped.words().sleepers.load(Relaxed);
        self.ring_groups(sleepers, u32::MAX);
        self.ring_space(u32::MAX);
    }

    /// Sleeps until the group's bell is rung, at most `nap`. `look` is asked once more before.
    pub(crate) fn sleep_for_messages<T>(
        &self,
        group: u8,
        nap: Duration,
        look: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let words = self.mapped.words();
        let bell = &self.mapped.group(group).bell;
        let heard = bell.load(Acquire);
        words.sleepers.fetch_or(1 << (group & 63), AcqRel);
        let longest = barrier();
        let found = look();
        if found.is_none() {
            futex::wait(bell, heard, Some(nap.min(longest)));
        }
        found
    }

    /// Sleeps until there may be room, at most `longest` and never longer than a nap.
    pub(crate) fn sleep_for_room<T>(&self, longest: Duration, look: impl FnOnce() -> Option<T>) -> Option<T> {
        let words = self.mapped.words();
        let heard = words.space_bell.load(Acquire);
        words.space_wanted.store(1, SeqCst);
        let nap = longest.min(NAP).min(barrier());
        let found = look();
        if found.is_none() {
            futex::wait(&words.space_bell, heard, Some(nap));
        }
        found
    }
}

/// The sleeper's half of the barrier; how long it may sleep.
pub(crate) fn barrier() -> Duration {
    fence(SeqCst);
    if membarrier::global() { Duration::MAX } else { NAP_UNFENCED }
}

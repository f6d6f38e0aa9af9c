//! A lease in the hands of a consumer: the settling, with the group's policy and the clock put in.

use crate::Consumer;
use crate::mapped::{Mapped, View};
use crate::memory::{Memory, Place};
use crate::queue::tend::chance;
use crate::ring::settle::{self, LeaseLost, Return};
use crate::ring::{Claim, Lease, lap_of};
use crate::sys::clock;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::fence;

/// A leased message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    pub(crate) position: u64,
    pub(crate) lease: Lease,
    /// Deliveries so far, with this one. As wide as a word, so that the three are copied as they were
    /// written: a load that is wider than the store before it waits for that store to reach the cache.
    pub(crate) attempts: u64,
}

impl Held {
    /// Notes the deadline and the number of attempts.
    #[inline(always)]
    pub(crate) fn begin(self, mapped: &Mapped, group: u8, deadline_ms: u64) -> Result<(), LeaseLost> {
        settle::begin(mapped, group, self.position, self.lease, self.attempts as u16, deadline_ms)
    }

    /// Whether the lease still stands, and with it what was copied before.
    ///
    /// Acquire fence: pairs with the Release fence in `Mapped::prepare`: bytes of a newer message in the copy
    /// mean that the end of the lease is seen here. (The Acquire of the load alone orders what comes after
    /// it, not the copy.)
    #[inline(always)]
    pub(crate) fn stands(self, mapped: &Mapped, group: u8) -> bool {
        fence(Acquire);
        settle::is_held(mapped, group, self.position, self.lease)
    }

    /// Whether no producer has taken the slot since: for positions that are older than the group.
    ///
    /// Acquire fence: pairs with the Release fence in `Mapped::prepare`: bytes of a newer message in the copy
    /// mean that its claim is seen here.
    pub(crate) fn is_whole(self, mapped: &Mapped) -> bool {
        fence(Acquire);
        let claim = Claim::from_bits(mapped.load(Place::Claim(self.position), Acquire));
        claim.real_lap(Mapped::SKIPS_MAX).is_none_or(|lap| lap == lap_of(self.position, mapped.capacity()))
    }

    /// Whether the lease has a deadline.
    pub(crate) fn is_timed(&self) -> bool {
        self.lease.state() == crate::ring::State::Timed
    }

    /// The deadline of a timed lease, milliseconds since boot.
    pub(crate) fn deadline(self, mapped: &Mapped, group: u8) -> Option<u64> {
        self.is_timed().then(|| settle::due_of(mapped, group, self.position, self.lease).0.unwrap_or(0))
    }

    pub(crate) fn extend(self, mapped: &Mapped, group: u8, deadline_ms: u64) -> Result<(), LeaseLost> {
        if !self.is_timed() {
            return Ok(());
        }
        settle::extend(mapped, group, self.position, self.lease, deadline_ms)
    }

    /// `view`: of the group that it is leased in.
    #[inline(always)]
    pub(crate) fn ack(self, view: &View<'_>) -> Result<(), LeaseLost> {
        settle::ack(view, 0, self.position, self.lease)
    }

    /// One more failure: again after this delay, or the group's backoff, or dead at the limit.
    pub(crate) fn fail(self, consumer: &Consumer, delay_ms: Option<u64>) -> Result<(), LeaseLost> {
        let now_ms = clock::boot_ms();
        let policy = &consumer.policy;
        let delay_ms = delay_ms.unwrap_or_else(|| policy.backoff_ms(self.lease, chance(self.lease, now_ms)));
        let now_ms = if delay_ms == 0 { clock::due_in(0) } else { now_ms };
        self.give_back(consumer, policy.failed(self.lease, now_ms, delay_ms))
    }

    /// Dead now.
    pub(crate) fn bury(self, consumer: &Consumer, reason: u16) -> Result<(), LeaseLost> {
        let failures = self.lease.failures();
        self.give_back(consumer, Return::Dead { now_ms: clock::boot_ms(), failures, reason })
    }

    /// Gives it back, and wakes who may want it.
    pub(crate) fn give_back(self, consumer: &Consumer, to: Return) -> Result<(), LeaseLost> {
        let queue = &consumer.attached.queue;
        settle::give_back(&queue.mapped, consumer.group, self.position, self.lease, to)?;
        if matches!(to, Return::Retry { .. }) {
            queue.ring_group(consumer.group, 1);
        }
        Ok(())
    }
}

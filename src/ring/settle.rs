//! Settling: what a lease turns into. Each is one CAS against the exact word that the lease returned, so
//! a lease that was lost settles nothing.

use std::sync::atomic::Ordering::{Acquire, Release};

use super::receive::mark;
use super::words::{Due, Lease, State};
use crate::memory::{Memory, Place};

/// The lease is not held any more: it expired, or its owner was taken for dead. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLost;

/// What a message that was not acked turns into. Its failures are those of its lease, or one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// Handed out again, not before this time (milliseconds since boot), with this many failures.
    Retry {
        /// Not before this time, in milliseconds since boot.
        due_ms: u64,
        /// Failed deliveries.
        failures: u16,
    },
    /// Dead, for a reason of the caller's numbering.
    Dead {
        /// When, in milliseconds since boot.
        now_ms: u64,
        /// Failed deliveries.
        failures: u16,
        /// Why: 1 to [`REASON_MAX`](super::REASON_MAX).
        reason: u16,
    },
}

/// LEASED -> DONE.
///
/// A lease until death is ended by its holder, or by whoever has proved the holder dead, who then does
/// nothing more: so the holder's end of it is a plain store. One with a deadline takes a CAS, since a sweep
/// may be faster. Release (store and CAS): pairs with the Acquire in the producers' `free_run` and `stand`.
///
/// # Errors
///
/// [`LeaseLost`].
#[inline(always)]
pub fn ack<M: Memory>(memory: &M, group: u8, position: u64, held: Lease) -> Result<(), LeaseLost> {
    let place = Place::Lease(group, position);
    if held.state() == State::Leased {
        memory.store(place, held.done().bits(), Release);
        return Ok(());
    }
    memory.compare_exchange(place, held.bits(), held.done().bits()).map_err(|_| LeaseLost)
}

/// LEASED -> RETRY or DEAD, by the holder.
///
/// First the due word, marked as *given back*, then the lease word, then the mark in the bitmap. Death after
/// the due word: the lease is still held, by a dead process, and recovery returns it. Death after the lease
/// word: a RETRY without a mark, which recovery or the sweep finds.
///
/// The due word decides. A holder that is held up after it finds that a sweep finished the rest: the deadline
/// is no longer there to be waited for, and nobody else would let the message go while the holder is paused.
///
/// # Errors
///
/// [`LeaseLost`], also if the sweep is expiring it at this moment.
pub fn give_back<M: Memory>(
    memory: &M,
    group: u8,
    position: u64,
    held: Lease,
    to: Return,
) -> Result<(), LeaseLost> {
    // A turn that fails means that a sweeper or repairer of an *earlier* lease of the slot woke up and moved
    // the due word; there are not many of those.
    for _ in 0..64 {
        let seen = Due::from_bits(memory.load(Place::Due(group, position), Acquire));
        // The due word speaks of this lease and is not given back: then the lease stands, since nobody ends
        // it otherwise than through that word. Does it speak of another one, only the lease word can tell.
        let lost = match seen.time_of(held) {
            Some(_) => held.state() == State::Timed && seen.is_back(held),
            None => !is_held(memory, group, position, held),
        };
        if lost {
            return Err(LeaseLost);
        }
        match end(memory, group, position, held, seen, to) {
            Ok(()) | Err(Beaten::AtLease) => return Ok(()),
            Err(Beaten::AtDue) => {}
        }
    }
    Err(LeaseLost)
}

/// Someone else was faster.
pub(super) enum Beaten {
    /// The due word is not the one seen; nothing was changed.
    AtDue,
    /// The due word is moved, but the lease is not held any more: it was acked before, or somebody has
    /// finished this.
    AtLease,
}

/// Ends a lease whose due word was seen as `seen`: the due word, then the [rest](finish).
///
/// By CAS from what was seen: a deadline that was moved meanwhile keeps the sweep from ending the lease; one
/// that is marked as given back can be moved no more; and a repairer that wakes up late cannot write over the
/// due word of a later lease.
pub(super) fn end<M: Memory>(
    memory: &M,
    group: u8,
    position: u64,
    held: Lease,
    seen: Due,
    to: Return,
) -> Result<(), Beaten> {
    let (time, failures, reason) = match to {
        Return::Retry { due_ms, failures } => (due_ms, failures, None),
        Return::Dead { now_ms, failures, reason } => (now_ms, failures, Some(reason)),
    };
    let due = Due::new(time, seen.attempts_of(held), held.turn());
    let due = due.given_back(failures > held.failures(), reason);
    memory
        .compare_exchange(Place::Due(group, position), seen.bits(), due.bits())
        .map_err(|_| Beaten::AtDue)?;
    if finish(memory, group, position, held, due) { Ok(()) } else { Err(Beaten::AtLease) }
}

/// Ends a lease as its due word says: the lease word, the mark. `false`: the lease is not held any more.
pub(super) fn finish<M: Memory>(memory: &M, group: u8, position: u64, held: Lease, due: Due) -> bool {
    let word = due.ending_of(held);
    if memory.compare_exchange(Place::Lease(group, position), held.bits(), word.bits()).is_err() {
        return false;
    }
    if word.state() == State::Retry {
        mark(memory, group, position, due.time_of(held).unwrap_or(0));
    }
    true
}

/// How long a timed lease lasts, in milliseconds, if its holder is paused before it has written the deadline:
/// the default of a lease.
pub const UNBEGUN_MS: u64 = 30_000;

/// Writes the deadline of a lease that was just taken, or the attempts of one without.
///
/// Death before this: recovery returns the lease. A pause before this: the due word speaks of no lease, or of
/// an earlier one, and a sweep gives this one a deadline itself ([`UNBEGUN_MS`]), so that no pause holds a
/// message for ever. Hence the CAS: who comes back after that, or after all is over, must not write over what
/// is there.
///
/// # Errors
///
/// [`LeaseLost`], after a long pause.
#[inline(always)]
pub fn begin<M: Memory>(
    memory: &M,
    group: u8,
    position: u64,
    held: Lease,
    attempts: u16,
    deadline_ms: u64,
) -> Result<(), LeaseLost> {
    let place = Place::Due(group, position);
    let due = Due::new(deadline_ms, attempts, held.turn());
    // A turn that fails means that a sweep, or a repairer of an earlier lease of the slot, moved the due
    // word.
    for _ in 0..64 {
        let seen = memory.load(place, Acquire);
        // In this order: as long as the lease stands, the due word is this lease's or older, and whoever ends
        // it changes the word.
        if !is_held(memory, group, position, held)
            || (held.state() == State::Timed && Due::from_bits(seen).is_back(held))
        {
            return Err(LeaseLost);
        }
        if memory.compare_exchange(place, seen, due.bits()).is_ok() {
            return Ok(());
        }
    }
    Err(LeaseLost)
}

/// Moves the deadline of a held lease.
///
/// # Errors
///
/// [`LeaseLost`], also if the sweep is expiring it at this moment.
pub fn extend<M: Memory>(
    memory: &M,
    group: u8,
    position: u64,
    held: Lease,
    deadline_ms: u64,
) -> Result<(), LeaseLost> {
    if !is_held(memory, group, position, held) {
        return Err(LeaseLost);
    }
    let place = Place::Due(group, position);
    let seen = Due::from_bits(memory.load(place, Acquire));
    if seen.time_of(held).is_none() || seen.is_back(held) {
        return Err(LeaseLost);
    }
    // The sweep marks the due word as given back before it ends the lease: won here, lost there.
    let due = Due::new(deadline_ms, seen.attempts_of(held), held.turn());
    memory.compare_exchange(place, seen.bits(), due.bits()).map_err(|_| LeaseLost)
}

/// Whether a lease still stands.
#[inline(always)]
pub fn is_held<M: Memory>(memory: &M, group: u8, position: u64, held: Lease) -> bool {
    memory.load(Place::Lease(group, position), Acquire) == held.bits()
}

/// What the due word says of a lease: its deadline, and how often the message was delivered.
pub fn due_of<M: Memory>(memory: &M, group: u8, position: u64, lease: Lease) -> (Option<u64>, u16) {
    let due = Due::from_bits(memory.load(Place::Due(group, position), Acquire));
    (due.time_of(lease), due.attempts_of(lease))
}

/// DEAD -> RETRY with no failures, or DEAD -> DONE. `false`: it was not dead, or someone else was faster.
pub fn revive<M: Memory>(
    memory: &M,
    group: u8,
    position: u64,
    dead: Lease,
    again: bool,
    now_ms: u64,
) -> bool {
    if dead.state() != State::Dead {
        return false;
    }
    let word = if again { dead.retry(0) } else { dead.done() };
    // The due word of a dead letter holds the time of its death: in the past, so due at once.
    let won = memory.compare_exchange(Place::Lease(group, position), dead.bits(), word.bits()).is_ok();
    if won && again {
        mark(memory, group, position, now_ms);
    }
    won
}

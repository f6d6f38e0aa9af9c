//! Settling: what a lease turns into. Each is one CAS against the exact word that the lease returned, so
//! a lease that was lost settles nothing.

use std::sync::atomic::Ordering::{Acquire, Release};

use super::receive::mark;
use super::words::{Due, Lease, State};
use crate::memory::{Memory, Place};

/// The lease is not held any more: it expired, or its owner was taken for dead. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLost;

/// What a message that was not acked turns into.
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
        /// Why.
        reason: u16,
    },
}

/// LEASED -> DONE.
///
/// `alone`: the caller is the group's exclusive consumer and the lease has no deadline, so nobody else may change the
/// word while the caller lives, and a plain store does. Release (store and CAS): pairs with the Acquire in the producers' `stand`.
///
/// # Errors
///
/// [`LeaseLost`].
pub fn ack<M: Memory>(
    memory: &M,
    group: u8,
    position: u64,
    held: Lease,
    alone: bool,
) -> Result<(), LeaseLost> {
    let place = Place::Lease(group, position);
    if alone && held.state() == State::Leased {
        memory.store(place, held.done().bits(), Release);
        return Ok(());
    }
    memory.compare_exchange(place, held.bits(), held.done().bits()).map_err(|_| LeaseLost)
}

/// LEASED -> RETRY or DEAD.
///
/// First the due word, then the lease word, then the mark in the bitmap. Death after the due word: the
/// lease is still held, by a dead process, and recovery returns it. (A deadline that was moved so only delays an expiry.)
/// Death after the lease word: a RETRY without a mark, which the sweep finds.
///
/// # Errors
///
/// [`LeaseLost`].
pub fn give_back<M: Memory>(
    memory: &M,
    group: u8,
    position: u64,
    held: Lease,
    to: Return,
) -> Result<(), LeaseLost> {
    let due_place = Place::Due(group, position);
    let seen = Due::from_bits(memory.load(due_place, Acquire));
    if held.state() == State::Timed && seen.time_of(held).is_none() && !is_held(memory, group, position, held)
    {
        return Err(LeaseLost);
    }
    let (word, time) = match to {
        Return::Retry { due_ms, failures } => (held.retry(failures), due_ms),
        Return::Dead { now_ms, failures, reason } => (held.dead(failures, reason), now_ms),
    };
    let due = Due::new(time, seen.attempts_of(held), held.turn());
    // By CAS, since a lease with a deadline may be expired by the sweep at this very moment, and the
    // word would then belong to whoever comes next.
    memory.compare_exchange(due_place, seen.bits(), due.bits()).map_err(|_| LeaseLost)?;
    memory
        .compare_exchange(Place::Lease(group, position), held.bits(), word.bits())
        .map_err(|_| LeaseLost)?;
    if let Return::Retry { due_ms, .. } = to {
        mark(memory, group, position, due_ms);
    }
    Ok(())
}

/// Writes the deadline of a lease that was just taken, or the attempts of one without.
///
/// Death or a pause before this: the due word speaks of an earlier lease, and the sweep leaves this one alone.
pub fn begin<M: Memory>(memory: &M, group: u8, position: u64, held: Lease, attempts: u16, deadline_ms: u64) {
    // Nobody else writes it for this turn: the sweep acts on a word of this turn only. Release: pairs with the Acquire in `expire`.
    memory.store(Place::Due(group, position), Due::new(deadline_ms, attempts, held.turn()).bits(), Release);
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
    let due = Due::new(deadline_ms, seen.attempts_of(held), held.turn());
    if seen.time_of(held).is_none() {
        return Err(LeaseLost);
    }
    memory.compare_exchange(place, seen.bits(), due.bits()).map_err(|_| LeaseLost)?;
    // The sweep moves the due word before the lease word: one that won the due word first made the CAS fail.
    if is_held(memory, group, position, held) { Ok(()) } else { Err(LeaseLost) }
}

/// Whether a lease still stands.
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

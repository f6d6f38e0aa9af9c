//! What is done for those who cannot: the dead, the late, and the lost hints.
//!
//! Every step is one CAS against the exact word seen. A second pass, or a second repairer at
//! the same time, changes nothing; a repairer that dies half way is followed by another.

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::receive::{encode, mark};
use super::settle::{Beaten, Return, end, finish};
use super::words::{Claim, Due, Kind, Lease, Owner, Seq, State, before, lap_of, position_near, told};
use crate::memory::{Memory, Place};

/// Whether a position was claimed, skipped or voided: its slot's claim word has its lap, or a later one.
pub fn is_decided<M: Memory>(memory: &M, position: u64) -> bool {
    let claim = Claim::from_bits(memory.load(Place::Claim(position), Acquire));
    !before(claim.lap(), lap_of(position, memory.capacity()))
}

/// The first position that nobody has decided.
///
/// Decided positions are a prefix, because a producer claims the first undecided one or none. So the tail is
/// where the laps of the claim words step down. The hint is mostly next to it; one that lags by laps still
/// tells the upper half of the position, and slot 0, the first to be decided in each lap, tells the lap.
pub fn find_tail<M: Memory>(memory: &M) -> u64 {
    let capacity = memory.capacity();
    let hint = told(memory.load(Place::Tail, Relaxed)).max(capacity);
    let behind = Claim::from_bits(memory.load(Place::Claim(hint - 1), Acquire));
    let mut tail = if behind.lap() == lap_of(hint - 1, capacity) {
        hint
    } else {
        let first = Claim::from_bits(memory.load(Place::Claim(0), Acquire));
        told(position_near(hint, first.lap(), 0, capacity)).max(capacity)
    };
    // Less than a lap of turns where nobody publishes meanwhile.
    for _ in 0..2 * capacity {
        if !is_decided(memory, tail) {
            break;
        }
        tail += 1;
    }
    tail
}

/// Makes a position VOID that `dead` claimed and did not finish; the caller has proved the death. `true`:
/// done by this call.
pub fn void_unfinished<M: Memory>(memory: &M, slot: u64, dead: Owner) -> bool {
    let claim = Claim::from_bits(memory.load(Place::Claim(slot), Acquire));
    if claim.owner() != dead {
        return false;
    }
    // At the top value of the count the slot is finished.
    let Some(lap) = claim.real_lap(M::SKIPS_MAX) else { return false };
    let seq = Seq::from_bits(memory.load(Place::Seq(slot), Acquire));
    // A claim that is older than `seq` is one that was read before the slot went on.
    if !before(seq.lap(), lap) {
        return false;
    }
    memory.compare_exchange(Place::Seq(slot), seq.bits(), Seq::void(lap).bits()).is_ok()
}

/// Gives back a lease that `dead` holds, as `decide` says for its word; the caller has proved the death.
/// Tells what it became.
///
/// And marks a returned message that has no mark: `dead`, or a repairer before this one, may have died before
/// it came to that, and in an ordered group nothing may overtake the message.
pub fn return_lease<M: Memory>(
    memory: &M,
    group: u8,
    slot: u64,
    dead: Owner,
    decide: impl Fn(Lease) -> Return,
) -> Option<Return> {
    // Another repairer may have moved the due word and paused: then this one goes on from what it finds. A
    // turn that fails means that somebody else made a step; more than these, that somebody makes steps
    // against the protocol.
    for _ in 0..64 {
        let lease = Lease::from_bits(memory.load(Place::Lease(group, slot), Acquire));
        let seen = Due::from_bits(memory.load(Place::Due(group, slot), Acquire));
        if lease.state() == State::Retry {
            remark(memory, group, slot, seen.time_of(lease).unwrap_or(0));
        }
        if !lease.is_held() || lease.owner() != dead {
            return None;
        }
        // Read in two steps: in between another repairer may have returned this lease, and the due word be a
        // later one's, which without it could neither be extended nor expire.
        if memory.load(Place::Lease(group, slot), Acquire) != lease.bits() {
            continue;
        }
        let to = decide(lease);
        match end(memory, group, slot, lease, seen, to) {
            Ok(()) => return Some(to),
            Err(Beaten::AtDue | Beaten::AtLease) => {}
        }
    }
    None
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leases that ran out, returned.
    pub expired: u64,
    /// Of those, the dead ones.
    pub dead: u64,
    /// Slots whose mark was missing, or that somebody had not come to mark yet.
    pub marked: u64,
}

/// Looks at the lease words of some slots: returns leases whose time is over at `now_ms`, finishes what a
/// holder, or another sweep, was giving back (it may be paused in the middle, and has left no deadline),
/// gives a deadline to one whose holder has not, and marks what is to be handed out and has no mark. `head`:
/// where the caller stands, if it is a consumer of this group.
pub fn sweep<M: Memory>(
    memory: &M,
    group: u8,
    slots: Range<u64>,
    now_ms: u64,
    head: u64,
    decide: impl Fn(Lease) -> Return,
) -> Swept {
    let mut swept = Swept::default();
    let head = head.max(memory.load(Place::Head(group), Relaxed));
    for slot in slots {
        let lease = Lease::from_bits(memory.load(Place::Lease(group, slot), Acquire));
        match lease.state() {
            State::Timed => {
                let due = Due::from_bits(memory.load(Place::Due(group, slot), Acquire));
                if due.time_of(lease).is_none() {
                    give_deadline(memory, group, slot, lease, due, now_ms);
                    continue;
                }
                if due.is_back(lease) {
                    swept.marked += u64::from(finish(memory, group, slot, lease, due));
                    continue;
                }
                match expire(memory, group, slot, lease, due, now_ms, &decide) {
                    Some(Return::Dead { .. }) => {
                        swept.expired += 1;
                        swept.dead += 1;
                    }
                    Some(Return::Retry { .. }) => swept.expired += 1,
                    None => {}
                }
            }
            State::Retry => {
                let due = Due::from_bits(memory.load(Place::Due(group, slot), Acquire));
                swept.marked += u64::from(remark(memory, group, slot, due.time_of(lease).unwrap_or(0)));
            }
            State::Done if is_late(memory, group, slot, lease, head) => {
                swept.marked += u64::from(remark(memory, group, slot, 0));
            }
            _ => {}
        }
    }
    swept
}

/// Gives a deadline to a timed lease whose holder has not come to write it: it is about to, or it is paused,
/// for who knows how long.
///
/// The lease is looked at again after the due word. If it stands, that word is left over from an earlier
/// lease, and the CAS fails once the holder, or whoever ends the lease, has changed it.
fn give_deadline<M: Memory>(memory: &M, group: u8, slot: u64, lease: Lease, seen: Due, now_ms: u64) {
    if Lease::from_bits(memory.load(Place::Lease(group, slot), Acquire)) == lease {
        let due = Due::new(now_ms + M::UNBEGUN_MS, seen.attempts_of(lease), lease.turn());
        let _ = memory.compare_exchange(Place::Due(group, slot), seen.bits(), due.bits());
    }
}

/// Returns a lease whose deadline is over. The due word that shows it first (see [`end`]): a holder that
/// extends at this moment wins it, or loses the lease.
fn expire<M: Memory>(
    memory: &M,
    group: u8,
    slot: u64,
    lease: Lease,
    due: Due,
    now_ms: u64,
    decide: &impl Fn(Lease) -> Return,
) -> Option<Return> {
    if due.time_of(lease)? > now_ms {
        return None;
    }
    let to = decide(lease);
    end(memory, group, slot, lease, due, to).ok().map(|()| to)
}

/// Marks a slot unless it is marked in full: a bit alone is one that nobody looks for, left by a marker that
/// died between the bit and the time, or by a look that put the time off meanwhile. `true`: something was
/// missing.
fn remark<M: Memory>(memory: &M, group: u8, slot: u64, due_ms: u64) -> bool {
    let bit = memory.load(Place::Returned(group, slot / 64), Relaxed) & 1 << (slot % 64) != 0;
    if bit && memory.load(Place::Attention(group), Relaxed) >= encode(due_ms) {
        return false;
    }
    mark(memory, group, slot, due_ms);
    true
}

/// Whether a READY message lies behind the group's head and was never handed out.
fn is_late<M: Memory>(memory: &M, group: u8, slot: u64, lease: Lease, head: u64) -> bool {
    let seq = Seq::from_bits(memory.load(Place::Seq(slot), Acquire));
    if seq.kind() != Kind::Ready || seq.lap() == lease.lap() {
        return false;
    }
    let position = position_near(head, seq.lap(), slot, memory.capacity());
    position < head && position >= memory.load(Place::Start(group), Relaxed)
}

//! The consumers' side: find a message, lease it.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::repair::is_decided;
use super::words::{Claim, Due, Holder, Kind, Lease, Owner, Seq, State, before, lap_of, position_near, told};
use crate::memory::{Memory, Place};

/// Words of a ledger on a cache line.
const LINE: u64 = 8;

/// What a consumer does about a position whose claimant has not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// Wait for it (ordered groups, and relaxed ones at first).
    Wait,
    /// Go on without it; it is found later through the group's bitmap.
    Pass,
}

/// A message under a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a leased message has to be settled"]
pub struct Leased {
    /// Its position.
    pub position: u64,
    /// The lease word that now stands in the ring; settling is a CAS against it.
    pub lease: Lease,
    /// Bytes of headers and payload, as the producer stated them.
    pub len: u32,
    /// Which delivery of the message this is, from 1.
    pub attempts: u16,
}

/// What a look for a message gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Found {
    /// A message, leased.
    Message(Leased),
    /// Nothing there yet.
    Empty,
    /// A claimed position, to be waited for; its claimant may be dead.
    Writing {
        /// The claimant.
        owner: Owner,
        /// The position.
        position: u64,
    },
    /// Nothing before this time (milliseconds since boot).
    NotBefore(u64),
}

/// What a glance at the next position gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Ready {
    /// A message, leased.
    Message(Leased),
    /// Nothing, as far as the slot tells.
    NotYet,
    /// It takes a closer look.
    Unclear,
}

/// A consumer's place in the ring. Private to one handle. (Cells, as in [`Publisher`](super::Publisher).)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    group: u8,
    exclusive: bool,
    timed: bool,
    /// Whose leases they are.
    holder: Holder,
    /// The group that must have settled a message before it is handed out here.
    gate: Option<u8>,
    /// Every position before it is taken, void, skipped, or marked in the bitmap.
    head: Cell<u64>,
    /// The head that was last told to others.
    told: Cell<u64>,
    /// The word of the bitmap in which a returned message was found last: the next one is not far.
    returned_in: Cell<u64>,
}

impl Hash for Subscriber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let parts = (self.group, self.holder, self.exclusive, self.timed, self.gate);
        (parts, self.head.get(), self.told.get(), self.returned_in.get()).hash(state);
    }
}

impl Subscriber {
    /// A consumer of `group`. `exclusive`: no other consumer leases in this group while this one lives;
    /// `timed`: its leases have deadlines.
    pub fn new<M: Memory>(memory: &M, group: u8, me: Owner, exclusive: bool, timed: bool) -> Subscriber {
        let start = told(memory.load(Place::Start(group), Acquire));
        let hint = told(memory.load(Place::Head(group), Relaxed));
        let head = if hint > start && is_decided(memory, hint - 1) { hint } else { start };
        let holder = Holder::new(timed, me);
        Subscriber {
            group,
            exclusive,
            timed,
            holder,
            gate: None,
            head: Cell::new(head),
            told: Cell::new(head),
            returned_in: Cell::new(0),
        }
    }

    /// Hands out only what this other group has settled.
    pub fn behind(mut self, gate: u8) -> Subscriber {
        self.gate = Some(gate);
        self
    }

    /// Whether the group before this one, if there is one, has not settled the message of `lap` at `position`.
    ///
    /// Acquire: pairs with the Release of the settle, so that what that group did with the message, such as
    /// writing it to a disk, came before it is handed out.
    #[inline(always)]
    fn is_gated<M: Memory>(&self, memory: &M, position: u64, lap: u32) -> bool {
        let Some(gate) = self.gate else { return false };
        let lease = Lease::from_bits(memory.load(Place::Lease(gate, position), Acquire));
        // A later lap: the slot went on.
        before(lease.lap(), lap) || (lease.lap() == lap && lease.state() != State::Done)
    }

    /// The next position it will look at.
    pub fn head(&self) -> u64 {
        self.head.get()
    }

    /// `next_fresh` where it is easy: a message is there, and nobody was faster. For one that is behind no other
    /// group.
    #[inline(always)]
    pub fn next_ready<M: Memory>(&self, memory: &M) -> Ready {
        self.ready::<M, false>(memory)
    }

    /// The same for one that is [behind](Self::behind) another group.
    #[inline(always)]
    pub fn next_ready_behind<M: Memory>(&self, memory: &M) -> Ready {
        self.ready::<M, true>(memory)
    }

    #[inline(always)]
    fn ready<M: Memory, const GATED: bool>(&self, memory: &M) -> Ready {
        let position = self.head.get();
        let lap = lap_of(position, memory.capacity());
        // Acquire: pairs with the Release in `Publisher::finish`.
        let seq = Seq::from_bits(memory.load(Place::Seq(position), Acquire));
        if !seq.is_ready(lap) {
            if !before(seq.lap(), lap) {
                return Ready::Unclear;
            }
            // A slot that the group holds itself is skipped by the producers: no message comes here in this lap.
            let lease = Lease::from_bits(memory.load(Place::Lease(self.group, position), Relaxed));
            if lease.state() != State::Done && self.is_behind(memory) {
                return Ready::Unclear;
            }
            // The rest of the message, if it is on its way, comes along with the first line.
            memory.prefetch(Place::Seq(position));
            return Ready::NotYet;
        }
        if GATED && self.is_gated(memory, position, lap) {
            return Ready::NotYet;
        }
        let Some(lease) = self.lease_fresh(memory, position, lap) else { return Ready::Unclear };
        self.head.set(position + 1);
        if (position + 1).is_multiple_of(LINE) {
            self.tell_head(memory);
            // A producer has looked at it a lap ago, and has it still.
            memory.prefetch_for_write(Place::Lease(self.group, position + 2 * LINE));
        }
        Ready::Message(Leased { position, lease, len: seq.len(), attempts: 1 })
    }

    /// Whether producers say that they are beyond the next position: then what is not there is skipped, void or being
    /// written, and it takes a thorough look. A hint, and one load of a line that changes once in eight messages.
    pub fn is_behind<M: Memory>(&self, memory: &M) -> bool {
        // Relaxed: whoever acts on it reads the ledgers.
        memory.load(Place::Tail, Relaxed) > self.head.get()
    }

    /// The next message that was never handed out, leased.
    ///
    /// `thorough`: an empty slot's claim word is read too, so that skipped and unfinished positions are told
    /// from empty ones. That reads a producers' line; a consumer that polls does it once in a while.
    ///
    /// Death after the lease: whoever proves it gives the message back, with one failure more.
    pub fn next_fresh<M: Memory>(&self, memory: &M, thorough: bool, unfinished: Unfinished) -> Found {
        // A turn that does not return passes a position. More turns than a lap of the ring and what
        // was published meanwhile mean that someone moves the words against the protocol.
        for _ in 0..2 * memory.capacity() {
            let position = self.head.get();
            let lap = lap_of(position, memory.capacity());
            // Acquire: pairs with the Release in `Publisher::finish`.
            let seq = Seq::from_bits(memory.load(Place::Seq(position), Acquire));
            if seq.is_ready(lap) {
                if self.is_gated(memory, position, lap) {
                    self.tell_head(memory);
                    return Found::Empty;
                }
                match self.lease_fresh(memory, position, lap) {
                    Some(lease) => {
                        self.head.set(position + 1);
                        self.hint_head(memory);
                        return Found::Message(Leased { position, lease, len: seq.len(), attempts: 1 });
                    }
                    None => self.step_over(memory, 1),
                }
            } else if !before(seq.lap(), lap) {
                // Void, or overtaken: this position was settled here, and the slot went on. What lies more
                // than a lap behind the producers was handed out or is marked: it could not be fresh, they
                // would have stopped at it.
                let laps = u64::from(seq.lap().wrapping_sub(lap)).saturating_sub(1);
                self.step_over(memory, 1 + laps * memory.capacity());
            } else if !thorough {
                return Found::Empty;
            } else {
                match self.look_at_claim(memory, position, lap, seq) {
                    Pending::Undecided => {
                        self.tell_head(memory);
                        return Found::Empty;
                    }
                    Pending::Changed => {}
                    Pending::Skipped => self.step_over(memory, 1),
                    Pending::Unfinished(owner) if unfinished == Unfinished::Wait => {
                        return Found::Writing { owner, position };
                    }
                    Pending::Unfinished(_) => self.pass(memory),
                }
            }
        }
        Found::Empty
    }

    /// Leases the READY message at `position` unless somebody has it or had it.
    #[inline(always)]
    fn lease_fresh<M: Memory>(&self, memory: &M, position: u64, lap: u32) -> Option<Lease> {
        let place = Place::Lease(self.group, position);
        // Acquire: pairs with the CAS that ended the last lease, for the sake of the due word below. The CAS
        // here decides; an exclusive consumer reads what it wrote itself, or what its dead predecessor left,
        // which the attach has ordered before.
        let seen = Lease::from_bits(memory.load(place, Acquire));
        if !before(seen.lap(), lap) || seen.state() != State::Done {
            return None;
        }
        let lease = seen.fresh(lap, self.holder);
        if self.exclusive && !self.timed {
            memory.store(place, lease.bits(), Relaxed);
            return Some(lease);
        }
        let lease = if self.timed { self.apart(memory, position, lease) } else { lease };
        memory.compare_exchange(place, seen.bits(), lease.bits()).ok().map(|()| lease)
    }

    /// A timed lease that its slot's due word does not speak of yet. Nobody writes that word while nobody
    /// holds a lease.
    #[inline(always)]
    fn apart<M: Memory>(&self, memory: &M, position: u64, lease: Lease) -> Lease {
        lease.apart_from(Due::from_bits(memory.load(Place::Due(self.group, position), Acquire)))
    }

    /// Why there is nothing at `position` yet. The seq is read again after the claim: a claim that is
    /// newer than the seq says nothing about it.
    fn look_at_claim<M: Memory>(&self, memory: &M, position: u64, lap: u32, seen: Seq) -> Pending {
        let claim = Claim::from_bits(memory.load(Place::Claim(position), Acquire));
        if Seq::from_bits(memory.load(Place::Seq(position), Acquire)) != seen {
            return Pending::Changed;
        }
        if before(claim.lap(), lap) {
            return Pending::Undecided;
        }
        match claim.real_lap(M::SKIPS_MAX) {
            Some(real) if real == lap => Pending::Unfinished(claim.owner()),
            _ => Pending::Skipped,
        }
    }

    /// Goes on past an unfinished position. The head is told first, because a bit at or after the head
    /// counts as stale. Death in between leaves a position without a bit; the sweep finds it.
    fn pass<M: Memory>(&self, memory: &M) {
        let position = self.head.get();
        self.head.set(self.head.get() + 1);
        self.tell_head(memory);
        mark(memory, self.group, position, 0);
    }

    /// Passes positions that hold nothing for this consumer; follows the hint if others are far ahead.
    fn step_over<M: Memory>(&self, memory: &M, positions: u64) {
        self.head.set(told(self.head.get() + positions));
        if !self.exclusive && self.head.get().is_multiple_of(8) {
            let hint = told(memory.load(Place::Head(self.group), Relaxed));
            if hint > self.head.get() && is_decided(memory, hint - 1) {
                self.head.set(hint);
                self.told.set(hint);
            }
        }
    }

    /// Tells the others where the group stands, once in eight positions.
    #[inline(always)]
    fn hint_head<M: Memory>(&self, memory: &M) {
        if self.head.get().is_multiple_of(LINE) {
            self.tell_head(memory);
        }
    }

    /// Tells where this consumer stood, when it goes.
    pub fn leave<M: Memory>(&self, memory: &M) {
        self.tell_head(memory);
    }

    /// Relaxed: a hint publishes nothing, whoever follows it reads the ledgers.
    fn tell_head<M: Memory>(&self, memory: &M) {
        if self.told.get() != self.head.get() {
            self.told.set(self.head.get());
            memory.store(Place::Head(self.group), self.head.get(), Relaxed);
        }
    }

    /// Whether some slot of the group may need a look before fresh ones, and when: one load, for the hot
    /// path.
    #[inline(always)]
    pub fn attention<M: Memory>(&self, memory: &M) -> Attention {
        Attention(memory.load(Place::Attention(self.group), Relaxed))
    }

    /// The first returned message or late arrival that is due at `now_ms`, leased. `NotBefore` if there are
    /// returned ones, but none due; `Empty` if there are none.
    ///
    /// The bitmap is a hint; the lease word decides. An ordered group looks at the lowest position only.
    pub fn next_returned<M: Memory>(&self, memory: &M, now_ms: u64, ordered: bool) -> Found {
        let attention = memory.load(Place::Attention(self.group), Acquire);
        if attention == 0 {
            return Found::Empty;
        }
        if !attention > now_ms && !ordered {
            return Found::NotBefore(!attention);
        }
        let mut next_due = match self.look_through(memory, now_ms, ordered) {
            Ok(found) => return found,
            Err(next_due) => next_due,
        };
        // Someone who marked a slot meanwhile and raised the word makes this fail. One whose time was no
        // earlier than the word's has raised nothing, but its bit is there by now: hence the second look.
        // Death in between: the sweep finds it.
        let place = Place::Attention(self.group);
        if memory.compare_exchange(place, attention, encode(next_due)).is_ok() {
            match self.look_through(memory, now_ms, ordered) {
                Ok(found) => {
                    memory.fetch_max(place, attention);
                    return found;
                }
                Err(due) if due < next_due => {
                    memory.fetch_max(place, encode(due));
                    next_due = due;
                }
                Err(_) => {}
            }
        }
        if next_due == u64::MAX { Found::Empty } else { Found::NotBefore(next_due) }
    }

    /// Goes through the marked slots. `Err`: nothing to hand out or to wait for in order; when the next one
    /// is due.
    fn look_through<M: Memory>(&self, memory: &M, now_ms: u64, ordered: bool) -> Result<Found, u64> {
        let mut first: Option<Returned> = None;
        let mut next_due = u64::MAX;
        let words = memory.capacity().div_ceil(64);
        let from = if ordered { 0 } else { self.returned_in.get() };
        for step in 0..words {
            let index = (from + step) & (words - 1);
            let mut bits = memory.load(Place::Returned(self.group, index), Acquire);
            while bits != 0 {
                let slot = index * 64 + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                let Some(found) = self.returned_at(memory, slot, now_ms) else {
                    self.unmark(memory, slot, now_ms);
                    continue;
                };
                next_due = next_due.min(found.due_ms);
                if ordered {
                    first = first.filter(|other| other.position < found.position).or(Some(found));
                } else if found.due_ms <= now_ms
                    && let Some(leased) = self.lease_returned(memory, found)
                {
                    self.returned_in.set(index);
                    return Ok(Found::Message(leased));
                }
            }
        }
        match first {
            None => Err(next_due),
            Some(found) if found.due_ms > now_ms => Ok(Found::NotBefore(found.due_ms)),
            Some(found) => {
                let leased = self.lease_returned(memory, found);
                Ok(leased.map_or(Found::NotBefore(now_ms), Found::Message))
            }
        }
    }

    /// What a marked slot holds for this group. `None`: nothing.
    fn returned_at<M: Memory>(&self, memory: &M, slot: u64, now_ms: u64) -> Option<Returned> {
        let capacity = memory.capacity();
        let lease = Lease::from_bits(memory.load(Place::Lease(self.group, slot), Acquire));
        match lease.state() {
            State::Retry => {
                let due = Due::from_bits(memory.load(Place::Due(self.group, slot), Acquire));
                let position = position_near(self.head.get(), lease.lap(), slot, capacity);
                Some(Returned { position, due_ms: due.time_of(lease).unwrap_or(0), lease })
            }
            State::Done => {
                let claim = Claim::from_bits(memory.load(Place::Claim(slot), Acquire));
                let seq = Seq::from_bits(memory.load(Place::Seq(slot), Acquire));
                let lap = claim.real_lap(M::SKIPS_MAX).unwrap_or(seq.lap());
                let position = position_near(self.head.get(), lap, slot, capacity);
                let head = self.head.get().max(memory.load(Place::Head(self.group), Relaxed));
                if position >= head || position < memory.load(Place::Start(self.group), Relaxed) {
                    None
                } else if seq.lap() != lap || self.is_gated(memory, position, lap) {
                    // Its producer is still writing, or the group before this one: look again in a millisecond.
                    Some(Returned { position, due_ms: now_ms + 1, lease })
                } else if seq.kind() == Kind::Ready && lease.lap() != lap {
                    Some(Returned { position, due_ms: 0, lease })
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    /// Leases what `returned_at` saw, if it is still so. What came to the slot since is none of its business:
    /// a later message there has its turn when the head comes to it, and one that was returned anew has
    /// another time.
    fn lease_returned<M: Memory>(&self, memory: &M, found: Returned) -> Option<Leased> {
        let Returned { position, lease: seen, .. } = found;
        let lap = lap_of(position, memory.capacity());
        let seq = Seq::from_bits(memory.load(Place::Seq(position), Acquire));
        if !seq.is_ready(lap) {
            return None;
        }
        let (lease, attempts) = match seen.state() {
            State::Retry if seen.lap() == lap => {
                let due = Due::from_bits(memory.load(Place::Due(self.group, position), Acquire));
                (seen.again(self.holder), due.attempts_of(seen).saturating_add(1))
            }
            State::Done if before(seen.lap(), lap) && !self.is_gated(memory, position, lap) => {
                (seen.fresh(lap, self.holder), 1)
            }
            _ => return None,
        };
        let lease = if self.timed { self.apart(memory, position, lease) } else { lease };
        memory.compare_exchange(Place::Lease(self.group, position), seen.bits(), lease.bits()).ok()?;
        // The bit stays: the next look finds that it is stale and clears it.
        Some(Leased { position, lease, len: seq.len(), attempts })
    }

    /// Clears a stale bit; and sets it again if the slot was returned in that moment.
    fn unmark<M: Memory>(&self, memory: &M, slot: u64, now_ms: u64) {
        memory.fetch_and(Place::Returned(self.group, slot / 64), !(1 << (slot % 64)));
        if let Some(found) = self.returned_at(memory, slot, now_ms) {
            mark(memory, self.group, slot, found.due_ms);
        }
    }
}

/// A group's attention word. It changes with every mark that is due earlier than all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention(u64);

impl Attention {
    /// Nothing needs a look.
    pub const NONE: Attention = Attention(0);

    /// Whether something needs a look at this time, in milliseconds since boot.
    pub const fn is_due(self, now_ms: u64) -> bool {
        self.0 != 0 && !self.0 <= now_ms
    }
}

/// A message that is to be handed out before fresh ones: returned, or late. The lease word is the one that
/// says so.
#[derive(Debug, Clone, Copy)]
struct Returned {
    position: u64,
    due_ms: u64,
    lease: Lease,
}

/// What a slot without news of a position means.
enum Pending {
    Undecided,
    Skipped,
    Unfinished(Owner),
    Changed,
}

/// A time as the attention word holds it: the earlier, the larger; 0 is never.
pub(super) const fn encode(due_ms: u64) -> u64 {
    !due_ms
}

/// Notes that a slot of a group needs a look at `due_ms`: first the bit, then the time.
///
/// Death in between, or before: a bit that nobody looks for, or none. The sweep over the lease words finds
/// what it stood for.
pub(super) fn mark<M: Memory>(memory: &M, group: u8, position: u64, due_ms: u64) {
    let slot = position & (memory.capacity() - 1);
    memory.fetch_or(Place::Returned(group, slot / 64), 1 << (slot % 64));
    memory.fetch_max(Place::Attention(group), encode(due_ms));
}

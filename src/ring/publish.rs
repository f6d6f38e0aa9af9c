//! The producers' side: claim a position, write, publish.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::words::{Claim, Kind, Lease, Owner, Seq, State, lap_of, position_near, told};
use crate::memory::{Memory, Place};

/// How far ahead a producer looks for free slots at a time. One look reads consumers' lines, so a longer run
/// means fewer misses; it must stay far below the least capacity (see "Birth of a group" in the module's
/// essay).
const RUN: u64 = 64;

/// How far ahead a waiting producer probes, at most; and at most an eighth of the ring.
const PROBE: u64 = 512;

/// No position to claim. Nothing was changed that anyone could notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What stands at a position that nobody has decided yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// The slot may be claimed.
    Free,
    /// Its message was not handed out yet, and will be.
    Undelivered,
    /// Its message, or its writer, keeps it for who knows how long: the ring goes on around it.
    Held,
}

/// A producer's place in the ring. Private to one handle; what is lost with it was only hints. (Cells, since
/// it is used through shared references, by one thread, and on a path where no borrow needs to be counted.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    me: Owner,
    exclusive: bool,
    /// The next position to try. Every position before it is decided.
    next: Cell<u64>,
    /// Positions before this were found free. Free stays free until it is claimed, and the claim word tells
    /// that.
    free_until: Cell<u64>,
}

impl Hash for Publisher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.me, self.exclusive, self.next.get(), self.free_until.get()).hash(state);
    }
}

impl Publisher {
    /// A producer that starts at the queue's tail. `exclusive`: no other producer claims positions while this
    /// one lives.
    pub fn new<M: Memory>(memory: &M, me: Owner, exclusive: bool) -> Publisher {
        let next = super::repair::find_tail(memory);
        Publisher { me, exclusive, next: Cell::new(next), free_until: Cell::new(next) }
    }

    /// The next position this producer will try.
    pub fn next(&self) -> u64 {
        self.next.get()
    }

    /// `claim` where it is easy: the next position is known to be free, and nobody was faster. `None` says
    /// nothing.
    #[inline(always)]
    pub fn claim_known<M: Memory>(&self, memory: &M) -> Option<u64> {
        let position = self.next.get();
        if position >= self.free_until.get() {
            return None;
        }
        memory.prefetch_for_write(Place::Seq(position));
        let lap = lap_of(position, memory.capacity());
        let taken = Claim::taken(lap, self.me);
        if self.exclusive {
            // Found undecided with the run, and nobody else decides.
            self.write_claim(memory, taken, taken);
        } else {
            let claim = Claim::from_bits(memory.load(Place::Claim(position), Acquire));
            if claim.lap() != lap.wrapping_sub(1) || !self.write_claim(memory, claim, taken) {
                return None;
            }
        }
        self.next.set(position + 1);
        Some(position)
    }

    /// Takes the next position. The caller fills the slot, then calls [`finish`](Self::finish) or
    /// [`abandon`](Self::abandon).
    ///
    /// Death after this: the position is *unfinished*; whoever proves the death makes it VOID, and ordered
    /// groups wait until then.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no slot to take.
    pub fn claim<M: Memory>(&self, memory: &M) -> Result<u64, Full> {
        // Each turn decides a position, or finds it decided, and a decided one is passed for good. More
        // turns than this mean that someone moves the words against the protocol.
        for _ in 0..2 * memory.capacity() + RUN {
            let position = self.next.get();
            let claim = Claim::from_bits(memory.load(Place::Claim(position), Acquire));
            if claim.lap() != lap_of(position, memory.capacity()).wrapping_sub(1) {
                self.step_over(memory, claim);
                continue;
            }
            if position >= self.free_until.get() {
                self.free_until.set(free_run(memory, position));
            }
            if position >= self.free_until.get() {
                match stand(memory, position, claim) {
                    Stand::Free => self.free_until.set(position + 1),
                    Stand::Undelivered => return Err(Full),
                    Stand::Held => {
                        self.skip(memory, claim)?;
                        continue;
                    }
                }
            }
            if self.write_claim(memory, claim, Claim::taken(claim.lap().wrapping_add(1), self.me)) {
                self.next.set(position + 1);
                return Ok(position);
            }
        }
        Err(Full)
    }

    /// For a producer that waits for room: whether it is worth while to call `claim` again.
    ///
    /// It looks far ahead, not at the very next word: who polls the word that a consumer is about to write
    /// keeps taking its line away, which makes a steadily full ring six times slower. The caller falls back
    /// to `claim` after a number of tries, so that a small or slow queue still moves.
    pub fn room_ahead<M: Memory>(&self, memory: &M) -> bool {
        let position = self.next.get() + PROBE.min(memory.capacity() / 8);
        let claim = Claim::from_bits(memory.load(Place::Claim(position), Acquire));
        let undecided = claim.lap() == lap_of(position, memory.capacity()).wrapping_sub(1);
        !undecided || stand(memory, position, claim) == Stand::Free
    }

    /// Publishes the message of `len` bytes that was written to the slot of a claimed position.
    ///
    /// Release: pairs with the Acquire of `seq` in [`Subscriber`](super::Subscriber) and in `stand`: who sees
    /// READY sees the payload. A plain store is enough: nobody else writes `seq` while the claimant lives.
    #[inline(always)]
    pub fn finish<M: Memory>(&self, memory: &M, position: u64, len: u32) {
        memory.store(
            Place::Seq(position),
            Seq::ready(lap_of(position, memory.capacity()), len).bits(),
            Release,
        );
        self.hint_tail(memory, position);
    }

    /// Gives up a claimed position: nothing will come there. Only for one that was not finished.
    pub fn abandon<M: Memory>(&self, memory: &M, position: u64) {
        memory.store(Place::Seq(position), Seq::void(lap_of(position, memory.capacity())).bits(), Release);
        self.hint_tail(memory, position);
    }

    /// Moves the tail hint, once in eight positions: those who read it walk the rest.
    /// Relaxed: a hint publishes nothing, whoever follows it reads the ledgers.
    #[inline(always)]
    fn hint_tail<M: Memory>(&self, memory: &M, position: u64) {
        if position % 8 == 7 {
            memory.store(Place::Tail, position + 1, Relaxed);
        }
    }

    /// Passes a decided position, and with it all that its claim word shows to be decided; follows the hint
    /// if others are far ahead.
    fn step_over<M: Memory>(&self, memory: &M, claim: Claim) {
        let decided = position_near(self.next.get(), claim.lap(), self.next.get(), memory.capacity());
        self.next.set(told(decided).max(self.next.get()) + 1);
        if self.next.get().is_multiple_of(8) {
            let hint = told(memory.load(Place::Tail, Relaxed));
            if hint > self.next.get() && super::repair::is_decided(memory, hint - 1) {
                self.next.set(hint);
            }
        }
    }

    /// CAS, or a plain store where nobody else writes claims: the exclusive producer is alone, and recovery
    /// writes `seq` only. Relaxed is enough for the store: a claim publishes nothing (readers that see an
    /// older one see an undecided position), and death is proved through the kernel, which orders all stores
    /// of the dead before it.
    #[inline(always)]
    fn write_claim<M: Memory>(&self, memory: &M, seen: Claim, new: Claim) -> bool {
        if self.exclusive {
            memory.store(Place::Claim(self.next.get()), new.bits(), Relaxed);
            true
        } else {
            memory.compare_exchange(Place::Claim(self.next.get()), seen.bits(), new.bits()).is_ok()
        }
    }

    /// Lets a held slot sit out this lap, if there is a free one further on.
    ///
    /// Death after the CAS: the position is decided, and nothing else belongs to it.
    fn skip<M: Memory>(&self, memory: &M, claim: Claim) -> Result<(), Full> {
        match self.find_free(memory) {
            Some(free) if self.may_skip(memory, claim) => {
                self.skip_towards(memory, claim, free);
                Ok(())
            }
            _ => Err(Full),
        }
    }

    /// Skips held slots one by one until a position is not held, or the free one is reached.
    fn skip_towards<M: Memory>(&self, memory: &M, mut claim: Claim, free: u64) {
        loop {
            if !self.write_claim(memory, claim, claim.skipped(M::SKIPS_MAX)) {
                return;
            }
            self.next.set(self.next.get() + 1);
            if self.next.get() >= free {
                return;
            }
            claim = Claim::from_bits(memory.load(Place::Claim(self.next.get()), Acquire));
            let undecided = claim.lap() == lap_of(self.next.get(), memory.capacity()).wrapping_sub(1);
            let held = undecided && matches!(stand(memory, self.next.get(), claim), Stand::Held);
            if !held || !self.may_skip(memory, claim) {
                return;
            }
        }
    }

    /// The next free position, at most a lap ahead. An undelivered message in between means that the
    /// ring is full in order: what lies beyond it is of no use yet.
    fn find_free<M: Memory>(&self, memory: &M) -> Option<u64> {
        for position in self.next.get() + 1..self.next.get() + memory.capacity() {
            let claim = Claim::from_bits(memory.load(Place::Claim(position), Acquire));
            if claim.lap() != lap_of(position, memory.capacity()).wrapping_sub(1) {
                continue;
            }
            match stand(memory, position, claim) {
                Stand::Free => return Some(position),
                Stand::Undelivered => return None,
                Stand::Held => {}
            }
        }
        None
    }

    /// The count of skips may reach its top value only over a finished slot, because there it stands for
    /// "the lap that `seq` has".
    fn may_skip<M: Memory>(&self, memory: &M, claim: Claim) -> bool {
        match claim.real_lap(M::SKIPS_MAX) {
            Some(lap) if claim.skips() + 1 >= M::SKIPS_MAX => {
                Seq::from_bits(memory.load(Place::Seq(self.next.get()), Acquire)).lap() == lap
            }
            _ => true,
        }
    }
}

/// Where the run of free positions ends that starts at `position`, as far as it can be told at a glance: each
/// was claimed in the last lap, and settled by all groups. That is the ordinary case; `stand` knows the
/// others.
///
/// The next run's lines are asked for meanwhile.
fn free_run<M: Memory>(memory: &M, position: u64) -> u64 {
    let capacity = memory.capacity();
    let last = lap_of(position, capacity).wrapping_sub(1);
    let end_of_lap = (position | (capacity - 1)) + 1;
    let end = (position + RUN.min(capacity / 2)).min(end_of_lap);
    let claim = |at| Claim::from_bits(memory.load(Place::Claim(at), Acquire));
    let mut end = run_of(position, end, |at| claim(at).is_taken_in(last));
    let mut settled = false;
    let mut groups = memory.load(Place::Active, Acquire);
    while groups != 0 {
        let group = groups.trailing_zeros() as u8;
        groups &= groups - 1;
        let start = memory.load(Place::Start(group), Relaxed);
        if start >= end - capacity {
            continue;
        }
        if start > position - capacity {
            // It begins in here.
            return position;
        }
        settled = true;
        for line in 0..RUN / 8 {
            memory.prefetch(Place::Lease(group, position + RUN + line * 8));
        }
        let lease = |at| Lease::from_bits(memory.load(Place::Lease(group, at), Acquire));
        end = run_of(position, end, |at| lease(at).is_done_with(last));
    }
    if !settled {
        let seq = |at| Seq::from_bits(memory.load(Place::Seq(at), Acquire));
        end = run_of(position, end, |at| seq(at).lap() == last);
    }
    end
}

/// Where the run of positions ends for which this is so.
#[inline(always)]
fn run_of(from: u64, to: u64, is_so: impl Fn(u64) -> bool) -> u64 {
    (from..to).find(|&at| !is_so(at)).unwrap_or(to)
}

/// What stands at an undecided position whose slot's claim word is `claim`.
///
/// The Acquire of a lease word pairs with the Release of the settle that made it DONE: the reads of the last
/// holder come before the writes of the next claimant. Where no group has to settle, the Acquire of `seq`
/// does the same for the last writer.
fn stand<M: Memory>(memory: &M, position: u64, claim: Claim) -> Stand {
    let capacity = memory.capacity();
    let mut seq = None;
    let lap = match claim.real_lap(M::SKIPS_MAX) {
        Some(lap) => lap,
        None => seq.insert(Seq::from_bits(memory.load(Place::Seq(position), Acquire))).lap(),
    };
    let message = position_near(position, lap, position, capacity);
    let mut settled = false;
    let mut held = false;
    let mut undelivered = false;
    let mut passed = true;
    let mut groups = memory.load(Place::Active, Acquire);
    while groups != 0 {
        let group = groups.trailing_zeros() as u8;
        groups &= groups - 1;
        if memory.load(Place::Start(group), Relaxed) > message {
            continue;
        }
        let lease = Lease::from_bits(memory.load(Place::Lease(group, position), Acquire));
        match lease.state() {
            State::Done if lease.lap() == lap => settled = true,
            State::Done => {
                undelivered = true;
                passed &= memory.load(Place::Head(group), Relaxed) > message;
            }
            _ => held = true,
        }
    }
    if !undelivered && (held || settled) {
        return if held { Stand::Held } else { Stand::Free };
    }
    let seq = seq.unwrap_or_else(|| Seq::from_bits(memory.load(Place::Seq(position), Acquire)));
    if seq.lap() != lap {
        return Stand::Held;
    }
    match seq.kind() {
        Kind::Ready if undelivered && passed => Stand::Held,
        // Whoever else holds it: were the ring to go on around what a group still has to hand out, that group would
        // find fresh messages more than a lap behind (`Subscriber::next_fresh` goes over those).
        Kind::Ready if undelivered => Stand::Undelivered,
        _ if held => Stand::Held,
        _ => Stand::Free,
    }
}

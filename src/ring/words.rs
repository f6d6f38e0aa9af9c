//! The four shared words of a slot, each a pure newtype with named transitions.
//!
//! ```text
//! claim   | lap 32 | skips 20 | owner 12 |                        producers
//! seq     | lap 32 | kind 2 | len 30 |                            the claimant
//! lease   | lap 32 | state 3 | failures 9 | owner 12 | turn 8 |   the group
//! due     | time 39 | end 5 | attempts 12 | tag 8 |               the group
//! ```

use std::fmt;

/// A participant's index in the store's table; 0 is nobody. At most [`Owner::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(u16);

impl Owner {
    /// Nobody.
    pub const NOBODY: Owner = Owner(0);
    /// The largest index that fits the words.
    pub const MAX: u16 = 0xfff;

    /// The owner of this index, cut to the 12 bits that the words have for it.
    pub const fn new(index: u16) -> Owner {
        Owner(index & Self::MAX)
    }

    /// The index.
    pub const fn index(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The lap of a position: how often the ring has been gone round, from 1, wrapping.
///
/// By a shift, since the capacity is a power of two and a division takes longer than all the rest of a
/// publish.
#[inline(always)]
pub const fn lap_of(position: u64, capacity: u64) -> u32 {
    (position >> capacity.trailing_zeros()) as u32
}

/// Whether lap `a` lies before lap `b`, on a circle: right while they are less than 2^31 laps apart.
pub const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// No position lies beyond this one: a million million messages a second would take more than a week to come
/// here, and a hint that says so was scribbled. Far enough from 2^64 that no sum of a position and some laps
/// overflows.
pub const POSITION_MAX: u64 = 1 << 60;

/// A position that somebody else told.
pub const fn told(position: u64) -> u64 {
    if position > POSITION_MAX { POSITION_MAX } else { position }
}

/// The position of `slot` in the lap `lap` that is nearest to the position `near`.
pub const fn position_near(near: u64, lap: u32, slot: u64, capacity: u64) -> u64 {
    let bits = capacity.trailing_zeros();
    let near_lap = near >> bits;
    let ahead = lap.wrapping_sub(near_lap as u32) as i32 as i64;
    (near_lap.wrapping_add_signed(ahead) << bits).wrapping_add(slot & (capacity - 1))
}

/// Skipped laps that a claim word can count. At this value it counts no further, and means
/// "the lap that `seq` has".
pub const SKIPS_MAX: u32 = (1 << 20) - 1;

/// The producers' word: the last decided lap of a slot, and how many laps before it were skipped
/// since a message was last claimed here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim(u64);

impl Claim {
    /// A producer takes the slot for `lap`.
    pub const fn taken(lap: u32, owner: Owner) -> Claim {
        Claim((lap as u64) << 32 | owner.0 as u64)
    }

    /// The word with this content.
    pub const fn from_bits(bits: u64) -> Claim {
        Claim(bits)
    }

    /// The word's content.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The last decided lap.
    pub const fn lap(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The laps skipped since the last real claim.
    pub const fn skips(self) -> u32 {
        (self.0 >> 12) as u32 & SKIPS_MAX
    }

    /// Who made the last real claim.
    pub const fn owner(self) -> Owner {
        Owner::new(self.0 as u16)
    }

    /// What was last decided is this lap, after so many skipped ones; nobody's.
    pub const fn restored(lap: u32, skips: u32) -> Claim {
        let skips = if skips > SKIPS_MAX { SKIPS_MAX } else { skips };
        Claim((lap as u64) << 32 | (skips as u64) << 12)
    }

    /// The slot sits out one more lap; the count stays at `most`.
    pub const fn skipped(self, most: u32) -> Claim {
        let skips = if self.skips() >= most { most } else { self.skips() + 1 };
        Claim((self.lap().wrapping_add(1) as u64) << 32 | (skips as u64) << 12 | self.owner().0 as u64)
    }

    /// Whether the last decided lap is this one, and it was really claimed.
    pub const fn is_taken_in(self, lap: u32) -> bool {
        self.0 & !0xfff == (lap as u64) << 32
    }

    /// The lap of the last real claim, unless the count is at `most`.
    pub const fn real_lap(self, most: u32) -> Option<u32> {
        if self.skips() >= most { None } else { Some(self.lap().wrapping_sub(self.skips())) }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claim(lap {}, skips {}, {:?})", self.lap(), self.skips(), self.owner())
    }
}

/// What a slot's `seq` says of its lap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing was ever published here.
    Never,
    /// A message is there.
    Ready,
    /// The claimant died, or gave up, before it published.
    Void,
    /// No writer of this protocol stores this.
    Unknown,
}

/// The slot's first word. The one word that crosses from producer to consumer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seq(u64);

/// The longest message, headers included, that a `seq` word can tell of.
pub const LEN_MAX: u32 = (1 << 30) - 1;

impl Seq {
    /// A message of `len` bytes is there. `len` is cut to 30 bits; the caller has checked it.
    pub const fn ready(lap: u32, len: u32) -> Seq {
        Seq((lap as u64) << 32 | 1 << 30 | (len & LEN_MAX) as u64)
    }

    /// Nothing will come in this lap.
    pub const fn void(lap: u32) -> Seq {
        Seq((lap as u64) << 32 | 2 << 30)
    }

    /// The word with this content.
    pub const fn from_bits(bits: u64) -> Seq {
        Seq(bits)
    }

    /// The word's content.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The lap it speaks of.
    pub const fn lap(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// What it says.
    pub const fn kind(self) -> Kind {
        match (self.0 >> 30) & 3 {
            0 => Kind::Never,
            1 => Kind::Ready,
            2 => Kind::Void,
            _ => Kind::Unknown,
        }
    }

    /// Bytes of headers and payload.
    #[expect(clippy::len_without_is_empty, reason = "a word is no container")]
    pub const fn len(self) -> u32 {
        self.0 as u32 & LEN_MAX
    }

    /// Whether it is READY for this lap: one comparison, for the hot path.
    pub const fn is_ready(self, lap: u32) -> bool {
        self.0 >> 30 == (lap as u64) << 2 | 1
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq(lap {}, {:?}, {} bytes)", self.lap(), self.kind(), self.len())
    }
}

/// The state of a slot in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Settled for the word's lap; messages of later laps were not handed out yet.
    Done,
    /// In the hands of its owner until that settles it or dies.
    Leased,
    /// In the hands of its owner until that settles it, dies, or the deadline passes.
    Timed,
    /// Waits for its next attempt.
    Retry,
    /// A dead letter. The owner's bits hold the reason.
    Dead,
    /// Its owner is committing it together with outputs.
    Committing,
    /// No writer of this protocol stores this.
    Unknown,
}

/// The longest count of failures that a lease word can hold.
pub const FAILURES_MAX: u16 = (1 << 9) - 1;

/// A group's word of a slot.
///
/// `turn` goes up by one or two with each lease of the slot and never goes back, so the word that a lease
/// returned does not come again for 128 leases of the slot to the same owner: a settle against it cannot hit
/// a later one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Lease(u64);

/// What the leases of a consumer have in common: its index, and whether they have a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder(u64);

impl Holder {
    /// Leases of this owner.
    pub const fn new(timed: bool, owner: Owner) -> Holder {
        Holder(Lease::new(0, if timed { 2 } else { 1 }, 0, owner.0, 0).0)
    }
}

impl Lease {
    const fn new(lap: u32, state: u64, failures: u16, owner: u16, turn: u8) -> Lease {
        let failures = if failures > FAILURES_MAX { FAILURES_MAX } else { failures };
        Lease(
            (lap as u64) << 32
                | state << 29
                | (failures as u64) << 20
                | (owner as u64 & 0xfff) << 8
                | turn as u64,
        )
    }

    /// The word of a group that is born before `lap`: nothing of it was handed out.
    pub const fn unborn(lap: u32) -> Lease {
        Lease::new(lap.wrapping_sub(1), 0, 0, 0, 0)
    }

    /// The word of a group that has settled the message of `lap`.
    pub const fn settled(lap: u32) -> Lease {
        Lease::new(lap, 0, 0, 0, 0)
    }

    /// The word with this content.
    pub const fn from_bits(bits: u64) -> Lease {
        Lease(bits)
    }

    /// The word's content.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The lap of the message it speaks of.
    pub const fn lap(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The state.
    pub const fn state(self) -> State {
        match (self.0 >> 29) & 7 {
            0 => State::Done,
            1 => State::Leased,
            2 => State::Timed,
            3 => State::Retry,
            4 => State::Dead,
            5 => State::Committing,
            _ => State::Unknown,
        }
    }

    /// Failed deliveries.
    pub const fn failures(self) -> u16 {
        (self.0 >> 20) as u16 & FAILURES_MAX
    }

    /// Who holds it, where someone does.
    pub const fn owner(self) -> Owner {
        Owner::new((self.0 >> 8) as u16)
    }

    /// Why it is dead, where it is.
    pub const fn reason(self) -> u16 {
        self.owner().0
    }

    /// The number of its last lease, wrapping.
    pub const fn turn(self) -> u8 {
        self.0 as u8
    }

    /// Whether the message of this lap is settled.
    pub const fn is_done_with(self, lap: u32) -> bool {
        self.0 & !0xff == (lap as u64) << 32
    }

    /// Whether somebody holds it.
    pub const fn is_held(self) -> bool {
        matches!(self.state(), State::Leased | State::Timed | State::Committing)
    }

    /// A first lease for the message of `lap`.
    pub const fn fresh(self, lap: u32, holder: Holder) -> Lease {
        Lease((lap as u64) << 32 | holder.0 | self.turn().wrapping_add(1) as u64)
    }

    /// Another lease for the same message.
    pub const fn again(self, holder: Holder) -> Lease {
        Lease(self.fresh(self.lap(), holder).0 | (self.failures() as u64) << 20)
    }

    /// The same lease with a turn that the due word does not speak of, should that be left over from the last
    /// time the turns came round.
    pub const fn apart_from(self, due: Due) -> Lease {
        let turn = self.turn();
        if due.0 as u8 != turn { self } else { Lease(self.0 & !0xff | turn.wrapping_add(1) as u64) }
    }

    /// Settled.
    pub const fn done(self) -> Lease {
        Lease::new(self.lap(), 0, 0, 0, self.turn())
    }

    /// Goes back, with this many failures.
    pub const fn retry(self, failures: u16) -> Lease {
        Lease::new(self.lap(), 3, failures, 0, self.turn())
    }

    /// Dead, with this many failures, for a reason of the caller's numbering.
    pub const fn dead(self, failures: u16, reason: u16) -> Lease {
        Lease::new(self.lap(), 4, failures, reason, self.turn())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lease(lap {}, {:?}, failures {}, {:?}, turn {})",
            self.lap(),
            self.state(),
            self.failures(),
            self.owner(),
            self.turn()
        )
    }
}

/// When a lease ends, or when a returned message may be handed out again.
///
/// It speaks of the lease whose turn equals its tag. With any other tag it is left over from an earlier lease
/// and says nothing: its writer has not come to it yet, or had no reason to write it.
///
/// Whoever ends that lease other than by ack says so here, before the lease word changes: `back` is set,
/// `failed` and `reason` tell what the lease word turns into, and the time is that of the next attempt. From
/// then on nobody can move a deadline that is not one any more, and anybody can finish what was begun.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Due(u64);

/// The longest count of deliveries that a due word can hold.
pub const ATTEMPTS_MAX: u16 = (1 << 12) - 1;

/// The largest number of a reason for death that a due word can hold; 0 is none.
pub const REASON_MAX: u16 = (1 << 3) - 1;

/// The latest time a due word can hold, in milliseconds since boot: 17 years.
pub const TIME_MAX: u64 = (1 << 39) - 1;

impl Due {
    /// At `time_ms` since boot, for the lease of this turn, which was this many deliveries of the message.
    pub const fn new(time_ms: u64, attempts: u16, turn: u8) -> Due {
        let time = if time_ms > TIME_MAX { TIME_MAX } else { time_ms };
        let attempts = if attempts > ATTEMPTS_MAX { ATTEMPTS_MAX } else { attempts };
        Due(time << 25 | (attempts as u64) << 8 | turn as u64)
    }

    /// The same, once the lease is being given back: with one failure more or not, for another attempt, or
    /// dead for this reason.
    pub const fn given_back(self, failed: bool, reason: Option<u16>) -> Due {
        let reason = match reason {
            Some(reason) if reason < REASON_MAX => reason,
            Some(_) => REASON_MAX,
            None => 0,
        };
        Due(self.0 | 1 << 24 | (failed as u64) << 23 | (reason as u64) << 20)
    }

    /// The word with this content.
    pub const fn from_bits(bits: u64) -> Due {
        Due(bits)
    }

    /// The word's content.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Milliseconds since boot, if it speaks of this lease.
    pub const fn time_of(self, lease: Lease) -> Option<u64> {
        if self.0 as u8 == lease.turn() { Some(self.0 >> 25) } else { None }
    }

    /// Whether it speaks of this lease, and that is being given back or was.
    pub const fn is_back(self, lease: Lease) -> bool {
        self.0 as u8 == lease.turn() && self.0 >> 24 & 1 == 1
    }

    /// Whether the lease that is being given back counts as a failure.
    pub const fn is_failed(self) -> bool {
        self.0 >> 23 & 1 == 1
    }

    /// Why the message of the lease that is being given back is dead; 0 if it is not.
    pub const fn reason(self) -> u16 {
        (self.0 >> 20) as u16 & REASON_MAX
    }

    /// What the word of a lease that is being given back turns into.
    pub const fn ending_of(self, lease: Lease) -> Lease {
        let failures = lease.failures() + self.is_failed() as u16;
        match self.reason() {
            0 => lease.retry(failures),
            reason => lease.dead(failures, reason),
        }
    }

    /// Deliveries so far, if it speaks of this lease; else what the failures show.
    pub const fn attempts_of(self, lease: Lease) -> u16 {
        let shown = lease.failures() + if lease.is_held() { 1 } else { 0 };
        let told = if self.0 as u8 == lease.turn() { (self.0 >> 8) as u16 & ATTEMPTS_MAX } else { 0 };
        if told > shown { told } else { shown }
    }
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = (self.0 >> 8) as u16 & ATTEMPTS_MAX;
        write!(f, "due({} ms, attempts {attempts}, tag {}", self.0 >> 25, self.0 as u8)?;
        if self.0 >> 24 & 1 == 1 {
            write!(f, ", back, failed {}, reason {}", self.is_failed(), self.reason())?;
        }
        f.write_str(")")
    }
}

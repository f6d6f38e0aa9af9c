//! The seam between the algorithm and the memory it runs on.
//!
//! The ring names each shared word there is by a [`Place`] and touches it through [`Memory`] alone.
//! The library hands it a mapping of a file; the models hand it loom's atomics, or a memory
//! that stops its user for good at the k-th operation. So the code that ships is the code that is checked.

use std::sync::atomic::Ordering;

/// A shared 64-bit word of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The producers' word of a slot.
    Claim(u64),
    /// The slot's first word, on the payload's line.
    Seq(u64),
    /// The word of a slot in a group: group, slot.
    Lease(u8, u64),
    /// Deadline or not-before of a slot in a group: group, slot.
    Due(u8, u64),
    /// 64 bits, one per slot, of a group's slots that need a look: group, slot / 64. A hint.
    Returned(u8, u64),
    /// When the first of a group's returned slots is due. A hint.
    Attention(u8),
    /// Where a group stands. A hint.
    Head(u8),
    /// First position of a group.
    Start(u8),
    /// Where the producers stand. A hint.
    Tail,
    /// A bit for each group that holds slots.
    Active,
}

/// The shared words of one queue.
///
/// Every operation is atomic on its word and takes part in the C++ memory model as if it were an
/// `AtomicU64` of that name. A place out of range must be answered by some word of the same kind: slots
/// are taken modulo the capacity.
pub trait Memory {
    /// The value at which a claim word's count of skipped laps stays (see [`Claim`](crate::ring::Claim)).
    const SKIPS_MAX: u32 = crate::ring::SKIPS_MAX;

    /// How long a timed lease lasts, in milliseconds, if its holder is paused before it has written the
    /// deadline (see [`sweep`](crate::ring::repair::sweep)).
    const UNBEGUN_MS: u64 = crate::ring::settle::UNBEGUN_MS;

    /// Slots, a power of two.
    fn capacity(&self) -> u64;
    /// Reads a word.
    fn load(&self, place: Place, order: Ordering) -> u64;
    /// Writes a word.
    fn store(&self, place: Place, value: u64, order: Ordering);
    /// Replaces `old` by `new`, AcqRel, or says what is there instead, Acquire.
    fn compare_exchange(&self, place: Place, old: u64, new: u64) -> Result<(), u64>;
    /// Sets bits, AcqRel.
    fn fetch_or(&self, place: Place, bits: u64) -> u64;
    /// Keeps only these bits, AcqRel.
    fn fetch_and(&self, place: Place, bits: u64) -> u64;
    /// Raises the word to at least `value`, AcqRel.
    fn fetch_max(&self, place: Place, value: u64) -> u64;
    /// Asks for the line of a word that will be read soon; for `seq`, for the slot's first two. Changes
    /// nothing.
    fn prefetch(&self, _place: Place) {}
    /// Asks for the line of a word that will be written soon; for `seq`, for the slot's first two. Changes
    /// nothing.
    fn prefetch_for_write(&self, _place: Place) {}
}

//! The queue file: header page, the queue's words, groups, attachments, ledgers, slots, extents.
//!
//! Words that different sides write are 128 bytes apart, because processors fetch lines in pairs.

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use super::{ATTACHMENTS, GROUPS_MAX, NAME_MAX, PAGE};
use crate::StoreError;
use crate::ring::LEN_MAX;

/// Offset of the queue's words.
pub(crate) const WORDS_AT: u64 = PAGE;
/// Bytes of a slot that are the ring's own: the seq word and the meta word.
pub(crate) const SLOT_HEADER: u64 = 16;
/// Rejection notes that a group keeps.
pub(crate) const NOTES: u64 = 64;
/// The largest file: what can be mapped with room to spare in 47 bits of address.
const FILE_MAX: u64 = 1 << 45;

/// The mark of a removed queue. Any other value is nonsense that somebody scribbled.
pub(crate) const REMOVED: u32 = 1;
/// While the queue is being removed: its users are to stop, and nobody is to attach.
pub(crate) const REMOVING: u32 = 2;

/// Words of a queue.
#[repr(C)]
pub(crate) struct QueueWords {
    /// Where the producers stand. A hint.
    pub(crate) tail: AtomicU64,
    rest_of_tail: [AtomicU64; 15],
    /// A bit for each group that holds slots.
    pub(crate) active: AtomicU64,
    /// A bit for each group that has sleeping consumers, maybe. Read by every publish.
    pub(crate) sleepers: AtomicU64,
    /// Who has the producer role alone: `owner 32 | attachment + 1 32`, or 0.
    pub(crate) producer_role: AtomicU64,
    /// [`REMOVED`] once the queue was removed, [`REMOVING`] before.
    pub(crate) removed: AtomicU32,
    /// Bits of what a publish has to look at, see [`careful`]; 0 as a rule.
    pub(crate) careful: AtomicU32,
    /// Unused.
    pub(crate) zero: AtomicU32,
    /// Moved whenever a group is made or removed.
    pub(crate) groups_changed: AtomicU32,
    rest_of_active: [AtomicU64; 11],
    /// Producers that wait for room: asleep?
    pub(crate) space_wanted: AtomicU32,
    /// Rung when there may be room: a futex.
    pub(crate) space_bell: AtomicU32,
    rest_of_space: [AtomicU64; 15],
    /// When the queue was last swept, in milliseconds since boot: who moves it on sweeps.
    pub(crate) swept_ms: AtomicU64,
    rest_of_swept: [AtomicU64; 15],
}

/// What a publish has to look at before it goes on.
pub(crate) mod careful {
    /// Messages went to extents, which may have to be given back.
    pub(crate) const EXTENTS: u32 = 1;
    /// The journal's disk is full: nothing may be published.
    pub(crate) const NO_SPACE: u32 = 2;
    /// A write or a sync of the journal failed, which is final: nothing may be published.
    pub(crate) const FAILED: u32 = 4;
}

/// Words of a group.
#[repr(C)]
pub(crate) struct GroupWords {
    /// Where the group stands. A hint.
    pub(crate) head: AtomicU64,
    rest_of_head: [AtomicU64; 15],
    /// Its state, see [`group`].
    pub(crate) state: AtomicU64,
    /// First position.
    pub(crate) start: AtomicU64,
    /// When the first returned message is due. A hint.
    pub(crate) attention: AtomicU64,
    /// Who has the consumer role alone: `owner 32 | attachment + 1 32`, or 0.
    pub(crate) role: AtomicU64,
    /// First position that no producer could have reused without knowing of the group.
    pub(crate) birth: AtomicU64,
    /// Failures after which a message is dead; 0 for no limit.
    pub(crate) max_deliveries: AtomicU32,
    /// 1 if ordered.
    pub(crate) ordered: AtomicU32,
    /// Backoff after the first failure, in milliseconds.
    pub(crate) backoff_base_ms: AtomicU32,
    /// Longest backoff, in milliseconds.
    pub(crate) backoff_cap_ms: AtomicU32,
    /// The random part of the backoff, in per cent.
    pub(crate) backoff_jitter: AtomicU32,
    /// 1 if it began with the oldest message.
    pub(crate) from_oldest: AtomicU32,
    rest_of_state: [AtomicU64; 8],
    /// Rung when there may be messages: a futex.
    pub(crate) bell: AtomicU32,
    /// The next slot to sweep. A hint.
    pub(crate) sweep_at: AtomicU32,
    /// Leases that ran out.
    pub(crate) expired: AtomicU64,
    /// Leases taken back from the dead.
    pub(crate) recovered: AtomicU64,
    /// Settles refused.
    pub(crate) stale_settles: AtomicU64,
    /// Rejection notes written.
    pub(crate) notes_written: AtomicU64,
    rest_of_bell: [AtomicU64; 11],
    /// The name, filled up with zeros.
    pub(crate) name: [AtomicU8; NAME_MAX],
    rest: [AtomicU64; 72],
}

/// States of a group.
pub(crate) mod group {
    /// Nobody's.
    pub(crate) const FREE: u64 = 0;
    /// Being made, under the queue's admin lock.
    pub(crate) const FORMING: u64 = 1;
    /// In use.
    pub(crate) const ACTIVE: u64 = 2;
    /// Being removed: no new consumers and no new leases.
    pub(crate) const LEAVING: u64 = 3;
}

/// A producer or consumer of the queue.
#[repr(C)]
pub(crate) struct Attachment {
    /// `zero 32 | group 8 | kind 8 | owner 16`, or 0 for nobody.
    pub(crate) who: AtomicU64,
    /// For people: deliveries in flight.
    pub(crate) in_flight: AtomicU64,
    rest: [AtomicU64; 6],
}

/// Why a message was rejected.
#[repr(C)]
pub(crate) struct Note {
    /// The message's position; written last.
    pub(crate) position: AtomicU64,
    /// Bytes of text.
    pub(crate) len: AtomicU64,
    /// The text.
    pub(crate) text: [AtomicU8; 240],
}

const _: () = {
    assert!(size_of::<QueueWords>() == 512);
    assert!(offset_of!(QueueWords, active) == 128);
    assert!(offset_of!(QueueWords, sleepers) == 136);
    assert!(offset_of!(QueueWords, producer_role) == 144);
    assert!(offset_of!(QueueWords, removed) == 152);
    assert!(offset_of!(QueueWords, careful) == 156);
    assert!(offset_of!(QueueWords, space_wanted) == 256);
    assert!(offset_of!(QueueWords, space_bell) == 260);
    assert!(offset_of!(QueueWords, swept_ms) == 384);
    assert!(size_of::<GroupWords>() == 1024);
    assert!(offset_of!(GroupWords, state) == 128);
    assert!(offset_of!(GroupWords, start) == 136);
    assert!(offset_of!(GroupWords, attention) == 144);
    assert!(offset_of!(GroupWords, role) == 152);
    assert!(offset_of!(GroupWords, birth) == 160);
    assert!(offset_of!(GroupWords, max_deliveries) == 168);
    assert!(offset_of!(GroupWords, from_oldest) == 188);
    assert!(offset_of!(GroupWords, bell) == 256);
    assert!(offset_of!(GroupWords, sweep_at) == 260);
    assert!(offset_of!(GroupWords, expired) == 264);
    assert!(offset_of!(GroupWords, recovered) == 272);
    assert!(offset_of!(GroupWords, stale_settles) == 280);
    assert!(offset_of!(GroupWords, notes_written) == 288);
    assert!(offset_of!(GroupWords, name) == 384);
    assert!(size_of::<Attachment>() == 64);
    assert!(size_of::<Note>() == 256);
    assert!(WORDS_AT as usize + size_of::<QueueWords>() <= 2 * PAGE as usize);
};

/// The geometry of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Slots.
    pub(crate) capacity: u64,
    /// Bytes of a slot.
    pub(crate) slot_size: u32,
    /// Bytes of the longest message.
    pub(crate) max_message: u32,
    /// Groups there can be, the journal's included.
    pub(crate) max_groups: u32,
    /// Whether the last group is the journal, and each slot has a word for the segment that its message is in.
    pub(crate) durable: bool,
}

/// Where everything lies in a queue file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) geometry: Geometry,
    /// [`GroupWords`], one per group.
    pub(crate) groups: u64,
    /// [`Attachment`]s.
    pub(crate) attachments: u64,
    /// Claim words, one per slot.
    pub(crate) claims: u64,
    /// Words of the extents, one per slot: `idle 32 | pages 32`.
    pub(crate) extent_words: u64,
    /// The first group's ledger: lease words, due words, the bitmap, the notes.
    pub(crate) ledgers: u64,
    /// Bytes from one group's ledger to the next.
    pub(crate) ledger_size: u64,
    /// Offsets in a ledger.
    pub(crate) due: u64,
    pub(crate) returned: u64,
    pub(crate) notes: u64,
    /// Numbers of the journal's segments, one word per slot, if the queue is durable.
    pub(crate) segments: u64,
    /// Slots.
    pub(crate) slots: u64,
    /// Extents: what lies before is allocated when the file is made, these when used.
    pub(crate) extents: u64,
    /// Bytes from one extent to the next; 0 if every message fits its slot.
    pub(crate) extent_size: u64,
    /// Length of the file.
    pub(crate) file_len: u64,
}

impl Geometry {
    /// Checks the bounds of each part.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadOption`].
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let bad = |option, found: u64, expected: String| {
            Err(StoreError::BadOption { option, found: found.to_string(), expected })
        };
        if !self.capacity.is_power_of_two() || !(1 << 10..=1 << 24).contains(&self.capacity) {
            return bad("capacity", self.capacity, "a power of two from 1024 to 16777216".into());
        }
        if !self.slot_size.is_multiple_of(64) || !(64..=4096).contains(&self.slot_size) {
            return bad("slot_size", self.slot_size.into(), "a multiple of 64 from 64 to 4096".into());
        }
        if !(1..=LEN_MAX).contains(&self.max_message) {
            return bad("max_message", self.max_message.into(), format!("1 to {LEN_MAX}"));
        }
        if !(1..=GROUPS_MAX).contains(&self.max_groups) {
            return bad("max_groups", self.max_groups.into(), format!("1 to {GROUPS_MAX}"));
        }
        if self.durable && self.max_groups < 2 {
            return bad("max_groups", 0, format!("1 to {}", GROUPS_MAX - 1));
        }
        if self.capacity * u64::from(self.max_message) > FILE_MAX {
            let most = FILE_MAX / self.capacity;
            return bad(
                "max_message",
                self.max_message.into(),
                format!("at most {most} with a capacity of {}", self.capacity),
            );
        }
        Ok(())
    }

    /// Bytes of a message that fit a slot.
    pub(crate) fn inline(&self) -> u64 {
        u64::from(self.slot_size) - SLOT_HEADER
    }

    /// The index of the group that is the journal.
    pub(crate) fn journal(&self) -> Option<u8> {
        self.durable.then(|| (self.max_groups - 1) as u8)
    }

    /// Where everything lies. For a checked geometry nothing here overflows.
    pub(crate) fn plan(&self) -> Plan {
        let page = |bytes: u64| bytes.next_multiple_of(PAGE);
        let due = page(self.capacity * 8);
        let returned = due + page(self.capacity * 8);
        let notes = returned + page(self.capacity.div_ceil(64) * 8);
        let ledger_size = notes + page(NOTES * size_of::<Note>() as u64);
        let groups = 2 * PAGE;
        let attachments = groups + page(u64::from(self.max_groups) * size_of::<GroupWords>() as u64);
        let claims = attachments + page((ATTACHMENTS * size_of::<Attachment>()) as u64);
        let extent_words = claims + page(self.capacity * 8);
        let ledgers = extent_words + page(self.capacity * 8);
        let segments = ledgers + u64::from(self.max_groups) * ledger_size;
        let slots = segments + if self.durable { page(self.capacity * 8) } else { 0 };
        let extents = slots + page(self.capacity * u64::from(self.slot_size));
        let extent_size =
            if u64::from(self.max_message) <= self.inline() { 0 } else { page(self.max_message.into()) };
        let file_len = extents + self.capacity * extent_size;
        Plan {
            geometry: *self,
            groups,
            attachments,
            claims,
            extent_words,
            ledgers,
            ledger_size,
            due,
            returned,
            notes,
            segments,
            slots,
            extents,
            extent_size,
            file_len,
        }
    }
}

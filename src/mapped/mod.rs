//! A queue file in memory: the [`Memory`] that ships.
//!
//! This is where offsets become references. Every slot is taken modulo the capacity and every group modulo
//! the number of groups, so no value that another process may have scribbled can lead outside the mapping.
//! The ring's words are in [`View`], the bytes of messages in `payload`.

mod payload;
mod view;

use std::fs::File;
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout::ATTACHMENTS;
use crate::layout::queue::{Attachment, Geometry, GroupWords, NOTES, Note, Plan, QueueWords, WORDS_AT};
use crate::memory::{Memory, Place};
use crate::sys::mapping::Mapping;

pub(crate) use payload::{IDLE_MAX, Span};
pub(crate) use view::View;

/// A mapped queue file, validated against its header.
#[derive(Debug)]
pub(crate) struct Mapped {
    base: NonNull<u8>,
    plan: Plan,
    /// Capacity - 1.
    mask: u64,
    /// Bytes of the longest message that fits a slot and is allowed.
    inline_max: usize,
    file: File,
    /// Owns the memory behind `base`; unmapped when this is dropped.
    mapping: Mapping,
    populated: Once,
}

// SAFETY: `base` points into the mapping that the value owns, which is valid in every thread of the process;
// what lies there is touched through atomics, or as plain bytes by the rules of the ring.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Takes a mapping of the whole of `file`, whose header stated `geometry`.
    ///
    /// # Panics
    ///
    /// If the mapping is shorter than the geometry needs; the caller has compared the two.
    pub(crate) fn new(file: File, mapping: Mapping, geometry: Geometry) -> Mapped {
        let plan = geometry.plan();
        assert!(mapping.len() as u64 >= plan.file_len, "the mapping covers the file");
        let base = NonNull::new(mapping.as_ptr()).expect("a mapping is never at address 0");
        let inline_max = geometry.inline().min(geometry.max_message.into()) as usize;
        Mapped { base, plan, mask: geometry.capacity - 1, inline_max, file, mapping, populated: Once::new() }
    }

    /// Gets ready for traffic: maps all but the extents at once, so that the first lap does not pay a page
    /// fault for every few dozen messages. Not done for those who only look.
    pub(crate) fn populate(&self) {
        self.populated.call_once(|| self.mapping.populate(self.plan.extents as usize));
    }

    /// The geometry.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.plan.geometry
    }

    /// Where everything lies.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The queue's words.
    #[inline(always)]
    pub(crate) fn words(&self) -> &QueueWords {
        // SAFETY: the plan places a QueueWords there, whose fields are atomics, valid for any content.
        unsafe { self.at(WORDS_AT) }
    }

    /// The words of a group.
    #[inline(always)]
    pub(crate) fn group(&self, group: u8) -> &GroupWords {
        // SAFETY: `group_index` is below max_groups, and the plan has that many GroupWords of atomics there.
        unsafe { self.at(self.plan.groups + self.group_index(group) * size_of::<GroupWords>() as u64) }
    }

    /// An attachment's record.
    pub(crate) fn attachment(&self, index: usize) -> &Attachment {
        let index = (index % ATTACHMENTS) as u64;
        // SAFETY: the index is in range, and the plan has an array of Attachments, made of atomics, there.
        unsafe { self.at(self.plan.attachments + index * size_of::<Attachment>() as u64) }
    }

    /// A rejection note of a group.
    pub(crate) fn note(&self, group: u8, index: u64) -> &Note {
        let ledger = self.plan.ledgers + self.group_index(group) * self.plan.ledger_size;
        let at = ledger + self.plan.notes + (index % NOTES) * size_of::<Note>() as u64;
        // SAFETY: the index is in range, and the plan has an array of Notes, made of atomics, there.
        unsafe { self.at(at) }
    }

    /// The word of a slot's extent: `idle 32 | pages 32`.
    pub(crate) fn extent_word(&self, position: u64) -> &AtomicU64 {
        // SAFETY: the slot is in range, and the plan has a word per slot there.
        unsafe { self.at(self.plan.extent_words + (position & self.mask) * 8) }
    }

    /// The number of the journal's segment that the message of a slot is in. Only in a durable queue.
    ///
    /// # Panics
    ///
    /// If the queue is not durable.
    pub(crate) fn segment_word(&self, position: u64) -> &AtomicU64 {
        assert!(self.plan.geometry.durable, "the queue is durable");
        // SAFETY: the slot is in range, and the plan of a durable queue has a word per slot there.
        unsafe { self.at(self.plan.segments + (position & self.mask) * 8) }
    }

    #[inline(always)]
    fn group_index(&self, group: u8) -> u64 {
        u64::from(group).min(u64::from(self.plan.geometry.max_groups) - 1)
    }

    #[inline(always)]
    fn slot_at(&self, position: u64) -> u64 {
        self.plan.slots + (position & self.mask) * u64::from(self.plan.geometry.slot_size)
    }

    /// A shared structure of the file.
    ///
    /// # Safety
    ///
    /// The plan has a `T` at `offset`, aligned for it, and `T` consists of atomics.
    #[inline(always)]
    unsafe fn at<T>(&self, offset: u64) -> &T {
        debug_assert!(offset + size_of::<T>() as u64 <= self.mapping.len() as u64);
        // SAFETY: by the contract it lies in the mapping, which lives as long as `self` and is page-aligned;
        // atomics may be shared with anyone.
        unsafe { self.base.add(offset as usize).cast::<T>().as_ref() }
    }
}

impl Memory for Mapped {
    #[inline(always)]
    fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    fn load(&self, place: Place, order: Ordering) -> u64 {
        self.view().load(place, order)
    }

    #[inline(always)]
    fn store(&self, place: Place, value: u64, order: Ordering) {
        self.view().store(place, value, order);
    }

    #[inline(always)]
    fn compare_exchange(&self, place: Place, old: u64, new: u64) -> Result<(), u64> {
        self.view().compare_exchange(place, old, new)
    }

    fn fetch_or(&self, place: Place, bits: u64) -> u64 {
        self.view().fetch_or(place, bits)
    }

    fn fetch_and(&self, place: Place, bits: u64) -> u64 {
        self.view().fetch_and(place, bits)
    }

    fn fetch_max(&self, place: Place, value: u64) -> u64 {
        self.view().fetch_max(place, value)
    }

    #[inline(always)]
    fn prefetch(&self, place: Place) {
        self.view().prefetch(place);
    }

    #[inline(always)]
    fn prefetch_for_write(&self, place: Place) {
        self.view().prefetch_for_write(place);
    }
}

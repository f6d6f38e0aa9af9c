//! A message's bytes: in its slot, or in the slot's extent if it is longer.
//!
//! The slot's second word says how many of the bytes are headers. It is written before `seq`, by the
//! claimant, and read after it. Whatever a hostile peer writes there, the lengths are checked against the
//! geometry before a byte is touched.
//!
//! Each slot owns a fixed range of the file for long messages, its **extent**. Its pages are allocated by the
//! claimant before it touches them (so a full disk is an error, not a signal), and given back when the slot
//! has not needed them for a while. The extent word counts the pages that are there. Death between
//! `fallocate` and the word: they are allocated once more, which does nothing. The word goes to 0 before the
//! pages are given back, so it never counts too many.

use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::Mapped;
use super::view::View;
use crate::layout::PAGE;
use crate::layout::queue::{SLOT_HEADER, careful};
use crate::sys::files;

/// Messages in a row that did not need a slot's extent before its pages are given back.
pub(crate) const IDLE_MAX: u64 = 8;

/// Pages that a slot may keep for good.
const KEEP_PAGES: u64 = 16;

/// Bytes of a message in the mapping: where, and how many of them are headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    start: NonNull<u8>,
    len: usize,
    headers: usize,
}

// SAFETY: a span is a place in a mapping, which is the same in all threads of the process; what it is used
// for has its own rules.
unsafe impl Send for Span {}

/// Lengths in shared memory that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oversize;

impl Span {
    /// Headers and payload, without a copy.
    ///
    /// # Safety
    ///
    /// Nobody writes to these bytes while the slices live: the lease or the claim on them stands until its
    /// holder's death, and every process that can write to the file follows the protocol. The mapping
    /// outlives `'a`.
    pub(crate) unsafe fn as_slices<'a>(self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: `span` has checked that the range lies in the mapping; the rest is the contract.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }.split_at(self.headers)
    }

    /// The payload, to be written in place.
    ///
    /// # Safety
    ///
    /// As `as_slices`, and nobody reads these bytes either: the caller has claimed the slot.
    pub(crate) unsafe fn as_payload_mut<'a>(self) -> &'a mut [u8] {
        // SAFETY: as above; headers <= len.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(self.headers).as_ptr(), self.len - self.headers)
        }
    }

    /// Writes headers and payload to a span that `prepare` made for their lengths.
    ///
    /// # Panics
    ///
    /// If the lengths are others.
    #[inline]
    pub(crate) fn write(self, headers: &[u8], payload: &[u8]) {
        assert!(headers.len() == self.headers && headers.len() + payload.len() == self.len);
        // SAFETY: the span lies in the mapping and has room for both; the slot is the caller's until it is
        // finished, so nobody reads or writes it by the protocol; private slices do not overlap a mapping.
        unsafe {
            if !headers.is_empty() {
                copy_bytes(headers.as_ptr(), self.start.as_ptr(), headers.len());
            }
            copy_bytes(payload.as_ptr(), self.start.add(headers.len()).as_ptr(), payload.len());
        }
    }

    /// Bytes of headers and payload.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// How many of the bytes are headers.
    pub(crate) fn headers(self) -> usize {
        self.headers
    }

    /// Copies headers and payload.
    ///
    /// # Panics
    ///
    /// If `to` has another length.
    pub(crate) fn copy_into(self, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "as many bytes as there are");
        // SAFETY: as in `copy_to`.
        unsafe { copy_bytes(self.start.as_ptr(), to.as_mut_ptr(), self.len) };
    }

    /// Copies headers and payload to the end of `buffer`; the number of header bytes.
    #[inline(always)]
    pub(crate) fn copy_to(self, buffer: &mut Vec<u8>) -> usize {
        buffer.reserve(self.len);
        let end = buffer.len();
        // SAFETY: the source lies in the mapping (checked by `span`), the target has room for `len` bytes,
        // and the two do not overlap. Another process may write to the source meanwhile; then the copy holds
        // some mixture of bytes, any of which is a valid u8, and the lease that is checked afterwards tells
        // whether that was allowed.
        unsafe {
            copy_bytes(self.start.as_ptr(), buffer.as_mut_ptr().add(end), self.len);
            buffer.set_len(end + self.len);
        }
        self.headers
    }
}

impl View<'_> {
    /// Prepares the slot of a position that the caller has claimed for a message that fits it: `len` bytes,
    /// of them `headers` headers.
    #[inline(always)]
    pub(crate) fn inline_span(&self, position: u64, headers: usize, len: usize) -> Span {
        // As in `prepare`.
        fence(Ordering::Release);
        let slot = self.slot(position);
        // SAFETY: a slot is at least 64 bytes, in the mapping; its second word is one by the plan.
        let (word, start) = unsafe { (slot.add(8).cast::<AtomicU64>(), slot.add(SLOT_HEADER as usize)) };
        // SAFETY: as above; atomics may be shared with anyone.
        unsafe { word.as_ref() }.store(headers as u64, Ordering::Relaxed);
        Span { start, len, headers }
    }

    /// The bytes of a message at a leased position that fits its slot, whose `seq` said `len`. `None`: it
    /// does not, or there are more headers than bytes.
    #[inline(always)]
    pub(crate) fn span_in_slot(&self, position: u64, len: u32) -> Option<Span> {
        let slot = self.slot(position);
        // SAFETY: as in `inline_span`.
        let (word, start) = unsafe { (slot.add(8).cast::<AtomicU64>(), slot.add(SLOT_HEADER as usize)) };
        // SAFETY: as above. Relaxed: `seq` was read with Acquire, and the word was written before it.
        let headers = unsafe { word.as_ref() }.load(Ordering::Relaxed);
        let fits = u64::from(len) <= self.inline() && headers <= u64::from(len);
        fits.then_some(Span { start, len: len as usize, headers: headers as usize })
    }
}

impl Mapped {
    /// A slot's second word: how many of its message's bytes are headers.
    pub(crate) fn header_word(&self, position: u64) -> &AtomicU64 {
        // SAFETY: a slot is at least 64 bytes, and its second word is one by the plan.
        unsafe { self.at(self.slot_at(position) + 8) }
    }

    /// Where a message of `len` bytes lies, of a claimed or leased position.
    fn place_of(&self, position: u64, len: u64) -> NonNull<u8> {
        let at = if len <= self.plan.geometry.inline() {
            self.slot_at(position) + SLOT_HEADER
        } else {
            self.extent_at(position)
        };
        // SAFETY: both are offsets inside the mapping, by the plan.
        unsafe { self.base.add(at as usize) }
    }

    /// The bytes of the message at a leased position, whose `seq` said `len`.
    ///
    /// # Errors
    ///
    /// [`Oversize`] if the lengths are more than the geometry has room for: someone scribbled.
    #[inline]
    pub(crate) fn span(&self, position: u64, len: u32) -> Result<Span, Oversize> {
        // Relaxed: `seq` was read with Acquire, and the word was written before it.
        let headers = self.header_word(position).load(Ordering::Relaxed);
        let limit = u64::from(self.plan.geometry.max_message);
        if u64::from(len) > limit || headers > u64::from(len) {
            return Err(Oversize);
        }
        if u64::from(len) > self.plan.geometry.inline() && !self.extent_has(position, len) {
            return Err(Oversize);
        }
        Ok(Span { start: self.place_of(position, len.into()), len: len as usize, headers: headers as usize })
    }

    /// Copies a message that the caller has no lease of to the end of `buffer`; the number of header bytes.
    /// `None`: it cannot be read. The caller checks afterwards that the slot did not go on meanwhile.
    ///
    /// From an extent it is read through the file: the slot may go on and give the pages back, and to touch a
    /// page that is not there would allocate it, or raise SIGBUS where there is no room.
    pub(crate) fn copy_unleased(&self, position: u64, len: u32, buffer: &mut Vec<u8>) -> Option<usize> {
        let span = self.span(position, len).ok()?;
        if u64::from(len) <= self.plan.geometry.inline() {
            return Some(span.copy_to(buffer));
        }
        let end = buffer.len();
        buffer.resize(end + span.len, 0);
        if self.file.read_exact_at(&mut buffer[end..], self.extent_at(position)).is_err() {
            buffer.truncate(end);
            return None;
        }
        Some(span.headers)
    }

    /// Where the extent of a position's slot lies.
    fn extent_at(&self, position: u64) -> u64 {
        self.plan.extents + (position & self.mask) * self.plan.extent_size
    }

    /// Whether a message of `len` bytes fits a slot, no slot has an extent that might be given back, the queue
    /// is not being removed, and the journal works: then a claimed slot is ready to be written. Two loads.
    #[inline(always)]
    pub(crate) fn is_plain(&self, len: usize) -> bool {
        let words = self.words();
        len <= self.inline_max
            && words.removed.load(Ordering::Acquire) | words.careful.load(Ordering::Relaxed) == 0
    }

    /// Makes room for a message at a position that the caller has claimed, and says where. The caller has
    /// checked the limit.
    ///
    /// # Errors
    ///
    /// What `fallocate` says; the caller gives the position up.
    #[inline]
    pub(crate) fn prepare(&self, position: u64, headers: usize, payload: usize) -> io::Result<Span> {
        // Whoever sees bytes that are written from here on sees the claim too, be it a plain store. Costs
        // nothing on x86.
        fence(Ordering::Release);
        let len = headers + payload;
        if len as u64 > self.plan.geometry.inline() {
            self.grow_extent(position, len as u64)?;
        } else if self.words().careful.load(Ordering::Relaxed) & careful::EXTENTS != 0 {
            self.shrink_extent(position);
        }
        self.header_word(position).store(headers as u64, Ordering::Relaxed);
        Ok(Span { start: self.place_of(position, len as u64), len, headers })
    }

    /// Whether the pages of a message in an extent are there: touching others could raise SIGBUS on a full
    /// file system.
    fn extent_has(&self, position: u64, len: u32) -> bool {
        let pages = self.extent_word(position).load(Ordering::Relaxed) & u64::from(u32::MAX);
        u64::from(len) <= pages * PAGE
    }

    #[cold]
    fn grow_extent(&self, position: u64, len: u64) -> io::Result<()> {
        let word = self.extent_word(position);
        let pages = len.div_ceil(PAGE);
        let there = word.load(Ordering::Relaxed) & u64::from(u32::MAX);
        if there < pages {
            files::allocate(&self.file, self.extent_at(position), pages * PAGE)?;
        }
        // Only the slot's claimant writes the word, and its claim was ordered after the last one's.
        word.store(there.max(pages), Ordering::Relaxed);
        if self.words().careful.load(Ordering::Relaxed) & careful::EXTENTS == 0 {
            self.words().careful.fetch_or(careful::EXTENTS, Ordering::Relaxed);
        }
        Ok(())
    }

    fn shrink_extent(&self, position: u64) {
        let word = self.extent_word(position);
        let value = word.load(Ordering::Relaxed);
        let (idle, pages) = (value >> 32, value & u64::from(u32::MAX));
        if pages <= KEEP_PAGES {
            return;
        }
        if idle < IDLE_MAX {
            word.store((idle + 1) << 32 | pages, Ordering::Relaxed);
            return;
        }
        word.store(0, Ordering::Relaxed);
        // A file system that cannot punch keeps the pages; nothing depends on it.
        let _ = files::punch(&self.file, self.extent_at(position), self.plan.extent_size);
    }
}

/// Copies bytes. The usual lengths of small messages are done in place, by chunks that overlap in the middle,
/// as in glibc's `memmove`: a call costs as much as the copy.
///
/// # Safety
///
/// As [`std::ptr::copy_nonoverlapping`].
#[inline(always)]
unsafe fn copy_bytes(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: each chunk lies inside the `len` bytes, by the condition of its branch.
    unsafe {
        if (32..=64).contains(&len) {
            for at in [len - 16, len - 32, 16, 0] {
                let chunk = from.add(at).cast::<u128>().read_unaligned();
                to.add(at).cast::<u128>().write_unaligned(chunk);
            }
        } else {
            std::ptr::copy_nonoverlapping(from, to, len);
        }
    }
}

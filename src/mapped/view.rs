//! The ring's words in a mapping.

use std::marker::PhantomData;
use std::mem::{offset_of, size_of};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Mapped;
use crate::layout::queue::{GroupWords, QueueWords, SLOT_HEADER, WORDS_AT};
use crate::memory::{Memory, Place};

/// Where the ring's words are, by value.
///
/// The hot paths take one each: it stays in registers, where what lies behind a reference would be read again
/// after every store to shared memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'m> {
    base: NonNull<u8>,
    /// Capacity - 1.
    mask: u64,
    slot_size: u64,
    claims: u64,
    slots: u64,
    groups: u64,
    /// Bytes from one group's words to the next.
    group_size: u64,
    /// The highest index of a group.
    last_group: u64,
    ledgers: u64,
    ledger_size: u64,
    due: u64,
    returned: u64,
    mapped: PhantomData<&'m Mapped>,
}

impl Mapped {
    /// Where the ring's words are.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        let plan = &self.plan;
        View {
            base: self.base,
            mask: self.mask,
            slot_size: u64::from(plan.geometry.slot_size),
            claims: plan.claims,
            slots: plan.slots,
            groups: plan.groups,
            group_size: size_of::<GroupWords>() as u64,
            last_group: u64::from(plan.geometry.max_groups) - 1,
            ledgers: plan.ledgers,
            ledger_size: plan.ledger_size,
            due: plan.due,
            returned: plan.returned,
            mapped: PhantomData,
        }
    }

    /// The same for one who has to do with this group only: every group is taken for it, so that its index
    /// need not be looked at for each word.
    #[inline(always)]
    pub(crate) fn view_of(&self, group: u8) -> View<'_> {
        let view = self.view();
        View {
            groups: view.group_at(group),
            group_size: 0,
            ledgers: view.ledger(group),
            ledger_size: 0,
            ..view
        }
    }
}

impl View<'_> {
    #[inline(always)]
    fn group_index(&self, group: u8) -> u64 {
        u64::from(group).min(self.last_group)
    }

    #[inline(always)]
    fn group_at(&self, group: u8) -> u64 {
        self.groups + self.group_index(group) * self.group_size
    }

    #[inline(always)]
    fn ledger(&self, group: u8) -> u64 {
        self.ledgers + self.group_index(group) * self.ledger_size
    }

    /// The offset of a place's word: a multiple of 8 inside the plan, for any position, group and index,
    /// since masks and `group_index` keep them in their arrays.
    #[inline(always)]
    fn offset(&self, place: Place) -> u64 {
        let queue_at = |field: usize| WORDS_AT + field as u64;
        match place {
            Place::Seq(position) => self.slots + (position & self.mask) * self.slot_size,
            Place::Claim(position) => self.claims + (position & self.mask) * 8,
            Place::Lease(group, position) => self.ledger(group) + (position & self.mask) * 8,
            Place::Due(group, position) => self.ledger(group) + self.due + (position & self.mask) * 8,
            Place::Returned(group, index) => {
                self.ledger(group) + self.returned + (index & (self.mask >> 6)) * 8
            }
            Place::Attention(group) => self.group_at(group) + offset_of!(GroupWords, attention) as u64,
            Place::Head(group) => self.group_at(group) + offset_of!(GroupWords, head) as u64,
            Place::Start(group) => self.group_at(group) + offset_of!(GroupWords, start) as u64,
            Place::Tail => queue_at(offset_of!(QueueWords, tail)),
            Place::Active => queue_at(offset_of!(QueueWords, active)),
        }
    }

    /// Bytes of a message that fit a slot.
    #[inline(always)]
    pub(super) fn inline(&self) -> u64 {
        self.slot_size - SLOT_HEADER
    }

    /// The slot of a position.
    #[inline(always)]
    pub(super) fn slot(&self, position: u64) -> NonNull<u8> {
        // SAFETY: inside the mapping, by the plan.
        unsafe { self.base.add(self.offset(Place::Seq(position)) as usize) }
    }

    #[inline(always)]
    fn word(&self, place: Place) -> &AtomicU64 {
        // SAFETY: `offset` is inside the plan, so in the mapping, which lives as long as the borrow of its
        // owner, and the plan has words there; atomics may be shared with anyone.
        unsafe { self.base.add(self.offset(place) as usize).cast::<AtomicU64>().as_ref() }
    }
}

impl Memory for View<'_> {
    #[inline(always)]
    fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    fn load(&self, place: Place, order: Ordering) -> u64 {
        self.word(place).load(order)
    }

    #[inline(always)]
    fn store(&self, place: Place, value: u64, order: Ordering) {
        self.word(place).store(value, order);
    }

    #[inline(always)]
    fn compare_exchange(&self, place: Place, old: u64, new: u64) -> Result<(), u64> {
        self.word(place).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    #[inline(always)]
    fn fetch_or(&self, place: Place, bits: u64) -> u64 {
        self.word(place).fetch_or(bits, Ordering::AcqRel)
    }

    #[inline(always)]
    fn fetch_and(&self, place: Place, bits: u64) -> u64 {
        self.word(place).fetch_and(bits, Ordering::AcqRel)
    }

    #[inline(always)]
    fn fetch_max(&self, place: Place, value: u64) -> u64 {
        self.word(place).fetch_max(value, Ordering::AcqRel)
    }

    #[inline(always)]
    fn prefetch(&self, place: Place) {
        self.prefetch_lines(place, prefetch_line);
    }

    #[inline(always)]
    fn prefetch_for_write(&self, place: Place) {
        self.prefetch_lines(place, prefetch_line_for_write);
    }
}

impl View<'_> {
    #[inline(always)]
    fn prefetch_lines(&self, place: Place, line: impl Fn(*const u8)) {
        let address = self.base.as_ptr().wrapping_add(self.offset(place) as usize);
        line(address);
        if matches!(place, Place::Seq(_)) && self.slot_size > 64 {
            line(address.wrapping_add(64));
        }
    }
}

#[inline(always)]
fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch touches nothing, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The intrinsic with the hint ET0 would be a plain prefetch unless the whole program is built for processors
/// with PREFETCHW; those without treat the instruction as a NOP.
#[inline(always)]
fn prefetch_line_for_write(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch touches nothing, whatever the address.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

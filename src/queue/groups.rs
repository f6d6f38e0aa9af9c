//! Groups: how they are made and removed while the queue runs, one at a time (see [`admin`](super::admin)).
//!
//! **Birth.** The group's ledger is reset and its bit set in `active`; from then on producers respect it.
//! *Then* its start is read. A producer may have looked ahead before the bit was set, and reuse slots without
//! asking the new group; but it looks ahead less than a lap, so the messages in those slots are older than
//! the start. A group that begins with the oldest message wants just those: what lies before its `birth` is
//! copied first and checked after.
//!
//! **Removal.** LEAVING first, then a look at the records: a consumer writes its record first and then looks
//! at the state, so one of the two sees the other. The group goes when the last record has gone; so no lease
//! is left.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use super::attach::Role;
use super::core::QueueCore;
use crate::delivery::policy::{MAX_DELIVERIES_MAX, options_of};
use crate::layout::NAME_MAX;
use crate::layout::queue::{GroupWords, group};
use crate::mapped::Mapped;
use crate::memory::{Memory, Place};
use crate::participant::store::StoreCore;
use crate::ring::{Lease, lap_of, repair::find_tail};
use crate::sys::files::check_name;
use crate::{Backoff, GroupOptions, Order, Removal, Start, StoreError};

/// The group that every queue is made with.
pub(crate) const DEFAULT: &str = "default";

/// The group of a durable queue that is its journal. No user's group has this name.
pub(crate) const JOURNAL: &str = "journal";

/// The settings of that group: nothing of it is ever given up, or put off.
const JOURNAL_OPTIONS: GroupOptions = GroupOptions {
    start: Start::Now,
    order: Order::Relaxed,
    max_deliveries: 0,
    backoff: Backoff { base: Duration::ZERO, cap: Duration::ZERO, jitter_percent: 0 },
};

/// The longest wait between two attempts that a group can be made with.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl QueueCore {
    /// The index of an active group.
    pub(crate) fn find_group(&self, name: &str) -> Result<u8, StoreError> {
        self.groups_in_use()
            .find(|&index| name_of(self.mapped.group(index)) == name)
            .ok_or_else(|| StoreError::NoSuchGroup { queue: self.name.clone(), group: name.to_owned() })
    }

    /// Makes a group.
    pub(crate) fn add_group(
        &self,
        store: &Arc<StoreCore>,
        name: &str,
        options: &GroupOptions,
    ) -> Result<(), StoreError> {
        store.check_forked()?;
        self.check_removed(store)?;
        check_group_name(name)?;
        check_options(options)?;
        let _turn = self.admin_lock(store)?;
        self.end_half_done();
        if self.find_group(name).is_ok() {
            return Err(StoreError::AlreadyExists { what: "group", name: name.to_owned() });
        }
        let limit = self.mapped.geometry().max_groups;
        let free =
            (0..limit as u8).find(|&index| self.mapped.group(index).state.load(Acquire) == group::FREE);
        let index = free.ok_or(StoreError::Exhausted {
            what: "group of the queue",
            limit: limit as usize,
            hint: ": remove one, or create the queue with more max_groups",
        })?;
        form(&self.mapped, index, name, options);
        self.mapped.words().groups_changed.fetch_add(1, AcqRel);
        crate::durable::record_change(store)
    }

    /// Removes a group, when its last consumer has gone.
    pub(crate) fn remove_group(
        &self,
        store: &Arc<StoreCore>,
        name: &str,
        removal: Removal,
    ) -> Result<(), StoreError> {
        store.check_forked()?;
        self.check_removed(store)?;
        check_group_name(name)?;
        let _turn = self.admin_lock(store)?;
        self.end_half_done();
        let index = self.find_group(name)?;
        let words = self.mapped.group(index);
        let mark = |leaving| words.state.store(if leaving { group::LEAVING } else { group::ACTIVE }, SeqCst);
        let consumes = |role| matches!(role, Role::Consumer { group, .. } if group == index);
        self.send_away(store, removal, ("group", name), consumes, mark)?;
        self.mapped.fetch_and(Place::Active, !(1 << index));
        words.state.store(group::FREE, Release);
        self.mapped.words().groups_changed.fetch_add(1, AcqRel);
        // Its undelivered messages held slots.
        self.ring_everyone();
        crate::durable::record_change(store)
    }
}

/// Makes the first group of a queue that nobody sees yet, and the journal's if it is durable.
pub(crate) fn form_first(mapped: &Mapped, options: &GroupOptions) {
    form(mapped, 0, DEFAULT, options);
    if let Some(journal) = mapped.geometry().journal() {
        form(mapped, journal, JOURNAL, &JOURNAL_OPTIONS);
    }
}

/// Makes the journal's group of a queue that is being made anew, whose ledger is there: it has settled everything
/// before `tail`.
pub(crate) fn form_journal(mapped: &Mapped, tail: u64) {
    if let Some(journal) = mapped.geometry().journal() {
        restore(mapped, journal, JOURNAL, &JOURNAL_OPTIONS, (mapped.capacity(), mapped.capacity()), tail);
    }
}

/// Makes a group of a queue that is being made anew, whose ledger is there.
pub(crate) fn restore(
    mapped: &Mapped,
    index: u8,
    name: &str,
    options: &GroupOptions,
    (start, birth): (u64, u64),
    head: u64,
) {
    let words = mapped.group(index);
    write_settings(words, name, options);
    words.start.store(start, Relaxed);
    words.birth.store(birth, Relaxed);
    words.head.store(head, Relaxed);
    mapped.fetch_or(Place::Active, 1 << index);
    words.state.store(group::ACTIVE, Release);
}

/// Makes a group in a free place. Alone, by the admin lock.
fn form(mapped: &Mapped, index: u8, name: &str, options: &GroupOptions) {
    let words = mapped.group(index);
    words.state.store(group::FORMING, SeqCst);
    write_settings(words, name, options);
    let start_at = |tail: u64| match options.start {
        Start::Now => tail,
        // What lies a lap behind may be there still.
        Start::Oldest => tail.saturating_sub(mapped.capacity()).max(mapped.capacity()),
    };
    words.notes_written.store(0, Relaxed);
    let first = start_at(find_tail(mapped));
    reset_ledger(mapped, index, first);
    words.start.store(first, Relaxed);
    words.head.store(first, Relaxed);
    mapped.fetch_or(Place::Active, 1 << index);
    std::sync::atomic::fence(SeqCst);
    let tail = find_tail(mapped);
    words.birth.store(tail, Relaxed);
    words.start.store(start_at(tail), Relaxed);
    words.head.store(start_at(tail), Relaxed);
    words.state.store(group::ACTIVE, Release);
}

fn write_settings(words: &GroupWords, name: &str, options: &GroupOptions) {
    for (index, byte) in words.name.iter().enumerate() {
        byte.store(name.as_bytes().get(index).copied().unwrap_or(0), Relaxed);
    }
    words.max_deliveries.store(options.max_deliveries.into(), Relaxed);
    words.ordered.store((options.order == Order::Ordered).into(), Relaxed);
    words.from_oldest.store((options.start == Start::Oldest).into(), Relaxed);
    words.backoff_base_ms.store(options.backoff.base.as_millis() as u32, Relaxed);
    words.backoff_cap_ms.store(options.backoff.cap.as_millis() as u32, Relaxed);
    words.backoff_jitter.store(options.backoff.jitter_percent.into(), Relaxed);
    for counter in [&words.expired, &words.recovered, &words.stale_settles] {
        counter.store(0, Relaxed);
    }
    words.role.store(0, Relaxed);
    words.attention.store(0, Relaxed);
    words.sweep_at.store(0, Relaxed);
}

/// No message from `start` on was handed out.
fn reset_ledger(mapped: &Mapped, index: u8, start: u64) {
    let unborn = Lease::unborn(lap_of(start, mapped.capacity()));
    for slot in 0..mapped.capacity() {
        mapped.store(Place::Lease(index, slot), unborn.bits(), Relaxed);
        mapped.store(Place::Due(index, slot), 0, Relaxed);
        mapped.store(Place::Returned(index, slot / 64), 0, Relaxed);
    }
    for note in 0..crate::layout::queue::NOTES {
        mapped.note(index, note).position.store(0, Relaxed);
    }
}

/// Refuses a name that no group can have, or no user's group.
pub(crate) fn check_group_name(name: &str) -> Result<(), StoreError> {
    if name == JOURNAL {
        return Err(StoreError::BadName { name: name.to_owned(), reason: "it is the journal's" });
    }
    check_name(name)
}

/// Checks the bounds of a group's settings.
pub(crate) fn check_options(options: &GroupOptions) -> Result<(), StoreError> {
    let bad = |option, found: String, expected: &str| {
        Err(StoreError::BadOption { option, found, expected: expected.to_owned() })
    };
    if options.max_deliveries > MAX_DELIVERIES_MAX {
        return bad("max_deliveries", options.max_deliveries.to_string(), "0 (no limit) to 500");
    }
    if options.backoff.cap > BACKOFF_MAX {
        return bad("backoff cap", format!("{:?}", options.backoff.cap), "at most 24 h");
    }
    if options.backoff.base > options.backoff.cap {
        return bad("backoff base", format!("{:?}", options.backoff.base), "at most the backoff's cap");
    }
    if options.backoff.jitter_percent > 100 {
        return bad("backoff jitter", options.backoff.jitter_percent.to_string(), "0 to 100 per cent");
    }
    Ok(())
}

/// A group's name. What is not UTF-8 was scribbled, and shows as such.
pub(crate) fn name_of(words: &GroupWords) -> String {
    let bytes: Vec<u8> =
        words.name[..NAME_MAX].iter().map(|byte| byte.load(Relaxed)).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A group's settings.
pub(crate) fn settings_of(queue: &QueueCore, index: u8) -> GroupOptions {
    options_of(queue.mapped.group(index))
}

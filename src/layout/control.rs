//! The control file: header page, then the words of the store and of its journal, then the participant table.

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use super::{PAGE, PARTICIPANTS};

/// Offset of the store's words.
pub(crate) const WORDS_AT: u64 = PAGE;
/// Offset of the words of a durable store's journal; all zero in a volatile store.
pub(crate) const JOURNAL_AT: u64 = WORDS_AT + 512;
/// Offset of the path of a durable store's directory, filled up with zeros.
pub(crate) const DURABLE_PATH_AT: u64 = WORDS_AT + 2048;
/// Bytes of that path.
pub(crate) const DURABLE_PATH_MAX: usize = 2048;
/// Offset of the participant table.
pub(crate) const PARTICIPANTS_AT: u64 = 2 * PAGE;
/// Length of the control file.
pub(crate) const FILE_LEN: u64 = PARTICIPANTS_AT + (PARTICIPANTS * size_of::<Entry>()) as u64;

/// Words of the store.
#[repr(C)]
pub(crate) struct ControlWords {
    /// A bit for each participant entry that may be taken. A hint: set before an entry is published, cleared
    /// after it is freed.
    pub(crate) taken: [AtomicU64; PARTICIPANTS / 64],
}

/// Where the journal ends, as its leader tells the next one.
#[repr(C)]
pub(crate) struct TailWords {
    /// Number of the segment.
    pub(crate) segment: AtomicU64,
    /// Offset in it.
    pub(crate) offset: AtomicU64,
    /// The next record's LSN.
    pub(crate) lsn: AtomicU64,
    /// The LSN before which all is on the disk.
    pub(crate) synced: AtomicU64,
    /// `chain 32 | salt 32`.
    pub(crate) chain: AtomicU64,
}

/// Words of a durable store's journal.
#[repr(C)]
pub(crate) struct JournalWords {
    /// 0 if the store is volatile, else the level; this and the next four are written before the file gets its
    /// name.
    pub(crate) level: AtomicU64,
    /// At the level `sync_every`: messages between two syncs; 0 if it goes by time.
    pub(crate) sync_messages: AtomicU64,
    /// At the level `sync_every`: milliseconds between two syncs; 0 if it goes by messages.
    pub(crate) sync_ms: AtomicU64,
    /// Bytes of a segment.
    pub(crate) segment_len: AtomicU64,
    /// 1 if consumers get messages before they are durable.
    pub(crate) early: AtomicU64,
    rest_of_level: [AtomicU64; 3],
    /// The valid one of `tails`, 0 or 1.
    pub(crate) current: AtomicU64,
    /// Who led last: `epoch 32 | owner 32`.
    pub(crate) led_by: AtomicU64,
    /// Where the journal ends. The leader writes the other one, then `current`.
    pub(crate) tails: [TailWords; 2],
    /// The first segment that is needed.
    pub(crate) low: AtomicU64,
    /// When the journal was last synced, in milliseconds since boot.
    pub(crate) synced_ms: AtomicU64,
    /// For people: how long the last sync took, in nanoseconds.
    pub(crate) sync_ns: AtomicU64,
    /// For people: batches written.
    pub(crate) batches: AtomicU64,
    /// For people: messages written.
    pub(crate) messages: AtomicU64,
    /// For people: bytes of those messages.
    pub(crate) message_bytes: AtomicU64,
    /// For people: bytes written.
    pub(crate) written_bytes: AtomicU64,
    rest_of_tails: [AtomicU64; 5],
    /// The system error that ended the journal, 0 while it works.
    pub(crate) failed: AtomicU64,
    /// Moved whenever a queue is made, removed, or used for the first time by a process.
    pub(crate) queues: AtomicU64,
    /// Rung when a batch is written: a futex.
    pub(crate) written_bell: AtomicU32,
    /// Those who wait for it: asleep?
    pub(crate) written_wanted: AtomicU32,
    /// Rung when there is something to write and all writers sleep: a futex.
    pub(crate) work_bell: AtomicU32,
    /// Unused.
    pub(crate) zero: AtomicU32,
    rest_of_failed: [AtomicU64; 4],
}

/// An entry of the participant table.
#[repr(C)]
pub(crate) struct Entry {
    /// `epoch 32 | zero 31 | taken 1`. The epoch goes up each time the entry is taken.
    pub(crate) state: AtomicU64,
    /// For people: process id in its own PID namespace.
    pub(crate) pid: AtomicU32,
    /// Unused.
    pub(crate) zero: AtomicU32,
    /// For people: when it attached, milliseconds since boot.
    pub(crate) since_ms: AtomicU64,
    /// For people: when the process started, in clock ticks since boot.
    pub(crate) process_start: AtomicU64,
    /// For people: command name, filled up with zeros.
    pub(crate) command: [AtomicU8; 32],
    /// Unused.
    pub(crate) rest: [AtomicU64; 24],
}

const _: () = {
    assert!(size_of::<Entry>() == 256);
    assert!(offset_of!(Entry, pid) == 8);
    assert!(offset_of!(Entry, since_ms) == 16);
    assert!(offset_of!(Entry, process_start) == 24);
    assert!(offset_of!(Entry, command) == 32);
    assert!(offset_of!(Entry, rest) == 64);
    assert!(size_of::<ControlWords>() == 128);
    assert!(size_of::<TailWords>() == 40);
    assert!(size_of::<JournalWords>() == 320);
    assert!(offset_of!(JournalWords, current) == 64);
    assert!(offset_of!(JournalWords, tails) == 80);
    assert!(offset_of!(JournalWords, low) == 160);
    assert!(offset_of!(JournalWords, failed) == 256);
    assert!(offset_of!(JournalWords, written_bell) == 272);
    assert!(DURABLE_PATH_AT as usize + DURABLE_PATH_MAX <= PARTICIPANTS_AT as usize);
};

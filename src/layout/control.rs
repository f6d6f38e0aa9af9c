//! The control file: header page, then the words of the store, then the participant table.

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use super::{PAGE, PARTICIPANTS};

/// Offset of the store's words.
pub(crate) const WORDS_AT: u64 = PAGE;
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
};

//! The journal's words in the control file, as values.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use crate::journal::Tail;
use crate::layout::control::{JournalWords, TailWords};
use crate::{DurableOptions, Level, StoreError};

/// The level of a store that has no journal.
pub(super) const VOLATILE: u64 = 0;

impl Level {
    fn code(self) -> (u64, u64, u64) {
        match self {
            Level::GroupCommit => (1, 0, 0),
            Level::SyncEveryMessages(messages) => (2, messages, 0),
            Level::SyncEveryTime(time) => (2, 0, time.as_millis() as u64),
            Level::Os => (3, 0, 0),
        }
    }
}

/// Writes the settings of a new store.
pub(super) fn write_settings(words: &JournalWords, options: &DurableOptions) {
    let (level, messages, ms) = options.level.code();
    words.level.store(level, Relaxed);
    words.sync_messages.store(messages, Relaxed);
    words.sync_ms.store(ms, Relaxed);
    words.segment_len.store(options.segment_len, Relaxed);
    words.early.store(options.deliver_early.into(), Relaxed);
}

/// The settings of a durable store; `None` for a volatile one.
pub(super) fn settings(words: &JournalWords) -> Option<DurableOptions> {
    let (messages, ms) = (words.sync_messages.load(Relaxed), words.sync_ms.load(Relaxed));
    let level = match words.level.load(Relaxed) {
        VOLATILE => return None,
        2 if messages > 0 => Level::SyncEveryMessages(messages),
        2 => Level::SyncEveryTime(Duration::from_millis(ms)),
        3 => Level::Os,
        _ => Level::GroupCommit,
    };
    let segment_len = words.segment_len.load(Relaxed);
    Some(DurableOptions { level, segment_len, deliver_early: words.early.load(Relaxed) == 1 })
}

/// Writes the path of the durable directory to its place in the control file.
pub(super) fn write_path(place: &[AtomicU8], path: &std::path::Path) -> Result<(), StoreError> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= place.len() {
        return Err(StoreError::BadOption {
            option: "durable directory",
            found: format!("a path of {} bytes", bytes.len()),
            expected: format!("at most {}", place.len() - 1),
        });
    }
    for (byte, value) in place.iter().zip(bytes) {
        byte.store(*value, Relaxed);
    }
    Ok(())
}

/// The path of the durable directory.
pub(super) fn read_path(place: &[AtomicU8]) -> PathBuf {
    let bytes: Vec<u8> = place.iter().map(|byte| byte.load(Relaxed)).take_while(|&byte| byte != 0).collect();
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// Where the journal ends, as its last leader told. Only under the leader's lock.
pub(super) fn tail(words: &JournalWords) -> Tail {
    // Acquire: pairs with `tell_tail`. The lock of the kernel orders it too.
    let told = &words.tails[(words.current.load(Acquire) & 1) as usize];
    let chain = told.chain.load(Relaxed);
    Tail {
        segment: told.segment.load(Relaxed),
        offset: told.offset.load(Relaxed),
        lsn: told.lsn.load(Relaxed),
        durable: told.synced.load(Relaxed),
        chain: (chain >> 32) as u32,
        salt: chain as u32,
    }
}

/// Tells where the journal ends. Only by the leader.
///
/// Death before the last store: the old tail stands, and what was written after it is written again, at the
/// same place; nobody was told that it is durable.
pub(super) fn tell_tail(words: &JournalWords, tail: Tail) {
    let other = 1 - (words.current.load(Relaxed) & 1);
    let TailWords { segment, offset, lsn, synced, chain } = &words.tails[other as usize];
    segment.store(tail.segment, Relaxed);
    offset.store(tail.offset, Relaxed);
    lsn.store(tail.lsn, Relaxed);
    synced.store(tail.durable, Relaxed);
    chain.store(u64::from(tail.chain) << 32 | u64::from(tail.salt), Relaxed);
    words.current.store(other, Release);
}

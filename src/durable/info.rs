//! The journal, for people and for programs that watch.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use serde::Serialize;

use super::{options_of, path_of, shared};
use crate::participant::store::StoreCore;
use crate::queue::groups::JOURNAL;
use crate::{DurableOptions, Queue, Store, StoreError};

/// A store's journal, and where it stands.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct JournalInfo {
    /// The durable directory.
    pub dir: PathBuf,
    /// The settings.
    pub options: DurableOptions,
    /// Segments in use.
    pub segments: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Batches written since the rings were made.
    pub batches: u64,
    /// Messages written since.
    pub messages: u64,
    /// Bytes of those messages, headers included.
    pub message_bytes: u64,
    /// Bytes written for them, and for what became of them.
    pub written_bytes: u64,
    /// Bytes written per byte of messages.
    pub amplification: f64,
    /// Messages that were published and are not written yet.
    pub unwritten: u64,
    /// Records that are written and not synced yet.
    pub unsynced: u64,
    /// How long the last sync took, in nanoseconds.
    pub last_sync_ns: u64,
    /// Why the journal takes nothing more, if it does.
    pub failed: Option<String>,
}

impl Store {
    /// Where the journal stands; `None` if the store is volatile. Reads every word of each queue's ring once.
    ///
    /// # Errors
    ///
    /// `Forked`, `Io`, and what opening a queue gives.
    pub fn journal(&self) -> Result<Option<JournalInfo>, StoreError> {
        self.core.check_forked()?;
        let Some(options) = options_of(&self.core) else { return Ok(None) };
        let mut unwritten = 0;
        for name in self.queues()? {
            match self.queue(&name) {
                Ok(queue) => unwritten += unwritten_in(&queue)?,
                Err(StoreError::NoSuchQueue { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(info(&self.core, options, unwritten)))
    }
}

fn unwritten_in(queue: &Queue) -> Result<u64, StoreError> {
    let groups = queue.all_groups()?;
    let journal = groups.iter().find(|group| group.name == JOURNAL);
    Ok(journal.map_or(0, |group| group.ready + group.leased + group.retrying))
}

fn info(store: &StoreCore, options: DurableOptions, unwritten: u64) -> JournalInfo {
    let words = store.table.journal();
    let tail = shared::tail(words);
    let low = words.low.load(Relaxed).clamp(1, tail.segment.max(1));
    let segments = tail.segment.saturating_sub(low) + 1;
    let (message_bytes, written_bytes) =
        (words.message_bytes.load(Relaxed), words.written_bytes.load(Relaxed));
    let failed = words.failed.load(Acquire);
    JournalInfo {
        dir: path_of(store),
        options,
        segments,
        bytes: segments.saturating_mul(options.segment_len),
        batches: words.batches.load(Relaxed),
        messages: words.messages.load(Relaxed),
        message_bytes,
        written_bytes,
        amplification: written_bytes as f64 / (message_bytes.max(1)) as f64,
        unwritten,
        unsynced: tail.lsn.saturating_sub(tail.durable),
        last_sync_ns: words.sync_ns.load(Relaxed),
        failed: (failed != 0).then(|| io::Error::from_raw_os_error(failed as i32).to_string()),
    }
}

//! Looking into a queue without touching it.

use super::core::QueueCore;
use crate::{DeadLetter, GroupInfo, Peeked, Queue, QueueInfo, StoreError};

impl QueueCore {
    /// Keeps what a consumer said when it rejected a message.
    pub(crate) fn note(&self, _group: u8, _position: u64, _text: &str) {}
    /// Counts a settle that was refused.
    #[cold]
    pub(crate) fn count_stale_settle(&self, group: u8) {
        self.mapped.group(group).stale_settles.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Queue {
    /// The groups' names and settings and where they stand. Reads every word of the ring once.
    pub fn groups(&self) -> Result<Vec<GroupInfo>, StoreError> {
        todo!()
    }
    /// Everything `ringway info` shows. Reads every word of the ring once.
    pub fn info(&self) -> Result<QueueInfo, StoreError> {
        todo!()
    }
    /// Up to `limit` messages of a group in order of position, without lease, count or side effect.
    pub fn peek(&self, _group: &str, _limit: usize) -> Result<Vec<Peeked>, StoreError> {
        todo!()
    }
    /// The dead letters of a group, in order of position.
    pub fn dead(&self, _group: &str) -> Result<Vec<DeadLetter>, StoreError> {
        todo!()
    }
    /// Gives a dead letter another chance, with its failures reset. `false` if it is not dead (any more).
    pub fn retry_dead(&self, _group: &str, _position: u64) -> Result<bool, StoreError> {
        todo!()
    }
    /// Deletes a dead letter. `false` if it is not dead (any more).
    pub fn purge_dead(&self, _group: &str, _position: u64) -> Result<bool, StoreError> {
        todo!()
    }
}

//! A store: a directory of queues that share one participant table and one recovery.

use crate::{Queue, Removal, StoreError};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// An open store. Cheap to clone; all clones are one participant.
#[derive(Debug, Clone)]
pub struct Store {}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {}

/// A process attached to the store, for people to read.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Participant {
    /// Index in the table, 1 to 1023.
    pub index: u16,
    /// How often the index has been taken.
    pub epoch: u32,
    /// Process id, as seen from that process's own PID namespace.
    pub pid: u32,
    /// Command name.
    pub command: String,
    /// Whether its liveness lock is held.
    pub alive: bool,
    /// Whether it is the caller.
    pub me: bool,
}

/// What a repair did.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// Dead processes whose work was given back.
    pub recovered: u32,
    /// Half-published positions of the dead, voided.
    pub voided: u64,
    /// Leases of the dead, returned for redelivery.
    pub returned: u64,
    /// Leases of the dead whose messages reached their limit of failures.
    pub dead_lettered: u64,
    /// Expired leases returned.
    pub expired: u64,
    /// Exclusive roles and attachments of the dead, freed.
    pub freed: u64,
    /// Left-over temporary files removed.
    pub files: u32,
}

impl Store {
    /// Opens the store at `path`.
    pub fn open(path: impl AsRef<Path>) -> Result<Store, StoreError> {
        StoreOptions::new().open(path)
    }
    /// Creates a store at `path`; one that is there is an error.
    pub fn create(path: impl AsRef<Path>) -> Result<Store, StoreError> {
        StoreOptions::new().create(path)
    }
    /// Opens the store at `path`, creating it if it is not there.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Store, StoreError> {
        StoreOptions::new().open_or_create(path)
    }
    /// How to open.
    pub fn options() -> StoreOptions {
        StoreOptions::new()
    }
    /// Where a store named `name` lies by default: `/dev/shm/ringway-<uid>/<name>`.
    pub fn default_path(name: &str) -> PathBuf {
        todo!()
    }
    /// The store's directory.
    pub fn path(&self) -> &Path {
        todo!()
    }
    /// Opens a queue.
    pub fn queue(&self, name: &str) -> Result<Queue, StoreError> {
        todo!()
    }
    /// The names of the queues, sorted.
    pub fn queues(&self) -> Result<Vec<String>, StoreError> {
        todo!()
    }
    /// Removes a queue and what is in it.
    pub fn remove_queue(&self, name: &str, removal: Removal) -> Result<(), StoreError> {
        todo!()
    }
    /// Removes a whole store that nobody else is attached to.
    pub fn remove(path: impl AsRef<Path>) -> Result<(), StoreError> {
        todo!()
    }
    /// The processes attached.
    pub fn participants(&self) -> Vec<Participant> {
        todo!()
    }
    /// Recovers every dead participant, returns expired leases and removes left-over files, by hand.
    pub fn repair(&self) -> Result<RepairReport, StoreError> {
        todo!()
    }
}

impl StoreOptions {
    /// The defaults.
    pub fn new() -> StoreOptions {
        StoreOptions::default()
    }
    /// Lets processes of this group take part: mode 0660 and this group id.
    pub fn group(self, gid: u32) -> StoreOptions {
        todo!()
    }
    /// Also accepts files owned by this user.
    pub fn allow_owner(self, uid: u32) -> StoreOptions {
        todo!()
    }
    /// Allows zero-copy access.
    ///
    /// # Safety
    ///
    /// Every process that can write to the store follows the protocol.
    pub unsafe fn trust_peers(self) -> StoreOptions {
        todo!()
    }
    /// Opens.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        todo!()
    }
    /// Creates.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        todo!()
    }
    /// Opens or creates.
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        todo!()
    }
}

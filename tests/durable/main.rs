//! Durable stores, as a user meets them: what was confirmed is there when the rings are gone.
//!
//! A power cut takes the rings, which are in memory, and of the journal what was not synced. Here the rings are
//! taken away; what a disk does to unsynced bytes is tried on a simulated one, in the crate's own tests.

mod confirms;
mod cuts;
mod damage;
mod eio;
mod forks;
mod full_disk;
mod kills;

use std::path::PathBuf;

use ringway::{DurableOptions, Queue, QueueOptions, Store};

/// A durable store in directories of its own.
pub(crate) struct Scene {
    _disk: tempfile::TempDir,
    _memory: tempfile::TempDir,
    pub(crate) dir: PathBuf,
    pub(crate) rings: PathBuf,
}

impl Scene {
    /// A place for a store; segments are short, so that there are many.
    pub(crate) fn new() -> Scene {
        let disk = tempfile::tempdir().expect("a directory on the disk");
        let memory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let (dir, rings) = (disk.path().join("shop"), memory.path().join("rings"));
        Scene { _disk: disk, _memory: memory, dir, rings }
    }

    pub(crate) fn store(&self) -> Store {
        self.store_with(|options| options.segment_len = 1 << 20)
    }

    pub(crate) fn store_with(&self, change: impl FnOnce(&mut DurableOptions)) -> Store {
        let options = Store::options().durable(&self.dir).durable_options(change);
        options.open_or_create(&self.rings).expect("a durable store")
    }

    /// Takes the rings away, as a reboot does. No process may be using them.
    pub(crate) fn cut(&self) {
        std::fs::remove_dir_all(&self.rings).expect("the rings");
    }

    /// Opens the store by its durable directory alone.
    pub(crate) fn reopen(&self) -> Store {
        Store::open(&self.dir).expect("the store, made anew")
    }
}

/// Options of a small queue.
pub(crate) fn small() -> QueueOptions {
    Queue::options().capacity(1024).slot_size(64).max_message(16 << 10)
}

/// What a group has not settled, in order of position, as texts.
pub(crate) fn left(queue: &Queue, group: &str) -> Vec<String> {
    let peeked = queue.peek(group, usize::MAX).expect("peek");
    peeked.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}

//! Where the runs take place: a directory of their own with a new store for each run, gone at the end.
//!
//! The parent makes the store and closes it again before it forks: handles are not inherited, and what its
//! liveness lock is held by must not live on in a child.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway::{Consumer, GroupOptions, OnFull, Producer, Queue, Store, StoreError, StoreOptions};
use ringway_measure::Result;
use rustix::fs::statvfs;
use tempfile::TempDir;

use super::case::{Case, Role};
use crate::exit::{Code, Failure};

/// Where else the memory is that queues take.
const MEMINFO: &str = "/proc/meminfo";

#[derive(Debug)]
pub(super) struct Place {
    dir: TempDir,
}

/// The store of one run; removed when dropped.
#[derive(Debug)]
pub(super) struct Stand {
    path: PathBuf,
}

impl Place {
    pub(super) fn new(parent: &Path) -> Result<Place, Failure> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("ringway-bench-{}-", std::process::id()))
            .tempdir_in(parent)
            .map_err(|e| Failure::io(&format!("making a directory in {}", parent.display()), &e))?;
        Ok(Place { dir })
    }

    /// Whether there can be such a queue, before anything is measured.
    pub(super) fn check(&self, case: &Case) -> Result<(), Failure> {
        let there = self.room()?;
        if case.memory() > there {
            return Err(Failure::new(
                Code::NoSpace,
                format!(
                    "a queue for {} would take up to {} MiB of memory, and there are {} MiB: use a smaller --capacity or --payload",
                    case.name(),
                    case.memory() >> 20,
                    there >> 20
                ),
            ));
        }
        self.stand(case, &["check"]).map(drop).map_err(|e| Failure::from(e).about(case.name()))
    }

    /// A new store with these queues.
    pub(super) fn stand(&self, case: &Case, queues: &[&str]) -> Result<Stand, StoreError> {
        let path = self.dir.path().join("store");
        let store = Store::create(&path)?;
        // From here on it is removed whatever happens.
        let stand = Stand { path };
        for name in queues {
            let options = Queue::options()
                .capacity(case.capacity)
                .slot_size(case.slot_size)
                .max_message(case.payload as u32)
                .max_groups(case.groups as u32);
            let queue = options.create(&store, name)?;
            for group in 1..case.groups {
                queue.add_group(&group_name(group), GroupOptions::default())?;
            }
        }
        Ok(stand)
    }

    /// Bytes that files can have here.
    fn room(&self) -> Result<u64, Failure> {
        let found = statvfs(self.dir.path()).map_err(|e| Failure::io("looking for room", &e.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        Ok(free.min(available_memory().unwrap_or(u64::MAX)))
    }
}

fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string(MEMINFO).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The name of this group, from 0.
pub(super) fn group_name(group: usize) -> String {
    if group == 0 { "default".to_owned() } else { format!("group-{group}") }
}

impl Stand {
    /// Opens the store, in a child.
    pub(super) fn store(&self, case: &Case) -> Result<Store> {
        let options = StoreOptions::new();
        // SAFETY: the store was made for this run, in a directory of this user's, and all who open it run
        // this program.
        let options = if case.zero_copy { unsafe { options.trust_peers() } } else { options };
        Ok(options.open(&self.path)?)
    }

    pub(super) fn producer(&self, case: &Case, queue: &str) -> Result<Producer> {
        let producer = self.store(case)?.queue(queue)?.producer();
        let producer = producer.on_full(OnFull::Block(Duration::MAX)).wait(case.wait);
        Ok(if case.role == Role::Exclusive { producer.exclusive() } else { producer }.build()?)
    }

    pub(super) fn consumer(&self, case: &Case, queue: &str, group: usize) -> Result<Consumer> {
        let consumer = self.store(case)?.queue(queue)?.consumer(&group_name(group));
        let consumer = consumer.lease(case.lease).wait(case.wait).max_in_flight(case.batch.max(256));
        Ok(if case.role == Role::Exclusive { consumer.exclusive() } else { consumer }.build()?)
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // What is left is removed with the directory.
        let _ = Store::remove(&self.path);
    }
}

//! What must be survived: forks, namespaces, full disks, damaged files, death while something is made, lost
//! leases.
//!
//! Other processes are this test binary started anew, as an [`agent`] that does as it is told. Tests that
//! need a namespace of their own run in `unshare(1)`, and say that they were skipped where that is missing or
//! not permitted.

#![cfg(target_os = "linux")]

mod agent;
mod creation;
mod files;
mod forks;
mod leases;
mod namespaces;
mod removal;
mod roles;

use std::time::{Duration, Instant};

use ringway::{Consumer, Delivery, Lease, Queue, Store};

/// How long is waited for what has to come.
const LONG: Duration = Duration::from_secs(20);

/// A store of its own for a test.
fn store() -> (tempfile::TempDir, Store) {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let store = Store::create(place.path().join("store")).expect("create a store");
    (place, store)
}

/// A small queue.
fn small_queue(store: &Store, name: &str) -> Queue {
    Queue::options()
        .capacity(1024)
        .slot_size(64)
        .max_message(1 << 16)
        .max_groups(4)
        .create(store, name)
        .expect("create")
}

/// A consumer whose leases last until death.
fn holder(queue: &Queue) -> Consumer {
    queue.consumer("default").lease(Lease::UntilDeath).build().expect("a consumer")
}

/// The next message, which has to come.
fn take(consumer: &Consumer) -> Delivery<'_> {
    consumer.receive_timeout(LONG).expect("receive").expect("a message comes")
}

/// Waits until something is so.
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LONG, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

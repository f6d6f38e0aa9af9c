//! A disk that fails: final, for every process, and nobody is told that something is durable which may not be.
//!
//! The system calls of one process are made to fail by `strace(1)`; without it these tests say that they are skipped.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringway::{ConfirmError, DurableError, PublishFailure, Store, StoreError};

use crate::{Scene, left, small};

/// Tells this binary that its disk is to fail, and where its store is.
const STORE: &str = "RINGWAY_DURABLE_EIO";
const MARK: &str = "told> ";

/// Not a test by itself: confirms messages until the disk fails.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let store = Store::open(dir).expect("the store");
    let queue = store.queue("q").expect("the queue");
    let producer = queue.producer().build().expect("a producer");
    for n in 0_u32.. {
        let id = format!("victim-{n}");
        match producer.publish_confirmed(id.clone()) {
            Ok(_) => println!("\n{MARK}confirmed {id}"),
            Err(ConfirmError::NotConfirmed { error: DurableError::Unknown, .. }) => {
                println!("\n{MARK}unknown {id}");
                break;
            }
            Err(other) => {
                println!("\n{MARK}other {other}");
                break;
            }
        }
    }
    let refused = producer.publish("after").map(|receipt| receipt.position);
    println!("\n{MARK}then {:?}", refused.map_err(|error| error.failure));
}

/// Runs the victim with the n-th of these calls, and all after it, failing; what it told. `None`: cannot be done here.
fn fail(scene: &Scene, call: &str, when: u32) -> Option<Vec<String>> {
    let inject = format!("inject={call}:error=EIO:when={when}+");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "eio::victim", "--nocapture", "--test-threads=1"])
        .env(STORE, &scene.dir)
        .stderr(Stdio::inherit())
        .output();
    let output = output.ok().filter(|output| output.status.success());
    let Some(output) = output else {
        eprintln!("skipped: strace is not there, or not permitted");
        return None;
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(told.lines().filter_map(|line| line.split_once(MARK)).map(|(_, what)| what.to_owned()).collect())
}

fn a_failing_call_is_final(call: &str, when: u32) {
    let scene = Scene::new();
    let store = scene.store();
    let queue = small().create(&store, "q").unwrap();
    let producer = queue.producer().build().unwrap();
    producer.publish_confirmed("before").unwrap();
    let Some(told) = fail(&scene, call, when) else { return };
    let confirmed: Vec<&str> = told.iter().filter_map(|line| line.strip_prefix("confirmed ")).collect();
    assert!(
        told.iter().any(|line| line.starts_with("unknown ") || line.starts_with("other the journal failed")),
        "{told:?}"
    );
    assert!(told.last().is_some_and(|line| line.contains("JournalFailed")), "{told:?}");
    // Everybody learns of it.
    let began = Instant::now();
    let refused = loop {
        match producer.publish("another") {
            Err(error) => break error.failure,
            Ok(receipt) => assert!(matches!(receipt.durable(), Err(DurableError::Unknown))),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it is never refused");
    };
    assert!(matches!(refused, PublishFailure::JournalFailed), "{refused:?}");
    assert!(store.journal().unwrap().unwrap().failed.is_some());
    // What was durable is delivered; the users of the store end; the rings are made anew from the disk.
    let worker = queue.consumer("default").build().unwrap();
    let first = worker.receive_timeout(Duration::from_secs(5)).unwrap().expect("the first");
    assert_eq!(first.payload(), b"before");
    drop(first);
    drop((worker, producer, queue, store));
    assert!(Store::repair_journal(&scene.dir, false).unwrap().damage.is_none(), "nothing is damaged");
    let store = scene.reopen();
    let queue = store.queue("q").unwrap();
    let found = left(&queue, "default");
    let kept = [&["before"], &confirmed[..]].concat();
    assert_eq!(found[..kept.len()], kept, "all that was confirmed, in order");
    queue.producer().build().unwrap().publish_confirmed("it works again").unwrap();
}

#[test]
fn a_failing_write_is_final() {
    for when in [1, 2, 7] {
        a_failing_call_is_final("pwritev2", when);
    }
}

#[test]
fn a_failing_sync_is_final() {
    a_failing_call_is_final("fdatasync,fsync", 1);
}

#[test]
fn a_failed_journal_is_told_to_those_who_come() {
    let scene = Scene::new();
    let store = scene.store();
    small().create(&store, "q").unwrap();
    if fail(&scene, "pwritev2", 1).is_none() {
        return;
    }
    let refused = small().create(&store, "another").map(|queue| queue.name().to_owned());
    assert!(matches!(refused, Err(StoreError::JournalFailed { .. })), "{refused:?}");
    let in_use = Store::repair_journal(&scene.dir, false);
    assert!(matches!(in_use, Err(StoreError::InUse { .. })), "its rings are used here: {in_use:?}");
    drop(store);
    assert!(Store::repair_journal(&scene.dir, false).unwrap().failed.is_some());
}

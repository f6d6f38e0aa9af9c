//! Two processes that are both process 1, and a file system that is full.

use std::path::Path;
use std::process::{Command, Stdio};

use ringway::{PublishFailure, Queue, Store, StoreError};

use super::agent::{Agent, say, this_binary};
use super::{small_queue, store, take};

/// Whether `unshare` works with these options; says so if it does not.
fn unshare_works(test: &str, options: &[&str]) -> bool {
    let tried = Command::new("unshare").args(options).arg("true").stderr(Stdio::null()).status();
    let works = tried.is_ok_and(|status| status.success());
    if !works {
        println!("skipped: {test}: unshare {options:?} is missing or not permitted here");
    }
    works
}

#[test]
fn two_containers_that_are_both_process_1() {
    let options = ["--pid", "--fork", "--kill-child"];
    if !unshare_works("two_containers_that_are_both_process_1", &options) {
        return;
    }
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    for text in ["one", "two"] {
        producer.publish(text).expect("publish");
    }
    let mut agents = ["one 0", "two 0"].map(|message| {
        let mut agent =
            Agent::play("follow", store.path(), Command::new("unshare").args(options).arg(this_binary()));
        assert_eq!(agent.ask("pid"), "1");
        assert_eq!(agent.ask("open"), "done");
        assert_eq!(agent.ask("consumer shared death"), "done");
        assert_eq!(agent.ask("take"), message);
        agent
    });
    assert_eq!(store.repair().expect("repair").recovered, 0, "both live");
    let [first, second] = &mut agents;
    first.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(second.ask("take"), "one 1", "what the other container held comes back here");
    assert_eq!(second.ask("ack"), "done", "its own lease was never touched");
    assert_eq!(second.ask("ack"), "done");
    assert_eq!(store.repair().expect("repair").returned, 0);
}

#[test]
fn a_full_file_system_is_an_error_and_not_a_signal() {
    let options = ["--mount", "--propagation", "private"];
    if !unshare_works("a_full_file_system_is_an_error_and_not_a_signal", &options) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let mount = r#"mount -t tmpfs -o size=1536k none "$RINGWAY_FAULTS_STORE" && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(options).args(["sh", "-c", mount, "sh"]).arg(this_binary());
    let mut agent = Agent::play("fill", place.path(), &mut command);
    match agent.hear().as_deref() {
        Some("filled") => assert!(agent.end().success()),
        None if agent.end().code() == Some(32) => {
            println!("skipped: a_full_file_system_is_an_error_and_not_a_signal: mount is not permitted here");
        }
        other => panic!("the agent says {other:?}; no space must not end it"),
    }
}

/// What the agent runs, in a tmpfs of 1.5 MiB.
pub(crate) fn fill(mount: &Path) {
    let path = mount.join("store");
    let store = Store::create(&path).expect("create a store");
    assert_no_space(Queue::options().capacity(1 << 16).create(&store, "large").map(drop));
    assert_eq!(store.queues().expect("list"), Vec::<String>::new(), "nothing is left of it");
    assert_eq!(std::fs::read_dir(path.join("queues")).expect("list").count(), 0, "not even a temporary");
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    let large = |index: usize| vec![index as u8; 40_000];
    let mut accepted = Vec::new();
    let refused = loop {
        let index = accepted.len();
        assert!(index < 1000, "40 MB do not fit 1.5 MiB");
        match producer.publish(large(index)) {
            Ok(_) => accepted.push(large(index)),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused.failure, PublishFailure::NoSpace { bytes: 40_000 }), "{refused}");
    assert_eq!(refused.message, large(accepted.len()), "the message comes back");
    assert!(accepted.len() > 3, "some fit");
    assert_no_space(Store::create(mount.join("another")).map(drop));
    assert!(matches!(Store::open(mount.join("another")), Err(StoreError::NoSuchStore { .. })));
    // Every byte that is left is taken, and the queue goes on with what it has.
    let _ = std::fs::write(mount.join("rest"), vec![1; 2 << 20]);
    for round in 0..2000 {
        let small = format!("small {round}").into_bytes();
        producer.publish(small.clone()).expect("a small message needs no space");
        accepted.push(small);
        let consumer = queue.consumer("default").build().expect("a consumer");
        while let Some(delivery) = consumer.try_receive().expect("receive") {
            assert_eq!(delivery.payload(), accepted.remove(0));
            delivery.ack().expect("ack");
        }
    }
    assert!(accepted.is_empty());
    assert!(queue.verify().expect("verify").violations.is_empty());
    // Slots keep the pages that they have: a large message is accepted when it is their turn.
    let accepted = (0..1024).any(|_| producer.publish(large(7)).is_ok());
    assert!(accepted, "a large message in pages that are there");
    let consumer = queue.consumer("default").build().expect("a consumer");
    let delivery = take(&consumer);
    assert_eq!(delivery.payload(), large(7));
    delivery.ack().expect("ack");
    say("filled");
}

fn assert_no_space(result: Result<(), StoreError>) {
    match result {
        Err(StoreError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOSPC) => {}
        other => panic!("expected no space, found {other:?}"),
    }
}

//! A child that inherited the handles of a durable store.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use ringway::{ConfirmError, DurableError, PublishFailure, Store, StoreError};

use crate::{Scene, left, small};

/// Tells this binary that it is to fork, and where the store is.
const STORE: &str = "RINGWAY_DURABLE_FORK";

#[test]
fn a_forked_child_is_told_and_ends_without_waiting_for_anyone() {
    let scene = Scene::new();
    drop(small().create(&scene.store(), "q").unwrap());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "forks::parent", "--nocapture", "--test-threads=1"]);
    let status = command.env(STORE, &scene.dir).status().unwrap();
    assert!(status.success(), "{status}");
    scene.cut();
    let queue = scene.reopen().queue("q").unwrap();
    assert_eq!(left(&queue, "default"), ["before", "by the child", "after"]);
}

/// Not a test by itself: what forks.
#[test]
fn parent() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let dir = Path::new(&dir);
    let store = Store::open(dir).unwrap();
    let queue = store.queue("q").unwrap();
    let producer = queue.producer().on_confirm(|_, _| {}).build().unwrap();
    let worker = queue.consumer("default").build().unwrap();
    let receipt = producer.publish("before").unwrap();
    receipt.durable().unwrap();
    let delivery = worker.receive().unwrap();
    // SAFETY: the child goes on in this thread alone, uses the allocator (which bears that) and leaves by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let body = || {
                assert!(matches!(producer.publish("x").unwrap_err().failure, PublishFailure::Forked));
                let confirmed = producer.publish_confirmed("x").unwrap_err();
                let ConfirmError::NotAccepted(refused) = confirmed else { panic!("{confirmed:?}") };
                assert!(matches!(refused.failure, PublishFailure::Forked));
                assert!(matches!(receipt.durable(), Err(DurableError::Forked)));
                assert!(matches!(receipt.durable_timeout(Duration::ZERO), Err(DurableError::Forked)));
                assert!(matches!(producer.flush(), Err(DurableError::Forked)));
                assert!(matches!(delivery.ack_durable(), Err(DurableError::Settle(_))));
                assert!(matches!(store.journal(), Err(StoreError::Forked)));
            };
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            drop((producer, worker, queue, store));
            let anew = std::panic::catch_unwind(|| {
                let own = Store::open(dir).unwrap().queue("q").unwrap();
                own.producer().build().unwrap().publish_confirmed("by the child").unwrap();
            });
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(told.is_err() || anew.is_err())) }
        }
        ForkResult::Parent { child } => wait_for(child),
    }
    producer.publish_confirmed("after").unwrap();
    drop(delivery);
}

fn wait_for(child: Pid) {
    let start = Instant::now();
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive if start.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            WaitStatus::StillAlive => {
                kill(child, Signal::SIGKILL).unwrap();
                panic!("the child hangs");
            }
            ended => {
                assert_eq!(ended, WaitStatus::Exited(child, 0));
                return;
            }
        }
    }
}

//! Fork, exec, and descriptors closed by force.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use ringway::{
    GroupOptions, Lease, PublishFailure, Queue, ReceiveError, Removal, SettleFailure, Store, StoreError,
};

use super::agent::{Agent, say, this_binary};
use super::{holder, small_queue, store, take};

#[test]
fn a_forked_child_can_do_no_harm_and_its_parents_death_is_noticed() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let mut parent = Agent::play("fork", store.path(), &mut Command::new(this_binary()));
    assert_eq!(parent.hear().as_deref(), Some("the child did no harm"));
    let Some(sleeper) = parent.hear() else { panic!("the parent ended") };
    let sleeper = nix::unistd::Pid::from_raw(sleeper.parse().expect("a pid"));
    // The parent holds "held" and dies; its child lives on, with all that it inherited.
    let consumer = holder(&queue);
    let payload = |text: &str| text.as_bytes().to_vec();
    let delivery = take(&consumer);
    assert_eq!(delivery.payload(), payload("by the child"));
    delivery.ack().expect("ack");
    assert!(consumer.try_receive().expect("receive").is_none(), "the parent holds its lease");
    parent.kill();
    let delivery = take(&consumer);
    assert_eq!((delivery.payload(), delivery.failures()), (&payload("held")[..], 1));
    delivery.ack().expect("ack");
    nix::sys::signal::kill(sleeper, None).expect("the child is alive");
    nix::sys::signal::kill(sleeper, nix::sys::signal::Signal::SIGKILL).expect("kill the child");
}

/// What the agent runs: a process with handles of all kinds that forks.
pub(crate) fn parent(path: &Path) {
    // SAFETY: all processes of this test keep to the protocol.
    let store = unsafe { Store::options().trust_peers() }.open(path).expect("open");
    let queue = store.queue("q").expect("the queue");
    let producer = queue.producer().build().expect("a producer");
    let consumer = holder(&queue);
    let timed_consumer = queue.consumer("default").build().expect("a consumer");
    for text in ["given", "timed", "held"] {
        producer.publish(text).expect("publish");
    }
    let delivery = take(&consumer);
    let mut timed = take(&timed_consumer);
    assert!(timed.remaining().is_some_and(|left| left > Duration::from_secs(1)));
    let loan = producer.loan(5).expect("a loan");
    // SAFETY: the child goes on in this thread alone, uses the allocator (which bears that) and leaves by
    // `_exit`.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let body = || {
                use_all(
                    path,
                    &Handles { store: &store, queue: &queue, producer: &producer, consumer: &consumer },
                );
                assert_eq!(timed.remaining(), Some(Duration::ZERO));
                assert_eq!(timed.extend(Duration::from_secs(60)), Err(SettleFailure::Forked));
                drop(timed);
                let refused = delivery.ack().expect_err("an inherited delivery");
                assert_eq!(refused.failure, SettleFailure::Forked);
                assert!(refused.delivery.lost());
                drop(refused);
                assert!(matches!(loan.publish(), Err(PublishFailure::Forked)));
            };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // Dropping them is harmless, too.
            drop((timed_consumer, consumer, producer, queue, store));
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).expect("wait"), WaitStatus::Exited(child, 0), "the child");
        }
    }
    // Nothing of the parent's was harmed.
    drop(loan);
    assert_eq!(delivery.payload(), b"given");
    delivery.ack().expect("the parent's delivery is still its own");
    timed.ack().expect("this one, too");
    let held = take(&consumer);
    assert_eq!((held.payload(), held.attempt()), (&b"held"[..], 1));
    assert!(queue.verify().expect("verify").violations.is_empty());
    say("the child did no harm");
    // SAFETY: the child only waits.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => loop {
            nix::unistd::pause();
        },
        ForkResult::Parent { child } => say(child),
    }
    let _ = std::io::stdin().read_line(&mut String::new());
    std::mem::forget(held);
}

struct Handles<'a> {
    store: &'a Store,
    queue: &'a Queue,
    producer: &'a ringway::Producer,
    consumer: &'a ringway::Consumer,
}

/// Every inherited handle says `Forked`; a store that is opened anew works.
fn use_all(path: &Path, handles: &Handles) {
    let Handles { store, queue, producer, consumer } = handles;
    let forked =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Forked)), "{result:?}");
    for failure in [
        producer.publish("x").expect_err("publish").failure,
        producer.try_publish("x").expect_err("try_publish").failure,
        producer.loan(1).map(drop).expect_err("loan"),
    ] {
        assert!(matches!(failure, PublishFailure::Forked), "{failure}");
    }
    let batch = producer.publish_batch(["x", "y"]);
    assert!(
        batch
            .iter()
            .all(|result| matches!(result, Err(error) if matches!(error.failure, PublishFailure::Forked)))
    );
    assert!(matches!(consumer.try_receive(), Err(ReceiveError::Forked)));
    assert!(matches!(consumer.receive(), Err(ReceiveError::Forked)));
    forked(store.queue("q").map(drop));
    forked(store.queues().map(drop));
    forked(store.repair().map(drop));
    forked(store.remove_queue("q", Removal::IfUnused));
    forked(Queue::options().create(store, "new").map(drop));
    forked(queue.producer().build().map(drop));
    forked(queue.consumer("default").build().map(drop));
    forked(queue.add_group("g", GroupOptions::default()));
    forked(queue.remove_group("default", Removal::IfUnused));
    forked(queue.info().map(drop));
    forked(queue.groups().map(drop));
    forked(queue.peek("default", 1).map(drop));
    forked(queue.dead("default").map(drop));
    forked(queue.verify().map(drop));
    assert!(store.participants().is_empty());
    let own = Store::open(path).expect("open anew").queue("q").expect("the queue");
    own.producer().build().expect("a producer").publish("by the child").expect("publish");
}

#[test]
fn exec_gives_leases_back() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    queue.producer().build().expect("a producer").publish("x").expect("publish");
    let mut agent = Agent::start(store.path());
    assert_eq!(agent.ask("open"), "done");
    assert_eq!(agent.ask("consumer shared death"), "done");
    assert_eq!(agent.ask("take"), "x 0");
    assert_eq!(agent.ask("exec"), "execed");
    let consumer = holder(&queue);
    let delivery = take(&consumer);
    assert_eq!(delivery.failures(), 1);
    nix::sys::signal::kill(agent.pid(), None).expect("the process is still there");
    delivery.ack().expect("ack");
}

#[test]
fn a_process_whose_descriptors_are_closed_is_still_alive() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    queue.producer().build().expect("a producer").publish("x").expect("publish");
    let mut agent = Agent::start(store.path());
    assert_eq!(agent.ask("open"), "done");
    assert_eq!(agent.ask("producer shared"), "done");
    assert_eq!(agent.ask("consumer shared death"), "done");
    assert_eq!(agent.ask("take"), "x 0");
    assert_eq!(agent.ask("close_range"), "done");
    assert_eq!(store.repair().expect("repair").recovered, 0);
    let consumer = queue.consumer("default").lease(Lease::UntilDeath).build().expect("a consumer");
    assert!(consumer.try_receive().expect("receive").is_none(), "its lease stands");
    assert_eq!(agent.ask("ack"), "done");
    assert_eq!(agent.ask("publish y"), "done");
    let delivery = take(&consumer);
    assert_eq!(delivery.payload(), b"y");
    delivery.ack().expect("ack");
    agent.kill();
    assert_eq!(store.repair().expect("repair").returned, 0);
}

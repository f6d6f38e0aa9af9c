//! Queues, groups and stores that are removed, also while somebody uses them; and where new groups begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringway::{
    GroupOptions, Lease, PublishError, PublishFailure, Queue, Receipt, ReceiveError, Removal, Start, Store,
    StoreError,
};

use super::agent::Agent;
use super::{LONG, holder, small_queue, store, take, wait_until};

fn in_use<T: std::fmt::Debug>(result: Result<T, StoreError>, what: &str) -> bool {
    matches!(result, Err(StoreError::InUse { what: found, .. }) if found == what)
}

#[test]
fn a_queue_in_use_is_not_removed() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let mut agent = Agent::start(store.path());
    assert_eq!(agent.ask("open"), "done");
    assert_eq!(agent.ask("producer shared"), "done");
    assert!(in_use(store.remove_queue("q", Removal::IfUnused), "queue"));
    assert!(in_use(store.remove_queue("q", Removal::WaitFor(Duration::from_millis(5))), "queue"));
    assert_eq!(agent.ask("publish x"), "done", "it can go on");
    agent.kill();
    store.remove_queue("q", Removal::IfUnused).expect("the dead do not use it");
    assert!(matches!(store.queue("q"), Err(StoreError::NoSuchQueue { .. })));
    assert!(matches!(queue.producer().build(), Err(StoreError::Removed { .. })), "an old handle is told");
    assert!(matches!(queue.consumer("default").build(), Err(StoreError::Removed { .. })));
    assert!(matches!(queue.add_group("g", GroupOptions::default()), Err(StoreError::Removed { .. })));
    let anew = small_queue(&store, "q");
    assert!(holder(&anew).try_receive().expect("receive").is_none(), "a new one is empty");
    assert!(
        matches!(queue.producer().build(), Err(StoreError::Removed { .. })),
        "the old handle stays with the old one"
    );
}

#[test]
fn the_users_of_a_queue_that_goes_are_told() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    // The words of a process that opened it on its own.
    let other = Store::open(store.path()).expect("open").queue("q").expect("the queue");
    let (producer, consumer) = (other.producer().build().expect("a producer"), holder(&other));
    let waiter = thread::spawn(move || {
        // Until it is told to stop.
        let error = consumer.receive().map(drop).expect_err("no message comes");
        drop(producer);
        matches!(error, ReceiveError::GroupRemoved | ReceiveError::Removed)
    });
    let removed = queue.remove_group("default", Removal::WaitFor(LONG));
    assert!(waiter.join().expect("the waiter"));
    removed.expect("removed when the last one went");
}

fn is_removed<M>(result: Result<Receipt, PublishError<M>>) -> bool {
    result.is_err_and(|error| matches!(error.failure, PublishFailure::Removed))
}

/// Whether someone is removing the queue: nobody can attach.
fn is_marked(queue: &Queue) -> bool {
    matches!(queue.producer().build(), Err(StoreError::Removed { .. }))
}

#[test]
fn a_removal_in_vain_loses_nothing_whoever_opens_the_queue_meanwhile() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    producer.publish("kept").expect("publish");
    let remover = Store::open(store.path()).expect("open");
    let removal =
        thread::spawn(move || remover.remove_queue("q", Removal::WaitFor(Duration::from_millis(200))));
    wait_until("the mark", || is_marked(&queue));
    assert!(is_removed(producer.try_publish("not now")), "its users are told to stop");
    let other = Store::open(store.path()).expect("open");
    let seen = other.queue("q").expect("it is there until its users have gone");
    assert!(matches!(seen.producer().build(), Err(StoreError::Removed { .. })), "nobody comes in meanwhile");
    other.repair().expect("repair");
    assert!(in_use(removal.join().expect("the remover"), "queue"));
    producer.publish("too").expect("as if nothing had happened");
    let consumer = holder(&Store::open(store.path()).expect("open").queue("q").expect("it is there"));
    assert_eq!(take(&consumer).payload(), b"kept");
    assert_eq!(take(&consumer).payload(), b"too");
}

#[test]
fn a_removal_that_waits_goes_on_when_the_users_have_gone() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    let remover = Store::open(store.path()).expect("open");
    let removal = thread::spawn(move || remover.remove_queue("q", Removal::WaitFor(Duration::MAX)));
    wait_until("the mark", || is_marked(&queue));
    assert!(is_removed(producer.try_publish("not now")), "its users are told to stop");
    drop(producer);
    removal.join().expect("the remover").expect("removed");
    assert!(matches!(store.queue("q"), Err(StoreError::NoSuchQueue { .. })));
}

#[test]
fn a_remover_that_dies_while_it_waits_leaves_the_queue_in_use() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    let mut remover = Agent::start(store.path());
    remover.tell("remove 600000");
    wait_until("the mark", || is_marked(&queue));
    assert!(is_removed(producer.try_publish("not now")), "its users are told to stop");
    remover.kill();
    producer.publish("x").expect("whoever comes by takes the mark back");
    take(&holder(&queue)).ack().expect("ack");
}

#[test]
fn a_refused_removal_is_not_noticed() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let (producer, consumer) = (queue.producer().build().expect("a producer"), holder(&queue));
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let user = thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            producer.publish("x").expect("publish");
            take(&consumer).ack().expect("ack");
        }
    });
    for _ in 0..5000 {
        assert!(in_use(store.remove_queue("q", Removal::IfUnused), "queue"));
        assert!(in_use(queue.remove_group("default", Removal::IfUnused), "group"));
    }
    stop.store(true, Ordering::Relaxed);
    user.join().expect("its user never noticed");
}

#[test]
fn a_group_may_be_waited_for_without_end() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let consumer = holder(&queue);
    let waiter = thread::spawn(move || consumer.receive().map(drop).expect_err("no message comes"));
    queue.remove_group("default", Removal::WaitFor(Duration::MAX)).expect("removed");
    assert!(matches!(waiter.join().expect("the waiter"), ReceiveError::GroupRemoved));
}

#[test]
fn a_group_in_use_is_not_removed() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    queue.add_group("g", GroupOptions::default()).expect("a group");
    let producer = queue.producer().build().expect("a producer");
    producer.publish("x").expect("publish");
    let consumer = queue.consumer("g").lease(Lease::UntilDeath).build().expect("a consumer");
    let delivery = take(&consumer);
    assert!(in_use(queue.remove_group("g", Removal::IfUnused), "group"));
    delivery.ack().expect("it can go on");
    producer.publish("y").expect("publish");
    take(&consumer).ack().expect("and on");
    drop(consumer);
    queue.remove_group("g", Removal::IfUnused).expect("remove");
    assert!(matches!(queue.remove_group("g", Removal::IfUnused), Err(StoreError::NoSuchGroup { .. })));
    assert!(matches!(queue.consumer("g").build(), Err(StoreError::NoSuchGroup { .. })));
}

#[test]
fn a_removed_group_holds_no_slots() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    queue.add_group("slow", GroupOptions::default()).expect("a group");
    let producer = queue.producer().build().expect("a producer");
    let consumer = holder(&queue);
    for _ in 0..1024 {
        producer.publish("x").expect("publish");
        take(&consumer).ack().expect("ack");
    }
    assert!(matches!(producer.publish("y").expect_err("full").failure, PublishFailure::Full { .. }));
    queue.remove_group("slow", Removal::IfUnused).expect("remove");
    for _ in 0..2048 {
        producer.publish("y").expect("its messages held the slots");
        take(&consumer).ack().expect("ack");
    }
}

#[test]
fn a_group_begins_now_or_with_the_oldest() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    for index in 0..10 {
        producer.publish(format!("{index}")).expect("publish");
    }
    queue.add_group("now", GroupOptions::default()).expect("a group");
    let oldest = GroupOptions { start: Start::Oldest, ..GroupOptions::default() };
    queue.add_group("oldest", oldest).expect("a group");
    producer.publish("10").expect("publish");
    let all = |group: &str| {
        let consumer = queue.consumer(group).build().expect("a consumer");
        let mut found = Vec::new();
        while let Some(delivery) = consumer.try_receive().expect("receive") {
            found.push(String::from_utf8_lossy(delivery.payload()).into_owned());
            delivery.ack().expect("ack");
        }
        found
    };
    assert_eq!(all("now"), ["10"]);
    let expected: Vec<String> = (0..=10).map(|index| index.to_string()).collect();
    assert_eq!(all("oldest"), expected);
    assert_eq!(all("default"), expected);
    assert!(matches!(queue.add_group("now", oldest), Err(StoreError::AlreadyExists { what: "group", .. })));
    queue.add_group("fourth", oldest).expect("there is room for four");
    assert!(matches!(queue.add_group("fifth", oldest), Err(StoreError::Exhausted { .. })));
}

#[test]
fn a_store_in_use_is_not_removed() {
    let (_place, store) = store();
    small_queue(&store, "q");
    let path = store.path().to_path_buf();
    drop(store);
    let mut agent = Agent::start(&path);
    assert_eq!(agent.ask("open"), "done");
    assert!(in_use(Store::remove(&path), "store"));
    agent.kill();
    Store::remove(&path).expect("the dead do not use it");
    assert!(!path.exists());
    assert!(matches!(Store::remove(&path), Err(StoreError::NoSuchStore { .. })));
}

#[test]
fn files_that_are_deleted_by_hand_harm_nobody() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    let consumer = holder(&queue);
    std::fs::remove_dir_all(store.path()).expect("rm -r");
    // Whoever has it open can go on; the memory is there until the last one goes.
    producer.publish("x").expect("publish");
    take(&consumer).ack().expect("ack");
    assert!(matches!(Store::open(store.path()), Err(StoreError::NoSuchStore { .. })));
    // There is nothing to repair, and nothing to trip over.
    store.repair().expect("repair");
    assert!(matches!(store.queue("other"), Err(StoreError::NoSuchQueue { .. })));
    drop((producer, consumer, queue));
}

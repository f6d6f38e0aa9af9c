//! Looking at all messages of a queue, whichever group still has them.

use std::time::Duration;

use ringway::{
    Browsed, DeadReason, GroupOptions, Lease, Message, MessageState, Queue, Removal, Store, StoreError,
};

fn queue() -> (tempfile::TempDir, Store, Queue) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = Store::open_or_create(dir.path().join("store")).unwrap();
    let queue = Queue::options().capacity(1024).create(&store, "q").unwrap();
    (dir, store, queue)
}

fn browse(queue: &Queue, groups: &[&str], states: &[MessageState]) -> Vec<Browsed> {
    queue.browse(groups, states).unwrap().map(|message| message.unwrap()).collect()
}

fn payloads(messages: &[Browsed]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8(message.payload.clone()).unwrap()).collect()
}

/// The group and its state, of each group of a message.
fn states(message: &Browsed) -> Vec<(&str, MessageState)> {
    message.groups.iter().map(|standing| (&*standing.group, standing.state)).collect()
}

#[test]
fn it_shows_what_any_group_has_not_settled() {
    let (_dir, _store, queue) = queue();
    queue.add_group("other", GroupOptions::default()).unwrap();
    let producer = queue.producer().build().unwrap();
    for payload in ["settled", "acked by one", "leased", "retrying", "dead", "ready"] {
        producer.publish(payload).unwrap();
    }
    let other = queue.consumer("other").lease(Lease::UntilDeath).build().unwrap();
    other.receive().unwrap().ack().unwrap();
    let consumer = queue.consumer("default").lease(Lease::UntilDeath).build().unwrap();
    consumer.receive().unwrap().ack().unwrap();
    consumer.receive().unwrap().ack().unwrap();
    let held = consumer.receive().unwrap();
    consumer.receive().unwrap().nack_after(Duration::from_secs(600)).unwrap();
    consumer.receive().unwrap().reject("smells").unwrap();

    let all = browse(&queue, &[], &[]);
    assert_eq!(payloads(&all), ["acked by one", "leased", "retrying", "dead", "ready"]);
    assert!(all.windows(2).all(|pair| pair[0].position < pair[1].position));
    let ready = ("other", MessageState::Ready);
    assert_eq!(states(&all[0]), [ready]);
    assert_eq!(states(&all[1]), [("default", MessageState::Leased), ready]);
    assert_eq!(states(&all[4]), [("default", MessageState::Ready), ready]);
    let retrying = &all[2].groups[0];
    assert_eq!((retrying.state, retrying.failures, retrying.attempts), (MessageState::Retrying, 1, 1));
    assert_eq!((retrying.reason, &retrying.description), (None, &None));
    let dead = &all[3].groups[0];
    assert_eq!((dead.state, dead.reason), (MessageState::Dead, Some(DeadReason::Rejected)));
    assert_eq!((dead.attempts, dead.description.as_deref()), (1, Some("smells")));

    // Of some groups, and in some states.
    assert_eq!(payloads(&browse(&queue, &["default"], &[])), ["leased", "retrying", "dead", "ready"]);
    assert_eq!(payloads(&browse(&queue, &["default"], &[MessageState::Ready])), ["ready"]);
    let two = [MessageState::Dead, MessageState::Leased];
    let some = browse(&queue, &[], &two);
    assert_eq!(payloads(&some), ["leased", "dead"]);
    assert_eq!(states(&some[1]), [("default", MessageState::Dead), ready]);

    // And nothing of it was taken.
    held.ack().unwrap();
    assert_eq!(consumer.receive().unwrap().attempt(), 1);
}

#[test]
fn it_shows_whole_messages() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    producer.publish(&bytes).unwrap();
    producer.publish("").unwrap();
    producer.publish(Message::new("x").with_type("t").with_header("k", "v")).unwrap();
    let all = browse(&queue, &[], &[]);
    assert!(all[0].payload == bytes && all[1].payload.is_empty() && all[2].payload == b"x");
    assert_eq!(all[2].headers().message_type(), Some("t"));
    assert_eq!(all[2].headers().get("k"), Some("v"));
    assert!(all.iter().all(|message| !message.damaged));
}

#[test]
fn what_comes_later_is_not_part_of_it_and_what_goes_is_left_out() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    for n in 0..10 {
        producer.publish(n.to_string()).unwrap();
    }
    let mut browse = queue.browse(&[], &[]).unwrap();
    assert_eq!(browse.remaining(), 10);
    assert_eq!(browse.next().unwrap().unwrap().payload, b"0");
    for _ in 0..5 {
        consumer.receive().unwrap().ack().unwrap();
    }
    // One lap on, in the same slots.
    for _ in 0..1024 - 10 {
        producer.publish("later").unwrap();
        consumer.receive().unwrap().ack().unwrap();
    }
    for _ in 0..5 {
        producer.publish("lap").unwrap();
    }
    let rest: Vec<_> = browse.by_ref().map(|message| message.unwrap()).collect();
    // All ten are settled, and what is left came later.
    assert_eq!(payloads(&rest), Vec::<String>::new());
    assert!(browse.next().is_none());
}

#[test]
fn what_is_held_for_laps_is_found() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").lease(Lease::UntilDeath).build().unwrap();
    producer.publish("old").unwrap();
    let held = consumer.receive().unwrap();
    for _ in 0..3 * 1024 {
        producer.publish("passing").unwrap();
        consumer.receive().unwrap().ack().unwrap();
    }
    producer.publish("new").unwrap();
    assert_eq!(payloads(&browse(&queue, &[], &[])), ["old", "new"]);
    held.ack().unwrap();
    assert_eq!(payloads(&browse(&queue, &[], &[])), ["new"]);
}

#[test]
fn it_ends_when_what_it_looks_at_is_removed() {
    let (_dir, store, queue) = queue();
    queue.add_group("other", GroupOptions::default()).unwrap();
    assert!(matches!(queue.browse(&["x"], &[]), Err(StoreError::NoSuchGroup { .. })));
    let producer = queue.producer().build().unwrap();
    producer.publish("a").unwrap();
    producer.publish("b").unwrap();
    drop(producer);
    let mut of_a_group = queue.browse(&["other"], &[]).unwrap();
    assert!(of_a_group.next().unwrap().is_ok());
    queue.remove_group("other", Removal::IfUnused).unwrap();
    // Another one takes its place, and has the same messages.
    queue.add_group("another", GroupOptions { start: ringway::Start::Oldest, ..Default::default() }).unwrap();
    assert!(matches!(of_a_group.next(), Some(Err(StoreError::NoSuchGroup { .. }))));
    assert!(of_a_group.next().is_none());
    let mut of_a_queue = queue.browse(&[], &[]).unwrap();
    store.remove_queue("q", Removal::IfUnused).unwrap();
    assert!(matches!(of_a_queue.next(), Some(Err(StoreError::Removed { .. }))));
    assert!(of_a_queue.next().is_none());
}

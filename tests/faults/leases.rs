//! Leases that are lost or leaked, and limits.

use std::time::Duration;

use ringway::{Consumer, Lease, Message, PublishFailure, Queue, ReceiveError, SettleFailure, StoreError};

use super::agent::Agent;
use super::{LONG, holder, small_queue, store, take, wait_until};

fn publish(queue: &Queue, text: &str) {
    queue.producer().build().expect("a producer").publish(text).expect("publish");
}

fn short(queue: &Queue) -> Consumer {
    queue.consumer("default").lease(Lease::Timed(Duration::from_millis(2))).build().expect("a consumer")
}

/// What can be done with a delivery whose lease is lost.
type Settle = fn(ringway::Delivery<'_>) -> SettleFailure;

#[test]
fn a_lost_lease_settles_nothing() {
    let settles: [(&str, Settle); 7] = [
        ("ack", |delivery| delivery.ack().expect_err("lost").failure),
        ("nack", |delivery| delivery.nack().expect_err("lost").failure),
        ("nack_after", |delivery| delivery.nack_after(Duration::from_secs(9)).expect_err("lost").failure),
        ("release", |delivery| delivery.release().expect_err("lost").failure),
        ("defer", |delivery| delivery.defer(Duration::from_secs(9)).expect_err("lost").failure),
        ("reject", |delivery| delivery.reject("no").expect_err("lost").failure),
        ("extend", |mut delivery| delivery.extend(Duration::from_secs(9)).expect_err("lost")),
    ];
    for (name, settle) in settles {
        let (_place, store) = store();
        let queue = small_queue(&store, "q");
        publish(&queue, "x");
        let (late, other) = (short(&queue), holder(&queue));
        let lost = take(&late);
        let delivery = take(&other);
        assert_eq!((delivery.failures(), delivery.attempt()), (1, 2), "{name}");
        assert!(lost.lost() && !delivery.lost());
        assert_eq!(settle(lost), SettleFailure::LeaseLost, "{name}");
        assert_eq!(late.in_flight(), 0);
        assert!(!delivery.lost(), "{name} touched the other's lease");
        delivery.ack().expect("ack");
        assert!(other.try_receive().expect("receive").is_none(), "{name}");
        assert!(queue.dead("default").expect("dead").is_empty(), "{name}");
        assert_eq!(queue.info().expect("info").groups[0].expired, 1);
    }
}

#[test]
fn a_lost_delivery_comes_back_in_the_error_and_can_be_dropped() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    publish(&queue, "x");
    let (late, other) = (short(&queue), holder(&queue));
    let lost = take(&late);
    let delivery = take(&other);
    let error = lost.ack().expect_err("lost");
    assert_eq!(error.delivery.payload(), b"x");
    drop(error);
    assert!(!delivery.lost(), "dropping it is no nack");
    delivery.ack().expect("ack");
}

#[test]
fn an_extended_lease_is_not_lost() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    publish(&queue, "x");
    let late = short(&queue);
    let mut delivery = None;
    // On a busy machine two milliseconds may be over before the call.
    wait_until("a lease is extended in time", || {
        let mut taken = take(&late);
        let extended = taken.extend(LONG).is_ok();
        delivery = extended.then_some(taken);
        extended
    });
    let delivery = delivery.expect("extended");
    let other = holder(&queue);
    let past = std::time::Instant::now() + Duration::from_millis(30);
    while std::time::Instant::now() < past {
        assert!(other.try_receive().expect("receive").is_none(), "its first time is over, the second is not");
    }
    assert!(delivery.remaining().is_some_and(|left| left > LONG / 2));
    delivery.ack().expect("ack");
}

#[test]
fn leaked_deliveries_are_recovered_at_the_end_of_the_process() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    publish(&queue, "x");
    let mut agent = Agent::start(store.path());
    assert_eq!(agent.ask("open"), "done");
    assert_eq!(agent.ask("consumer shared death"), "done");
    assert_eq!(agent.ask("take"), "x 0");
    assert_eq!(agent.ask("forget"), "done");
    let consumer = holder(&queue);
    store.repair().expect("repair");
    assert!(consumer.try_receive().expect("receive").is_none(), "its holder lives");
    agent.kill();
    let delivery = take(&consumer);
    assert_eq!(delivery.failures(), 1);
    delivery.ack().expect("ack");
}

#[test]
fn leaked_deliveries_are_recovered_when_their_store_is_closed() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    publish(&queue, "x");
    {
        let own = ringway::Store::open(store.path()).expect("open");
        let consumer = holder(&own.queue("q").expect("the queue"));
        std::mem::forget(take(&consumer));
    }
    assert_eq!(take(&holder(&queue)).failures(), 1);
}

#[test]
fn leaked_loans_are_recovered() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    {
        // SAFETY: all processes of this test keep to the protocol.
        let own = unsafe { ringway::Store::options().trust_peers() }.open(store.path()).expect("open");
        let producer = own.queue("q").expect("the queue").producer().build().expect("a producer");
        std::mem::forget(producer.loan(4).expect("a loan"));
    }
    publish(&queue, "x");
    assert_eq!(store.repair().expect("repair").voided, 1);
    assert_eq!(take(&queue.consumer("default").exclusive().build().expect("ordered")).payload(), b"x");
    assert!(queue.verify().expect("verify").violations.is_empty());
}

#[test]
fn messages_over_the_limits_are_refused_and_given_back() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    let limit = queue.max_message();
    let error = producer.publish(vec![1; limit + 1]).expect_err("too large");
    assert!(
        matches!(error.failure, PublishFailure::TooLarge { found, limit: most } if found == limit + 1 && most == limit)
    );
    assert_eq!(error.message.len(), limit + 1);
    producer.publish(vec![1; limit]).expect("just as large as it may be");
    let with_header = Message::new(vec![1; limit]).with_type("t");
    assert!(matches!(
        producer.publish(&with_header).expect_err("too large").failure,
        PublishFailure::TooLarge { .. }
    ));
    let headers = Message::new("x").with_header("name", &"v".repeat(70_000));
    let error = producer.publish(headers.clone()).expect_err("headers too large");
    assert!(matches!(error.failure, PublishFailure::HeadersTooLarge { .. }));
    assert_eq!(error.message, headers);
    let name = Message::new("x").with_header(&"n".repeat(256), "v");
    assert!(matches!(
        producer.publish(name).expect_err("name").failure,
        PublishFailure::BadHeaderName { found: 256 }
    ));
    // Not trusted.
    assert!(matches!(producer.loan(1), Err(PublishFailure::NotTrusted)));
    let consumer = holder(&queue);
    let delivery = take(&consumer);
    assert_eq!(delivery.payload(), vec![1; limit]);
    delivery.ack().expect("ack");
    assert!(consumer.try_receive().expect("receive").is_none(), "nothing of the refused ones is there");
}

#[test]
fn the_limit_of_deliveries_in_flight() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    for text in ["a", "b", "c"] {
        publish(&queue, text);
    }
    let consumer = queue.consumer("default").max_in_flight(2).build().expect("a consumer");
    let (first, second) = (take(&consumer), take(&consumer));
    assert!(matches!(consumer.try_receive(), Err(ReceiveError::InFlightLimit { limit: 2 })));
    assert!(matches!(consumer.receive(), Err(ReceiveError::InFlightLimit { limit: 2 })));
    first.ack().expect("ack");
    assert_eq!(take(&consumer).payload(), b"c");
    second.ack().expect("ack");
    let none = queue.consumer("default").max_in_flight(0).build();
    assert!(matches!(none, Err(StoreError::BadOption { option: "max_in_flight", .. })));
    let lease = queue.consumer("default").lease(Lease::Timed(Duration::ZERO)).build();
    assert!(matches!(lease, Err(StoreError::BadOption { option: "lease", .. })));
}

#[test]
fn a_full_queue_gives_the_message_back() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let producer = queue.producer().build().expect("a producer");
    for _ in 0..1024 {
        producer.publish("x").expect("publish");
    }
    let error = producer.publish("one more").expect_err("full");
    assert!(matches!(error.failure, PublishFailure::Full { capacity: 1024 }));
    assert_eq!(error.message, "one more");
    let error = producer.publish_timeout("one more", Duration::from_millis(5)).expect_err("still full");
    assert!(matches!(error.failure, PublishFailure::Full { .. }));
    take(&holder(&queue)).ack().expect("ack");
    producer.publish("one more").expect("room for one");
}

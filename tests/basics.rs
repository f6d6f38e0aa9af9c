//! One process: what a user does first.

use std::time::Duration;

use ringway::{Message, Queue, Store};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = Store::open_or_create(dir.path().join("store")).unwrap();
    (dir, store)
}

#[test]
fn what_is_published_is_received_once_and_in_order() {
    let (_dir, store) = store();
    let queue = Queue::options().capacity(1024).create(&store, "q").unwrap();
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    for round in 0..10 {
        for n in 0..900_u32 {
            producer.publish(format!("{round}-{n}")).unwrap();
        }
        for n in 0..900_u32 {
            let delivery = consumer.try_receive().unwrap().expect("a message");
            assert_eq!(delivery.payload(), format!("{round}-{n}").as_bytes());
            assert_eq!(delivery.attempt(), 1);
            delivery.ack().unwrap();
        }
        assert!(consumer.try_receive().unwrap().is_none());
    }
}

#[test]
fn headers_and_large_payloads_arrive() {
    let (_dir, store) = store();
    let queue = Queue::options().capacity(1024).create(&store, "q").unwrap();
    let producer = queue.producer().exclusive().build().unwrap();
    let consumer = queue.consumer("default").exclusive().build().unwrap();
    let large: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    producer.publish(Message::new(large.clone()).with_type("photo").with_header("k", "v")).unwrap();
    let delivery = consumer.receive_timeout(Duration::from_secs(1)).unwrap().unwrap();
    assert_eq!(delivery.payload(), large);
    assert_eq!(delivery.headers().message_type(), Some("photo"));
    assert_eq!(delivery.headers().get("k"), Some("v"));
    delivery.ack().unwrap();
}

#[test]
fn a_nacked_message_comes_back() {
    let (_dir, store) = store();
    let queue = Queue::options().capacity(1024).create(&store, "q").unwrap();
    queue.producer().build().unwrap().publish("x").unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    let delivery = consumer.receive().unwrap();
    delivery.nack_after(Duration::from_millis(5)).unwrap();
    assert!(consumer.try_receive().unwrap().is_none());
    let delivery = consumer.receive_timeout(Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!((delivery.attempt(), delivery.failures()), (2, 1));
    delivery.release().unwrap();
    let delivery = consumer.receive_timeout(Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!((delivery.attempt(), delivery.failures()), (3, 1));
    drop(delivery);
    let delivery = consumer.receive_timeout(Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!((delivery.attempt(), delivery.failures()), (4, 2));
    delivery.ack().unwrap();
}

//! Looking into a queue: figures, peeking, dead letters.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway::{
    DeadReason, GroupInfo, GroupOptions, Lease, Message, MessageState, Order, Queue, Removal, Start, Store,
    StoreError,
};

const CAPACITY: u32 = 1024;

fn queue() -> (tempfile::TempDir, Store, Queue) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = Store::open_or_create(dir.path().join("store")).unwrap();
    let queue = Queue::options().capacity(CAPACITY).create(&store, "q").unwrap();
    (dir, store, queue)
}

fn group(queue: &Queue, name: &str) -> GroupInfo {
    queue.groups().unwrap().into_iter().find(|group| group.name == name).unwrap()
}

/// ready, leased, retrying, dead
fn counts(queue: &Queue, name: &str) -> [u64; 4] {
    let info = group(queue, name);
    assert_eq!(info.depth, info.ready + info.retrying);
    [info.ready, info.leased, info.retrying, info.dead]
}

#[test]
fn a_fresh_queue_is_empty() {
    let (_dir, _store, queue) = queue();
    let info = queue.info().unwrap();
    assert_eq!((info.name.as_str(), info.capacity, info.format), ("q", 1024, 1));
    assert_eq!((info.slot_size, info.max_message, info.max_groups), (128, 1 << 20, 8));
    assert_eq!((info.positions, info.occupied, info.unfinished, info.producers), (0, 0, 0, 0));
    assert_eq!(info.exclusive_producer, None);
    assert!(info.allocated_bytes > 1024 * 128, "{}", info.allocated_bytes);
    let [group] = info.groups.as_slice() else { panic!("{:?}", info.groups) };
    assert_eq!((group.name.as_str(), group.start, group.head, group.lag), ("default", 1024, 1024, 0));
    assert_eq!(counts(&queue, "default"), [0; 4]);
    assert!(queue.peek("default", 10).unwrap().is_empty());
    assert!(queue.dead("default").unwrap().is_empty());
}

#[test]
fn each_state_is_counted() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    for n in 0..20_u8 {
        producer.publish(&[n]).unwrap();
    }
    assert_eq!(counts(&queue, "default"), [20, 0, 0, 0]);
    for _ in 0..5 {
        consumer.receive().unwrap().ack().unwrap();
    }
    let held: Vec<_> = (0..4).map(|_| consumer.receive().unwrap()).collect();
    for _ in 0..3 {
        consumer.receive().unwrap().nack_after(Duration::from_secs(600)).unwrap();
    }
    for _ in 0..2 {
        consumer.receive().unwrap().reject("no").unwrap();
    }
    assert_eq!(counts(&queue, "default"), [6, 4, 3, 2]);
    let info = queue.info().unwrap();
    assert_eq!((info.positions, info.occupied, info.unfinished), (20, 15, 0));
    let default = &info.groups[0];
    assert_eq!((default.head, default.lag, default.consumers), (1024 + 14, 6, 1));
    assert_eq!((info.producers, default.exclusive_consumer.as_deref()), (1, None));
    for delivery in held {
        delivery.ack().unwrap();
    }
    drop((producer, consumer));
    assert_eq!(counts(&queue, "default"), [6, 0, 3, 2]);
    let info = queue.info().unwrap();
    assert_eq!((info.producers, info.groups[0].consumers), (0, 0));
}

#[test]
fn held_slots_are_counted_once_while_the_ring_goes_round_them() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    for n in 0..3_u8 {
        producer.publish(&[n]).unwrap();
    }
    let first = consumer.receive().unwrap();
    consumer.receive().unwrap().nack_after(Duration::from_secs(600)).unwrap();
    consumer.receive().unwrap().reject("no").unwrap();
    for n in 0..5 * CAPACITY {
        producer.publish(n.to_string()).unwrap();
        consumer.receive().unwrap().ack().unwrap();
    }
    assert_eq!(counts(&queue, "default"), [0, 1, 1, 1]);
    let info = queue.info().unwrap();
    assert_eq!((info.occupied, info.unfinished, info.groups[0].lag), (3, 0, 0));
    assert!(info.positions > u64::from(5 * CAPACITY), "skips are positions too: {}", info.positions);
    let states: Vec<_> =
        queue.peek("default", 10).unwrap().into_iter().map(|m| (m.position, m.state, m.payload)).collect();
    let expected = [MessageState::Leased, MessageState::Retrying, MessageState::Dead];
    let expected: Vec<_> =
        expected.into_iter().enumerate().map(|(n, state)| (1024 + n as u64, state, vec![n as u8])).collect();
    assert_eq!(states, expected);
    // A skipped slot that comes free is used again, and counted like any other.
    first.ack().unwrap();
    while let Ok(_receipt) = producer.try_publish("x") {}
    assert_eq!(counts(&queue, "default"), [u64::from(CAPACITY) - 2, 0, 1, 1]);
    assert_eq!(queue.info().unwrap().occupied, u64::from(CAPACITY));
}

#[test]
fn groups_with_other_starts_count_their_own() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    for n in 0..10_u8 {
        producer.publish(&[n]).unwrap();
    }
    queue.add_group("now", GroupOptions::default()).unwrap();
    let oldest = GroupOptions { start: Start::Oldest, ..GroupOptions::default() };
    queue.add_group("oldest", oldest).unwrap();
    for n in 10..13_u8 {
        producer.publish(&[n]).unwrap();
    }
    assert_eq!(group(&queue, "now").start, 1024 + 10);
    assert_eq!(group(&queue, "oldest").start, 1024);
    assert_eq!(counts(&queue, "now"), [3, 0, 0, 0]);
    assert_eq!(counts(&queue, "oldest"), [13, 0, 0, 0]);
    let consumer = queue.consumer("default").build().unwrap();
    for _ in 0..13 {
        consumer.receive().unwrap().ack().unwrap();
    }
    assert_eq!(counts(&queue, "default"), [0; 4]);
    assert_eq!(queue.info().unwrap().occupied, 13);
    queue.remove_group("oldest", Removal::IfUnused).unwrap();
    assert_eq!(queue.info().unwrap().occupied, 3);
    let payloads: Vec<_> = queue.peek("now", 10).unwrap().into_iter().map(|m| m.payload).collect();
    assert_eq!(payloads, [[10], [11], [12]]);
}

#[test]
fn exclusive_holders_are_named() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().exclusive().build().unwrap();
    let consumer = queue.consumer("default").exclusive().build().unwrap();
    let info = queue.info().unwrap();
    let me = info.exclusive_producer.unwrap();
    assert!(me.starts_with(&format!("{} ", std::process::id())), "{me}");
    assert_eq!(info.groups[0].exclusive_consumer.as_deref(), Some(me.as_str()));
    drop((producer, consumer));
    let info = queue.info().unwrap();
    assert_eq!((&info.exclusive_producer, &info.groups[0].exclusive_consumer), (&None, &None));
}

#[test]
fn peeking_leaves_no_trace() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let large = vec![7; 100_000];
    producer.publish(Message::new("a").with_type("t").with_header("k", "v")).unwrap();
    producer.publish(large.clone()).unwrap();
    producer.publish("").unwrap();
    let before = format!("{:?}", queue.info().unwrap());
    for limit in [0, 1, 2, 3, 100] {
        assert_eq!(queue.peek("default", limit).unwrap().len(), limit.min(3));
    }
    let peeked = queue.peek("default", 3).unwrap();
    assert_eq!(peeked[0].payload, b"a");
    assert_eq!(peeked[0].headers().message_type(), Some("t"));
    assert_eq!(peeked[0].headers().get("k"), Some("v"));
    assert_eq!((peeked[0].position, peeked[0].state, peeked[0].failures), (1024, MessageState::Ready, 0));
    assert_eq!(peeked[1].payload, large);
    assert!(peeked[2].payload.is_empty() && peeked[2].headers().is_empty());
    assert_eq!(format!("{:?}", queue.info().unwrap()), before);
    let consumer = queue.consumer("default").build().unwrap();
    let delivery = consumer.receive().unwrap();
    assert_eq!((delivery.attempt(), delivery.failures()), (1, 0));
    assert_eq!(queue.peek("default", 1).unwrap()[0].state, MessageState::Leased);
    delivery.nack_after(Duration::ZERO).unwrap();
    let peeked = &queue.peek("default", 1).unwrap()[0];
    assert_eq!((peeked.state, peeked.failures), (MessageState::Retrying, 1));
    // In a relaxed group a fresh message may come first.
    let mut deliveries: Vec<_> = (0..3).map(|_| consumer.receive().unwrap()).collect();
    deliveries.sort_by_key(|delivery| delivery.position());
    let counted: Vec<_> = deliveries.iter().map(|d| (d.attempt(), d.failures())).collect();
    assert_eq!(counted, [(2, 1), (1, 0), (1, 0)]);
}

#[test]
fn a_dead_letter_gets_another_chance() {
    let (_dir, _store, queue) = queue();
    let options = GroupOptions { max_deliveries: 2, ..GroupOptions::default() };
    queue.add_group("g", options).unwrap();
    let position = queue.producer().build().unwrap().publish("x").unwrap().position;
    let consumer = queue.consumer("g").build().unwrap();
    for attempt in 1..=2 {
        let delivery = consumer.receive().unwrap();
        assert_eq!(delivery.attempt(), attempt);
        delivery.nack_after(Duration::ZERO).unwrap();
    }
    assert!(consumer.try_receive().unwrap().is_none());
    let dead = queue.dead("g").unwrap();
    let [letter] = dead.as_slice() else { panic!("{dead:?}") };
    assert_eq!((letter.reason, &letter.description), (DeadReason::MaxDeliveries, &None));
    assert_eq!((letter.attempts, letter.message.failures, letter.message.position), (2, 2, position));
    assert_eq!((letter.message.state, letter.message.payload.as_slice()), (MessageState::Dead, &b"x"[..]));
    for wrong in [0, position + 1, position + u64::from(CAPACITY), u64::MAX] {
        assert!(!queue.retry_dead("g", wrong).unwrap());
        assert!(!queue.purge_dead("g", wrong).unwrap());
    }
    assert!(!queue.retry_dead("default", position).unwrap());
    assert!(queue.retry_dead("g", position).unwrap());
    assert!(!queue.retry_dead("g", position).unwrap(), "it is dead no more");
    assert_eq!(counts(&queue, "g"), [0, 0, 1, 0]);
    let delivery = consumer.receive().unwrap();
    assert_eq!((delivery.attempt(), delivery.failures()), (3, 0));
    delivery.ack().unwrap();
    assert!(queue.dead("g").unwrap().is_empty());
}

#[test]
fn a_retry_wakes_a_sleeping_consumer() {
    let (_dir, _store, queue) = queue();
    let position = queue.producer().build().unwrap().publish("x").unwrap().position;
    queue.consumer("default").build().unwrap().receive().unwrap().reject("no").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let consumer = queue.consumer("default").wait(ringway::Wait::Park).build().unwrap();
            consumer.receive().unwrap().ack().unwrap();
        });
        while group(&queue, "default").consumers == 0 {
            std::thread::yield_now();
        }
        assert!(queue.retry_dead("default", position).unwrap());
        waiting.join().unwrap();
    });
    assert_eq!(counts(&queue, "default"), [0; 4]);
}

#[test]
fn a_purged_dead_letter_frees_its_slot() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    for _ in 0..CAPACITY {
        producer.publish("x").unwrap();
        consumer.receive().unwrap().reject("no").unwrap();
    }
    assert!(producer.try_publish("y").is_err());
    let dead = queue.dead("default").unwrap();
    assert_eq!(dead.len(), CAPACITY as usize);
    let position = dead[100].message.position;
    assert!(queue.purge_dead("default", position).unwrap());
    assert!(!queue.purge_dead("default", position).unwrap());
    assert_eq!(counts(&queue, "default"), [0, 0, 0, u64::from(CAPACITY) - 1]);
    producer.publish("y").unwrap();
    assert_eq!(consumer.receive().unwrap().payload(), b"y");
}

#[test]
fn a_rejection_says_why() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    // 239 bytes, then a character of two.
    let long = format!("{}é and more", "x".repeat(239));
    let reasons = ["no such restaurant", "", &long, "zweite Zeile\n\u{1F355}"];
    for reason in reasons {
        producer.publish("order").unwrap();
        consumer.receive().unwrap().reject(reason).unwrap();
    }
    let dead = queue.dead("default").unwrap();
    let found: Vec<_> = dead.iter().map(|letter| letter.description.as_deref().unwrap()).collect();
    assert_eq!(found, [reasons[0], "", &long[..239], reasons[3]]);
    assert!(dead.iter().all(|letter| letter.reason == DeadReason::Rejected && letter.attempts == 1));
    // A second rejection of the same message replaces what the first one said.
    let position = dead[0].message.position;
    assert!(queue.retry_dead("default", position).unwrap());
    consumer.receive().unwrap().reject("closed").unwrap();
    assert_eq!(queue.dead("default").unwrap()[0].description.as_deref(), Some("closed"));
}

#[test]
fn the_last_64_reasons_are_kept() {
    let (_dir, _store, queue) = queue();
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    for n in 0..100 {
        producer.publish("order").unwrap();
        consumer.receive().unwrap().reject(&format!("reason {n}")).unwrap();
    }
    let dead = queue.dead("default").unwrap();
    for (n, letter) in dead.iter().enumerate() {
        let expected = (n >= 36).then(|| format!("reason {n}"));
        assert_eq!(letter.description, expected, "{n}");
    }
}

#[test]
fn a_lost_lease_is_counted() {
    let (_dir, store, queue) = queue();
    queue.producer().build().unwrap().publish("x").unwrap();
    let consumer = queue.consumer("default").lease(Lease::Timed(Duration::from_millis(1))).build().unwrap();
    let delivery = consumer.receive().unwrap();
    while store.repair().unwrap().expired == 0 {
        std::thread::yield_now();
    }
    assert!(delivery.ack().is_err());
    let info = group(&queue, "default");
    assert_eq!((info.expired, info.stale_settles), (1, 1));
}

#[test]
fn what_is_not_there_is_said() {
    let (_dir, store, queue) = queue();
    assert!(matches!(queue.peek("g", 1), Err(StoreError::NoSuchGroup { .. })));
    assert!(matches!(queue.dead("g"), Err(StoreError::NoSuchGroup { .. })));
    assert!(matches!(queue.retry_dead("g", 1024), Err(StoreError::NoSuchGroup { .. })));
    assert!(matches!(queue.purge_dead("g", 1024), Err(StoreError::NoSuchGroup { .. })));
    store.remove_queue("q", Removal::IfUnused).unwrap();
    assert!(matches!(queue.info(), Err(StoreError::Removed { .. })));
    assert!(matches!(queue.groups(), Err(StoreError::Removed { .. })));
    assert!(matches!(queue.peek("default", 1), Err(StoreError::Removed { .. })));
    assert!(matches!(queue.dead("default"), Err(StoreError::Removed { .. })));
}

#[track_caller]
fn assert_clean(queue: &Queue) {
    let report = queue.verify().unwrap();
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert!(report.checked > 6 * u64::from(CAPACITY), "{}", report.checked);
}

#[test]
fn what_was_used_as_intended_is_clean() {
    let (_dir, _store, queue) = queue();
    assert_clean(&queue);
    let producer = queue.producer().build().unwrap();
    let consumer = queue.consumer("default").build().unwrap();
    assert_clean(&queue);
    for n in 0..5_u32 {
        producer.publish(Message::new(n.to_string()).with_type("t").with_header("k", "v")).unwrap();
    }
    let first = consumer.receive().unwrap();
    consumer.receive().unwrap().nack_after(Duration::from_secs(600)).unwrap();
    consumer.receive().unwrap().defer(Duration::from_secs(365 * 24 * 60 * 60)).unwrap();
    consumer.receive().unwrap().reject("no").unwrap();
    let _last = consumer.receive().unwrap();
    assert_clean(&queue);
    // Several laps around held slots, with messages of all lengths, groups of other ages, and what comes with
    // them.
    for round in 0..4 {
        let name = format!("g{round}");
        let start = if round % 2 == 0 { Start::Now } else { Start::Oldest };
        let order = if round < 2 { Order::Ordered } else { Order::Relaxed };
        queue.add_group(&name, GroupOptions { start, order, ..GroupOptions::default() }).unwrap();
        assert_clean(&queue);
        let other = queue.consumer(&name).build().unwrap();
        for n in 0..CAPACITY + 100 {
            // The oldest messages of a full ring are all that there is room for.
            while let Some(delivery) = other.try_receive().unwrap() {
                delivery.ack().unwrap();
            }
            producer.publish(vec![n as u8; (n % 50 * 200) as usize]).unwrap();
            consumer.receive().unwrap().ack().unwrap();
        }
        assert_clean(&queue);
        drop(other);
        while producer.try_publish("fill").is_ok() {}
        assert_clean(&queue);
        // Half of the groups go with messages that nobody received.
        if round % 2 == 0 {
            let alone = queue.consumer(&name).exclusive().build().unwrap();
            while let Some(delivery) = alone.try_receive().unwrap() {
                delivery.ack().unwrap();
            }
            assert_clean(&queue);
        }
        queue.remove_group(&name, Removal::IfUnused).unwrap();
        while let Some(delivery) = consumer.try_receive().unwrap() {
            delivery.ack().unwrap();
        }
        assert_clean(&queue);
    }
    first.ack().unwrap();
    assert_clean(&queue);
}

#[test]
fn a_running_queue_is_clean() {
    let (_dir, store, queue) = queue();
    queue.add_group("other", GroupOptions { max_deliveries: 0, ..GroupOptions::default() }).unwrap();
    let end = AtomicBool::new(false);
    let running = || !end.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let producer = queue.producer().build().unwrap();
                for n in 0_u32.. {
                    let _ = producer.publish(vec![1; (n % 7 * 100) as usize]);
                    if !running() {
                        break;
                    }
                }
            });
        }
        for name in ["default", "default", "other"] {
            let (queue, running) = (&queue, &running);
            scope.spawn(move || {
                let lease = Lease::Timed(Duration::from_millis(2));
                let consumer = queue.consumer(name).lease(lease).build().unwrap();
                for n in 0_u32.. {
                    if !running() {
                        break;
                    }
                    let Some(delivery) = consumer.receive_timeout(Duration::from_millis(1)).unwrap() else {
                        continue;
                    };
                    let _ = match n % 100 {
                        0 => delivery.nack(),
                        1 => delivery.release(),
                        2 => delivery.nack_after(Duration::from_millis(1)),
                        _ => delivery.ack(),
                    };
                }
            });
        }
        // Whatever the reports say, the threads must come to their end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..20 {
                assert_clean(&queue);
                let info = queue.info().unwrap();
                assert!(info.occupied <= info.capacity && info.unfinished <= info.capacity, "{info:?}");
                assert_eq!((info.producers <= 2, info.groups.len()), (true, 2));
                let (peeked, _) = (queue.peek("other", 50).unwrap(), queue.dead("default").unwrap());
                for message in peeked {
                    assert!(message.payload.iter().all(|&byte| byte == 1), "{round}: {message:?}");
                }
                queue.add_group("brief", GroupOptions::default()).unwrap();
                assert_clean(&queue);
                queue.remove_group("brief", Removal::IfUnused).unwrap();
            }
        }));
        end.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    store.repair().unwrap();
    assert_clean(&queue);
}

/// Where the process of the next test finds its store; empty in the test itself.
const STORE: &str = "RINGWAY_INSPECT_TEST_STORE";

/// What the process that gets killed does. As a test of its own it does nothing.
#[test]
fn the_process_that_gets_killed() {
    let Ok(path) = std::env::var(STORE) else { return };
    // SAFETY: the other process that has this store open uses this library.
    let options = unsafe { Store::options().trust_peers() };
    let queue = options.open(path).unwrap().queue("q").unwrap();
    let producer = queue.producer().exclusive().build().unwrap();
    let shared = queue.consumer("default").build().unwrap();
    let alone = queue.consumer("alone").exclusive().build().unwrap();
    let _held = [shared.receive().unwrap(), shared.receive().unwrap(), alone.receive().unwrap()];
    let _loan = producer.loan(10).unwrap();
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn kill_one_in_the_middle(store: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_gets_killed", "--nocapture"])
        .env(STORE, store)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.ends_with("ready"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready, "the process came to the point of its death");
}

#[test]
fn what_the_dead_left_is_named_until_it_is_repaired() {
    let (_dir, store, queue) = queue();
    queue.add_group("alone", GroupOptions::default()).unwrap();
    {
        let producer = queue.producer().build().unwrap();
        for n in 0..5_u8 {
            producer.publish(&[n]).unwrap();
        }
    }
    kill_one_in_the_middle(store.path());
    let report = queue.verify().unwrap();
    let places: Vec<_> = report.violations.iter().map(|violation| violation.place.as_str()).collect();
    let expected = [
        "producer role",
        "record 0 of producers and consumers",
        "record 1 of producers and consumers",
        "record 2 of producers and consumers",
        "group alone: consumer role",
        "seq word of slot 5",
        "group default: lease word of slot 0",
        "group default: lease word of slot 1",
        "group alone: lease word of slot 0",
    ];
    assert_eq!(places, expected);
    for violation in &report.violations {
        assert!(violation.what.contains("dead process") && violation.what.contains("`ringway repair`"));
    }
    let info = queue.info().unwrap();
    assert_eq!((info.producers, info.unfinished, &info.exclusive_producer), (0, 1, &None));
    assert_eq!(counts(&queue, "default"), [3, 2, 0, 0]);
    let alone = group(&queue, "alone");
    assert_eq!((alone.consumers, alone.exclusive_consumer, alone.head), (0, None, 1024 + 1));
    let repaired = store.repair().unwrap();
    assert_eq!((repaired.recovered, repaired.voided, repaired.returned, repaired.freed), (1, 1, 3, 3));
    assert_clean(&queue);
    assert_eq!(counts(&queue, "default"), [3, 0, 2, 0]);
    assert_eq!(queue.info().unwrap().unfinished, 0);
    assert_eq!(group(&queue, "default").recovered, 2);
}

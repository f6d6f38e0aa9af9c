//! What a power cut leaves.

use std::time::Duration;

use ringway::{
    Backoff, DeadReason, GroupOptions, Lease, Level, Message, MessageState, Order, Queue, Removal, Start,
    Store, StoreError,
};

use crate::{Scene, left, small};

#[test]
fn what_was_confirmed_is_there_at_its_position() {
    let scene = Scene::new();
    let mut positions = Vec::new();
    {
        let store = scene.store();
        let queue = small().create(&store, "orders").unwrap();
        let producer = queue.producer().build().unwrap();
        for n in 0..100 {
            let message =
                Message::new(format!("order {n}")).with_type("order").with_header("n", &n.to_string());
            positions.push(producer.publish_confirmed(message).unwrap().position);
        }
        producer.publish(vec![7; 10_000]).unwrap().durable().unwrap();
    }
    scene.cut();
    let store = scene.reopen();
    let queue = store.queue("orders").unwrap();
    let worker = queue.consumer("default").build().unwrap();
    for (n, position) in positions.into_iter().enumerate() {
        let delivery = worker.try_receive().unwrap().expect("a message");
        assert_eq!(delivery.payload(), format!("order {n}").as_bytes());
        assert_eq!((delivery.position(), delivery.attempt()), (position, 1));
        assert_eq!(delivery.headers().message_type(), Some("order"));
        assert_eq!(delivery.headers().get("n"), Some(n.to_string().as_str()));
        delivery.ack().unwrap();
    }
    let long = worker.try_receive().unwrap().expect("the long one");
    assert_eq!(long.payload(), vec![7; 10_000]);
    long.ack().unwrap();
    assert!(worker.try_receive().unwrap().is_none());
}

#[test]
fn acks_failures_and_dead_letters_outlive_it() {
    let scene = Scene::new();
    {
        let store = scene.store();
        let backoff = Backoff { base: Duration::from_millis(1), ..Backoff::default() };
        let options = GroupOptions { max_deliveries: 3, backoff, ..GroupOptions::default() };
        let queue = small().default_group(options).create(&store, "q").unwrap();
        queue.add_group("audit", GroupOptions { start: Start::Oldest, ..GroupOptions::default() }).unwrap();
        let producer = queue.producer().build().unwrap();
        for n in 0..6 {
            producer.publish(n.to_string()).unwrap().durable().unwrap();
        }
        let worker = queue.consumer("default").lease(Lease::UntilDeath).build().unwrap();
        let next = || worker.receive_timeout(Duration::from_secs(5)).unwrap().expect("a message");
        let (first, second, third, fourth) = (next(), next(), next(), next());
        assert_eq!(fourth.payload(), b"3");
        second.nack_after(Duration::from_secs(3600)).unwrap();
        third.reject("not to be read").unwrap();
        fourth.ack_durable().unwrap();
        first.ack_durable().unwrap();
        // 4 is held when the power goes, 5 was never handed out.
        std::mem::forget(next());
    }
    scene.cut();
    let store = scene.reopen();
    let queue = store.queue("q").unwrap();
    let states: Vec<_> =
        queue.peek("default", 9).unwrap().iter().map(|m| (m.payload.clone(), m.state, m.failures)).collect();
    let expected = [
        (b"1".to_vec(), MessageState::Retrying, 1),
        (b"2".to_vec(), MessageState::Dead, 0),
        (b"4".to_vec(), MessageState::Ready, 0),
        (b"5".to_vec(), MessageState::Ready, 0),
    ];
    assert_eq!(states, expected);
    assert_eq!(left(&queue, "audit"), ["0", "1", "2", "3", "4", "5"]);
    let dead = queue.dead("default").unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].reason, dead[0].description.as_deref()),
        (DeadReason::Rejected, Some("not to be read"))
    );
    let worker = queue.consumer("default").build().unwrap();
    let again = worker.receive_timeout(Duration::from_secs(5)).unwrap().expect("the failed one, at once");
    assert_eq!((again.payload(), again.failures()), (&b"1"[..], 1));
    again.ack().unwrap();
}

#[test]
fn a_queue_goes_round_many_times_around_what_is_never_settled() {
    let scene = Scene::new();
    let rounds = 40_u32;
    {
        let store = scene.store_with(|options| options.segment_len = 64 << 10);
        let queue = small().max_message(1024).create(&store, "q").unwrap();
        queue.add_group("slow", GroupOptions::default()).unwrap();
        let producer = queue.producer().build().unwrap();
        producer.publish("never settled").unwrap();
        let fast = queue.consumer("default").build().unwrap();
        let slow = queue.consumer("slow").lease(Lease::UntilDeath).build().unwrap();
        let next = |worker: &ringway::Consumer| {
            worker.receive_timeout(Duration::from_secs(9)).unwrap().is_some_and(|d| d.ack().is_ok())
        };
        std::mem::forget(slow.receive().unwrap());
        assert!(next(&fast));
        for round in 0..rounds {
            for n in 0..500_u32 {
                producer
                    .publish(format!("{round}-{n}"))
                    .unwrap_or_else(|e| panic!("{round} {n} {e} {:#?}", queue.info()));
            }
            for _ in 0..500 {
                assert!(next(&fast) && next(&slow));
            }
        }
        producer.publish("the last").unwrap().durable().unwrap();
    }
    let bytes: u64 =
        std::fs::read_dir(&scene.dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 8 * (64 << 10), "the journal has {bytes} bytes");
    scene.cut();
    let store = scene.reopen();
    let queue = store.queue("q").unwrap();
    assert_eq!(left(&queue, "slow"), ["never settled", "the last"]);
    assert_eq!(left(&queue, "default"), ["the last"]);
    let slow = queue.consumer("slow").build().unwrap();
    for expected in ["never settled", "the last"] {
        let delivery = slow.receive_timeout(Duration::from_secs(5)).unwrap().expect("a message");
        assert_eq!(delivery.payload(), expected.as_bytes());
        delivery.ack().unwrap();
    }
    // And it goes on.
    let producer = queue.producer().build().unwrap();
    for n in 0..2000_u32 {
        producer.publish(n.to_string()).unwrap();
        for group in ["default", "slow"] {
            let worker = queue.consumer(group).build().unwrap();
            if n == 0 && group == "default" {
                worker.receive().unwrap().ack().unwrap();
            }
            let delivery = worker.receive_timeout(Duration::from_secs(5)).unwrap().expect("a message");
            assert_eq!(delivery.payload(), n.to_string().as_bytes());
            delivery.ack().unwrap();
        }
    }
}

#[test]
fn groups_and_queues_come_and_go_with_it() {
    let scene = Scene::new();
    {
        let store = scene.store();
        let queue = small().create(&store, "q").unwrap();
        let ordered = GroupOptions { order: Order::Ordered, max_deliveries: 7, ..GroupOptions::default() };
        queue.add_group("a", ordered).unwrap();
        queue.add_group("b", GroupOptions::default()).unwrap();
        queue.producer().build().unwrap().publish("one").unwrap().durable().unwrap();
        queue.remove_group("b", Removal::IfUnused).unwrap();
        queue.add_group("c", GroupOptions::default()).unwrap();
        let gone = small().create(&store, "gone").unwrap();
        gone.producer().build().unwrap().publish("x").unwrap().durable().unwrap();
        drop(gone);
        store.remove_queue("gone", Removal::IfUnused).unwrap();
        small().create(&store, "empty").unwrap();
    }
    scene.cut();
    let store = scene.reopen();
    assert_eq!(store.queues().unwrap(), ["empty", "q"]);
    let queue = store.queue("q").unwrap();
    let groups = queue.groups().unwrap();
    let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["default", "a", "c"]);
    assert_eq!((groups[1].options.order, groups[1].options.max_deliveries), (Order::Ordered, 7));
    assert_eq!((left(&queue, "a"), left(&queue, "c").len()), (vec!["one".to_owned()], 0));
}

#[test]
fn it_happens_again_and_again() {
    let scene = Scene::new();
    let mut expected = Vec::new();
    for round in 0..5_u32 {
        {
            let store = if round == 0 { scene.store() } else { scene.reopen() };
            let queue = small().open_or_create(&store, "q").unwrap();
            let producer = queue.producer().build().unwrap();
            for n in 0..30 {
                producer.publish(format!("{round}-{n}")).unwrap();
                expected.push(format!("{round}-{n}"));
            }
            producer.flush().unwrap();
            let worker = queue.consumer("default").build().unwrap();
            for _ in 0..20 {
                let delivery = worker.receive_timeout(Duration::from_secs(5)).unwrap().expect("a message");
                assert_eq!(delivery.payload(), expected.remove(0).as_bytes());
                delivery.ack_durable().unwrap();
            }
        }
        scene.cut();
    }
    assert_eq!(left(&scene.reopen().queue("q").unwrap(), "default"), expected);
}

#[test]
fn the_other_levels_confirm_as_well() {
    for level in [Level::Os, Level::SyncEveryMessages(10), Level::SyncEveryTime(Duration::from_millis(5))] {
        let scene = Scene::new();
        {
            let store = scene.store_with(|options| options.level = level);
            let queue = small().create(&store, "q").unwrap();
            let producer = queue.producer().build().unwrap();
            for n in 0..25 {
                producer.publish(n.to_string()).unwrap();
            }
            producer.flush().unwrap();
            producer.publish_confirmed("last").unwrap();
        }
        scene.cut();
        let store = scene.reopen();
        assert_eq!(left(&store.queue("q").unwrap(), "default").len(), 26, "{level:?}");
    }
}

#[test]
fn a_store_is_removed_with_its_journal() {
    let scene = Scene::new();
    drop(small().create(&scene.store(), "q").unwrap());
    Store::remove(&scene.dir).unwrap();
    assert!(!scene.dir.exists() && !scene.rings.exists());
    assert!(matches!(Store::open(&scene.dir), Err(StoreError::NoSuchStore { .. })));
}

#[test]
fn bad_options_are_refused() {
    let scene = Scene::new();
    let bad = |change: fn(&mut ringway::DurableOptions)| {
        let options = Store::options().durable(&scene.dir).durable_options(change);
        matches!(options.create(&scene.rings), Err(StoreError::BadOption { .. }))
    };
    assert!(bad(|options| options.segment_len = 100));
    assert!(bad(|options| options.level = Level::SyncEveryMessages(0)));
    assert!(bad(|options| options.level = Level::SyncEveryTime(Duration::ZERO)));
    let store = scene.store_with(|options| options.segment_len = 64 << 10);
    let long = Queue::options().max_message(64 << 10).create(&store, "q");
    assert!(matches!(long, Err(StoreError::BadOption { option: "max_message", .. })));
    let queue = small().create(&store, "q").unwrap();
    assert!(matches!(queue.add_group("journal", GroupOptions::default()), Err(StoreError::BadName { .. })));
    assert!(matches!(queue.consumer("journal").build(), Err(StoreError::BadName { .. })));
    assert!(matches!(
        Store::options().durable(&scene.dir).create(&scene.rings),
        Err(StoreError::AlreadyExists { .. })
    ));
}

#[test]
fn what_was_published_late_is_not_left_out() {
    let scene = Scene::new();
    let expected = ["one", "late", "two", "three"];
    {
        drop(scene.store());
        // SAFETY: nobody else uses this store.
        let store = unsafe { Store::options().trust_peers() }.open(&scene.dir).unwrap();
        let queue = small().create(&store, "q").unwrap();
        let (slow, fast) = (queue.producer().build().unwrap(), queue.producer().build().unwrap());
        fast.publish_confirmed("one").unwrap();
        let mut loan = slow.loan(4).unwrap();
        // The journal goes on without it, as it does when a producer is paused in the middle of a publish.
        fast.publish_confirmed("two").unwrap();
        fast.publish("three").unwrap();
        fast.flush().unwrap();
        loan.copy_from_slice(b"late");
        let receipt = loan.publish().unwrap();
        slow.flush().unwrap();
        receipt.durable_timeout(Duration::ZERO).unwrap();
    }
    scene.cut();
    assert_eq!(left(&scene.reopen().queue("q").unwrap(), "default"), expected);
}

#[test]
fn a_store_made_anew_has_no_violations() {
    let scene = Scene::new();
    {
        let store = scene.store();
        let queue = small().create(&store, "q").unwrap();
        let producer = queue.producer().build().unwrap();
        let worker = queue.consumer("default").lease(Lease::UntilDeath).build().unwrap();
        for n in 0..3000_u32 {
            producer.publish_confirmed(n.to_string()).unwrap();
            let delivery = worker.receive_timeout(Duration::from_secs(5)).unwrap().expect("a message");
            match n % 100 {
                7 => delivery.reject("no").unwrap(),
                8 => delivery.nack_after(Duration::from_secs(3600)).unwrap(),
                9 => std::mem::forget(delivery),
                _ => delivery.ack().unwrap(),
            }
        }
    }
    scene.cut();
    let store = scene.reopen();
    let report = store.queue("q").unwrap().verify().unwrap();
    assert!(report.violations.is_empty(), "{:?}", report.violations);
}

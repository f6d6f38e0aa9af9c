//! Confirms: how they are waited for, and that consumers wait for them too.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use ringway::{DurableError, Lease, Store, StoreError};

use crate::{Scene, left, small};

/// Keeps everybody from leading, as a leader does that is paused.
fn hold_the_lead(scene: &Scene) -> File {
    let file = File::options().read(true).write(true).open(scene.rings.join("control")).unwrap();
    let lock = libc_flock(1 << 61);
    while fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).is_err() {
        thread::yield_now();
    }
    file
}

fn libc_flock(byte: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

#[test]
fn nobody_gets_a_message_before_it_is_durable() {
    let scene = Scene::new();
    let store = scene.store();
    let queue = small().create(&store, "q").unwrap();
    let producer = queue.producer().build().unwrap();
    let worker = queue.consumer("default").build().unwrap();
    let lead = hold_the_lead(&scene);
    let receipt = producer.publish("x").unwrap();
    assert!(matches!(receipt.durable_timeout(Duration::from_millis(30)), Err(DurableError::Timeout)));
    assert!(worker.try_receive().unwrap().is_none());
    drop(lead);
    // Its writer writes it, and wakes the consumer.
    let delivery = worker.receive_timeout(Duration::from_secs(9)).unwrap().expect("the message");
    assert_eq!(delivery.payload(), b"x");
    receipt.durable_timeout(Duration::ZERO).unwrap();
}

#[test]
fn early_delivery_is_for_those_who_ask() {
    let scene = Scene::new();
    let store = scene.store_with(|options| options.deliver_early = true);
    let queue = small().create(&store, "q").unwrap();
    let producer = queue.producer().build().unwrap();
    let worker = queue.consumer("default").build().unwrap();
    let _lead = hold_the_lead(&scene);
    producer.publish("x").unwrap();
    assert_eq!(worker.try_receive().unwrap().expect("the message").payload(), b"x");
}

#[test]
fn an_early_delivery_can_be_acked_for_good() {
    let scene = Scene::new();
    {
        let store = scene.store_with(|options| options.deliver_early = true);
        let queue = small().create(&store, "q").unwrap();
        let producer = queue.producer().build().unwrap();
        let worker = queue.consumer("default").lease(Lease::UntilDeath).build().unwrap();
        let lead = hold_the_lead(&scene);
        producer.publish("held").unwrap();
        producer.publish("acked").unwrap();
        std::mem::forget(worker.try_receive().unwrap().expect("the first one"));
        let acked = worker.try_receive().unwrap().expect("the second one");
        // Neither message is in the journal when the ack comes to it.
        thread::scope(|scope| {
            scope.spawn(|| {
                while queue.info().unwrap().groups[0].leased > 1 {
                    thread::yield_now();
                }
                drop(lead);
            });
            acked.ack_durable().unwrap();
        });
        producer.flush().unwrap();
    }
    scene.cut();
    assert_eq!(left(&scene.reopen().queue("q").unwrap(), "default"), ["held"]);
}

#[test]
fn callbacks_come_in_order_and_for_all() {
    let scene = Scene::new();
    let store = scene.store();
    let queue = small().create(&store, "q").unwrap();
    let (sender, confirmed) = mpsc::channel();
    let sender = Mutex::new(sender);
    let tell = move |position, result: Result<(), DurableError>| {
        let _ = sender.lock().unwrap().send((position, result.is_ok()));
    };
    let producer = queue.producer().on_confirm(tell).build().unwrap();
    let published: Vec<u64> =
        (0..500).map(|n: u32| producer.publish(n.to_string()).unwrap().position).collect();
    for position in published {
        assert_eq!(confirmed.recv_timeout(Duration::from_secs(9)).unwrap(), (position, true));
    }
}

/// The smallest executor there is.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_future_is_ready_when_it_is_durable_and_may_be_dropped() {
    let scene = Scene::new();
    let store = scene.store();
    let queue = small().create(&store, "q").unwrap();
    let producer = queue.producer().build().unwrap();
    for n in 0..50 {
        let receipt = producer.publish(n.to_string()).unwrap();
        if n % 3 == 0 {
            drop(receipt.durable_async().unwrap());
        } else {
            block_on(receipt.durable_async().unwrap()).unwrap();
        }
    }
    producer.flush().unwrap();
}

#[test]
fn many_threads_share_their_syncs() {
    let scene = Scene::new();
    let store = scene.store();
    let queue = small().create(&store, "q").unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let producer = queue.producer().build().unwrap();
                for n in 0..50_u32 {
                    producer.publish_confirmed(n.to_string()).unwrap();
                }
            });
        }
    });
    let journal = store.journal().unwrap().expect("a durable store");
    assert_eq!((journal.messages, journal.unsynced), (200, 0));
    assert!(journal.batches < 200 + 20, "{} batches", journal.batches);
}

#[test]
fn a_volatile_store_says_so() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = Store::create(memory.path().join("s")).unwrap();
    let queue = small().create(&store, "q").unwrap();
    let producer = queue.producer().build().unwrap();
    let receipt = producer.publish("x").unwrap();
    assert!(matches!(receipt.durable(), Err(DurableError::Volatile)));
    assert!(matches!(producer.flush(), Err(DurableError::Volatile)));
    let refused = queue.producer().on_confirm(|_, _| {}).build();
    assert!(matches!(refused, Err(StoreError::Volatile { .. })));
    let worker = queue.consumer("default").build().unwrap();
    assert!(matches!(worker.receive().unwrap().ack_durable(), Err(DurableError::Volatile)));
    let again = worker.receive_timeout(Duration::from_secs(9)).unwrap().expect("the message, given back");
    assert_eq!((again.attempt(), again.failures()), (2, 0));
    assert!(store.journal().unwrap().is_none());
}

#[test]
fn processes_that_have_nothing_to_do_write_nothing() {
    let scene = Scene::new();
    let stores = [scene.store(), scene.reopen(), scene.reopen()];
    small().create(&stores[0], "q").unwrap();
    let queues = stores.each_ref().map(|store| store.queue("q").unwrap());
    let producers = queues.each_ref().map(|queue| queue.producer().build().unwrap());
    let worker = queues[1].consumer("default").build().unwrap();
    for n in 0..30_usize {
        producers[n % 3].publish(n.to_string()).unwrap();
        // Every other one, so that there is something to be said of single messages.
        let delivery = worker.receive_timeout(Duration::from_secs(9)).unwrap().expect("a message");
        if n % 2 == 0 { delivery.ack().unwrap() } else { delivery.reject("no").unwrap() }
    }
    let batches = || stores[0].journal().unwrap().expect("a durable store").batches;
    let start = std::time::Instant::now();
    loop {
        let before = batches();
        thread::sleep(Duration::from_millis(300));
        if batches() == before {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(9), "they write and write");
    }
    // And what was settled is in the journal, though nobody waited for it.
    drop((worker, producers, queues, stores));
    scene.cut();
    let queue = scene.reopen().queue("q").unwrap();
    assert_eq!(queue.info().unwrap().groups[0].dead, 15);
    assert_eq!(left(&queue, "default").len(), 15);
}

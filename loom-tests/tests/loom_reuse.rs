//! Reuse: the reads of a slot's last holder come before the writes of its next claimant. The Release of the
//! settle, the Acquire of the lease word in the producers' `stand`.

use loom_tests::modelled::{Fault, Modelled, check, must_fail, owner, publish, receive};
use ringway::ring::{Publisher, Ready, Subscriber, settle};

fn reuse(exclusive: bool, fault: Option<Fault>) {
    let memory = Modelled::new(2, fault);
    let publisher = Publisher::new(&*memory, owner(1), exclusive);
    let subscriber = Subscriber::new(&*memory, 0, owner(2), exclusive, false);
    publish(&memory, &publisher, 71).expect("an empty ring has room");
    publish(&memory, &publisher, 72).expect("an empty ring has room");
    let shared = memory.clone();
    let producer = loom::thread::spawn(move || {
        let third = publish(&shared, &publisher, 73);
        let fourth = third.and_then(|_| publish(&shared, &publisher, 74));
        u64::from(third.is_some()) + u64::from(fourth.is_some())
    });
    let shared = memory.clone();
    let consumer = loom::thread::spawn(move || {
        for expected in 71..73 {
            let leased = receive(&shared, &subscriber).expect("it was there from the start");
            assert_eq!(shared.read(leased.position), expected);
            settle::ack(&*shared, 0, leased.position, leased.lease).expect("it is held");
        }
        subscriber
    });
    let more = producer.join().expect("it ends");
    let subscriber = consumer.join().expect("it ends");
    for expected in 73..73 + more {
        let leased = receive(&memory, &subscriber).expect("it was accepted");
        assert_eq!(memory.read(leased.position), expected);
        settle::ack(&*memory, 0, leased.position, leased.lease).expect("it is held");
    }
    assert!(receive(&memory, &subscriber).is_none());
}

/// A message that one holder gives back and another acks: both have read it when the producer writes.
fn through_another(fault: Option<Fault>) {
    let memory = Modelled::new(2, fault);
    let publisher = Publisher::new(&*memory, owner(1), false);
    let first = Subscriber::new(&*memory, 0, owner(2), false, false);
    let second = Subscriber::new(&*memory, 0, owner(3), false, false);
    publish(&memory, &publisher, 71).expect("an empty ring has room");
    let leased = receive(&memory, &first).expect("it was there from the start");
    let shared = memory.clone();
    let holder = loom::thread::spawn(move || {
        assert_eq!(shared.read(leased.position), 71);
        let to = settle::Return::Retry { due_ms: 0, failures: 1 };
        settle::give_back(&*shared, 0, leased.position, leased.lease, to).expect("it is held");
    });
    let shared = memory.clone();
    let other = loom::thread::spawn(move || {
        if let ringway::ring::Found::Message(leased) = second.next_returned(&*shared, 1, false) {
            assert_eq!(shared.read(leased.position), 71);
            settle::ack(&*shared, 0, leased.position, leased.lease).expect("it is held");
        }
    });
    let shared = memory.clone();
    let producer = loom::thread::spawn(move || {
        for value in 72..74 {
            let _ = publish(&shared, &publisher, value);
        }
    });
    producer.join().expect("it ends");
    holder.join().expect("it ends");
    other.join().expect("it ends");
}

#[test]
fn shared() {
    check("reuse, shared", 3, || reuse(false, None));
}

#[test]
fn exclusive() {
    check("reuse, exclusive", 3, || reuse(true, None));
}

#[test]
fn after_a_return() {
    check("reuse, after a return", 2, || through_another(None));
}

#[test]
fn settled_relaxed() {
    must_fail("reuse, settled relaxed", 3, || reuse(false, Some(Fault::LeaseChangeRelaxed)));
}

#[test]
fn settled_relaxed_by_store() {
    must_fail("reuse, settled relaxed by a store", 3, || reuse(true, Some(Fault::LeaseChangeRelaxed)));
}

#[test]
fn lease_read_relaxed() {
    must_fail("reuse, lease read relaxed", 3, || reuse(false, Some(Fault::LeaseLoadRelaxed)));
}

/// A slot that its group holds is skipped by every lap. A glance must say so at once, or each held slot costs each
/// lap a wait.
#[test]
fn held_slot_is_no_empty_one() {
    check("a held slot at a glance", 1, || {
        let memory = Modelled::new(2, None);
        let publisher = Publisher::new(&*memory, owner(1), false);
        let subscriber = Subscriber::new(&*memory, 0, owner(2), false, false);
        publish(&memory, &publisher, 71).expect("an empty ring has room");
        let held = receive(&memory, &subscriber).expect("it is there");
        for value in [72, 73, 74] {
            publish(&memory, &publisher, value).expect("the other slot");
            if value < 74 {
                let next = receive(&memory, &subscriber).expect("it is there");
                settle::ack(&*memory, 0, next.position, next.lease).expect("it is held");
            }
        }
        assert_eq!(subscriber.next_ready(&*memory), Ready::Unclear);
        let last = receive(&memory, &subscriber).expect("behind the held slot");
        assert_eq!(last.position, held.position + 5);
        assert_eq!(subscriber.next_ready(&*memory), Ready::NotYet, "the ring is empty");
    });
}

//! Races for one word: two consumers for a message, two producers for a slot.

use loom_tests::modelled::{Fault, Modelled, check, must_fail, owner, publish, receive};
use ringway::ring::{Publisher, Subscriber, settle};

fn two_consumers(fault: Option<Fault>) {
    let memory = Modelled::new(2, fault);
    let publisher = Publisher::new(&*memory, owner(1), false);
    let consumers = [2, 3].map(|n| Subscriber::new(&*memory, 0, owner(n), false, false));
    publish(&memory, &publisher, 71).expect("an empty ring has room");
    let threads = consumers.map(|subscriber| {
        let memory = memory.clone();
        loom::thread::spawn(move || {
            let Some(leased) = receive(&memory, &subscriber) else { return 0 };
            assert_eq!(memory.read(leased.position), 71);
            settle::ack(&*memory, 0, leased.position, leased.lease).expect("it is held");
            1
        })
    });
    let got: u32 = threads.into_iter().map(|thread| thread.join().expect("it ends")).sum();
    assert_eq!(got, 1, "one message, one delivery");
}

fn two_producers(fault: Option<Fault>) {
    let memory = Modelled::new(2, fault);
    let producers = [1, 2].map(|n| Publisher::new(&*memory, owner(n), false));
    let mut value = 70;
    let threads = producers.map(|publisher| {
        let memory = memory.clone();
        value += 1;
        let value = value;
        loom::thread::spawn(move || publish(&memory, &publisher, value).expect("there is room for both"))
    });
    let positions = threads.map(|thread| thread.join().expect("it ends"));
    assert_ne!(positions[0], positions[1]);
    let subscriber = Subscriber::new(&*memory, 0, owner(3), false, false);
    let mut sum = 0;
    while let Some(leased) = receive(&memory, &subscriber) {
        sum += memory.read(leased.position);
    }
    assert_eq!(sum, 71 + 72);
}

#[test]
fn consumers() {
    check("race of two consumers", 3, || two_consumers(None));
}

#[test]
fn producers() {
    check("race of two producers", 3, || two_producers(None));
}

#[test]
fn lease_torn() {
    must_fail("race of two consumers, lease torn", 3, || two_consumers(Some(Fault::LeaseTorn)));
}

#[test]
fn claim_torn() {
    must_fail("race of two producers, claim torn", 3, || two_producers(Some(Fault::ClaimTorn)));
}

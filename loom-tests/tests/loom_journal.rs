//! A durable queue: what a consumer gets is on the disk, and its slot waits for both. The Release of the leader's
//! ack, the Acquire of the gate in `next_ready` and `next_fresh`.

use loom_tests::modelled::{Fault, Modelled, check, must_fail, owner, publish, receive};
use ringway::ring::{Leased, Publisher, Ready, Subscriber, settle};

/// The journal's group.
const JOURNAL: u8 = 1;

/// Writes what is there, as the leader does, and acks it.
fn lead(memory: &Modelled, leader: &Subscriber) {
    while let Some(leased) = receive(memory, leader) {
        memory.write_disk(leased.position, memory.read(leased.position));
        settle::ack(memory, JOURNAL, leased.position, leased.lease).expect("its holder lives");
    }
}

/// What a consumer finds at a glance, or by a thorough look.
fn look(memory: &Modelled, consumer: &Subscriber, glance: bool) -> Option<Leased> {
    match glance.then(|| consumer.next_ready_behind(memory)) {
        Some(Ready::Message(leased)) => Some(leased),
        Some(_) => None,
        None => receive(memory, consumer),
    }
}

fn take(memory: &Modelled, leased: Leased, expected: &mut u64) {
    assert_eq!(memory.read_disk(leased.position), *expected, "it is on the disk");
    assert_eq!(memory.read(leased.position), *expected);
    settle::ack(memory, 0, leased.position, leased.lease).expect("it is held");
    *expected += 1;
}

fn gated(exclusive: bool, glance: bool, is_gated: bool, fault: Option<Fault>) {
    let memory = Modelled::with_groups(2, 2, fault);
    let publisher = Publisher::new(&*memory, owner(1), false);
    let leader = Subscriber::new(&*memory, JOURNAL, owner(2), true, false);
    let consumer = Subscriber::new(&*memory, 0, owner(3), exclusive, false);
    let consumer = if is_gated { consumer.behind(JOURNAL) } else { consumer };
    publish(&memory, &publisher, 71).expect("an empty ring has room");
    let shared = memory.clone();
    let leading = loom::thread::spawn(move || {
        lead(&shared, &leader);
        publish(&shared, &publisher, 72).expect("a slot was never used");
        lead(&shared, &leader);
        // The first slot again, once both groups have settled it.
        let reused = publish(&shared, &publisher, 73).is_some();
        lead(&shared, &leader);
        reused
    });
    let shared = memory.clone();
    let consuming = loom::thread::spawn(move || {
        let mut expected = 71;
        for _ in 0..3 {
            if let Some(leased) = look(&shared, &consumer, glance) {
                take(&shared, leased, &mut expected);
            }
        }
        (consumer, expected)
    });
    let reused = leading.join().expect("it ends");
    let (consumer, mut expected) = consuming.join().expect("it ends");
    while let Some(leased) = look(&memory, &consumer, false) {
        take(&memory, leased, &mut expected);
    }
    assert_eq!(expected, if reused { 74 } else { 73 }, "all were received");
}

#[test]
fn a_shared_consumer() {
    check("journal, shared consumer", 3, || gated(false, false, true, None));
}

#[test]
fn an_exclusive_consumer_at_a_glance() {
    check("journal, exclusive consumer", 3, || gated(true, true, true, None));
}

#[test]
fn a_consumer_that_does_not_wait() {
    must_fail("journal, no gate", 3, || gated(false, false, false, None));
}

#[test]
fn the_gate_read_relaxed() {
    must_fail("journal, gate read relaxed", 3, || gated(true, true, true, Some(Fault::LeaseLoadRelaxed)));
}

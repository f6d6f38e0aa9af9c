//! Handover: who sees READY sees the payload. The Release of `seq` in `finish`, the Acquire in `next_fresh`.

use loom_tests::modelled::{Fault, Modelled, check, must_fail, owner, publish, receive};
use ringway::ring::{Publisher, Subscriber, settle};

fn handover(exclusive: bool, fault: Option<Fault>) {
    let memory = Modelled::new(2, fault);
    let publisher = Publisher::new(&*memory, owner(1), exclusive);
    let subscriber = Subscriber::new(&*memory, 0, owner(2), exclusive, false);
    let shared = memory.clone();
    let producer = loom::thread::spawn(move || {
        publish(&shared, &publisher, 71).expect("an empty ring has room");
        publish(&shared, &publisher, 72).expect("an empty ring has room");
    });
    let shared = memory.clone();
    let consumer = loom::thread::spawn(move || {
        let mut expected = 71;
        for _ in 0..2 {
            if let Some(leased) = receive(&shared, &subscriber) {
                assert_eq!(shared.read(leased.position), expected);
                settle::ack(&*shared, 0, leased.position, leased.lease).expect("it is held");
                expected += 1;
            }
        }
        (subscriber, expected)
    });
    producer.join().expect("it ends");
    let (subscriber, mut expected) = consumer.join().expect("it ends");
    while let Some(leased) = receive(&memory, &subscriber) {
        assert_eq!(memory.read(leased.position), expected);
        expected += 1;
    }
    assert_eq!(expected, 73, "both were received");
}

#[test]
fn shared() {
    check("handover, shared", 3, || handover(false, None));
}

#[test]
fn exclusive() {
    check("handover, exclusive", 3, || handover(true, None));
}

#[test]
fn seq_stored_relaxed() {
    must_fail("handover, seq stored relaxed", 3, || handover(true, Some(Fault::SeqStoreRelaxed)));
}

#[test]
fn seq_read_relaxed() {
    must_fail("handover, seq read relaxed", 3, || handover(true, Some(Fault::SeqLoadRelaxed)));
}

//! Late arrivals and returned messages: a mark brings them back; where one is missing, the sweep does.

use loom_tests::modelled::{Fault, Modelled, Mortal, check, must_fail, owner, publish, receive};
use ringway::ring::{Found, Lease, Publisher, Subscriber, Unfinished, repair, settle};

fn again(lease: Lease) -> settle::Return {
    settle::Return::Retry { due_ms: 1, failures: lease.failures() + 1 }
}

/// All that a consumer can get, acked.
fn drain(memory: &Modelled, subscriber: &Subscriber, sweeps: bool) -> Vec<u64> {
    let mut got = Vec::new();
    // The second time for what came of a mark that said "in a millisecond".
    for now_ms in [5, 6] {
        if sweeps {
            let _ = repair::sweep(memory, 0, 0..2, now_ms, subscriber.head(), again);
        }
        loop {
            let found = match subscriber.next_returned(memory, now_ms, false) {
                Found::Message(leased) => Some(leased),
                _ => receive(memory, subscriber),
            };
            let Some(leased) = found else { break };
            got.push(memory.read(leased.position));
            settle::ack(memory, 0, leased.position, leased.lease).expect("it is held");
        }
    }
    got.sort_unstable();
    got
}

/// A consumer passes a position whose producer is still writing.
fn late(fault: Option<Fault>, sweeps: bool) {
    let memory = Modelled::new(2, fault);
    let slow = Publisher::new(&*memory, owner(1), false);
    let quick = Publisher::new(&*memory, owner(2), false);
    let subscriber = Subscriber::new(&*memory, 0, owner(3), false, false);
    let position = slow.claim(&*memory).expect("an empty ring has room");
    publish(&memory, &quick, 72).expect("the other slot");
    let shared = memory.clone();
    let producer = loom::thread::spawn(move || {
        shared.write(position, 71);
        slow.finish(&*shared, position, 8);
    });
    let shared = memory.clone();
    let consumer = loom::thread::spawn(move || {
        let found = subscriber.next_fresh(&*shared, true, Unfinished::Pass);
        let Found::Message(leased) = found else { panic!("the other is there") };
        let value = shared.read(leased.position);
        settle::ack(&*shared, 0, leased.position, leased.lease).expect("it is held");
        (subscriber, value)
    });
    producer.join().expect("it ends");
    let (subscriber, value) = consumer.join().expect("it ends");
    let mut got = drain(&memory, &subscriber, sweeps);
    got.push(value);
    got.sort_unstable();
    assert_eq!(got, [71, 72]);
}

/// A message is given back while another consumer looks through the marks; its holder may die before it makes
/// its mark.
fn returned(marks: bool, sweeps: bool) {
    let memory = Modelled::new(2, None);
    let publisher = Publisher::new(&*memory, owner(1), false);
    let holder = Subscriber::new(&*memory, 0, owner(2), false, false);
    let other = Subscriber::new(&*memory, 0, owner(3), false, false);
    publish(&memory, &publisher, 71).expect("an empty ring has room");
    let mut leased = receive(&memory, &holder).expect("it is there");
    if marks {
        // Given back once before, so that there is a mark already.
        settle::give_back(&*memory, 0, leased.position, leased.lease, again(leased.lease))
            .expect("it is held");
        let Found::Message(again) = holder.next_returned(&*memory, 5, false) else { panic!("it is back") };
        leased = again;
    }
    let shared = memory.clone();
    let holder = loom::thread::spawn(move || {
        let give_back = |memory: &Mortal<'_>| {
            settle::give_back(memory, 0, leased.position, leased.lease, again(leased.lease))
        };
        // Reads and writes the due word and the lease word, and then the mark.
        let accesses = if marks { 40 } else { 4 };
        assert_eq!(Mortal::live(&shared, accesses, give_back).is_some(), marks);
    });
    let shared = memory.clone();
    let other = loom::thread::spawn(move || match other.next_returned(&*shared, 5, false) {
        Found::Message(leased) => {
            settle::ack(&*shared, 0, leased.position, leased.lease).expect("it is held");
            (other, vec![71])
        }
        _ => (other, vec![]),
    });
    holder.join().expect("it ends");
    let (subscriber, mut got) = other.join().expect("it ends");
    got.extend(drain(&memory, &subscriber, sweeps));
    assert_eq!(got, [71]);
}

#[test]
fn late_arrival() {
    check("late arrival", 3, || late(None, false));
}

#[test]
fn returned_message() {
    check("returned message", 3, || returned(true, false));
}

#[test]
fn returned_message_without_mark() {
    check("returned message without mark, sweep", 3, || returned(false, true));
}

#[test]
fn late_arrival_without_marks() {
    must_fail("late arrival, marks lost, no sweep", 3, || late(Some(Fault::BitLost), false));
}

#[test]
fn returned_message_without_mark_or_sweep() {
    must_fail("returned message without mark, no sweep", 3, || returned(false, false));
}

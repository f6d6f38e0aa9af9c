//! Death before any access of publish, receive and settle; recovery; and then everything that was accepted is
//! there once.
//!
//! That recovery comes after the death is the kernel's word: it gives the lock of a process free when its
//! memory is gone. Here it is the join of the dead thread.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use loom_tests::modelled::{Fault, Modelled, Mortal, check, must_fail, owner, publish, receive};
use ringway::ring::{Found, Lease, Publisher, Subscriber, Unfinished, repair, settle};

/// More accesses than any life below makes.
const LONGEST: u32 = 40;

fn again(lease: Lease) -> settle::Return {
    settle::Return::Retry { due_ms: 1, failures: lease.failures() + 1 }
}

fn recover(memory: &Modelled, dead: u16) {
    for slot in 0..2 {
        let _ = repair::void_unfinished(memory, slot, owner(dead));
    }
    for slot in 0..2 {
        let _ = repair::return_lease(memory, 0, slot, owner(dead), again);
    }
}

/// A producer dies before its `k`-th access while a consumer receives; two recover it at once, and its index
/// is used again. Tells whether it came to its end.
fn producer_dies(k: u32, exclusive: bool, fault: Option<Fault>) -> bool {
    let memory = Modelled::new(2, fault);
    let mortal = Publisher::new(&*memory, owner(1), exclusive);
    let subscriber = Subscriber::new(&*memory, 0, owner(2), true, false);
    let shared = memory.clone();
    let dying = loom::thread::spawn(move || {
        Mortal::live(&shared, k, |memory| {
            let position = mortal.claim(memory).expect("an empty ring has room");
            memory.write(position, 71);
            mortal.finish(memory, position, 8);
        })
    });
    let shared = memory.clone();
    let consumer = loom::thread::spawn(move || {
        let mut got = Vec::new();
        if let Found::Message(leased) = subscriber.next_fresh(&*shared, true, Unfinished::Wait) {
            got.push(shared.read(leased.position));
            settle::ack(&*shared, 0, leased.position, leased.lease).expect("it is held");
        }
        (subscriber, got)
    });
    let accepted = dying.join().expect("it ends").is_some();
    let recoverers = [0, 1].map(|_| {
        let memory = memory.clone();
        loom::thread::spawn(move || recover(&memory, 1))
    });
    for recoverer in recoverers {
        recoverer.join().expect("it ends");
    }
    let (subscriber, mut got) = consumer.join().expect("it ends");
    // Its index is used again.
    let publisher = Publisher::new(&*memory, owner(1), exclusive);
    publish(&memory, &publisher, 72).expect("there is room");
    while let Some(leased) = receive(&memory, &subscriber) {
        got.push(memory.read(leased.position));
        settle::ack(&*memory, 0, leased.position, leased.lease).expect("it is held");
    }
    assert!(got == [71, 72] || (!accepted && got == [72]), "got {got:?}, accepted: {accepted}");
    accepted
}

/// How a consumer's life ends.
#[derive(Clone, Copy)]
enum End {
    Ack,
    Nack,
}

/// A consumer dies before its `k`-th access while another receives. Tells whether it came to its end.
fn consumer_dies(k: u32, end: End, fault: Option<Fault>) -> bool {
    let memory = Modelled::new(2, fault);
    let publisher = Publisher::new(&*memory, owner(1), false);
    let mortal = Subscriber::new(&*memory, 0, owner(2), false, false);
    let other = Subscriber::new(&*memory, 0, owner(3), false, false);
    publish(&memory, &publisher, 71).expect("an empty ring has room");
    let shared = memory.clone();
    let dying = loom::thread::spawn(move || {
        Mortal::live(&shared, k, |memory| {
            let Found::Message(leased) = mortal.next_fresh(memory, true, Unfinished::Pass) else {
                return false;
            };
            assert_eq!(memory.read(leased.position), 71);
            match end {
                End::Ack => settle::ack(memory, 0, leased.position, leased.lease).is_ok(),
                End::Nack => {
                    let to = again(leased.lease);
                    settle::give_back(memory, 0, leased.position, leased.lease, to).expect("it is held");
                    false
                }
            }
        })
    });
    let shared = memory.clone();
    let other = loom::thread::spawn(move || {
        let mut got = 0;
        if let Found::Message(leased) = other.next_fresh(&*shared, true, Unfinished::Pass) {
            assert_eq!(shared.read(leased.position), 71);
            settle::ack(&*shared, 0, leased.position, leased.lease).expect("it is held");
            got = 1;
        }
        (other, got)
    });
    let acked = dying.join().expect("it ends");
    let shared = memory.clone();
    let recoverer = loom::thread::spawn(move || recover(&shared, 2));
    let (subscriber, mut got) = other.join().expect("it ends");
    recoverer.join().expect("it ends");
    let _ = repair::sweep(&*memory, 0, 0..2, 5, subscriber.head(), again);
    while let Found::Message(leased) = subscriber.next_returned(&*memory, 5, false) {
        assert_eq!(memory.read(leased.position), 71);
        settle::ack(&*memory, 0, leased.position, leased.lease).expect("it is held");
        got += 1;
    }
    // Its last access may have been the ack itself: then nobody knows that it was made.
    let unknown = acked.is_none() && got == 0 && is_done(&memory);
    assert!(got + u32::from(acked == Some(true)) == 1 || unknown, "got {got}, acked: {acked:?}");
    acked.is_some()
}

fn is_done(memory: &Modelled) -> bool {
    use ringway::memory::{Memory, Place};
    let lease = Lease::from_bits(memory.load(Place::Lease(0, 0), std::sync::atomic::Ordering::Acquire));
    lease.lap() == 1 && lease.state() == ringway::ring::State::Done
}

/// Tries a death before each access, until a life is not cut short any more.
fn at_every_access(name: &str, model: fn(u32) -> bool) {
    for k in 0..LONGEST {
        let lived = Arc::new(AtomicBool::new(false));
        let tell = lived.clone();
        check(&format!("{name} at access {k}"), 2, move || {
            if model(k) {
                tell.store(true, Relaxed);
            }
        });
        if lived.load(Relaxed) {
            return;
        }
    }
    panic!("{name}: no life comes to its end within {LONGEST} accesses");
}

#[test]
fn producer_at_every_access() {
    at_every_access("producer dies", |k| producer_dies(k, false, None));
}

#[test]
fn exclusive_producer_at_every_access() {
    at_every_access("exclusive producer dies", |k| producer_dies(k, true, None));
}

#[test]
fn consumer_at_every_access_of_an_ack() {
    at_every_access("consumer dies in an ack,", |k| consumer_dies(k, End::Ack, None));
}

#[test]
fn consumer_at_every_access_of_a_nack() {
    at_every_access("consumer dies in a nack,", |k| consumer_dies(k, End::Nack, None));
}

#[test]
fn void_ignored() {
    must_fail("producer dies, not voided", 2, || {
        producer_dies(7, false, Some(Fault::VoidIgnored));
    });
}

#[test]
fn return_ignored() {
    must_fail("consumer dies, lease not returned", 2, || {
        consumer_dies(3, End::Ack, Some(Fault::ReturnIgnored));
    });
}

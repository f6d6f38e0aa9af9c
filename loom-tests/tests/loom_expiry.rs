//! Deadlines: a lease is settled by its holder or ended by the sweep, never both; and what a timed holder
//! copied counts only if its lease stands after.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, fence};
use loom_tests::modelled::{Fault, Modelled, Mortal, check, must_fail, owner, publish, receive};
use ringway::memory::{Memory, Place};
use ringway::ring::{Due, Found, Holder, Lease, Leased, Publisher, Subscriber, repair, settle};

/// A message under a lease whose holder has not come to write the deadline.
fn taken(memory: &Arc<Modelled>) -> (Publisher, Leased) {
    let publisher = Publisher::new(&**memory, owner(1), false);
    let subscriber = Subscriber::new(&**memory, 0, owner(2), false, true);
    publish(memory, &publisher, 71).expect("an empty ring has room");
    let leased = receive(memory, &subscriber).expect("it is there");
    (publisher, leased)
}

/// A message under a lease whose deadline is over at 5.
fn leased(fault: Option<Fault>) -> (Arc<Modelled>, Publisher, Leased) {
    let memory = Modelled::new(2, fault);
    let (publisher, leased) = taken(&memory);
    settle::begin(&*memory, 0, leased.position, leased.lease, 1, 5).expect("it was just taken");
    (memory, publisher, leased)
}

fn again(lease: Lease) -> settle::Return {
    settle::Return::Retry { due_ms: 5, failures: lease.failures() + 1 }
}

/// What the sweep of the message's slot does at a time.
fn sweep(memory: &Modelled, now_ms: u64) -> u64 {
    repair::sweep(memory, 0, 0..1, now_ms, 0, again).expired
}

/// Whether the message can be had again.
fn is_back(memory: &Modelled) -> bool {
    let subscriber = Subscriber::new(memory, 0, owner(4), false, true);
    matches!(subscriber.next_returned(memory, 9, false), Found::Message(_))
}

fn against_settle(fault: Option<Fault>, nack: bool) {
    let (memory, _, leased) = leased(fault);
    let shared = memory.clone();
    let holder = loom::thread::spawn(move || {
        if nack {
            settle::give_back(&*shared, 0, leased.position, leased.lease, again(leased.lease)).is_ok()
        } else {
            settle::ack(&*shared, 0, leased.position, leased.lease).is_ok()
        }
    });
    let shared = memory.clone();
    let sweeper = loom::thread::spawn(move || sweep(&shared, 5) == 1);
    let (settled, expired) = (holder.join().expect("it ends"), sweeper.join().expect("it ends"));
    assert!(!(settled && expired), "settled and expired");
    assert!(settled || expired, "neither settled nor expired");
    assert_eq!(is_back(&memory), nack || expired);
}

/// The deadline is not over: whatever the sweep sees of it, the release is one, and costs no failure.
fn release_in_time(fault: Option<Fault>) {
    let (memory, _, leased) = leased(fault);
    let shared = memory.clone();
    let holder = loom::thread::spawn(move || {
        let back = settle::Return::Retry { due_ms: 3, failures: 0 };
        settle::give_back(&*shared, 0, leased.position, leased.lease, back).expect("its lease stands");
    });
    let shared = memory.clone();
    let sweeper = loom::thread::spawn(move || sweep(&shared, 4));
    holder.join().expect("it ends");
    assert_eq!(sweeper.join().expect("it ends"), 0, "expired before the deadline");
    let subscriber = Subscriber::new(&*memory, 0, owner(4), false, true);
    let Found::Message(again) = subscriber.next_returned(&*memory, 4, false) else { panic!("given back") };
    assert_eq!((again.lease.failures(), again.attempts), (0, 2));
}

/// A repairer is paused before its `k`-th access: meanwhile another returns the dead one's lease, and the
/// message comes into other hands. Those may extend. (Not for loom's threads: it lets a CAS and a later plain
/// store of another thread change places.)
fn late_repairer(k: u32) {
    let (memory, _, leased) = leased(None);
    let position = leased.position;
    let next = Cell::new(None);
    let late = Mortal::paused(&memory, k, || {
        repair::return_lease(&*memory, 0, position, owner(2), again);
        let subscriber = Subscriber::new(&*memory, 0, owner(3), false, true);
        if let Found::Message(again) = subscriber.next_returned(&*memory, 5, false) {
            settle::begin(&*memory, 0, position, again.lease, again.attempts, 9).expect("it was just taken");
            next.set(Some(again.lease));
        }
    });
    repair::return_lease(&late, 0, position, owner(2), again);
    let lease = next.get().expect("it was paused, and the message was there");
    settle::extend(&*memory, 0, position, lease, 12).expect("its lease stands");
}

/// A holder pauses between its lease and the deadline: the message goes to another, whose lease it cannot
/// harm.
fn paused_before_the_deadline() {
    let memory = Modelled::new(2, None);
    let (_, leased) = taken(&memory);
    assert_eq!(sweep(&memory, 1), 0, "it gets a deadline of 5");
    assert_eq!(sweep(&memory, 4), 0, "which is not over");
    assert_eq!(sweep(&memory, 5), 1);
    let subscriber = Subscriber::new(&*memory, 0, owner(3), false, true);
    let Found::Message(next) = subscriber.next_returned(&*memory, 5, false) else { panic!("it is back") };
    let late = settle::begin(&*memory, 0, leased.position, leased.lease, 1, 99);
    assert_eq!(late, Err(settle::LeaseLost));
    settle::begin(&*memory, 0, next.position, next.lease, next.attempts, 9).expect("its lease stands");
    assert_eq!(settle::begin(&*memory, 0, leased.position, leased.lease, 1, 99), Err(settle::LeaseLost));
    assert_eq!(settle::due_of(&*memory, 0, next.position, next.lease), (Some(9), 2));
}

/// A holder writes its deadline while a sweep gives it one.
fn begin_against_sweep() {
    let memory = Modelled::new(2, None);
    let (_, leased) = taken(&memory);
    let shared = memory.clone();
    let sweeper = loom::thread::spawn(move || sweep(&shared, 1) + sweep(&shared, 5));
    let begun = settle::begin(&*memory, 0, leased.position, leased.lease, 1, 9).is_ok();
    let stands = settle::is_held(&*memory, 0, leased.position, leased.lease);
    let expired = sweeper.join().expect("it ends") == 1;
    assert!(begun || expired, "neither has it");
    assert!(!begun || !expired || stands, "told of a deadline that was over already");
    if begun && !expired {
        assert_eq!(settle::due_of(&*memory, 0, leased.position, leased.lease).0, Some(9));
    }
}

/// The turns have come round, and the due word that is left over from then speaks of this one.
fn left_over_due_word() {
    let memory = Modelled::new(2, None);
    let turn = Lease::unborn(1).fresh(1, Holder::new(true, owner(2))).turn();
    let old = Due::new(0, 7, turn).given_back(true, Some(1));
    memory.store(Place::Due(0, 0), old.bits(), Release);
    let (_, leased) = taken(&memory);
    assert_eq!(sweep(&memory, 1), 0);
    assert!(settle::is_held(&*memory, 0, leased.position, leased.lease), "it stands");
    settle::begin(&*memory, 0, leased.position, leased.lease, 1, 9).expect("it stands");
}

fn against_extend(fault: Option<Fault>) {
    let (memory, _, leased) = leased(fault);
    let shared = memory.clone();
    let holder =
        loom::thread::spawn(move || settle::extend(&*shared, 0, leased.position, leased.lease, 8).is_ok());
    let shared = memory.clone();
    let sweeper = loom::thread::spawn(move || sweep(&shared, 5) == 1);
    let (extended, expired) = (holder.join().expect("it ends"), sweeper.join().expect("it ends"));
    assert!(!(extended && expired), "extended and expired before the new deadline");
    assert!(extended || expired, "neither extended nor expired");
    if extended {
        assert_eq!(sweep(&memory, 7), 0, "expired before the new deadline");
        assert_eq!(sweep(&memory, 8), 1);
    }
}

/// A holder copies a payload byte by byte (atomics, as it may be overwritten meanwhile) and then looks
/// whether its lease stands, while it expires, another acks the message, and a producer takes the slot.
fn copy(reader_fence: bool, writer_fence: bool) {
    let (memory, publisher, leased) = leased(None);
    let bytes = Arc::new(AtomicU64::new(71));
    publish(&memory, &publisher, 72).expect("the other slot");
    let shared = memory.clone();
    let source = bytes.clone();
    let holder = loom::thread::spawn(move || {
        let copy = source.load(Relaxed);
        if reader_fence {
            fence(Acquire);
        }
        if settle::is_held(&*shared, 0, leased.position, leased.lease) {
            assert_eq!(copy, 71, "the lease stands, but the copy is of a later message");
        }
    });
    let others = loom::thread::spawn(move || {
        assert_eq!(sweep(&memory, 5), 1);
        let subscriber = Subscriber::new(&*memory, 0, owner(3), false, false);
        let Found::Message(again) = subscriber.next_returned(&*memory, 5, false) else {
            panic!("it is back")
        };
        settle::ack(&*memory, 0, again.position, again.lease).expect("it is held");
        let position = publisher.claim(&*memory).expect("the slot is free");
        assert_eq!(position % 2, leased.position % 2);
        if writer_fence {
            fence(Release);
        }
        bytes.store(73, Relaxed);
        publisher.finish(&*memory, position, 8);
    });
    holder.join().expect("it ends");
    others.join().expect("it ends");
}

#[test]
fn expiry_against_ack() {
    check("expiry against ack", 3, || against_settle(None, false));
}

#[test]
fn sweep_against_release() {
    check("sweep against release", 3, || release_in_time(None));
}

#[test]
fn late_repairer_against_extend() {
    // Two words, the lease once more, then the first of two changes: a pause after that one has left the
    // message in its hands.
    for k in 0..4 {
        check("late repairer against extend", 3, move || late_repairer(k));
    }
}

#[test]
fn a_pause_before_the_deadline() {
    check("pause before the deadline", 3, paused_before_the_deadline);
}

#[test]
fn deadline_against_sweep() {
    check("deadline against sweep", 3, begin_against_sweep);
}

#[test]
fn due_word_of_an_earlier_round() {
    check("due word of an earlier round", 3, left_over_due_word);
}

#[test]
fn expiry_against_nack() {
    check("expiry against nack", 3, || against_settle(None, true));
}

#[test]
fn expiry_against_extend() {
    check("expiry against extend", 3, || against_extend(None));
}

#[test]
fn copy_of_a_timed_lease() {
    check("copy under a timed lease", 3, || copy(true, true));
}

#[test]
fn lease_torn() {
    must_fail("expiry against ack, lease torn", 3, || against_settle(Some(Fault::LeaseTorn), false));
}

#[test]
fn due_ignored() {
    must_fail("expiry against extend, due ignored", 3, || against_extend(Some(Fault::DueIgnored)));
}

#[test]
fn copy_without_the_readers_fence() {
    must_fail("copy under a timed lease, no fence of the reader", 3, || copy(false, true));
}

#[test]
fn copy_without_the_writers_fence() {
    must_fail("copy under a timed lease, no fence of the writer", 3, || copy(true, false));
}

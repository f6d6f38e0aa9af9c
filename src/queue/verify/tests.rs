//! Faults, planted word by word: each is found, and nothing else is.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::time::Duration;

use super::*;
use crate::layout::header::at;
use crate::layout::queue::group;
use crate::memory::Place;
use crate::ring::{Due, Holder, LEN_MAX, Lease, Seq};
use crate::{GroupOptions, Message, Store};

/// Positions in the queue of these tests, by the state of their message in the group `default`.
const DONE: u64 = 1024 + 299;
const LEASED: u64 = 1024 + 301;
const TIMED: u64 = 1024 + 302;
const RETRY: u64 = 1024 + 303;
const DEAD: u64 = 1024 + 304;
const LARGE: u64 = 1024 + 305;
const END: u64 = 2048 + 100;
const FRESH: u64 = END - 1;

/// Nobody's index, and the group `other`.
const NOBODY: u64 = 77;
const OTHER: u8 = 1;

/// A queue in its second lap, with a message in each state in the group `default`; `other` has settled them
/// all.
fn with_queue(test: impl FnOnce(&Queue)) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("directory");
    let store = Store::create(dir.path().join("store")).expect("store");
    let queue = Queue::options().capacity(1024).create(&store, "q").expect("queue");
    queue.add_group("other", GroupOptions::default()).expect("group");
    let producer = queue.producer().build().expect("producer");
    let other = queue.consumer("other").build().expect("consumer");
    let forever = queue.consumer("default").lease(crate::Lease::UntilDeath).build().expect("consumer");
    let timed = queue.consumer("default").build().expect("consumer");
    let mut held = Vec::new();
    for position in 1024..END {
        let payload = vec![1; if position == LARGE { 10_000 } else { 10 }];
        let receipt = producer.publish(Message::new(payload).with_type("t")).expect("room");
        assert_eq!(receipt.position, position);
        other.receive().expect("a message").ack().expect("acked");
        match position {
            FRESH => {}
            LEASED => held.push(forever.receive().expect("a message")),
            TIMED => held.push(timed.receive().expect("a message")),
            RETRY => {
                let retry = timed.receive().expect("a message");
                retry.nack_after(Duration::from_secs(600)).expect("nacked");
            }
            DEAD => timed.receive().expect("a message").reject("no").expect("rejected"),
            _ => forever.receive().expect("a message").ack().expect("acked"),
        }
    }
    assert_eq!(places(&queue), [""; 0]);
    test(&queue);
    assert_eq!(places(&queue), [""; 0], "all faults were undone");
}

/// Where there are violations.
fn places(queue: &Queue) -> Vec<String> {
    let report = queue.verify().expect("a report");
    report
        .violations
        .into_iter()
        .map(|violation| format!("{} | {}", violation.place, violation.what))
        .collect()
}

/// Checks that a fault is found at `place`, and that all that is found is of the same slot, group or the
/// like.
#[track_caller]
fn assert_found(queue: &Queue, place: &str) {
    let found = places(queue);
    assert!(found.iter().any(|found| found.starts_with(&format!("{place} | "))), "{place}: {found:?}");
    let about = place.rsplit(' ').next().expect("a word");
    assert!(found.iter().all(|found| found.contains(about)), "{place}: {found:?}");
}

/// Changes a ring word for the time of a check.
#[track_caller]
fn plant(queue: &Queue, at: Place, change: impl FnOnce(u64) -> u64, place: &str) {
    let mapped = &queue.core.mapped;
    let right = mapped.load(at, SeqCst);
    mapped.store(at, change(right), SeqCst);
    assert_found(queue, place);
    mapped.store(at, right, SeqCst);
}

#[track_caller]
fn plant_64(queue: &Queue, word: &AtomicU64, value: u64, place: &str) {
    let right = word.swap(value, SeqCst);
    assert_found(queue, place);
    word.store(right, SeqCst);
}

#[track_caller]
fn plant_32(queue: &Queue, word: &AtomicU32, value: u32, place: &str) {
    let right = word.swap(value, SeqCst);
    assert_found(queue, place);
    word.store(right, SeqCst);
}

fn lap(laps: i64) -> impl Fn(u64) -> u64 {
    move |bits| bits.wrapping_add_signed(laps << 32)
}

/// Replaces the bits of `mask`.
fn bits(mask: u64, value: u64) -> impl Fn(u64) -> u64 {
    move |bits| bits & !mask | value
}

#[test]
fn faults_in_claims_are_found() {
    with_queue(|queue| {
        let claim = Place::Claim;
        plant(queue, claim(FRESH), lap(1), "claim word of slot 99");
        // The last position: a claim less only means a tail less, but there is a message.
        plant(queue, claim(FRESH), lap(-1), "seq word of slot 99");
        plant(queue, claim(FRESH - 50), lap(-1), "claim word of slot 49");
        plant(queue, claim(DONE), lap(-1), "claim word of slot 299");
        plant(queue, claim(DONE), lap(1 << 31), "claim word of slot 299");
        plant(queue, claim(DONE), bits(0xfff, 0), "claim word of slot 299");
        plant(queue, claim(DONE), bits(0xfff, 1024), "claim word of slot 299");
        plant(queue, claim(DONE), bits(0xf_ffff << 12, 1 << 12), "claim word of slot 299");
        plant(queue, claim(DONE), bits(0xf_ffff << 12, 500 << 12), "claim word of slot 299");
    });
}

#[test]
fn a_claim_of_a_ring_never_gone_round_is_zero() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("directory");
    let store = Store::create(dir.path().join("store")).expect("store");
    let queue = Queue::options().capacity(1024).create(&store, "q").expect("queue");
    plant(&queue, Place::Claim(5), |_| 3, "claim word of slot 5");
    plant(&queue, Place::Claim(5), |_| 1 << 12, "claim word of slot 5");
    plant(&queue, Place::Seq(5), |_| 3, "seq word of slot 5");
}

#[test]
fn faults_in_slots_are_found() {
    with_queue(|queue| {
        let mapped = &queue.core.mapped;
        plant(queue, Place::Seq(DONE), lap(1), "seq word of slot 299");
        plant(queue, Place::Seq(DONE), |bits| bits | 3 << 30, "seq word of slot 299");
        plant(queue, Place::Seq(DONE), bits(3 << 30, 0), "seq word of slot 299");
        plant(queue, Place::Seq(DONE), |_| Seq::void(1).bits() | 1, "seq word of slot 299");
        plant(queue, Place::Seq(FRESH), |_| Seq::ready(2, LEN_MAX).bits(), "seq word of slot 99");
        plant(queue, Place::Seq(FRESH), |_| Seq::ready(2, 200).bits(), "seq word of slot 99");
        plant(queue, Place::Seq(LARGE), |_| Seq::ready(1, 20_000).bits(), "seq word of slot 305");
        plant_64(queue, mapped.header_word(FRESH), 4, "seq word of slot 99");
        plant_64(queue, mapped.header_word(FRESH), 1 << 40, "seq word of slot 99");
        plant_64(queue, mapped.header_word(LARGE), 1 << 16, "seq word of slot 305");
        plant_64(queue, mapped.extent_word(LARGE), 2, "seq word of slot 305");
        plant_64(queue, mapped.extent_word(LARGE), 257, "seq word of slot 305");
        plant_64(queue, mapped.extent_word(DONE), 257, "seq word of slot 299");
        plant_64(queue, mapped.extent_word(LARGE), 9 << 32 | 3, "seq word of slot 305");
    });
}

#[test]
fn unfinished_positions_of_who_is_not_there_are_found() {
    with_queue(|queue| {
        let mapped = &queue.core.mapped;
        let (claim, seq) = (mapped.load(Place::Claim(DONE), SeqCst), mapped.load(Place::Seq(DONE), SeqCst));
        mapped.store(Place::Seq(DONE), Seq::void(0).bits(), SeqCst);
        assert_eq!(places(queue), [""; 0], "its claimant is alive and has a producer");
        plant(queue, Place::Claim(DONE), bits(0xfff, NOBODY), "seq word of slot 299");
        let producer = queue.core.attachments().find(|(_, who)| who.role.shares_ledger(PRODUCER));
        let record = &mapped.attachment(producer.expect("a producer").0).who;
        plant_64(queue, record, 0, "seq word of slot 299");
        mapped.store(Place::Claim(DONE), claim, SeqCst);
        mapped.store(Place::Seq(DONE), seq, SeqCst);
    });
}

const PRODUCER: crate::queue::attach::Role = crate::queue::attach::Role::Producer { exclusive: true };

#[test]
fn faults_in_leases_are_found() {
    with_queue(|queue| {
        let lease = |position| Place::Lease(0, position);
        let at = |slot: u64| format!("group default: lease word of slot {slot}");
        let owner = |owner: u64| bits(0xfff << 8, owner << 8);
        let failures = |failures: u64| bits(0x1ff << 20, failures << 20);
        plant(queue, lease(DONE), lap(1), &at(299));
        plant(queue, lease(DONE), failures(1), &at(299));
        plant(queue, lease(DONE), owner(1), &at(299));
        plant(queue, lease(DONE), |bits| bits | 6 << 29, &at(299));
        plant(queue, lease(DONE), |bits| bits | 7 << 29, &at(299));
        // Slot 50 was claimed again since the lap in which this says it is held.
        let again = Lease::unborn(1).fresh(1, Holder::new(false, queue.store.me));
        plant(queue, lease(50), |_| again.bits(), &at(50));
        for (position, slot) in [(LEASED, 301), (TIMED, 302)] {
            plant(queue, lease(position), lap(1), &at(slot));
            plant(queue, lease(position), lap(-1), &at(slot));
            plant(queue, lease(position), owner(0), &at(slot));
            plant(queue, lease(position), owner(NOBODY), &at(slot));
            plant(queue, lease(position), owner(4000), &at(slot));
            plant(queue, lease(position), failures(10), &at(slot));
            plant(queue, Place::Seq(position), |_| Seq::void(1).bits(), &at(slot));
        }
        plant(queue, lease(RETRY), owner(1), &at(303));
        plant(queue, lease(RETRY), failures(10), &at(303));
        plant(queue, lease(RETRY), lap(1), &at(303));
        plant(queue, lease(DEAD), owner(0), &at(304));
        plant(queue, lease(DEAD), owner(4), &at(304));
        plant(queue, lease(DEAD), failures(11), &at(304));
        plant(queue, lease(DEAD), lap(-1), &at(304));
    });
}

#[test]
fn faults_in_due_words_are_found() {
    with_queue(|queue| {
        let mapped = &queue.core.mapped;
        let hours = |hours: u64| clock::boot_ms() + hours * 60 * 60 * 1000;
        let due = |position, time| {
            let lease = Lease::from_bits(mapped.load(Place::Lease(0, position), SeqCst));
            move |_| Due::new(time, 1, lease.turn()).bits()
        };
        let at = |slot: u64| format!("group default: lease word of slot {slot}");
        plant(queue, Place::Due(0, TIMED), due(TIMED, hours(13)), &at(302));
        plant(queue, Place::Due(0, RETRY), due(RETRY, hours(366 * 24)), &at(303));
        plant(queue, Place::Due(0, RETRY), |bits| bits ^ 1, &at(303));
        plant(queue, Place::Due(0, DEAD), due(DEAD, hours(1)), &at(304));
        plant(queue, Place::Due(0, DEAD), |bits| bits ^ 1, &at(304));
        // Of a lease before: it says nothing.
        let right = mapped.load(Place::Due(0, TIMED), SeqCst);
        mapped.store(Place::Due(0, TIMED), due(TIMED, hours(13))(0) ^ 1, SeqCst);
        assert_eq!(places(queue), [""; 0]);
        mapped.store(Place::Due(0, TIMED), right, SeqCst);
    });
}

#[test]
fn leases_without_a_consumer_are_found() {
    with_queue(|queue| {
        let mapped = &queue.core.mapped;
        // `other` has a consumer in this process, `default` then has none.
        let records: Vec<_> = queue
            .core
            .attachments()
            .filter(|(_, who)| matches!(who.role, crate::queue::attach::Role::Consumer { group: 0, .. }))
            .map(|(index, _)| (index, mapped.attachment(index).who.swap(0, SeqCst)))
            .collect();
        let found = places(queue);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("group default: lease word of slot 301 | "), "{found:?}");
        assert!(found[1].starts_with("group default: lease word of slot 302 | "), "{found:?}");
        for (index, bits) in records {
            mapped.attachment(index).who.store(bits, SeqCst);
        }
    });
}

#[test]
fn faults_in_the_queues_words_are_found() {
    with_queue(|queue| {
        let words = queue.core.mapped.words();
        plant(queue, Place::Tail, |tail| tail + 100, "queue words");
        plant(queue, Place::Active, |active| active | 1 << 63, "queue words");
        plant(queue, Place::Active, |active| active | 1 << 7, "group #7: its words");
        plant(queue, Place::Active, |active| active & !2, "group other: its words");
        plant_64(queue, &words.sleepers, 1 << 8, "queue words");
        plant_64(queue, &words.swept_ms, clock::boot_ms() + 100_000, "queue words");
    });
}

#[test]
fn faults_in_roles_and_records_are_found() {
    with_queue(|queue| {
        let mapped = &queue.core.mapped;
        let me = u64::from(queue.store.me.index());
        let role = &mapped.words().producer_role;
        plant_64(queue, role, u64::MAX, "producer role");
        plant_64(queue, role, me << 32, "producer role");
        plant_64(queue, role, me << 32 | 1024, "producer role");
        // Record 0 is the producer, which is not exclusive.
        plant_64(queue, role, me << 32 | 1, "producer role");
        plant_64(queue, &mapped.group(OTHER).role, me << 32 | 2, "group other: consumer role");
        let free = &mapped.attachment(500).who;
        let record = |group: u64, kind: u64, owner: u64| group << 24 | kind << 16 | owner;
        for wrong in [
            record(0, 9, me),
            record(0, 0, me),
            record(200, 3, me),
            record(5, 4, me),
            record(0, 1, NOBODY),
            record(0, 1, 5000),
            record(0, 1, 0),
        ] {
            plant_64(queue, free, wrong, "record 500 of producers and consumers");
        }
        // An exclusive role beside a shared producer.
        free.store(record(0, 2, me), SeqCst);
        plant_64(queue, role, me << 32 | 501, "producer role");
        plant_64(queue, role, NOBODY << 32 | 501, "producer role");
        free.store(0, SeqCst);
    });
}

#[test]
fn faults_in_groups_are_found() {
    with_queue(|queue| {
        let mapped = &queue.core.mapped;
        let other = mapped.group(OTHER);
        let at = "group other: its words";
        plant_64(queue, &mapped.group(5).state, 9, "group #5: its words");
        plant_64(queue, &mapped.group(5).state, group::FORMING, "group #5: its words");
        plant_64(queue, &other.state, group::LEAVING, at);
        for start in [0, END + 1, 1025, u64::MAX] {
            plant_64(queue, &other.start, start, at);
        }
        for birth in [0, END + 1] {
            plant_64(queue, &other.birth, birth, at);
        }
        plant_64(queue, &other.head, END + 1, at);
        plant_32(queue, &other.max_deliveries, 501, at);
        plant_32(queue, &other.ordered, 2, at);
        plant_32(queue, &other.from_oldest, 2, at);
        plant_32(queue, &other.backoff_cap_ms, 86_400_001, at);
        plant_32(queue, &other.backoff_base_ms, 60_001, at);
        plant_32(queue, &other.backoff_jitter, 101, at);
        plant_32(queue, &other.sweep_at, 1024, at);
    });
}

#[test]
fn faults_in_names_are_found() {
    with_queue(|queue| {
        let words = queue.core.mapped.group(OTHER);
        let write = |name: &[u8]| {
            let bytes = name.iter().copied().chain(std::iter::repeat(0));
            let put = |(place, byte): (&AtomicU8, u8)| place.store(byte, SeqCst);
            words.name.iter().zip(bytes).for_each(put);
        };
        for wrong in ["", "a/b", ".a", "a\u{e9}", "other\0x", "default"] {
            write(wrong.as_bytes());
            let found = places(queue);
            assert!(found.iter().any(|found| found.contains(": its words | ")), "{wrong:?}: {found:?}");
        }
        write(&[0xff, 0xfe]);
        assert!(places(queue)[0].contains(": its words | "));
        write(b"other");
    });
}

#[test]
fn faults_in_notes_are_found() {
    with_queue(|queue| {
        let note = queue.core.mapped.note(0, 0);
        assert_eq!(note.position.load(SeqCst), DEAD);
        plant_64(queue, &note.position, END, "group default: rejection note 0");
        plant_64(queue, &note.position, 5, "group default: rejection note 0");
        plant_64(queue, &note.len, 241, "group default: rejection note 0");
    });
}

#[test]
fn faults_in_the_header_are_found() {
    with_queue(|queue| {
        let path = queue.store.queues.path().join("q");
        let file = std::fs::File::options().read(true).write(true).open(path).expect("the file");
        let mut right = [0; 4096];
        file.read_exact_at(&mut right, 0).expect("read");
        for byte in [0, 8, 12, 16, 40, 48, 104, 112, 124, at::END, 4095] {
            file.write_all_at(&[right[byte] ^ 1], byte as u64).expect("written");
            assert_found(queue, "header");
            file.write_all_at(&right[byte..=byte], byte as u64).expect("written");
        }
        let len = file.metadata().expect("metadata").len();
        file.set_len(len + 4096).expect("longer");
        assert_found(queue, "header");
        // Extents at the end were never used, so nobody touches what is not there.
        file.set_len(len - 4096).expect("shorter");
        assert_found(queue, "file");
        file.set_len(len).expect("as it was");
    });
}

#[test]
fn a_header_of_another_queue_is_found() {
    with_queue(|queue| {
        let path = queue.store.queues.path().join("q");
        let file = std::fs::File::options().read(true).write(true).open(path).expect("the file");
        let mut right = vec![0; 4096];
        file.read_exact_at(&mut right, 0).expect("read");
        let len = file.metadata().expect("metadata").len();
        let header = crate::layout::header::Header::decode(
            &right,
            crate::layout::header::QUEUE_MAGIC,
            len,
            "q".as_ref(),
        )
        .expect("a header");
        let mut other_store = header;
        other_store.store_id[3] ^= 1;
        let mut other_geometry = header;
        other_geometry.capacity *= 2;
        for wrong in [other_store, other_geometry] {
            file.write_all_at(&wrong.encode(), 0).expect("written");
            assert_found(queue, "header");
        }
        file.write_all_at(&right, 0).expect("written");
    });
}

/// Whatever is in the file, looking at it ends, and does not panic.
#[test]
fn a_scribbled_file_can_be_looked_at() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("directory");
    let store = Store::create(dir.path().join("store")).expect("store");
    let queue = Queue::options().capacity(1024).create(&store, "q").expect("queue");
    let (plan, file) = (queue.core.mapped.plan(), queue.core.mapped.file());
    let mut seed = 1_u64;
    for round in 0..40_u32 {
        let mut bytes = vec![0; (plan.extents - 4096) as usize];
        for word in bytes.chunks_exact_mut(8) {
            seed = crate::queue::tend::chance(Lease::from_bits(seed), 1);
            // All ones, or chance; also chance among small numbers, which look right more often.
            let value = if round == 0 { u64::MAX } else { seed >> (round % 8 * 8) };
            word.copy_from_slice(&value.to_le_bytes());
        }
        file.write_all_at(&bytes, 4096).expect("written");
        queue.core.mapped.words().removed.store(0, SeqCst);
        let group = queue.core.mapped.group(0);
        if round % 2 == 1 {
            group.state.store(group::ACTIVE, SeqCst);
            group.name.iter().zip(*b"default\0").for_each(|(place, byte)| place.store(byte, SeqCst));
        }
        let report = queue.verify().expect("a report");
        assert!(!report.violations.is_empty() && report.violations.len() <= MOST + 1);
        queue.info().expect("figures");
        for group in queue.groups().expect("groups") {
            let _ = queue.peek(&group.name, 10);
            let _ = queue.dead(&group.name);
            let _ = queue.retry_dead(&group.name, seed);
            let _ = queue.purge_dead(&group.name, seed);
        }
    }
}

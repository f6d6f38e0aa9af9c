//! The ring in a vector: the same algorithm on words that are nothing but words, laid out as in a queue file.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire};

use ringway::memory::{Memory, Place};
use ringway::ring::settle::ack;
use ringway::ring::{Owner, Publisher, Ready, Subscriber};

/// Slots, as in the queue that it is compared with.
pub const CAPACITY: u64 = 16_384;

/// Words of a slot: 128 bytes.
const SLOT: u64 = 16;

/// Words between hints, so that no two are on a pair of cache lines.
const APART: u64 = 16;

/// Where the areas begin, in words.
const HINTS: u64 = 0;
const CLAIMS: u64 = HINTS + 5 * APART;
const LEASES: u64 = CLAIMS + CAPACITY;
const DUES: u64 = LEASES + CAPACITY;
const RETURNED: u64 = DUES + CAPACITY;
const SLOTS: u64 = RETURNED + CAPACITY / 64;
const WORDS: u64 = SLOTS + CAPACITY * SLOT;

/// The words of a queue with one group.
pub struct Bare {
    words: Vec<AtomicU64>,
}

impl Bare {
    /// An empty queue.
    pub fn new() -> Bare {
        let bare = Bare { words: (0..WORDS).map(|_| AtomicU64::new(0)).collect() };
        for place in [Place::Tail, Place::Head(0), Place::Start(0)] {
            // Before the first lap there are no positions.
            bare.store(place, CAPACITY, Ordering::Relaxed);
        }
        bare.store(Place::Active, 1, Ordering::Relaxed);
        bare
    }

    #[inline(always)]
    fn word(&self, place: Place) -> &AtomicU64 {
        let slot = |position: u64| position & (CAPACITY - 1);
        let at = match place {
            Place::Claim(position) => CLAIMS + slot(position),
            Place::Seq(position) => SLOTS + slot(position) * SLOT,
            Place::Lease(_, position) => LEASES + slot(position),
            Place::Due(_, position) => DUES + slot(position),
            Place::Returned(_, index) => RETURNED + (index & (CAPACITY / 64 - 1)),
            Place::Attention(_) => HINTS,
            Place::Head(_) => HINTS + APART,
            Place::Start(_) => HINTS + 2 * APART,
            Place::Tail => HINTS + 3 * APART,
            Place::Active => HINTS + 4 * APART,
        };
        &self.words[at as usize]
    }
}

impl Memory for Bare {
    #[inline(always)]
    fn capacity(&self) -> u64 {
        CAPACITY
    }

    #[inline(always)]
    fn load(&self, place: Place, order: Ordering) -> u64 {
        self.word(place).load(order)
    }

    #[inline(always)]
    fn store(&self, place: Place, value: u64, order: Ordering) {
        self.word(place).store(value, order);
    }

    #[inline(always)]
    fn compare_exchange(&self, place: Place, old: u64, new: u64) -> Result<(), u64> {
        self.word(place).compare_exchange(old, new, AcqRel, Acquire).map(|_| ())
    }

    fn fetch_or(&self, place: Place, bits: u64) -> u64 {
        self.word(place).fetch_or(bits, AcqRel)
    }

    fn fetch_and(&self, place: Place, bits: u64) -> u64 {
        self.word(place).fetch_and(bits, AcqRel)
    }

    fn fetch_max(&self, place: Place, value: u64) -> u64 {
        self.word(place).fetch_max(value, AcqRel)
    }
}

/// A producer and a consumer of it.
pub struct Ends {
    memory: Bare,
    publisher: Publisher,
    subscriber: Subscriber,
}

impl Ends {
    /// Of an empty ring; leases are until death.
    pub fn new(exclusive: bool) -> Ends {
        let (memory, timed) = (Bare::new(), false);
        let publisher = Publisher::new(&memory, Owner::new(1), exclusive);
        let subscriber = Subscriber::new(&memory, 0, Owner::new(2), exclusive, timed);
        Ends { memory, publisher, subscriber }
    }

    /// Claims the next slot and publishes 64 bytes, which are not written.
    #[inline]
    pub fn publish(&self) {
        let known = self.publisher.claim_known(&self.memory);
        let position = known.unwrap_or_else(|| self.publisher.claim(&self.memory).expect("there is room"));
        self.publisher.finish(&self.memory, position, 64);
    }

    /// Leases the next message and acks it.
    #[inline]
    pub fn receive(&self) {
        let Ready::Message(leased) = self.subscriber.next_ready(&self.memory) else {
            panic!("a message is there");
        };
        ack(&self.memory, 0, leased.position, leased.lease).expect("the lease stands");
    }
}

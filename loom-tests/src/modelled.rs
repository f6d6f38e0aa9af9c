//! The ring's memory made of loom's atomics: every order that the C++ model allows is tried, within a bound
//! of preemptions.
//!
//! A slot's payload is one cell that loom watches: an access that no happens-before edge separates from
//! another's write is a finding. The parties are spawned threads: loom does not go back before an access of
//! the main thread, which so only prepares, joins and checks. [`Fault`] takes an edge away; each test shows
//! that it notices.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU64 as Counter, Ordering};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use ringway::memory::{Memory, Place};
use ringway::ring::{Found, Leased, Owner, Publisher, Subscriber, Unfinished};

/// An edge, or an atomicity, that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// READY is stored Relaxed.
    SeqStoreRelaxed,
    /// `seq` is read Relaxed.
    SeqLoadRelaxed,
    /// Lease words are changed Relaxed.
    LeaseChangeRelaxed,
    /// Lease words are read Relaxed.
    LeaseLoadRelaxed,
    /// A claim's CAS is a load and a store.
    ClaimTorn,
    /// A lease's CAS is a load and a store.
    LeaseTorn,
    /// The due word's CAS does nothing.
    DueIgnored,
    /// Bits are not set in the bitmap.
    BitLost,
    /// Recovery does not void.
    VoidIgnored,
    /// Recovery does not return leases.
    ReturnIgnored,
}

/// Shared words and payloads of a queue of few slots and two groups at most.
pub struct Modelled {
    slots: u64,
    claims: Vec<AtomicU64>,
    seqs: Vec<AtomicU64>,
    payloads: Vec<UnsafeCell<u64>>,
    /// What the journal's leader has written, by slot.
    disk: Vec<UnsafeCell<u64>>,
    groups: Vec<Group>,
    tail: AtomicU64,
    active: AtomicU64,
    fault: Option<Fault>,
}

struct Group {
    leases: Vec<AtomicU64>,
    dues: Vec<AtomicU64>,
    returned: AtomicU64,
    attention: AtomicU64,
    head: AtomicU64,
    start: AtomicU64,
}

// SAFETY: the payload cells are the only part that is not atomic, and loom reports each unordered access to
// them.
unsafe impl Sync for Modelled {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Modelled {}

fn words(count: u64) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Modelled {
    /// An empty queue with one group.
    pub fn new(slots: u64, fault: Option<Fault>) -> Arc<Modelled> {
        Modelled::with_groups(1, slots, fault)
    }

    /// An empty queue with so many groups.
    pub fn with_groups(groups: u8, slots: u64, fault: Option<Fault>) -> Arc<Modelled> {
        let group = || Group {
            leases: words(slots),
            dues: words(slots),
            returned: AtomicU64::new(0),
            attention: AtomicU64::new(0),
            head: AtomicU64::new(slots),
            start: AtomicU64::new(slots),
        };
        Arc::new(Modelled {
            slots,
            claims: words(slots),
            seqs: words(slots),
            payloads: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
            disk: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
            groups: (0..groups).map(|_| group()).collect(),
            tail: AtomicU64::new(slots),
            active: AtomicU64::new((1 << groups) - 1),
            fault,
        })
    }

    fn word(&self, place: Place) -> &AtomicU64 {
        let slot = |slot: u64| (slot % self.slots) as usize;
        match place {
            Place::Claim(at) => &self.claims[slot(at)],
            Place::Seq(at) => &self.seqs[slot(at)],
            Place::Lease(group, at) => &self.groups[group as usize].leases[slot(at)],
            Place::Due(group, at) => &self.groups[group as usize].dues[slot(at)],
            Place::Returned(group, _) => &self.groups[group as usize].returned,
            Place::Attention(group) => &self.groups[group as usize].attention,
            Place::Head(group) => &self.groups[group as usize].head,
            Place::Start(group) => &self.groups[group as usize].start,
            Place::Tail => &self.tail,
            Place::Active => &self.active,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Writes a payload, as the claimant of the position.
    pub fn write(&self, position: u64, value: u64) {
        // SAFETY: the model's question; loom reports it if another access is not ordered.
        self.payloads[(position % self.slots) as usize].with_mut(|cell| unsafe { *cell = value });
    }

    /// Writes a message to the disk, as the journal's leader.
    pub fn write_disk(&self, position: u64, value: u64) {
        // SAFETY: as in `write`.
        self.disk[(position % self.slots) as usize].with_mut(|cell| unsafe { *cell = value });
    }

    /// Reads what is on the disk.
    pub fn read_disk(&self, position: u64) -> u64 {
        // SAFETY: as in `write`.
        self.disk[(position % self.slots) as usize].with(|cell| unsafe { *cell })
    }

    /// Reads a payload, as the holder of a lease.
    pub fn read(&self, position: u64) -> u64 {
        // SAFETY: as in `write`.
        self.payloads[(position % self.slots) as usize].with(|cell| unsafe { *cell })
    }
}

impl Memory for Modelled {
    const SKIPS_MAX: u32 = 3;
    const UNBEGUN_MS: u64 = 4;

    fn capacity(&self) -> u64 {
        self.slots
    }

    fn load(&self, place: Place, order: Ordering) -> u64 {
        let order = match place {
            Place::Seq(_) if self.has(Fault::SeqLoadRelaxed) => Relaxed,
            Place::Lease(..) if self.has(Fault::LeaseLoadRelaxed) => Relaxed,
            _ => order,
        };
        self.word(place).load(order)
    }

    fn store(&self, place: Place, value: u64, order: Ordering) {
        let order = match place {
            Place::Seq(_) if self.has(Fault::SeqStoreRelaxed) => Relaxed,
            Place::Lease(..) if self.has(Fault::LeaseChangeRelaxed) => Relaxed,
            _ => order,
        };
        self.word(place).store(value, order);
    }

    fn compare_exchange(&self, place: Place, old: u64, new: u64) -> Result<(), u64> {
        let torn = match place {
            Place::Claim(_) => self.has(Fault::ClaimTorn),
            Place::Lease(..) => self.has(Fault::LeaseTorn),
            _ => false,
        };
        if torn {
            let there = self.word(place).load(Acquire);
            if there != old {
                return Err(there);
            }
            self.word(place).store(new, Ordering::Release);
            return Ok(());
        }
        match place {
            Place::Due(..) if self.has(Fault::DueIgnored) => return Ok(()),
            Place::Seq(_) if self.has(Fault::VoidIgnored) => return Ok(()),
            Place::Lease(..) if self.has(Fault::ReturnIgnored) && new >> 29 & 7 == 3 => return Ok(()),
            _ => {}
        }
        let (success, failure) = match place {
            Place::Lease(..) if self.has(Fault::LeaseChangeRelaxed) => (Relaxed, Relaxed),
            _ => (AcqRel, Acquire),
        };
        self.word(place).compare_exchange(old, new, success, failure).map(|_| ())
    }

    fn fetch_or(&self, place: Place, bits: u64) -> u64 {
        if self.has(Fault::BitLost) {
            return self.word(place).load(Acquire);
        }
        self.word(place).fetch_or(bits, AcqRel)
    }

    fn fetch_and(&self, place: Place, bits: u64) -> u64 {
        self.word(place).fetch_and(bits, AcqRel)
    }

    fn fetch_max(&self, place: Place, value: u64) -> u64 {
        self.word(place).fetch_max(value, AcqRel)
    }
}

/// A memory whose user vanishes, or is paused, before its `k`-th access.
pub struct Mortal<'a> {
    memory: &'a Modelled,
    left: Cell<u32>,
    meanwhile: Cell<Option<Box<dyn FnOnce() + 'a>>>,
}

struct Vanished;

impl<'a> Mortal<'a> {
    /// Runs a life of `accesses`; `None`: it was cut short.
    pub fn live<T>(memory: &'a Modelled, accesses: u32, life: impl FnOnce(&Mortal<'a>) -> T) -> Option<T> {
        let mortal = Mortal { memory, left: Cell::new(accesses), meanwhile: Cell::new(None) };
        match catch_unwind(AssertUnwindSafe(|| life(&mortal))) {
            Ok(value) => Some(value),
            Err(cause) if cause.is::<Vanished>() => None,
            Err(cause) => resume_unwind(cause),
        }
    }

    /// A memory whose user is paused before its next access but `accesses`; what others do `meanwhile` is
    /// done then.
    pub fn paused(memory: &'a Modelled, accesses: u32, meanwhile: impl FnOnce() + 'a) -> Mortal<'a> {
        Mortal { memory, left: Cell::new(accesses), meanwhile: Cell::new(Some(Box::new(meanwhile))) }
    }

    /// Writes a payload.
    pub fn write(&self, position: u64, value: u64) {
        self.tick();
        self.memory.write(position, value);
    }

    /// Reads a payload.
    pub fn read(&self, position: u64) -> u64 {
        self.tick();
        self.memory.read(position)
    }

    fn tick(&self) {
        match (self.left.get(), self.meanwhile.take()) {
            (0, None) => resume_unwind(Box::new(Vanished)),
            (0, Some(meanwhile)) => {
                self.left.set(u32::MAX);
                meanwhile();
            }
            (left, meanwhile) => {
                self.left.set(left - 1);
                self.meanwhile.set(meanwhile);
            }
        }
    }
}

impl Memory for Mortal<'_> {
    const SKIPS_MAX: u32 = Modelled::SKIPS_MAX;
    const UNBEGUN_MS: u64 = Modelled::UNBEGUN_MS;

    fn capacity(&self) -> u64 {
        self.memory.capacity()
    }
    fn load(&self, place: Place, order: Ordering) -> u64 {
        self.tick();
        self.memory.load(place, order)
    }
    fn store(&self, place: Place, value: u64, order: Ordering) {
        self.tick();
        self.memory.store(place, value, order);
    }
    fn compare_exchange(&self, place: Place, old: u64, new: u64) -> Result<(), u64> {
        self.tick();
        self.memory.compare_exchange(place, old, new)
    }
    fn fetch_or(&self, place: Place, bits: u64) -> u64 {
        self.tick();
        self.memory.fetch_or(place, bits)
    }
    fn fetch_and(&self, place: Place, bits: u64) -> u64 {
        self.tick();
        self.memory.fetch_and(place, bits)
    }
    fn fetch_max(&self, place: Place, value: u64) -> u64 {
        self.tick();
        self.memory.fetch_max(place, value)
    }
}

/// The owner index of a test's `n`-th process.
pub fn owner(n: u16) -> Owner {
    Owner::new(n)
}

/// Claims, writes, publishes, if there is room.
pub fn publish(memory: &Modelled, publisher: &Publisher, value: u64) -> Option<u64> {
    let position = publisher.claim(memory).ok()?;
    memory.write(position, value);
    publisher.finish(memory, position, 8);
    Some(position)
}

/// Leases the next fresh message, if there is one.
pub fn receive(memory: &Modelled, subscriber: &Subscriber) -> Option<Leased> {
    match subscriber.next_fresh(memory, true, Unfinished::Wait) {
        Found::Message(leased) => Some(leased),
        _ => None,
    }
}

/// Tries all interleavings within a bound of preemptions: `preemptions`, or `LOOM_MAX_PREEMPTIONS`, or no
/// bound with `MODEL_BOUNDS=full`. Prints how many there were.
pub fn check(name: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let full = std::env::var("MODEL_BOUNDS").is_ok_and(|bounds| bounds == "full");
    if builder.preemption_bound.is_none() && !full {
        builder.preemption_bound = Some(preemptions);
    }
    builder.max_branches = 20_000;
    let began = std::time::Instant::now();
    let runs = std::sync::Arc::new(Counter::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    println!("loom {name}: {} interleavings, {:.1} s", runs.load(Relaxed), began.elapsed().as_secs_f64());
}

/// The same, of a model that is wrong.
///
/// # Panics
///
/// If nothing is found.
pub fn must_fail(name: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let found = catch_unwind(AssertUnwindSafe(|| check(name, preemptions, model)));
    assert!(found.is_err(), "{name}: the fault was not found");
    println!("loom {name}: found");
}

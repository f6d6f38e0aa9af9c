//! The kinds of scenario: who takes part, in which roles, on which queue.

use std::time::Duration;

use ringway::{Backoff, GroupOptions, Order, Wait};

use crate::clock::Rng;
use crate::fleet::Place;
use crate::history::Group;
use crate::job::{ConsumerRole, ProducerRole, Role};

/// What a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Shared producers and consumers, one relaxed group.
    Shared,
    /// One producer at a time, with others waiting to take over.
    ExclusiveProducer,
    /// One consumer at a time, in order, with others waiting to take over.
    ExclusiveConsumer,
    /// Both roles exclusive: no locked instruction on either side.
    ExclusiveBoth,
    /// Several consumers of an ordered group.
    OrderedShared,
    /// Two groups, one of them slow.
    TwoGroups,
    /// Leases shorter than the pauses.
    TimedLeases,
    /// Messages far longer than a slot.
    Large,
    /// Consumers that nack, release, defer, reject and drop more than others.
    Moody,
    /// Zero-copy on both sides.
    Trusting,
}

impl Kind {
    pub(crate) const ALL: [Kind; 10] = [
        Kind::Shared,
        Kind::TimedLeases,
        Kind::ExclusiveConsumer,
        Kind::Moody,
        Kind::TwoGroups,
        Kind::ExclusiveProducer,
        Kind::Large,
        Kind::ExclusiveBoth,
        Kind::OrderedShared,
        Kind::Trusting,
    ];
}

/// A scenario: the queue, its groups, and a place for each process.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) slot_size: u32,
    pub(crate) trust: bool,
    /// The groups, `default` first, and what the checker is told of them.
    pub(crate) groups: Vec<(GroupOptions, Group)>,
    pub(crate) places: Vec<Place>,
    /// How many of a thousand actions of the harness are pauses.
    pub(crate) pause_permille: u64,
    /// The longest pause, in microseconds.
    pub(crate) pause_us: u64,
}

/// Slots of every queue: the fewest there can be, so that it is full again and again.
pub(crate) const CAPACITY: u32 = 1024;
/// The longest message of any kind, with room for headers.
pub(crate) const MAX_MESSAGE: u32 = 128 * 1024;
/// The longest payload that is published.
const LONGEST: usize = 64 * 1024;
/// Milliseconds of a lease in [`Kind::TimedLeases`].
const SHORT_LEASE_MS: u64 = 12;

impl Plan {
    pub(crate) fn new(kind: Kind, rng: &mut Rng) -> Plan {
        let groups = groups(kind, rng);
        let timed = kind == Kind::TimedLeases;
        let mut places = Vec::new();
        for _ in 0..rng.between(3, 4) {
            places.push(Place { role: producer(kind, rng), group: 0 });
        }
        for (number, (_, group)) in groups.iter().enumerate() {
            let consumers = if kind == Kind::TwoGroups { 2 } else { rng.between(3, 4) };
            for _ in 0..consumers {
                places.push(Place { role: consumer(kind, group, number, rng), group: number });
            }
            places.push(Place { role: Role::Warden { group: group.name.clone() }, group: number });
        }
        Plan {
            kind,
            slot_size: *rng.pick(&[64, 128, 192]),
            trust: kind == Kind::Trusting,
            groups,
            places,
            pause_permille: if timed { 350 } else { 120 },
            pause_us: if timed { SHORT_LEASE_MS * 4000 } else { 20_000 },
        }
    }
}

fn groups(kind: Kind, rng: &mut Rng) -> Vec<(GroupOptions, Group)> {
    let exclusive = matches!(kind, Kind::ExclusiveConsumer | Kind::ExclusiveBoth);
    let ordered = exclusive || kind == Kind::OrderedShared;
    let names: &[&str] = if kind == Kind::TwoGroups { &["default", "slow"] } else { &["default"] };
    let make = |name: &&str| {
        let max_deliveries = if kind == Kind::Moody { rng.between(2, 5) as u16 } else { 10 };
        let options = GroupOptions {
            order: if ordered { Order::Ordered } else { Order::Relaxed },
            max_deliveries,
            // Short, so that what is returned comes back while the scenario lasts.
            backoff: Backoff {
                base: Duration::from_millis(1),
                cap: Duration::from_millis(20),
                jitter_percent: 10,
            },
            ..GroupOptions::default()
        };
        // The longer one is the default of the library: it never runs out here, but it is settled and
        // received by other means than a lease until death.
        let timed = !exclusive && kind != Kind::Trusting && rng.chance(500);
        let lease_ms = if kind == Kind::TimedLeases { Some(SHORT_LEASE_MS) } else { timed.then_some(30_000) };
        let promised = Group {
            name: (*name).to_owned(),
            ordered,
            exclusive,
            lease: lease_ms.map(|ms| ms * 1_000_000),
            max_deliveries,
            ..Group::default()
        };
        (options, promised)
    };
    names.iter().map(make).collect()
}

fn producer(kind: Kind, rng: &mut Rng) -> Role {
    // Some never rest, so that the ring is full and most kills hit them inside a publish.
    let restless = rng.chance(250);
    Role::Producer(ProducerRole {
        exclusive: matches!(kind, Kind::ExclusiveProducer | Kind::ExclusiveBoth),
        wait: wait(rng),
        burst: if restless { 1000 } else { rng.between(4, 128) },
        gap_us: if restless { 0 } else { rng.between(100, 2000) },
        long_permille: if kind == Kind::Large { 400 } else { 10 },
        longest: if kind == Kind::Large { LONGEST } else { 2048 },
    })
}

fn consumer(kind: Kind, group: &Group, number: usize, rng: &mut Rng) -> Role {
    Role::Consumer(ConsumerRole {
        group: group.name.clone(),
        exclusive: group.exclusive,
        wait: wait(rng),
        lease_ms: group.lease.map(|nanos| nanos / 1_000_000),
        batch: *rng.pick(&[1, 4, 16, 64]),
        keep: *rng.pick(&[0, 0, 3, 32]),
        work_us: if number == 1 { 3000 } else { *rng.pick(&[0, 300, 2000]) },
        // A returned message holds an ordered group up until it is due.
        mood: match kind {
            Kind::Moody => 30,
            _ if group.ordered => 1,
            _ => *rng.pick(&[4, 4, 4, 30]),
        },
    })
}

fn wait(rng: &mut Rng) -> Wait {
    *rng.pick(&[
        Wait::Adaptive,
        Wait::Adaptive,
        Wait::Adaptive,
        Wait::Adaptive,
        Wait::Park,
        Wait::Park,
        Wait::Spin,
    ])
}

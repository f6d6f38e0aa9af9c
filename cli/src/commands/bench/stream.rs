//! Throughput: producers publish as fast as they can, and the consumers of each group receive and ack.
//!
//! Each consumer measures from the end of its warm-up to the end of the stream. The last producer to be done
//! publishes as many end marks as there are consumers in a group, behind all messages. A consumer that takes
//! one leaves the others to the others, waits until each has one, and then looks for what is still there:
//! a message that was overtaken, or too many. None of this is measured.

mod consume;
mod produce;

use ringway_measure::{Error, Faults, Gate, Result, Tally, Words, spawn};
use serde::{Deserialize, Serialize};

use super::case::{Amount, Case};
use super::run::{Run, Watch, gate, settle_down};

const QUEUE: &str = "stream";

/// Between words of different groups: a pair of cache lines.
const APART: usize = 16;

/// What the processes of a run share.
#[derive(Debug)]
struct Shared {
    gate: Gate,
    /// For each group, how many of its consumers have an end mark, and how many messages they took.
    groups: Words,
}

/// What a process tells at its end.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Published { messages: u64 },
    Consumed(Consumed),
}

#[derive(Debug, Serialize, Deserialize)]
struct Consumed {
    group: usize,
    tally: Tally,
    lease_lost: u64,
    /// Messages from the end of the warm-up to the end mark, and these two times.
    measured: u64,
    from_ns: u64,
    to_ns: u64,
}

impl Shared {
    fn new(case: &Case) -> Result<Shared> {
        Ok(Shared { gate: gate(case)?, groups: Words::new(case.groups * 2 * APART)? })
    }

    /// Messages of the producers that are done.
    fn published(&self) -> &std::sync::atomic::AtomicU64 {
        self.gate.word(0)
    }

    /// Producers that are done.
    fn done(&self) -> &std::sync::atomic::AtomicU64 {
        self.gate.word(1)
    }

    /// Consumers of the group that have an end mark.
    fn ended(&self, group: usize) -> &std::sync::atomic::AtomicU64 {
        &self.groups[group * 2 * APART]
    }

    /// Messages that consumers of the group have taken, told when they have an end mark.
    fn taken(&self, group: usize) -> &std::sync::atomic::AtomicU64 {
        &self.groups[group * 2 * APART + APART]
    }
}

pub(super) fn run(watch: &Watch<'_>, case: &Case) -> Result<Run> {
    let stand = watch.place.stand(case, &[QUEUE])?;
    let shared = Shared::new(case)?;
    let (stand, shared) = (&stand, &shared);
    let mut children = Vec::new();
    for process in 0..case.processes() {
        children.push(spawn(move || {
            settle_down(case, process)?;
            if let Some(consumer) = process.checked_sub(case.producers) {
                consume::run(case, stand, shared, consumer % case.groups)
            } else {
                produce::run(case, stand, shared, process)
            }
        })?);
    }
    outcome(case, watch.join(case, children)?)
}

/// Messages of this producer, warm-up included: all together publish what was asked for.
fn share(case: &Case, producer: usize) -> u64 {
    let Amount::Messages(messages) = case.amount else { return 0 };
    let (all, producers) = (messages + case.warm_up(), case.producers as u64);
    all / producers + u64::from((producer as u64) < all % producers)
}

fn outcome(case: &Case, told: Vec<Told>) -> Result<Run> {
    let mut published = Vec::new();
    let mut groups: Vec<Vec<Consumed>> = (0..case.groups).map(|_| Vec::new()).collect();
    for told in told {
        match told {
            Told::Published { messages } => published.push(messages),
            Told::Consumed(consumed) => groups[consumed.group].push(consumed),
        }
    }
    let published = Tally::of_published(&published);
    let (mut faults, mut lease_lost, mut rates) = (Faults::default(), 0, 0.0);
    for group in groups {
        let mut tally = Tally::new(case.producers);
        for consumed in &group {
            tally.merge(&consumed.tally);
            lease_lost += consumed.lease_lost;
        }
        faults.merge(&tally.faults(&published));
        rates += rate(&group)?;
    }
    Ok(Run { per_second: Some(rates / case.groups as f64), faults, lease_lost, ..Run::default() })
}

/// Messages a second of one group.
fn rate(group: &[Consumed]) -> Result<f64> {
    // One that has seen nothing before its end mark had no part in it.
    let measured = || group.iter().filter(|consumed| consumed.measured > 0);
    let from = measured().map(|consumed| consumed.from_ns).min();
    let to = measured().map(|consumed| consumed.to_ns).max();
    match (from, to) {
        (Some(from), Some(to)) if from < to => {
            let messages: u64 = measured().map(|consumed| consumed.measured).sum();
            Ok(messages as f64 * 1e9 / (to - from) as f64)
        }
        _ => Err(Error::new(
            "the stream was over before it could be measured: use more --messages or --seconds",
        )),
    }
}

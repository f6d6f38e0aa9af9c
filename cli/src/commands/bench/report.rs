//! What was measured, as one JSON object, and the verdict on it.

use ringway_measure::{Machine, Spread};
use serde::Serialize;

use super::case::{Case, Durability, Role, Touch, What, wait_name};
use super::figures::Percentiles;
use super::limits::{Gauge, Limits};
use super::recovery::Recovery;
use super::rounds::Outcome;
use crate::args::bench::BenchArgs;
use crate::exit::{Code, Failure};

/// All that was measured, and on what.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) commit: &'static str,
    /// `release`, or `debug`: then the figures are not worth much.
    pub(super) profile: &'static str,
    pub(super) seed: u64,
    pub(super) runs: u32,
    pub(super) pinning: String,
    pub(super) machine: Machine,
    pub(super) limits: Limits,
    pub(super) results: Vec<Entry>,
}

/// One case.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) what: What,
    pub(super) role: Role,
    pub(super) producers: usize,
    pub(super) consumers: usize,
    pub(super) groups: usize,
    pub(super) payload: usize,
    pub(super) slot_size: u32,
    pub(super) capacity: u32,
    pub(super) batch: usize,
    pub(super) wait: &'static str,
    pub(super) durability: Durability,
    pub(super) zero_copy: bool,
    pub(super) touch: Touch,
    pub(super) rate: Option<f64>,
    /// The processor of each process; empty if they were not pinned.
    pub(super) cpus: Vec<usize>,
    #[serde(flatten)]
    pub(super) latency: Percentiles,
    /// In each group.
    pub(super) msgs_per_s: Option<Spread>,
    pub(super) cpu_percent: Option<Spread>,
    pub(super) recovery: Option<Recovery>,
    pub(super) ratio_to_limit: Option<f64>,
    pub(super) ratio_to_futex_wake: Option<f64>,
    pub(super) ratio_to_memcpy: Option<f64>,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) torn: u64,
    /// Where order is due, else 0.
    pub(super) out_of_order: u64,
    pub(super) lease_lost: u64,
}

impl Report {
    pub(super) fn new(args: &BenchArgs, outcomes: &[Outcome], gauges: &[Gauge]) -> Result<Report, Failure> {
        let nothing = || Failure::new(Code::Failed, "nothing was measured");
        let machine = Machine::read();
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("RINGWAY_COMMIT"),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            seed: args.common.seed,
            runs: args.runs(),
            pinning: pinning(outcomes, machine.cpus.len()),
            machine,
            limits: Limits::of(gauges).ok_or_else(nothing)?,
            results: outcomes.iter().map(Entry::new).collect(),
        })
    }

    /// An error if a message was lost, doubled or torn, or came out of order where that is due.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let sum = |count: fn(&Entry) -> u64| self.results.iter().map(count).sum::<u64>();
        let wrong = [
            (sum(|entry| entry.lost), "lost"),
            (sum(|entry| entry.duplicated), "duplicated"),
            (sum(|entry| entry.torn), "torn"),
            (sum(|entry| entry.out_of_order), "out of order"),
        ];
        let wrong: Vec<_> = wrong.iter().filter(|(count, _)| *count > 0).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let wrong: Vec<_> = wrong.iter().map(|(count, what)| format!("{count} {what}")).collect();
        Err(Failure::new(Code::Violated, format!("messages of these runs: {}", wrong.join(", "))))
    }
}

/// Where the processes ran, in words.
fn pinning(outcomes: &[Outcome], processors: usize) -> String {
    let unpinned = outcomes.iter().filter(|outcome| outcome.case.cpus.is_empty()).count();
    if unpinned == 0 {
        return "pinned".to_owned();
    }
    format!(
        "pinned, but for {unpinned} of {} cases: they have more than {processors} processes",
        outcomes.len()
    )
}

impl Entry {
    fn new(outcome: &Outcome) -> Entry {
        let Outcome { case, faults, .. } = outcome;
        let median = |runs: &ringway_measure::Runs| runs.spread().map(|spread| spread.median);
        Entry {
            what: case.what,
            role: case.role,
            producers: case.producers,
            consumers: case.consumers,
            groups: case.groups,
            payload: case.payload,
            slot_size: case.slot_size,
            capacity: case.capacity,
            batch: case.batch,
            wait: wait_name(case.wait),
            durability: case.durability,
            zero_copy: case.zero_copy,
            touch: case.touch,
            rate: case.rate,
            cpus: case.cpus.clone(),
            // A recovery has one time a run.
            latency: match case.what {
                What::Recovery => outcome.latency.pooled(),
                _ => outcome.latency.percentiles(),
            },
            msgs_per_s: outcome.per_second.spread(),
            cpu_percent: outcome.cpu_percent.spread(),
            recovery: (case.what == What::Recovery).then(|| outcome.recovery.figures(case)),
            ratio_to_limit: median(&outcome.to_limit),
            ratio_to_futex_wake: median(&outcome.to_futex_wake),
            ratio_to_memcpy: median(&outcome.to_memcpy),
            lost: faults.lost,
            duplicated: faults.duplicated,
            torn: faults.torn,
            out_of_order: if ordered(case) { faults.disorder } else { 0 },
            lease_lost: outcome.lease_lost,
        }
    }
}

/// Whether each producer's messages are due in order: a group of one exclusive consumer has no other, and
/// nothing is redelivered under a lease until death.
fn ordered(case: &Case) -> bool {
    case.role == Role::Exclusive && case.lease == ringway::Lease::UntilDeath
}

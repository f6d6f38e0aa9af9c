//! One run of a case: what it comes to, and what its processes have in common.

use std::time::Duration;

use ringway_measure::{Child, Faults, Gate, Latency, Result, join_all, pin};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::case::{Amount, Case, What};
use super::place::Place;
use super::{idle, latency, recovery, stream};
use crate::signals::Interrupt;

/// Longer than any run takes that goes on at all.
pub(super) const HANGS: Duration = Duration::from_secs(120);

/// Messages a second that the slowest machine makes, when it does not stand still.
const SLOWEST: u64 = 5_000;

/// What a run comes to.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    pub(super) latency: Option<Latency>,
    /// In each group.
    pub(super) per_second: Option<f64>,
    /// Of one processor.
    pub(super) cpu_percent: Option<f64>,
    pub(super) recovery: Option<recovery::Times>,
    pub(super) faults: Faults,
    /// Acks that came after the end of their lease.
    pub(super) lease_lost: u64,
}

/// Who watches over a run.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) place: &'a Place,
    pub(super) interrupt: &'a Interrupt,
}

impl Watch<'_> {
    pub(super) fn run(&self, case: &Case) -> Result<Run> {
        match case.what {
            What::RoundTrip => latency::round_trip(self, case),
            What::OneWay => latency::one_way(self, case),
            What::Throughput => stream::run(self, case),
            What::Idle => idle::run(self, case),
            What::Recovery => recovery::run(self, case),
        }
    }

    /// Waits for the processes of a run.
    pub(super) fn join<T: Serialize + DeserializeOwned>(
        &self,
        case: &Case,
        children: Vec<Child<T>>,
    ) -> Result<Vec<T>> {
        let longest = match case.amount {
            Amount::Time(time) => HANGS + time * 4,
            Amount::Watch { time, wakes } => {
                HANGS + time * 2 + idle::EVERY.saturating_mul(u32::try_from(wakes)?) * 4
            }
            Amount::Messages(messages) => {
                let paced = case.rate.map_or(0.0, |rate| 2.0 * messages as f64 / rate);
                let copied = Duration::from_millis(messages.saturating_mul(case.payload as u64) >> 16);
                HANGS + Duration::from_secs(messages / SLOWEST) + Duration::from_secs_f64(paced) + copied
            }
        };
        join_all(children, longest, || self.interrupt.check())
    }
}

/// To be called by the process with this index before it does anything else: takes its processor.
pub(super) fn settle_down(case: &Case, process: usize) -> Result<()> {
    match case.cpus.get(process) {
        Some(&cpu) => pin(cpu),
        None => Ok(()),
    }
}

/// A start line for all processes of the case.
pub(super) fn gate(case: &Case) -> Result<Gate> {
    Gate::new(case.processes())
}

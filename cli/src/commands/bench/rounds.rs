//! The rounds: in each, the gauges are read, and then every case is run once, in an order of its own.
//!
//! So whatever the machine does meanwhile, it does to all cases alike, and each run has gauges beside it that
//! were read in the same round.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringway_measure::{Error, Faults, Result, Runs};

use super::case::{Case, What};
use super::figures::Figures;
use super::limits::{Gauge, Gauges};
use super::recovery::AllTimes;
use super::run::{Run, Watch};

/// A case, and what all of its runs came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) case: Case,
    pub(super) latency: Figures,
    pub(super) per_second: Runs,
    pub(super) cpu_percent: Runs,
    pub(super) recovery: AllTimes,
    /// Median latency, or nanoseconds per message, to the two-line round trip of the same round.
    pub(super) to_limit: Runs,
    /// Median latency to the bare futex wake of the same round.
    pub(super) to_futex_wake: Runs,
    /// Bytes per second to memcpy of the same round.
    pub(super) to_memcpy: Runs,
    pub(super) faults: Faults,
    pub(super) lease_lost: u64,
}

impl Outcome {
    fn new(case: Case) -> Outcome {
        Outcome {
            case,
            latency: Figures::default(),
            per_second: Runs::new(),
            cpu_percent: Runs::new(),
            recovery: AllTimes::default(),
            to_limit: Runs::new(),
            to_futex_wake: Runs::new(),
            to_memcpy: Runs::new(),
            faults: Faults::default(),
            lease_lost: 0,
        }
    }

    fn add(&mut self, run: &Run, gauge: &Gauge) {
        if let Some(latency) = &run.latency {
            self.latency.add(latency);
            let p50 = latency.p50() as f64;
            self.to_limit.add(p50 / gauge.two_lines_ns);
            if self.case.what == What::Idle {
                gauge.futex_wake_ns().into_iter().for_each(|wake| self.to_futex_wake.add(p50 / wake));
            }
        }
        if let Some(per_second) = run.per_second {
            self.per_second.add(per_second);
            self.to_limit.add(1e9 / per_second / gauge.two_lines_ns);
            // What is not copied is in no relation to it.
            if let Some(memcpy) = gauge.memcpy(self.case.payload).filter(|_| !self.case.zero_copy) {
                self.to_memcpy.add(per_second * self.case.payload as f64 / memcpy);
            }
        }
        run.cpu_percent.into_iter().for_each(|percent| self.cpu_percent.add(percent));
        run.recovery.iter().for_each(|times| self.recovery.add(times));
        self.faults.merge(&run.faults);
        self.lease_lost += run.lease_lost;
    }
}

/// Runs all cases `rounds` times.
pub(super) fn run(
    watch: &Watch<'_>,
    cases: Vec<Case>,
    gauges: &Gauges,
    rounds: u32,
    seed: u64,
) -> Result<(Vec<Outcome>, Vec<Gauge>)> {
    let mut outcomes: Vec<_> = cases.into_iter().map(Outcome::new).collect();
    let mut read = Vec::new();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut order: Vec<usize> = (0..outcomes.len()).collect();
    let bar = progress(u64::from(rounds) * (order.len() as u64 + 1));
    for round in 1..=rounds {
        bar.set_message(format!("round {round}: limits"));
        watch.interrupt.check()?;
        let gauge = gauges.read()?;
        bar.inc(1);
        random.shuffle(&mut order);
        for &index in &order {
            let outcome = &mut outcomes[index];
            bar.set_message(format!("round {round}: {}", outcome.case.name()));
            watch.interrupt.check()?;
            let run = watch.run(&outcome.case).map_err(|e: Error| e.about(outcome.case.name()))?;
            outcome.add(&run, &gauge);
            bar.inc(1);
        }
        read.push(gauge);
    }
    bar.finish_and_clear();
    Ok((outcomes, read))
}

/// Drawn on a terminal only, and only when something is done: a thread for it could not be forked.
fn progress(steps: u64) -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(steps), target);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

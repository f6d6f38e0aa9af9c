//! Queues in memory, between processes or threads.
//!
//! ```text
//! mod      rounds: each peer in each workload, in turn, the gauge beside every run; then rows of them
//!  |-- tables     the rows laid out
//!  |-- runner     one run, as the parent leads it
//!  |    |-- control    the words by which it does
//!  |    `-- workload   the participants' loops, generic over the peer
//!  |-- peer       what a peer must be able to do
//!  `-- peers/     a file for each library
//! ```
//!
//! A round is all workloads; in a workload all peers run one after the other, each round beginning with
//! another one. The gauge is a ping-pong between two processes on two cache lines. It is measured beside
//! every run, because machines have moods: a run whose gauge is far from the others' is left out.

mod control;
pub mod peer;
mod peers;
pub mod runner;
mod tables;
pub mod workload;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ringway_measure::{cpus, limits};

use self::peers::{EXCLUSIVE, Entry, SHARED};
use self::runner::{Case, Ended, Figure, Measured, capacity, explain};
pub use self::tables::tables;
use self::workload::{Kind, Timing, Workload};
use crate::interrupt;
use crate::options::{Family, Options};
use crate::report::{Figures, Outcome, Row, Spread, What};

/// Where queues are made: as fast as memory.
const SHM: &str = "/dev/shm";

/// Messages of more than this touch new pages for the whole first lap.
const PAGE: usize = 4096;

/// A run whose gauge is further than this from the median of all gauges is left out.
const BAND: f64 = 1.6;

/// Runs in which a peer may stall, or give an error, before it is given up.
const CHANCES: usize = 2;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// What the peers did.
    pub rows: Vec<Row>,
    /// The gauge, in nanoseconds, over all runs; `None` if there were none.
    pub gauge: Option<Spread>,
    /// Runs that were left out because of their gauge, and all.
    pub left_out: (usize, usize),
}

/// A peer in a workload.
struct Cell {
    entry: Entry,
    workload: Workload,
    samples: Vec<Sample>,
    stalls: usize,
    errors: Vec<String>,
}

/// What one run gave.
#[derive(Clone, Copy)]
struct Sample {
    round: u32,
    gauge: f64,
    measured: Measured,
}

/// Measures all that are asked for.
pub fn run(options: &Options) -> Result<Found> {
    let entries: Vec<Entry> =
        peers::all().into_iter().filter(|entry| options.wants_peer(entry.name)).collect();
    let (here, missing): (Vec<_>, Vec<_>) =
        entries.iter().map(|entry| (entry, (entry.missing)())).partition(|(_, why)| why.is_none());
    let here: Vec<Entry> = here.into_iter().map(|(entry, _)| *entry).collect();
    let workloads = workloads(options);
    let mut cells = Vec::new();
    for &workload in &workloads {
        cells.extend(here.iter().map(|&entry| Cell {
            entry,
            workload,
            samples: Vec::new(),
            stalls: 0,
            errors: Vec::new(),
        }));
    }
    let place = tempfile::Builder::new().prefix("ringway-compare-").tempdir_in(SHM);
    let place = place.with_context(|| format!("making a directory in {SHM}"))?;
    for round in 0..options.rounds() {
        for (workload, cells) in workloads.iter().zip(cells.chunks_mut(here.len().max(1))) {
            eprintln!("round {} of {}: {workload}", round + 1, options.rounds());
            let first = round as usize % cells.len();
            for at in (first..cells.len()).chain(0..first) {
                cells[at].run(options, round, place.path())?;
            }
        }
    }
    let mut found = evaluate(&cells);
    found.rows.extend(missing.into_iter().filter_map(|(entry, why)| skipped(entry, why)));
    Ok(found)
}

fn workloads(options: &Options) -> Vec<Workload> {
    let kinds = [(Kind::RoundTrip, 1), (Kind::Stream, 1), (Kind::Stream, 2), (Kind::Stream, 4)].into_iter();
    let of = |payload| {
        let kinds = kinds.clone();
        kinds.map(move |(kind, each)| Workload { kind, producers: each, consumers: each, payload })
    };
    options.payload.iter().copied().flat_map(of).collect()
}

/// Rounds of the gauge, and how long a run takes.
fn timing(workload: &Workload, quick: bool) -> (u64, Timing) {
    let (rounds, warm_up, measure) = if quick { (2_000, 10, 40) } else { (60_000, 150, 800) };
    let lap = if workload.payload > PAGE && !quick { capacity(workload.payload) as u64 } else { 0 };
    let (warm_up, measure) = (Duration::from_millis(warm_up), Duration::from_millis(measure));
    (rounds, Timing { warm_up, first_messages: lap, measure })
}

impl Cell {
    /// One run, and the gauge before it.
    fn run(&mut self, options: &Options, round: u32, place: &Path) -> Result<()> {
        interrupt::check()?;
        if !self.entry.can(&self.workload) || self.stalls.max(self.errors.len()) >= CHANCES {
            return Ok(());
        }
        let (rounds, timing) = timing(&self.workload, options.quick);
        let gauge = limits::two_lines(rounds).map_err(explain)?;
        // Queues of one run are gone before the next begins, so they can have the same names.
        let dir = tempfile::tempdir_in(place)?;
        let case = Case {
            workload: self.workload,
            batch: self.entry.batch,
            timing,
            dir: dir.path().to_owned(),
            name: format!("rwc{}_", std::process::id()),
            cpus: cpus(),
        };
        match self.entry.run(&case) {
            Ok(Ended::Measured(measured)) => self.samples.push(Sample { round, gauge, measured }),
            Ok(Ended::Stalled) => self.stalls += 1,
            Err(error) => {
                interrupt::check()?;
                self.errors.push(format!("{error:#}"));
            }
        }
        // Killed ones may leave directories that their owner alone would have removed.
        let _ = fs::remove_dir_all(dir.path());
        Ok(())
    }

    fn what(&self) -> What {
        match self.workload.kind {
            Kind::RoundTrip => What::RoundTrip,
            Kind::Stream => What::Throughput,
        }
    }

    fn row(&self, cells: &[Cell], usual: f64) -> Row {
        let outcome = if !self.entry.can(&self.workload) {
            Outcome::CannotDo
        } else if let Some(figures) = self.figures(cells, usual) {
            Outcome::Measured(Box::new(figures))
        } else if let Some(reason) = self.errors.first() {
            Outcome::Failed { reason: reason.clone() }
        } else {
            Outcome::Stalled
        };
        Row {
            family: Family::Memory,
            peer: self.entry.name.to_owned(),
            threads: self.entry.threads,
            what: self.what(),
            producers: self.workload.producers,
            consumers: self.workload.consumers,
            payload: self.workload.payload,
            batch: self.entry.batch,
            durable: None,
            outcome,
        }
    }

    /// The runs whose gauge was as usual; all, if it was for none of them.
    fn good(&self, usual: f64) -> Vec<Sample> {
        let good: Vec<Sample> =
            self.samples.iter().copied().filter(|sample| is_usual(sample.gauge, usual)).collect();
        if good.is_empty() { self.samples.clone() } else { good }
    }

    fn figures(&self, cells: &[Cell], usual: f64) -> Option<Figures> {
        let good = self.good(usual);
        let all = |value: &dyn Fn(&Sample) -> Option<f64>| -> Option<Spread> {
            Spread::of(&good.iter().filter_map(value).collect::<Vec<f64>>())
        };
        let trip = |pick: fn(f64, f64, f64, f64) -> f64| {
            all(&move |sample| match sample.measured.figure {
                Figure::RoundTrip { p50, p99, p99_9, max } => Some(pick(p50, p99, p99_9, max)),
                Figure::Stream(_) => None,
            })
        };
        let better = |reference| {
            all(&move |sample| {
                self.ringway_is_better(&reference_cells(cells, reference, self), sample, usual)
            })
        };
        let mut figures = Figures {
            p50_ns: trip(|p50, _, _, _| p50),
            p99_ns: trip(|_, p99, _, _| p99),
            p99_9_ns: trip(|_, _, p99_9, _| p99_9),
            max_ns: trip(|_, _, _, max| max),
            msgs_per_s: all(&|sample| match sample.measured.figure {
                Figure::Stream(rate) => Some(rate),
                Figure::RoundTrip { .. } => None,
            }),
            ratio_to_limit: Some(all(&|sample| Some(ratio_to_gauge(sample)))?.median),
            ringway_is_better_by: better(SHARED).map(|spread| spread.median),
            exclusive_is_better_by: better(EXCLUSIVE).map(|spread| spread.median),
            stalled_rounds: self.stalls as u32,
            ..Figures::default()
        };
        // Whatever the gauge was, a message that is lost is lost.
        for Sample { measured: Measured { faults, .. }, .. } in &self.samples {
            figures.lost += faults.lost;
            figures.duplicated += faults.duplicated;
            figures.torn += faults.torn;
        }
        Some(figures)
    }

    /// How many times better Ringway was in the same round.
    fn ringway_is_better(&self, ringway: &[&Cell], sample: &Sample, usual: f64) -> Option<f64> {
        let same_round =
            |cell: &&Cell| cell.good(usual).into_iter().find(|other| other.round == sample.round);
        let mine = sample.measured.figure.main();
        Some(match ringway.iter().find_map(same_round)?.measured.figure {
            Figure::RoundTrip { p50, .. } => mine / p50,
            Figure::Stream(rate) => rate / mine,
        })
    }
}

/// One of Ringway's roles in the workload of this cell: first in batches, if this cell is in batches.
fn reference_cells<'c>(cells: &'c [Cell], name: &str, of: &Cell) -> Vec<&'c Cell> {
    let mut found: Vec<&Cell> = cells
        .iter()
        .filter(|cell| cell.entry.name == name && cell.workload == of.workload)
        .filter(|cell| cell.entry.batch <= of.entry.batch)
        .collect();
    found.sort_by_key(|cell| std::cmp::Reverse(cell.entry.batch));
    found
}

/// Latency as a multiple of the gauge, throughput as messages in the time of one.
fn ratio_to_gauge(sample: &Sample) -> f64 {
    match sample.measured.figure {
        Figure::RoundTrip { p50, .. } => p50 / sample.gauge,
        Figure::Stream(rate) => rate * sample.gauge / 1e9,
    }
}

fn is_usual(gauge: f64, usual: f64) -> bool {
    (usual / BAND..=usual * BAND).contains(&gauge)
}

fn evaluate(cells: &[Cell]) -> Found {
    let gauges: Vec<f64> = cells.iter().flat_map(|cell| &cell.samples).map(|sample| sample.gauge).collect();
    let gauge = Spread::of(&gauges);
    let usual = gauge.map_or(0.0, |spread| spread.median);
    let left_out = cells.iter().map(|cell| cell.samples.len() - cell.good(usual).len()).sum();
    Found {
        rows: cells.iter().map(|cell| cell.row(cells, usual)).collect(),
        gauge,
        left_out: (left_out, gauges.len()),
    }
}

/// The row of a peer that is not there.
fn skipped(entry: &Entry, reason: Option<String>) -> Option<Row> {
    Some(Row {
        family: Family::Memory,
        peer: entry.name.to_owned(),
        threads: entry.threads,
        what: What::Throughput,
        producers: 1,
        consumers: 1,
        payload: 0,
        batch: entry.batch,
        durable: None,
        outcome: Outcome::Skipped { reason: reason? },
    })
}

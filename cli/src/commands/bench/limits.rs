//! What the machine can do at best, measured in the same run as everything else.
//!
//! Each round begins with the [gauges](Gauge) that its cases are put in relation to. `bench limits` measures
//! more of them, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ringway_measure::{Latency, Result, Runs, Spread, cpus, limits, pin, spawn};
use serde::Serialize;

use super::case::{Case, What};
use super::figures::{Figures, Percentiles};
use super::idle::EVERY;

/// Payloads from this on are also put in relation to memcpy.
pub(super) const LONG: usize = 16 << 10;

/// Buffers that are in no cache.
const OUT_OF_CACHE: usize = 128 << 20;

/// Buffers that are in a cache, with room for others.
const IN_CACHE: usize = 64 << 10;

/// No memcpy takes this long.
const HANGS: Duration = Duration::from_secs(120);

/// Wakes of a futex in a round.
const WAKES: u64 = 300;

/// Writes to a file in a round.
const SYNCS: u64 = 100;

/// Which gauges a set of cases needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauges {
    /// Round trips of each ping-pong.
    pub(super) trips: u64,
    pub(super) one_line: bool,
    pub(super) futex_wake: bool,
    /// Blocks and buffers of memcpy.
    pub(super) memcpy: Vec<(usize, usize)>,
    /// Write to a file in this directory.
    pub(super) disk: Option<std::path::PathBuf>,
}

/// What the gauges read in one round.
#[derive(Debug, Clone)]
pub(super) struct Gauge {
    pub(super) two_lines_ns: f64,
    one_line_ns: Option<f64>,
    clock_ns: f64,
    futex_wake: Option<Latency>,
    /// Bytes per second by block and buffers.
    memcpy: BTreeMap<(usize, usize), f64>,
    fdatasync: Option<Latency>,
}

/// What they read in all rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Limits {
    pub(super) two_line_round_trip_ns: f64,
    pub(super) two_line_round_trip: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) one_line_round_trip: Option<Spread>,
    pub(super) clock_ns: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) memcpy: Vec<Memcpy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) futex_wake: Option<Percentiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fdatasync: Option<Percentiles>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Memcpy {
    pub(super) block: usize,
    pub(super) buffers: usize,
    pub(super) bytes_per_s: Spread,
}

impl Gauges {
    /// Those that these cases are put in relation to.
    pub(super) fn of(cases: &[Case]) -> Gauges {
        let copied = |case: &&Case| case.what == What::Throughput && !case.zero_copy;
        let long = cases.iter().filter(copied).filter(|case| case.payload >= LONG);
        let mut memcpy: Vec<_> = long.map(|case| (case.payload, OUT_OF_CACHE)).collect();
        memcpy.sort_unstable();
        memcpy.dedup();
        Gauges {
            trips: 50_000,
            futex_wake: cases.iter().any(|case| case.what == What::Idle),
            memcpy,
            ..Gauges::default()
        }
    }

    /// All there are.
    pub(super) fn all(trips: u64, disk: &Path) -> Gauges {
        Gauges {
            trips,
            one_line: true,
            futex_wake: true,
            memcpy: vec![(IN_CACHE / 4, IN_CACHE), (64 << 10, OUT_OF_CACHE), (1 << 20, OUT_OF_CACHE)],
            disk: Some(disk.to_owned()),
        }
    }

    pub(super) fn read(&self) -> Result<Gauge> {
        let futex_wake = || limits::futex_wake(WAKES, EVERY);
        let fdatasync = |disk: &std::path::PathBuf| limits::fdatasync(disk, 4_096, SYNCS);
        let mut memcpy = BTreeMap::new();
        for &(block, buffers) in &self.memcpy {
            memcpy.insert((block, buffers), copied(block, buffers)?);
        }
        Ok(Gauge {
            two_lines_ns: limits::two_lines(self.trips)?,
            one_line_ns: self.one_line.then(|| limits::one_line(self.trips)).transpose()?,
            clock_ns: limits::clock(100_000),
            futex_wake: self.futex_wake.then(futex_wake).transpose()?,
            memcpy,
            fdatasync: self.disk.as_ref().map(fdatasync).transpose()?,
        })
    }
}

/// Bytes per second, by a process of its own: the buffers are gone when it ends.
fn copied(block: usize, buffers: usize) -> Result<f64> {
    let child = spawn(|| {
        pin(cpus()[0])?;
        Ok(limits::memcpy(block, buffers, 1 << 30))
    })?;
    child.join(HANGS)
}

impl Gauge {
    /// The median of the wake-ups.
    pub(super) fn futex_wake_ns(&self) -> Option<f64> {
        self.futex_wake.as_ref().map(|latency| latency.p50() as f64)
    }

    /// Bytes per second of copies of this length out of cache, if that was measured.
    pub(super) fn memcpy(&self, block: usize) -> Option<f64> {
        self.memcpy.get(&(block, OUT_OF_CACHE)).copied()
    }
}

impl Limits {
    /// `None` without any round.
    pub(super) fn of(rounds: &[Gauge]) -> Option<Limits> {
        let runs =
            |value: fn(&Gauge) -> Option<f64>| rounds.iter().filter_map(value).collect::<Runs>().spread();
        let figures = |value: fn(&Gauge) -> Option<&Latency>| {
            let mut figures = Figures::default();
            rounds.iter().filter_map(value).for_each(|latency| figures.add(latency));
            let percentiles = figures.percentiles();
            percentiles.p50_ns.is_some().then_some(percentiles)
        };
        let mut memcpy = Vec::new();
        for &(block, buffers) in rounds.first()?.memcpy.keys() {
            let runs: Runs = rounds.iter().map(|gauge| gauge.memcpy[&(block, buffers)]).collect();
            memcpy.push(Memcpy { block, buffers, bytes_per_s: runs.spread()? });
        }
        let two_lines = runs(|gauge| Some(gauge.two_lines_ns))?;
        Some(Limits {
            two_line_round_trip_ns: two_lines.median,
            two_line_round_trip: two_lines,
            one_line_round_trip: runs(|gauge| gauge.one_line_ns),
            clock_ns: runs(|gauge| Some(gauge.clock_ns))?.median,
            memcpy,
            futex_wake: figures(|gauge| gauge.futex_wake.as_ref()),
            fdatasync: figures(|gauge| gauge.fdatasync.as_ref()),
        })
    }

    /// Whether the rounds were so different that figures of one are not those of another.
    pub(super) fn unsteady(&self) -> bool {
        self.two_line_round_trip.max > 1.5 * self.two_line_round_trip.min
    }
}

//! Latencies of repeated runs, as figures.

use ringway_measure::{Latency, Runs, Spread};
use serde::Serialize;

/// The latencies of all runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Of all runs together.
    all: Latency,
    p50: Runs,
    p90: Runs,
    p99: Runs,
    p99_9: Runs,
    p99_99: Runs,
    mean: Runs,
}

/// Medians over the runs; the maximum is that of all. Null where there are no latencies.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_ns: Option<f64>,
    pub(super) p90_ns: Option<f64>,
    pub(super) p99_ns: Option<f64>,
    pub(super) p99_9_ns: Option<f64>,
    pub(super) p99_99_ns: Option<f64>,
    pub(super) max_ns: Option<u64>,
    pub(super) mean_ns: Option<f64>,
    pub(super) p50_runs: Option<Spread>,
    pub(super) p99_runs: Option<Spread>,
    pub(super) p99_9_runs: Option<Spread>,
}

impl Figures {
    pub(super) fn add(&mut self, run: &Latency) {
        self.all.merge(run);
        let percentiles = [
            (&mut self.p50, run.p50()),
            (&mut self.p90, run.p90()),
            (&mut self.p99, run.p99()),
            (&mut self.p99_9, run.p99_9()),
            (&mut self.p99_99, run.p99_99()),
        ];
        for (runs, value) in percentiles {
            runs.add(value as f64);
        }
        self.mean.add(run.mean());
    }

    /// The curve of percentiles of all runs together.
    pub(super) fn curve(&self) -> Vec<(f64, u64)> {
        self.all.curve()
    }

    /// Percentiles of all runs together, for runs of a single latency each.
    pub(super) fn pooled(&self) -> Percentiles {
        let all = |ns: u64| (self.all.count() > 0).then_some(ns as f64);
        Percentiles {
            p50_ns: all(self.all.p50()),
            p90_ns: all(self.all.p90()),
            p99_ns: all(self.all.p99()),
            p99_9_ns: all(self.all.p99_9()),
            p99_99_ns: all(self.all.p99_99()),
            ..self.percentiles()
        }
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let median = |runs: &Runs| runs.spread().map(|spread| spread.median);
        Percentiles {
            p50_ns: median(&self.p50),
            p90_ns: median(&self.p90),
            p99_ns: median(&self.p99),
            p99_9_ns: median(&self.p99_9),
            p99_99_ns: median(&self.p99_99),
            max_ns: (self.all.count() > 0).then(|| self.all.max()),
            mean_ns: median(&self.mean),
            p50_runs: self.p50.spread(),
            p99_runs: self.p99.spread(),
            p99_9_runs: self.p99_9.spread(),
        }
    }
}

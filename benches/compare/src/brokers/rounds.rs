//! Rounds: everybody once, then everybody again; the figures are medians over them.

use anyhow::{Result, anyhow};
use ringway_measure::{Faults, limits};

use super::contender::{Contender, Done, Job, PAYLOADS, RINGWAY, RINGWAY_ASLEEP, RINGWAY_BATCH, Work};
use super::work::{Pace, Plan};
use crate::interrupt;
use crate::options::{Family, Options};
use crate::report::{Figures, Outcome, Row, Spread, What};

/// Round trips of the gauge.
const GAUGE: u64 = 50_000;

/// A contender at one work, over the rounds.
struct Series {
    contender: Contender,
    work: Work,
    rounds: Vec<Option<Done>>,
    /// The last error.
    failure: Option<String>,
}

/// Measures all that are asked for.
pub fn run(options: &Options) -> Result<Vec<Row>> {
    let plan = if options.quick { Plan::QUICK } else { Plan::FULL };
    let wanted = Contender::all().into_iter().filter(|contender| options.wants_peer(&contender.name()));
    let (skipped, contenders): (Vec<_>, Vec<_>) = wanted.partition(|contender| contender.missing().is_some());
    if contenders.is_empty() || !PAYLOADS.iter().any(|payload| options.payload.contains(payload)) {
        return Ok(skipped.into_iter().flat_map(|contender| skip(contender, options)).collect());
    }
    let mut series: Vec<Series> = Vec::new();
    for &contender in &contenders {
        for work in contender.works(&options.payload) {
            series.push(Series { contender, work, rounds: Vec::new(), failure: None });
        }
    }
    let mut gauges = Vec::new();
    for round in 1..=options.rounds() {
        gauges.push(limits::two_lines(GAUGE).map_err(|error| anyhow!("{error}"))?);
        let mut rest = series.as_mut_slice();
        for &contender in &contenders {
            eprintln!("round {round} of {}: {}", options.rounds(), contender.name());
            let count = contender.works(&options.payload).len();
            let (its, others) = std::mem::take(&mut rest).split_at_mut(count);
            rest = others;
            one_round(contender, its, plan);
            interrupt::check()?;
        }
    }
    let mut rows: Vec<Row> = series.iter().flat_map(|one| one.rows(&series, &gauges)).collect();
    rows.extend(skipped.into_iter().flat_map(|contender| skip(contender, options)));
    Ok(rows)
}

/// What a contender does in a round.
fn one_round(contender: Contender, series: &mut [Series], plan: Plan) {
    let works: Vec<Work> = series.iter().map(|one| one.work).collect();
    let results = contender.measure(&works, plan).unwrap_or_else(|error| {
        let reason = format!("{error:#}");
        works.iter().map(|_| Err(anyhow!("{reason}"))).collect()
    });
    for (one, result) in series.iter_mut().zip(results) {
        match result {
            // The last word of this run is that it was interrupted; not of each contender.
            Err(_) if interrupt::check().is_err() => return,
            Ok(done) => one.rounds.push(Some(done)),
            Err(error) => {
                eprintln!("{}: {error:#}", contender.name());
                one.failure = Some(format!("{error:#}"));
                one.rounds.push(None);
            }
        }
    }
}

/// The rows of a contender that is not there.
fn skip(contender: Contender, options: &Options) -> Vec<Row> {
    let reason = contender.missing().unwrap_or_default();
    let works = contender.works(&options.payload).into_iter();
    let series = works.map(|work| Series { contender, work, rounds: Vec::new(), failure: None });
    let skipped = |one: Series| {
        let outcome = Outcome::Skipped { reason: reason.clone() };
        one.whats().map(|what| one.row(what, outcome.clone())).collect::<Vec<_>>()
    };
    series.flat_map(skipped).collect()
}

impl Series {
    /// The rows that it makes.
    fn whats(&self) -> impl Iterator<Item = What> + use<> {
        let whats: &[What] = match self.work.job {
            Job::Stream { .. } => &[What::Throughput],
            Job::OneByOne { .. } => &[What::OneWay, What::Publish],
        };
        whats.iter().copied()
    }

    fn rows(&self, all: &[Series], gauges: &[f64]) -> Vec<Row> {
        let row = |what| {
            let reference = all.iter().find(|other| other.is_reference_of(self));
            let outcome = match &self.failure {
                Some(reason) if self.rounds.iter().all(Option::is_none) => {
                    Outcome::Failed { reason: reason.clone() }
                }
                _ => Outcome::Measured(Box::new(self.figures(what, reference, gauges))),
            };
            self.row(what, outcome)
        };
        self.whats().map(row).collect()
    }

    fn row(&self, what: What, outcome: Outcome) -> Row {
        let (peer, batch) = match self.work.job {
            Job::Stream { batch } => (self.contender.name(), batch),
            Job::OneByOne { pace: Pace::Resting } => (RINGWAY_ASLEEP.to_owned(), 1),
            Job::OneByOne { .. } => (self.contender.name(), 1),
        };
        Row {
            family: Family::Brokers,
            peer,
            threads: false,
            what,
            producers: 1,
            consumers: 1,
            payload: self.work.payload,
            batch,
            durable: Some(self.contender.durable()),
            outcome,
        }
    }

    /// Whether this is what Ringway did, with which `other` is compared.
    fn is_reference_of(&self, other: &Series) -> bool {
        let job = match other.work.job {
            Job::Stream { .. } => Job::Stream { batch: RINGWAY_BATCH },
            Job::OneByOne { .. } => Job::OneByOne { pace: Pace::Watching },
        };
        self.contender.name() == RINGWAY && self.work.job == job && self.work.payload == other.work.payload
    }

    fn figures(&self, what: What, reference: Option<&Series>, gauges: &[f64]) -> Figures {
        let spread = |value: &dyn Fn(&Done) -> Option<f64>| {
            Spread::of(&self.rounds.iter().flatten().filter_map(value).collect::<Vec<_>>())
        };
        let quantile = |part: f64| spread(&|done| quantile(done, what, part));
        let ratios = |of: &dyn Fn(usize, f64) -> Option<f64>| {
            let rounds = self.rounds.iter().enumerate();
            let ratios = rounds.filter_map(|(at, done)| of(at, key(done.as_ref()?, what)?));
            Spread::of(&ratios.collect::<Vec<_>>()).map(|spread| spread.median)
        };
        let better = |at: usize, mine: f64| {
            let ringway = key(reference?.rounds.get(at)?.as_ref()?, what)?;
            Some(if what == What::Throughput { ringway / mine } else { mine / ringway })
        };
        let limit = |at: usize, mine: f64| {
            let gauge = *gauges.get(at)?;
            Some(if what == What::Throughput { mine * gauge / 1e9 } else { mine / gauge })
        };
        let mut faults = Faults::default();
        for done in self.rounds.iter().flatten() {
            faults.merge(match done {
                Done::Streamed(streamed) => &streamed.faults,
                Done::Timed(timed) => &timed.faults,
            });
        }
        Figures {
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            p99_9_ns: quantile(0.999),
            max_ns: quantile(1.0),
            msgs_per_s: spread(&|done| rate(done)),
            ratio_to_limit: ratios(&limit),
            ringway_is_better_by: ratios(&better),
            // Brokers have any number of users, so it is the shared role that they are compared with.
            exclusive_is_better_by: None,
            lost: faults.lost,
            duplicated: faults.duplicated,
            torn: faults.torn,
            stalled_rounds: 0,
        }
    }
}

fn rate(done: &Done) -> Option<f64> {
    match done {
        Done::Streamed(streamed) => Some(streamed.msgs_per_s),
        Done::Timed(_) => None,
    }
}

/// A quantile of the latency that was asked for.
fn quantile(done: &Done, what: What, part: f64) -> Option<f64> {
    match (done, what) {
        (Done::Timed(timed), What::OneWay) => Some(timed.one_way.quantile(part) as f64),
        (Done::Timed(timed), What::Publish) => Some(timed.publish.quantile(part) as f64),
        _ => None,
    }
}

/// The figure that is compared: messages per second, or the median latency.
fn key(done: &Done, what: What) -> Option<f64> {
    if what == What::Throughput { rate(done) } else { quantile(done, what, 0.5) }
}

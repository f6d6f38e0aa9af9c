//! The totals of a run.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::history::{Id, Judgement, Nanos, Offence, Verdict};
use crate::scenario::Outcome;

/// Offences that are told in full.
const TOLD: usize = 10;

/// What all scenarios came to.
#[derive(Debug)]
pub(crate) struct Report {
    seed: u64,
    began: Instant,
    scenarios: u64,
    pub(crate) kills: u64,
    pauses: u64,
    messages: u64,
    deliveries: u64,
    verdicts: [u64; Verdict::ALL.len()],
    violations: u64,
    /// Recoveries, in microseconds.
    since_kill: Histogram<u64>,
    since_death: Histogram<u64>,
    /// Recoveries that took longer are told in full.
    slow: Nanos,
}

impl Report {
    pub(crate) fn new(seed: u64, slow: Nanos) -> Report {
        Report {
            seed,
            slow,
            began: Instant::now(),
            scenarios: 0,
            kills: 0,
            pauses: 0,
            messages: 0,
            deliveries: 0,
            verdicts: [0; Verdict::ALL.len()],
            violations: 0,
            since_kill: histogram(),
            since_death: histogram(),
        }
    }

    /// Adds a scenario, and tells what was wrong with it; whether nothing was.
    pub(crate) fn add(&mut self, title: &str, outcome: &Outcome) -> bool {
        let Judgement { offences, recoveries } = outcome.history.judge();
        self.scenarios += 1;
        self.kills += outcome.kills;
        self.pauses += outcome.pauses;
        self.messages += outcome.messages;
        self.deliveries += outcome.history.deliveries();
        self.violations += outcome.violations.len() as u64;
        for offence in &offences {
            self.verdicts[offence.verdict as usize] += 1;
        }
        for recovery in recoveries {
            self.since_kill.saturating_record(recovery.since_kill / 1000);
            self.since_death.saturating_record(recovery.since_death / 1000);
            if recovery.since_kill > self.slow {
                println!(
                    "{title}: {:.3} ms from a kill to the next receive",
                    recovery.since_kill as f64 / 1e6
                );
                tell_life(outcome, recovery.id);
            }
        }
        if offences.is_empty() && outcome.violations.is_empty() {
            return true;
        }
        tell(title, outcome, &offences);
        false
    }

    /// Whether nothing was wrong with any scenario.
    pub(crate) fn clean(&self) -> bool {
        self.violations == 0 && self.verdicts.iter().all(|&count| count == 0)
    }

    /// The line that sums it up.
    pub(crate) fn line(&self) -> String {
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
        put("seed", json!(self.seed));
        put("scenarios", json!(self.scenarios));
        put("kills", json!(self.kills));
        put("pauses", json!(self.pauses));
        put("messages", json!(self.messages));
        put("deliveries", json!(self.deliveries));
        for verdict in Verdict::ALL {
            put(verdict.name(), json!(self.verdicts[verdict as usize]));
        }
        put("violations", json!(self.violations));
        put("recovery_ms", quantiles(&self.since_kill));
        put("after_death_ms", quantiles(&self.since_death));
        put("seconds", json!((self.began.elapsed().as_secs_f64() * 10.0).round() / 10.0));
        Value::Object(line).to_string()
    }
}

/// The first offences with the life of the message each is about.
fn tell(title: &str, outcome: &Outcome, offences: &[Offence]) {
    println!("{title}: {} offences, {} violations", offences.len(), outcome.violations.len());
    for violation in outcome.violations.iter().take(TOLD) {
        println!("violation: {violation}");
    }
    for offence in offences.iter().take(TOLD) {
        println!("{offence}");
        if let Some(id) = offence.id {
            tell_life(outcome, id);
        }
    }
}

fn tell_life(outcome: &Outcome, id: u64) {
    println!("  the life of {}:", Id(id));
    for line in outcome.history.story(id) {
        println!("  {line}");
    }
}

/// Microseconds up to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are fixed and fit")
}

/// Quantiles in milliseconds.
pub(crate) fn quantiles(micros: &Histogram<u64>) -> Value {
    let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1000.0;
    json!({
        "count": micros.len(),
        "p50": at(0.5),
        "p99": at(0.99),
        "p99.9": at(0.999),
        "max": micros.max() as f64 / 1000.0,
    })
}

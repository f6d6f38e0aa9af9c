//! Latencies: a histogram of nanoseconds, with percentiles.

use hdrhistogram::Histogram;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest latency that is told apart from longer ones: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;

/// Latencies in nanoseconds, to three digits. As JSON it is pairs of value and count.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::new()
    }
}

impl Latency {
    /// No latencies yet.
    pub fn new() -> Latency {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        Latency { histogram: histogram.expect("these bounds are valid") }
    }

    /// Records one. Longer ones than ten minutes count as ten minutes.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
    }

    /// Adds all of the other's.
    pub fn merge(&mut self, other: &Latency) {
        self.histogram.add(&other.histogram).expect("the bounds are the same");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that this part of all, from 0 to 1, did not exceed; 0 if there are none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// Half of all had at most this.
    pub fn p50(&self) -> u64 {
        self.quantile(0.5)
    }

    /// 90 % had at most this.
    pub fn p90(&self) -> u64 {
        self.quantile(0.9)
    }

    /// 99 % had at most this.
    pub fn p99(&self) -> u64 {
        self.quantile(0.99)
    }

    /// 99.9 % had at most this.
    pub fn p99_9(&self) -> u64 {
        self.quantile(0.999)
    }

    /// 99.99 % had at most this.
    pub fn p99_99(&self) -> u64 {
        self.quantile(0.9999)
    }

    /// The longest.
    pub fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// The mean; 0 if there are none.
    pub fn mean(&self) -> f64 {
        self.histogram.mean()
    }

    /// The curve of percentiles: pairs of a part of all, from 0 up to less than 1, and the latency that it did
    /// not exceed; closer to each other the closer to 1.
    pub fn curve(&self) -> Vec<(f64, u64)> {
        let steps = self.histogram.iter_quantiles(8);
        let points = steps.map(|step| (step.quantile_iterated_to(), step.value_iterated_to()));
        points.filter(|&(quantile, _)| quantile < 1.0).collect()
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.histogram.iter_recorded();
        serializer.collect_seq(recorded.map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Latency, D::Error> {
        let mut latency = Latency::new();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latency.histogram.record_n(value, count).map_err(D::Error::custom)?;
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousand() -> Latency {
        let mut latency = Latency::new();
        (1..=1_000).for_each(|ns| latency.record(ns));
        latency
    }

    #[test]
    fn percentiles_are_what_was_recorded() {
        let latency = thousand();
        assert_eq!((latency.p50(), latency.p90(), latency.p99(), latency.p99_9()), (500, 900, 990, 999));
        assert_eq!((latency.count(), latency.max()), (1_000, 1_000));
        let curve = latency.curve();
        assert!(curve.is_sorted(), "{curve:?}");
        assert!(curve.iter().all(|&(part, ns)| ns as f64 >= part * 1_000.0), "{curve:?}");
    }

    #[test]
    fn it_comes_back_from_json_as_it_was() {
        let mut latency = thousand();
        latency.record(123_456_789);
        latency.record(u64::MAX);
        let json = serde_json::to_string(&latency).expect("JSON");
        let back: Latency = serde_json::from_str(&json).expect("the same JSON");
        assert_eq!((back.count(), back.p50(), back.max()), (latency.count(), latency.p50(), latency.max()));
        let mut both = latency.clone();
        both.merge(&back);
        assert_eq!((both.count(), both.p50()), (2_004, latency.p50()));
    }
}

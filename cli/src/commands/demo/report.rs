//! The judgement: what was placed against what was acknowledged, from the logs alone.

use serde::Serialize;

use super::evidence::Evidence;
use crate::units::group_digits;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) placed: u64,
    /// Orders with an accepted ack.
    pub(super) delivered: u64,
    /// Orders that were received more than once.
    pub(super) redelivered: u64,
    /// Orders that a handler finished more than once.
    pub(super) duplicates: u64,
    pub(super) stale_acks_refused: u64,
    /// Placed, and never acknowledged.
    pub(super) lost: u64,
    /// From the kill until another worker had the order.
    pub(super) redelivery_ms: Option<f64>,
    /// Orders of which more than one ack was accepted; none can be.
    #[serde(skip)]
    pub(super) acked_twice: u64,
    /// Orders that were received and never placed; none can be.
    #[serde(skip)]
    pub(super) phantoms: u64,
}

impl Report {
    pub(super) fn new(evidence: &Evidence, redelivery_ms: Option<f64>) -> Report {
        let count = |what: fn(&super::evidence::Trace) -> bool| {
            evidence.orders.values().filter(|trace| what(trace)).count() as u64
        };
        Report {
            placed: evidence.placed,
            delivered: count(|trace| trace.placed > 0 && trace.acked > 0),
            redelivered: count(|trace| trace.received.len() > 1),
            duplicates: count(|trace| trace.finished > 1),
            stale_acks_refused: evidence.orders.values().map(|trace| trace.refused).sum(),
            lost: count(|trace| trace.placed > 0 && trace.acked == 0),
            redelivery_ms: redelivery_ms.map(|ms| (ms * 1e3).round() / 1e3),
            acked_twice: count(|trace| trace.acked > 1),
            phantoms: count(|trace| trace.placed == 0),
        }
    }

    pub(super) fn table(&self) -> String {
        let first = self.redelivery_ms.map(|ms| format!("{ms:.1} ms after the kill")).unwrap_or_default();
        let rows = [
            ("orders placed", self.placed, ""),
            ("delivered", self.delivered, ""),
            ("redelivered", self.redelivered, first.as_str()),
            ("duplicates seen by the handler", self.duplicates, ""),
            ("stale acks refused", self.stale_acks_refused, ""),
            ("lost", self.lost, ""),
        ];
        lines(&rows)
    }
}

/// Counts with what they count, and a remark.
pub(super) fn lines(rows: &[(&str, u64, &str)]) -> String {
    let mut text = String::from("\n");
    for (what, count, remark) in rows {
        let line = format!("{what:<32}{:>9}  {remark}", group_digits(*count));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::evidence::{Event, Evidence, Log};

    /// A log of one part with these events.
    fn judged(events: &[(Event, &str)]) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::File::create(&path).unwrap();
        let mut log = Log::open(&path).unwrap();
        for (event, order) in events {
            log.write(*event, order).unwrap();
        }
        let mut evidence = Evidence::new();
        evidence.add(&path).unwrap();
        evidence.read().unwrap();
        Report::new(&evidence, None)
    }

    #[test]
    fn what_went_wrong_is_found() {
        use Event::{Acked, Finished, Placed, Received, Refused};
        let clean = judged(&[(Placed, "a"), (Received, "a"), (Finished, "a"), (Acked, "a")]);
        assert_eq!((clean.placed, clean.delivered, clean.lost, clean.redelivered), (1, 1, 0, 0));
        let lost = judged(&[(Placed, "a"), (Received, "a"), (Finished, "a"), (Refused, "a")]);
        assert_eq!((lost.delivered, lost.lost, lost.stale_acks_refused), (0, 1, 1));
        let never_received = judged(&[(Placed, "a"), (Placed, "b"), (Received, "b"), (Acked, "b")]);
        assert_eq!((never_received.delivered, never_received.lost), (1, 1));
        let twice = [(Received, "a"), (Finished, "a"), (Acked, "a")].repeat(2);
        let twice = judged(&[vec![(Placed, "a")], twice].concat());
        assert_eq!((twice.acked_twice, twice.duplicates, twice.redelivered, twice.lost), (1, 1, 1, 0));
        let phantom = judged(&[(Received, "x"), (Acked, "x")]);
        assert_eq!((phantom.phantoms, phantom.placed, phantom.delivered), (1, 0, 0));
    }
}

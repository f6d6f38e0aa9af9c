//! Which curves the panels show.

use super::panel::{Curve, Panel, Scale};
use crate::commands::bench::case::What;
use crate::commands::bench::report::{Entry, Report};
use crate::commands::bench::rounds::Outcome;
use crate::commands::bench::sets::{Axis, Stretch};

pub(super) fn panels(report: &Report, outcomes: &[Outcome], axes: &[Stretch]) -> Vec<Panel> {
    let mut panels = Vec::new();
    let queues = latencies(report, outcomes, |what| matches!(what, What::RoundTrip | What::OneWay));
    let wakes = latencies(report, outcomes, |what| what == What::Idle);
    for (heading, curves) in [("Latency", queues), ("Wake-up of a waiting consumer", wakes)] {
        if !curves.is_empty() {
            panels.push(Panel {
                heading: format!("{heading} by percentile, all runs"),
                x_label: "percentile",
                y_label: "latency",
                x: Scale::Nines,
                y: Scale::Time,
                curves,
            });
        }
    }
    for (axis, range) in axes {
        panels.push(throughput(*axis, &report.results[range.clone()]));
    }
    panels
}

fn latencies(report: &Report, outcomes: &[Outcome], wanted: impl Fn(What) -> bool) -> Vec<Curve> {
    let pairs = report.results.iter().zip(outcomes).filter(|(entry, _)| wanted(entry.what));
    pairs
        .map(|(entry, outcome)| {
            let points = outcome.latency.curve().into_iter();
            let points = points.filter(|&(_, ns)| ns > 0);
            let points = points.map(|(part, ns)| (-(1.0 - part).log10(), ns as f64)).collect();
            let p50 = entry.latency.p50_ns.map_or(String::new(), |ns| format!(" (p50 {ns:.0} ns)"));
            Curve { name: format!("{}{p50}", outcome.case.name()), points, spread: Vec::new() }
        })
        .collect()
}

fn throughput(axis: Axis, entries: &[Entry]) -> Panel {
    let x_of = |entry: &Entry| match axis {
        Axis::Payload => entry.payload as f64,
        Axis::Producers | Axis::Both => entry.producers as f64,
        Axis::Consumers => entry.consumers as f64,
        Axis::Capacity => f64::from(entry.capacity),
    };
    let mut curves: Vec<Curve> = Vec::new();
    for entry in entries {
        let Some(rate) = entry.msgs_per_s else { continue };
        let name = format!("{}, {}", entry.role.name(), entry.wait);
        let at = curves.iter().position(|curve| curve.name == name).unwrap_or_else(|| {
            curves.push(Curve { name, points: Vec::new(), spread: Vec::new() });
            curves.len() - 1
        });
        curves[at].points.push((x_of(entry), rate.median));
        curves[at].spread.push((x_of(entry), rate.min, rate.max));
    }
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let (by, x_label, x) = match axis {
        Axis::Payload => ("payload", "payload, bytes", Scale::Bytes),
        Axis::Producers => ("number of producers, one consumer", "producers", Scale::Count),
        Axis::Consumers => ("number of consumers, one producer", "consumers", Scale::Count),
        Axis::Both => ("number of producers and consumers", "producers, and as many consumers", Scale::Count),
        Axis::Capacity => ("capacity, 64-byte messages", "slots of the queue", Scale::Bytes),
    };
    Panel {
        heading: format!("Throughput by {by}: median, least and most of the runs"),
        x_label,
        y_label: "messages per second",
        x,
        y: Scale::Rate,
        curves,
    }
}

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
        let curves = throughput(*axis, &report.results[range.clone()]);
        let (heading, x_label, x) = labels(*axis);
        // What differs in the number of processes is one panel.
        match panels.last_mut().filter(|panel: &&mut Panel| panel.heading == heading) {
            Some(panel) => panel.curves.extend(curves),
            None => panels.push(Panel {
                heading: heading.to_owned(),
                x_label,
                y_label: "messages per second",
                x,
                y: Scale::Rate,
                curves,
            }),
        }
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

fn labels(axis: Axis) -> (&'static str, &'static str, Scale) {
    match axis {
        Axis::Payload => {
            ("Throughput by payload: median, least and most of the runs", "payload, bytes", Scale::Bytes)
        }
        Axis::Producers | Axis::Consumers | Axis::Both => (
            "Throughput by number of processes: median, least and most of the runs",
            "producers or consumers",
            Scale::Count,
        ),
        Axis::Capacity => (
            "Throughput by capacity, 64-byte messages: median, least and most of the runs",
            "slots of the queue",
            Scale::Bytes,
        ),
    }
}

fn throughput(axis: Axis, entries: &[Entry]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for entry in entries {
        let Some(rate) = entry.msgs_per_s else { continue };
        let (x, shape) = match axis {
            Axis::Payload => (entry.payload as f64, String::new()),
            Axis::Capacity => (f64::from(entry.capacity), String::new()),
            Axis::Producers => (entry.producers as f64, ", N producers, 1 consumer".to_owned()),
            Axis::Consumers => (entry.consumers as f64, ", 1 producer, N consumers".to_owned()),
            Axis::Both => (entry.producers as f64, ", N producers, N consumers".to_owned()),
        };
        let name = format!("{}{shape}, {}", entry.role.name(), entry.wait);
        let at = curves.iter().position(|curve| curve.name == name).unwrap_or_else(|| {
            curves.push(Curve { name, points: Vec::new(), spread: Vec::new() });
            curves.len() - 1
        });
        curves[at].points.push((x, rate.median));
        curves[at].spread.push((x, rate.min, rate.max));
    }
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

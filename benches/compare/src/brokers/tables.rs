//! The rows of brokers as tables: throughput, and one for the latencies of each payload.

use super::contender::{Contender, PAYLOADS, RINGWAY, RINGWAY_ASLEEP};
use crate::report::{Figures, Outcome, Row, Spread, Table, What, number};

/// What a cell says that has no figure.
const NOTHING: &str = "-";

/// How to read the latencies.
const NOTES: [&str; 3] = [
    "One message at a time, the next when the last one is acknowledged: from before the publish to the \
     consumer's hands, and until the publisher has its confirmation.",
    "Ringway's consumer waits adaptively, and meets the next message before it sleeps. Asleep: every message \
     has to wake it, as servers have to wake their consumers.",
    "SQLite wakes nobody: its consumer asks again and again.",
];

/// The rows as tables.
pub fn tables(rows: &[Row]) -> Vec<Table> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut tables = vec![throughput(rows)];
    let payloads = PAYLOADS.iter().filter(|&&payload| rows.iter().any(|row| row.payload == payload));
    tables.extend(payloads.map(|&payload| latencies(rows, payload)));
    if let Some(last) = tables.last_mut() {
        last.notes = NOTES.map(str::to_owned).into();
    }
    tables
}

/// Pairs of name and batch, in the order in which they come.
fn peers(rows: &[Row], what: What) -> Vec<(&str, usize)> {
    let mut peers = Vec::new();
    for row in rows.iter().filter(|row| row.what == what) {
        let peer = (row.peer.as_str(), row.batch);
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    peers
}

fn find<'r>(rows: &'r [Row], peer: (&str, usize), what: What, payload: usize) -> Option<&'r Row> {
    let is_it =
        |row: &&Row| (row.peer.as_str(), row.batch, row.what, row.payload) == (peer.0, peer.1, what, payload);
    rows.iter().find(is_it)
}

fn figures(row: Option<&Row>) -> Option<&Figures> {
    match &row?.outcome {
        Outcome::Measured(figures) => Some(figures),
        _ => None,
    }
}

/// A figure with its spread, or why there is none.
fn cell(row: Option<&Row>, unit: f64, of: impl Fn(&Figures) -> Option<Spread>) -> String {
    match row.map(|row| &row.outcome) {
        Some(Outcome::Measured(figures)) => {
            of(figures).map_or_else(|| NOTHING.to_owned(), |spread| spread.show(unit))
        }
        Some(Outcome::Skipped { .. }) => "skipped".to_owned(),
        Some(Outcome::Failed { .. }) => "failed".to_owned(),
        Some(Outcome::Stalled) => "stalled".to_owned(),
        Some(Outcome::CannotDo) | None => NOTHING.to_owned(),
    }
}

/// A ratio, as `12 x`.
fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| NOTHING.to_owned(), |ratio| format!("{} x", number(ratio)))
}

fn durable(rows: &[Row], peer: &str) -> String {
    let row = rows.iter().find(|row| row.peer == peer);
    if row.and_then(|row| row.durable) == Some(true) { "yes" } else { "no" }.to_owned()
}

fn bytes(payload: usize) -> String {
    if payload.is_multiple_of(1024) { format!("{} KiB", payload / 1024) } else { format!("{payload} B") }
}

fn throughput(rows: &[Row]) -> Table {
    let mut header: Vec<String> = ["", "synced", "in flight"].map(str::to_owned).into();
    let payloads = PAYLOADS.iter().filter(|&&payload| rows.iter().any(|row| row.payload == payload));
    let payloads: Vec<usize> = payloads.copied().collect();
    for &payload in &payloads {
        header.extend([format!("{}: thousand msg/s", bytes(payload)), "Ringway to it".to_owned()]);
    }
    let line = |&peer: &(&str, usize)| {
        let mut line = vec![peer.0.to_owned(), durable(rows, peer.0), peer.1.to_string()];
        for &payload in &payloads {
            let row = find(rows, peer, What::Throughput, payload);
            let ratio = figures(row).and_then(|figures| figures.ringway_is_better_by);
            line.extend([cell(row, 1e3, |figures| figures.msgs_per_s), times(ratio)]);
        }
        line
    };
    let mut notes = vec![
        "One producer and one consumer at the same time; every message confirmed to the producer and \
         acknowledged by the consumer. In flight: messages per call, or unconfirmed at most. Ratios are to \
         Ringway's batches."
            .to_owned(),
    ];
    notes.extend(versions(rows));
    notes.extend(reasons(rows));
    notes.extend(faults(rows));
    Table {
        texts: false,
        title: "At least once, with acknowledgements: throughput".to_owned(),
        header,
        lines: peers(rows, What::Throughput).iter().map(line).collect(),
        notes,
    }
}

fn latencies(rows: &[Row], payload: usize) -> Table {
    let header = [
        "",
        "synced",
        "one way p50 us",
        "p99 us",
        "p99.9 us",
        "to Ringway",
        "to Ringway asleep",
        "confirmed publish p50 us",
        "to Ringway",
    ];
    let asleep = figures(find(rows, (RINGWAY_ASLEEP, 1), What::OneWay, payload)).and_then(|it| it.p50_ns);
    let line = |&peer: &(&str, usize)| {
        let one_way = find(rows, peer, What::OneWay, payload);
        let publish = find(rows, peer, What::Publish, payload);
        let ratio = |row| figures(row).and_then(|figures| figures.ringway_is_better_by);
        let median = figures(one_way).and_then(|figures| figures.p50_ns);
        let to_asleep = median.zip(asleep).map(|(mine, asleep)| mine.median / asleep.median);
        vec![
            peer.0.to_owned(),
            durable(rows, peer.0),
            cell(one_way, 1e3, |figures| figures.p50_ns),
            cell(one_way, 1e3, |figures| figures.p99_ns),
            cell(one_way, 1e3, |figures| figures.p99_9_ns),
            times(ratio(one_way)),
            times(to_asleep.filter(|_| peer.0 != RINGWAY)),
            cell(publish, 1e3, |figures| figures.p50_ns),
            times(ratio(publish)),
        ]
    };
    Table {
        texts: false,
        title: format!("At least once, with acknowledgements: latency, {}", bytes(payload)),
        header: header.map(str::to_owned).into(),
        lines: peers(rows, What::OneWay).iter().map(line).collect(),
        notes: Vec::new(),
    }
}

/// What was measured, by its versions.
fn versions(rows: &[Row]) -> Option<String> {
    let measured = |name: &str| rows.iter().any(|row| row.peer == name && figures(Some(row)).is_some());
    let contenders = Contender::all().into_iter().filter(|contender| measured(&contender.name()));
    let mut versions: Vec<String> = contenders.filter_map(Contender::version).collect();
    versions.dedup();
    (!versions.is_empty()).then(|| format!("{}.", versions.join(", ")))
}

/// Why some have no figures, each said once.
fn reasons(rows: &[Row]) -> Vec<String> {
    let mut reasons = Vec::new();
    for row in rows {
        if let Outcome::Skipped { reason } | Outcome::Failed { reason } = &row.outcome {
            let said = format!("{}: {reason}.", row.peer);
            if !reasons.contains(&said) {
                reasons.push(said);
            }
        }
    }
    reasons
}

/// What was lost, doubled or damaged.
fn faults(rows: &[Row]) -> Vec<String> {
    let mut notes = Vec::new();
    for row in rows.iter().filter(|row| row.what != What::Publish) {
        let Some(figures) = figures(Some(row)) else { continue };
        let Figures { lost, duplicated, torn, .. } = figures;
        if lost + duplicated + torn > 0 {
            let (peer, payload) = (&row.peer, bytes(row.payload));
            notes.push(format!("{peer}, {payload}: {lost} lost, {duplicated} duplicated, {torn} torn."));
        }
    }
    notes
}

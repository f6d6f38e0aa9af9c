//! The rows as tables: for each payload the round trips and the streams, and at the end who was left out.

use super::Found;
use crate::report::{Figures, Outcome, Row, Spread, Table, What, number};

/// The tables of what was found.
pub fn tables(found: &Found) -> Vec<Table> {
    let mut payloads: Vec<usize> = found.rows.iter().map(|row| row.payload).filter(|&len| len > 0).collect();
    payloads.dedup();
    let mut tables = Vec::new();
    for payload in payloads {
        let rows: Vec<&Row> = found.rows.iter().filter(|row| row.payload == payload).collect();
        // Once is enough.
        let gauge = if tables.is_empty() { gauge(found) } else { None };
        tables.push(round_trips(&rows, payload, gauge));
        tables.push(streams(&rows, payload));
    }
    tables.extend(absent(&found.rows));
    tables
}

/// What is to be said of the gauge.
fn gauge(found: &Found) -> Option<String> {
    let (out, all) = found.left_out;
    let gauge = found.gauge?.show(1.0);
    Some(format!(
        "Gauge: a round trip over two cache lines between two processes, {gauge} ns. {out} of {all} runs \
         were left out because the gauge beside them was unusual."
    ))
}

fn round_trips(rows: &[&Row], payload: usize, gauge: Option<String>) -> Table {
    let header =
        ["", "p50 ns", "p99 ns", "p99.9 ns", "max us", "x gauge", "vs exclusive", "vs shared", "faults"];
    let mut lines = Vec::new();
    for row in rows.iter().filter(|row| row.what == What::RoundTrip && row.batch == 1) {
        let Outcome::Measured(figures) = &row.outcome else {
            if row.outcome != Outcome::CannotDo {
                lines.push(line([title(row), outcome(row)], header.len()));
            }
            continue;
        };
        lines.push(vec![
            title(row),
            spread(figures.p50_ns, 1.0, figures),
            median(figures.p99_ns, 1.0),
            median(figures.p99_9_ns, 1.0),
            median(figures.max_ns, 1_000.0),
            times(figures.ratio_to_limit),
            times(figures.exclusive_is_better_by),
            times(figures.ringway_is_better_by),
            faults([&**figures]),
        ]);
    }
    let mut notes = vec![
        "Median of the rounds (lowest-highest). vs: the peer's p50 divided by that of Ringway's exclusive or \
         shared role in the same round; above 1, Ringway is faster. (t): between threads of one process."
            .to_owned(),
    ];
    notes.extend(gauge);
    table(format!("Round trip, {}", bytes(payload)), &header, lines, notes)
}

fn streams(rows: &[&Row], payload: usize) -> Table {
    let (unit, name, short) = if payload > 4096 { (1e3, "Thousand", "k/s") } else { (1e6, "Million", "M/s") };
    let rates = [1, 2, 4].map(|each| format!("{each}p{each}c {short}"));
    let [one, two, four] = rates.each_ref().map(String::as_str);
    let vs = "vs shared";
    let header = ["", one, "per gauge", "vs exclusive", vs, two, vs, four, vs, "faults"];
    let streams: Vec<&&Row> = rows.iter().filter(|row| row.what == What::Throughput).collect();
    let mut lines = Vec::new();
    for row in streams.iter().filter(|row| row.producers == 1) {
        let of = |each: usize| {
            let same = |other: &&&&Row| {
                other.peer == row.peer && other.batch == row.batch && other.producers == each
            };
            streams.iter().find(same).map(|row| &row.outcome)
        };
        let figures = |each| match of(each) {
            Some(Outcome::Measured(figures)) => Some(&**figures),
            _ => None,
        };
        let rate = |each| match figures(each) {
            Some(figures) => spread(figures.msgs_per_s, unit, figures),
            None => of(each).map_or_else(|| "-".to_owned(), word),
        };
        let vs_shared = |each| times(figures(each).and_then(|figures| figures.ringway_is_better_by));
        lines.push(vec![
            title(row),
            rate(1),
            times(figures(1).and_then(|figures| figures.ratio_to_limit)),
            times(figures(1).and_then(|figures| figures.exclusive_is_better_by)),
            vs_shared(1),
            rate(2),
            vs_shared(2),
            rate(4),
            vs_shared(4),
            faults([1, 2, 4].into_iter().filter_map(figures)),
        ]);
    }
    let notes = vec![format!(
        "{name} messages per second, median of the rounds (lowest-highest). per gauge: messages in the time \
         of one gauge. vs: the rate of Ringway's exclusive or shared role in the same round (in batches if \
         the peer is) divided by the peer's; above 1, Ringway is faster."
    )];
    table(format!("Streams, {}", bytes(payload)), &header, lines, notes)
}

/// Who was not there, and who gave errors.
fn absent(rows: &[Row]) -> Option<Table> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in rows {
        let line = match &row.outcome {
            Outcome::Skipped { reason } => vec![row.peer.clone(), reason.clone()],
            Outcome::Failed { reason } => {
                vec![format!("{}, {}", row.peer, bytes(row.payload)), reason.clone()]
            }
            _ => continue,
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let table = table("Left out".to_owned(), &["", "why"], lines, Vec::new());
    (!table.lines.is_empty()).then_some(Table { texts: true, ..table })
}

fn table(title: String, header: &[&str], lines: Vec<Vec<String>>, notes: Vec<String>) -> Table {
    Table { title, header: header.iter().map(|&name| name.to_owned()).collect(), lines, notes, texts: false }
}

fn line<const N: usize>(cells: [String; N], len: usize) -> Vec<String> {
    let mut line = Vec::from(cells);
    line.resize(len, String::new());
    line
}

fn title(row: &Row) -> String {
    let batch = if row.batch > 1 { format!(", batches of {}", row.batch) } else { String::new() };
    let threads = if row.threads { " (t)" } else { "" };
    format!("{}{batch}{threads}", row.peer)
}

fn outcome(row: &Row) -> String {
    word(&row.outcome)
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Measured(_) | Outcome::CannotDo => "-",
        Outcome::Stalled => "stalled",
        Outcome::Skipped { .. } => "skipped",
        Outcome::Failed { .. } => "failed",
    }
    .to_owned()
}

fn spread(spread: Option<Spread>, unit: f64, figures: &Figures) -> String {
    let shown = spread.map_or_else(|| "-".to_owned(), |spread| spread.show(unit));
    match figures.stalled_rounds {
        0 => shown,
        rounds => format!("{shown}, stalled {rounds}x"),
    }
}

fn median(spread: Option<Spread>, unit: f64) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| number(spread.median / unit))
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), number)
}

fn faults<'f>(figures: impl IntoIterator<Item = &'f Figures>) -> String {
    let (mut lost, mut duplicated, mut torn) = (0, 0, 0);
    for figures in figures {
        lost += figures.lost;
        duplicated += figures.duplicated;
        torn += figures.torn;
    }
    let kinds = [(lost, "lost"), (duplicated, "doubled"), (torn, "torn")];
    let found: Vec<String> =
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

fn bytes(payload: usize) -> String {
    if payload >= 1024 { format!("{} KiB", payload / 1024) } else { format!("{payload} B") }
}

//! What comes out: rows for programs, tables for people.
//!
//! A [`Row`] is what one peer did in one workload. A family lays its rows out as [`Table`]s, which can be
//! printed as text and as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use ringway_measure::Machine;
use serde::Serialize;
use serde_json::{Value, json};

use crate::options::{Family, Options};

/// What one peer did in one workload.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The kind of peer.
    pub family: Family,
    /// Its name, as in the tables and in `--only`.
    pub peer: String,
    /// Whether it is between threads of one process.
    pub threads: bool,
    /// What was measured.
    pub what: What,
    /// Participants that send.
    pub producers: usize,
    /// Participants that receive, each message going to one of them.
    pub consumers: usize,
    /// Bytes of a message.
    pub payload: usize,
    /// Messages per call.
    pub batch: usize,
    /// Whether what is accepted is on the disk; `None` where there is no disk in it.
    pub durable: Option<bool>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum What {
    /// There and back, one message at a time.
    #[serde(rename = "latency.round_trip")]
    RoundTrip,
    /// From one end to the other, one message at a time.
    #[serde(rename = "latency.one_way")]
    OneWay,
    /// Until the sender knows that the message was accepted.
    #[serde(rename = "latency.publish")]
    Publish,
    /// As many as it can.
    #[serde(rename = "throughput")]
    Throughput,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It was measured in at least one round.
    Measured(Box<Figures>),
    /// It stood still in every round and was ended.
    Stalled,
    /// It is not made for this workload.
    CannotDo,
    /// Something is missing on this machine.
    Skipped {
        /// What, and how to get it.
        reason: String,
    },
    /// It gave an error.
    Failed {
        /// The error.
        reason: String,
    },
}

/// The figures of a peer in a workload, over the rounds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Half of the messages took no longer.
    pub p50_ns: Option<Spread>,
    /// 99 of 100 took no longer.
    pub p99_ns: Option<Spread>,
    /// 999 of 1,000 took no longer.
    pub p99_9_ns: Option<Spread>,
    /// The longest.
    pub max_ns: Option<Spread>,
    /// Messages per second.
    pub msgs_per_s: Option<Spread>,
    /// The median, over the rounds, of this divided by the gauge of the same round: latency as a multiple of
    /// the gauge, throughput as messages in the time of one gauge.
    pub ratio_to_limit: Option<f64>,
    /// The median, over the rounds, of the advantage of Ringway's shared role in the same round: the peer's
    /// latency divided by Ringway's, Ringway's throughput divided by the peer's.
    pub ringway_is_better_by: Option<f64>,
    /// The same for Ringway's exclusive role, where there is one sender and one receiver.
    pub exclusive_is_better_by: Option<f64>,
    /// Messages sent and never received.
    pub lost: u64,
    /// Messages received more than once.
    pub duplicated: u64,
    /// Messages whose bytes were not what was sent.
    pub torn: u64,
    /// Rounds in which it stood still and was ended.
    pub stalled_rounds: u32,
}

/// A median, the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the rounds were below.
    pub median: f64,
    /// The lowest round.
    pub min: f64,
    /// The highest round.
    pub max: f64,
}

impl Spread {
    /// The spread of these rounds; `None` if there are none.
    pub fn of(rounds: &[f64]) -> Option<Spread> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let odd = sorted.len() % 2 == 1;
        let median = if odd { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Spread { median, min, max })
    }

    /// As `median (min-max)`, each divided by `unit`; of a single round only that.
    pub fn show(&self, unit: f64) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|value| number(value / unit));
        if self.min < self.max { format!("{median} ({min}-{max})") } else { median }
    }
}

/// A number with about three digits that count, thousands set apart.
pub fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        return format!("{value:.1e}");
    }
    let digits = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let whole = text.find('.').unwrap_or(text.len());
    let mut out = String::new();
    for (at, char) in text.chars().enumerate() {
        if at > 0 && at < whole && (whole - at) % 3 == 0 && text.as_bytes()[at - 1].is_ascii_digit() {
            out.push(',');
        }
        out.push(char);
    }
    out
}

/// A table for people.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The columns' names; the first column is the peer's name.
    pub header: Vec<String>,
    /// A line for each peer.
    pub lines: Vec<Vec<String>>,
    /// Whether all columns are texts, and not only the first.
    pub texts: bool,
    /// What must be known to read it, a sentence or two each.
    pub notes: Vec<String>,
}

impl Table {
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.header.len()];
        for line in self.lines.iter().chain([&self.header]) {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    /// One line, texts to the left, the others to the right, with `between` in between.
    fn line(&self, cells: &[String], widths: &[usize], between: &str) -> String {
        let padded = cells.iter().zip(widths).enumerate().map(|(at, (cell, &width))| {
            if at == 0 || self.texts { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join(between)
    }

    /// As plain text.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let mut out = format!("{}\n", self.title);
        for line in [&self.header].into_iter().chain(&self.lines) {
            let _ = writeln!(out, "  {}", self.line(line, &widths, "  ").trim_end());
        }
        for note in &self.notes {
            let _ = writeln!(out, "  {note}");
        }
        out
    }

    /// As Markdown, below a heading of the third level.
    pub fn markdown(&self) -> String {
        let widths = self.widths();
        let mut out = format!("### {}\n\n", self.title);
        let _ = writeln!(out, "| {} |", self.line(&self.header, &widths, " | "));
        let rules = widths.iter().enumerate().map(|(at, &width)| {
            let width = width.max(3);
            if at == 0 || self.texts { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
        });
        let _ = writeln!(out, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        for line in &self.lines {
            let _ = writeln!(out, "| {} |", self.line(line, &widths, " | "));
        }
        for note in &self.notes {
            let _ = write!(out, "\n{note}\n");
        }
        out
    }
}

/// All that came out of a run.
#[derive(Debug)]
pub struct Report<'o> {
    /// What was asked for.
    pub options: &'o Options,
    /// How long it took.
    pub took: Duration,
    /// For people.
    pub tables: Vec<Table>,
    /// For programs.
    pub rows: Vec<Row>,
    /// A round trip over two cache lines, in nanoseconds, if it was measured.
    pub gauge: Option<Spread>,
    /// Where it was measured.
    pub machine: Machine,
    /// The commit of the sources, if it is known.
    pub commit: Option<String>,
}

impl Report<'_> {
    /// The tables as plain text.
    pub fn text(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::text).collect();
        format!("{}\n{}\n", tables.join("\n"), self.summary())
    }

    /// The section "Last full run" of docs/BENCHMARKS.md.
    pub fn markdown(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::markdown).collect();
        format!("## Last full run\n\n{}\n\n{}", self.summary(), tables.join("\n"))
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "commit": self.commit,
            "versions": versions(),
            "runs": self.options.rounds(),
            "quick": self.options.quick,
            "seconds": self.took.as_secs(),
            "limits": { "two_line_round_trip_ns": self.gauge },
            "results": self.rows,
        })
    }

    fn summary(&self) -> String {
        let Machine { cpu, cpus, kernel, .. } = &self.machine;
        let (minutes, seconds) = (self.took.as_secs() / 60, self.took.as_secs() % 60);
        let rounds = count(self.options.rounds() as usize, "round");
        let processors = count(cpus.len(), "processor");
        let commit = self.commit.as_deref().unwrap_or("an unknown commit");
        let versions: Vec<String> =
            versions().into_iter().map(|(name, version)| format!("{name} {version}")).collect();
        let quick =
            if self.options.quick { " These are of --quick, and say nothing about speed." } else { "" };
        format!(
            "{rounds} in {minutes} min {seconds} s, on {processors} of {cpu}, Linux {kernel}, Ringway at \
             {commit}; {}.{quick}",
            versions.join(", "),
        )
    }
}

/// So many of these.
fn count(found: usize, what: &str) -> String {
    let s = if found == 1 { "" } else { "s" };
    format!("{found} {what}{s}")
}

/// The peers whose versions this crate's lock file decides on.
const LOCKED: [&str; 8] = [
    "iceoryx2",
    "shaq",
    "cloudtoid-interprocess",
    "rusteron-media-driver",
    "crossbeam-queue",
    "crossbeam-channel",
    "rtrb",
    "disruptor",
];

/// The versions of the peers that are crates.
fn versions() -> Vec<(&'static str, &'static str)> {
    let quoted = |line: &'static str, key: &str| line.strip_prefix(key)?.strip_suffix('"');
    let lock = include_str!("../Cargo.lock").lines();
    let pairs = lock.clone().zip(lock.skip(1));
    let packages = pairs
        .filter_map(|(name, version)| Some((quoted(name, "name = \"")?, quoted(version, "version = \"")?)));
    let built_in =
        |name: &str| LOCKED.contains(&name) && (cfg!(feature = "aeron") || !name.starts_with("rusteron"));
    packages.filter(|(name, _)| built_in(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_commas() {
        let small = [0.0, 0.000_012_34, 0.01234, 0.1234, 1.234, 12.34, 123.4].map(number);
        assert_eq!(small, ["0", "1.2e-5", "0.0123", "0.123", "1.23", "12.3", "123"]);
        let large = [1234.5, 123_456.0, 1_234_567.0, -1234.0, -123.0].map(number);
        assert_eq!(large, ["1,234", "123,456", "1,234,567", "-1,234", "-123"]);
    }

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn all_versions_are_known() {
        let names: Vec<&str> = versions().iter().map(|(name, _)| *name).collect();
        let built_in = if cfg!(feature = "aeron") { LOCKED.len() } else { LOCKED.len() - 1 };
        assert_eq!(names.len(), built_in, "{names:?}");
    }

    #[test]
    fn tables_line_up() {
        let cells = |line: &[&str]| line.iter().map(|&cell| cell.to_owned()).collect();
        let table = Table {
            title: "Rates".to_owned(),
            header: cells(&["peer", "rate"]),
            lines: vec![cells(&["ringway", "1,000"]), cells(&["x", "-"])],
            texts: false,
            notes: vec!["Higher is better.".to_owned()],
        };
        assert_eq!(
            table.text(),
            "Rates\n  peer      rate\n  ringway  1,000\n  x            -\n  Higher is better.\n"
        );
        let markdown = "### Rates\n\n| peer    |  rate |\n| ------- | ----: |\n| ringway | 1,000 |\n\
                        | x       |     - |\n\nHigher is better.\n";
        assert_eq!(table.markdown(), markdown);
    }
}

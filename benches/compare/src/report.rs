//! What comes out: rows for programs, tables for people.
//!
//! A [`Row`] is what one peer did in one workload. A family lays its rows out as [`Table`]s, which can be
//! printed as text and as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

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
    /// The median, over the rounds, of Ringway's advantage in the same round: the peer's latency divided by
    /// Ringway's, Ringway's throughput divided by the peer's.
    pub ringway_is_better_by: Option<f64>,
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

    /// As `median (min-max)`, each divided by `unit`.
    pub fn show(&self, unit: f64) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|value| number(value / unit));
        format!("{median} ({min}-{max})")
    }
}

/// A number with about three digits that count, thousands set apart.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
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

    /// One line, the first cell to the left, the others to the right, with `between` in between.
    fn line(cells: &[String], widths: &[usize], between: &str) -> String {
        let padded = cells.iter().zip(widths).enumerate().map(|(at, (cell, &width))| {
            if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join(between)
    }

    /// As plain text.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let mut out = format!("{}\n", self.title);
        for line in [&self.header].into_iter().chain(&self.lines) {
            let _ = writeln!(out, "  {}", Self::line(line, &widths, "  ").trim_end());
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
        let _ = writeln!(out, "| {} |", Self::line(&self.header, &widths, " | "));
        let rules = widths.iter().enumerate().map(|(at, &width)| match at {
            0 => "-".repeat(width.max(3)),
            _ => format!("{}:", "-".repeat(width.max(3) - 1)),
        });
        let _ = writeln!(out, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        for line in &self.lines {
            let _ = writeln!(out, "| {} |", Self::line(line, &widths, " | "));
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
        json!({ "runs": self.options.rounds(), "quick": self.options.quick, "results": self.rows })
    }

    fn summary(&self) -> String {
        let quick = if self.options.quick { "; --quick: these figures say nothing about speed" } else { "" };
        let (minutes, seconds) = (self.took.as_secs() / 60, self.took.as_secs() % 60);
        format!("{} round(s) in {minutes} min {seconds} s{quick}.", self.options.rounds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_commas() {
        let shown = [0.0, 1.234, 12.34, 123.4, 1234.5, 123_456.0, 1_234_567.0, -1234.0].map(number);
        assert_eq!(
            shown,
            ["0.00", "1.23", "12.3", "123", "1,234", "123,456", "1,234,567", "-1,234"].map(str::to_owned)
        );
    }

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn tables_line_up() {
        let cells = |line: &[&str]| line.iter().map(|&cell| cell.to_owned()).collect();
        let table = Table {
            title: "Rates".to_owned(),
            header: cells(&["peer", "rate"]),
            lines: vec![cells(&["ringway", "1,000"]), cells(&["x", "-"])],
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

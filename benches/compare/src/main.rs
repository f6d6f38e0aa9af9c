//! Ringway beside other queues, measured in one run.
//!
//! Two families. `memory`: queues between the processes (or threads) of one host, where the message is copied
//! once or twice and nothing else happens. `brokers`: servers and databases that hand work out at least once
//! and are told when it is done. Each has its own module, which gives back [`Row`]s and lays them out as
//! tables; `report` prints them. docs/BENCHMARKS.md says how to repeat it and how to read it.
//!
//! The parent stays single-threaded, since it forks: every participant is a process of its own, and queues
//! between threads live in one that is forked for them.

mod brokers;
mod memory;
mod options;
mod report;

use std::time::Instant;

use anyhow::Context;
use clap::Parser;

use crate::options::{Family, Options};
use crate::report::{Report, Row};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let start = Instant::now();
    let mut rows: Vec<Row> = Vec::new();
    let mut tables = Vec::new();
    if options.wants(Family::Memory) {
        let found = memory::run(&options)?;
        tables.extend(memory::tables(&found));
        rows.extend(found);
    }
    if options.wants(Family::Brokers) {
        let found = brokers::run(&options)?;
        tables.extend(brokers::tables(&found));
        rows.extend(found);
    }
    let report = Report { options: &options, took: start.elapsed(), tables, rows };
    print!("{}", report.text());
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &options.markdown {
        std::fs::write(path, report.markdown()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

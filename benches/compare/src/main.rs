//! The command: measures what is asked for, and prints it.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;
use ringway_measure::Machine;

use ringway_compare::options::{Family, Options};
use ringway_compare::report::{Report, Row};
use ringway_compare::{brokers, interrupt, memory};

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway-compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    interrupt::watch()?;
    let start = Instant::now();
    let mut rows: Vec<Row> = Vec::new();
    let (mut tables, mut gauge) = (Vec::new(), None);
    if options.wants(Family::Memory) {
        let found = memory::run(options)?;
        tables.extend(memory::tables(&found));
        rows.extend(found.rows);
        gauge = found.gauge;
    }
    if options.wants(Family::Brokers) {
        let found = brokers::run(options)?;
        tables.extend(brokers::tables(&found));
        rows.extend(found);
    }
    if rows.is_empty() {
        bail!("no peer has {:?} in its name; without --only all are measured", options.only.join(", "));
    }
    let (machine, took) = (Machine::read(), start.elapsed());
    let report = Report { options, took, tables, rows, gauge, machine, commit: commit() };
    print!("{}", report.text());
    if let Some(path) = &options.json {
        write(path, &(serde_json::to_string_pretty(&report.json())? + "\n"))?;
    }
    if let Some(path) = &options.markdown {
        write(path, &report.markdown())?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// The commit that is checked out where this was built, if git can tell.
fn commit() -> Option<String> {
    let arguments = ["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
}

//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The payloads there are. Queues of typed slots are compiled for each of them.
pub const PAYLOADS: [usize; 3] = [64, 1024, 65_536];

/// Measures Ringway beside other queues, in one run.
#[derive(Debug, Parser)]
#[command(name = "ringway-compare", version)]
pub struct Options {
    /// Which peers
    #[arg(value_enum, default_value_t = Which::All)]
    pub which: Which,

    /// Rounds; the figures are medians over them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub runs: u32,

    /// Only the peers whose names contain one of these (small letters or not)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,

    /// Bytes of a message: 64, 1024 or 65536
    #[arg(
        long,
        value_name = "BYTES",
        value_delimiter = ',',
        default_values_t = PAYLOADS,
        value_parser = payload
    )]
    pub payload: Vec<usize>,

    /// Also writes everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Also writes the tables to this file, as the section of docs/BENCHMARKS.md
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// One round with few messages: shows that it works, and nothing about speed
    #[arg(long)]
    pub quick: bool,
}

/// Which families are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Queues in memory, between processes or threads
    Memory,
    /// Servers and databases, at least once with acknowledgements
    Brokers,
    /// Both
    All,
}

/// What kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// A queue in memory.
    Memory,
    /// A server or a database.
    Brokers,
}

impl Options {
    /// Whether this family is asked for.
    pub fn wants(&self, family: Family) -> bool {
        match self.which {
            Which::All => true,
            Which::Memory => family == Family::Memory,
            Which::Brokers => family == Family::Brokers,
        }
    }

    /// Whether this peer is asked for.
    pub fn wants_peer(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.only.is_empty() || self.only.iter().any(|part| name.contains(&part.trim().to_lowercase()))
    }

    /// How many rounds to run.
    pub fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }
}

fn payload(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(bytes) if PAYLOADS.contains(&bytes) => Ok(bytes),
        _ => Err("expected 64, 1024 or 65536".to_owned()),
    }
}

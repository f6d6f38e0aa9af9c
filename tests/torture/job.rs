//! What a worker process is told to do; small enough for one argument of a command line.

use std::path::PathBuf;

use ringway::Wait;
use serde::{Deserialize, Serialize};

/// One process's work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) store: PathBuf,
    pub(crate) queue: String,
    pub(crate) log: PathBuf,
    /// Its number in the scenario, the upper half of the ids that it publishes.
    pub(crate) number: u32,
    pub(crate) seed: u64,
    /// Opens the store with zero-copy access.
    pub(crate) trust: bool,
    pub(crate) role: Role,
}

/// What it does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Role {
    Producer(ProducerRole),
    Consumer(ConsumerRole),
    /// Purges and retries the dead letters of a group, and verifies the queue while it runs.
    Warden {
        group: String,
    },
    /// Receives one message and keeps it for good.
    Holder,
    /// Publishes a message and, when told, receives it and the next one.
    Heir,
    /// Publishes messages of this length as fast as it can, while told to run.
    Sprinter {
        bytes: usize,
    },
    /// Receives and acks as fast as it can, while told to run.
    Eater,
    /// Receives one message when told to run, and keeps it until told to be idle.
    Keeper,
}

/// How it publishes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProducerRole {
    pub(crate) exclusive: bool,
    pub(crate) wait: Wait,
    /// Messages in a row, at most.
    pub(crate) burst: u64,
    /// Microseconds between two bursts, at most.
    pub(crate) gap_us: u64,
    /// How many messages in a thousand are longer than a slot.
    pub(crate) long_permille: u64,
    /// The longest of them, in bytes.
    pub(crate) longest: usize,
}

/// How it receives and settles.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConsumerRole {
    pub(crate) group: String,
    pub(crate) exclusive: bool,
    pub(crate) wait: Wait,
    /// Milliseconds of a lease; `None` for leases until death.
    pub(crate) lease_ms: Option<u64>,
    /// Messages it asks for at once, at most.
    pub(crate) batch: usize,
    /// Messages it keeps while it asks for more, at most.
    pub(crate) keep: usize,
    /// Microseconds of work on a message, at most; most take none.
    pub(crate) work_us: u64,
    /// How many messages of a thousand it settles by each way that is not an ack.
    pub(crate) mood: u64,
}

impl Role {
    /// For people.
    pub(crate) fn title(&self) -> &'static str {
        match self {
            Role::Producer(_) => "producer",
            Role::Consumer(_) => "consumer",
            Role::Warden { .. } => "warden",
            Role::Holder => "holder",
            Role::Heir => "heir",
            Role::Sprinter { .. } => "producer",
            Role::Eater => "consumer",
            Role::Keeper => "keeper",
        }
    }
}

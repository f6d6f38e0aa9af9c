//! Ringway beside other queues, measured in one run.
//!
//! Two families. `memory`: queues between the processes (or threads) of one host, where the message is copied
//! once or twice and nothing else happens. `brokers`: servers and databases that hand work out at least once
//! and are told when it is done. Each has its own module, which gives back [`Row`](report::Row)s and lays
//! them out as tables; `report` prints them. docs/BENCHMARKS.md says how to repeat it and how to read it.
//!
//! The parent stays single-threaded, since it forks: every participant is a process of its own, and queues
//! between threads live in one that is forked for them.

pub mod brokers;
mod deliveries;
pub mod interrupt;
pub mod memory;
pub mod options;
pub mod report;

//! What `ringway bench` and the comparison with other queues share, so that both measure in the same way.
//!
//! A measurement is a handful of processes: [`spawn`] forks them from a parent that has one thread, [`pin`]
//! gives each a processor of its own, and a [`Gate`] lets them start together. They write and read every
//! message ([`fill`], [`check`]), count what they saw in a [`Tally`], time it with [`now_ns`] and a
//! [`Latency`], and send all that back to the parent through a pipe, as the value of [`Child::join`]. The
//! parent adds the tallies up and compares them with what was published, and collects the figures of repeated
//! runs in [`Runs`]. [`limits`] has what the machine can do at best, to be measured in the same run, [`disk`] the
//! files that this takes, and [`Machine`] says which machine it was.

mod clock;
pub mod disk;
mod error;
mod gate;
mod latency;
pub mod limits;
mod machine;
mod process;
mod runs;
mod tally;
mod words;

pub use clock::{Pace, now_ns, processor_ns};
pub use error::{Error, Result};
pub use gate::Gate;
pub use latency::Latency;
pub use machine::{Machine, cpus, pin};
pub use process::{Child, join_all, spawn};
pub use runs::{Runs, Spread};
pub use tally::{
    END, Faults, Tally, check, check_ends, check_pages, fill, fill_ends, fill_pages, id, number_of,
    producer_of,
};
pub use words::Words;

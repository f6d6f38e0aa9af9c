//! Servers and databases that hand work out at least once and are told when it is done.
//!
//! A [`Broker`] is one of them, running. What is measured goes through two traits only: a [`Sender`] that
//! publishes and waits for the broker's word, and a [`Receiver`] that takes messages and acknowledges them.
//! Each end is a process of its own, forked before any client library is touched. `work` has the workloads,
//! `contender` who takes part and with which settings, `server` how a server is started and ended, `rounds`
//! the repetition and `tables` what people see.
//!
//! Every message is written and read in full, counted, confirmed to its producer and acknowledged by its
//! consumer. Nothing is pinned: there are more processes than processors.

mod beanstalk;
mod contender;
mod nats;
mod pending;
mod rabbit;
mod redis;
mod ringway;
mod rounds;
mod server;
mod sqlite;
mod tables;
mod version;
mod work;

use std::time::Duration;

use anyhow::Context;

pub use self::rounds::run;
pub use self::tables::tables;

/// The longest that a receiver waits for a message in one call.
const TICK: Duration = Duration::from_secs(1);

/// A queue by its name, and the length of the messages in it.
#[derive(Debug, Clone, Copy)]
struct Line<'n> {
    name: &'n str,
    payload: usize,
}

/// A broker that runs and can be connected to by any process.
trait Broker {
    /// Its producers.
    type Sender: Sender;
    /// Its consumers.
    type Receiver: Receiver;

    /// Makes the queue, which there is not yet, and the only consumer of it.
    fn receiver(&self, queue: Line<'_>) -> anyhow::Result<Self::Receiver>;

    /// A producer with at most `window` messages that are not confirmed yet. The queue is there, or is made
    /// by its first user.
    fn sender(&self, queue: Line<'_>, window: usize) -> anyhow::Result<Self::Sender>;
}

/// A producer.
trait Sender {
    /// Publishes. The message may wait for others to be sent with, and for its confirmation.
    fn send(&mut self, payload: &[u8]) -> anyhow::Result<()>;

    /// Returns when all that was sent is confirmed.
    fn flush(&mut self) -> anyhow::Result<()>;
}

/// A consumer.
trait Receiver {
    /// Waits for messages, at most for a [`TICK`], and shows up to `max` of them. They are acknowledged after
    /// that: before it returns if `max` is one, and with the next call at the latest. How many there were.
    fn take(&mut self, max: usize, see: impl FnMut(&[u8])) -> anyhow::Result<usize>;

    /// Acknowledges what is left.
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// What an asynchronous client runs on: one thread, this one.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no asynchronous runtime")
}

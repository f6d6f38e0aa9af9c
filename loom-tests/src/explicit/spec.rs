//! The processes of a configuration: who there is, and what each does.

use ringway::ring::Owner;

/// A process of the model.
#[derive(Debug, Clone)]
pub struct Spec {
    /// What it does.
    pub role: Role,
    /// Its owner index.
    pub owner: Owner,
    /// Whether it may vanish.
    pub mortal: bool,
}

/// The programs.
#[derive(Debug, Clone)]
pub enum Role {
    /// Publishes.
    Producer(Producer),
    /// Receives and settles, for ever.
    Consumer(Consumer),
    /// Sweeps a group, for ever.
    Sweeper {
        /// The group.
        group: u8,
    },
    /// Recovers what a dead process left.
    Recoverer {
        /// The number of the process.
        of: u8,
    },
    /// Makes a group active.
    Birth {
        /// The group.
        group: u8,
    },
    /// Hands dead letters out again, for ever.
    Reviver {
        /// The group.
        group: u8,
    },
}

/// Claim, write, finish; and again.
#[derive(Debug, Clone, Default)]
pub struct Producer {
    /// Plain stores.
    pub exclusive: bool,
    /// Messages to publish; one more after each restart.
    pub messages: u8,
    /// Each of the first this many messages may be abandoned instead.
    pub abandons: u8,
}

/// Look for returned ones, then for fresh ones, then sweep; read, settle.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// The group.
    pub group: u8,
    /// Plain stores.
    pub exclusive: bool,
    /// Leases with a deadline of one millisecond.
    pub timed: bool,
    /// Waits for unfinished positions, and for returned ones that are not due.
    pub ordered: bool,
    /// Sweeps when there is nothing to do.
    pub sweeps: bool,
    /// Other ways to settle than ack, each at the cost of one refusal.
    pub settles: &'static [Settle],
}

impl Consumer {
    /// A shared consumer of a relaxed group.
    pub fn relaxed(group: u8) -> Consumer {
        Consumer { group, exclusive: false, timed: false, ordered: false, sweeps: true, settles: &[] }
    }

    /// An exclusive consumer of an ordered group.
    pub fn exclusive(group: u8) -> Consumer {
        Consumer { exclusive: true, ordered: true, ..Consumer::relaxed(group) }
    }
}

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settle {
    /// Done.
    Ack,
    /// Again, with one failure more.
    Nack,
    /// Again.
    Release,
    /// Dead.
    Reject,
    /// The deadline is moved by a millisecond first, then it is acked.
    Extend,
}

impl From<Producer> for Role {
    fn from(producer: Producer) -> Role {
        Role::Producer(producer)
    }
}

impl From<Consumer> for Role {
    fn from(consumer: Consumer) -> Role {
        Role::Consumer(consumer)
    }
}

//! A case: one thing to measure, with all that it is measured by.

use std::time::Duration;

use ringway::{Lease, Wait};
use ringway_measure::cpus;
use serde::Serialize;

use crate::args::bench::{DurabilityArg, QueueArgs, RoleArg, TouchArg};
use crate::args::{LeaseArg, WaitArg};
use crate::exit::{Code, Failure};
use crate::units::{group_digits, show_size};

/// Slots of a queue, unless its messages are long.
const CAPACITY: u32 = 16_384;

/// The fewest slots a queue can have.
const CAPACITY_LEAST: u32 = 1_024;

/// Bytes of all messages of a queue, unless its capacity is chosen.
const QUEUE_BYTES: u64 = 256 << 20;

/// What the ring keeps in a slot beside the message.
const SLOT_OVERHEAD: u32 = 16;

/// The longest slot.
const SLOT_MOST: u32 = 4_096;

/// The longest message.
const MESSAGE_MOST: u32 = (1 << 30) - 1;

/// The most processes of one case: a store has room for 1,023.
const PROCESSES_MOST: usize = 512;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum What {
    #[serde(rename = "latency.round_trip")]
    RoundTrip,
    #[serde(rename = "latency.one_way")]
    OneWay,
    #[serde(rename = "throughput")]
    Throughput,
    #[serde(rename = "idle")]
    Idle,
    #[serde(rename = "recovery")]
    Recovery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Exclusive,
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Durability {
    Volatile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Touch {
    All,
    Pages,
    Ends,
}

/// How long a run lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Amount {
    /// This many messages, after the warm-up.
    Messages(u64),
    /// This long, warm-up included.
    Time(Duration),
    /// This long without a message, then so many.
    Watch { time: Duration, wakes: u64 },
}

/// One thing to measure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    pub(super) what: What,
    pub(super) role: Role,
    pub(super) producers: usize,
    /// In each group.
    pub(super) consumers: usize,
    pub(super) groups: usize,
    pub(super) payload: usize,
    pub(super) slot_size: u32,
    pub(super) capacity: u32,
    pub(super) batch: usize,
    pub(super) wait: Wait,
    pub(super) lease: Lease,
    pub(super) durability: Durability,
    pub(super) zero_copy: bool,
    pub(super) touch: Touch,
    pub(super) amount: Amount,
    /// Messages a second in an open loop.
    pub(super) rate: Option<f64>,
    /// The processor of each process, producers first; none if there are too few.
    pub(super) cpus: Vec<usize>,
}

/// A case in the making.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) what: What,
    pub(super) queue: &'a QueueArgs,
    pub(super) role: Role,
    pub(super) producers: u32,
    pub(super) consumers: u32,
    pub(super) groups: u32,
    pub(super) payload: u32,
    pub(super) capacity: Option<u32>,
    pub(super) batch: usize,
    /// In place of what is usual for this payload.
    pub(super) amount: Option<Amount>,
    pub(super) rate: Option<f64>,
    /// One of a set of payloads: the messages asked for are the most, not what long ones take as well.
    pub(super) in_set: bool,
}

impl<'a> Plan<'a> {
    /// One producer, one consumer, 64 bytes.
    pub(super) fn new(what: What, queue: &'a QueueArgs, role: Role) -> Plan<'a> {
        Plan {
            what,
            queue,
            role,
            producers: 1,
            consumers: 1,
            groups: 1,
            payload: 64,
            capacity: None,
            batch: 1,
            amount: None,
            rate: None,
            in_set: false,
        }
    }

    /// The case, if there can be such a one.
    pub(super) fn case(self) -> Result<Case, Failure> {
        self.check()?;
        let [producers, consumers, groups] =
            [self.producers, self.consumers, self.groups].map(|count| count as usize);
        let processes = producers + consumers * groups;
        let there = cpus();
        let enough = processes <= there.len();
        let wait = match self.queue.wait {
            Some(WaitArg::Spin) if !enough => {
                return wrong(format!(
                    "{processes} processes cannot spin on {} processors: use --wait adaptive or --wait park",
                    there.len()
                ));
            }
            Some(wait) => wait_of(wait),
            None if enough => Wait::Spin,
            None => Wait::Adaptive,
        };
        let slot_size = self.queue.slot_size.unwrap_or_else(|| slot_for(self.payload));
        let capacity = self.capacity.unwrap_or_else(|| capacity_for(self.payload));
        Ok(Case {
            what: self.what,
            role: self.role,
            producers,
            consumers,
            groups,
            payload: self.payload as usize,
            slot_size,
            capacity,
            batch: self.batch,
            wait,
            lease: lease_of(self.queue.lease),
            durability: match self.queue.durability {
                DurabilityArg::Volatile => Durability::Volatile,
            },
            zero_copy: self.queue.zero_copy,
            touch: match self.queue.touch {
                TouchArg::All => Touch::All,
                TouchArg::Pages => Touch::Pages,
                TouchArg::Ends => Touch::Ends,
            },
            amount: self.amount(),
            rate: self.rate,
            cpus: if enough { there[..processes].to_vec() } else { Vec::new() },
        })
    }

    fn check(&self) -> Result<(), Failure> {
        if self.payload < 8 {
            return wrong(format!(
                "a payload of {} bytes has no room for the id that is checked: use --payload 8 or more",
                self.payload
            ));
        }
        if self.payload > MESSAGE_MOST {
            return wrong(format!(
                "a payload of {} is more than a queue can take: use at most {} bytes",
                show_size(self.payload.into()),
                group_digits(MESSAGE_MOST.into())
            ));
        }
        if self.role == Role::Exclusive && (self.producers > 1 || self.consumers > 1) {
            return wrong(format!(
                "an exclusive role is one process's: with {} producers and {} consumers in a group use --role shared",
                self.producers, self.consumers
            ));
        }
        if self.queue.zero_copy && matches!(self.queue.lease, Some(LeaseArg::Timed(_))) {
            return wrong("payloads are read in place only under a lease until death: leave out --lease");
        }
        if self.queue.zero_copy && self.batch > 1 {
            return wrong("payloads are written in place one by one: leave out --batch or --zero-copy");
        }
        let processes = self.producers as usize + (self.consumers * self.groups) as usize;
        if processes > PROCESSES_MOST {
            return wrong(format!(
                "{processes} processes are too many: have at most {PROCESSES_MOST} producers and consumers"
            ));
        }
        Ok(())
    }

    /// What was asked for, else as much as makes a run of some tenths of a second.
    fn amount(&self) -> Amount {
        let usual = match self.what {
            // With a rate, some seconds.
            What::RoundTrip | What::OneWay => {
                self.rate.map_or(100_000, |rate| (rate * 5.0) as u64).clamp(100, 100_000)
            }
            What::Throughput | What::Idle | What::Recovery => {
                (4_u64 << 30).div_ceil(self.moved()).clamp(1_000, 4_000_000)
            }
        };
        let messages = match self.queue.messages {
            Some(asked) if self.in_set => asked.min(usual),
            asked => asked.unwrap_or(usual),
        };
        self.amount.unwrap_or(Amount::Messages(messages))
    }

    /// Bytes of a message that are written.
    fn moved(&self) -> u64 {
        match self.queue.touch {
            TouchArg::All => self.payload.into(),
            _ if !self.queue.zero_copy => self.payload.into(),
            TouchArg::Pages => u64::from(self.payload / 64).max(64),
            TouchArg::Ends => 64,
        }
    }
}

impl Case {
    pub(super) fn processes(&self) -> usize {
        self.producers + self.consumers * self.groups
    }

    /// Messages that are sent first and not measured: at least a lap, so that the kernel has made every
    /// page of the queue before.
    pub(super) fn warm_up(&self) -> u64 {
        match self.amount {
            Amount::Messages(messages) if self.what == What::Throughput => {
                (messages / 10).max(self.capacity.into())
            }
            Amount::Messages(messages) => (messages / 10).max(100),
            Amount::Time(_) | Amount::Watch { .. } => 0,
        }
    }

    /// Bytes of memory that its queue takes when all of it has been used.
    pub(super) fn memory(&self) -> u64 {
        let capacity = u64::from(self.capacity);
        let slot = u64::from(self.slot_size) + 16 * self.groups as u64 + 8;
        let extent = if self.payload as u64 + u64::from(SLOT_OVERHEAD) > u64::from(self.slot_size) {
            (self.payload as u64).next_multiple_of(4_096)
        } else {
            0
        };
        // The two ways of a round trip are a queue each, of which hardly more than a page is used: slots are
        // all touched when a queue is attached to, extents when there is a message.
        let queues = if self.what == What::RoundTrip { 2 } else { 1 };
        (slot + extent) * capacity * queues
    }

    /// In words, for errors and progress.
    pub(super) fn name(&self) -> String {
        let what = match self.what {
            What::RoundTrip => "round trip".to_owned(),
            What::OneWay => "one way".to_owned(),
            What::Idle => return format!("idle, {}", wait_name(self.wait)),
            What::Recovery => return format!("recovery, {}", wait_name(self.wait)),
            What::Throughput => {
                let groups =
                    if self.groups > 1 { format!(", {} groups", self.groups) } else { String::new() };
                format!("{}p{}c{groups}", self.producers, self.consumers)
            }
        };
        let batch = if self.batch > 1 { format!(", batches of {}", self.batch) } else { String::new() };
        let copy = if self.zero_copy { ", zero copy" } else { "" };
        format!("{what}, {}, {}{batch}{copy}", self.role.name(), show_size(self.payload as u64))
    }
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Exclusive => "exclusive",
            Role::Shared => "shared",
        }
    }

    /// The role asked for, else those that so many processes can have.
    pub(super) fn choices(asked: Option<RoleArg>, alone: bool) -> Vec<Role> {
        match asked {
            Some(RoleArg::Shared) => vec![Role::Shared],
            Some(RoleArg::Exclusive) => vec![Role::Exclusive],
            None if alone => vec![Role::Exclusive, Role::Shared],
            None => vec![Role::Shared],
        }
    }
}

pub(super) fn wait_of(wait: WaitArg) -> Wait {
    match wait {
        WaitArg::Spin => Wait::Spin,
        WaitArg::Adaptive => Wait::Adaptive,
        WaitArg::Park => Wait::Park,
    }
}

pub(super) fn wait_name(wait: Wait) -> &'static str {
    match wait {
        Wait::Spin => "spin",
        Wait::Adaptive => "adaptive",
        Wait::Park => "park",
    }
}

fn lease_of(lease: Option<LeaseArg>) -> Lease {
    match lease {
        None | Some(LeaseArg::UntilDeath) => Lease::UntilDeath,
        Some(LeaseArg::Timed(time)) => Lease::Timed(time),
    }
}

/// The smallest slot that has room for the payload; that of a pointer, if it is too long for any.
fn slot_for(payload: u32) -> u32 {
    let slot = (payload + SLOT_OVERHEAD).next_multiple_of(64);
    if slot <= SLOT_MOST { slot } else { 128 }
}

/// As many slots as usual, but not so many that long messages take more memory than is polite.
fn capacity_for(payload: u32) -> u32 {
    let most = QUEUE_BYTES / u64::from(payload.max(1));
    // The largest power of two up to that.
    let most = 1 << most.max(1).ilog2().min(31);
    CAPACITY.min(most).max(CAPACITY_LEAST)
}

fn wrong<T>(message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(Code::Usage, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_queues_fit_the_payload() {
        assert_eq!([8, 48, 49, 64, 4_080, 4_081].map(slot_for), [64, 64, 128, 128, 4_096, 128]);
        assert_eq!(
            [8, 16_384, 16_385, 1 << 16, 1 << 20].map(capacity_for),
            [16_384, 16_384, 8_192, 4_096, 1_024]
        );
    }
}

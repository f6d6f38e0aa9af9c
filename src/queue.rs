//! A queue of a store: its geometry, its groups, what is in it.

use crate::{ConsumerBuilder, GroupOptions, HeadersRef, ProducerBuilder, Removal, Store, StoreError};
use serde::Serialize;

/// An open queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {}

/// The geometry of a new queue.
#[derive(Debug, Clone)]
pub struct QueueOptions {}

impl QueueOptions {
    /// Slots: a power of two, 1,024 to 16,777,216 (default 16,384).
    pub fn capacity(self, slots: u32) -> Self {
        todo!()
    }
    /// Bytes of a slot, with 16 for the ring itself: a multiple of 64, 64 to 4,096 (default 128).
    pub fn slot_size(self, bytes: u32) -> Self {
        todo!()
    }
    /// The longest message with its headers, in bytes (default 1 MiB, at most 1 GiB - 1).
    pub fn max_message(self, bytes: u32) -> Self {
        todo!()
    }
    /// How many groups there can be: 1 to 64 (default 8).
    pub fn max_groups(self, groups: u32) -> Self {
        todo!()
    }
    /// The settings of the group `default`.
    pub fn default_group(self, options: GroupOptions) -> Self {
        todo!()
    }
    /// Creates the queue; one of that name is an error.
    pub fn create(&self, store: &Store, name: &str) -> Result<Queue, StoreError> {
        todo!()
    }
    /// Opens the queue, creating it if it is not there; one of another geometry is an error.
    pub fn open_or_create(&self, store: &Store, name: &str) -> Result<Queue, StoreError> {
        todo!()
    }
}

/// A queue's geometry and where it stands.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct QueueInfo {
    /// The queue's name.
    pub name: String,
    /// Slots.
    pub capacity: u64,
    /// Bytes of a slot.
    pub slot_size: u32,
    /// The longest message, in bytes.
    pub max_message: u32,
    /// How many groups there can be.
    pub max_groups: u32,
    /// Bytes of the file that are in memory or on disk.
    pub allocated_bytes: u64,
    /// Format version of the file.
    pub format: u32,
    /// Positions decided since the queue was made (published, skipped or void).
    pub positions: u64,
    /// Slots whose message some group still has to settle, and slots being written.
    pub occupied: u64,
    /// Positions that a producer has claimed and not finished.
    pub unfinished: u64,
    /// Who has the producer role alone, as `pid command`, if anyone.
    pub exclusive_producer: Option<String>,
    /// Attached producers.
    pub producers: u32,
    /// The groups.
    pub groups: Vec<GroupInfo>,
}

/// A group's settings and where it stands.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The group's name.
    pub name: String,
    /// Its settings.
    pub options: GroupOptions,
    /// The first position it hands out.
    pub start: u64,
    /// Where it stands: everything fresh before it was handed out.
    pub head: u64,
    /// Messages never handed out.
    pub ready: u64,
    /// Messages in the hands of a consumer.
    pub leased: u64,
    /// Messages that wait for their next attempt.
    pub retrying: u64,
    /// Dead letters, parked in their slots.
    pub dead: u64,
    /// ready + retrying: what there is to do.
    pub depth: u64,
    /// Positions between the group's head and the queue's tail.
    pub lag: u64,
    /// Attached consumers.
    pub consumers: u32,
    /// Who has the consumer role alone, as `pid command`, if anyone.
    pub exclusive_consumer: Option<String>,
    /// Since the group was made: leases that ran out.
    pub expired: u64,
    /// Since the group was made: leases taken back from dead processes.
    pub recovered: u64,
    /// Since the group was made: settles refused because the lease was lost.
    pub stale_settles: u64,
}

/// The state of a message in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MessageState {
    /// Never handed out.
    Ready,
    /// In the hands of a consumer.
    Leased,
    /// Waits for its next attempt.
    Retrying,
    /// A dead letter.
    Dead,
}

/// A message looked at without a lease.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Peeked {
    /// Its position.
    pub position: u64,
    /// Its state in the group.
    pub state: MessageState,
    /// Failed deliveries so far.
    pub failures: u16,
    /// The payload.
    pub payload: Vec<u8>,
    pub(crate) headers: Vec<u8>,
}

impl Peeked {
    /// The headers.
    pub fn headers(&self) -> HeadersRef<'_> {
        todo!()
    }
}

/// Why a message is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadReason {
    /// It failed as often as the group allows.
    MaxDeliveries,
    /// A consumer rejected it.
    Rejected,
}

/// A dead letter, parked in its slot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The message; its state is `Dead`.
    pub message: Peeked,
    /// Why.
    pub reason: DeadReason,
    /// What the rejecting consumer said; kept for the last 256 rejections of a group.
    pub description: Option<String>,
    /// Deliveries.
    pub attempts: u16,
}

/// What `verify` found.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Words looked at.
    pub checked: u64,
    /// What does not add up.
    pub violations: Vec<Violation>,
}

/// A broken invariant.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Violation {
    /// Where: a word of the file.
    pub place: String,
    /// Found and expected.
    pub what: String,
}

impl Queue {
    /// The geometry of a new queue.
    pub fn options() -> QueueOptions {
        todo!()
    }
    /// Its name.
    pub fn name(&self) -> &str {
        todo!()
    }
    /// Slots.
    pub fn capacity(&self) -> u64 {
        todo!()
    }
    /// Bytes of the longest message with its headers.
    pub fn max_message(&self) -> usize {
        todo!()
    }
    /// A producer.
    pub fn producer(&self) -> ProducerBuilder {
        todo!()
    }
    /// A consumer of a group.
    pub fn consumer(&self, group: &str) -> ConsumerBuilder {
        todo!()
    }
    /// Makes a group.
    pub fn add_group(&self, name: &str, options: GroupOptions) -> Result<(), StoreError> {
        todo!()
    }
    /// Removes a group: its undelivered messages are gone for it.
    pub fn remove_group(&self, name: &str, removal: Removal) -> Result<(), StoreError> {
        todo!()
    }
    /// The groups' names and settings and where they stand. Reads every word of the ring once.
    pub fn groups(&self) -> Result<Vec<GroupInfo>, StoreError> {
        todo!()
    }
    /// Everything `ringway info` shows. Reads every word of the ring once.
    pub fn info(&self) -> Result<QueueInfo, StoreError> {
        todo!()
    }
    /// Up to `limit` messages of a group in order of position, without lease, count or side effect.
    pub fn peek(&self, group: &str, limit: usize) -> Result<Vec<Peeked>, StoreError> {
        todo!()
    }
    /// The dead letters of a group, in order of position.
    pub fn dead(&self, group: &str) -> Result<Vec<DeadLetter>, StoreError> {
        todo!()
    }
    /// Gives a dead letter another chance, with its failures reset. `false` if it is not dead (any more).
    pub fn retry_dead(&self, group: &str, position: u64) -> Result<bool, StoreError> {
        todo!()
    }
    /// Deletes a dead letter. `false` if it is not dead (any more).
    pub fn purge_dead(&self, group: &str, position: u64) -> Result<bool, StoreError> {
        todo!()
    }
    /// Checks every invariant that the file can show. Changes nothing; safe while the queue runs.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        todo!()
    }
}

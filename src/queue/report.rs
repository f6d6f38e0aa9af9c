//! What a look at a queue gives: for people, and for programs that watch.

use std::sync::Arc;

use serde::Serialize;

use crate::{GroupOptions, HeadersRef};

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
    /// The payload; empty if another process has damaged the message.
    pub payload: Vec<u8>,
    pub(crate) headers: Vec<u8>,
}

impl Peeked {
    /// The headers.
    pub fn headers(&self) -> HeadersRef<'_> {
        HeadersRef::from_encoded(&self.headers)
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
    /// It could not be read: another process wrote where the protocol does not let it.
    Corrupt,
}

/// A dead letter, parked in its slot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The message; its state is `Dead`.
    pub message: Peeked,
    /// Why.
    pub reason: DeadReason,
    /// What the rejecting consumer said; the first 240 bytes, kept for the last 64 rejections of a group.
    pub description: Option<String>,
    /// Deliveries.
    pub attempts: u16,
}

/// A message looked at without a lease, with what each group makes of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Browsed {
    /// Its position.
    pub position: u64,
    /// Where it stands in each group that was asked about and has not settled it.
    pub groups: Vec<Standing>,
    /// The payload; empty if `damaged`.
    pub payload: Vec<u8>,
    /// Whether another process has damaged the message, so that nothing of it can be shown.
    pub damaged: bool,
    pub(crate) headers: Vec<u8>,
}

impl Browsed {
    /// The headers.
    pub fn headers(&self) -> HeadersRef<'_> {
        HeadersRef::from_encoded(&self.headers)
    }
}

/// Where a message stands in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The group.
    pub group: Arc<str>,
    /// Its state there.
    pub state: MessageState,
    /// Failed deliveries so far.
    pub failures: u16,
    /// Deliveries so far.
    pub attempts: u16,
    /// Why it is dead, if it is.
    pub reason: Option<DeadReason>,
    /// What the rejecting consumer said, as in [`DeadLetter::description`].
    pub description: Option<String>,
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

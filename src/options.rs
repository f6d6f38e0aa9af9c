//! What can be chosen when a store, a queue, a group, a producer or a consumer is made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::StoreError;

/// How a handle waits when there is nothing to do yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Burn a core, answer in nanoseconds.
    Spin,
    /// Spin for some microseconds, then sleep in the kernel. The default.
    #[default]
    Adaptive,
    /// Sleep in the kernel at once.
    Park,
}

/// What `publish` does when there is no free slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// Give the message back with [`PublishFailure::Full`](crate::PublishFailure::Full). The default.
    #[default]
    Reject,
    /// Wait for a slot at most this long, then as `Reject`.
    Block(Duration),
}

/// How long a delivery stays with its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Until it is settled or the consumer's process dies. The default of exclusive consumers.
    UntilDeath,
    /// Until it is settled, the process dies, or this time is over; 1 ms to 12 h. The default of
    /// shared consumers is 30 s.
    Timed(Duration),
}

/// The bounds of a lease's time.
pub const LEASE_BOUNDS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(12 * 60 * 60));

/// How long a failed message waits before it is delivered again: `base * 2^(failures - 1)`,
/// at most `cap`, plus or minus `jitter`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// The part of the wait that is random, in per cent, 0 to 100.
    pub jitter_percent: u8,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(60), jitter_percent: 10 }
    }
}

/// Where a new group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With what is published from now on. The default.
    #[default]
    Now,
    /// With the oldest message that is still in the ring, up to one lap back, be it settled by all other
    /// groups: those messages then hold their slots until this group has settled them as well, so the queue
    /// is full at once if a lap has been published.
    Oldest,
}

/// The order in which a group hands messages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// In order of publication at the first attempt, but past a producer that pauses in the middle of
    /// a publish; retries as they come due. The default.
    #[default]
    Relaxed,
    /// Strictly by position: waits for a live producer in the middle of a publish, and retries a failed
    /// message before anything after it.
    Ordered,
}

/// The settings of a group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GroupOptions {
    /// Where the group begins.
    pub start: Start,
    /// The order in which it hands out.
    pub order: Order,
    /// Failures after which a message is dead; 0 for no limit, at most 500.
    pub max_deliveries: u16,
    /// The wait after a failure.
    pub backoff: Backoff,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions {
            start: Start::Now,
            order: Order::Relaxed,
            max_deliveries: 10,
            backoff: Backoff::default(),
        }
    }
}

/// What has reached the disk when a message counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every batch is synced before anyone is told, or gets its messages. The default: nothing confirmed, and
    /// nothing delivered, is lost to a power cut.
    #[default]
    GroupCommit,
    /// Batches are written at once and synced after this many records; a power cut loses at most these, of what
    /// nobody waited for. A confirm that somebody waits for syncs.
    SyncEveryMessages(u64),
    /// Batches are written at once and synced after this time; a power cut loses at most what was published in it,
    /// of what nobody waited for. A confirm that somebody waits for syncs.
    SyncEveryTime(Duration),
    /// Batches are written, and the system writes them to the disk when it likes. A confirm that somebody waits for
    /// syncs.
    Os,
}

/// How a store is made durable; see [`StoreOptions::durable`](crate::StoreOptions::durable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DurableOptions {
    /// When the journal is synced.
    pub level: Level,
    /// Bytes of a segment of the journal: a multiple of 4,096, 64 KiB to 1 GiB (default 64 MiB). The longest
    /// message fits one.
    pub segment_len: u64,
    /// Whether consumers get messages before they are durable: sooner, but then they may have acted upon a message
    /// that a power cut takes back. Off by default.
    pub deliver_early: bool,
}

impl Default for DurableOptions {
    fn default() -> Self {
        DurableOptions { level: Level::default(), segment_len: 64 << 20, deliver_early: false }
    }
}

impl DurableOptions {
    /// Checks the bounds.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let bad = |option, found: String, expected: &str| {
            Err(StoreError::BadOption { option, found, expected: expected.to_owned() })
        };
        if !self.segment_len.is_multiple_of(4096) || !(64 << 10..=1 << 30).contains(&self.segment_len) {
            return bad(
                "segment_len",
                self.segment_len.to_string(),
                "a multiple of 4096 from 65536 to 1073741824",
            );
        }
        match self.level {
            Level::SyncEveryMessages(0) => bad("sync_every", "0 messages".into(), "at least 1"),
            Level::SyncEveryTime(time) if !(1..=3_600_000).contains(&time.as_millis()) => {
                bad("sync_every", format!("{time:?}"), "1 ms to 1 h")
            }
            _ => Ok(()),
        }
    }
}

/// Whether removing something that is in use is refused or waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Removal {
    /// Refuse while somebody uses it. The default.
    #[default]
    IfUnused,
    /// Tell its users to stop, and wait for them at most this long.
    WaitFor(Duration),
}

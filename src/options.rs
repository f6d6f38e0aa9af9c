//! What can be chosen when a store, a queue, a group, a producer or a consumer is made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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

/// Whether removing something that is in use is refused or waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Removal {
    /// Refuse while somebody uses it. The default.
    #[default]
    IfUnused,
    /// Tell its users to stop, and wait for them at most this long.
    WaitFor(Duration),
}

//! What the journal's records mean: a pure codec.
//!
//! | kind | aux | queue | position | body |
//! |---|---|---|---|---|
//! | roster | | | | the ids of all queues, 8 bytes each |
//! | queue | | its id | its tail | a [`QueueEntry`] as JSON |
//! | message | bytes of headers | its queue | its position | headers and payload |
//! | settled | group | the queue | all before it is settled in the group | |
//! | state | [`StateEntry`] | the queue | the message's position | why, if it was rejected |
//!
//! A record of the last two kinds speaks of the messages whose records came before it.

use serde::{Deserialize, Serialize};

use crate::GroupOptions;
use crate::ring::{Lease, State};

/// The kinds of records.
pub(crate) mod kind {
    /// Which queues there are.
    pub(crate) const ROSTER: u8 = 1;
    /// A queue's geometry and groups, and where they stand.
    pub(crate) const QUEUE: u8 = 2;
    /// A message was published.
    pub(crate) const MESSAGE: u8 = 3;
    /// A group has settled everything before a position.
    pub(crate) const SETTLED: u8 = 4;
    /// What a group makes of one message.
    pub(crate) const STATE: u8 = 5;
}

/// A queue as the journal knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueueEntry {
    pub(crate) name: String,
    pub(crate) capacity: u64,
    pub(crate) slot_size: u32,
    pub(crate) max_message: u32,
    /// The journal's included.
    pub(crate) max_groups: u32,
    pub(crate) groups: Vec<GroupEntry>,
}

/// A group as the journal knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupEntry {
    pub(crate) index: u8,
    pub(crate) name: String,
    pub(crate) options: GroupOptions,
    pub(crate) start: u64,
    pub(crate) birth: u64,
}

/// What a group makes of a message, as far as it outlives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateEntry {
    pub(crate) group: u8,
    pub(crate) standing: Standing,
}

/// A message's standing in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Settled.
    Done,
    /// To be delivered, after this many failures.
    Open { failures: u16 },
    /// A dead letter.
    Dead { failures: u16, reason: u16 },
}

impl Standing {
    /// What the lease word of a message's own lap says.
    pub(crate) fn of(lease: Lease) -> Standing {
        match lease.state() {
            State::Done => Standing::Done,
            State::Dead => Standing::Dead { failures: lease.failures(), reason: lease.reason() },
            _ => Standing::Open { failures: lease.failures() },
        }
    }
}

impl StateEntry {
    /// `zero 3 | failures 9 | reason 12 | standing 2 | group 6`.
    pub(crate) fn encode(self) -> u32 {
        let (standing, failures, reason) = match self.standing {
            Standing::Done => (0, 0, 0),
            Standing::Open { failures } => (1, failures, 0),
            Standing::Dead { failures, reason } => (2, failures, reason),
        };
        u32::from(failures & 0x1ff) << 20
            | u32::from(reason & 0xfff) << 8
            | standing << 6
            | u32::from(self.group & 63)
    }

    pub(crate) fn decode(bits: u32) -> StateEntry {
        let failures = (bits >> 20) as u16 & 0x1ff;
        let standing = match bits >> 6 & 3 {
            0 => Standing::Done,
            1 => Standing::Open { failures },
            _ => Standing::Dead { failures, reason: (bits >> 8) as u16 & 0xfff },
        };
        StateEntry { group: bits as u8 & 63, standing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back() {
        for standing in [
            Standing::Done,
            Standing::Open { failures: 0 },
            Standing::Open { failures: 500 },
            Standing::Dead { failures: 511, reason: 3 },
        ] {
            for group in [0, 1, 63] {
                let entry = StateEntry { group, standing };
                assert_eq!(StateEntry::decode(entry.encode()), entry);
            }
        }
    }
}

//! The history checker: was the queue's promise kept?
//!
//! It knows nothing of how the queue works. It is given what each process called, when each call
//! began and what it was answered ([`Process`]), what was promised ([`Group`]) and what lay among
//! the dead letters at the end, and names every promise that was broken ([`Verdict`]).
//!
//! Times come from one clock of the host, taken before a call and after it. What a call did, it did
//! at some moment in between. A process may be paused or killed between any two instructions, so
//! the log's last call can have happened in full, in part or not at all. The checker accuses only
//! when no choice of those moments would make the history a good one:
//!
//! - a consumer **surely holds** a message from the end of the `receive` that gave it until the
//!   beginning of the settle that was confirmed, until it was killed, or until its timed lease could
//!   first have run out, counted from the beginning of the `receive`;
//! - a publish without an answer may have happened or not, whatever a later delivery shows;
//! - a settle without an answer may have happened or not;
//! - a consumer that was killed inside `receive` may have been handed messages nobody heard of, and
//!   one that was in there for longer than a lease may have had one and lost it.

mod holds;
mod measure;
mod order;
mod rules;
mod story;

use std::fmt;

use self::holds::{Holds, Offers};

/// Nanoseconds of the host's monotonic clock.
pub(crate) type Nanos = u64;

/// What the clocks of a lease may differ from ours by: rounding, and the order of two readings.
pub(crate) const LEASE_TOLERANCE: Nanos = 2_000_000;

/// Everything that is known about one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) groups: Vec<Group>,
    pub(crate) processes: Vec<Process>,
    /// Spans of a second and more without progress while there was work, measured by the harness.
    pub(crate) stalls: Vec<String>,
}

/// A group: what it promised, and its state at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// Hands out by position, and a returned message before any later one.
    pub(crate) ordered: bool,
    /// One consumer at a time.
    pub(crate) exclusive: bool,
    /// The time of a lease; `None` for leases until death.
    pub(crate) lease: Option<Nanos>,
    /// Failures after which a message is dead; 0 for no limit.
    pub(crate) max_deliveries: u16,
    /// Whether consumers went on until nothing was left, so that what is missing is lost.
    pub(crate) drained: bool,
    /// The dead letters at the end.
    pub(crate) dead: Vec<Dead>,
}

/// A dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) id: u64,
    pub(crate) position: u64,
    pub(crate) intact: bool,
    pub(crate) rejected: bool,
}

/// What one process did, in the order in which it did it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Process {
    /// For people: role, number and pid.
    pub(crate) name: String,
    /// The group that its receives and settles and its work on dead letters go to.
    pub(crate) group: usize,
    pub(crate) calls: Vec<Call>,
    pub(crate) end: End,
    /// Spans in which it was stopped.
    pub(crate) pauses: Vec<(Nanos, Nanos)>,
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// It left by itself, with nothing held.
    #[default]
    Left,
    /// It was killed: the kill was sent then, and the process was gone by then.
    Killed { sent: Nanos, gone: Nanos },
    /// It ended as no worker should.
    Failed(String),
}

/// A call and, if it returned, its answer with the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Call {
    Publish {
        id: u64,
        began: Nanos,
        answer: Option<(Nanos, Published)>,
    },
    Receive {
        began: Nanos,
        got: Option<(Nanos, Got)>,
    },
    /// A `receive` that gave nothing. Only long ones need to be told.
    Wait {
        began: Nanos,
        ended: Nanos,
    },
    Settle {
        tag: u16,
        verb: Verb,
        began: Nanos,
        answer: Option<(Nanos, Settled)>,
    },
    Bury {
        dead: Dead,
        verb: Burial,
        began: Nanos,
        answer: Option<(Nanos, bool)>,
    },
}

/// The answer to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    Accepted { position: u64 },
    Refused,
}

/// A message as it was received. The tag names it among those that its process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) id: u64,
    pub(crate) position: u64,
    pub(crate) attempt: u16,
    pub(crate) failures: u16,
    pub(crate) intact: bool,
    pub(crate) tag: u16,
}

/// What is done with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Ack,
    Nack,
    Release,
    Reject,
    /// Dropped unsettled: a nack that does not tell whether the lease still stood.
    Drop,
    Extend,
}

/// The answer to a settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Done,
    LeaseLost,
}

/// What is done with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Burial {
    Purge,
    Retry,
}

/// A broken promise, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Accepted, or seen by somebody, and neither acked nor a dead letter in the end.
    Lost,
    /// Delivered but never offered, or not as it was offered.
    Phantom,
    /// Delivered, or acked once more, after a confirmed ack.
    AckedAgain,
    /// In the hands of two at once, or taken from a holder that still had its lease.
    DoubleHeld,
    /// Out of order where order was promised.
    OrderBroken,
    /// Delivered after it had failed as often as the group allows.
    OverDelivered,
    /// Attempts or failures counted wrong, or dead without a cause.
    Miscounted,
    /// No progress while there was work.
    Wedged,
    /// A process that ended by itself.
    Crashed,
}

impl Verdict {
    pub(crate) const ALL: [Verdict; 9] = [
        Verdict::Lost,
        Verdict::Phantom,
        Verdict::AckedAgain,
        Verdict::DoubleHeld,
        Verdict::OrderBroken,
        Verdict::OverDelivered,
        Verdict::Miscounted,
        Verdict::Wedged,
        Verdict::Crashed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::Lost => "lost",
            Verdict::Phantom => "phantom",
            Verdict::AckedAgain => "acked_again",
            Verdict::DoubleHeld => "double_held",
            Verdict::OrderBroken => "order_broken",
            Verdict::OverDelivered => "over_delivered",
            Verdict::Miscounted => "miscounted",
            Verdict::Wedged => "wedged",
            Verdict::Crashed => "crashed",
        }
    }
}

/// One broken promise.
#[derive(Debug, Clone)]
pub(crate) struct Offence {
    pub(crate) verdict: Verdict,
    /// The message concerned, if one is.
    pub(crate) id: Option<u64>,
    pub(crate) what: String,
}

impl Offence {
    fn about(verdict: Verdict, id: u64, what: String) -> Offence {
        Offence { verdict, id: Some(id), what }
    }

    fn general(verdict: Verdict, what: String) -> Offence {
        Offence { verdict, id: None, what }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict.name())?;
        if let Some(id) = self.id {
            write!(f, " {}", Id(id))?;
        }
        write!(f, ": {}", self.what)
    }
}

/// How long a message of a killed holder took to the next receive of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recovery {
    pub(crate) id: u64,
    pub(crate) since_kill: Nanos,
    /// From when the holder was seen to be gone: a loaded host takes its time to let a process die.
    pub(crate) since_death: Nanos,
}

/// What the checker found.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// Every promise that was broken, the gravest kind first.
    pub(crate) offences: Vec<Offence>,
    /// For each message of a killed holder that another consumer was there to receive.
    pub(crate) recoveries: Vec<Recovery>,
}

/// An id for people: the producer's number and the number of the message.
pub(crate) struct Id(pub(crate) u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A time for people: milliseconds since the start of the history.
pub(crate) struct Ms(pub(crate) Nanos, pub(crate) Nanos);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", self.0.saturating_sub(self.1) as f64 / 1e6)
    }
}

impl History {
    /// Checks everything.
    pub(crate) fn judge(&self) -> Judgement {
        let mut offences = Vec::new();
        let (offers, holds) = (Offers::of(self), Holds::of(self));
        rules::messages(self, &offers, &holds, &mut offences);
        rules::settled(self, &offers, &holds, &mut offences);
        rules::dead_letters(self, &offers, &holds, &mut offences);
        order::check(self, &offers, &holds, &mut offences);
        for process in &self.processes {
            if let End::Failed(how) = &process.end {
                offences.push(Offence::general(Verdict::Crashed, format!("{} {how}", process.name)));
            }
        }
        offences.extend(self.stalls.iter().map(|what| Offence::general(Verdict::Wedged, what.clone())));
        offences.sort_by_key(|offence| offence.verdict);
        Judgement { offences, recoveries: measure::recoveries(self, &holds) }
    }

    /// Deliveries, of every group.
    pub(crate) fn deliveries(&self) -> u64 {
        let calls = self.processes.iter().flat_map(|process| &process.calls);
        calls.filter(|call| matches!(call, Call::Receive { got: Some(_), .. })).count() as u64
    }

    /// When the first call began.
    pub(crate) fn start(&self) -> Nanos {
        let calls = self.processes.iter().filter_map(|process| process.calls.first());
        calls.map(Call::began).min().unwrap_or(0)
    }
}

impl Call {
    fn began(&self) -> Nanos {
        match *self {
            Call::Publish { began, .. }
            | Call::Receive { began, .. }
            | Call::Wait { began, .. }
            | Call::Settle { began, .. }
            | Call::Bury { began, .. } => began,
        }
    }
}

//! From calls to what the rules speak of: messages that were offered, and times in which they were
//! held.

use std::cell::Cell;

use super::{Call, End, Got, History, LEASE_TOLERANCE, Nanos, Process, Published, Settled, Verb};

/// A message as its producer knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) id: u64,
    pub(super) began: Nanos,
    /// `None`: its producer was killed before it knew.
    pub(super) answer: Option<(Nanos, Published)>,
}

impl Offer {
    pub(super) fn position(&self) -> Option<u64> {
        match self.answer {
            Some((_, Published::Accepted { position })) => Some(position),
            _ => None,
        }
    }
}

/// One delivery, from the receive to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    pub(super) process: usize,
    pub(super) group: usize,
    pub(super) got: Got,
    pub(super) asked: Nanos,
    pub(super) received: Nanos,
    /// When a timed lease was last known to start anew: not before this.
    renewed: Nanos,
    pub(super) end: HoldEnd,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum HoldEnd {
    /// Settled, and the settle was confirmed.
    Settled { verb: Verb, began: Nanos, at: Nanos },
    /// Its lease was lost; the holder learned of it by this call.
    Lost { began: Nanos, at: Nanos },
    /// Its holder was killed in the middle of a settle.
    Unknown { verb: Verb, began: Nanos, gone: Nanos },
    /// Its holder was killed before it had begun to settle.
    Died { sent: Nanos, gone: Nanos },
    /// Nothing is known of its end.
    Open,
}

impl Hold {
    /// Until when the holder surely had it, if nothing was wrong. May lie before `received`.
    pub(super) fn surely_until(&self, lease: Option<Nanos>) -> Nanos {
        // A timed lease stands at least this long, whatever happened in the meantime.
        let floor = lease.map_or(Nanos::MAX, |lease| self.renewed + lease.saturating_sub(LEASE_TOLERANCE));
        match self.end {
            HoldEnd::Settled { verb: Verb::Drop, began, .. } => began.min(floor),
            // A confirmed settle proves that the lease stood all the time, however long that was.
            HoldEnd::Settled { began, .. } => began,
            HoldEnd::Lost { began, .. } | HoldEnd::Unknown { began, .. } => began.min(floor),
            HoldEnd::Died { sent, .. } => sent.min(floor),
            HoldEnd::Open => self.received,
        }
    }

    /// When the lease was lost although it can't have run out yet: until when it had to stand.
    pub(super) fn lost_too_early(&self, lease: Option<Nanos>) -> Option<Nanos> {
        let HoldEnd::Lost { at, .. } = self.end else { return None };
        let floor = lease.map_or(Nanos::MAX, |lease| self.renewed + lease.saturating_sub(LEASE_TOLERANCE));
        (at < floor).then_some(floor)
    }

    /// Whether this delivery surely was counted as a failure, or will have been before the next one.
    pub(super) fn surely_failed(&self, lease: Option<Nanos>) -> bool {
        match self.end {
            HoldEnd::Settled { verb, .. } => verb == Verb::Nack || (verb == Verb::Drop && lease.is_none()),
            HoldEnd::Lost { .. } | HoldEnd::Died { .. } => true,
            // Either the nack went through or the death counts.
            HoldEnd::Unknown { verb, .. } => matches!(verb, Verb::Nack | Verb::Drop | Verb::Extend),
            HoldEnd::Open => false,
        }
    }

    /// Whether this delivery surely came before the other one of the same message, if nobody held
    /// the message twice at once.
    pub(super) fn precedes(&self, other: &Hold, lease: Option<Nanos>) -> bool {
        // A consumer can be paused between the queue's decision and its own note of it; but if it
        // had the lease from then on and still had it after the other one's note, it was later.
        let kept =
            lease.is_none() || matches!(other.end, HoldEnd::Settled { verb, .. } if verb != Verb::Drop);
        self.received < other.received && (kept || self.over().is_some_and(|at| at < other.asked))
    }

    /// When it was surely over.
    pub(super) fn over(&self) -> Option<Nanos> {
        match self.end {
            HoldEnd::Settled { at, .. } | HoldEnd::Lost { at, .. } => Some(at),
            HoldEnd::Unknown { gone, .. } | HoldEnd::Died { gone, .. } => Some(gone),
            HoldEnd::Open => None,
        }
    }

    /// Whether this delivery can have been counted as a failure.
    pub(super) fn may_have_failed(&self) -> bool {
        !matches!(self.end, HoldEnd::Settled { verb: Verb::Ack | Verb::Release | Verb::Reject, .. })
    }

    /// When its ack was confirmed.
    pub(super) fn acked(&self) -> Option<Nanos> {
        match self.end {
            HoldEnd::Settled { verb: Verb::Ack, at, .. } => Some(at),
            _ => None,
        }
    }

    /// Whether this settle was confirmed, or may have gone through.
    pub(super) fn may_have(&self, asked_for: Verb) -> bool {
        match self.end {
            HoldEnd::Settled { verb, .. } | HoldEnd::Unknown { verb, .. } => verb == asked_for,
            _ => false,
        }
    }
}

/// Every offer, by id. Whoever asks for one after the other in that order is answered at once.
#[derive(Debug)]
pub(super) struct Offers {
    by_id: Vec<Offer>,
    last: Cell<usize>,
}

impl Offers {
    pub(super) fn of(history: &History) -> Offers {
        let calls = history.processes.iter().flat_map(|process| &process.calls);
        let mut by_id: Vec<Offer> = calls
            .filter_map(|call| match *call {
                Call::Publish { id, began, answer } => Some(Offer { id, began, answer }),
                _ => None,
            })
            .collect();
        by_id.sort_by_key(|offer| offer.id);
        Offers { by_id, last: Cell::new(0) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Offer> {
        self.by_id.iter()
    }

    /// The offer of this message.
    pub(super) fn find(&self, id: u64) -> Option<&Offer> {
        let next = self.last.get() + 1;
        let found = match self.by_id.get(next) {
            Some(offer) if offer.id == id => Ok(next),
            _ => self.by_id.binary_search_by_key(&id, |offer| offer.id),
        };
        self.last.set(found.ok()?);
        self.by_id.get(self.last.get())
    }

    /// When this message was offered.
    pub(super) fn began(&self, id: u64) -> Nanos {
        self.find(id).map_or(0, |offer| offer.began)
    }
}

/// Every delivery, by group, message and time; quick as [`Offers`] are.
#[derive(Debug)]
pub(super) struct Holds {
    all: Vec<Hold>,
    last: Cell<usize>,
}

impl Holds {
    pub(super) fn of(history: &History) -> Holds {
        let mut all = Vec::new();
        for (number, process) in history.processes.iter().enumerate() {
            gather(number, process, &mut all);
        }
        all.sort_by_key(|hold| (hold.group, hold.got.id, hold.received));
        Holds { all, last: Cell::new(0) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.all.iter()
    }

    /// The deliveries of each message to each group.
    pub(super) fn by_message(&self) -> impl Iterator<Item = &[Hold]> {
        by_message(&self.all)
    }

    /// The deliveries of a group, by message and time.
    pub(super) fn of_group(&self, group: usize) -> &[Hold] {
        let from = self.all.partition_point(|hold| hold.group < group);
        let to = self.all.partition_point(|hold| hold.group <= group);
        &self.all[from..to]
    }

    /// The deliveries of a message to a group.
    pub(super) fn of_message(&self, group: usize, id: u64) -> &[Hold] {
        let key = |hold: &Hold| (hold.group, hold.got.id);
        let last = self.last.get();
        let follows = last == 0 || key(&self.all[last - 1]) < (group, id);
        let from = match self.all.get(last) {
            Some(hold) if follows && key(hold) >= (group, id) => last,
            _ => self.all.partition_point(|hold| key(hold) < (group, id)),
        };
        let to = from + self.all[from..].iter().take_while(|hold| key(hold) == (group, id)).count();
        self.last.set(to);
        &self.all[from..to]
    }
}

fn gather(number: usize, process: &Process, holds: &mut Vec<Hold>) {
    let at_death = match process.end {
        End::Killed { sent, gone } => HoldEnd::Died { sent, gone },
        End::Left | End::Failed(_) => HoldEnd::Open,
    };
    // By tag, which is a small number.
    let mut open = vec![u32::MAX; 1 << 16];
    for call in &process.calls {
        match *call {
            Call::Receive { began, got: Some((at, got)) } => {
                open[usize::from(got.tag)] = holds.len() as u32;
                holds.push(Hold {
                    process: number,
                    group: process.group,
                    got,
                    asked: began,
                    received: at,
                    renewed: began,
                    end: at_death,
                });
            }
            Call::Settle { tag, verb, began, answer } => {
                let held = holds.get_mut(open[usize::from(tag)] as usize);
                held.into_iter().for_each(|hold| settle(hold, verb, began, answer, at_death));
            }
            _ => {}
        }
    }
}

/// What a settle tells about the delivery.
fn settle(hold: &mut Hold, verb: Verb, began: Nanos, answer: Option<(Nanos, Settled)>, at_death: HoldEnd) {
    hold.end = match (answer, verb, at_death) {
        (Some((_, Settled::Done)), Verb::Extend, _) => {
            hold.renewed = began;
            return;
        }
        (Some((at, Settled::Done)), _, _) => HoldEnd::Settled { verb, began, at },
        (Some((at, Settled::LeaseLost)), _, _) => HoldEnd::Lost { began, at },
        (None, _, HoldEnd::Died { gone, .. }) => HoldEnd::Unknown { verb, began, gone },
        (None, _, _) => HoldEnd::Open,
    };
}

/// The deliveries of one message to one group.
pub(super) fn by_message(holds: &[Hold]) -> impl Iterator<Item = &[Hold]> {
    holds.chunk_by(|a, b| (a.group, a.got.id) == (b.group, b.got.id))
}

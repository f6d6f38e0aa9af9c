//! Made-up histories, told call by call.

use crate::history::{
    Call, Dead, End, Got, Group, History, Nanos, Process, Published, Settled, Verb, Verdict,
};

/// A lease of the timed histories.
pub(crate) const LEASE: Nanos = 100_000_000;

/// Made-up histories, told call by call. A call takes one tick unless told otherwise.
#[derive(Default)]
pub(crate) struct Tale(pub(crate) History);

pub(crate) fn tale() -> Tale {
    let group = Group { name: "default".into(), max_deliveries: 3, drained: true, ..Group::default() };
    Tale(History { groups: vec![group], ..History::default() })
}

impl Tale {
    pub(crate) fn timed(mut self) -> Tale {
        self.0.groups[0].lease = Some(LEASE);
        self
    }

    pub(crate) fn ordered(mut self, exclusive: bool) -> Tale {
        (self.0.groups[0].ordered, self.0.groups[0].exclusive) = (true, exclusive);
        self
    }

    pub(crate) fn process(mut self, calls: Vec<Call>, end: End) -> Tale {
        let name = format!("process {}", self.0.processes.len() + 1);
        self.0.processes.push(Process { name, calls, end, ..Process::default() });
        self
    }

    /// A process that left by itself.
    pub(crate) fn left(self, calls: impl IntoIterator<Item = Call>) -> Tale {
        self.process(calls.into_iter().collect(), End::Left)
    }

    /// A process that was killed at this time, and gone two ticks later.
    pub(crate) fn killed(self, sent: Nanos, calls: impl IntoIterator<Item = Call>) -> Tale {
        self.process(calls.into_iter().collect(), End::Killed { sent, gone: sent + 2 })
    }

    pub(crate) fn dead(mut self, id: u64, rejected: bool) -> Tale {
        self.0.groups[0].dead.push(Dead { id, position: 1000 + id, intact: true, rejected });
        self
    }

    /// The verdicts, each once.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> =
            self.0.judge().offences.iter().map(|offence| offence.verdict).collect();
        verdicts.dedup();
        verdicts
    }

    #[track_caller]
    pub(crate) fn is_good(&self) {
        let offences: Vec<String> = self.0.judge().offences.iter().map(ToString::to_string).collect();
        assert!(offences.is_empty(), "{}", offences.join("\n"));
    }

    #[track_caller]
    pub(crate) fn is(&self, verdict: Verdict) {
        assert_eq!(self.verdicts(), [verdict], "{:?}", self.0.judge().offences);
    }
}

pub(crate) fn accepted(id: u64, began: Nanos) -> Call {
    Call::Publish { id, began, answer: Some((began + 1, Published::Accepted { position: 1000 + id })) }
}

pub(crate) fn refused(id: u64, began: Nanos) -> Call {
    Call::Publish { id, began, answer: Some((began + 1, Published::Refused)) }
}

pub(crate) fn offered(id: u64, began: Nanos) -> Call {
    Call::Publish { id, began, answer: None }
}

/// The tag is the id: nobody in these tales holds a message twice at once.
pub(crate) fn got(id: u64, began: Nanos, attempt: u16, failures: u16) -> Call {
    let got = Got { id, position: 1000 + id, attempt, failures, intact: true, tag: id as u16 };
    Call::Receive { began, got: Some((began + 1, got)) }
}

pub(crate) fn first(id: u64, began: Nanos) -> Call {
    got(id, began, 1, 0)
}

pub(crate) fn settle(id: u64, verb: Verb, began: Nanos) -> Call {
    Call::Settle { tag: id as u16, verb, began, answer: Some((began + 1, Settled::Done)) }
}

pub(crate) fn ack(id: u64, began: Nanos) -> Call {
    settle(id, Verb::Ack, began)
}

pub(crate) fn too_late(id: u64, verb: Verb, began: Nanos) -> Call {
    Call::Settle { tag: id as u16, verb, began, answer: Some((began + 1, Settled::LeaseLost)) }
}

pub(crate) fn unanswered(id: u64, verb: Verb, began: Nanos) -> Call {
    Call::Settle { tag: id as u16, verb, began, answer: None }
}

/// A killed consumer inside `receive`.
pub(crate) fn asking(began: Nanos) -> Call {
    Call::Receive { began, got: None }
}

/// An answer to a `receive`, for several of one call.
pub(crate) fn first_got(id: u64, at: Nanos) -> Option<(Nanos, Got)> {
    Some((at, Got { id, position: 1000 + id, attempt: 1, failures: 0, intact: true, tag: id as u16 }))
}

//! What the processes do: short programs over the shipping functions, one operation after the other.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use ringway::memory::{Memory, Place};
use ringway::ring::{
    Found, Lease, Leased, Owner, Publisher, Ready, Subscriber, Unfinished, lap_of, repair, settle,
};

use super::config::{Config, Mutant};
use super::replay::{Op, Replay};
use super::spec::{Consumer, Producer, Role, Settle, Spec};

/// Where a process stands in its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pc {
    /// Before its `new`, or before the only operation it has.
    Start,
    /// Producer: about to claim.
    Claim,
    /// Producer: about to write.
    Write,
    /// Producer: about to publish.
    Finish,
    /// Producer: about to give up.
    Abandon,
    /// Consumer: is there something returned?
    Attend,
    /// Consumer: takes something returned.
    Returned,
    /// Consumer: takes something fresh.
    Fresh,
    /// Sweeps this slot.
    Sweep(u8),
    /// Consumer: writes its deadline.
    Begin,
    /// Consumer: reads the payload.
    Read,
    /// Consumer: does the lease still stand?
    Check,
    /// Consumer: settles.
    Settle(Settle),
    /// Recoverer: this slot's claim.
    Void(u8),
    /// Recoverer: this group's lease of this slot.
    Return(u8, u8),
    /// Reviver: this slot.
    Revive(u8),
    /// Nothing more to do.
    End,
}

/// A lease that a consumer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// The position.
    pub position: u64,
    /// The word.
    pub word: u64,
    /// What `seq` said of its length; the model's messages have their number for a length.
    pub len: u32,
    /// The deadline, as far as the holder was told.
    pub deadline: Option<u64>,
    /// What it read.
    pub payload: u64,
}

impl Held {
    /// The word.
    pub fn lease(&self) -> Lease {
        Lease::from_bits(self.word)
    }
}

/// All that a process knows between two operations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Local {
    /// Its number.
    pub process: u8,
    /// Where it stands.
    pub pc: Pc,
    /// Producer's place.
    pub publisher: Option<Publisher>,
    /// Consumer's place.
    pub subscriber: Option<Subscriber>,
    /// Producer: messages so far, and how many there will be.
    pub sent: (u8, u8),
    /// Producer: the claimed position.
    pub position: u64,
    /// Consumer: what it holds.
    pub held: Option<Held>,
    /// What its clock said at the start of the operation, where it matters.
    pub now: u64,
}

/// What a process was told at the end of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing that matters.
    None,
    /// It read this from this position of this group, and hands it out.
    Delivered(u8, u64, u64, u32),
    /// Its ack was accepted.
    Acked(u8, u64),
    /// It settled otherwise.
    Refused,
    /// Its lease is lost.
    Lost(bool),
    /// It recovered this process.
    Recovered(u8),
    /// It has made this group.
    Born(u8),
}

/// What may follow an operation: the next state, what happened, and whether it costs a refusal.
pub type Next = (Local, Event, bool);

impl Local {
    /// A process about to start; `restarted`: not for the first time.
    pub fn initial(config: &Config, process: u8, restarted: bool) -> Local {
        let (pc, sent) = match &config.specs[process as usize].role {
            Role::Producer(p) if restarted => (Pc::Start, (p.messages, p.messages + 1)),
            Role::Producer(p) => (Pc::Start, (0, p.messages)),
            Role::Sweeper { .. } => (Pc::Sweep(0), (0, 0)),
            Role::Recoverer { .. } => (Pc::Void(0), (0, 0)),
            Role::Reviver { .. } => (Pc::Revive(0), (0, 0)),
            Role::Consumer(_) | Role::Birth { .. } => (Pc::Start, (0, 0)),
        };
        // Recoverers of one process are the same automaton.
        let same = |spec: &Spec| match (&spec.role, &config.specs[process as usize].role) {
            (Role::Recoverer { of }, Role::Recoverer { of: mine }) => of == mine,
            _ => false,
        };
        let process = config.specs.iter().position(same).map_or(process, |first| first as u8);
        Local { process, pc, publisher: None, subscriber: None, sent, position: 0, held: None, now: 0 }
    }

    /// The number of the message that a producer is at: unique among all, never 0.
    pub fn message(&self) -> u32 {
        u32::from(self.process) * 16 + u32::from(self.sent.0) + 1
    }

    /// Runs the operation it stands at. `Err`: the access that comes next.
    ///
    /// # Errors
    ///
    /// The access that the operation waits for.
    pub fn run<const SKIPS: u32>(&self, config: &Config, log: &[u64], now: u64) -> Result<Vec<Next>, Op> {
        let spec = &config.specs[self.process as usize];
        let producer = matches!(spec.role, Role::Producer(_));
        Replay::<SKIPS>::run(config, producer, log, |memory| {
            let mut next = match &spec.role {
                Role::Producer(p) => self.produce(config, p, spec.owner, memory),
                Role::Consumer(c) => self.consume(config, c, spec.owner, memory),
                Role::Sweeper { group } => self.sweep(config, *group, memory, Pc::Sweep(0)),
                Role::Recoverer { of } => self.recover(config, *of, memory),
                Role::Birth { group } => self.bear(config, *group, memory),
                Role::Reviver { group } => self.revive(config, *group, memory),
            };
            for (local, ..) in &mut next {
                local.now = if local.uses_clock() { now } else { 0 };
            }
            next
        })
    }

    /// Whether the operation it stands at is given the time.
    pub fn uses_clock(&self) -> bool {
        matches!(
            self.pc,
            Pc::Returned | Pc::Sweep(_) | Pc::Begin | Pc::Settle(_) | Pc::Return(..) | Pc::Revive(_)
        )
    }

    fn to(&self, pc: Pc) -> Vec<Next> {
        vec![(Local { pc, ..self.clone() }, Event::None, false)]
    }

    fn produce<const SKIPS: u32>(
        &self,
        config: &Config,
        role: &Producer,
        me: Owner,
        memory: &Replay<'_, SKIPS>,
    ) -> Vec<Next> {
        let mut next = self.clone();
        let after = |mut next: Local| {
            next.sent.0 += 1;
            next.position = 0;
            next.pc = if next.sent.0 == next.sent.1 { Pc::End } else { Pc::Claim };
            next
        };
        match self.pc {
            Pc::Start => {
                next.publisher = Some(Publisher::new(memory, me, role.exclusive));
                next.pc = if self.sent.0 == self.sent.1 { Pc::End } else { Pc::Claim };
                vec![(next, Event::None, false)]
            }
            Pc::Claim => {
                let publisher = next.publisher.as_ref().expect("it started");
                // As the library does: the short way where it goes.
                let claimed = publisher.claim_known(memory).map_or_else(|| publisher.claim(memory), Ok);
                let Ok(position) = claimed else { return vec![(next, Event::None, false)] };
                next.position = position;
                next.pc =
                    if config.mutant == Some(Mutant::FinishBeforeWrite) { Pc::Finish } else { Pc::Write };
                vec![(next, Event::None, false)]
            }
            Pc::Write => {
                memory.write_payload(self.position, u64::from(self.message()));
                if config.mutant == Some(Mutant::FinishBeforeWrite) {
                    return vec![(after(next), Event::None, false)];
                }
                next.pc = Pc::Finish;
                let mut all = vec![(next.clone(), Event::None, false)];
                if self.sent.0 < role.abandons {
                    next.pc = Pc::Abandon;
                    all.push((next, Event::None, false));
                }
                all
            }
            Pc::Finish | Pc::Abandon => {
                let publisher = self.publisher.as_ref().expect("it started");
                if self.pc == Pc::Abandon {
                    publisher.abandon(memory, self.position);
                } else {
                    publisher.finish(memory, self.position, self.message());
                    if config.mutant == Some(Mutant::FinishBeforeWrite) {
                        return self.to(Pc::Write);
                    }
                }
                vec![(after(next), Event::None, false)]
            }
            _ => unreachable!("no producer stands here"),
        }
    }

    fn consume<const SKIPS: u32>(
        &self,
        config: &Config,
        role: &Consumer,
        me: Owner,
        memory: &Replay<'_, SKIPS>,
    ) -> Vec<Next> {
        let mut next = self.clone();
        let idle = if role.sweeps { Pc::Sweep(0) } else { Pc::Attend };
        match self.pc {
            Pc::Start => {
                let new = Subscriber::new(memory, role.group, me, role.exclusive, role.timed);
                next.subscriber = Some(new);
                next.to(Pc::Attend)
            }
            Pc::Attend => {
                let wanted = self.subscriber.as_ref().expect("it started").attention(memory)
                    != ringway::ring::Attention::NONE;
                self.to(if wanted { Pc::Returned } else { Pc::Fresh })
            }
            Pc::Returned => {
                let subscriber = next.subscriber.as_ref().expect("it started");
                match subscriber.next_returned(memory, self.now, role.ordered) {
                    Found::Message(leased) => next.lease(role, leased),
                    Found::NotBefore(_) if role.ordered => next.to(idle),
                    _ => next.to(Pc::Fresh),
                }
            }
            Pc::Fresh => {
                let subscriber = next.subscriber.as_ref().expect("it started");
                let unfinished = if role.ordered { Unfinished::Wait } else { Unfinished::Pass };
                if let Ready::Message(leased) = subscriber.next_ready(memory) {
                    return next.lease(role, leased);
                }
                match subscriber.next_fresh(memory, true, unfinished) {
                    Found::Message(leased) => next.lease(role, leased),
                    _ => next.to(idle),
                }
            }
            Pc::Sweep(_) => self.sweep(config, role.group, memory, Pc::Attend),
            Pc::Begin => {
                let mut held = self.held.expect("it holds");
                let begun = settle::begin(memory, role.group, held.position, held.lease(), 1, self.now + 1);
                if begun.is_err() {
                    next.held = None;
                    return next.to(Pc::Attend);
                }
                held.deadline = Some(self.now + 1);
                next.held = Some(held);
                next.to(Pc::Read)
            }
            Pc::Read => {
                let mut held = self.held.expect("it holds");
                held.payload = memory.read_payload(held.position);
                next.held = Some(held);
                if role.timed && config.mutant != Some(Mutant::CopyNotChecked) {
                    next.to(Pc::Check)
                } else {
                    next.hand_out(role)
                }
            }
            Pc::Check => {
                let held = self.held.expect("it holds");
                if settle::is_held(memory, role.group, held.position, held.lease()) {
                    self.hand_out(role)
                } else {
                    next.held = None;
                    next.to(Pc::Attend)
                }
            }
            Pc::Settle(how) => self.settle(config, role, how, memory),
            _ => unreachable!("no consumer stands here"),
        }
    }

    fn lease(mut self, role: &Consumer, leased: Leased) -> Vec<Next> {
        self.held = Some(Held {
            position: leased.position,
            word: leased.lease.bits(),
            len: leased.len,
            deadline: None,
            payload: 0,
        });
        self.to(if role.timed { Pc::Begin } else { Pc::Read })
    }

    /// The delivery is the caller's: each way to settle it is tried.
    fn hand_out(&self, role: &Consumer) -> Vec<Next> {
        let held = self.held.expect("it holds");
        let event = Event::Delivered(role.group, held.position, held.payload, held.len);
        let mut next = self.clone();
        next.held = Some(Held { payload: 0, len: 0, ..held });
        let settled = |how| Local { pc: Pc::Settle(how), ..next.clone() };
        let others = role.settles.iter().map(|&how| (settled(how), event, true));
        std::iter::once((settled(Settle::Ack), event, false)).chain(others).collect()
    }

    fn settle<const SKIPS: u32>(
        &self,
        config: &Config,
        role: &Consumer,
        how: Settle,
        memory: &Replay<'_, SKIPS>,
    ) -> Vec<Next> {
        let mut held = self.held.expect("it holds");
        let (group, position, lease) = (role.group, held.position, held.lease());
        let mut next = self.clone();
        let failures = lease.failures();
        let to = match how {
            Settle::Extend => {
                let deadline = self.now + 1;
                let event = match settle::extend(memory, group, position, lease, deadline) {
                    Ok(()) => {
                        held.deadline = Some(deadline);
                        Event::None
                    }
                    Err(_) => Event::Lost(role.timed),
                };
                next.held = Some(held);
                next.pc = Pc::Settle(Settle::Ack);
                return vec![(next, event, false)];
            }
            Settle::Ack => None,
            Settle::Nack => Some(config.returned(self.now, failures + 1)),
            Settle::Release => Some(settle::Return::Retry { due_ms: self.now, failures }),
            Settle::Reject => Some(settle::Return::Dead { now_ms: self.now, failures, reason: 1 }),
        };
        let result = match to {
            None => settle::ack(memory, group, position, lease),
            Some(to) => settle::give_back(memory, group, position, lease, to),
        };
        let event = match (result, to) {
            (Ok(()), None) => Event::Acked(group, position),
            (Ok(()), Some(_)) => Event::Refused,
            (Err(_), _) => Event::Lost(role.timed),
        };
        next.held = None;
        next.pc = Pc::Attend;
        vec![(next, event, false)]
    }

    fn sweep<const SKIPS: u32>(
        &self,
        config: &Config,
        group: u8,
        memory: &Replay<'_, SKIPS>,
        after: Pc,
    ) -> Vec<Next> {
        let Pc::Sweep(slot) = self.pc else { unreachable!("it sweeps") };
        let head = self.subscriber.as_ref().map_or(0, Subscriber::head);
        let slots = u64::from(slot)..u64::from(slot) + 1;
        let decide = |lease: Lease| config.returned(self.now, lease.failures() + 1);
        let _ = repair::sweep(memory, group, slots, self.now, head, decide);
        self.to(if u64::from(slot) + 1 < config.slots { Pc::Sweep(slot + 1) } else { after })
    }

    fn recover<const SKIPS: u32>(&self, config: &Config, of: u8, memory: &Replay<'_, SKIPS>) -> Vec<Next> {
        let dead = config.specs[of as usize].owner;
        let last = config.slots as u8 - 1;
        match self.pc {
            Pc::Void(slot) => {
                let _ = repair::void_unfinished(memory, u64::from(slot), dead);
                self.to(if slot < last { Pc::Void(slot + 1) } else { Pc::Return(0, 0) })
            }
            Pc::Return(group, slot) => {
                let decide = |lease: Lease| config.returned(self.now, lease.failures() + 1);
                let _ = repair::return_lease(memory, group, u64::from(slot), dead, decide);
                match (group + 1 < config.groups, slot < last) {
                    (_, true) => self.to(Pc::Return(group, slot + 1)),
                    (true, false) => self.to(Pc::Return(group + 1, 0)),
                    _ => vec![(Local { pc: Pc::End, ..self.clone() }, Event::Recovered(of), false)],
                }
            }
            _ => unreachable!("no recoverer stands here"),
        }
    }

    /// How the library adds a group to a running queue, from now on.
    fn bear<const SKIPS: u32>(&self, config: &Config, group: u8, memory: &Replay<'_, SKIPS>) -> Vec<Next> {
        let early = repair::find_tail(memory);
        let lap = lap_of(early, config.slots);
        for slot in 0..config.slots {
            memory.store(Place::Lease(group, slot), Lease::unborn(lap).bits(), Relaxed);
        }
        memory.store(Place::Head(group), early, Relaxed);
        memory.store(Place::Start(group), early, Relaxed);
        let _ = memory.fetch_or(Place::Active, 1 << group);
        let start =
            if config.mutant == Some(Mutant::BornTooEarly) { early } else { repair::find_tail(memory) };
        memory.store(Place::Start(group), start, Relaxed);
        memory.store(Place::Head(group), start, Relaxed);
        vec![(Local { pc: Pc::End, ..self.clone() }, Event::Born(group), false)]
    }

    fn revive<const SKIPS: u32>(&self, config: &Config, group: u8, memory: &Replay<'_, SKIPS>) -> Vec<Next> {
        let Pc::Revive(slot) = self.pc else { unreachable!("it revives") };
        let place = Place::Lease(group, u64::from(slot));
        let lease = Lease::from_bits(memory.load(place, Acquire));
        let _ = settle::revive(memory, group, u64::from(slot), lease, true, self.now);
        self.to(Pc::Revive((slot + 1) % config.slots as u8))
    }
}

impl Config {
    /// What becomes of a message that failed this often.
    pub fn returned(&self, now: u64, failures: u16) -> settle::Return {
        if failures >= self.limit {
            settle::Return::Dead { now_ms: now, failures, reason: 2 }
        } else {
            settle::Return::Retry { due_ms: now + self.delay, failures }
        }
    }
}

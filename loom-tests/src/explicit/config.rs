//! What a search is over: the ring's geometry, the processes, and how much may go wrong.

use ringway::memory::Place;
use ringway::ring::{Claim, Lease, Owner, Seq};

use super::replay::Spot;
use super::spec::{Role, Spec};
use super::state::State;

/// A fault put into the memory, or into the processes, that the search has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A claim's CAS is a load and a store.
    ClaimNotAtomic,
    /// A lease's CAS is a load and a store.
    LeaseNotAtomic,
    /// Producers see every lease word as settled.
    HeldLooksDone,
    /// Producers see a slot under writing as finished.
    UnfinishedLooksFinished,
    /// Producers take every group for one that starts later.
    StartIgnored,
    /// Recovery voids by a store.
    VoidByStore,
    /// Recovery does not void.
    VoidForgotten,
    /// The due word does not show that a lease is being given back.
    DueForgotten,
    /// No bit for a returned message.
    MarkForgotten,
    /// A lease's turn stays the same.
    TurnForgotten,
    /// READY is never stored.
    FinishForgotten,
    /// READY is stored before the payload.
    FinishBeforeWrite,
    /// An owner index is used again before recovery is through.
    ReusedTooEarly,
    /// A group is born at the tail that was read before it was made active.
    BornTooEarly,
    /// A consumer of a timed lease hands out what it copied without looking whether the lease stands.
    CopyNotChecked,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names the search in what is printed.
    pub name: &'static str,
    /// Slots, a power of two.
    pub slots: u64,
    /// Where the count of skips stays: 2 or 3.
    pub skips: u32,
    /// The lap of the first position.
    pub lap: u64,
    /// Groups whose words exist.
    pub groups: u8,
    /// Of them, those that are active from the start.
    pub active: u64,
    /// The processes.
    pub specs: Vec<Spec>,
    /// Processes that may vanish.
    pub crashes: u8,
    /// Processes that may come back.
    pub restarts: u8,
    /// Deliveries that may be settled otherwise than by ack.
    pub refusals: u8,
    /// Times that the clock may go on.
    pub ticks: u8,
    /// Milliseconds until a returned message is due.
    pub delay: u64,
    /// Failures that make a message dead.
    pub limit: u16,
    /// Whether runs to the end are also tried with some of the processes paused.
    pub pauses: bool,
    /// One state in this many is run on to the end; a power of two.
    pub sample: u64,
    /// A fault to be found.
    pub mutant: Option<Mutant>,
}

impl Config {
    /// Two slots, one group, nothing goes wrong.
    pub fn new(name: &'static str) -> Config {
        Config {
            name,
            slots: 2,
            skips: 2,
            lap: 1,
            groups: 1,
            active: 1,
            specs: Vec::new(),
            crashes: 0,
            restarts: 0,
            refusals: 0,
            ticks: 0,
            delay: 0,
            limit: 9,
            pauses: true,
            sample: 64,
            mutant: None,
        }
    }

    /// Adds a process; its owner index is its number, from 1.
    #[must_use]
    pub fn with(mut self, role: impl Into<Role>) -> Config {
        let owner = Owner::new(self.specs.len() as u16 + 1);
        self.specs.push(Spec { role: role.into(), owner, mortal: true });
        self
    }

    /// Adds two recoverers for each process that may die, so far.
    #[must_use]
    pub fn with_recovery(mut self, crashes: u8, restarts: u8) -> Config {
        self.crashes = crashes;
        self.restarts = restarts;
        for at in 0..self.specs.len() {
            if !self.specs[at].mortal || matches!(self.specs[at].role, Role::Sweeper { .. }) {
                continue;
            }
            for _ in 0..2 {
                self = self.with(Role::Recoverer { of: at as u8 });
            }
        }
        self
    }

    /// The last process does not die.
    #[must_use]
    pub fn immortal(mut self) -> Config {
        if let Some(last) = self.specs.last_mut() {
            last.mortal = false;
        }
        self
    }

    /// The first position.
    pub fn first(&self) -> u64 {
        self.lap * self.slots
    }

    /// Shared words, payloads included.
    pub fn words(&self) -> usize {
        2 + 3 * self.slots as usize + self.groups as usize * (4 + 2 * self.slots as usize)
    }

    /// Where a word is kept.
    pub fn index(&self, spot: Spot) -> usize {
        let slots = self.slots as usize;
        let group = |group: u8| 2 + 3 * slots + group as usize * (4 + 2 * slots);
        match spot {
            Spot::Ring(Place::Tail) => 0,
            Spot::Ring(Place::Active) => 1,
            Spot::Ring(Place::Claim(slot)) => 2 + slot as usize,
            Spot::Ring(Place::Seq(slot)) => 2 + slots + slot as usize,
            Spot::Payload(slot) => 2 + 2 * slots + slot as usize,
            Spot::Ring(Place::Returned(g, _)) => group(g),
            Spot::Ring(Place::Attention(g)) => group(g) + 1,
            Spot::Ring(Place::Head(g)) => group(g) + 2,
            Spot::Ring(Place::Start(g)) => group(g) + 3,
            Spot::Ring(Place::Lease(g, slot)) => group(g) + 4 + slot as usize,
            Spot::Ring(Place::Due(g, slot)) => group(g) + 4 + slots + slot as usize,
        }
    }

    /// The one process that ever writes a word of this kind, if there is one.
    pub fn writer(&self, place: Place) -> Option<u8> {
        let mut writer = None;
        for (process, spec) in self.specs.iter().enumerate() {
            let writes = match (&spec.role, place) {
                (Role::Producer(_), Place::Claim(_) | Place::Tail) => true,
                (Role::Producer(_), Place::Seq(_)) => true,
                (Role::Recoverer { of }, Place::Seq(_)) => {
                    matches!(self.specs[*of as usize].role, Role::Producer(_))
                }
                (Role::Consumer(role), Place::Head(group)) => role.group == group,
                (Role::Birth { .. }, _) => true,
                (Role::Producer(_), _)
                | (_, Place::Claim(_) | Place::Tail | Place::Seq(_) | Place::Head(_)) => false,
                // The other words of the groups are written by many.
                _ => return None,
            };
            if writes && writer.replace(process as u8).is_some() {
                return None;
            }
        }
        writer
    }

    /// What a word holds all the time, where nobody writes it: reading it is no step.
    pub fn constant(&self, spot: Spot) -> Option<u64> {
        if self.specs.iter().any(|spec| matches!(spec.role, Role::Birth { .. })) {
            return None;
        }
        match spot {
            Spot::Ring(Place::Active) => Some(self.active),
            Spot::Ring(Place::Start(_)) => Some(self.first()),
            _ => None,
        }
    }

    /// The words of a ring on which nothing has happened since the lap before the first.
    pub fn initial(&self) -> State {
        let mut state = State::new(self.words());
        let before = (self.lap as u32).wrapping_sub(1);
        let fresh = self.lap == 1;
        for slot in 0..self.slots {
            state.words[self.index(Spot::Ring(Place::Claim(slot)))] =
                Claim::taken(before, Owner::NOBODY).bits();
            let seq = if fresh { Seq::from_bits(0) } else { Seq::void(before) };
            state.words[self.index(Spot::Ring(Place::Seq(slot)))] = seq.bits();
        }
        for group in (0..self.groups).filter(|group| self.active >> group & 1 == 1) {
            for slot in 0..self.slots {
                let unborn = Lease::unborn(self.lap as u32).bits();
                state.words[self.index(Spot::Ring(Place::Lease(group, slot)))] = unborn;
            }
            state.words[self.index(Spot::Ring(Place::Start(group)))] = self.first();
            state.words[self.index(Spot::Ring(Place::Head(group)))] = if fresh { 0 } else { self.first() };
        }
        state.words[self.index(Spot::Ring(Place::Active))] = self.active;
        state.words[self.index(Spot::Ring(Place::Tail))] = if fresh { 0 } else { self.first() };
        state.ghost.born = self.active as u8;
        state
    }
}

//! What each write to a shared word must respect, and what each process may be told.

use ringway::memory::Place;
use ringway::ring::{Claim, Due, Kind, Lease, Owner, Seq, State as LeaseState, before};

use super::automaton::{Automaton, Node};
use super::config::{Config, Mutant};
use super::replay::{Access, Op, Spot};
use super::script::{Event, Pc};
use super::spec::{Role, Settle};
use super::state::{Life, NOT_STARTED, State, VANISHED};

/// A rule that was broken, in words.
pub type Broken = String;

/// The judge of one search.
pub struct Rules<'a> {
    /// What is searched.
    pub config: &'a Config,
    /// The processes.
    pub automaton: &'a Automaton,
}

impl Rules<'_> {
    /// Makes the access of `process` on the state; the result, and what was broken.
    ///
    /// # Errors
    ///
    /// The rule that was broken.
    pub fn access(&self, state: &mut State, process: usize, op: Op, index: usize) -> Result<u64, Broken> {
        let old = state.words[index];
        let new = match op.access {
            Access::Load => return Ok(old),
            Access::Store(value) => value,
            Access::Swap(expected, _) if expected != old => return Ok(old),
            Access::Swap(_, value) => value,
            Access::Or(bits) => old | bits,
            Access::And(bits) => old & bits,
            Access::Max(value) => old.max(value),
        };
        match op.spot {
            Spot::Ring(Place::Claim(slot)) => {
                self.claim(state, slot, Claim::from_bits(old), Claim::from_bits(new), process)?;
            }
            Spot::Ring(Place::Seq(slot)) => {
                self.seq(state, slot, Seq::from_bits(old), Seq::from_bits(new), process)?;
            }
            Spot::Ring(Place::Lease(group, slot)) if state.ghost.born >> group & 1 == 1 => {
                self.lease(state, group, slot, Lease::from_bits(old), Lease::from_bits(new), process)?;
            }
            Spot::Payload(slot) => self.payload(state, slot, process)?,
            _ => {}
        }
        state.words[index] = new;
        Ok(result(op.access, old))
    }

    /// What a process was told at the end of an operation.
    ///
    /// # Errors
    ///
    /// The rule that was broken.
    pub fn told(&self, state: &mut State, event: Event) -> Result<(), Broken> {
        match event {
            Event::None | Event::Refused => Ok(()),
            Event::Delivered(_, position, payload, len) => {
                let published = state.ghost.published[self.number(position)?];
                if u64::from(published) == payload && u32::from(published) == len {
                    return Ok(());
                }
                Err(format!(
                    "position {position}: {payload} of length {len} was delivered, {published} was published"
                ))
            }
            Event::Acked(group, position) => {
                let bit = 1 << self.number(position)?;
                let group = group as usize;
                if state.ghost.settled[group] & bit == 0 {
                    return Err(format!("ack of position {position} accepted, but it is not done"));
                }
                if state.ghost.confirmed[group] & bit != 0 {
                    return Err(format!("two acks of position {position} were accepted"));
                }
                state.ghost.confirmed[group] |= bit;
                Ok(())
            }
            Event::Lost(true) => Ok(()),
            Event::Lost(false) => Err("a living holder was told that its lease until death is lost".into()),
            Event::Recovered(of) => {
                state.ghost.lives[of as usize] = Life::Recovered;
                Ok(())
            }
            Event::Born(group) => {
                state.ghost.born |= 1 << group;
                Ok(())
            }
        }
    }

    fn word(&self, state: &State, place: Place) -> u64 {
        state.words[self.config.index(Spot::Ring(place))]
    }

    /// The number of a position, from 0.
    pub fn number(&self, position: u64) -> Result<usize, Broken> {
        let number = position.wrapping_sub(self.config.first()) as usize;
        if number < super::state::POSITIONS { Ok(number) } else { Err(format!("position {position}?")) }
    }

    /// The number of the position of a slot in a lap.
    fn numbered(&self, lap: u32, slot: u64) -> Result<usize, Broken> {
        let laps = u64::from(lap.wrapping_sub(self.config.lap as u32));
        self.number(self.config.first().wrapping_add(laps.wrapping_mul(self.config.slots)).wrapping_add(slot))
    }

    /// The lap of the last real claim of a slot, by its words.
    pub fn real_lap(&self, state: &State, slot: u64) -> u32 {
        let claim = Claim::from_bits(self.word(state, Place::Claim(slot)));
        let seq = Seq::from_bits(self.word(state, Place::Seq(slot)));
        claim.real_lap(self.config.skips).unwrap_or(seq.lap())
    }

    /// I1: laps never jump. I2: a slot is claimed when it is finished and no group holds or awaits it.
    fn claim(&self, state: &State, slot: u64, old: Claim, new: Claim, process: usize) -> Result<(), Broken> {
        if new.lap() != old.lap().wrapping_add(1) {
            return Err(format!("slot {slot}: {old:?} became {new:?}"));
        }
        if new.skips() == 0 {
            if new.owner() != self.config.specs[process].owner {
                return Err(format!("slot {slot}: {new:?} by another"));
            }
            return self.is_free(state, slot);
        }
        let seq = Seq::from_bits(self.word(state, Place::Seq(slot)));
        if new.owner() != old.owner() {
            return Err(format!("slot {slot}: {old:?} skipped to {new:?}"));
        }
        match old.real_lap(self.config.skips) {
            Some(lap) if new.real_lap(self.config.skips).is_none() && seq.lap() != lap => {
                Err(format!("slot {slot}: {new:?} says no more which lap is unfinished"))
            }
            Some(lap) if new.real_lap(self.config.skips).is_some_and(|new| new != lap) => {
                Err(format!("slot {slot}: {old:?} skipped to {new:?}"))
            }
            _ => Ok(()),
        }
    }

    fn is_free(&self, state: &State, slot: u64) -> Result<(), Broken> {
        let seq = Seq::from_bits(self.word(state, Place::Seq(slot)));
        let lap = self.real_lap(state, slot);
        if seq.lap() != lap {
            return Err(format!("slot {slot} taken while lap {lap} is unfinished: {seq:?}"));
        }
        for group in 0..self.config.groups {
            let lease = Lease::from_bits(self.word(state, Place::Lease(group, slot)));
            if state.ghost.born >> group & 1 == 0 || !self.wants(state, group, lap, slot) {
                continue;
            }
            if lease.state() != LeaseState::Done {
                return Err(format!("slot {slot} taken while group {group} has {lease:?}"));
            }
            if seq.kind() == Kind::Ready && lease.lap() != lap {
                return Err(format!("slot {slot} taken before group {group} got {seq:?}: {lease:?}"));
            }
        }
        Ok(())
    }

    /// Whether a group begins at or before this position.
    fn wants(&self, state: &State, group: u8, lap: u32, slot: u64) -> bool {
        let start = self.word(state, Place::Start(group)).wrapping_sub(self.config.first());
        self.numbered(lap, slot).is_ok_and(|number| number as u64 >= start)
    }

    /// I3, and that only the claimant, or recovery of a dead one, says what became of a claim.
    fn seq(&self, state: &mut State, slot: u64, old: Seq, new: Seq, process: usize) -> Result<(), Broken> {
        if old == new && !matches!(self.config.specs[process].role, Role::Producer(_)) {
            return Ok(());
        }
        if !before(old.lap(), new.lap()) {
            return Err(format!("slot {slot}: {old:?} became {new:?}"));
        }
        let claim = Claim::from_bits(self.word(state, Place::Claim(slot)));
        let claimant = claim.real_lap(self.config.skips) == Some(new.lap());
        let spec = &self.config.specs[process];
        match (&spec.role, new.kind()) {
            (Role::Producer(_), Kind::Ready) if claimant && claim.owner() == spec.owner => {
                let number = self.numbered(new.lap(), slot)?;
                state.ghost.published[number] = new.len() as u8;
                Ok(())
            }
            (Role::Producer(_), Kind::Void) if claimant && claim.owner() == spec.owner => Ok(()),
            (Role::Recoverer { of }, Kind::Void)
                if claimant
                    && claim.owner() == self.config.specs[*of as usize].owner
                    && state.ghost.lives[*of as usize] != Life::Alive =>
            {
                Ok(())
            }
            _ => Err(format!("slot {slot}: {new:?} over {claim:?} by {:?}", spec.owner)),
        }
    }

    /// I2: bytes are written between a claim and its seq.
    fn payload(&self, state: &State, slot: u64, process: usize) -> Result<(), Broken> {
        let claim = Claim::from_bits(self.word(state, Place::Claim(slot)));
        let seq = Seq::from_bits(self.word(state, Place::Seq(slot)));
        let lap = self.real_lap(state, slot);
        if claim.owner() != self.config.specs[process].owner || seq.lap() == lap {
            return Err(format!("slot {slot} written without a claim: {claim:?}, {seq:?}"));
        }
        for group in 0..self.config.groups {
            let lease = Lease::from_bits(self.word(state, Place::Lease(group, slot)));
            if state.ghost.born >> group & 1 == 1 && lease.state() != LeaseState::Done {
                return Err(format!("slot {slot} written while group {group} has {lease:?}"));
            }
        }
        Ok(())
    }

    /// I4: the transitions of a lease word, and who may make them.
    fn lease(
        &self,
        state: &mut State,
        group: u8,
        slot: u64,
        old: Lease,
        new: Lease,
        process: usize,
    ) -> Result<(), Broken> {
        let me = self.config.specs[process].owner;
        let wrong = |why: &str| Err(format!("group {group} slot {slot}: {why}: {old:?} became {new:?}"));
        let turned =
            new.turn() == old.turn().wrapping_add(1) || self.config.mutant == Some(Mutant::TurnForgotten);
        let bit = 1u16 << self.numbered(new.lap(), slot)?;
        let of = group as usize;
        if new.is_held() {
            let seq = Seq::from_bits(self.word(state, Place::Seq(slot)));
            if !seq.is_ready(new.lap()) || new.owner() != me || !turned {
                return wrong("no lease to have");
            }
            if state.ghost.settled[of] & bit != 0 {
                return wrong("leased after it was settled");
            }
            match old.state() {
                LeaseState::Done
                    if before(old.lap(), new.lap()) && self.wants(state, group, new.lap(), slot) =>
                {
                    state.ghost.leased[of] |= bit;
                    self.in_order(state, group, slot, new.lap(), process)
                }
                LeaseState::Retry if old.lap() == new.lap() && old.failures() == new.failures() => Ok(()),
                _ => wrong("no lease to have"),
            }
        } else {
            if old.lap() != new.lap() || old.turn() != new.turn() {
                return wrong("settled for another turn");
            }
            if new.state() == LeaseState::Done {
                if state.ghost.settled[of] & bit != 0 {
                    return wrong("settled twice");
                }
                state.ghost.settled[of] |= bit;
            }
            match old.state() {
                LeaseState::Leased | LeaseState::Timed | LeaseState::Committing => {
                    self.may_settle(state, group, slot, old, new, process)
                }
                LeaseState::Dead if matches!(self.config.specs[process].role, Role::Reviver { .. }) => Ok(()),
                _ => wrong("nothing to settle"),
            }
        }
    }

    /// A held lease is settled by its owner, by recovery when that is dead, or by a sweep when its time is
    /// over.
    fn may_settle(
        &self,
        state: &State,
        group: u8,
        slot: u64,
        old: Lease,
        new: Lease,
        process: usize,
    ) -> Result<(), Broken> {
        let spec = &self.config.specs[process];
        let consumer = matches!(spec.role, Role::Consumer(_));
        if consumer && old.owner() == spec.owner && self.at(state, process).is_some_and(settles) {
            return Ok(());
        }
        let owner = self.process_of(old.owner());
        if let (Role::Recoverer { of }, Some(owner)) = (&spec.role, owner)
            && usize::from(*of) == owner
            && state.ghost.lives[owner] != Life::Alive
        {
            return Ok(());
        }
        let wrong = |why: &str| Err(format!("group {group} slot {slot}: {why}: {old:?} became {new:?}"));
        if old.state() != LeaseState::Timed {
            return wrong("a lease until death was ended by another");
        }
        let told = owner
            .and_then(|owner| self.at(state, owner))
            // Who is giving it back is promised no more.
            .filter(|node| {
                !settles(node) || matches!(node.local.pc, Pc::Settle(Settle::Ack | Settle::Extend))
            })
            .and_then(|node| node.local.held)
            .filter(|held| held.word == old.bits() && held.position % self.config.slots == slot)
            .and_then(|held| held.deadline);
        match told {
            Some(deadline) if deadline > u64::from(state.ghost.now) => {
                wrong(&format!("expired before {deadline}, which its holder was promised"))
            }
            _ => Ok(()),
        }
    }

    /// Order: an ordered group's first attempts are in the order of the positions, behind no live writer and,
    /// where the group has one consumer, behind no message that is to be tried again.
    fn in_order(&self, state: &State, group: u8, slot: u64, lap: u32, process: usize) -> Result<(), Broken> {
        let Role::Consumer(role) = &self.config.specs[process].role else { return Ok(()) };
        if !role.ordered {
            return Ok(());
        }
        let number = self.numbered(lap, slot)?;
        let start = self.word(state, Place::Start(group)).wrapping_sub(self.config.first()) as usize;
        for earlier in start..number {
            if state.ghost.published[earlier] != 0 && state.ghost.leased[group as usize] >> earlier & 1 == 0 {
                return Err(format!("group {group}: number {number} was leased before {earlier}"));
            }
        }
        for other in 0..self.config.slots {
            let real = self.real_lap(state, other);
            let seq = Seq::from_bits(self.word(state, Place::Seq(other)));
            let earlier = self.numbered(real, other).is_ok_and(|earlier| earlier < number);
            if seq.lap() != real && earlier {
                return Err(format!("group {group}: number {number} was leased before an unfinished one"));
            }
            let lease = Lease::from_bits(self.word(state, Place::Lease(group, other)));
            let earlier = self.numbered(lease.lap(), other).is_ok_and(|earlier| earlier < number);
            if role.exclusive && lease.state() == LeaseState::Retry && earlier {
                return Err(format!(
                    "group {group}: number {number} was leased before one that is to be retried"
                ));
            }
        }
        Ok(())
    }

    /// The process that uses an owner index.
    pub fn process_of(&self, owner: Owner) -> Option<usize> {
        self.config.specs.iter().position(|spec| spec.owner == owner)
    }

    /// Where a process stands, if it lives.
    pub fn at(&self, state: &State, process: usize) -> Option<&Node> {
        match state.processes[process] {
            NOT_STARTED | VANISHED => None,
            at => Some(self.automaton.node(at)),
        }
    }

    /// All the words, for people.
    pub fn show(&self, state: &State) -> String {
        let mut text = String::new();
        for slot in 0..self.config.slots {
            let claim = Claim::from_bits(self.word(state, Place::Claim(slot)));
            let seq = Seq::from_bits(self.word(state, Place::Seq(slot)));
            text += &format!("  slot {slot}: {claim:?} {seq:?}");
            for group in 0..self.config.groups {
                let lease = Lease::from_bits(self.word(state, Place::Lease(group, slot)));
                let due = Due::from_bits(self.word(state, Place::Due(group, slot)));
                text += &format!(" | {lease:?} {due:?}");
            }
            text += "\n";
        }
        for group in 0..self.config.groups {
            let word = |place| self.word(state, place);
            text += &format!(
                "  group {group}: bits {:#b} attention {} head {} start {}\n",
                word(Place::Returned(group, 0)),
                match word(Place::Attention(group)) {
                    0 => "never".to_owned(),
                    encoded => format!("at {}", !encoded),
                },
                word(Place::Head(group)),
                word(Place::Start(group)),
            );
        }
        text + &format!("  {:?}\n", state.ghost)
    }
}

/// What an access gives, on a word that held `old`.
pub fn result(access: Access, old: u64) -> u64 {
    if matches!(access, Access::Store(_)) { 0 } else { old }
}

/// Whether a consumer at this place is ending its lease.
fn settles(node: &Node) -> bool {
    matches!(node.local.pc, Pc::Settle(_))
}

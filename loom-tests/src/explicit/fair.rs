//! Wedges: whoever is left running has to come to an end, whoever is paused or dead.
//!
//! From a state, the chosen processes take turns, each until it is through with a round of its program, and
//! dead ones are recovered. Then all producers must have published, unless each slot is kept by someone who
//! is paused or by a dead letter, and all that was published must be settled in each group that has a
//! consumer.

use ringway::memory::Place;
use ringway::ring::{Claim, Due, Kind, Lease, Seq, State as LeaseState};

use super::automaton::Automaton;
use super::config::Config;
use super::replay::Spot;
use super::rules::{Broken, Rules};
use super::script::Pc;
use super::search::{Move, make, may_start};
use super::spec::Role;
use super::state::{Life, NOT_STARTED, State, VANISHED};

/// Rounds that suffice for everything; each lets the clock go on.
const ROUNDS: usize = 24;
/// Steps that suffice for one turn of a process.
const STEPS: usize = 1500;

/// Runs on from `state` with everyone, then with each consumer alone, with and without each producer.
///
/// # Errors
///
/// What stayed undone, and the way from `state` to there.
pub fn check(config: &Config, automaton: &mut Automaton, state: &State) -> Result<(), (Broken, Vec<Move>)> {
    let every = (1u16 << config.specs.len()) - 1;
    run(config, automaton, state, every)?;
    if !config.pauses {
        return Ok(());
    }
    let of = |wanted: fn(&Role) -> bool| {
        let chosen = config.specs.iter().enumerate().filter(move |(_, spec)| wanted(&spec.role));
        chosen.fold(0u16, |mask, (process, _)| mask | 1 << process)
    };
    let consumers = of(|role| matches!(role, Role::Consumer(_)));
    let producers = of(|role| matches!(role, Role::Producer(_)));
    let helpers = of(|role| !matches!(role, Role::Producer(_) | Role::Consumer(_) | Role::Reviver { .. }));
    for consumer in bits(consumers) {
        run(config, automaton, state, consumer | producers | helpers)?;
        for producer in bits(producers) {
            run(config, automaton, state, consumer | (producers & !producer) | helpers)?;
        }
    }
    Ok(())
}

fn bits(mask: u16) -> impl Iterator<Item = u16> {
    (0..16).map(|bit| 1 << bit).filter(move |bit| mask & bit != 0)
}

fn run(
    config: &Config,
    automaton: &mut Automaton,
    from: &State,
    active: u16,
) -> Result<(), (Broken, Vec<Move>)> {
    let mut path = Vec::new();
    run_on(config, automaton, *from, active, &mut path).map_err(|broken| (broken, path))
}

fn run_on(
    config: &Config,
    automaton: &mut Automaton,
    mut state: State,
    active: u16,
    path: &mut Vec<Move>,
) -> Result<(), Broken> {
    for _ in 0..ROUNDS {
        for process in 0..config.specs.len() {
            if active >> process & 1 == 1 {
                turn(config, automaton, &mut state, process, path)?;
            }
        }
        if left(config, automaton, &state, active).is_none() {
            return Ok(());
        }
        if waits_for_time(config, &state) {
            path.push(Move::Tick);
            state.ghost.now += 1;
        }
    }
    match left(config, automaton, &state, active) {
        None => Ok(()),
        Some(left) => {
            let alive = (0..config.specs.len()).filter(|process| active >> process & 1 == 1);
            let names: Vec<_> = alive.map(|process| config.specs[process].owner).collect();
            Err(format!("wedged: with {names:?} alone running on, {left}"))
        }
    }
}

fn waits_for_time(config: &Config, state: &State) -> bool {
    (0..config.groups).any(|group| {
        word(config, state, Place::Attention(group)) != 0
            || (0..config.slots).any(|slot| lease(config, state, group, slot).state() == LeaseState::Timed)
    })
}

/// One round of one process's program.
fn turn(
    config: &Config,
    automaton: &mut Automaton,
    state: &mut State,
    process: usize,
    path: &mut Vec<Move>,
) -> Result<(), Broken> {
    for _ in 0..STEPS {
        let step = match state.processes[process] {
            VANISHED => return Ok(()),
            NOT_STARTED if may_start(config, state, process) => Move::Start(process as u8),
            NOT_STARTED => return Ok(()),
            at if automaton.node(at).op.is_none() => return Ok(()),
            _ => Move::Step(process as u8, 0),
        };
        path.push(step);
        *state = make(config, automaton, state, step)?;
        match state.processes[process] {
            NOT_STARTED | VANISHED => return Ok(()),
            at if automaton.is_idle(at) => return Ok(()),
            _ => {}
        }
    }
    Err(format!("process {:?} does not come to an end", config.specs[process].owner))
}

fn word(config: &Config, state: &State, place: Place) -> u64 {
    state.words[config.index(Spot::Ring(place))]
}

fn lease(config: &Config, state: &State, group: u8, slot: u64) -> Lease {
    Lease::from_bits(word(config, state, Place::Lease(group, slot)))
}

/// What is left undone that should not be, in words.
fn left(config: &Config, automaton: &Automaton, state: &State, active: u16) -> Option<String> {
    let end = End { config, rules: Rules { config, automaton }, state, active };
    for (process, spec) in config.specs.iter().enumerate() {
        if !end.runs(process) || !matches!(spec.role, Role::Producer(_)) {
            continue;
        }
        let done = end.rules.at(state, process).is_none_or(|node| node.local.pc == Pc::End);
        if !done && !end.is_full_with_reason() {
            return Some(format!("{:?} cannot publish", spec.owner));
        }
    }
    (0..config.groups).filter(|&group| end.is_served(group)).find_map(|group| end.undelivered(group))
}

struct End<'a> {
    config: &'a Config,
    rules: Rules<'a>,
    state: &'a State,
    active: u16,
}

impl End<'_> {
    fn runs(&self, process: usize) -> bool {
        self.active >> process & 1 == 1 && self.state.processes[process] != VANISHED
    }

    fn is_served(&self, group: u8) -> bool {
        self.config.specs.iter().enumerate().any(|(process, spec)| {
            matches!(&spec.role, Role::Consumer(role) if role.group == group) && self.runs(process)
        })
    }

    fn is_ordered(&self, group: u8) -> bool {
        self.config
            .specs
            .iter()
            .any(|spec| matches!(&spec.role, Role::Consumer(role) if role.group == group && role.ordered))
    }

    /// A position whose claimant is paused.
    fn unfinished(&self, slot: u64) -> bool {
        let seq = Seq::from_bits(word(self.config, self.state, Place::Seq(slot)));
        let claim = Claim::from_bits(word(self.config, self.state, Place::Claim(slot)));
        seq.lap() != self.rules.real_lap(self.state, slot) && self.is_paused(claim.owner())
    }

    fn is_paused(&self, owner: ringway::ring::Owner) -> bool {
        self.rules.process_of(owner).is_some_and(|process| {
            self.active >> process & 1 == 0 && self.state.ghost.lives[process] == Life::Alive
        })
    }

    /// Held by one who is paused and whose time cannot run out; or dead for good.
    fn is_kept(&self, group: u8, slot: u64) -> bool {
        let lease = lease(self.config, self.state, group, slot);
        let due = Due::from_bits(word(self.config, self.state, Place::Due(group, slot)));
        match lease.state() {
            LeaseState::Dead => true,
            LeaseState::Timed => due.time_of(lease).is_none() && self.is_paused(lease.owner()),
            _ => lease.is_held() && self.is_paused(lease.owner()),
        }
    }

    fn is_full_with_reason(&self) -> bool {
        let slots = 0..self.config.slots;
        let stalled = slots.clone().any(|slot| self.unfinished(slot));
        let saturated = slots.clone().any(|slot| {
            let claim = Claim::from_bits(word(self.config, self.state, Place::Claim(slot)));
            self.unfinished(slot) && claim.skips() + 1 >= self.config.skips
        });
        let groups = (0..self.config.groups).filter(|group| self.state.ghost.born >> group & 1 == 1);
        let kept = |slot| {
            self.unfinished(slot)
                || groups.clone().any(|group| {
                    let waits = !self.is_served(group) || (stalled && self.is_ordered(group));
                    let seq = Seq::from_bits(word(self.config, self.state, Place::Seq(slot)));
                    let lease = lease(self.config, self.state, group, slot);
                    let settled = lease.state() == LeaseState::Done && lease.lap() == seq.lap();
                    self.is_kept(group, slot) || (waits && seq.kind() == Kind::Ready && !settled)
                })
        };
        saturated || slots.clone().all(kept) || (slots.clone().any(kept) && self.ends_at_undelivered())
    }

    /// The ring is full in order: a group that nobody serves has not got the message at the tail.
    fn ends_at_undelivered(&self) -> bool {
        (0..self.config.groups).any(|group| {
            self.state.ghost.born >> group & 1 == 1
                && (!self.is_served(group) || self.is_ordered(group))
                && self.undelivered_of(group).is_some()
        })
    }

    fn undelivered_of(&self, group: u8) -> Option<usize> {
        let start = word(self.config, self.state, Place::Start(group)).wrapping_sub(self.config.first());
        let ghost = &self.state.ghost;
        (start as usize..ghost.published.len())
            .find(|&number| ghost.published[number] != 0 && ghost.settled[group as usize] >> number & 1 == 0)
    }

    fn undelivered(&self, group: u8) -> Option<String> {
        let ghost = &self.state.ghost;
        let slots = self.config.slots;
        let stalled = self.is_ordered(group) && (0..slots).any(|slot| self.unfinished(slot));
        let start = word(self.config, self.state, Place::Start(group)).wrapping_sub(self.config.first());
        let blocked = self.is_ordered(group) && (0..slots).any(|slot| self.is_kept(group, slot));
        let missing = (start as usize..ghost.published.len()).find(|&number| {
            let slot = number as u64 % slots;
            let lap = (self.config.lap as u32).wrapping_add((number as u64 / slots) as u32);
            let lease = lease(self.config, self.state, group, slot);
            ghost.published[number] != 0
                && ghost.settled[group as usize] >> number & 1 == 0
                && !(lease.lap() == lap && self.is_kept(group, slot))
        })?;
        if stalled || blocked {
            return None;
        }
        Some(format!("group {group} never gets position {}", self.config.first() + missing as u64))
    }
}

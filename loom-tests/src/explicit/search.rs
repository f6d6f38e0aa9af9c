//! The search: breadth first, over hashes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use super::automaton::{At, Automaton};
use super::config::{Config, Mutant};
use super::fair;
use super::replay::{Access, Spot};
use super::rules::{Broken, Rules, result};
use super::script::Local;
use super::spec::Role;
use super::state::{Life, NOT_STARTED, State, VANISHED, hash};

/// What a search without findings went through.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// States.
    pub states: u64,
    /// Steps between them.
    pub transitions: u64,
    /// The longest shortest path.
    pub depth: u32,
    /// States of the processes' automata.
    pub local: usize,
    /// Runs to the end.
    pub runs: u64,
}

/// A finding: what was broken, and a shortest way there.
pub struct Violation {
    /// What.
    pub broken: Broken,
    /// How, a line for each step.
    pub trace: String,
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.broken, self.trace)
    }
}

/// A step of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A process makes its access and takes this of the ways that follow.
    Step(u8, u8),
    /// A process vanishes.
    Crash(u8),
    /// A process starts: at first, or a recoverer.
    Start(u8),
    /// A process comes back under its owner index.
    Restart(u8),
    /// The clock goes on.
    Tick,
}

/// Hashes are hashed already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u128 is hashed");
    }
    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

type Seen = HashSet<u128, BuildHasherDefault<Same>>;
type Parents = HashMap<u128, (u128, Move), BuildHasherDefault<Same>>;

/// Searches all that can happen. Prints a line of figures.
///
/// # Errors
///
/// The first violation found.
pub fn explore(config: &Config) -> Result<Report, Violation> {
    let began = std::time::Instant::now();
    let mut search = Search { config, automaton: Automaton::new(), parents: None };
    match search.run() {
        Ok(report) => {
            println!(
                "explicit {:<44} {:>10} states {:>11} transitions, depth {:>3}, {:>6} local states, {:>6} runs to the end, {:.1} s",
                config.name,
                report.states,
                report.transitions,
                report.depth,
                report.local,
                report.runs,
                began.elapsed().as_secs_f64()
            );
            Ok(report)
        }
        Err(_) => {
            // Once more, remembering the ways. The automata stay, so it goes the same way.
            search.parents = Some(Parents::default());
            let found = search.run().expect_err("the search repeats itself");
            let trace = search.trace(found.at, found.then);
            Err(Violation { broken: found.broken, trace })
        }
    }
}

/// What was found, and where.
struct Found {
    broken: Broken,
    at: u128,
    then: Vec<Move>,
}

struct Search<'a> {
    config: &'a Config,
    automaton: Automaton,
    parents: Option<Parents>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<Report, Found> {
        let used = self.config.words();
        let size = State::packed(used);
        let mut seen = Seen::default();
        let mut level: Vec<u64> = Vec::new();
        let first = self.config.initial();
        first.pack(&mut level);
        seen.insert(hash(&level));
        let mut report = Report { states: 1, transitions: 0, depth: 0, local: 0, runs: 0 };
        let mut moves = Vec::new();
        while !level.is_empty() {
            let mut next_level: Vec<u64> = Vec::new();
            for packed in level.chunks_exact(size) {
                let state = State::unpack(used, packed);
                let id = hash(packed);
                if id as u64 & (self.config.sample - 1) == 0 {
                    report.runs += 1;
                    fair::check(self.config, &mut self.automaton, &state)
                        .map_err(|(broken, then)| Found { broken, at: id, then })?;
                }
                moves.clear();
                moves_from(self.config, &mut self.automaton, &state, &mut moves);
                for &step in &moves {
                    let next = make(self.config, &mut self.automaton, &state, step)
                        .map_err(|broken| Found { broken, at: id, then: vec![step] })?;
                    report.transitions += 1;
                    let begin = next_level.len();
                    next.pack(&mut next_level);
                    let next_id = hash(&next_level[begin..]);
                    if !seen.insert(next_id) {
                        next_level.truncate(begin);
                    } else if let Some(parents) = &mut self.parents {
                        parents.insert(next_id, (id, step));
                    }
                }
            }
            report.depth += 1;
            level = next_level;
        }
        report.states = seen.len() as u64;
        report.local = self.automaton.len();
        Ok(report)
    }

    /// The way to a state, told step by step.
    fn trace(&mut self, mut at: u128, then: Vec<Move>) -> String {
        // A run that comes to no end shows it soon enough.
        let mut path: Vec<Move> = then.into_iter().take(60).collect();
        path.reverse();
        let parents = self.parents.take().expect("the ways were remembered");
        while let Some(&(parent, step)) = parents.get(&at) {
            path.push(step);
            at = parent;
        }
        let mut state = self.config.initial();
        let mut text = String::new();
        for (number, &step) in path.iter().rev().enumerate() {
            text += &format!("{:>3} {}\n", number + 1, describe(self.config, &self.automaton, &state, step));
            match make(self.config, &mut self.automaton, &state, step) {
                Ok(next) => state = next,
                Err(broken) => text += &format!("    BROKEN: {broken}\n"),
            }
        }
        text + &Rules { config: self.config, automaton: &self.automaton }.show(&state)
    }
}

/// All that can happen in a state.
pub fn moves_from(config: &Config, automaton: &mut Automaton, state: &State, moves: &mut Vec<Move>) {
    let ghost = &state.ghost;
    if let Some(alone) = private_step(config, automaton, state) {
        let at = state.processes[alone as usize];
        let node = automaton.node(at);
        let op = node.op.expect("a private step is an access");
        let result = result(op.access, state.words[node.index as usize]);
        for (way, next) in automaton.next(config, at, result, ghost.now.into()).iter().enumerate() {
            if !next.refusal || ghost.refusals < config.refusals {
                moves.push(Move::Step(alone, way as u8));
            }
        }
        return;
    }
    for (process, spec) in config.specs.iter().enumerate() {
        let number = process as u8;
        match state.processes[process] {
            NOT_STARTED => {
                if may_start(config, state, process) {
                    moves.push(Move::Start(number));
                }
            }
            VANISHED => {
                if ghost.restarts < config.restarts && may_restart(config, state, process) {
                    moves.push(Move::Restart(number));
                }
            }
            at => {
                let Some(op) = automaton.node(at).op else { continue };
                let result = result(op.access, state.words[automaton.node(at).index as usize]);
                for (way, next) in automaton.next(config, at, result, ghost.now.into()).iter().enumerate() {
                    if !next.refusal || ghost.refusals < config.refusals {
                        moves.push(Move::Step(number, way as u8));
                    }
                }
                if ghost.crashes < config.crashes && spec.mortal {
                    moves.push(Move::Crash(number));
                }
            }
        }
    }
    if ghost.now < config.ticks {
        moves.push(Move::Tick);
    }
}

/// A process whose next access nobody else can tell from none: it commutes with all that the others do, and
/// vanishing before it is vanishing after it. Then nothing else needs to be tried here (a persistent set of
/// one).
///
/// - A word that no other process of the configuration ever writes is read.
/// - The payload is written under a claim, or read under a lease until death. `rules` sees to it that nobody
///   else then touches it, at the claim and at the lease.
///
/// Not if what follows reads the clock: that may go on first.
fn private_step(config: &Config, automaton: &mut Automaton, state: &State) -> Option<u8> {
    if config.mutant.is_some() {
        return None;
    }
    (0..config.specs.len() as u8).find(|&process| {
        let at = state.processes[process as usize];
        if at == NOT_STARTED || at == VANISHED {
            return false;
        }
        let Some(op) = automaton.node(at).op else { return false };
        let private = match (op.spot, op.access) {
            (Spot::Payload(_), _) => true,
            (Spot::Ring(place), Access::Load) => config.writer(place) == Some(process),
            _ => false,
        };
        private && (config.ticks == 0 || !reads_clock(config, automaton, state, at))
    })
}

/// Whether the operation after this access begins with a look at the clock.
fn reads_clock(config: &Config, automaton: &mut Automaton, state: &State, at: At) -> bool {
    let node = automaton.node(at);
    let Some(op) = node.op else { return false };
    let result = result(op.access, state.words[node.index as usize]);
    let all: Vec<At> =
        automaton.next(config, at, result, state.ghost.now.into()).iter().map(|next| next.at).collect();
    all.into_iter().any(|next| automaton.is_start(next) && automaton.node(next).local.uses_clock())
}

/// Whether a process that has not run yet may.
pub fn may_start(config: &Config, state: &State, process: usize) -> bool {
    match &config.specs[process].role {
        Role::Recoverer { of } => state.ghost.lives[*of as usize] == Life::Dead,
        Role::Consumer(role) => state.ghost.born >> role.group & 1 == 1,
        _ => true,
    }
}

/// Whether a process that vanished may come back: all was put right, and nobody is still at it. (The right to
/// recover an owner index, and the right to use it, are one lock.)
pub fn may_restart(config: &Config, state: &State, process: usize) -> bool {
    if config.mutant == Some(Mutant::ReusedTooEarly) {
        return !matches!(config.specs[process].role, Role::Recoverer { .. });
    }
    let busy = config.specs.iter().zip(state.processes).any(|(spec, at)| {
        matches!(spec.role, Role::Recoverer { of } if of as usize == process)
            && at != NOT_STARTED
            && at != VANISHED
    });
    state.ghost.lives[process] == Life::Recovered && !busy
}

/// The state after a move.
///
/// # Errors
///
/// The rule that was broken.
pub fn make(config: &Config, automaton: &mut Automaton, state: &State, step: Move) -> Result<State, Broken> {
    let mut next = *state;
    match step {
        Move::Tick => next.ghost.now += 1,
        Move::Start(process) => {
            next.processes[process as usize] =
                automaton.start(config, Local::initial(config, process, false));
            start_clock(config, automaton, &mut next, process);
        }
        Move::Restart(process) => {
            next.ghost.restarts += 1;
            next.ghost.lives[process as usize] = Life::Alive;
            next.processes[process as usize] = automaton.start(config, Local::initial(config, process, true));
        }
        Move::Crash(process) => {
            next.ghost.crashes += 1;
            if let Role::Recoverer { .. } = config.specs[process as usize].role {
                next.processes[process as usize] = NOT_STARTED;
            } else {
                next.processes[process as usize] = VANISHED;
                next.ghost.lives[process as usize] = Life::Dead;
            }
        }
        Move::Step(process, way) => {
            let at = state.processes[process as usize];
            let (op, index) = (automaton.node(at).op, automaton.node(at).index as usize);
            let op = op.expect("a process that steps has an access to make");
            let rules = Rules { config, automaton };
            let result = rules.access(&mut next, process as usize, op, index)?;
            let after = automaton.next(config, at, result, state.ghost.now.into())[way as usize];
            next.processes[process as usize] = after.at;
            next.ghost.refusals += u8::from(after.refusal);
            Rules { config, automaton }.told(&mut next, after.event)?;
            leave(config, automaton, &mut next, process, after.at);
        }
    }
    sort_recoverers(config, &mut next);
    Ok(next)
}

/// Two recoverers of one process are the same by exchange.
fn sort_recoverers(config: &Config, state: &mut State) {
    for (process, pair) in config.specs.windows(2).enumerate() {
        if let (Role::Recoverer { of: one }, Role::Recoverer { of: other }) = (&pair[0].role, &pair[1].role)
            && one == other
            && state.processes[process] > state.processes[process + 1]
        {
            state.processes.swap(process, process + 1);
        }
    }
}

/// A process that starts with a look at the clock.
fn start_clock(config: &Config, automaton: &mut Automaton, state: &mut State, process: u8) {
    let mut local = Local::initial(config, process, false);
    if matches!(config.specs[process as usize].role, Role::Sweeper { .. } | Role::Reviver { .. }) {
        local.now = state.ghost.now.into();
        state.processes[process as usize] = automaton.start(config, local);
    }
}

/// A recoverer that is through can be needed again after the next death.
fn leave(config: &Config, automaton: &Automaton, state: &mut State, process: u8, at: At) {
    let through = automaton.node(at).op.is_none();
    if through && matches!(config.specs[process as usize].role, Role::Recoverer { .. }) {
        state.processes[process as usize] = NOT_STARTED;
    }
}

/// A move in words.
pub fn describe(config: &Config, automaton: &Automaton, state: &State, step: Move) -> String {
    let name = |process: u8| {
        let spec = &config.specs[process as usize];
        let role = match &spec.role {
            Role::Producer(_) => "producer".to_owned(),
            Role::Consumer(role) => format!("consumer of {}", role.group),
            Role::Sweeper { .. } => "sweeper".to_owned(),
            Role::Recoverer { of } => format!("recoverer of {:?}", config.specs[*of as usize].owner),
            Role::Birth { .. } => "birth".to_owned(),
            Role::Reviver { .. } => "reviver".to_owned(),
        };
        format!("{role} {:?}", spec.owner)
    };
    match step {
        Move::Step(process, way) => {
            let node = automaton.node(state.processes[process as usize]);
            let op = node.op.expect("it has an access to make");
            let word = state.words[node.index as usize];
            format!(
                "{} in {:?}: {:?} {:x?}, there is {word:#x}{}",
                name(process),
                node.local.pc,
                op.spot,
                op.access,
                if way > 0 { " (another way)" } else { "" }
            )
        }
        Move::Crash(process) => format!("{} vanishes", name(process)),
        Move::Start(process) => format!("{} starts", name(process)),
        Move::Restart(process) => format!("{} comes back", name(process)),
        Move::Tick => format!("the clock goes to {}", state.ghost.now + 1),
    }
}

//! One operation after the other, one point after the other.

use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use ringway::Lease;
use serde::Serialize;

use super::board::{Board, Told};
use super::operations::{Expect, FAST, Operation, Role, SLOW, Stage};
use super::remains;
use super::scene::{Faults, Found, Scene, judge};
use super::tracee::{Step, Trace, Victim, breakpoint, trace};

/// How long the default run may take, all operations together, per worker.
const SECONDS: f64 = 15.0;

/// Points of an operation that are visited even if there is no time left.
const VISITS_MIN: usize = 32;

/// Instructions from which on an operation is traced only once.
const LONG: usize = 5_000;

/// What becomes of a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Killed at its point.
    Killed,
    /// Paused, while the witness goes on; then it goes on itself.
    Resumed,
    /// Paused until its lease is over; then it goes on.
    Raced,
}

/// What one operation came to: the line that is printed.
#[derive(Debug, Default, Serialize)]
struct Line {
    operation: &'static str,
    /// In a run of it, undisturbed.
    instructions: usize,
    /// Of those, at different addresses.
    addresses: usize,
    /// Victims killed.
    kill_points: usize,
    /// Of those, killed after the operation had returned.
    confirmed: usize,
    /// Different addresses they were killed at.
    killed_at: usize,
    /// Whether each of those addresses was visited.
    every_address: bool,
    /// Whether each point was: each instruction as often as it is run.
    every: bool,
    /// Times that it took another way than the one traced, and was over before its point.
    missed: usize,
    paused: usize,
    /// Of the paused: told that their lease is lost, though its time was not over.
    fenced: usize,
    raced: usize,
    nested: usize,
    #[serde(flatten)]
    faults: Faults,
    seconds: f64,
}

/// An operation at work.
struct Run {
    operation: Operation,
    scene: Scene,
    board: Board,
    line: Line,
    addresses: HashSet<u64>,
    serial: u64,
}

pub(crate) fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let listing = std::env::args().any(|arg| arg == "--list");
    if listing
        || !filters.is_empty() && !filters.iter().any(|filter| "every_instruction".contains(filter.as_str()))
    {
        return ExitCode::SUCCESS;
    }
    if let Err(why) = ptrace_works() {
        println!("EVERY_INSTRUCTION skipped: ptrace does not work here: {why}");
        return ExitCode::SUCCESS;
    }
    let only = std::env::var("EVERY_INSTRUCTION_ONLY").unwrap_or_default();
    let chosen =
        |operation: &&Operation| only.is_empty() || only.split(',').any(|name| name == operation.name);
    let operations: Vec<Operation> = FAST.iter().chain(&SLOW).filter(chosen).copied().collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(2).min(operations.len());
    let mut children = Vec::new();
    for worker in 0..workers {
        // SAFETY: the program has one thread.
        match unsafe { fork() }.expect("fork a worker") {
            ForkResult::Child => {
                stay_on_processor(worker);
                let mine: Vec<Operation> = operations.iter().skip(worker).step_by(workers).copied().collect();
                std::process::exit(i32::from(!work(&mine)));
            }
            ForkResult::Parent { child } => children.push(child),
        }
    }
    let ended: Vec<_> = children.into_iter().map(|child| (child, waitpid(child, None))).collect();
    if ended.into_iter().all(|(child, status)| status == Ok(WaitStatus::Exited(child, 0))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Keeps a worker and its victims on one processor: they take turns, and waking another processor costs more
/// than all the rest.
fn stay_on_processor(worker: usize) {
    // SAFETY: the set is a plain bit set, zeroed, and as long as stated.
    unsafe {
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&all), &raw mut all) == 0 {
            let allowed = |cpu: &usize| libc::CPU_ISSET(*cpu, &all);
            if let Some(cpu) = (0..libc::CPU_SETSIZE as usize).filter(allowed).nth(worker) {
                libc::CPU_SET(cpu, &mut one);
                // Where it is refused, it is merely slower.
                libc::sched_setaffinity(0, size_of_val(&one), &raw const one);
            }
        }
    }
}

fn ptrace_works() -> Result<(), String> {
    let victim = Victim::start(|| {
        breakpoint();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    })?;
    victim.steps(1, &|| false)?;
    victim.kill()
}

/// Whether all went well.
fn work(operations: &[Operation]) -> bool {
    let size = std::env::var("EVERY_INSTRUCTION").unwrap_or_default();
    let full = size == "full";
    let seconds = if full || size.is_empty() { SECONDS } else { size.parse().expect("`full`, or seconds") };
    let mut fine = true;
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    for (index, operation) in operations.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now()) / (operations.len() - index) as u32;
        let end = if full { None } else { Some(Instant::now() + left) };
        let mut run = Run::new(*operation);
        run.all_points(end);
        fine &= !run.line.faults.any();
        let line = serde_json::to_string(&run.line).expect("a line of numbers");
        // One call, so that the lines of two workers do not mix.
        let _ = std::io::stdout().write_all(format!("EVERY_INSTRUCTION {line}\n").as_bytes());
    }
    fine
}

impl Run {
    fn new(operation: Operation) -> Run {
        Run {
            operation,
            scene: Scene::new(),
            board: Board::new(),
            line: Line { operation: operation.name, ..Line::default() },
            addresses: HashSet::new(),
            serial: 0,
        }
    }

    /// Visits the points in an order that is spread out however early it ends.
    fn all_points(&mut self, end: Option<Instant>) {
        let start = Instant::now();
        let trace = match self.trace() {
            Ok(trace) => trace,
            Err(why) => return self.trouble(0, Fate::Killed, &why),
        };
        self.line.instructions = trace.len();
        self.line.addresses = trace.distinct();
        let points = trace.points();
        for (visit, point) in points.iter().copied().enumerate() {
            if end.is_some_and(|end| Instant::now() >= end && visit >= VISITS_MIN) {
                break;
            }
            let mut fates = vec![Fate::Killed];
            if end.is_none() || visit % 8 == 7 {
                fates.push(Fate::Resumed);
            }
            if self.operation.races && visit % if end.is_none() { 4 } else { 32 } == 3 {
                fates.push(Fate::Raced);
            }
            for fate in fates {
                self.point(&trace, point, fate, visit);
            }
            self.line.every = visit + 1 == points.len();
            self.line.every_address |= visit + 1 == trace.distinct() + 1;
        }
        self.line.killed_at = self.addresses.len();
        self.line.seconds = (start.elapsed().as_secs_f64() * 100.0).round() / 100.0;
    }

    /// Visits a point, counts what was wrong there.
    fn point(&mut self, trace: &Trace, point: usize, fate: Fate, visit: usize) {
        self.board.clear();
        match self.visit(trace, point, fate, visit) {
            Ok(faults) if faults.any() => {
                self.line.faults.add(&faults);
                eprintln!("EVERY_INSTRUCTION fault: {} {fate:?} at {point}: {faults:?}", self.operation.name);
            }
            Ok(_) => {}
            Err(why) => self.trouble(point, fate, &why),
        }
    }

    /// Something that ends the scene.
    fn trouble(&mut self, point: usize, fate: Fate, why: &str) {
        eprintln!("EVERY_INSTRUCTION error: {} {fate:?} at {point}: {why}", self.operation.name);
        self.line.faults.errors += 1;
        self.scene = Scene::new();
    }

    /// The longest of some traces: other positions and times of day may lead other ways.
    fn trace(&mut self) -> Result<Trace, String> {
        let mut longest: Option<Trace> = None;
        for _ in 0..3 {
            if longest.as_ref().is_some_and(|longest| longest.len() > LONG) {
                break;
            }
            self.board.clear();
            let messages = self.messages();
            let victim = self.start(&messages, self.lease(Fate::Killed), None)?;
            let board = self.board;
            let found = trace(&victim, &|| board.is_over())?;
            victim.kill()?;
            if board.told() != Told::Done {
                return Err(format!("undisturbed, it ends with {:?}", board.told()));
            }
            let faults = self.aftermath(&messages, Vec::new(), true, 1)?;
            if faults.any() {
                return Err(format!("undisturbed, it leaves {faults:?}"));
            }
            if longest.as_ref().is_none_or(|longest| longest.len() < found.len()) {
                longest = Some(found);
            }
        }
        longest.ok_or_else(|| unreachable!("traced above"))
    }

    /// Messages that have not been seen yet, as long as the operation wants them.
    fn messages(&mut self) -> Vec<Vec<u8>> {
        self.serial += 1;
        let many = match self.operation.expect {
            Expect::Published(many) => many,
            _ => usize::from(self.operation.given),
        };
        let large = self.operation.name.ends_with("large");
        let message = |index| {
            let mut message = format!("{} {} {index}", self.operation.name, self.serial).into_bytes();
            message.resize(if large { 600 } else { 48 }, b'.');
            message
        };
        (0..many).map(message).collect()
    }

    fn lease(&self, fate: Fate) -> Lease {
        let until_death = self.operation.role == Role::OnlyConsumer || self.operation.name.ends_with("death");
        match fate {
            Fate::Raced => Lease::Timed(Duration::from_millis(1)),
            _ if until_death => Lease::UntilDeath,
            _ => Lease::Timed(Duration::from_secs(60)),
        }
    }

    /// A victim in front of the operation. `before`: a message for the witness, published before it makes
    /// way.
    fn start(&mut self, messages: &[Vec<u8>], lease: Lease, before: Option<&[u8]>) -> Result<Victim, String> {
        let operation = self.operation;
        // So that the message is the last one of its eight. A producer publishes one before it.
        let publishes = matches!(operation.expect, Expect::Published(_)) && operation.name != "publish_first";
        self.scene.align(if publishes { 5 } else { 6 })?;
        if let Some(before) = before {
            self.scene.give(before)?;
        }
        self.scene.make_way(operation.role);
        if operation.expect == Expect::Recovered {
            self.scene.give(&messages[0])?;
            remains::leave_a_corpse(&self.scene.path, self.board)?;
            self.board.clear();
        }
        let stage =
            Stage { path: &self.scene.path, board: self.board, messages, lease, role: operation.role };
        let victim = Victim::start(|| operation.perform(stage))?;
        if operation.given && operation.expect != Expect::Recovered {
            self.scene.give(&messages[0])?;
            victim.run_on()?;
        }
        Ok(victim)
    }

    fn visit(&mut self, trace: &Trace, point: usize, fate: Fate, visit: usize) -> Result<Faults, String> {
        let messages = self.messages();
        let alone = self.operation.role == Role::OnlyProducer;
        let before = (fate == Fate::Resumed && alone).then(|| self.scene.own_message());
        let mut victim = self.start(&messages, self.lease(fate), before.as_deref())?;
        let board = self.board;
        let over = || board.is_over();
        let missed = trace.lead(&victim, point, &over)? == Step::Over && point < trace.len();
        self.line.missed += usize::from(missed);
        if missed && fate == Fate::Killed && point < LONG {
            // It took another way. Once more, by counting alone.
            victim.kill()?;
            self.aftermath(&messages, Vec::new(), true, 1)?;
            board.clear();
            victim = self.start(&messages, self.lease(fate), None)?;
            victim.steps(point, &over)?;
        }
        let mut faults = Faults::default();
        let mut found = Vec::new();
        let mut done = board.told() == Told::Done;
        match fate {
            Fate::Killed => {
                self.line.kill_points += 1;
                self.line.confirmed += usize::from(done);
                self.addresses.insert(victim.at()?);
            }
            Fate::Resumed => {
                self.line.paused += 1;
                faults.wedged += u64::from(!self.goes_on_beside(before.as_deref(), &mut found)?);
            }
            Fate::Raced => {
                self.line.raced += 1;
                self.outlast(&mut found)?;
            }
        }
        if fate != Fate::Killed && !done {
            victim.run_on()?;
            let taken = found.iter().any(|one| messages.contains(&one.payload));
            done = board.told() == Told::Done;
            let proper = match board.told() {
                Told::Done => true,
                Told::LeaseLost if fate == Fate::Raced => taken,
                // Between the two steps of giving a message back, it looks like a lease that is over.
                Told::LeaseLost => self.operation.races,
                Told::Empty => taken,
                Told::Nothing | Told::Refused => false,
            };
            faults.errors += u64::from(!proper);
            self.line.fenced += usize::from(fate == Fate::Resumed && board.told() == Told::LeaseLost);
        }
        victim.kill()?;
        if self.operation.expect == Expect::Recovered && visit % 2 == 1 {
            self.kill_another_recoverer(trace, point)?;
        }
        faults.add(&self.aftermath(&messages, found, done, visit)?);
        Ok(faults)
    }

    /// Whether the others go on beside a paused victim, as far as its role lets them.
    fn goes_on_beside(&mut self, before: Option<&[u8]>, found: &mut Vec<Found>) -> Result<bool, String> {
        match self.operation.role {
            Role::Shared => self.scene.goes_on(found),
            Role::OnlyProducer => self.scene.comes(before.unwrap_or_default(), found),
            Role::OnlyConsumer => {
                // Nobody but the victim can receive it.
                let payload = self.scene.own_message();
                self.scene.give(&payload).map(|()| true)
            }
        }
    }

    /// Waits until the paused victim's lease is over and its message is with the witness, or until it is
    /// settled.
    fn outlast(&mut self, found: &mut Vec<Found>) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_millis(60);
        while found.is_empty() && !self.scene.is_empty()? && Instant::now() < deadline {
            found.extend(self.scene.take()?);
        }
        Ok(())
    }

    /// Kills a second recoverer somewhere else in its work, before the witness recovers all of them.
    fn kill_another_recoverer(&mut self, trace: &Trace, point: usize) -> Result<(), String> {
        self.board.clear();
        let (board, operation) = (self.board, self.operation);
        let lease = self.lease(Fate::Killed);
        let stage = Stage { path: &self.scene.path, board, messages: &[], lease, role: operation.role };
        let victim = Victim::start(|| operation.perform(stage))?;
        trace.lead(&victim, point * 7 % trace.len(), &|| board.is_over())?;
        self.line.nested += 1;
        victim.kill()
    }

    /// What is left, and whether the world goes on.
    fn aftermath(
        &mut self,
        messages: &[Vec<u8>],
        mut found: Vec<Found>,
        done: bool,
        visit: usize,
    ) -> Result<Faults, String> {
        let by_hand = !visit.is_multiple_of(16);
        found.extend(self.scene.recover(by_hand)?);
        let enough = match self.operation.expect {
            Expect::Published(many) if done => many,
            Expect::Back { .. } | Expect::Dead | Expect::Recovered => 1,
            _ => 0,
        };
        let mut found = self.scene.drain(found, enough)?;
        found.retain(|one| !one.payload.starts_with(b"own "));
        let mut faults = self.judge(messages, &found, done);
        let mut late = Vec::new();
        faults.wedged += u64::from(!self.scene.goes_on(&mut late)?);
        faults.phantom += late.len() as u64;
        remains::can_be_used(self.operation.expect, &self.scene)?;
        for violation in self.scene.violations()? {
            eprintln!("EVERY_INSTRUCTION violation: {violation}");
            faults.violations += 1;
        }
        if faults.any() {
            eprintln!("EVERY_INSTRUCTION found: {found:?} of {} messages, done: {done}", messages.len());
        }
        Ok(faults)
    }

    fn judge(&self, messages: &[Vec<u8>], found: &[Found], done: bool) -> Faults {
        judge(self.operation.expect, messages, found, done)
    }
}

//! One operation after the other, one point after the other.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use ringway::{GroupOptions, Lease, Queue, Removal, Store, StoreError};
use serde::Serialize;

use super::board::{Board, Told};
use super::operations::{Expect, FAST, MADE, Operation, Role, SLOW, Stage, other_store};
use super::scene::{Faults, Found, Scene, judge};
use super::tracee::{Step, Trace, Victim, breakpoint, trace};

/// How long the default run may take, all operations together, per worker.
const SECONDS: f64 = 16.0;

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

pub fn main() -> ExitCode {
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

/// Keeps a worker and its victims on one processor: they take turns, and waking another processor costs more than all the rest.
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
        let points = points(&trace);
        for (visit, point) in points.iter().copied().enumerate() {
            if end.is_some_and(|end| Instant::now() >= end && visit >= 8) {
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

    /// A victim in front of the operation. `before`: a message for the witness, published before it makes way.
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
            leave_a_corpse(&self.scene.path, self.board)?;
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

    /// Waits until the paused victim's lease is over and its message is with the witness, or until it is settled.
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
        let by_hand = visit % 16 != 0;
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
        self.leftovers()?;
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

    /// What a killed maker or remover left can be used, or made anew, and removed; no temporary stays.
    fn leftovers(&mut self) -> Result<(), String> {
        let store = &self.scene.store;
        match self.operation.expect {
            Expect::Queue => {
                try_queue(store).map_err(|error| format!("the queue that was left: {error}"))?;
                store
                    .remove_queue(MADE, Removal::IfUnused)
                    .map_err(|error| format!("removing it: {error}"))?;
            }
            Expect::Group => {
                let queue = &self.scene.queue;
                match queue.add_group(MADE, GroupOptions::default()) {
                    Ok(()) | Err(StoreError::AlreadyExists { .. }) => {}
                    Err(error) => return Err(format!("adding the group: {error}")),
                }
                let consumer = queue.consumer(MADE).build();
                drop(consumer.map_err(|error| format!("consuming from the group that was left: {error}"))?);
                let removed = queue.remove_group(MADE, Removal::IfUnused);
                removed.map_err(|error| format!("removing the group: {error}"))?;
            }
            Expect::Store => {
                let path = other_store(&self.scene.path);
                let store =
                    Store::open_or_create(&path).map_err(|error| format!("the store left: {error}"))?;
                try_queue(&store).map_err(|error| format!("a queue in the store left: {error}"))?;
                store.repair().map_err(|error| format!("repairing the store left: {error}"))?;
                no_temporaries(&path)?;
                drop(store);
                Store::remove(&path).map_err(|error| format!("removing the store left: {error}"))?;
                if path.exists() {
                    return Err("a removed store's directory is still there".to_owned());
                }
            }
            _ => {}
        }
        self.scene.store.repair().map_err(|error| format!("repair: {error}"))?;
        no_temporaries(&self.scene.path)
    }
}

/// The points of an operation, in the order in which they are visited: behind its end; then every address the first time it is come to;
/// then all the rest. Each part is spread out, however early it ends.
fn points(trace: &Trace) -> Vec<usize> {
    let (first, rest): (Vec<usize>, Vec<usize>) = (0..trace.len()).partition(|index| trace.is_first(*index));
    let mut points = vec![trace.len()];
    for part in [first, rest] {
        let stride = coprime_stride(part.len());
        points.extend((0..part.len()).map(|visit| part[visit * stride % part.len()]));
    }
    points
}

/// A number near the golden section of `points` that has no divisor in common with it.
fn coprime_stride(points: usize) -> usize {
    let near = (points as f64 * 0.618) as usize;
    let gcd = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (near.max(1)..).find(|stride| gcd(*stride, points) == 1 || points == 0).unwrap_or(1)
}

/// A queue can be opened or made, and used.
fn try_queue(store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    let queue = Queue::options().capacity(1024).max_groups(2).open_or_create(store, MADE)?;
    queue.producer().build()?.publish("x")?;
    let consumer = queue.consumer("default").build()?;
    let delivery = consumer.receive_timeout(Duration::from_secs(5))?.ok_or("nothing is received")?;
    Ok(delivery.ack().map_err(|error| error.failure)?)
}

fn no_temporaries(store: &Path) -> Result<(), String> {
    for dir in [store.to_path_buf(), store.join("queues")] {
        for entry in std::fs::read_dir(&dir).map_err(|error| format!("list {}: {error}", dir.display()))? {
            let name = entry.map_err(|error| error.to_string())?.file_name();
            if name.to_string_lossy().starts_with(".new-") {
                return Err(format!("{name:?} is still there after a repair"));
            }
        }
    }
    Ok(())
}

/// A process that dies with a lease on the message given, a position half published, and a temporary file.
fn leave_a_corpse(path: &Path, board: Board) -> Result<(), String> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(|error| format!("fork: {error}"))? {
        ForkResult::Child => {
            // SAFETY: all processes of this test keep to the protocol.
            let store =
                unsafe { Store::options().trust_peers() }.open(path).expect("the corpse opens the store");
            let queue = store.queue(super::operations::QUEUE).expect("the corpse opens the queue");
            let consumer = queue.consumer("default").lease(Lease::UntilDeath).build().expect("a consumer");
            let delivery = consumer.receive_timeout(Duration::from_secs(5)).expect("receive");
            let producer = queue.producer().build().expect("a producer");
            let loan = producer.loan(10).expect("a loan");
            std::fs::write(path.join("queues/.new-1-corpse"), [0; 10]).expect("write");
            board.tell(if delivery.is_some() { Told::Done } else { Told::Empty });
            std::mem::forget((delivery, loan));
            // SAFETY: ends the process without destructors.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).map_err(|error| format!("waitpid: {error}"))?;
            if board.told() == Told::Done { Ok(()) } else { Err("the corpse got no message".to_owned()) }
        }
    }
}

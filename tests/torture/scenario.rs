//! One scenario: a queue, a fleet at work on it, and a seeded course of kills and pauses; then the
//! queue is drained, verified, and the history checked.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ringway::{Queue, QueueInfo, Store};
use tempfile::TempDir;

use crate::clock::{Rng, now};
use crate::fleet::{Fleet, Home, with_precedence};
use crate::history::{History, Nanos};
use crate::job::Role;
use crate::log::{Command, Stage};
use crate::plan::{CAPACITY, MAX_MESSAGE, Plan};
use crate::warden;
use crate::watch::{PATIENCE, Standstill, Watch};

const QUEUE: &str = "orders";
const MILLI: Nanos = 1_000_000;
/// Time from one action to the next: whatever takes longer than a few milliseconds is hit in all
/// its parts, and so is what takes microseconds.
const GAP: (Nanos, Nanos) = (50_000, 30 * MILLI);
/// How long an orderly end may take.
const ORDERLY: Nanos = 5_000 * MILLI;

/// What a scenario came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) history: History,
    pub(crate) kills: u64,
    pub(crate) pauses: u64,
    pub(crate) messages: u64,
    /// What `verify` and the last look at the queue found wrong.
    pub(crate) violations: Vec<String>,
}

struct Scenario {
    fleet: Fleet,
    rng: Rng,
    plan: Plan,
    watch: Watch,
    /// When the stopped processes go on, by place.
    wakings: Vec<(Nanos, usize)>,
    stalls: Vec<String>,
}

/// Runs a scenario of this many kills, or until then, in an empty directory.
pub(crate) fn run(
    plan: Plan,
    (kills, last): (u64, Instant),
    mut rng: Rng,
    directory: &Path,
) -> Result<Outcome, String> {
    // Of a durable store: its journal, on a disk, as long as the scenario runs.
    let disk = match std::env::var_os("TORTURE_DURABLE") {
        Some(_) => Some(tempfile::tempdir().map_err(|error| format!("making a directory: {error}"))?),
        None => None,
    };
    let home = prepare(&plan, directory, disk.as_ref().map(TempDir::path))?;
    let fleet = Fleet::new(home.clone(), plan.places.clone(), Rng::new(rng.next()));
    let mut scenario =
        Scenario { fleet, rng, plan, watch: Watch::new(), wakings: Vec::new(), stalls: Vec::new() };
    for place in 0..scenario.fleet.places().len() {
        scenario.fleet.start(place)?;
    }
    with_precedence(|| {
        while scenario.fleet.kills < kills && Instant::now() < last && scenario.going() {
            let gap = scenario.rng.spread(GAP.0, GAP.1);
            scenario.pass(gap)?;
            scenario.act()?;
        }
        Ok::<(), String>(())
    })?;
    scenario.finish(&home)
}

/// Makes the store, the queue and its groups, and has none of them open afterwards.
fn prepare(plan: &Plan, directory: &Path, disk: Option<&Path>) -> Result<Home, String> {
    let home = Home {
        store: directory.join("store"),
        queue: QUEUE.to_owned(),
        logs: directory.join("logs"),
        trust: plan.trust,
    };
    fs::create_dir(&home.logs).map_err(|error| format!("making {}: {error}", home.logs.display()))?;
    let store = match disk {
        None => Store::create(&home.store),
        // Short segments, so that their ends are met often.
        Some(disk) => Store::options()
            .durable(disk.join("journal"))
            .durable_options(|options| options.segment_len = 8 << 20)
            .create(&home.store),
    };
    let store = store.map_err(|error| format!("creating the store: {error}"))?;
    let options = Queue::options().capacity(CAPACITY).slot_size(plan.slot_size).max_message(MAX_MESSAGE);
    let queue = options.default_group(plan.groups[0].0).create(&store, QUEUE);
    let queue = queue.map_err(|error| format!("creating the queue: {error}"))?;
    for (options, group) in &plan.groups[1..] {
        queue.add_group(&group.name, *options).map_err(|error| format!("adding a group: {error}"))?;
    }
    Ok(home)
}

impl Scenario {
    fn going(&self) -> bool {
        self.stalls.is_empty() && !self.fleet.crashed()
    }

    /// Lets this much time pass, in which processes go on, leave and are replaced.
    fn pass(&mut self, time: Nanos) -> Result<(), String> {
        let until = now() + time;
        loop {
            self.tend()?;
            let time = now();
            if time >= until || !self.going() {
                return Ok(());
            }
            let next = self.wakings.iter().map(|&(at, _)| at).min().unwrap_or(until).min(until);
            thread::sleep(Duration::from_nanos(next.saturating_sub(time).clamp(1000, MILLI)));
        }
    }

    /// What has to be done all the time: wake, replace who left, see that there is progress.
    fn tend(&mut self) -> Result<(), String> {
        let time = now();
        for (_, place) in self.wakings.extract_if(.., |&mut (at, _)| at <= time).collect::<Vec<_>>() {
            self.fleet.resume(place)?;
        }
        for place in self.fleet.reap()? {
            self.fleet.start(place)?;
        }
        if let Some(stall) = self.watch.look(&self.fleet) {
            self.stalls.push(format!("{stall}\n{}", self.fleet.describe()));
        }
        Ok(())
    }

    fn any(&mut self) -> usize {
        self.rng.below(self.fleet.places().len() as u64) as usize
    }

    /// One action.
    fn act(&mut self) -> Result<(), String> {
        if self.rng.chance(self.plan.pause_permille) {
            return self.pause();
        }
        match self.rng.below(100) {
            0..70 => {
                let victim = self.any();
                self.fleet.replace(&[victim])
            }
            70..80 => self.burst(),
            80..92 => self.chase(),
            _ => self.cascade(),
        }
    }

    fn pause(&mut self) -> Result<(), String> {
        let victim = self.any();
        let time = self.rng.spread(100_000, self.plan.pause_us * 1000);
        self.fleet.pause(victim)?;
        self.wakings.push((now() + time, victim));
        Ok(())
    }

    /// Several at nearly the same time.
    fn burst(&mut self) -> Result<(), String> {
        let victims: Vec<usize> = (0..self.rng.between(2, 4)).map(|_| self.any()).collect();
        if self.rng.chance(500) {
            return self.fleet.replace(&victims);
        }
        for victim in victims {
            self.fleet.replace(&[victim])?;
            self.linger(1_000, 300_000);
        }
        Ok(())
    }

    /// The one that takes a dead one's place, while it opens the store and may have to recover its
    /// predecessor; then the next one.
    fn chase(&mut self) -> Result<(), String> {
        let victim = self.any();
        self.fleet.replace(&[victim])?;
        for _ in 0..self.rng.between(1, 3) {
            let since = now();
            let started = |fleet: &Fleet| fleet.at(victim).is_none_or(|w| w.log.stage() > Stage::Started);
            while !started(&self.fleet) && now() - since < 20 * MILLI {
                thread::sleep(Duration::from_micros(20));
            }
            self.linger(10_000, MILLI);
            self.fleet.replace(&[victim])?;
        }
        Ok(())
    }

    /// A whole role, one after the other: whoever is recovering the first of them is among the rest.
    fn cascade(&mut self) -> Result<(), String> {
        let consumers = self.rng.chance(700);
        let alike = |role: &Role| matches!(role, Role::Consumer(_)) == consumers;
        let places = self.fleet.places().iter().enumerate();
        let mut victims: Vec<usize> =
            places.filter(|(_, place)| alike(&place.role)).map(|(place, _)| place).collect();
        while !victims.is_empty() {
            let next = self.rng.below(victims.len() as u64) as usize;
            self.fleet.replace(&[victims.swap_remove(next)])?;
            self.linger(100_000, 3 * MILLI);
        }
        Ok(())
    }

    /// A short time in which nothing is looked after.
    fn linger(&mut self, least: Nanos, most: Nanos) {
        thread::sleep(Duration::from_nanos(self.rng.spread(least, most)));
    }

    /// No more kills: producers leave, consumers empty the queue, everybody leaves.
    fn finish(mut self, home: &Home) -> Result<Outcome, String> {
        for (_, place) in std::mem::take(&mut self.wakings) {
            self.fleet.resume(place)?;
        }
        self.fleet.stop_forking();
        let store = Store::open(&home.store).map_err(|error| format!("opening the store: {error}"))?;
        let queue = store.queue(&home.queue).map_err(|error| format!("opening the queue: {error}"))?;
        self.leave(&queue, |role| matches!(role, Role::Producer(_)))?;
        let drained = self.going() && self.drain(&queue)?;
        self.leave(&queue, |_| true)?;
        let messages = self.fleet.progress().1;
        let (kills, pauses) = (self.fleet.kills, self.fleet.pauses);
        let processes = self.fleet.history()?;
        let mut history = History { groups: Vec::new(), processes, stalls: self.stalls };
        for (_, mut group) in self.plan.groups {
            let letters =
                queue.dead(&group.name).map_err(|error| format!("listing dead letters: {error}"))?;
            group.dead = letters.iter().map(warden::dead).collect();
            group.drained = drained;
            history.groups.push(group);
        }
        let mut violations = verify(&queue)?;
        if drained {
            violations.extend(left_over(&store, &queue)?);
        }
        Ok(Outcome { history, kills, pauses, messages, violations })
    }

    /// Tells some to leave and waits until they have.
    fn leave(&mut self, queue: &Queue, whom: impl Fn(&Role) -> bool) -> Result<(), String> {
        self.fleet.order(Command::Leave, |place| whom(&place.role));
        let mut standstill = Standstill::new(0);
        loop {
            for place in self.fleet.reap()? {
                let asked = whom(&self.fleet.places()[place].role);
                if !asked {
                    self.fleet.start(place)?;
                }
            }
            let staying =
                |place: usize| whom(&self.fleet.places()[place].role) && self.fleet.at(place).is_some();
            if !(0..self.fleet.places().len()).any(staying) {
                return Ok(());
            }
            if standstill.exceeds(0, ORDERLY, &self.fleet) {
                self.stall("told to leave, some did not within 5 s", queue)?;
                return Ok(());
            }
            thread::sleep(Duration::from_micros(300));
        }
    }

    /// Waits until nothing is left to do; false if that doesn't come to pass.
    fn drain(&mut self, queue: &Queue) -> Result<bool, String> {
        let mut standstill = Standstill::new(0);
        loop {
            for place in self.fleet.reap()? {
                if !matches!(self.fleet.places()[place].role, Role::Producer(_)) {
                    self.fleet.start(place)?;
                }
            }
            if self.fleet.crashed() {
                return Ok(false);
            }
            if empty(&info(queue)?) {
                return Ok(true);
            }
            if standstill.exceeds(self.fleet.progress().0, PATIENCE, &self.fleet) {
                self.stall("the queue is not empty, and nobody has received anything for 1 s", queue)?;
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn stall(&mut self, what: &str, queue: &Queue) -> Result<(), String> {
        let state = format!("{:?}", info(queue)?);
        self.stalls.push(format!("{what}\n{}\n  {state}", self.fleet.describe()));
        Ok(())
    }
}

fn info(queue: &Queue) -> Result<QueueInfo, String> {
    queue.info().map_err(|error| format!("asking for the queue's state: {error}"))
}

fn empty(info: &QueueInfo) -> bool {
    let idle = |group: &ringway::GroupInfo| group.ready + group.retrying + group.leased == 0;
    info.unfinished == 0 && info.groups.iter().all(idle)
}

/// What the file shows when nobody works on it any more.
fn verify(queue: &Queue) -> Result<Vec<String>, String> {
    let report = queue.verify().map_err(|error| format!("verifying: {error}"))?;
    Ok(report.violations.iter().map(|found| format!("{}: {}", found.place, found.what)).collect())
}

/// What is there although everybody has gone and nothing was left to do.
fn left_over(store: &Store, queue: &Queue) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let repaired = store.repair().map_err(|error| format!("repairing: {error}"))?;
    if repaired.voided + repaired.returned + repaired.dead_lettered + repaired.expired > 0 {
        wrong.push(format!("the drained queue still had work of the dead: {repaired:?}"));
    }
    let others = store.participants().into_iter().filter(|participant| !participant.me);
    wrong.extend(others.map(|other| format!("still attached after everybody has gone: {other:?}")));
    let info = info(queue)?;
    let users = info.producers + info.groups.iter().map(|group| group.consumers).sum::<u32>();
    let roles = info.groups.iter().filter_map(|group| group.exclusive_consumer.as_ref());
    let roles = roles.chain(&info.exclusive_producer).count();
    let dead: u64 = info.groups.iter().map(|group| group.dead).sum();
    if users > 0 || roles > 0 || info.occupied > dead {
        wrong.push(format!("left over: {info:?}"));
    }
    Ok(wrong)
}

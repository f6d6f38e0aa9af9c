//! Recovery: how soon the work of a process that was killed is handed out again.
//!
//! A holder publishes messages, leases them all until its death, and gets a SIGKILL. Before, a consumer began
//! to wait, to which they come back. A third process kills, on the holder's processor, and looks at what
//! everybody can see: whether the holder's lock is held still. What is before that is the kernel's, which
//! has a process to take apart; from then on it is the queue's: a waiting consumer has to come by, to find
//! the dead one, and to go through all slots for it.
//!
//! Then the same again with nobody waiting, and the work is given back by hand: that shows how long the way
//! through the slots is.
//!
//! A run is one death in a store of its own, so percentiles are over the runs.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::Duration;

use ringway::Store;
use ringway_measure::{Child, Error, Latency, Result, Tally, Words, fill, id, join_all, now_ns, spawn};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::case::{Amount, Case};
use super::figures::{Figures, Percentiles};
use super::place::{Stand, group_name};
use super::run::{HANGS, Run, Watch, settle_down};

const QUEUE: &str = "recovery";

/// The processes, by whose processor they run on: the killer runs where the holder did.
const HOLDER: usize = 0;
const WAITER: usize = 1;

/// From when the consumer waits to the kill, at least; at most twice as long, so that the kill comes at any
/// moment between two sweeps.
const CALM: Duration = Duration::from_millis(20);

/// Between two looks whether another process is ready.
const LOOK: Duration = Duration::from_micros(200);

/// How long nothing comes before what has not come is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between words of different processes: a pair of cache lines.
const APART: usize = 16;

/// Nanoseconds of one death.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    kill_to_free: u64,
    free_to_first: u64,
    free_to_all: u64,
    repair: u64,
}

/// The times of all runs.
#[derive(Debug, Clone, Default)]
pub(super) struct AllTimes {
    kill_to_free: Figures,
    free_to_first: Figures,
    free_to_all: Figures,
    repair: Figures,
}

/// Those times as figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Recovery {
    /// Messages that the dead process held.
    pub(super) in_flight: u64,
    /// From the kill until the kernel has freed the holder's lock.
    pub(super) kill_to_free: Percentiles,
    /// From then until the waiting consumer has the first message.
    pub(super) free_to_first: Percentiles,
    /// From then until it has the last one, all others acked.
    pub(super) free_to_all: Percentiles,
    /// `Store::repair` with nobody waiting.
    pub(super) repair: Percentiles,
}

impl AllTimes {
    pub(super) fn add(&mut self, run: &Times) {
        for (figures, ns) in [
            (&mut self.kill_to_free, run.kill_to_free),
            (&mut self.free_to_first, run.free_to_first),
            (&mut self.free_to_all, run.free_to_all),
            (&mut self.repair, run.repair),
        ] {
            figures.add(&one(ns));
        }
    }

    pub(super) fn figures(&self, case: &Case) -> Recovery {
        Recovery {
            in_flight: in_flight(case),
            kill_to_free: self.kill_to_free.pooled(),
            free_to_first: self.free_to_first.pooled(),
            free_to_all: self.free_to_all.pooled(),
            repair: self.repair.pooled(),
        }
    }
}

fn one(ns: u64) -> Latency {
    let mut latency = Latency::new();
    latency.record(ns);
    latency
}

/// Messages that the holder leases.
fn in_flight(case: &Case) -> u64 {
    match case.amount {
        Amount::Messages(messages) => messages,
        Amount::Time(_) | Amount::Watch { .. } => 0,
    }
}

pub(super) fn run(watch: &Watch<'_>, case: &Case) -> Result<Run> {
    let stand = watch.place.stand(case, &[QUEUE])?;
    let scene = Scene { case, stand: &stand, words: Words::new(4 * APART)? };
    let holder = spawn(|| scene.hold(scene.first_held()))?;
    let victim = holder.pid();
    let killer = spawn(|| scene.kill(victim))?;
    let waiter = spawn(|| scene.wait())?;
    let told = scene.join(watch, holder, scene.first_held(), vec![killer, waiter])?;
    let [Told::Killed { at_ns, freed_ns }, Told::Waited { first_ns, last_ns, tally }] = &told[..] else {
        return Err(Error::new("a process told what was not asked"));
    };
    // Again, with nobody waiting.
    let holder = spawn(|| scene.hold(scene.second_held()))?;
    let victim = holder.pid();
    let mender = spawn(|| scene.mend(victim))?;
    let told_last = scene.join(watch, holder, scene.second_held(), vec![mender])?;
    let [Told::Mended { took_ns }] = told_last[..] else {
        return Err(Error::new("a process told what was not asked"));
    };
    // The killer shares a processor with the dying one, and may come to look a little late.
    let since = |ns: u64| ns.saturating_sub(*freed_ns).max(1);
    let times = Times {
        kill_to_free: freed_ns - at_ns,
        free_to_first: since(*first_ns),
        free_to_all: since(*last_ns),
        repair: took_ns,
    };
    let faults = tally.faults(&Tally::of_published(&[in_flight(case)]));
    Ok(Run { latency: Some(one(times.free_to_first)), recovery: Some(times), faults, ..Run::default() })
}

/// What a process tells at its end.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Killed { at_ns: u64, freed_ns: u64 },
    Waited { first_ns: u64, last_ns: u64, tally: Tally },
    Mended { took_ns: u64 },
}

/// What the processes of a run share.
struct Scene<'a> {
    case: &'a Case,
    stand: &'a Stand,
    words: Words,
}

impl Scene<'_> {
    /// Set when the first holder has leased all.
    fn first_held(&self) -> &AtomicU64 {
        &self.words[0]
    }

    /// Set when the second one has.
    fn second_held(&self) -> &AtomicU64 {
        &self.words[APART]
    }

    /// Set when the consumer is about to wait.
    fn waiting(&self) -> &AtomicU64 {
        &self.words[2 * APART]
    }

    /// The holder: publishes and leases, and waits for its end.
    fn hold(&self, held: &AtomicU64) -> Result<()> {
        settle_down(self.case, HOLDER)?;
        let queue = self.stand.store(self.case)?.queue(QUEUE)?;
        let count = usize::try_from(in_flight(self.case))?;
        let (producer, consumer) = (queue.producer().build()?, queue.consumer(&group_name(0)));
        let consumer = consumer.lease(self.case.lease).max_in_flight(count).build()?;
        let mut payload = vec![0; self.case.payload];
        for number in 0..count {
            fill(&mut payload, id(0, number as u64));
            producer.publish(&payload[..]).map_err(|error| error.into_failure())?;
        }
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            if consumer.receive_batch_into(&mut deliveries, count, Duration::ZERO)? == 0 {
                return Err(Error::new(format!("{} of {count} messages could be leased", deliveries.len())));
            }
        }
        held.store(1, Release);
        loop {
            thread::park();
        }
    }

    /// The consumer that gets them back.
    fn wait(&self) -> Result<Told> {
        settle_down(self.case, WAITER)?;
        until(self.first_held());
        let consumer = self.stand.consumer(self.case, QUEUE, 0)?;
        let mut tally = Tally::new(1);
        let (mut first_ns, mut last_ns) = (0, 0);
        self.waiting().store(1, Release);
        while tally.count() < in_flight(self.case) {
            let Some(delivery) = consumer.receive_timeout(PATIENCE)? else { break };
            last_ns = now_ns();
            if first_ns == 0 {
                first_ns = last_ns;
            }
            tally.take(delivery.payload());
            delivery.ack().map_err(|error| error.into_failure())?;
        }
        // One too many would be there by now.
        while let Some(delivery) = consumer.try_receive()? {
            tally.take(delivery.payload());
            delivery.ack().map_err(|error| error.into_failure())?;
        }
        Ok(Told::Waited { first_ns, last_ns, tally })
    }

    /// Kills the holder when the consumer waits.
    fn kill(&self, victim: u32) -> Result<Told> {
        settle_down(self.case, HOLDER)?;
        let store = self.stand.store(self.case)?;
        until(self.waiting());
        let (at_ns, freed_ns) = strike(&store, victim)?;
        Ok(Told::Killed { at_ns, freed_ns })
    }

    /// Kills the holder and gives back its work by hand.
    fn mend(&self, victim: u32) -> Result<Told> {
        settle_down(self.case, WAITER)?;
        // Mapped before, as it is in a process that receives from it.
        let store = self.stand.store(self.case)?;
        let _queue = store.queue(QUEUE)?;
        until(self.second_held());
        strike(&store, victim)?;
        let from_ns = now_ns();
        let report = store.repair()?;
        let took_ns = now_ns() - from_ns;
        if report.returned != in_flight(self.case) {
            let returned = report.returned;
            return Err(Error::new(format!("{returned} of {} messages came back", in_flight(self.case))));
        }
        Ok(Told::Mended { took_ns })
    }

    /// Waits for all but the holder, which is killed meanwhile. It fails if the holder ends before it holds
    /// anything.
    fn join(
        &self,
        watch: &Watch<'_>,
        mut holder: Child<()>,
        held: &AtomicU64,
        others: Vec<Child<Told>>,
    ) -> Result<Vec<Told>> {
        let ready = || held.load(Acquire) != 0;
        join_all(others, HANGS, || {
            watch.interrupt.check()?;
            match holder.try_join(Duration::ZERO).filter(|_| !ready()) {
                Some(Err(error)) => Err(error.about("the holder")),
                _ => Ok(()),
            }
        })
    }
}

/// Kills a process, and waits until the kernel has freed the lock that shows it alive. When these two were.
fn strike(store: &Store, victim: u32) -> Result<(u64, u64)> {
    thread::sleep(CALM + Duration::from_nanos(now_ns() % CALM.as_nanos() as u64));
    let lives = || store.participants().iter().any(|other| other.pid == victim && other.alive);
    if !lives() {
        return Err(Error::new("the holder is dead before it was killed"));
    }
    let pid = i32::try_from(victim)?;
    let pid = Pid::from_raw(pid).ok_or_else(|| Error::new("no process has number 0"))?;
    let at_ns = now_ns();
    kill_process(pid, Signal::KILL).map_err(std::io::Error::from)?;
    while lives() {
        // To the dying one, if it shares this processor.
        thread::yield_now();
    }
    Ok((at_ns, now_ns()))
}

/// Until another process has set it, without keeping its processor from it.
fn until(word: &AtomicU64) {
    while word.load(Acquire) == 0 {
        thread::sleep(LOOK);
    }
}

//! One run of one peer in one workload, as the parent leads it.
//!
//! The participants are forked processes, or threads of one forked process, each pinned to a processor, in
//! turn. Nothing is waited for without an end: who does not get on is killed. Waiting is counted in naps and
//! not by a clock, so that a machine that stands still for a while does not make a peer look stalled.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use ringway_measure::{Child, Error, Faults, Latency, Tally, pin, spawn};

use super::control::{Control, Phase, Place};
use super::peer::{Pace, Peer, Setup};
use super::workload::{Kind, Part, Timing, Workload, consume, echo, ping, produce};
use crate::interrupt;

/// How long the parent sleeps between two looks.
const NAP: Duration = Duration::from_millis(1);

/// Naps until the participants have made their ends. Some libraries take their time.
const ATTACH_NAPS: u32 = 30_000;

/// Naps without any message, until a peer counts as stalled.
const STALL_NAPS: u32 = 4_000;

/// Naps in which the first lap is waited for.
const LAP_NAPS: u32 = 3_000;

/// Naps until a peer counts as stalled though there are messages.
const LONGEST_NAPS: u32 = 10 * STALL_NAPS;

/// A run to do.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is measured.
    pub workload: Workload,
    /// Messages per call.
    pub batch: usize,
    /// How long.
    pub timing: Timing,
    /// An empty directory in shared memory.
    pub dir: PathBuf,
    /// Unique on this machine.
    pub name: String,
    /// The processors to pin to, in turn.
    pub cpus: Vec<usize>,
}

/// What came of it.
#[derive(Debug)]
pub enum Ended {
    /// It was measured.
    Measured(Measured),
    /// It stood still, and was ended.
    Stalled,
}

/// The figures of a run.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// What was measured.
    pub figure: Figure,
    /// What was wrong with the messages.
    pub faults: Faults,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub enum Figure {
    /// Nanoseconds of a round trip.
    RoundTrip {
        /// The median.
        p50: f64,
        /// 99 % took no longer.
        p99: f64,
        /// 99.9 % took no longer.
        p99_9: f64,
        /// The longest.
        max: f64,
    },
    /// Messages per second.
    Stream(f64),
}

impl Figure {
    /// The figure that is compared with others'.
    pub fn main(self) -> f64 {
        match self {
            Figure::RoundTrip { p50, .. } => p50,
            Figure::Stream(rate) => rate,
        }
    }
}

/// How many messages have room, the same for all. 1,024 is the least that Ringway can be made for.
pub fn capacity(payload: usize) -> usize {
    match payload {
        0..=64 => 16_384,
        65..=1024 => 2_048,
        _ => 1_024,
    }
}

impl Case {
    fn parties(&self) -> usize {
        match self.workload.kind {
            Kind::RoundTrip => 2,
            Kind::Stream => self.workload.producers + self.workload.consumers,
        }
    }

    fn setup(&self, suffix: &str) -> Setup {
        let Workload { consumers, payload, .. } = self.workload;
        let own_processors = self.parties() <= self.cpus.len();
        Setup {
            dir: self.dir.clone(),
            name: format!("{}{suffix}", self.name),
            payload,
            capacity: capacity(payload),
            consumers,
            batch: self.batch,
            pace: if own_processors { Pace::Spin } else { Pace::Yield },
        }
    }
}

/// Runs a peer.
pub fn run<P: Peer>(case: &Case) -> Result<Ended> {
    // One queue for each way.
    let suffixes: &[&str] = if case.workload.kind == Kind::RoundTrip { &["a", "b"] } else { &["a"] };
    let queues = suffixes.iter().map(|suffix| P::create(&case.setup(suffix))).collect::<Result<_>>()?;
    let control = Control::new(case.parties()).map_err(explain)?;
    let shared = Arc::new(Shared::<P> { queues, control, case: case.clone() });
    let mut children: Vec<Child<Vec<Part>>> = Vec::new();
    if P::THREADS {
        children.push(spawn(|| as_threads(&shared)).map_err(explain)?);
    } else {
        for party in 0..case.parties() {
            children.push(spawn(|| Ok(vec![shared.take_part(party).map_err(tell)?])).map_err(explain)?);
        }
    }
    // On the way out of here children that still run are killed first, then the queues are cleared away.
    lead(case, &shared.control, children)
}

/// What the participants have in common.
struct Shared<P> {
    queues: Vec<P>,
    control: Control,
    case: Case,
}

impl<P: Peer> Shared<P> {
    /// A participant's life.
    fn take_part(&self, party: usize) -> Result<Part> {
        let Shared { queues, control, case } = self;
        pin(case.cpus[party % case.cpus.len()]).map_err(explain)?;
        let workload = &case.workload;
        match (workload.kind, &queues[..]) {
            (Kind::RoundTrip, [there, back]) if party == 0 => ping(there, back, control, case.timing),
            (Kind::RoundTrip, [there, back]) => echo(there, back, control),
            (Kind::Stream, [queue]) if party < workload.producers => produce(queue, control, workload, party),
            (Kind::Stream, [queue]) => consume(queue, control, workload, party - workload.producers),
            _ => bail!("a round trip has two queues, a stream has one"),
        }
    }
}

/// The participants as threads of this process, which ends with the first error: then the other threads would
/// wait for ever.
fn as_threads<P: Peer>(shared: &Arc<Shared<P>>) -> ringway_measure::Result<Vec<Part>> {
    let (tell_result, results) = mpsc::channel();
    for party in 0..shared.case.parties() {
        let (shared, tell_result) = (shared.clone(), tell_result.clone());
        thread::spawn(move || {
            let lived = panic::catch_unwind(AssertUnwindSafe(|| shared.take_part(party)));
            let lived = lived.unwrap_or_else(|_| Err(anyhow!("thread {party} panicked")));
            // Nobody listens any more if another one was first to fail.
            let _ = tell_result.send(lived);
        });
    }
    drop(tell_result);
    results.into_iter().map(|result| result.map_err(tell)).collect()
}

/// The parent's part.
fn lead(case: &Case, control: &Control, children: Vec<Child<Vec<Part>>>) -> Result<Ended> {
    let mut run = Led { case, control, children, parts: Vec::new() };
    Ok(match run.lead()? {
        Some(figure) => Ended::Measured(Measured { figure, faults: run.faults()? }),
        None => Ended::Stalled,
    })
}

/// A run that is being led.
struct Led<'r> {
    case: &'r Case,
    control: &'r Control,
    children: Vec<Child<Vec<Part>>>,
    parts: Vec<Part>,
}

impl Led<'_> {
    /// From the beginning to the end; `None` if it stalled.
    fn lead(&mut self) -> Result<Option<Figure>> {
        let (parties, Workload { kind, producers, consumers, .. }) =
            (self.case.parties(), self.case.workload);
        if !self.watch(ATTACH_NAPS, |control| control.arrived(Place::Ready) == parties)? {
            return Ok(None);
        }
        self.control.enter(Phase::Run);
        let mut rate = None;
        if kind == Kind::Stream {
            rate = self.rate()?;
            if rate.is_none() {
                return Ok(None);
            }
            self.control.enter(Phase::Drain);
            if !self.watch(STALL_NAPS, |control| control.arrived(Place::Draining) == consumers)? {
                return Ok(None);
            }
            self.control.enter(Phase::Stop);
            if !self.watch(STALL_NAPS, |control| control.arrived(Place::Sent) == producers)? {
                return Ok(None);
            }
        }
        let last = if kind == Kind::Stream { consumers } else { parties };
        if !self.watch(STALL_NAPS, |control| control.arrived(Place::Received) == last)? {
            return Ok(None);
        }
        self.control.enter(Phase::End);
        if !self.watch(STALL_NAPS, |_| false)? {
            return Ok(None);
        }
        self.figure(rate).map(Some)
    }

    /// Messages per second, as seen from outside.
    fn rate(&mut self) -> Result<Option<f64>> {
        let receivers = self.case.workload.producers..self.case.parties();
        let Timing { warm_up, first_messages, measure } = self.case.timing;
        thread::sleep(warm_up);
        // A peer that takes longer than that for a lap has other worries than new pages.
        self.watch_for(STALL_NAPS, LAP_NAPS, |control| control.total(receivers.clone()) >= first_messages)?;
        let (start, before) = (Instant::now(), self.control.total(receivers.clone()));
        thread::sleep(measure);
        // On a busy machine no receiver may have had its turn in that time: then it lasts until one has.
        self.watch(STALL_NAPS, |control| control.total(receivers.clone()) > before)?;
        let (took, after) = (start.elapsed(), self.control.total(receivers));
        Ok((after > before).then(|| (after - before) as f64 / took.as_secs_f64()))
    }

    /// Waits until that is so, or all participants have ended; `false` if no message moves for so many naps.
    ///
    /// # Errors
    ///
    /// The first of any participant.
    fn watch(&mut self, naps: u32, there: impl Fn(&Control) -> bool) -> Result<bool> {
        self.watch_for(naps, naps.max(LONGEST_NAPS), there)
    }

    /// As `watch`, and for at most so many naps in all.
    fn watch_for(&mut self, naps: u32, longest: u32, there: impl Fn(&Control) -> bool) -> Result<bool> {
        let (mut idle, mut all, mut seen) = (0, 0, 0);
        while idle < naps && all < longest {
            if there(self.control) || self.children.is_empty() {
                return Ok(true);
            }
            interrupt::check()?;
            thread::sleep(NAP);
            let total = self.control.total(0..self.case.parties());
            (idle, all, seen) = (if total == seen { idle + 1 } else { 0 }, all + 1, total);
            let mut running = Vec::new();
            for mut child in self.children.drain(..) {
                match child.try_join(Duration::ZERO) {
                    Some(result) => self.parts.extend(result.map_err(explain)?),
                    None => running.push(child),
                }
            }
            self.children = running;
        }
        Ok(false)
    }

    fn figure(&self, rate: Option<f64>) -> Result<Figure> {
        let trips = self.parts.iter().find_map(|part| match part {
            Part::Trips(latency, ..) => Some(latency),
            _ => None,
        });
        match (rate, trips) {
            (Some(rate), None) => Ok(Figure::Stream(rate)),
            (None, Some(latency)) => Ok(round_trip(latency)),
            _ => bail!("a participant ended too early"),
        }
    }

    /// What was wrong with the messages.
    fn faults(&self) -> Result<Faults> {
        let Workload { producers, .. } = self.case.workload;
        let (mut sent, mut received) = (Vec::new(), Tally::new(producers));
        for part in &self.parts {
            match part {
                Part::Sent | Part::Echoed => {}
                Part::Received(tally) => received.merge(tally),
                Part::Trips(_, begun, tally) => {
                    sent = vec![*begun];
                    received.merge(tally);
                }
            }
        }
        if self.case.workload.kind == Kind::Stream {
            // By its number: participants end in any order.
            let count = |producer| self.control.total(producer..producer + 1);
            sent = (0..producers).map(count).collect();
        }
        if sent.len() != producers {
            bail!("a participant ended too early");
        }
        Ok(received.faults(&Tally::of_published(&sent)))
    }
}

fn round_trip(latency: &Latency) -> Figure {
    Figure::RoundTrip {
        p50: latency.p50() as f64,
        p99: latency.p99() as f64,
        p99_9: latency.p99_9() as f64,
        max: latency.max() as f64,
    }
}

/// An error of the measuring crate, which is no standard error.
pub fn explain(error: Error) -> anyhow::Error {
    anyhow!("{error}")
}

fn tell(error: anyhow::Error) -> Error {
    Error::new(format!("{error:#}"))
}

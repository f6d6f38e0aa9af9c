//! The director: opens, kills one worker, pauses another, sees it through.
//!
//! Each step waits for what it needs to be in the logs, never for a time to pass. An order is held back
//! for either fault, so that there is one to hold, however few or fast they are.

use std::fs::File;
use std::time::{Duration, Instant};

use super::Narrator;
use super::evidence::{Evidence, Hold, now};
use super::part::{HOLD, HOLD_SHORT, SHORT_LEASE, log_path};
use super::report::Report;
use super::stage::{Player, Stage, failed};
use crate::exit::Failure;
use crate::signals::Stop;

/// Between two looks at the logs.
const LOOK: Duration = Duration::from_millis(1);

/// Without any news for this long, what has not been delivered is lost.
const PATIENCE: Duration = Duration::from_secs(8);

/// About how long two workers should have to do, and the longest that one order takes.
const PLAYTIME: Duration = Duration::from_millis(2_500);
const SLOWEST: Duration = Duration::from_millis(20);

/// Plays the demo and tells what happened.
pub(super) fn play(
    stage: &Stage,
    orders: usize,
    workers: usize,
    stop: &Stop,
    narrator: &mut Narrator,
) -> Result<Report, Failure> {
    let mut director = Director::open(stage, orders, workers, stop, narrator)?;
    // Whatever does not come about within the director's patience shows in the report.
    let redelivery = director.kill_one()?;
    director.pause_one()?;
    director.until(|evidence| (evidence.delivered == orders as u64).then_some(()))?;
    director.close(redelivery)
}

struct Director<'a> {
    stage: &'a Stage,
    /// How many orders there are.
    orders: usize,
    stop: &'a Stop,
    narrator: &'a Narrator,
    evidence: Evidence,
    /// How many records there were when there last were more, and when that was.
    news: (u64, Instant),
    /// The order service.
    service: Player,
    /// Workers by number less one; `None` is dead.
    workers: Vec<Option<Player>>,
}

impl<'a> Director<'a> {
    /// Starts everyone, and waits until all workers are at work.
    fn open(
        stage: &'a Stage,
        orders: usize,
        workers: usize,
        stop: &'a Stop,
        narrator: &'a Narrator,
    ) -> Result<Director<'a>, Failure> {
        let cook = SLOWEST.min(PLAYTIME * 2 / orders as u32);
        let service = stage.start("demo-service", 0, Duration::ZERO)?;
        let players = (1..=workers).map(|number| stage.start("demo-worker", number, cook).map(Some));
        let players = players.collect::<Result<Vec<_>, Failure>>()?;
        let logs: Vec<_> = (0..=workers).map(|number| log_path(stage.dir(), number)).collect();
        let evidence = Evidence::open(logs.iter().map(|path| path.as_path()))?;
        let news = (0, Instant::now());
        let mut director =
            Director { stage, orders, stop, narrator, evidence, news, service, workers: players };
        director.until(|evidence| (evidence.ready == workers).then_some(()))?;
        director.say(&format!("{workers} workers are ready; the order service places {orders} orders"))?;
        Ok(director)
    }

    /// Kills a worker while it holds an order. How long it took until another one had it, in milliseconds.
    fn kill_one(&mut self) -> Result<Option<f64>, Failure> {
        let first = self.orders / 3;
        self.service.tell(&first.to_string())?;
        let Some(hold) = self.hold(HOLD, first / 2, self.orders * 2 / 3)? else { return Ok(None) };
        let killed_at = now();
        let Some(mut worker) = self.workers[hold.part - 1].take() else { return Ok(None) };
        worker.kill()?;
        let (name, pid, order) = (&worker.name, worker.pid(), &hold.order);
        self.say(&format!("{name} (pid {pid}) holds {order}: killed by SIGKILL"))?;
        let redelivered = self.until(|evidence| evidence.received_elsewhere(&hold, killed_at))?;
        let Some((part, at)) = redelivered else { return Ok(None) };
        let took = milliseconds(at - killed_at);
        self.say(&format!("worker {part} has {order}, {took:.1} ms after the kill"))?;
        Ok(Some(took))
    }

    /// Pauses a worker that holds an order until another one has it, and lets it go on.
    fn pause_one(&mut self) -> Result<(), Failure> {
        let Some(hold) = self.hold(HOLD_SHORT, self.orders / 2, self.orders)? else { return Ok(()) };
        let Some(worker) = &mut self.workers[hold.part - 1] else { return Ok(()) };
        worker.pause()?;
        let (name, order) = (worker.name.clone(), &hold.order);
        self.say(&format!(
            "{name} (pid {}) holds {order} on a lease of {} ms: paused by SIGSTOP",
            self.workers[hold.part - 1].as_ref().map_or(0, Player::pid),
            SHORT_LEASE.as_millis()
        ))?;
        let redelivered = self.until(|evidence| evidence.received_elsewhere(&hold, hold.at))?;
        if let Some((part, at)) = redelivered {
            let took = milliseconds(at - hold.at);
            self.say(&format!("worker {part} has {order}, {took:.0} ms after the lease began"))?;
        }
        if let Some(worker) = &mut self.workers[hold.part - 1] {
            worker.tell("go on")?;
            worker.resume()?;
        }
        let settled = self.until(|evidence| {
            let trace = evidence.orders.get(order)?;
            (trace.acked + trace.refused >= 2).then_some(trace.refused > 0)
        })?;
        if settled == Some(true) {
            self.say(&format!("{name} was resumed, and its late ack of {order} was refused"))?;
        }
        Ok(())
    }

    /// Once this many orders are delivered, plants a fault, has orders placed up to this number, and waits
    /// for the worker that takes the fault.
    fn hold(&mut self, fault: &str, delivered: usize, upto: usize) -> Result<Option<Hold>, Failure> {
        let delivered = delivered as u64;
        self.until(|evidence| (evidence.delivered >= delivered).then_some(()))?;
        self.evidence.holding = None;
        File::create(self.stage.dir().join(fault)).map_err(|e| Failure::io("planting a fault", &e))?;
        self.service.tell(&upto.to_string())?;
        self.until(|evidence| evidence.holding.take())
    }

    /// Reads the logs until they show something; `None` if there is no news for too long.
    fn until<T>(&mut self, mut shows: impl FnMut(&mut Evidence) -> Option<T>) -> Result<Option<T>, Failure> {
        loop {
            self.evidence.read()?;
            self.narrator.bar.set_position(self.evidence.delivered);
            if let Some(shown) = shows(&mut self.evidence) {
                return Ok(Some(shown));
            }
            if self.stop.asked() {
                return Err(Failure::Interrupted);
            }
            for player in self.workers.iter_mut().flatten().chain([&mut self.service]) {
                if let Some(status) = player.ended()? {
                    return Err(failed(&player.name, status));
                }
            }
            if self.evidence.records > self.news.0 {
                self.news = (self.evidence.records, Instant::now());
            } else if self.news.1.elapsed() > PATIENCE {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Sends everyone home, and sums up.
    fn close(mut self, redelivery_ms: Option<f64>) -> Result<Report, Failure> {
        self.service.dismiss()?;
        for worker in self.workers.into_iter().flatten() {
            worker.dismiss()?;
        }
        self.evidence.read()?;
        Ok(Report::new(&self.evidence, redelivery_ms))
    }

    fn say(&self, line: &str) -> Result<(), Failure> {
        self.narrator.say(line)
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

//! The director: opens, kills one worker, pauses another, sees it through.
//!
//! Each step waits for what it needs to be in the logs, never for a time to pass. An order is held back
//! for either fault, so that there is one to hold, however few or fast they are.

use std::fs::File;

use super::Narrator;
use super::company::Company;
use super::evidence::{Hold, now};
use super::part::{HOLD, HOLD_SHORT, SHORT_LEASE};
use super::report::Report;
use super::stage::{Player, Stage};
use crate::exit::Failure;
use crate::signals::Stop;

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
    director.company.until(|evidence| (evidence.delivered == orders as u64).then_some(()))?;
    director.close(redelivery)
}

struct Director<'a> {
    stage: &'a Stage,
    /// How many orders there are.
    orders: usize,
    company: Company<'a>,
    /// The order service's number.
    service: usize,
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
        let mut company = Company::new(stage, stop, narrator);
        let service = company.enter(workers, orders)?;
        company.say(&format!("{workers} workers are ready; the order service places {orders} orders"))?;
        Ok(Director { stage, orders, company, service })
    }

    /// Kills a worker while it holds an order. How long it took until another one had it, in milliseconds.
    fn kill_one(&mut self) -> Result<Option<f64>, Failure> {
        let first = self.orders / 3;
        self.company.tell(self.service, &first.to_string())?;
        let Some(hold) = self.hold(HOLD, first / 2, self.orders * 2 / 3)? else { return Ok(None) };
        let killed_at = now();
        let Some(mut worker) = self.company.players[hold.part].take() else { return Ok(None) };
        worker.kill()?;
        let (name, pid, order) = (&worker.name, worker.pid(), &hold.order);
        self.company.say(&format!("{name} (pid {pid}) holds {order}: killed by SIGKILL"))?;
        let redelivered = self.company.until(|evidence| evidence.received_elsewhere(&hold, killed_at))?;
        let Some((part, at)) = redelivered else { return Ok(None) };
        let took = milliseconds(at - killed_at);
        self.company.say(&format!("worker {part} has {order}, {took:.1} ms after the kill"))?;
        Ok(Some(took))
    }

    /// Pauses a worker that holds an order until another one has it, and lets it go on.
    fn pause_one(&mut self) -> Result<(), Failure> {
        let Some(hold) = self.hold(HOLD_SHORT, self.orders / 2, self.orders)? else { return Ok(()) };
        let Some(worker) = &mut self.company.players[hold.part] else { return Ok(()) };
        worker.pause()?;
        let (name, order) = (worker.name.clone(), &hold.order);
        self.company.say(&format!(
            "{name} (pid {}) holds {order} on a lease of {} ms: paused by SIGSTOP",
            self.company.players[hold.part].as_ref().map_or(0, Player::pid),
            SHORT_LEASE.as_millis()
        ))?;
        let redelivered = self.company.until(|evidence| evidence.received_elsewhere(&hold, hold.at))?;
        if let Some((part, at)) = redelivered {
            let took = milliseconds(at - hold.at);
            self.company.say(&format!("worker {part} has {order}, {took:.0} ms after the lease began"))?;
        }
        if let Some(worker) = &mut self.company.players[hold.part] {
            worker.tell("go on")?;
            worker.resume()?;
        }
        let settled = self.company.until(|evidence| {
            let trace = evidence.orders.get(order)?;
            (trace.acked + trace.refused >= 2).then_some(trace.refused > 0)
        })?;
        if settled == Some(true) {
            self.company.say(&format!("{name} was resumed, and its late ack of {order} was refused"))?;
        }
        Ok(())
    }

    /// Once this many orders are delivered, plants a fault, has orders placed up to this number, and waits
    /// for the worker that takes the fault.
    fn hold(&mut self, fault: &str, delivered: usize, upto: usize) -> Result<Option<Hold>, Failure> {
        let delivered = delivered as u64;
        self.company.until(|evidence| (evidence.delivered >= delivered).then_some(()))?;
        self.company.evidence.holding = None;
        File::create(self.stage.dir().join(fault)).map_err(|e| Failure::io("planting a fault", &e))?;
        self.company.tell(self.service, &upto.to_string())?;
        self.company.until(|evidence| evidence.holding.take())
    }

    /// Sends everyone home, and sums up.
    fn close(mut self, redelivery_ms: Option<f64>) -> Result<Report, Failure> {
        self.company.dismiss()?;
        Ok(Report::new(&self.company.evidence, redelivery_ms))
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

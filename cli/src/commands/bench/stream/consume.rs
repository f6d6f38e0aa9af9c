//! A consumer of a stream.

use std::mem;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::thread;
use std::time::{Duration, Instant};

use ringway::{Consumer, Delivery, SettleFailure};
use ringway_measure::{END, Result, Tally, check, check_ends, check_pages, now_ns};

use super::{Consumed, QUEUE, Shared, Told};
use crate::commands::bench::case::{Amount, Case, Touch};
use crate::commands::bench::place::Stand;

/// Messages between two looks at the clock, where the time is what ends the warm-up.
const STRIDE: u64 = 64;

/// How long nothing comes before what has not come is lost.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn run(case: &Case, stand: &Stand, shared: &Shared, group: usize) -> Result<Told> {
    let consumer = stand.consumer(case, QUEUE, group)?;
    let start_ns = shared.gate.arrive();
    let sink = Sink {
        case,
        consumer: &consumer,
        batch: Vec::with_capacity(case.batch),
        tally: Tally::new(case.producers),
        lease_lost: 0,
        taken: 0,
    };
    // One copy of the loop for each way, so that there is nothing in it to be decided.
    let consumed = match case.touch {
        Touch::All => sink.consume(shared, group, start_ns, check),
        Touch::Pages => sink.consume(shared, group, start_ns, check_pages),
        Touch::Ends => sink.consume(shared, group, start_ns, check_ends),
    }?;
    Ok(Told::Consumed(consumed))
}

struct Sink<'a> {
    case: &'a Case,
    consumer: &'a Consumer,
    /// Room for a batch.
    batch: Vec<Delivery<'a>>,
    tally: Tally,
    lease_lost: u64,
    /// Messages taken and acked, torn ones too.
    taken: u64,
}

/// How a message is looked at.
trait Check: Fn(&[u8]) -> Option<u64> + Copy {}
impl<F: Fn(&[u8]) -> Option<u64> + Copy> Check for F {}

impl Sink<'_> {
    fn consume(
        mut self,
        shared: &Shared,
        group: usize,
        start_ns: u64,
        check: impl Check,
    ) -> Result<Consumed> {
        let mut more = true;
        match self.case.amount {
            Amount::Messages(_) | Amount::Watch { .. } => {
                let warm_up = self.case.warm_up() / self.case.consumers as u64;
                while more && self.taken < warm_up {
                    more = self.take(check)?;
                }
            }
            Amount::Time(time) => {
                let warm = start_ns + time.as_nanos() as u64 / 10;
                while more && (!self.taken.is_multiple_of(STRIDE) || now_ns() < warm) {
                    more = self.take(check)?;
                }
            }
        }
        let (before, from_ns) = (self.taken, now_ns());
        if more {
            if self.case.batch == 1 {
                while self.take_one(check)? {}
            } else {
                while self.take_batch(check)? {}
            }
        }
        let (measured, to_ns) = (self.taken - before, now_ns());
        self.drain(shared, group, check)?;
        let Sink { tally, lease_lost, .. } = self;
        Ok(Consumed { group, tally, lease_lost, measured, from_ns, to_ns })
    }

    /// Takes a message, or a batch. Says whether to go on: there was no end mark.
    fn take(&mut self, check: impl Check) -> Result<bool> {
        if self.case.batch == 1 { self.take_one(check) } else { self.take_batch(check) }
    }

    #[inline]
    fn take_one(&mut self, check: impl Check) -> Result<bool> {
        let delivery = self.consumer.receive()?;
        self.count(delivery, check)
    }

    #[inline]
    fn take_batch(&mut self, check: impl Check) -> Result<bool> {
        let mut more = true;
        let mut batch = mem::take(&mut self.batch);
        self.consumer.receive_batch_into(&mut batch, self.case.batch, Duration::MAX)?;
        for delivery in batch.drain(..) {
            if more {
                more = self.count(delivery, check)?;
            } else if check(delivery.payload()) == Some(END) {
                // Somebody else's: each takes one.
                delivery.release().map_err(|error| error.into_failure())?;
            } else {
                self.count(delivery, check)?;
            }
        }
        self.batch = batch;
        Ok(more)
    }

    /// Reads and acks a message, and counts it. Says whether it was one, and no end mark.
    #[inline]
    fn count(&mut self, delivery: Delivery<'_>, check: impl Check) -> Result<bool> {
        let found = check(delivery.payload());
        match delivery.ack() {
            Ok(()) => {}
            Err(error) => return self.not_acked(error.into_failure()),
        }
        match found {
            Some(END) => return Ok(false),
            // One of a producer that there is not was made up by somebody: as good as torn.
            Some(id) => {
                if !self.tally.add(id) {
                    self.tally.add_torn();
                }
            }
            None => self.tally.add_torn(),
        }
        self.taken += 1;
        Ok(true)
    }

    /// The message is redelivered: whoever acks it counts it.
    #[cold]
    fn not_acked(&mut self, failure: SettleFailure) -> Result<bool> {
        match failure {
            SettleFailure::LeaseLost => {
                self.lease_lost += 1;
                Ok(true)
            }
            other => Err(other.into()),
        }
    }

    /// Takes what is left when all of the group have an end mark.
    fn drain(&mut self, shared: &Shared, group: usize, check: impl Check) -> Result<()> {
        shared.taken(group).fetch_add(self.taken, AcqRel);
        // AcqRel: who sees all to have ended sees what each had taken by then, and how much was published.
        shared.ended(group).fetch_add(1, AcqRel);
        while shared.ended(group).load(Acquire) < self.case.consumers as u64 {
            thread::yield_now();
        }
        let published = shared.published().load(Acquire);
        let mut last = Instant::now();
        loop {
            let complete = shared.taken(group).load(Acquire) >= published;
            let wait = if complete { Duration::ZERO } else { Duration::from_millis(5) };
            match self.consumer.receive_timeout(wait)? {
                Some(delivery) => {
                    let before = self.taken;
                    self.count(delivery, check)?;
                    shared.taken(group).fetch_add(self.taken - before, AcqRel);
                    last = Instant::now();
                }
                None if complete || last.elapsed() > PATIENCE => return Ok(()),
                None => {}
            }
        }
    }
}

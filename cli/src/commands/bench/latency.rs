//! Latency: there and back, and one way.
//!
//! A round trip is timed by one process with its own clock: the other one answers each message by the same
//! message. One way, each process notes its times in memory that both share, by the clock that they share.
//! With a rate, a message is due at a time, and its latency begins there; without, the next one is sent when
//! the one before has arrived.

use std::hint;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;

use ringway::{Consumer, Producer};
use ringway_measure::{
    Faults, Latency, Pace, Result, Tally, Words, check, check_ends, check_pages, fill, fill_ends, fill_pages,
    id, now_ns, spawn,
};
use serde::{Deserialize, Serialize};

use super::case::{Amount, Case, Touch};
use super::run::{Run, Watch, gate, settle_down};

const THERE: &str = "there";
const BACK: &str = "back";

/// Looks at a time that is not there yet, before others are let on the processor.
const LOOKS: u32 = 1_000;

/// What one of the two processes saw.
#[derive(Debug, Serialize, Deserialize)]
struct Side {
    latency: Latency,
    tally: Tally,
}

pub(super) fn round_trip(watch: &Watch<'_>, case: &Case) -> Result<Run> {
    let stand = watch.place.stand(case, &[THERE, BACK])?;
    let gate = gate(case)?;
    let caller = spawn(|| {
        settle_down(case, 0)?;
        let (producer, consumer) = (stand.producer(case, THERE)?, stand.consumer(case, BACK, 0)?);
        call(case, &producer, &consumer, gate.arrive())
    })?;
    let echo = spawn(|| {
        settle_down(case, 1)?;
        let (producer, consumer) = (stand.producer(case, BACK)?, stand.consumer(case, THERE, 0)?);
        gate.arrive();
        answer(case, &producer, &consumer)
    })?;
    let sides = watch.join(case, vec![caller, echo])?;
    outcome(case, sides)
}

/// Sends each message and waits for its echo.
fn call(case: &Case, producer: &Producer, consumer: &Consumer, start_ns: u64) -> Result<Side> {
    let mut side = Side::new();
    let mut pace = case.rate.map(|rate| Pace::new(start_ns, rate));
    let mut payload = vec![0; case.payload];
    for number in 0..total(case) {
        case.touch.fill(&mut payload, id(0, number));
        let sent = pace.as_mut().map_or_else(now_ns, Pace::wait_next);
        send(case, producer, &payload)?;
        let delivery = consumer.receive()?;
        let took = now_ns() - sent;
        side.take(case, delivery.payload());
        delivery.ack().map_err(|error| error.into_failure())?;
        if number >= case.warm_up() {
            side.latency.record(took);
        }
    }
    Ok(side)
}

/// Sends each message back.
fn answer(case: &Case, producer: &Producer, consumer: &Consumer) -> Result<Side> {
    let mut side = Side::new();
    for _ in 0..total(case) {
        let delivery = consumer.receive()?;
        send(case, producer, delivery.payload())?;
        side.take(case, delivery.payload());
        delivery.ack().map_err(|error| error.into_failure())?;
    }
    Ok(side)
}

#[inline]
fn send(case: &Case, producer: &Producer, payload: &[u8]) -> Result<()> {
    if case.zero_copy {
        let mut loan = producer.loan(payload.len())?;
        loan.copy_from_slice(payload);
        loan.publish()?;
    } else {
        producer.publish(payload).map_err(|error| error.into_failure())?;
    }
    Ok(())
}

pub(super) fn one_way(watch: &Watch<'_>, case: &Case) -> Result<Run> {
    let stand = watch.place.stand(case, &[THERE])?;
    let gate = gate(case)?;
    let count = usize::try_from(total(case))?;
    let (sent, arrived) = (Words::new(count)?, Words::new(count)?);
    let sender = spawn(|| {
        settle_down(case, 0)?;
        let producer = stand.producer(case, THERE)?;
        let start_ns = gate.arrive();
        let mut pace = case.rate.map(|rate| Pace::new(start_ns, rate));
        let mut payload = vec![0; case.payload];
        for number in 0..count {
            case.touch.fill(&mut payload, id(0, number as u64));
            let due = match &mut pace {
                Some(pace) => pace.wait_next(),
                None => {
                    if let Some(before) = number.checked_sub(1) {
                        wait_for(&arrived[before]);
                    }
                    now_ns()
                }
            };
            // Relaxed: read when the process has ended, or after the message, whose publish orders it.
            sent[number].store(due, Relaxed);
            send(case, &producer, &payload)?;
        }
        Ok(Side::new())
    })?;
    let receiver = spawn(|| {
        settle_down(case, 1)?;
        let consumer = stand.consumer(case, THERE, 0)?;
        gate.arrive();
        let mut side = Side::new();
        for number in 0..count {
            let delivery = consumer.receive()?;
            let at = now_ns();
            side.take(case, delivery.payload());
            delivery.ack().map_err(|error| error.into_failure())?;
            if number as u64 >= case.warm_up() {
                side.latency.record(at.saturating_sub(sent[number].load(Relaxed)));
            }
            arrived[number].store(at, Release);
        }
        Ok(side)
    })?;
    let mut sides = watch.join(case, vec![receiver, sender])?;
    sides.truncate(1);
    outcome(case, sides)
}

/// Until it is not zero.
fn wait_for(word: &AtomicU64) {
    let mut looks = 0_u32;
    // Pairs with the receiver's Release.
    while word.load(Acquire) == 0 {
        looks += 1;
        if looks.is_multiple_of(LOOKS) { thread::yield_now() } else { hint::spin_loop() }
    }
}

/// All messages, warm-up included.
fn total(case: &Case) -> u64 {
    match case.amount {
        Amount::Messages(messages) => messages + case.warm_up(),
        Amount::Time(_) | Amount::Watch { .. } => 0,
    }
}

/// Adds up the sides that received.
fn outcome(case: &Case, sides: Vec<Side>) -> Result<Run> {
    let published = Tally::of_published(&[total(case)]);
    let (mut latency, mut faults) = (Latency::new(), Faults::default());
    for side in sides {
        latency.merge(&side.latency);
        faults.merge(&side.tally.faults(&published));
    }
    Ok(Run { latency: Some(latency), faults, ..Run::default() })
}

impl Side {
    fn new() -> Side {
        Side { latency: Latency::new(), tally: Tally::new(1) }
    }

    #[inline]
    fn take(&mut self, case: &Case, payload: &[u8]) {
        match case.touch.check(payload) {
            Some(id) => {
                self.tally.add(id);
            }
            None => self.tally.add_torn(),
        }
    }
}

impl Touch {
    #[inline]
    pub(super) fn fill(self, payload: &mut [u8], id: u64) {
        match self {
            Touch::All => fill(payload, id),
            Touch::Pages => fill_pages(payload, id),
            Touch::Ends => fill_ends(payload, id),
        }
    }

    #[inline]
    pub(super) fn check(self, payload: &[u8]) -> Option<u64> {
        match self {
            Touch::All => check(payload),
            Touch::Pages => check_pages(payload),
            Touch::Ends => check_ends(payload),
        }
    }
}

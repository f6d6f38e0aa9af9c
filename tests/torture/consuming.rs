//! The work of a consumer: receive in every way, keep some, settle in every way.

use std::thread;
use std::time::Duration;

use ringway::{Consumer, Delivery, Lease, SettleFailure};

use crate::history::{Got, Settled, Verb};
use crate::job::ConsumerRole;
use crate::payload;
use crate::worker::{Worker, take};

/// The longest wait for a message: after it the consumer looks whether it should leave.
const PATIENCE: Duration = Duration::from_millis(20);
/// The longest wait while it keeps messages that others might wait for.
const IMPATIENCE: Duration = Duration::from_millis(1);

/// A delivery that is not settled yet, and its tag in the log.
struct Held<'c> {
    delivery: Delivery<'c>,
    tag: u16,
}

pub(crate) fn run(mut worker: Worker, role: &ConsumerRole) -> Result<(), String> {
    let queue = worker.queue.clone();
    let lease = role.lease_ms.map_or(Lease::UntilDeath, |ms| Lease::Timed(Duration::from_millis(ms)));
    let make = || {
        let consumer = queue.consumer(&role.group).lease(lease).wait(role.wait);
        let consumer = consumer.max_in_flight(role.keep + role.batch);
        if role.exclusive { consumer.exclusive().build() } else { consumer.build() }
    };
    let Some(consumer) = take(&worker.log, make)? else { return Ok(()) };
    let mut held = Vec::new();
    let mut tag = 0;
    while !worker.done() {
        receive(&mut worker, role, &consumer, &mut held, &mut tag)?;
        if role.work_us > 0 && !held.is_empty() && worker.rng.chance(20) {
            thread::sleep(Duration::from_micros(worker.rng.spread(20, role.work_us)));
        }
        let keep = worker.rng.below(role.keep as u64 + 1) as usize;
        while held.len() > keep {
            let chosen = worker.rng.below(held.len() as u64) as usize;
            let verb = mood(&mut worker, role);
            settle(&mut worker, role, held.remove(chosen), verb)?;
        }
    }
    for last in held {
        settle(&mut worker, role, last, Verb::Ack)?;
    }
    Ok(())
}

/// Asks for one or several messages and notes what came.
fn receive<'c>(
    worker: &mut Worker,
    role: &ConsumerRole,
    consumer: &'c Consumer,
    held: &mut Vec<Held<'c>>,
    tag: &mut u16,
) -> Result<(), String> {
    let patience = if held.is_empty() { PATIENCE } else { IMPATIENCE };
    let way = worker.rng.below(10);
    let most = worker.rng.between(1, role.batch as u64) as usize;
    let call = worker.log.asking();
    let received = match way {
        0..5 if role.batch > 1 => consumer.receive_batch(most, patience),
        5 => consumer.try_receive().map(Vec::from_iter),
        _ => consumer.receive_timeout(patience).map(Vec::from_iter),
    };
    let received = received.map_err(|error| format!("receiving: {error}"))?;
    if received.is_empty() {
        worker.log.in_vain(call);
    }
    for (number, delivery) in received.into_iter().enumerate() {
        let (id, intact) = payload::read(delivery.payload());
        let got = Got {
            id,
            position: delivery.position(),
            attempt: delivery.attempt(),
            failures: delivery.failures(),
            intact,
            tag: *tag,
        };
        worker.log.received(call, number == 0, got);
        held.push(Held { delivery, tag: *tag });
        *tag = tag.wrapping_add(1);
    }
    Ok(())
}

/// What to do with a message.
fn mood(worker: &mut Worker, role: &ConsumerRole) -> Verb {
    match worker.rng.below(1000) / role.mood {
        0 => Verb::Nack,
        1 => Verb::Release,
        2 => Verb::Drop,
        3 => Verb::Extend,
        4 => Verb::Reject,
        _ => Verb::Ack,
    }
}

fn settle(worker: &mut Worker, role: &ConsumerRole, held: Held<'_>, verb: Verb) -> Result<(), String> {
    let Held { mut delivery, tag } = held;
    let later = worker.rng.chance(400);
    let delay = Duration::from_micros(worker.rng.spread(100, 3000));
    let mut call = worker.log.settling(tag, verb);
    if verb == Verb::Extend {
        let result = delivery.extend(Duration::from_millis(role.lease_ms.unwrap_or(1000)));
        let answer = told(result)?;
        worker.log.settled(call, answer);
        if answer == Settled::LeaseLost {
            return Ok(());
        }
        call = worker.log.settling(tag, Verb::Ack);
    }
    let result = match verb {
        Verb::Ack | Verb::Extend => delivery.ack(),
        Verb::Nack if later => delivery.nack_after(delay),
        Verb::Nack => delivery.nack(),
        Verb::Release if later => delivery.defer(delay),
        Verb::Release => delivery.release(),
        Verb::Reject => delivery.reject("in no mood for it"),
        Verb::Drop => {
            drop(delivery);
            Ok(())
        }
    };
    let answer = told(result.map_err(|error| error.failure))?;
    worker.log.settled(call, answer);
    Ok(())
}

/// A lost lease is an answer; anything else is no answer that a worker should get.
fn told(result: Result<(), SettleFailure>) -> Result<Settled, String> {
    match result {
        Ok(()) => Ok(Settled::Done),
        Err(SettleFailure::LeaseLost) => Ok(Settled::LeaseLost),
        Err(failure) => Err(format!("settling: {failure}")),
    }
}

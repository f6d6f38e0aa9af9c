//! The work of a producer: bursts of messages by every way of publishing there is.

use std::thread;
use std::time::Duration;

use ringway::{OnFull, Producer, PublishError, PublishFailure, Receipt};

use crate::history::Published;
use crate::job::ProducerRole;
use crate::log::Begun;
use crate::payload;
use crate::worker::{Worker, take};

/// The longest wait for a slot: after it the producer looks whether it should leave.
const PATIENCE: Duration = Duration::from_millis(20);
/// Most messages of one `publish_batch`.
const BATCH: u64 = 16;
/// The longest payload of an ordinary message: some fit into a slot, some do not quite.
const ORDINARY: u64 = 160;

pub(crate) fn run(mut worker: Worker, role: &ProducerRole) -> Result<(), String> {
    let queue = worker.queue.clone();
    let make = || {
        let producer = queue.producer().wait(role.wait).on_full(OnFull::Block(PATIENCE));
        if role.exclusive { producer.exclusive().build() } else { producer.build() }
    };
    let Some(producer) = take(&worker.log, make)? else { return Ok(()) };
    let mut buffer = vec![0; role.longest.max(ORDINARY as usize)];
    let mut sequence = 0;
    while !worker.done() {
        let burst = worker.rng.between(1, role.burst);
        let last = sequence + burst;
        while sequence < last && !worker.done() {
            sequence += publish(&mut worker, role, &producer, sequence, &mut buffer)?;
        }
        if role.gap_us > 0 {
            thread::sleep(Duration::from_micros(worker.rng.below(role.gap_us)));
        }
    }
    Ok(())
}

fn length(worker: &mut Worker, role: &ProducerRole) -> usize {
    let rng = &mut worker.rng;
    if rng.chance(role.long_permille) {
        rng.spread(ORDINARY, role.longest as u64) as usize
    } else {
        rng.between(payload::LEAST as u64, ORDINARY) as usize
    }
}

fn id(worker: &Worker, sequence: u64) -> u64 {
    u64::from(worker.job.number) << 32 | sequence
}

/// Offers one message or a batch of them; how many.
fn publish(
    worker: &mut Worker,
    role: &ProducerRole,
    producer: &Producer,
    sequence: u64,
    buffer: &mut [u8],
) -> Result<u64, String> {
    let way = worker.rng.below(100);
    if way < 4 {
        return batch(worker, role, producer, sequence);
    }
    let length = length(worker, role);
    let payload = &mut buffer[..length];
    let id = id(worker, sequence);
    if way < 24 && worker.job.trust {
        return loan(worker, producer, id, payload.len());
    }
    payload::fill(id, payload);
    let call = worker.log.publishing(id);
    let result = match way {
        24..34 => producer.try_publish(&*payload),
        34..40 => producer.publish_timeout(&*payload, PATIENCE),
        _ => producer.publish(&*payload),
    };
    answer(worker, call, result)?;
    Ok(1)
}

/// Notes what a publish was answered.
fn answer<M>(worker: &Worker, call: Begun, result: Result<Receipt, PublishError<M>>) -> Result<(), String> {
    let answer = match result {
        Ok(receipt) => Published::Accepted { position: receipt.position },
        Err(PublishError { failure: PublishFailure::Full { .. }, .. }) => Published::Refused,
        Err(PublishError { failure, .. }) => return Err(format!("publishing: {failure}")),
    };
    worker.log.published(call, answer);
    Ok(())
}

fn batch(
    worker: &mut Worker,
    role: &ProducerRole,
    producer: &Producer,
    sequence: u64,
) -> Result<u64, String> {
    let count = worker.rng.between(2, BATCH);
    let mut messages = Vec::new();
    let mut calls = Vec::new();
    for number in sequence..sequence + count {
        let id = id(worker, number);
        let mut message = vec![0; length(worker, role)];
        payload::fill(id, &mut message);
        calls.push(worker.log.publishing(id));
        messages.push(message);
    }
    let results = producer.publish_batch(messages.iter().map(|message| &message[..]));
    if results.len() != calls.len() {
        return Err(format!("publish_batch gave {} results for {} messages", results.len(), calls.len()));
    }
    for (call, result) in calls.into_iter().zip(results) {
        answer(worker, call, result)?;
    }
    Ok(count)
}

/// Fills a message in place, and sometimes thinks better of it.
fn loan(worker: &mut Worker, producer: &Producer, id: u64, length: usize) -> Result<u64, String> {
    let abandon = worker.rng.chance(20);
    let call = worker.log.publishing(id);
    let answer = match producer.loan(length) {
        Ok(mut loan) => {
            payload::fill(id, &mut loan);
            if abandon {
                drop(loan);
                Published::Refused
            } else {
                let published = loan.publish();
                let receipt = published.map_err(|failure| format!("publishing a loan: {failure}"))?;
                Published::Accepted { position: receipt.position }
            }
        }
        Err(PublishFailure::Full { .. }) => Published::Refused,
        Err(failure) => return Err(format!("taking a loan: {failure}")),
    };
    worker.log.published(call, answer);
    Ok(1)
}

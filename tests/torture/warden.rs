//! The work of a warden: keep dead letters from filling the ring, and look at the queue while it runs.

use std::thread;
use std::time::Duration;

use ringway::{DeadLetter, DeadReason};

use crate::history::{Burial, Dead};
use crate::log::Stage;
use crate::payload;
use crate::worker::Worker;

pub(crate) fn run(mut worker: Worker, group: &str) -> Result<(), String> {
    worker.log.reach(Stage::Working);
    let queue = worker.queue.clone();
    while !worker.done() {
        let letters = queue.dead(group).map_err(|error| format!("listing dead letters: {error}"))?;
        for letter in letters {
            if worker.done() {
                break;
            }
            bury(&mut worker, group, &letter)?;
        }
        if worker.rng.chance(100) {
            inspect(&worker)?;
        }
        thread::sleep(Duration::from_micros(worker.rng.spread(500, 5000)));
    }
    Ok(())
}

/// A dead letter as the history wants it.
pub(crate) fn dead(letter: &DeadLetter) -> Dead {
    let (id, intact) = payload::read(&letter.message.payload);
    let rejected = letter.reason == DeadReason::Rejected;
    Dead { id, position: letter.message.position, intact, rejected }
}

fn bury(worker: &mut Worker, group: &str, letter: &DeadLetter) -> Result<(), String> {
    let dead = dead(letter);
    let verb = if worker.rng.chance(100) { Burial::Retry } else { Burial::Purge };
    let call = worker.log.burying(dead, verb);
    let done = match verb {
        Burial::Purge => worker.queue.purge_dead(group, dead.position),
        Burial::Retry => worker.queue.retry_dead(group, dead.position),
    };
    worker.log.buried(call, done.map_err(|error| format!("burying a dead letter: {error}"))?);
    Ok(())
}

/// Looks at everything that may be looked at at any time.
fn inspect(worker: &Worker) -> Result<(), String> {
    let report = worker.queue.verify().map_err(|error| format!("verifying: {error}"))?;
    if let Some(violation) = report.violations.first() {
        return Err(format!("found while the queue ran: {}: {}", violation.place, violation.what));
    }
    worker.queue.info().map_err(|error| format!("asking for the queue's state: {error}"))?;
    Ok(())
}

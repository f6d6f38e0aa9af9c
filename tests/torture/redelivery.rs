//! `TORTURE_MODE=redelivery`: how long the message of a killed holder takes to the next consumer.
//!
//! A holder receives a message and keeps it. Another consumer, the heir, waits in `receive`, asleep
//! in the kernel; nobody else is there. Then the holder is killed, at any moment of the heir's naps.

use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{alarm, pause};
use ringway::{Queue, Store};
use serde_json::json;

use crate::clock::Rng;
use crate::fleet::{Fleet, Home, Place};
use crate::history::{Call, Got, Nanos, Published};
use crate::job::Role;
use crate::log::{Command, Stage};
use crate::report::{histogram, quantiles};
use crate::worker::Worker;
use crate::{directory, payload};

const HEIR: usize = 0;
const HOLDER: usize = 1;
/// The longest time from the heir's falling asleep to the kill: longer than a nap.
const NAPS: Nanos = 40_000_000;
/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills this many holders; false if some message was not redelivered.
pub(crate) fn run(kills: u64, seed: u64) -> Result<bool, String> {
    let directory = directory()?;
    let home = Home {
        store: directory.path().join("store"),
        queue: "jobs".to_owned(),
        logs: directory.path().to_owned(),
        trust: false,
    };
    let store = Store::create(&home.store).map_err(|error| format!("creating the store: {error}"))?;
    let queue = Queue::options().create(&store, &home.queue);
    queue.map_err(|error| format!("creating the queue: {error}"))?;
    drop(store);
    let places = [Role::Heir, Role::Holder].map(|role| Place { role, group: 0 });
    let mut rng = Rng::new(seed);
    let mut fleet = Fleet::new(home, places.into(), Rng::new(rng.next()));
    let began = Instant::now();
    fleet.start(HEIR)?;
    fleet.order(Command::Idle, |_| true);
    let mut sent = Vec::new();
    for round in 1..=kills {
        alarm::set(60);
        sent.push(bereave(&mut fleet, round, &mut rng)?);
    }
    alarm::cancel();
    let seconds = began.elapsed().as_secs_f64();
    let mut micros = histogram();
    for (sent, received) in sent.iter().zip(inherited(fleet)?) {
        micros.saturating_record(received.saturating_sub(*sent) / 1000);
    }
    let line = json!({
        "seed": seed,
        "kills": kills,
        "redelivered": micros.len(),
        "redelivery_ms": quantiles(&micros),
        "seconds": (seconds * 10.0).round() / 10.0,
    });
    println!("REDELIVERY {line}");
    Ok(micros.len() == kills)
}

/// One kill; when it was sent.
fn bereave(fleet: &mut Fleet, round: u64, rng: &mut Rng) -> Result<Nanos, String> {
    until(fleet, "the heir to publish", |fleet| stage(fleet) == Stage::Idle)?;
    fleet.start(HOLDER)?;
    until(fleet, "the holder to receive", |fleet| fleet.at(HOLDER).is_some_and(|w| w.log.receives() == 1))?;
    fleet.order(Command::Run, |place| matches!(place.role, Role::Heir));
    until(fleet, "the heir to ask", |fleet| stage(fleet) == Stage::Working)?;
    // It may wake now and then to look around: seen asleep several times, it sleeps for want of work.
    for _ in 0..3 {
        until(fleet, "the heir to sleep", |fleet| fleet.at(HEIR).is_some_and(|heir| heir.state() == 'S'))?;
    }
    thread::sleep(Duration::from_nanos(rng.below(NAPS)));
    let sent = fleet.kill(HOLDER)?.ok_or("there is no holder")?;
    until(fleet, "the redelivery", |fleet| fleet.at(HEIR).is_some_and(|heir| heir.log.receives() == round))?;
    fleet.order(Command::Idle, |place| matches!(place.role, Role::Heir));
    Ok(sent)
}

fn stage(fleet: &Fleet) -> Stage {
    fleet.at(HEIR).map_or(Stage::Started, |heir| heir.log.stage())
}

fn until(fleet: &mut Fleet, what: &str, met: impl Fn(&Fleet) -> bool) -> Result<(), String> {
    let last = Instant::now() + PATIENCE;
    while !met(fleet) {
        if !fleet.reap()?.is_empty() || Instant::now() > last {
            return Err(format!("waited for {what} in vain\n{}", fleet.describe()));
        }
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

/// When the heir received what it received.
fn inherited(fleet: Fleet) -> Result<Vec<Nanos>, String> {
    let processes = fleet.history()?;
    let heirs = processes.iter().filter(|process| process.name.starts_with("heir"));
    let times = heirs.flat_map(|heir| &heir.calls).filter_map(|call| match call {
        Call::Receive { got: Some((at, got)), .. } if got.intact => Some(*at),
        _ => None,
    });
    Ok(times.collect())
}

/// The holder's work.
pub(crate) fn hold(mut worker: Worker) -> Result<(), String> {
    let consumer = worker.queue.consumer("default").build().map_err(|error| error.to_string())?;
    let call = worker.log.asking();
    let delivery = consumer.receive().map_err(|error| error.to_string())?;
    note(&mut worker, call, &delivery, 0);
    loop {
        pause();
    }
}

/// The heir's work.
pub(crate) fn inherit(mut worker: Worker) -> Result<(), String> {
    let producer = worker.queue.producer().build().map_err(|error| error.to_string())?;
    let consumer = worker.queue.consumer("default").build().map_err(|error| error.to_string())?;
    let mut message = [0; 48];
    for id in 1.. {
        payload::fill(id, &mut message);
        let call = worker.log.publishing(id);
        let receipt = producer.publish(&message[..]).map_err(|error| error.to_string())?;
        worker.log.published(call, Published::Accepted { position: receipt.position });
        while worker.log.command() == Command::Run {
            thread::sleep(Duration::from_micros(50));
        }
        if worker.rest() == Command::Leave {
            break;
        }
        let call = worker.log.asking();
        let delivery = consumer.receive().map_err(|error| error.to_string())?;
        note(&mut worker, call, &delivery, id as u16);
        delivery.ack().map_err(|error| error.failure.to_string())?;
    }
    Ok(())
}

fn note(worker: &mut Worker, call: crate::log::Begun, delivery: &ringway::Delivery<'_>, tag: u16) {
    let (id, intact) = payload::read(delivery.payload());
    let (attempt, failures) = (delivery.attempt(), delivery.failures());
    worker.log.received(
        call,
        true,
        Got { id, position: delivery.position(), attempt, failures, intact, tag },
    );
}

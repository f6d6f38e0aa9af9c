//! `TORTURE_MODE=stopped`: what two producers and two consumers achieve while a third producer is
//! stopped in the middle of a publish and a third consumer while it holds a lease, compared with
//! the same while those two are stopped too, but with nothing in their hands. The two follow one
//! another, in turns which of them comes first.

use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::alarm;
use ringway::{Lease, Queue, Store};
use serde_json::json;

use crate::clock::{Rng, now};
use crate::directory;
use crate::fleet::{Fleet, Home, Place};
use crate::job::Role;
use crate::log::{Command, Stage};
use crate::worker::Worker;

/// The places of the two that are stopped.
const WRITER: usize = 4;
const KEEPER: usize = 5;
/// Slots: few, so that the held ones are met again and again.
const CAPACITY: u32 = 1024;
/// Bytes of an ordinary message.
const ORDINARY: usize = 48;
/// Bytes of the message that takes long enough to be stopped in.
const LONG: usize = 256 * 1024;
/// Time of one measurement, and before it, for the others to get going.
const SPAN: Duration = Duration::from_millis(1000);
const WARM_UP: Duration = Duration::from_millis(100);
/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures this many rounds.
pub(crate) fn run(rounds: u64) -> Result<bool, String> {
    let directory = directory()?;
    let home = Home {
        store: directory.path().join("store"),
        queue: "jobs".to_owned(),
        logs: directory.path().to_owned(),
        trust: false,
    };
    let store = Store::create(&home.store).map_err(|error| format!("creating the store: {error}"))?;
    let queue = Queue::options().capacity(CAPACITY).create(&store, &home.queue);
    drop(queue.map_err(|error| format!("creating the queue: {error}"))?);
    drop(store);
    let sprinter = |bytes| Role::Sprinter { bytes };
    let roles =
        [sprinter(ORDINARY), sprinter(ORDINARY), Role::Eater, Role::Eater, sprinter(LONG), Role::Keeper];
    let places: Vec<Place> = roles.into_iter().map(|role| Place { role, group: 0 }).collect();
    let mut fleet = Fleet::new(home.clone(), places, Rng::new(1));
    for place in 0..fleet.places().len() {
        fleet.start(place)?;
    }
    fleet.order(Command::Idle, |_| true);
    until(&mut fleet, "everybody to be ready", |fleet| fleet.live().all(|w| w.log.stage() == Stage::Idle))?;
    let store = Store::open(&home.store).map_err(|error| format!("opening the store: {error}"))?;
    let queue = store.queue(&home.queue).map_err(|error| format!("opening the queue: {error}"))?;
    fleet.order(Command::Run, |place| matches!(place.role, Role::Eater));
    let (mut before, mut during) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        alarm::set(120);
        if round % 2 == 0 {
            before.push(without(&mut fleet)?);
        }
        during.push(with(&mut fleet, &queue)?);
        if round % 2 == 1 {
            before.push(without(&mut fleet)?);
        }
    }
    alarm::cancel();
    let mut ratios: Vec<f64> = during.iter().zip(&before).map(|(during, before)| during / before).collect();
    let line = json!({
        "rounds": rounds,
        "before_per_s": median(&mut before).round(),
        "during_per_s": median(&mut during).round(),
        "ratio": (median(&mut ratios) * 1000.0).round() / 1000.0,
    });
    println!("STOPPED {line}");
    Ok(true)
}

fn sprint_on(fleet: &Fleet) {
    fleet.order(Command::Run, |place| matches!(place.role, Role::Sprinter { bytes: ORDINARY }));
}

/// Measures while the two are stopped and have nothing.
fn without(fleet: &mut Fleet) -> Result<f64, String> {
    sprint_on(fleet);
    fleet.pause(WRITER)?;
    fleet.pause(KEEPER)?;
    let rate = measure(fleet);
    wake_both(fleet)?;
    Ok(rate)
}

/// Measures while the two are stopped inside a publish and with a lease.
fn with(fleet: &mut Fleet, queue: &Queue) -> Result<f64, String> {
    stop_both(fleet, queue)?;
    let rate = measure(fleet);
    let held = queue.info().map_err(|error| error.to_string())?;
    if held.unfinished == 0 || held.groups[0].leased == 0 {
        return Err(format!("the publish or the lease did not stay as it was: {held:?}"));
    }
    wake_both(fleet)?;
    Ok(rate)
}

/// Stops the writer inside a publish and the keeper with a lease, and has the others at work.
fn stop_both(fleet: &mut Fleet, queue: &Queue) -> Result<(), String> {
    // With the other producers idle, a publish that is under way is the writer's.
    fleet.order(Command::Idle, |place| matches!(place.role, Role::Sprinter { .. }));
    let idle = |fleet: &Fleet, place| fleet.at(place).is_some_and(|w| w.log.stage() == Stage::Idle);
    until(fleet, "the producers to be idle", |fleet| idle(fleet, 0) && idle(fleet, 1))?;
    fleet.order(Command::Run, |place| matches!(place.role, Role::Sprinter { bytes: LONG }));
    let mut rng = Rng::new(now());
    let last = Instant::now() + PATIENCE;
    loop {
        thread::sleep(Duration::from_micros(rng.between(20, 500)));
        fleet.pause(WRITER)?;
        until(fleet, "the writer to stop", |fleet| fleet.at(WRITER).is_some_and(|w| w.state() == 'T'))?;
        if queue.info().map_err(|error| error.to_string())?.unfinished > 0 {
            break;
        }
        if Instant::now() > last {
            return Err("the writer could not be stopped inside a publish".to_owned());
        }
        fleet.resume(WRITER)?;
    }
    sprint_on(fleet);
    let before = fleet.at(KEEPER).map_or(0, |keeper| keeper.log.receives());
    fleet.order(Command::Run, |place| matches!(place.role, Role::Keeper));
    until(fleet, "the keeper to receive", |fleet| {
        fleet.at(KEEPER).is_some_and(|w| w.log.receives() > before)
    })?;
    fleet.pause(KEEPER)
}

/// Lets the two finish, and rest.
fn wake_both(fleet: &mut Fleet) -> Result<(), String> {
    fleet.order(Command::Idle, |place| matches!(place.role, Role::Sprinter { bytes: LONG } | Role::Keeper));
    fleet.resume(WRITER)?;
    fleet.resume(KEEPER)?;
    let idle = |fleet: &Fleet, place| fleet.at(place).is_some_and(|w| w.log.stage() == Stage::Idle);
    until(fleet, "the two to go on", |fleet| idle(fleet, WRITER) && idle(fleet, KEEPER))
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

/// Messages that the two consumers receive in a second.
fn measure(fleet: &Fleet) -> f64 {
    let received =
        || [2, 3].iter().filter_map(|&place| fleet.at(place)).map(|w| w.log.receives()).sum::<u64>();
    thread::sleep(WARM_UP);
    let (began, first) = (Instant::now(), received());
    thread::sleep(SPAN);
    (received() - first) as f64 / began.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A producer's work.
pub(crate) fn sprint(worker: Worker, bytes: usize) -> Result<(), String> {
    let producer = worker.queue.producer().build().map_err(|error| error.to_string())?;
    let message = vec![7; bytes];
    while worker.rest() != Command::Leave {
        match producer.publish_timeout(&message[..], Duration::from_millis(10)) {
            Ok(_) => worker.log.count_publish(),
            Err(error) if matches!(error.failure, ringway::PublishFailure::Full { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// A consumer's work.
pub(crate) fn eat(worker: Worker) -> Result<(), String> {
    let consumer = worker.queue.consumer("default").build().map_err(|error| error.to_string())?;
    while worker.rest() != Command::Leave {
        let received =
            consumer.receive_timeout(Duration::from_millis(10)).map_err(|error| error.to_string())?;
        if let Some(delivery) = received {
            delivery.ack().map_err(|error| error.failure.to_string())?;
            worker.log.count_receive();
        }
    }
    Ok(())
}

/// The keeper's work.
pub(crate) fn keep(worker: Worker) -> Result<(), String> {
    let consumer = worker.queue.consumer("default").lease(Lease::UntilDeath);
    let consumer = consumer.build().map_err(|error| error.to_string())?;
    while worker.rest() != Command::Leave {
        let received =
            consumer.receive_timeout(Duration::from_millis(10)).map_err(|error| error.to_string())?;
        let Some(delivery) = received else { continue };
        worker.log.count_receive();
        while worker.log.command() == Command::Run {
            thread::sleep(Duration::from_micros(200));
        }
        delivery.ack().map_err(|error| error.failure.to_string())?;
    }
    Ok(())
}

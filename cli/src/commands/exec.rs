//! `ringway consume --exec`: a shell command for each message.
//!
//! Each of the `--concurrency` lanes is a thread with a consumer of its own, and runs one command at a
//! time. The payload is the command's stdin, as a file in memory: a command that does not read it,
//! or reads it slowly, keeps nobody waiting. While a command runs, the leases of what its lane holds
//! are renewed.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringway::{Consumer, Delivery, DurableError, Queue, SettleFailure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;

use super::Context;
use super::consume::{Idle, ack, consumer};
use crate::args::{ConsumeArgs, LeaseArg};
use crate::exit::{Failure, note};
use crate::output::{self, Out};
use crate::signals::Stop;

/// A command that ends with this (EX_TEMPFAIL) wants the message later.
const TEMPORARY_FAILURE: i32 = 75;
const DEFER: Duration = Duration::from_secs(5);

/// The library's default for shared consumers.
const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// What all lanes share.
struct Shop<'a> {
    queue: &'a Queue,
    args: &'a ConsumeArgs,
    command: &'a OsStr,
    batch: usize,
    /// `None` for leases until death, which need no renewal.
    lease: Option<Duration>,
    stop: &'a Stop,
    /// How many messages may still be taken.
    left: Mutex<u64>,
    /// For `--json`: a line for each message.
    report: Option<Mutex<Out>>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Acked,
    Nacked,
    Deferred,
    Released,
    LeaseLost,
}

#[derive(Debug, Serialize)]
struct Record {
    position: u64,
    attempt: u16,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    ms: u64,
}

pub(super) fn run(
    context: &Context,
    queue: &Queue,
    args: &ConsumeArgs,
    command: &OsStr,
    stop: &Stop,
) -> Result<(), Failure> {
    let lease = match args.lease {
        Some(LeaseArg::Timed(time)) => Some(time),
        Some(LeaseArg::UntilDeath) => None,
        None if args.exclusive => None,
        None => Some(DEFAULT_LEASE),
    };
    let shop = Shop {
        queue,
        args,
        command,
        batch: args.batch.unwrap_or(1),
        lease,
        stop,
        left: Mutex::new(args.count.unwrap_or(u64::MAX)),
        report: if context.json { Some(Mutex::new(Out::open()?)) } else { None },
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..args.concurrency)
            .map(|_| {
                scope.spawn(|| {
                    let outcome = shop.work();
                    if outcome.is_err() {
                        stop.ask();
                    }
                    outcome
                })
            })
            .collect();
        let join = |lane: std::thread::ScopedJoinHandle<'_, Result<(), Failure>>| {
            lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        lanes.into_iter().try_for_each(join)
    })
}

impl Shop<'_> {
    /// One lane, until there is nothing more to do.
    fn work(&self) -> Result<(), Failure> {
        let consumer = consumer(self.queue, self.args, self.batch)?;
        let mut idle = Idle::new(self.args);
        while !self.stop.asked() {
            let most = self.take(self.batch);
            if most == 0 {
                break;
            }
            let deliveries = self.receive(&consumer, most, &idle);
            self.give_back(most - deliveries.as_ref().map_or(0, Vec::len));
            let deliveries = deliveries?;
            if deliveries.is_empty() {
                if idle.over() {
                    break;
                }
                continue;
            }
            Lane { shop: self, held: deliveries.into(), received: Instant::now() }.work()?;
            idle.reset();
        }
        Ok(())
    }

    fn receive<'c>(
        &self,
        consumer: &'c Consumer,
        most: usize,
        idle: &Idle,
    ) -> Result<Vec<Delivery<'c>>, Failure> {
        Ok(consumer.receive_batch(most, idle.slice())?)
    }

    /// Takes up to this much of what `--count` leaves.
    fn take(&self, most: usize) -> usize {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = (most as u64).min(*left);
        *left -= taken;
        taken as usize
    }

    fn give_back(&self, taken: usize) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) += taken as u64;
    }

    fn report(&self, record: &Record) -> Result<(), Failure> {
        let Some(out) = &self.report else { return Ok(()) };
        let mut line = Vec::new();
        output::json_line(&mut line, record)?;
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write(&line).map_err(|(_, failure)| failure)
    }
}

/// What a lane holds, in the order in which it will be worked on.
struct Lane<'a, 'c> {
    shop: &'a Shop<'a>,
    held: VecDeque<Delivery<'c>>,
    /// When the leases began.
    received: Instant,
}

impl Lane<'_, '_> {
    fn work(mut self) -> Result<(), Failure> {
        while let Some(delivery) = self.held.front() {
            if self.shop.stop.asked() {
                return self.release();
            }
            let started = Instant::now();
            let (position, attempt) = (delivery.position(), delivery.attempt());
            let child = match start(self.shop, delivery) {
                Ok(child) => child,
                Err(failure) => {
                    // The message is not to blame.
                    self.release()?;
                    return Err(failure);
                }
            };
            let status = self.wait(child)?;
            let outcome = self.settle(position, status)?;
            let (exit_code, signal) = (status.code(), status.signal());
            let ms = started.elapsed().as_millis() as u64;
            self.shop.report(&Record { position, attempt, outcome, exit_code, signal, ms })?;
        }
        Ok(())
    }

    /// Waits for the command, and renews the leases as often as it takes.
    fn wait(&mut self, mut child: Child) -> Result<ExitStatus, Failure> {
        let failed = |e: std::io::Error| Failure::io("waiting for the command", &e);
        let pid = Pid::from_child(&child);
        self.shop.stop.started(pid);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
        loop {
            let patience = self.until_renewal();
            let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
            let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
            match retry_on_intr(|| poll(&mut ended, timeout.as_ref())).map_err(|e| failed(e.into()))? {
                0 => self.renew()?,
                _ => break,
            }
        }
        self.shop.stop.ended(pid);
        child.wait().map_err(failed)
    }

    /// A third of the lease after it began.
    fn until_renewal(&self) -> Option<Duration> {
        let lease = self.shop.lease?;
        Some((lease / 3).saturating_sub(self.received.elapsed()))
    }

    fn renew(&mut self) -> Result<(), Failure> {
        let Some(lease) = self.shop.lease else { return Ok(()) };
        self.received = Instant::now();
        for delivery in &mut self.held {
            match delivery.extend(lease) {
                // Settling it will tell.
                Ok(()) | Err(SettleFailure::LeaseLost) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(())
    }

    /// Settles the delivery that was worked on, as its command asks for.
    fn settle(&mut self, position: u64, status: ExitStatus) -> Result<Outcome, Failure> {
        let Some(delivery) = self.held.pop_front() else { return Ok(Outcome::LeaseLost) };
        let told_to_end = self.shop.stop.asked() && status.signal() == Some(signal_hook::consts::SIGTERM);
        let (settled, outcome) = match status.code() {
            Some(0) => {
                return match ack(delivery, self.shop.args.ack_durable) {
                    Ok(()) => Ok(Outcome::Acked),
                    Err(DurableError::Settle(failure)) => not_settled(position, failure),
                    Err(failure) => Err(Failure::from(failure).about(format!("position {position}"))),
                };
            }
            Some(TEMPORARY_FAILURE) => (delivery.defer(DEFER), Outcome::Deferred),
            None if told_to_end => (delivery.release(), Outcome::Released),
            _ => {
                note(&format!("position {position}: the command failed ({status})"));
                (delivery.nack(), Outcome::Nacked)
            }
        };
        match settled.map_err(|error| error.failure) {
            Ok(()) => Ok(outcome),
            Err(failure) => not_settled(position, failure),
        }
    }

    /// Gives everything back as if it had not been received.
    fn release(self) -> Result<(), Failure> {
        for delivery in self.held {
            match delivery.release().map_err(|error| error.failure) {
                Ok(()) | Err(SettleFailure::LeaseLost) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(())
    }
}

/// A lease that was lost is told, and is no reason to end.
fn not_settled(position: u64, failure: SettleFailure) -> Result<Outcome, Failure> {
    if failure != SettleFailure::LeaseLost {
        return Err(failure.into());
    }
    note(&format!("position {position}: its lease was lost while the command ran, it is delivered again"));
    Ok(Outcome::LeaseLost)
}

/// Starts the command for this message, in a process group of its own.
fn start(shop: &Shop<'_>, delivery: &Delivery<'_>) -> Result<Child, Failure> {
    let failed = |e: std::io::Error| Failure::io("starting the command by sh", &e);
    let memory = memfd_create("ringway-message", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut stdin = File::from(memory);
    stdin.write_all(delivery.payload()).and_then(|()| stdin.rewind()).map_err(failed)?;
    let mut command = Command::new("sh");
    command.arg("-c").arg(shop.command).stdin(Stdio::from(stdin)).process_group(0);
    if shop.report.is_some() {
        // Stdout is for the report.
        command.stdout(Stdio::from(std::io::stderr()));
    }
    command
        .env("RINGWAY_QUEUE", &shop.args.queue)
        .env("RINGWAY_GROUP", &shop.args.group)
        .env("RINGWAY_POSITION", delivery.position().to_string())
        .env("RINGWAY_ATTEMPT", delivery.attempt().to_string());
    let headers = delivery.headers();
    for (name, value) in
        [("RINGWAY_TYPE", headers.message_type()), ("RINGWAY_CORRELATION_ID", headers.correlation_id())]
    {
        match value {
            // The environment cannot carry NUL.
            Some(value) => command.env(name, value.replace('\0', "\u{fffd}")),
            None => command.env_remove(name),
        };
    }
    command.spawn().map_err(failed)
}

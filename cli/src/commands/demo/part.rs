//! The processes that the director starts: the order service and the workers.
//!
//! Both are led through stdin, so that they also end when the director is gone: the service is told up to
//! which order to publish, a worker that waits inside its handler is told to go on. The director plants a
//! fault as a file in the demo's directory; the worker that succeeds in removing it is the one to hold
//! the order it has just received.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway::{Consumer, Delivery, Message, OnFull, Producer, Queue, SettleFailure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::evidence::{Event, Log};
use super::orders;
use crate::args::DemoPartArgs;
use crate::commands::Context;
use crate::exit::{Code, Failure};

/// The orders to place, one a line.
pub(super) const ORDERS: &str = "orders.jsonl";
/// Whoever removes this file waits inside its handler.
pub(super) const HOLD: &str = "hold";
/// As before, and shortens its lease to [`SHORT_LEASE`] first.
pub(super) const HOLD_SHORT: &str = "hold-short";
/// How long the paused worker keeps its order.
pub(super) const SHORT_LEASE: Duration = Duration::from_millis(400);

/// Orders that are confirmed together.
const TOGETHER: usize = 8;

/// How long a worker waits for orders before it looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(20);

/// The log of a part; 0 is the order service.
pub(super) fn log_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("log-{number}.jsonl"))
}

/// The order service: publishes up to the order whose number it reads from stdin, again and again.
pub(in crate::commands) fn service(context: &Context, args: &DemoPartArgs) -> Result<(), Failure> {
    let queue = context.queue(&args.queue)?;
    let patience = Duration::from_secs(60);
    let producer = queue.producer().on_full(OnFull::Block(patience)).build()?;
    let mut log = Log::open(&log_path(&args.dir, args.number))?;
    let text =
        std::fs::read_to_string(args.dir.join(ORDERS)).map_err(|e| Failure::io("reading orders", &e))?;
    let mut waiting = text.lines();
    let mut placed = 0;
    for told in io::stdin().lines() {
        let told = told.map_err(|e| Failure::io("reading stdin", &e))?;
        let upto: usize = told
            .parse()
            .map_err(|_| Failure::new(Code::Usage, format!("{told:?} is not the number of an order")))?;
        let told: Vec<&str> = waiting.by_ref().take(upto.saturating_sub(placed)).collect();
        placed += told.len();
        for together in told.chunks(if args.confirm { TOGETHER } else { 1 }) {
            let mut ids = Vec::with_capacity(together.len());
            for order in together {
                let id = place(&producer, order)?;
                log.write(Event::Placed, &id)?;
                ids.push(id);
            }
            if args.confirm {
                producer.flush()?;
                ids.iter().try_for_each(|id| log.write(Event::Confirmed, id))?;
            }
        }
    }
    Ok(())
}

/// Publishes an order; its id.
fn place(producer: &Producer, order: &str) -> Result<String, Failure> {
    let id = orders::id_of(order.as_bytes()).map_err(|what| Failure::new(Code::Failed, what))?;
    let message = Message::new(order)
        .with_type("order.placed")
        .with_content_type("application/json")
        .with_correlation_id(&id);
    producer.publish(message).map_err(|error| Failure::from(error.failure).about(&id))?;
    Ok(id)
}

/// A restaurant worker: receives, cooks, acks, until its stdin is closed.
pub(in crate::commands) fn worker(context: &Context, args: &DemoPartArgs) -> Result<(), Failure> {
    let queue: Queue = context.queue(&args.queue)?;
    let consumer: Consumer = queue.consumer("default").build()?;
    let mut log = Log::open(&log_path(&args.dir, args.number))?;
    log.write(Event::Ready, "")?;
    while wanted()? {
        if let Some(delivery) = consumer.receive_timeout(SLICE)? {
            handle(delivery, args, &mut log)?;
        }
    }
    Ok(())
}

fn handle(mut delivery: Delivery<'_>, args: &DemoPartArgs, log: &mut Log) -> Result<(), Failure> {
    let id = orders::id_of(delivery.payload()).map_err(|what| Failure::new(Code::Failed, what))?;
    log.write(Event::Received, &id)?;
    if is_my_turn(&args.dir.join(HOLD_SHORT))? {
        delivery.extend(SHORT_LEASE)?;
        hold(&id, log)?;
    } else if is_my_turn(&args.dir.join(HOLD))? {
        hold(&id, log)?;
    } else {
        std::thread::sleep(args.cook);
    }
    log.write(Event::Finished, &id)?;
    match delivery.ack().map_err(|error| error.failure) {
        Ok(()) => log.write(Event::Acked, &id),
        Err(SettleFailure::LeaseLost) => log.write(Event::Refused, &id),
        Err(failure) => Err(failure.into()),
    }
}

/// Whether this process is the one that removes the file.
fn is_my_turn(file: &Path) -> Result<bool, Failure> {
    match std::fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Failure::io("taking a turn in the demo", &e)),
    }
}

/// Waits inside the handler until the director says to go on.
fn hold(id: &str, log: &mut Log) -> Result<(), Failure> {
    log.write(Event::Holding, id)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|e| Failure::io("reading stdin", &e))?;
    Ok(())
}

/// Whether stdin is still open.
fn wanted() -> Result<bool, Failure> {
    let stdin = io::stdin();
    let mut closed = [PollFd::new(&stdin, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    retry_on_intr(|| poll(&mut closed, Some(&at_once)))
        .map_err(|e| Failure::io("reading stdin", &e.into()))?;
    Ok(closed[0].revents().is_empty())
}

//! `ringway consume`: receive, print or hand to a command, settle.
//!
//! A printed message is acknowledged when stdout took all of its bytes. Of a batch that stdout took in
//! part (the reader went away, the disk is full) the messages that went out are acknowledged and
//! the others released, as if they had not been received.

use std::time::{Duration, Instant};

use ringway::{Consumer, Delivery, DurableError, Lease, Queue, Received, SettleFailure, Wait};
use serde::Serialize;

use super::{Context, check_durable, exec};
use crate::args::{ConsumeArgs, LeaseArg, WaitArg};
use crate::exit::{Code, Failure, note};
use crate::output::{self, Content, Out};
use crate::signals::Stop;

/// How often a wait for messages is interrupted to see whether to stop.
const SLICE: Duration = Duration::from_millis(100);

/// Messages that are printed by one write.
const PRINT_BATCH: usize = 64;

pub(super) fn run(context: &Context, args: &ConsumeArgs) -> Result<(), Failure> {
    if args.exclusive && args.concurrency > 1 {
        let message = "--exclusive is one consumer: it cannot be used with --concurrency";
        return Err(Failure::new(Code::Usage, message));
    }
    let store = context.store()?;
    let queue = store.queue(&args.queue)?;
    if args.ack_durable {
        check_durable(&store)?;
    }
    let stop = Stop::listen()?;
    if let Some(command) = &args.exec {
        exec::run(context, &queue, args, command, &stop)?;
    } else {
        let batch = args.batch.unwrap_or(PRINT_BATCH);
        let consumer = consumer(&queue, args, batch)?;
        let (out, buffer, ack_durable) = (Out::open()?, Vec::new(), args.ack_durable);
        let mut printer = Printer { out, json: context.json, buffer, ack_durable };
        let mut idle = Idle::new(args);
        if args.delete {
            print_deleted(&consumer, args.count, &mut idle, &stop, &mut printer)?;
        } else {
            print(&consumer, batch, args.count, &mut idle, &stop, &mut printer)?;
        }
    }
    stop.outcome()
}

/// A consumer as the options ask for it.
pub(super) fn consumer(queue: &Queue, args: &ConsumeArgs, holds: usize) -> Result<Consumer, Failure> {
    let mut builder = queue.consumer(&args.group).max_in_flight(holds).wait(match args.wait {
        WaitArg::Spin => Wait::Spin,
        WaitArg::Adaptive => Wait::Adaptive,
        WaitArg::Park => Wait::Park,
    });
    if args.exclusive {
        builder = builder.exclusive();
    }
    builder = match args.lease {
        Some(LeaseArg::UntilDeath) => builder.lease(Lease::UntilDeath),
        Some(LeaseArg::Timed(time)) => builder.lease(Lease::Timed(time)),
        None => builder,
    };
    Ok(builder.build()?)
}

/// Acknowledges, and waits until that is durable if it is to be.
pub(super) fn ack(delivery: Delivery<'_>, durably: bool) -> Result<(), DurableError> {
    if durably {
        return delivery.ack_durable();
    }
    delivery.ack().map_err(|error| error.failure.into())
}

/// How long to go on without messages.
#[derive(Debug, Clone)]
pub(super) struct Idle {
    /// `None` for ever.
    patience: Option<Duration>,
    since: Instant,
}

impl Idle {
    pub(super) fn new(args: &ConsumeArgs) -> Idle {
        let patience = if args.follow { None } else { Some(args.timeout.unwrap_or_default()) };
        Idle { patience, since: Instant::now() }
    }

    /// How long to wait before looking whether to stop.
    pub(super) fn slice(&self) -> Duration {
        self.patience.map_or(SLICE, |patience| SLICE.min(patience.saturating_sub(self.since.elapsed())))
    }

    pub(super) fn over(&self) -> bool {
        self.patience.is_some_and(|patience| self.since.elapsed() >= patience)
    }

    pub(super) fn reset(&mut self) {
        self.since = Instant::now();
    }
}

fn print(
    consumer: &Consumer,
    batch: usize,
    count: Option<u64>,
    idle: &mut Idle,
    stop: &Stop,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 && !stop.asked() {
        let most = batch.min(usize::try_from(left).unwrap_or(usize::MAX));
        let deliveries = consumer.receive_batch(most, idle.slice())?;
        if deliveries.is_empty() {
            if idle.over() {
                break;
            }
            continue;
        }
        left -= deliveries.len() as u64;
        printer.print_and_settle(deliveries)?;
        idle.reset();
    }
    Ok(())
}

fn print_deleted(
    consumer: &Consumer,
    count: Option<u64>,
    idle: &mut Idle,
    stop: &Stop,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 && !stop.asked() {
        match consumer.receive_and_delete(idle.slice())? {
            Some(received) => {
                printer.print_deleted(&received)?;
                left -= 1;
                idle.reset();
            }
            None if idle.over() => break,
            None => {}
        }
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Record<'a> {
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u16>,
    #[serde(flatten)]
    content: Content<'a>,
}

struct Printer {
    out: Out,
    json: bool,
    buffer: Vec<u8>,
    ack_durable: bool,
}

impl Printer {
    fn print_and_settle(&mut self, deliveries: Vec<Delivery<'_>>) -> Result<(), Failure> {
        self.buffer.clear();
        let mut ends = Vec::with_capacity(deliveries.len());
        for delivery in &deliveries {
            self.append(delivery)?;
            ends.push(self.buffer.len());
        }
        let (taken, outcome) = match self.out.write(&self.buffer) {
            Ok(()) => (self.buffer.len(), Ok(())),
            Err((taken, failure)) => (taken, Err(failure)),
        };
        for (delivery, end) in deliveries.into_iter().zip(ends) {
            let position = delivery.position();
            let settled = if end > taken {
                delivery.release().map_err(|error| error.failure.into())
            } else {
                ack(delivery, self.ack_durable)
            };
            match settled {
                Ok(()) => {}
                Err(DurableError::Settle(SettleFailure::LeaseLost)) if end <= taken => note(&format!(
                    "position {position} was printed after its lease had run out and will be delivered again: \
                     take a longer --lease, or a smaller --batch"
                )),
                // Not printed, and with another consumer already.
                Err(DurableError::Settle(SettleFailure::LeaseLost)) => {}
                Err(failure) => return Err(Failure::from(failure).about(format!("position {position}"))),
            }
        }
        outcome
    }

    fn append(&mut self, delivery: &Delivery<'_>) -> Result<(), Failure> {
        if !self.json {
            self.buffer.extend_from_slice(delivery.payload());
            self.buffer.push(b'\n');
            return Ok(());
        }
        let record = Record {
            position: delivery.position(),
            attempt: Some(delivery.attempt()),
            failures: Some(delivery.failures()),
            content: Content::new(delivery.headers(), delivery.payload()),
        };
        output::json_line(&mut self.buffer, &record)
    }

    fn print_deleted(&mut self, received: &Received) -> Result<(), Failure> {
        self.buffer.clear();
        if self.json {
            let content = Content::new(received.message.headers(), received.message.payload());
            let record = Record { position: received.position, attempt: None, failures: None, content };
            output::json_line(&mut self.buffer, &record)?;
        } else {
            self.buffer.extend_from_slice(received.message.payload());
            self.buffer.push(b'\n');
        }
        self.out.write(&self.buffer).map_err(|(_, failure)| failure)
    }
}

//! The workloads: a stream, and one message at a time.
//!
//! Two processes are forked for each, one that publishes and one that consumes. They share a start line and
//! three words: how many messages the consumer has acknowledged, when the last one was sent, and how many
//! were published in all. A last message says that there are no more.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ringway_measure::{END, Faults, Gate, Latency, Tally, check, fill, id, join_all, now_ns, spawn};
use serde::{Deserialize, Serialize};

use super::{Broker, Line, Receiver, Sender};
use crate::interrupt;

/// The word that counts what the consumer has acknowledged.
const ACKNOWLEDGED: usize = 0;
/// The word that says when the last message was sent.
const SENT: usize = 1;
/// The word that says how many were published.
const PUBLISHED: usize = 2;

/// A producer that is this far ahead of its consumer waits.
const LEAD: u64 = 16_384;

/// Messages between two looks at how far the other end is.
const STRIDE: u64 = 64;

/// Seconds without any message after which a consumer gives up.
const PATIENCE: usize = 30;

/// What a run may take beyond its own time.
const LIMIT: Duration = Duration::from_secs(120);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Time of a stream that does not count.
    pub warm_up: Duration,
    /// Time of a stream that counts.
    pub stream: Duration,
    /// Messages sent one at a time that do not count.
    pub first: u64,
    /// The most that count.
    pub most: u64,
    /// The longest that they may take.
    pub latency: Duration,
}

impl Plan {
    /// For figures.
    pub const FULL: Plan = Plan {
        warm_up: Duration::from_millis(300),
        stream: Duration::from_millis(1_500),
        first: 100,
        most: 50_000,
        latency: Duration::from_secs(2),
    };

    /// To see that it works.
    pub const QUICK: Plan = Plan {
        warm_up: Duration::from_millis(20),
        stream: Duration::from_millis(100),
        first: 10,
        most: 200,
        latency: Duration::from_secs(1),
    };
}

/// When the next message is sent, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As soon as the last one was acknowledged, by a producer that watches a word of shared memory.
    Watching,
    /// As soon as the last one was acknowledged, by a producer that slept in the kernel until then.
    Sleeping,
    /// Some time after that, so that everybody sleeps.
    Resting,
}

impl Pace {
    /// Long enough for an adaptive consumer to go to sleep.
    const REST: Duration = Duration::from_micros(300);
}

/// What a stream came to.
#[derive(Debug, Clone, Copy)]
pub struct Streamed {
    pub msgs_per_s: f64,
    pub faults: Faults,
}

/// What messages sent one at a time came to.
#[derive(Debug, Clone)]
pub struct Timed {
    pub one_way: Latency,
    pub publish: Latency,
    pub faults: Faults,
}

/// What a process has to say.
#[derive(Debug, Serialize, Deserialize)]
enum Part {
    Produced(Produced),
    Consumed(Consumed),
}

#[derive(Debug, Serialize, Deserialize)]
struct Produced {
    published: u64,
    /// From before each publish until it was confirmed, one at a time.
    publish: Latency,
}

#[derive(Debug, Serialize, Deserialize)]
struct Consumed {
    tally: Tally,
    /// Of a stream.
    msgs_per_s: f64,
    /// From before each publish until it was handed over, one at a time.
    one_way: Latency,
}

impl Consumed {
    /// What is wrong with it.
    fn faults(&self, produced: &Produced) -> Faults {
        self.tally.faults(&Tally::of_published(&[produced.published]))
    }
}

/// Streams for some time.
pub fn stream<B: Broker>(broker: &B, queue: Line<'_>, batch: usize, plan: Plan) -> Result<Streamed> {
    let gate = Gate::new(2).map_err(told)?;
    let (gate, time) = (&gate, plan.warm_up + plan.stream);
    let consumer = move || {
        let receiver = broker.receiver(queue)?;
        consume_stream(receiver, gate, batch, plan.warm_up)
    };
    let producer = move || {
        let sender = broker.sender(queue, batch)?;
        produce_stream(sender, gate, queue.payload, time)
    };
    let (consumed, produced) = both(consumer, producer, time)?;
    Ok(Streamed { msgs_per_s: consumed.msgs_per_s, faults: consumed.faults(&produced) })
}

/// Sends one message after the other.
pub fn one_by_one<B: Broker>(broker: &B, queue: Line<'_>, pace: Pace, plan: Plan) -> Result<Timed> {
    let gate = &Gate::new(2).map_err(told)?;
    let (here, there) = UnixStream::pair()?;
    here.set_read_timeout(Some(LIMIT))?;
    let (here, there) = (&here, &there);
    let consumer = move || {
        let receiver = broker.receiver(queue)?;
        consume_singly(receiver, gate, there, pace, plan)
    };
    let producer = move || {
        let sender = broker.sender(queue, 1)?;
        produce_singly(sender, gate, here, queue.payload, pace, plan)
    };
    let (consumed, produced) = both(consumer, producer, plan.latency)?;
    let faults = consumed.faults(&produced);
    Ok(Timed { one_way: consumed.one_way, publish: produced.publish, faults })
}

/// Runs both ends.
fn both(
    consumer: impl FnOnce() -> Result<Consumed>,
    producer: impl FnOnce() -> Result<Produced>,
    time: Duration,
) -> Result<(Consumed, Produced)> {
    let tell = |error: anyhow::Error| ringway_measure::Error::new(format!("{error:#}"));
    let consumer = move || consumer().map(Part::Consumed).map_err(|error| tell(error).about("consumer"));
    let producer = move || producer().map(Part::Produced).map_err(|error| tell(error).about("producer"));
    let children = vec![spawn(consumer).map_err(told)?, spawn(producer).map_err(told)?];
    let go_on = || interrupt::check().map_err(tell);
    let parts = join_all(children, time + LIMIT, go_on).map_err(told)?;
    match <[Part; 2]>::try_from(parts) {
        Ok([Part::Consumed(consumed), Part::Produced(produced)]) => Ok((consumed, produced)),
        _ => bail!("the ends reported something else than they did"),
    }
}

fn told(error: ringway_measure::Error) -> anyhow::Error {
    anyhow!("{error}")
}

fn produce_stream(mut sender: impl Sender, gate: &Gate, payload: usize, time: Duration) -> Result<Produced> {
    let mut buffer = vec![0; payload];
    let mut published = 0;
    let end = gate.arrive() + time.as_nanos() as u64;
    while now_ns() < end {
        for _ in 0..STRIDE {
            fill(&mut buffer, id(0, published));
            sender.send(&buffer)?;
            published += 1;
        }
        // Acquire, here and below: what the other end did before its store has happened.
        while published - gate.word(ACKNOWLEDGED).load(Acquire) > LEAD {
            thread::sleep(Duration::from_micros(50));
        }
    }
    say_end(sender, gate, buffer, published)?;
    Ok(Produced { published, publish: Latency::new() })
}

/// Tells the consumer how many there were, and that there are no more.
fn say_end(mut sender: impl Sender, gate: &Gate, mut buffer: Vec<u8>, published: u64) -> Result<()> {
    gate.word(PUBLISHED).store(published, Release);
    fill(&mut buffer, END);
    sender.send(&buffer)?;
    sender.flush()
}

/// What a consumer has seen.
struct Seen {
    tally: Tally,
    count: u64,
    ended: bool,
    idle: usize,
}

impl Seen {
    fn new() -> Seen {
        Seen { tally: Tally::new(1), count: 0, ended: false, idle: 0 }
    }

    #[inline]
    fn see(&mut self, payload: &[u8]) {
        match check(payload) {
            Some(END) => self.ended = true,
            Some(id) if self.tally.add(id) => self.count += 1,
            _ => self.tally.add_torn(),
        }
    }

    /// After each take: whether all that was published has come, or an error if nothing comes any more.
    #[inline]
    fn all(&mut self, taken: usize, gate: &Gate) -> Result<bool> {
        self.idle = if taken == 0 { self.idle + 1 } else { 0 };
        if self.ended && self.count >= gate.word(PUBLISHED).load(Acquire) {
            return Ok(true);
        }
        ensure!(self.idle < PATIENCE, "nothing came for {PATIENCE} s after {} messages", self.count);
        Ok(false)
    }
}

fn consume_stream(
    mut receiver: impl Receiver,
    gate: &Gate,
    batch: usize,
    warm_up: Duration,
) -> Result<Consumed> {
    let mut seen = Seen::new();
    let warm = gate.arrive() + warm_up.as_nanos() as u64;
    // When it began to count, and after how many messages: first with the first of all, then once it is warm.
    let mut from: Option<(u64, u64)> = None;
    let (mut is_warm, mut looked) = (false, 0);
    loop {
        let taken = receiver.take(batch, |payload| seen.see(payload))?;
        if from.is_none() || seen.count - looked >= STRIDE {
            gate.word(ACKNOWLEDGED).store(seen.count, Release);
            looked = seen.count;
            if !is_warm && taken > 0 {
                let now = now_ns();
                is_warm = now >= warm;
                if is_warm || from.is_none() {
                    from = Some((now, seen.count));
                }
            }
        }
        if seen.all(taken, gate)? {
            break;
        }
    }
    receiver.finish()?;
    let (start, before) = from.context("nothing came")?;
    let seconds = (now_ns() - start) as f64 / 1e9;
    let msgs_per_s = (seen.count - before) as f64 / seconds;
    Ok(Consumed { tally: seen.tally, msgs_per_s, one_way: Latency::new() })
}

fn produce_singly(
    mut sender: impl Sender,
    gate: &Gate,
    mut acknowledged: &UnixStream,
    payload: usize,
    pace: Pace,
    plan: Plan,
) -> Result<Produced> {
    let mut buffer = vec![0; payload];
    let mut publish = Latency::new();
    let mut published = 0;
    gate.arrive();
    let mut end = u64::MAX;
    loop {
        if published == plan.first {
            end = now_ns() + plan.latency.as_nanos() as u64;
        }
        fill(&mut buffer, id(0, published));
        let start = now_ns();
        gate.word(SENT).store(start, Release);
        sender.send(&buffer)?;
        sender.flush()?;
        let now = now_ns();
        if published >= plan.first {
            publish.record(now - start);
        }
        published += 1;
        match pace {
            Pace::Watching => wait_for(gate, published),
            Pace::Sleeping => acknowledged.read_exact(&mut [0])?,
            Pace::Resting => {
                acknowledged.read_exact(&mut [0])?;
                thread::sleep(Pace::REST);
            }
        }
        if published >= plan.first + plan.most || now >= end {
            break;
        }
    }
    say_end(sender, gate, buffer, published)?;
    Ok(Produced { published, publish })
}

/// Watches until this many are acknowledged.
fn wait_for(gate: &Gate, count: u64) {
    let mut looks = 0_u32;
    while gate.word(ACKNOWLEDGED).load(Acquire) < count {
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(10_000) { thread::yield_now() } else { std::hint::spin_loop() }
    }
}

fn consume_singly(
    mut receiver: impl Receiver,
    gate: &Gate,
    mut acknowledged: &UnixStream,
    pace: Pace,
    plan: Plan,
) -> Result<Consumed> {
    let mut seen = Seen::new();
    let mut one_way = Latency::new();
    gate.arrive();
    loop {
        let taken = receiver.take(1, |payload| {
            let now = now_ns();
            let before = seen.count;
            seen.see(payload);
            if seen.count > before.max(plan.first) {
                one_way.record(now.saturating_sub(gate.word(SENT).load(Acquire)));
            }
        })?;
        if taken > 0 && !seen.ended {
            gate.word(ACKNOWLEDGED).store(seen.count, Release);
            if pace != Pace::Watching {
                acknowledged.write_all(&[1])?;
            }
        }
        if seen.all(taken, gate)? {
            break;
        }
    }
    receiver.finish()?;
    Ok(Consumed { tally: seen.tally, msgs_per_s: 0.0, one_way })
}

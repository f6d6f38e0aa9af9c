//! The workloads, as each participant lives them. Compiled for every peer.
//!
//! Every message is written in full and read in full ([`fill`], [`check`]) and counted by its id, so what is
//! lost, doubled or torn while it is measured is found.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use ringway_measure::{END, Latency, Tally, check, fill, id, now_ns};
use serde::{Deserialize, Serialize};

use super::control::{Control, Phase, Place};
use super::peer::{Peer, Receiver, Sender};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Which.
    pub kind: Kind,
    /// Participants that send.
    pub producers: usize,
    /// Participants that receive; each message goes to one of them.
    pub consumers: usize,
    /// Bytes of a message.
    pub payload: usize,
}

/// Which workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One message at a time, there by one queue and back by another.
    RoundTrip,
    /// As many messages as the queue takes.
    Stream,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload { kind, producers, consumers, payload } = self;
        match kind {
            Kind::RoundTrip => write!(f, "round trip, {payload} B"),
            Kind::Stream => write!(f, "{producers}p{consumers}c stream, {payload} B"),
        }
    }
}

/// How long to run.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Before it is measured.
    pub warm_up: Duration,
    /// Messages before it is measured: of large ones a lap, so that all pages are there.
    pub first_messages: u64,
    /// While it is measured.
    pub measure: Duration,
}

/// What a participant has to say at the end.
#[derive(Debug, Serialize, Deserialize)]
pub enum Part {
    /// All messages were sent; how many is in the participant's count.
    Sent,
    /// Messages received.
    Received(Tally),
    /// Round trips: how long they took, how many were begun, and what came back.
    Trips(Latency, u64, Tally),
    /// Nothing.
    Echoed,
}

/// Naps of a receiver, after the last message it saw, before it gives up on what is missing.
const NAPS: u32 = 300;

/// The length of a nap.
const NAP: Duration = Duration::from_millis(1);

/// Sends until told to stop.
pub fn produce<P: Peer>(peer: &P, control: &Control, workload: &Workload, producer: usize) -> Result<Part> {
    control.wait_for_all(Place::Receiving, workload.consumers);
    let mut sender = peer.sender(producer)?;
    control.arrive(Place::Ready);
    control.wait_for(Phase::Run);
    let mut number = 0;
    while control.phase() < Phase::Stop {
        let id = id(producer, number);
        sender.send(|bytes| fill(bytes, id))?;
        number += 1;
    }
    sender.flush()?;
    control.count(producer).store(number, Relaxed);
    control.arrive(Place::Sent);
    control.wait_for(Phase::End);
    Ok(Part::Sent)
}

/// Receives until there is nothing left.
pub fn consume<P: Peer>(peer: &P, control: &Control, workload: &Workload, consumer: usize) -> Result<Part> {
    let mut receiver = peer.receiver(consumer)?;
    control.arrive(Place::Receiving);
    control.arrive(Place::Ready);
    control.wait_for(Phase::Run);
    let producers = workload.producers;
    let mut tally = Tally::new(producers);
    let mut received = 0;
    let so_far = control.count(producers + consumer);
    while control.phase() < Phase::Drain {
        received += receiver.recv(|bytes| count(&mut tally, bytes))? as u64;
        so_far.store(received, Relaxed);
    }
    control.arrive(Place::Draining);
    let everybody = producers..producers + workload.consumers;
    let mut idle = 0;
    while idle < NAPS {
        match receiver.try_recv(|bytes| count(&mut tally, bytes))? {
            0 if control.arrived(Place::Sent) < producers => thread::yield_now(),
            0 if control.total(everybody.clone()) >= control.total(0..producers) => break,
            0 => {
                idle += 1;
                thread::sleep(NAP);
            }
            found => {
                idle = 0;
                received += found as u64;
                so_far.store(received, Relaxed);
            }
        }
    }
    control.arrive(Place::Received);
    control.wait_for(Phase::End);
    Ok(Part::Received(tally))
}

/// Counts a message, whole or not.
#[inline]
fn count(tally: &mut Tally, bytes: &[u8]) {
    tally.take(bytes);
}

/// The two ends of one who takes part in a round trip, when both sides have theirs.
fn ends<P: Peer>(from: &P, to: &P, control: &Control) -> Result<(P::Receiver, P::Sender)> {
    let receiver = from.receiver(0)?;
    control.arrive(Place::Receiving);
    control.wait_for_all(Place::Receiving, 2);
    let sender = to.sender(0)?;
    control.arrive(Place::Ready);
    control.wait_for(Phase::Run);
    Ok((receiver, sender))
}

/// Sends a message, waits for its echo, and again, until the time is over.
pub fn ping<P: Peer>(there: &P, back: &P, control: &Control, timing: Timing) -> Result<Part> {
    let (mut receiver, mut sender) = ends(back, there, control)?;
    let (mut latency, mut tally) = (Latency::new(), Tally::new(1));
    let warm = now_ns() + timing.warm_up.as_nanos() as u64;
    let mut end = u64::MAX;
    let mut number = 0;
    loop {
        let start = now_ns();
        sender.send(|bytes| fill(bytes, id(0, number)))?;
        receiver.recv(|bytes| count(&mut tally, bytes))?;
        let now = now_ns();
        number += 1;
        control.count(0).store(number, Relaxed);
        if end != u64::MAX {
            latency.record(now - start);
            if now >= end {
                break;
            }
        } else if now >= warm && number >= timing.first_messages {
            end = now + timing.measure.as_nanos() as u64;
        }
    }
    sender.send(|bytes| fill(bytes, END))?;
    control.arrive(Place::Received);
    control.wait_for(Phase::End);
    Ok(Part::Trips(latency, number, tally))
}

/// Sends back what comes.
pub fn echo<P: Peer>(there: &P, back: &P, control: &Control) -> Result<Part> {
    let (mut receiver, mut sender) = ends(there, back, control)?;
    loop {
        let mut found = None;
        receiver.recv(|bytes| found = check(bytes))?;
        match found {
            Some(END) => break,
            Some(id) => sender.send(|bytes| fill(bytes, id))?,
            // Answered by what is no whole message either, so that it is counted.
            None => sender.send(|bytes| bytes.iter_mut().zip(0..).for_each(|(byte, at)| *byte = at))?,
        }
    }
    control.arrive(Place::Received);
    control.wait_for(Phase::End);
    Ok(Part::Echoed)
}

//! What the harness says of queues that lose, double, tear or stall: the peers' figures are only worth what
//! it would have found.
//!
//! One process with one thread, since it forks: so a plain program instead of `#[test]`s.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use ringway_compare::memory::peer::{Pace, Peer, Receiver, Sender, Setup};
use ringway_compare::memory::runner::{Case, Ended, Figure, Measured, run};
use ringway_compare::memory::workload::{Kind, Timing, Workload};
use ringway_measure::Faults;

/// A queue that does what it should.
const SOUND: u8 = 0;
/// One that loses some messages.
const LOSES: u8 = 1;
/// One that gives some messages out twice.
const DOUBLES: u8 = 2;
/// One that changes a byte in some messages.
const TEARS: u8 = 3;
/// One that takes no more messages after some.
const STALLS: u8 = 4;
/// One whose receivers cannot be made.
const FAILS: u8 = 5;
/// One whose receivers panic.
const PANICS: u8 = 6;

/// Every so many messages something happens.
const EVERY: u64 = 97;

/// More do not fit.
const DEPTH: usize = 256;

/// A queue between threads, with a fault.
#[derive(Clone)]
struct Queue<const FAULT: u8> {
    messages: Arc<Mutex<(VecDeque<Vec<u8>>, u64)>>,
    payload: usize,
}

impl<const FAULT: u8> Queue<FAULT> {
    fn messages(&self) -> MutexGuard<'_, (VecDeque<Vec<u8>>, u64)> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const FAULT: u8> Peer for Queue<FAULT> {
    type Sender = Self;
    type Receiver = Self;

    const THREADS: bool = true;

    fn create(setup: &Setup) -> Result<Self> {
        Ok(Queue { messages: Arc::default(), payload: setup.payload })
    }

    fn sender(&self, _index: usize) -> Result<Self> {
        Ok(self.clone())
    }

    fn receiver(&self, _index: usize) -> Result<Self> {
        match FAULT {
            FAILS => bail!("out of receivers"),
            _ => Ok(self.clone()),
        }
    }
}

impl<const FAULT: u8> Sender for Queue<FAULT> {
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut message = vec![0; self.payload];
        fill(&mut message);
        let mut messages = Pace::Yield.until(|| {
            let messages = self.messages();
            let stalled = FAULT == STALLS && messages.1 > EVERY;
            Ok((messages.0.len() < DEPTH && !stalled).then_some(messages))
        })?;
        messages.1 += 1;
        if messages.1.is_multiple_of(EVERY) {
            match FAULT {
                LOSES => return Ok(()),
                DOUBLES => messages.0.push_back(message.clone()),
                TEARS => message[self.payload - 1] ^= 1,
                _ => {}
            }
        }
        messages.0.push_back(message);
        Ok(())
    }
}

impl<const FAULT: u8> Receiver for Queue<FAULT> {
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        assert!(FAULT != PANICS, "receivers of this queue panic");
        let Some(message) = self.messages().0.pop_front() else { return Ok(0) };
        read(&message);
        Ok(1)
    }

    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.poll(Pace::Yield, read)
    }
}

fn go<const FAULT: u8>(kind: Kind, each: usize) -> Result<Ended> {
    let dir = tempfile::tempdir()?;
    run::<Queue<FAULT>>(&Case {
        workload: Workload { kind, producers: each, consumers: each, payload: 64 },
        batch: 1,
        timing: Timing {
            warm_up: Duration::from_millis(5),
            first_messages: 100,
            measure: Duration::from_millis(30),
        },
        dir: dir.path().to_owned(),
        name: "faults".to_owned(),
        cpus: ringway_measure::cpus(),
    })
}

fn faults<const FAULT: u8>(kind: Kind, each: usize) -> Result<Faults> {
    match go::<FAULT>(kind, each)? {
        Ended::Measured(Measured { faults, figure }) => {
            let plausible = match (kind, figure) {
                (Kind::RoundTrip, Figure::RoundTrip { p50, p99, max, .. }) => {
                    0.0 < p50 && p50 <= p99 && p99 <= max
                }
                (Kind::Stream, Figure::Stream(rate)) => rate > 0.0,
                _ => false,
            };
            if !plausible {
                bail!("implausible: {figure:?}");
            }
            Ok(faults)
        }
        Ended::Stalled => bail!("stalled"),
    }
}

fn sound() -> Result<bool> {
    let all = [(Kind::RoundTrip, 1), (Kind::Stream, 1), (Kind::Stream, 2), (Kind::Stream, 4)];
    all.into_iter().try_fold(true, |so_far, (kind, each)| Ok(so_far && faults::<SOUND>(kind, each)?.none()))
}

fn losses_are_found() -> Result<bool> {
    let found = faults::<LOSES>(Kind::Stream, 2)?;
    Ok(found.lost > 0 && found.duplicated == 0 && found.torn == 0)
}

fn doubles_are_found() -> Result<bool> {
    let found = faults::<DOUBLES>(Kind::Stream, 2)?;
    Ok(found.duplicated > 0 && found.lost == 0 && found.torn == 0)
}

fn torn_ones_are_found() -> Result<bool> {
    // A message that is torn is missing as well.
    let (stream, trips) = (faults::<TEARS>(Kind::Stream, 2)?, faults::<TEARS>(Kind::RoundTrip, 1)?);
    Ok(stream.torn > 0 && stream.lost == stream.torn && stream.duplicated == 0 && trips.torn > 0)
}

fn a_stall_ends() -> Result<bool> {
    let ends =
        [go::<STALLS>(Kind::Stream, 1)?, go::<STALLS>(Kind::RoundTrip, 1)?, go::<LOSES>(Kind::RoundTrip, 1)?];
    Ok(ends.iter().all(|end| matches!(end, Ended::Stalled)))
}

fn errors_are_told() -> Result<bool> {
    let told =
        |end: Result<Ended>, text: &str| matches!(end, Err(error) if format!("{error:#}").contains(text));
    Ok(told(go::<FAILS>(Kind::Stream, 2), "out of receivers")
        && told(go::<PANICS>(Kind::Stream, 2), "panicked"))
}

/// A name, and what says whether it holds.
type Check = (&'static str, fn() -> Result<bool>);

fn main() -> ExitCode {
    let checks: [Check; 6] = [
        ("a sound queue has no faults", sound),
        ("losses are found", losses_are_found),
        ("doubles are found", doubles_are_found),
        ("torn ones are found", torn_ones_are_found),
        ("a stall ends", a_stall_ends),
        ("errors are told", errors_are_told),
    ];
    let mut failed = 0;
    for (name, check) in checks {
        let result = check();
        let passed = matches!(result, Ok(true));
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            println!("  {result:?}");
            failed += 1;
        }
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed",
        if failed == 0 { "ok" } else { "FAILED" },
        6 - failed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! What each part of the demo saw, written down at the time.
//!
//! A log is a file of JSON lines that only its writer appends to, by one `write` for each record, and
//! before it does what follows: *received* comes before the handler, *finished* before the ack, *acked*
//! after it succeeded. So what a log says has happened, whatever becomes of the process that wrote it.
//! Times are of `CLOCK_BOOTTIME`, which all processes of the host share.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::exit::{Code, Failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    /// A worker is about to receive for the first time.
    Ready,
    /// The order service's publish was accepted.
    Placed,
    /// It is known to be on the disk.
    Confirmed,
    /// A worker's handler was given an order.
    Received,
    /// It waits in the handler for what comes.
    Holding,
    /// The handler is through with it.
    Finished,
    /// The ack was accepted.
    Acked,
    /// The ack was refused: the lease was lost.
    Refused,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Nanoseconds since boot.
    pub(super) at: u64,
    pub(super) event: Event,
    /// The order's id; empty if it is about none.
    pub(super) order: String,
}

/// The time, in nanoseconds since boot.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[derive(Debug)]
pub(super) struct Log {
    file: File,
}

impl Log {
    /// Opens the log, which the director has made.
    pub(super) fn open(path: &Path) -> Result<Log, Failure> {
        let file = OpenOptions::new().append(true).open(path);
        Ok(Log { file: file.map_err(|e| Failure::io("opening a log of the demo", &e))? })
    }

    pub(super) fn write(&mut self, event: Event, order: &str) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::io("writing a log of the demo", &e);
        let record = Record { at: now(), event, order: order.to_string() };
        let mut line = serde_json::to_vec(&record).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed)
    }
}

/// A log as far as it was read.
#[derive(Debug)]
struct Tail {
    file: File,
    /// The start of a record whose end is not there yet.
    unfinished: Vec<u8>,
}

/// A worker that waits inside its handler.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) part: usize,
    pub(super) order: String,
    pub(super) at: u64,
}

/// What is known of an order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// How often: again if it was not confirmed when the power went.
    pub(super) placed: u64,
    pub(super) confirmed: bool,
    /// Who received it, and when.
    pub(super) received: Vec<(usize, u64)>,
    pub(super) finished: u64,
    pub(super) acked: u64,
    pub(super) refused: u64,
}

/// All logs, as far as they were read, by the numbers of their parts.
#[derive(Debug)]
pub(super) struct Evidence {
    tails: Vec<Tail>,
    pub(super) ready: usize,
    pub(super) placed: u64,
    pub(super) confirmed: u64,
    /// Orders whose ack was accepted.
    pub(super) delivered: u64,
    /// Who said last that it holds an order; the director takes it.
    pub(super) holding: Option<Hold>,
    pub(super) orders: HashMap<String, Trace>,
    /// How many records there were.
    pub(super) records: u64,
}

impl Evidence {
    pub(super) fn new() -> Evidence {
        Evidence {
            tails: Vec::new(),
            ready: 0,
            placed: 0,
            confirmed: 0,
            delivered: 0,
            holding: None,
            orders: HashMap::new(),
            records: 0,
        }
    }

    /// Opens the log of the next part, which must be there.
    pub(super) fn add(&mut self, log: &Path) -> Result<(), Failure> {
        let file = File::open(log).map_err(|e| Failure::io("reading a log of the demo", &e))?;
        self.tails.push(Tail { file, unfinished: Vec::new() });
        Ok(())
    }

    /// Reads what was written since.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        for part in 0..self.tails.len() {
            let Tail { file, unfinished } = &mut self.tails[part];
            let mut bytes = std::mem::take(unfinished);
            file.read_to_end(&mut bytes).map_err(|e| Failure::io("reading a log of the demo", &e))?;
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            *unfinished = bytes.split_off(whole);
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let record = serde_json::from_slice(line).map_err(|e| {
                    Failure::new(Code::Failed, format!("a log of the demo has a line that is no record: {e}"))
                })?;
                self.learn(part, record);
            }
        }
        Ok(())
    }

    fn learn(&mut self, part: usize, record: Record) {
        self.records += 1;
        if record.event == Event::Ready {
            self.ready += 1;
            return;
        }
        let trace = self.orders.entry(record.order.clone()).or_default();
        match record.event {
            Event::Ready => {}
            Event::Placed => {
                self.placed += u64::from(trace.placed == 0);
                trace.placed += 1;
            }
            Event::Confirmed => {
                self.confirmed += u64::from(!trace.confirmed);
                trace.confirmed = true;
            }
            Event::Received => trace.received.push((part, record.at)),
            Event::Holding => self.holding = Some(Hold { part, order: record.order, at: record.at }),
            Event::Finished => trace.finished += 1,
            Event::Acked => {
                self.delivered += u64::from(trace.acked == 0);
                trace.acked += 1;
            }
            Event::Refused => trace.refused += 1,
        }
    }

    /// Who else received what this worker holds, and when: after the time given.
    pub(super) fn received_elsewhere(&self, hold: &Hold, after: u64) -> Option<(usize, u64)> {
        let trace = self.orders.get(&hold.order)?;
        trace.received.iter().copied().find(|&(part, at)| part != hold.part && at > after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_once_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::create(&path).unwrap();
        let mut log = Log::open(&path).unwrap();
        let mut evidence = Evidence::new();
        evidence.add(&path).unwrap();
        log.write(Event::Received, "a\n\"1\"").unwrap();
        log.file.write_all(br#"{"at":7,"event":"ack"#).unwrap();
        evidence.read().unwrap();
        assert_eq!((evidence.records, evidence.delivered), (1, 0));
        log.file.write_all(b"ed\",\"order\":\"a\\n\\\"1\\\"\"}\n").unwrap();
        evidence.read().unwrap();
        assert_eq!((evidence.records, evidence.delivered), (2, 1));
        let trace = &evidence.orders["a\n\"1\""];
        assert_eq!((trace.received.len(), trace.acked, trace.placed), (1, 1, 0));
    }
}

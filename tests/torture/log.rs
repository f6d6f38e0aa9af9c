//! The log of one process: a mapped file of fixed-size records, one a call.
//!
//! Each record is begun before the call and answered after it, its head word last. The pages belong
//! to the file, not to the process, so that whatever was stored before a SIGKILL is there after it,
//! with no system call to be caught in. A record that was begun and not answered is a call that may
//! have happened or not.
//!
//! A few words in front of the records are for talking to the process while it runs.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapRaw};

use crate::clock::now;
use crate::history::{Burial, Call, Dead, Got, Nanos, Published, Settled, Verb};

/// Words before the first record: command, stage, receives, publishes.
const HEADER: usize = 8;
/// Words of a record: head, began, ended, id, position.
const RECORD: usize = 5;
/// How many records a log has room for; who comes near leaves, and another takes over.
const RECORDS: usize = 48 * 1024;
/// A `receive` that gives nothing is told if it takes longer: a short lease may run out in it.
const LONG: Nanos = 4_000_000;
/// Room that is left for what a process still has to note when it is asked to leave.
const RESERVE: usize = 1024;

/// What the process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Command {
    Run = 0,
    /// Do nothing for now.
    Idle = 1,
    Leave = 2,
}

/// How far the process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Stage {
    Started = 0,
    /// It is about to open the store.
    Attaching = 1,
    /// It has its handle and works.
    Working = 2,
    /// It was told to be idle, and is.
    Idle = 3,
}

/// A process's log, for itself to write and for the harness to read.
#[derive(Debug)]
pub(crate) struct Log {
    map: MmapRaw,
    used: usize,
}

/// A record that waits for its answer.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(crate) struct Begun(usize);

/// The head word: kind 4 bits, answer 4, verb 4, flag 4, attempt 16, failures 16, tag 16.
#[derive(Clone, Copy)]
struct Head(u64);

const PUBLISH: u64 = 1;
const RECEIVE: u64 = 2;
const SETTLE: u64 = 3;
const BURY: u64 = 4;

const VERBS: [Verb; 6] = [Verb::Ack, Verb::Nack, Verb::Release, Verb::Reject, Verb::Drop, Verb::Extend];

impl Head {
    fn new(kind: u64) -> Head {
        Head(kind)
    }
    fn with(self, shift: u32, value: u64) -> Head {
        Head(self.0 | value << shift)
    }
    fn field(self, shift: u32, bits: u32) -> u64 {
        self.0 >> shift & ((1 << bits) - 1)
    }
    fn answer(self) -> u64 {
        self.field(4, 4)
    }
    fn verb(self) -> usize {
        self.field(8, 4) as usize
    }
    fn flag(self) -> u64 {
        self.field(12, 4)
    }
}

impl Log {
    /// Makes the file, all zero: no record has begun.
    pub(crate) fn create(path: &Path) -> std::io::Result<()> {
        let bytes = (HEADER + RECORDS * RECORD) * 8;
        OpenOptions::new().write(true).create_new(true).open(path)?.set_len(bytes as u64)
    }

    pub(crate) fn open(path: &Path) -> std::io::Result<Log> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let map = MmapRaw::map_raw(&file)?;
        // A forked worker opens its own.
        map.advise(Advice::DontFork)?;
        Ok(Log { map, used: 0 })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < HEADER + RECORDS * RECORD, "the log is longer than its file");
        // SAFETY: the mapping is page-aligned, at least this long (`create` sized the file and
        // nobody shortens it), stays mapped as long as `self`, and is accessed as atomic words only.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(index)) }
    }

    pub(crate) fn command(&self) -> Command {
        match self.word(0).load(Ordering::Acquire) {
            0 => Command::Run,
            1 => Command::Idle,
            _ => Command::Leave,
        }
    }

    pub(crate) fn order(&self, command: Command) {
        self.word(0).store(command as u64, Ordering::Release);
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.word(1).load(Ordering::Acquire) {
            0 => Stage::Started,
            1 => Stage::Attaching,
            2 => Stage::Working,
            _ => Stage::Idle,
        }
    }

    pub(crate) fn reach(&self, stage: Stage) {
        self.word(1).store(stage as u64, Ordering::Release);
    }

    /// Deliveries so far.
    pub(crate) fn receives(&self) -> u64 {
        self.word(2).load(Ordering::Acquire)
    }

    /// Messages accepted so far.
    pub(crate) fn publishes(&self) -> u64 {
        self.word(3).load(Ordering::Acquire)
    }

    /// One more delivery, for whoever watches.
    pub(crate) fn count_receive(&self) {
        self.word(2).fetch_add(1, Ordering::Release);
    }

    /// One more message accepted, for whoever watches.
    pub(crate) fn count_publish(&self) {
        self.word(3).fetch_add(1, Ordering::Release);
    }

    /// Whether it is time to leave for want of room.
    pub(crate) fn nearly_full(&self) -> bool {
        self.used + RESERVE > RECORDS
    }

    fn field(&self, record: usize, field: usize) -> &AtomicU64 {
        self.word(HEADER + record * RECORD + field)
    }

    fn begin(&mut self, head: Head, id: u64, position: u64) -> Begun {
        let record = self.used;
        self.used += 1;
        self.field(record, 3).store(id, Ordering::Relaxed);
        self.field(record, 4).store(position, Ordering::Relaxed);
        self.field(record, 1).store(now(), Ordering::Relaxed);
        self.field(record, 0).store(head.0, Ordering::Release);
        Begun(record)
    }

    fn end(&self, Begun(record): Begun, answer: u64) {
        self.field(record, 2).store(now(), Ordering::Relaxed);
        let head = Head(self.field(record, 0).load(Ordering::Relaxed));
        self.field(record, 0).store(head.with(4, answer).0, Ordering::Release);
    }

    pub(crate) fn publishing(&mut self, id: u64) -> Begun {
        self.begin(Head::new(PUBLISH), id, 0)
    }

    pub(crate) fn published(&self, call: Begun, answer: Published) {
        match answer {
            Published::Accepted { position } => {
                self.field(call.0, 4).store(position, Ordering::Relaxed);
                self.end(call, 1);
                self.count_publish();
            }
            Published::Refused => self.end(call, 2),
        }
    }

    pub(crate) fn asking(&mut self) -> Begun {
        self.begin(Head::new(RECEIVE), 0, 0)
    }

    /// Nothing was received. The record, the last one, stays only if it took long.
    pub(crate) fn in_vain(&mut self, Begun(record): Begun) {
        let began = self.field(record, 1).load(Ordering::Relaxed);
        if now() - began > LONG {
            self.end(Begun(record), 2);
            return;
        }
        self.field(record, 0).store(0, Ordering::Release);
        self.used = record;
    }

    /// A message of the `receive` that was asked for by `call`; the first one takes that record.
    pub(crate) fn received(&mut self, call: Begun, first: bool, got: Got) {
        let record = if first {
            call.0
        } else {
            self.used += 1;
            self.used - 1
        };
        let began = self.field(call.0, 1).load(Ordering::Relaxed);
        self.field(record, 1).store(began, Ordering::Relaxed);
        self.field(record, 2).store(now(), Ordering::Relaxed);
        self.field(record, 3).store(got.id, Ordering::Relaxed);
        self.field(record, 4).store(got.position, Ordering::Relaxed);
        let head = Head::new(RECEIVE).with(4, 1).with(12, u64::from(got.intact));
        let head = head.with(16, got.attempt.into()).with(32, got.failures.into()).with(48, got.tag.into());
        self.field(record, 0).store(head.0, Ordering::Release);
        self.count_receive();
    }

    pub(crate) fn settling(&mut self, tag: u16, verb: Verb) -> Begun {
        let code = VERBS.iter().position(|&known| known == verb).unwrap_or(0);
        self.begin(Head::new(SETTLE).with(8, code as u64).with(48, tag.into()), 0, 0)
    }

    pub(crate) fn settled(&self, call: Begun, answer: Settled) {
        self.end(call, if answer == Settled::Done { 1 } else { 2 });
    }

    pub(crate) fn burying(&mut self, dead: Dead, verb: Burial) -> Begun {
        let head = Head::new(BURY).with(8, u64::from(verb == Burial::Retry));
        let flags = u64::from(dead.intact) | u64::from(dead.rejected) << 1;
        self.begin(head.with(12, flags), dead.id, dead.position)
    }

    pub(crate) fn buried(&self, call: Begun, done: bool) {
        self.end(call, if done { 1 } else { 2 });
    }

    /// Every call, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        (0..RECORDS).map_while(|record| self.call(record)).collect()
    }

    fn call(&self, record: usize) -> Option<Call> {
        let head = Head(self.field(record, 0).load(Ordering::Acquire));
        let [began, ended, id, position] =
            [1, 2, 3, 4].map(|field| self.field(record, field).load(Ordering::Relaxed));
        let answer = |first| (head.answer() != 0).then_some((ended, head.answer() == first));
        let tag = head.field(48, 16) as u16;
        Some(match head.field(0, 4) {
            PUBLISH => {
                let told = |(at, ok): (Nanos, bool)| {
                    (at, if ok { Published::Accepted { position } } else { Published::Refused })
                };
                Call::Publish { id, began, answer: answer(1).map(told) }
            }
            RECEIVE if head.answer() == 2 => Call::Wait { began, ended },
            RECEIVE => {
                let (attempt, failures) = (head.field(16, 16) as u16, head.field(32, 16) as u16);
                let got = Got { id, position, attempt, failures, intact: head.flag() & 1 == 1, tag };
                Call::Receive { began, got: answer(1).map(|(at, _)| (at, got)) }
            }
            SETTLE => {
                let told =
                    |(at, ok): (Nanos, bool)| (at, if ok { Settled::Done } else { Settled::LeaseLost });
                Call::Settle { tag, verb: VERBS[head.verb()], began, answer: answer(1).map(told) }
            }
            BURY => {
                let verb = if head.verb() == 1 { Burial::Retry } else { Burial::Purge };
                let (intact, rejected) = (head.flag() & 1 == 1, head.flag() & 2 == 2);
                let dead = Dead { id, position, intact, rejected };
                Call::Bury { dead, verb, began, answer: answer(1) }
            }
            _ => return None,
        })
    }
}

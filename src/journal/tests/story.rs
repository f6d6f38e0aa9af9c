//! A random life of a log on the simulated disk: writers, deaths, power cuts, faults; the model is asked after
//! each of them.

use super::super::{Durability, JournalError, LogOptions, Tail, Writer, cut_at, loss, make_spare, read};
use super::model::{Found, Model, fill, kind_of};
use crate::journal::reader::Summary;
use crate::journal::simulated::{Disk, Fault, Random};

const STORE: [u8; 16] = *b"a store's own id";

/// One log and all that happened to it.
pub(super) struct Story {
    pub(super) disk: Disk,
    pub(super) model: Model,
    random: Random,
    options: LogOptions,
    writer: Option<Writer<Disk>>,
    /// The writer of another process, which is alive and waits for its turn.
    other: Option<Writer<Disk>>,
    /// What the writers tell each other.
    tail: Option<Tail>,
    pub(super) cuts: u64,
}

/// Why the log is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// A process died: all that was told is there.
    Death,
    /// A write or sync failed: what was told as durable is there.
    Failure,
    /// A power cut: the same, and what is there now stays.
    PowerCut,
}

/// What an action led to.
enum Outcome {
    Done,
    Died,
    /// The writer refuses everything: the log has to be read anew.
    Failed,
}

impl Story {
    pub(super) fn new(seed: u64) -> Story {
        let mut random = Random::new(seed);
        let disk = Disk::new(random.next());
        if random.percent(50) {
            disk.be_fickle();
        }
        let segment_len = (64 << 10) + 4096 * random.below(16);
        let options = LogOptions { segment_len, spares: random.below(3) as usize };
        Story { disk, model: Model::new(), random, options, writer: None, other: None, tail: None, cuts: 0 }
    }

    /// Some rounds of writing, each of which ends with something going wrong.
    pub(super) fn live(&mut self, rounds: u64) {
        for _ in 0..rounds {
            let most = [8, 40, 150][self.random.below(3) as usize];
            let ahead = 1 + self.random.below(most);
            let fault = match self.random.below(10) {
                0..=6 => Fault::Die,
                7 => Fault::Error,
                8 => Fault::ErrorAndLost,
                _ => Fault::NoSpace,
            };
            self.disk.fail_call(self.disk.calls() + ahead, fault);
            self.go_on(200);
            self.power_cut();
        }
    }

    /// Writes until the fault that is ahead has happened and been dealt with, and then a little more.
    pub(super) fn go_on(&mut self, most: u64) {
        let mut after = 3;
        for _ in 0..most {
            if !self.disk.is_fault_ahead() {
                if after == 0 {
                    break;
                }
                after -= 1;
            }
            match self.act() {
                Outcome::Done => {}
                Outcome::Failed => {
                    self.check_refusal();
                    self.read_again(After::Failure);
                }
                Outcome::Died if self.random.percent(30) => self.power_cut(),
                Outcome::Died => {
                    self.disk.revive();
                    self.writer = self.other.take();
                    // Either the tail is still known, or it has to be found.
                    if self.random.percent(30) {
                        self.read_again(After::Death);
                    }
                }
            }
        }
    }

    pub(super) fn power_cut(&mut self) {
        self.cuts += 1;
        self.disk.cut();
        self.writer = None;
        self.read_again(After::PowerCut);
    }

    /// Reads the log, as after a death, a failure or a power cut.
    fn read_again(&mut self, after: After) {
        (self.writer, self.other) = (None, None);
        match read_all(&self.disk) {
            Ok((found, summary)) => {
                self.model.reread(&found, &summary, after);
                self.model.made |= after == After::PowerCut;
                self.tail = Some(summary.tail);
            }
            Err(JournalError::NotThere { .. }) if !self.model.made => {
                self.model.restart();
                self.tail = None;
            }
            // The fault that was ahead happened to the reader.
            Err(_) if self.disk.is_dead() => {
                self.disk.revive();
                self.read_again(after);
            }
            Err(JournalError::Io { .. } | JournalError::NoSpace { .. }) => self.read_again(after),
            Err(error) => panic!("the log cannot be read: {error}"),
        }
    }

    fn act(&mut self) -> Outcome {
        let Some(tail) = self.tail else { return self.create() };
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::resume(self.disk.clone(), self.options, STORE).expect("options"),
        };
        let result = match self.random.below(20) {
            0 => {
                let made = make_spare(&self.disk, &self.options).map(|_| ());
                if made.is_err() {
                    // The writer knows nothing of it.
                    return self.outcome_of(made);
                }
                Ok(())
            }
            1 => {
                let below = tail.segment.saturating_sub(self.random.below(3));
                self.model.recycle(below);
                writer.recycle_below(below).map(|_| ())
            }
            2 => self.next_segment(&mut writer, tail),
            3 => {
                self.writer = self.other.replace(writer);
                return Outcome::Done;
            }
            4 => self.sync(&mut writer, tail),
            _ => self.write_batch(&mut writer, tail),
        };
        self.writer = Some(writer);
        self.outcome_of(result)
    }

    fn create(&mut self) -> Outcome {
        let made = Writer::create(self.disk.clone(), self.options, STORE);
        let result = made.map(|(writer, tail)| {
            self.writer = Some(writer);
            self.tail = Some(tail);
            self.model.made = true;
        });
        match result {
            // Another one died when all was done, and told nobody.
            Err(JournalError::AlreadyThere { .. }) => {
                self.read_again(After::Death);
                Outcome::Done
            }
            result => self.outcome_of(result),
        }
    }

    fn outcome_of(&self, result: Result<(), JournalError>) -> Outcome {
        match result {
            Ok(()) => Outcome::Done,
            Err(_) if self.disk.is_dead() => Outcome::Died,
            Err(JournalError::NoSpace { .. } | JournalError::Io { .. }) => Outcome::Done,
            Err(JournalError::Failed { .. }) => Outcome::Failed,
            Err(error) => panic!("unexpected: {error}"),
        }
    }

    fn next_segment(&mut self, writer: &mut Writer<Disk>, tail: Tail) -> Result<(), JournalError> {
        self.tail = Some(writer.next_segment(tail)?);
        self.model.tell_durable();
        Ok(())
    }

    fn sync(&mut self, writer: &mut Writer<Disk>, tail: Tail) -> Result<(), JournalError> {
        writer.begin(tail);
        self.tail = Some(writer.commit(Durability::Synced)?);
        self.model.tell_durable();
        Ok(())
    }

    fn write_batch(&mut self, writer: &mut Writer<Disk>, tail: Tail) -> Result<(), JournalError> {
        writer.begin(tail);
        let number = self.model.next();
        let mut lens = Vec::new();
        for index in 0..1 + self.random.below(6) as usize {
            let largest = Writer::<Disk>::largest_body(&self.options) as u64;
            let most = [100, 100, 5000, 20_000, largest + 1][self.random.below(5) as usize];
            let len = self.random.below(most) as usize;
            let (kind, aux) = (kind_of(index), index as u32 ^ 0xa5a5);
            let Some(body) = writer.reserve(kind, aux, number as u64, index as u64, len) else { break };
            fill(body, number, index);
            lens.push(len);
        }
        if lens.is_empty() {
            return self.next_segment(writer, tail);
        }
        let durability = if self.random.percent(60) { Durability::Synced } else { Durability::Written };
        self.model.try_batch(tail, lens);
        let committed = match writer.commit(durability) {
            // It is still there.
            Err(JournalError::NoSpace { .. }) if self.random.percent(50) => writer.commit(durability),
            result => result,
        };
        self.tail = Some(committed?);
        self.model.tell_batch(durability);
        self.model.made |= durability == Durability::Synced;
        Ok(())
    }

    /// A writer that failed does nothing any more.
    fn check_refusal(&mut self) {
        let calls = self.disk.calls();
        if let (Some(mut writer), Some(tail)) = (self.writer.take(), self.tail) {
            let refused =
                |result: Result<(), JournalError>| matches!(result, Err(JournalError::Failed { .. }));
            writer.begin(tail);
            assert!(refused(writer.commit(Durability::Synced).map(|_| ())));
            assert!(refused(writer.next_segment(tail).map(|_| ())));
            assert!(refused(writer.recycle_below(u64::MAX).map(|_| ())));
            assert_eq!(self.disk.calls(), calls, "a writer that refuses leaves the disk alone");
        }
    }

    /// Flips a bit of what is on the disk now: that must be noticed, unless nothing says that what is gone was
    /// durable. Then the log is cut, dying now and then, and must go on as if it had never been longer.
    pub(super) fn damage(&mut self) {
        let Ok((whole, summary)) = read_all(&self.disk) else { return };
        let disk = self.disk.copy(self.random.next());
        let segment = summary.segments[self.random.below(summary.segments.len() as u64) as usize];
        let name = super::super::segments::name_of(segment.number);
        let end = if self.random.percent(90) { segment.end } else { summary.segment_len };
        disk.flip(&name, self.random.below(end) as usize, self.random.below(8) as u8);
        match read_all(&disk) {
            Ok((left, _)) => self.model.check_unvouched(&whole, &left),
            Err(JournalError::Corrupt(damage)) => self.cut_damage(&disk, &damage, &whole),
            Err(JournalError::Foreign { .. } | JournalError::Version { .. }) => {}
            Err(error) => panic!("unexpected: {error}"),
        }
    }

    fn cut_damage(&mut self, disk: &Disk, damage: &super::super::Corruption, whole: &[Found]) {
        let loss = loss(disk, damage).expect("count");
        assert!(matches!(read_all(disk), Err(JournalError::Corrupt(again)) if *again == *damage));
        disk.fail_call(disk.calls() + 1 + self.random.below(60), Fault::Die);
        let report = loop {
            match cut_at(disk, damage) {
                Ok(report) => break report,
                Err(JournalError::NothingLeft { .. }) => return,
                Err(_) if disk.is_dead() && self.random.percent(50) => disk.cut(),
                Err(_) if disk.is_dead() => disk.revive(),
                Err(error) => panic!("the damage cannot be cut: {error}"),
            }
        };
        disk.revive();
        if self.random.percent(50) {
            disk.cut();
        }
        let (left, summary) = read_all(disk).expect("read what was cut");
        assert_eq!(summary.tail, report.tail);
        assert_eq!(whole[..left.len()], *left, "other content after the cut");
        // More only if zeros that a cut died over have undone the damage.
        assert!(summary.tail.lsn >= damage.first_lost, "all before the damage is kept");
        assert!(loss.lsns.0 == damage.first_lost && loss.lsns.1 >= loss.lsns.0);
        // It goes on there, durably.
        let mut writer = Writer::resume(disk.clone(), self.options, STORE).expect("options");
        writer.begin(summary.tail);
        let mut tail = summary.tail;
        while writer.reserve(7, 7, 7, 7, 3).is_none() {
            tail = writer.next_segment(tail).expect("next segment");
        }
        let tail = writer.commit(Durability::Synced).expect("commit");
        disk.cut();
        let mut last = None;
        let summary =
            read(disk, Some(STORE), &mut |entry| last = Some((entry.lsn, entry.kind))).expect("read");
        assert_eq!((summary.tail.lsn, last), (tail.lsn, Some((tail.lsn - 1, 7))));
    }
}

/// All that can be read.
fn read_all(disk: &Disk) -> Result<(Vec<Found>, Summary), JournalError> {
    let mut found = Vec::new();
    let summary = read(disk, Some(STORE), &mut |entry| found.push(Found::new(entry)))?;
    Ok((found, summary))
}

//! Checking every invariant that a file can show.
//!
//! The queue may be running meanwhile. So a look first reads the words that belong together until it gets the
//! same twice: then there was a moment at which they all stood like this. What does not add up then is a
//! *suspect*: it may be a process between two steps, or one that has just died and is being recovered.
//! Suspects are looked at again after a pause, and once more after a longer one; what is still wrong after
//! the last of these is a violation. Words that never stand still are not suspects: somebody is at work
//! there.
//!
//! What is a **hint** (the bitmap of returned slots, the attention word, how far a head lags) may be anything
//! that does no harm.
//!
//! Nothing here stores to the file. A process that died and was not recovered is reported as such: its words
//! name somebody who is not there.

mod ledgers;
#[cfg(test)]
mod tests;
mod words;

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use super::core::QueueCore;
use super::groups::name_of;
use crate::layout::queue::NOTES;
use crate::layout::{ATTACHMENTS, PARTICIPANTS};
use crate::memory::Memory;
use crate::participant::store::StoreCore;
use crate::ring::Owner;
use crate::ring::repair::find_tail;
use crate::sys::clock;
use crate::sys::files::io_error;
use crate::{Queue, StoreError, VerifyReport, Violation};

/// Pauses between the looks at a suspect.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
];

/// How often all is looked at once more if too much looked wrong and none of it was.
const ROUNDS: u32 = 3;

/// Violations in one report. A file with more is no queue any more.
const MOST: usize = 1000;

/// What is looked at in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Header,
    Queue,
    /// The word of an exclusive role: the producers', or that of a group's consumers.
    Role(Option<u8>),
    Record(usize),
    Group(u8),
    Note(u8, u64),
    Claim(u64),
    Slot(u64),
    Lease(u8, u64),
}

impl Target {
    /// Words of 8 bytes that the look reads; of texts and the header as many as they fill.
    fn words(self) -> u64 {
        match self {
            Target::Header => 16,
            Target::Queue => 4,
            Target::Role(_) | Target::Record(_) | Target::Claim(_) => 1,
            Target::Group(_) => 16,
            Target::Note(..) | Target::Lease(..) => 2,
            Target::Slot(_) => 3,
        }
    }
}

/// What is known of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Alive,
    Dead,
    /// The entry is free.
    Nobody,
}

/// One round of looks.
struct Look<'a> {
    queue: &'a QueueCore,
    store: &'a StoreCore,
    now_ms: u64,
    /// The tail when the round began.
    tail_before: u64,
    /// The tail, as far as it was seen to move.
    tail: Cell<u64>,
    /// By index.
    fates: Vec<Fate>,
}

impl<'a> Look<'a> {
    fn new(queue: &'a QueueCore, store: &'a StoreCore) -> Result<Look<'a>, StoreError> {
        let tail = find_tail(&queue.mapped);
        let fates = (0..PARTICIPANTS as u16).map(|index| fate_of(store, Owner::new(index)));
        Ok(Look {
            queue,
            store,
            now_ms: clock::boot_ms(),
            tail_before: tail,
            tail: Cell::new(tail),
            fates: fates.collect::<Result<_, _>>()?,
        })
    }

    /// What is wrong with a target, in words.
    fn at(&self, target: Target) -> Option<String> {
        match target {
            Target::Header => self.header(),
            Target::Queue => self.queue_words(),
            Target::Role(group) => self.role(group),
            Target::Record(index) => self.record(index),
            Target::Group(group) => self.group(group),
            Target::Note(group, index) => self.note(group, index),
            Target::Claim(slot) => self.claim(slot),
            Target::Slot(slot) => self.slot(slot),
            Target::Lease(group, slot) => self.lease(group, slot),
        }
    }

    fn targets(&self) -> impl Iterator<Item = Target> + use<'_> {
        let capacity = self.queue.mapped.capacity();
        let groups: Vec<u8> = self.queue.groups_in_use().collect();
        let all = 0..self.queue.mapped.geometry().max_groups as u8;
        let ledgers = groups.clone().into_iter().flat_map(move |group| {
            let notes = (0..NOTES).map(move |index| Target::Note(group, index));
            notes.chain((0..capacity).map(move |slot| Target::Lease(group, slot)))
        });
        [Target::Header, Target::Queue, Target::Role(None)]
            .into_iter()
            .chain((0..ATTACHMENTS).map(Target::Record))
            .chain(all.map(Target::Group))
            .chain(groups.into_iter().map(|group| Target::Role(Some(group))))
            .chain((0..capacity).map(Target::Claim))
            .chain((0..capacity).map(Target::Slot))
            .chain(ledgers)
    }

    fn place(&self, target: Target) -> String {
        let group = |group| {
            let name = name_of(self.queue.mapped.group(group));
            if name.is_empty() { format!("group #{group}") } else { format!("group {}", name.escape_debug()) }
        };
        match target {
            Target::Header => "header".to_owned(),
            Target::Queue => "queue words".to_owned(),
            Target::Role(None) => "producer role".to_owned(),
            Target::Role(Some(of)) => format!("{}: consumer role", group(of)),
            Target::Record(index) => format!("record {index} of producers and consumers"),
            Target::Group(of) => format!("{}: its words", group(of)),
            Target::Note(of, index) => format!("{}: rejection note {index}", group(of)),
            Target::Claim(slot) => format!("claim word of slot {slot}"),
            Target::Slot(slot) => format!("seq word of slot {slot}"),
            Target::Lease(of, slot) => format!("{}: lease word of slot {slot}", group(of)),
        }
    }

    fn fate(&self, index: u64) -> Fate {
        usize::try_from(index).ok().and_then(|index| self.fates.get(index).copied()).unwrap_or(Fate::Nobody)
    }

    /// What is wrong with a word that names a participant.
    fn owner(&self, index: u64) -> Option<String> {
        match self.fate(index) {
            Fate::Alive => None,
            Fate::Nobody => Some(format!("found participant {index}, expected one that is attached")),
            Fate::Dead => {
                let who = self.store.describe(Owner::new(index as u16));
                Some(format!(
                    "found participant {index}, {who}, a dead process not recovered yet: run `ringway repair`"
                ))
            }
        }
    }
}

fn fate_of(store: &StoreCore, owner: Owner) -> Result<Fate, StoreError> {
    if owner == store.me {
        return Ok(Fate::Alive);
    }
    if owner == Owner::NOBODY || !store.table.state(owner).is_taken() {
        return Ok(Fate::Nobody);
    }
    let dead = store.probe.is_dead(owner.index());
    let dead = dead.map_err(io_error("probing participants of", store.dir.path()))?;
    Ok(if dead { Fate::Dead } else { Fate::Alive })
}

/// Reads words that belong together until they are the same twice in a row. `None`: they do not stand still.
fn standing<T: PartialEq>(read: impl Fn() -> T) -> Option<T> {
    let mut seen = read();
    for _ in 0..8 {
        let again = read();
        if again == seen {
            return Some(seen);
        }
        seen = again;
    }
    None
}

/// A complaint, if `right` is not so.
fn expect(right: bool, found: impl std::fmt::Debug, expected: impl std::fmt::Display) -> Option<String> {
    (!right).then(|| format!("found {found:?}, expected {expected}"))
}

impl QueueCore {
    fn verify(&self, store: &StoreCore) -> Result<VerifyReport, StoreError> {
        let mut report = self.verify_once(store)?;
        for _ in 0..ROUNDS {
            match report {
                // So many were wrong at first, and none is any more: somebody who held them has died meanwhile, and
                // was recovered.
                Ok(report) => return Ok(report),
                Err(_) => report = self.verify_once(store)?,
            }
        }
        Ok(report.unwrap_or_else(|report| report))
    }

    /// `Err`: the same, but not all was looked at, because of words that looked wrong and were right in the end.
    fn verify_once(&self, store: &StoreCore) -> Result<Result<VerifyReport, VerifyReport>, StoreError> {
        let mut checked = 0;
        let mut suspects = Vec::new();
        let look = Look::new(self, store)?;
        let mut targets = look.targets();
        for target in targets.by_ref() {
            checked += target.words();
            if look.at(target).is_some() {
                suspects.push(target);
                if suspects.len() == MOST {
                    break;
                }
            }
        }
        let unseen = targets.next().is_some();
        let mut violations = Vec::new();
        for pause in PAUSES {
            if suspects.is_empty() {
                break;
            }
            thread::sleep(pause);
            let look = Look::new(self, store)?;
            violations.clear();
            suspects.retain(|&target| {
                let what = look.at(target);
                let wrong = what.is_some();
                violations.extend(what.map(|what| Violation { place: look.place(target), what }));
                wrong
            });
        }
        let cleared = unseen && violations.is_empty();
        if unseen {
            let what = format!("{MOST} suspicious words were found, so the rest was not looked at");
            violations.push(Violation { place: "file".to_owned(), what });
        }
        let report = VerifyReport { checked, violations };
        Ok(if cleared { Err(report) } else { Ok(report) })
    }
}

impl Queue {
    /// Checks every invariant that the file can show. Changes nothing; safe while the queue runs.
    ///
    /// A word that looks wrong is read again over some 40 ms, so that a process between two steps is not
    /// taken for a fault. What a dead process has left is reported until it is recovered, by a consumer or by
    /// [`Store::repair`](crate::Store::repair). After 1,000 suspicious words it stops.
    ///
    /// # Errors
    ///
    /// `Removed`, `Forked`, `Io`.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        self.store.check_forked()?;
        // A mapping of a file that was cut short must not be touched behind its end.
        if let Some(what) = self.core.cut_short() {
            let violations = vec![Violation { place: "file".to_owned(), what }];
            return Ok(VerifyReport { checked: 1, violations });
        }
        self.core.check_removed(&self.store)?;
        self.core.verify(&self.store)
    }
}

//! Looking into a journal, and repairing it: for `ringway journal` and `ringway repair --journal`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::entry::{QueueEntry, Standing, StateEntry, kind};
use super::place::Place;
use crate::journal::{self, Corruption, Entry, Files, JournalError};
use crate::message::HeadersRef;
use crate::participant::store::StoreCore;
use crate::sys::files::{Dir, OpenPolicy};
use crate::{Store, StoreError};

/// How often a journal in use is read once more before it is taken for damaged.
const READS: u32 = 8;

/// A record of a journal, as it is read.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct JournalRecord<'a> {
    /// The segment it is in.
    pub segment: u64,
    /// Its number: goes up by one with each record.
    pub lsn: u64,
    /// `roster`, `queue`, `message`, `settled` or `state`.
    pub kind: &'static str,
    /// The queue it is about; empty for a roster.
    pub queue: &'a str,
    /// The position it is about: of a message, or the first one that is not settled, or a queue's tail.
    pub position: u64,
    /// Bytes of its body.
    pub bytes: usize,
    entry: Entry<'a>,
    described: Option<&'a QueueEntry>,
}

impl<'a> JournalRecord<'a> {
    /// What it says, in words.
    pub fn what(&self) -> String {
        let Entry { kind, aux, body, .. } = self.entry;
        match kind {
            kind::ROSTER => format!("{} queues", body.len() / 8),
            kind::QUEUE => self.described.map_or_else(|| "unreadable".to_owned(), describe),
            kind::MESSAGE => format!("{} bytes, {aux} of them headers", body.len()),
            kind::SETTLED => format!("group {}: all before", self.group(aux as u8)),
            kind::STATE => {
                let StateEntry { group, standing } = StateEntry::decode(aux);
                let standing = match standing {
                    Standing::Done => "settled".to_owned(),
                    Standing::Open { failures } => format!("to be delivered, {failures} failures"),
                    Standing::Dead { failures, reason } => {
                        let why = String::from_utf8_lossy(body);
                        format!("dead for reason {reason}, {failures} failures {why}")
                    }
                };
                format!("group {}: {}", self.group(group), standing.trim_end())
            }
            other => format!("kind {other}"),
        }
    }

    /// The message's headers and payload; `None` if it is another kind of record.
    pub fn message(&self) -> Option<(HeadersRef<'a>, &'a [u8])> {
        let headers = (self.entry.aux as usize).min(self.bytes);
        let (headers, payload) = self.entry.body.split_at(headers);
        (self.entry.kind == kind::MESSAGE).then(|| (HeadersRef::from_encoded(headers), payload))
    }

    /// A group's name, or its index if that is not known.
    fn group(&self, index: u8) -> String {
        let groups = self.described.map_or(&[][..], |queue| &queue.groups);
        let named = groups.iter().find(|group| group.index == index);
        named.map_or_else(|| index.to_string(), |group| group.name.clone())
    }
}

fn describe(queue: &QueueEntry) -> String {
    let groups: Vec<&str> = queue.groups.iter().map(|group| group.name.as_str()).collect();
    let QueueEntry { capacity, slot_size, .. } = queue;
    format!("{capacity} slots of {slot_size} bytes, groups {}", groups.join(", "))
}

/// A segment of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JournalSegment {
    /// Its number, which its file is called by.
    pub number: u64,
    /// The number of its first record.
    pub first_lsn: u64,
    /// Where its last batch ends.
    pub end: u64,
    /// Records in it.
    pub records: u64,
    /// Batches in it.
    pub batches: u64,
}

/// What a journal was found to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JournalReport {
    /// The durable directory.
    pub dir: PathBuf,
    /// Bytes of each segment.
    pub segment_len: u64,
    /// The segments.
    pub segments: Vec<JournalSegment>,
    /// Records in them.
    pub records: u64,
    /// Batches in them.
    pub batches: u64,
    /// Bytes of those batches.
    pub bytes: u64,
    /// What lies behind the end of the last whole batch, if anything does: a batch that was being written when its
    /// writer died or the power went. Nobody was told that it is durable.
    pub torn: Option<String>,
}

/// What a repair of a journal does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JournalRepair {
    /// What is damaged, if anything is: the journal ends before it.
    pub damage: Option<JournalDamage>,
    /// Why the journal took nothing more, if a write or a sync failed: the rings go, with what was never confirmed.
    pub failed: Option<String>,
    /// Whether it was done, or only looked at.
    pub done: bool,
}

/// Where a journal is damaged, and what is lost with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JournalDamage {
    /// What is damaged, and where.
    pub what: String,
    /// The first record that is lost.
    pub first_lost: u64,
    /// The last one that is known to have been there.
    pub last_lost: u64,
    /// Records beyond the damage that can be read, and go with it.
    pub readable_records: u64,
    /// Bytes of those.
    pub readable_bytes: u64,
}

impl JournalRepair {
    /// Whether there is anything to repair.
    pub fn is_needed(&self) -> bool {
        self.damage.is_some() || self.failed.is_some()
    }
}

impl Store {
    /// Reads a journal from its first record to the last, and checks every checksum. It may be in use: then it is read
    /// as far as it goes now.
    ///
    /// # Errors
    ///
    /// `NoSuchStore`: the directory is no durable store's; [`StoreError::Journal`]: `Corrupt` says where it is
    /// damaged, and what would be lost; `Io`.
    pub fn read_journal(
        dir: impl AsRef<Path>,
        visit: impl FnMut(&JournalRecord<'_>),
    ) -> Result<JournalReport, StoreError> {
        let place = Place::open(dir.as_ref(), &OpenPolicy::default())?;
        let files = Files::new(Dir::open(place.dir.path())?, OpenPolicy::default());
        let mut reader = Reader { visit, next: 0, queues: HashMap::new() };
        let summary = read_in_use(|| journal::read(&files, Some(place.id), &mut |entry| reader.take(entry)))?;
        let segments = summary.segments.iter().map(|segment| JournalSegment {
            number: segment.number,
            first_lsn: segment.first_lsn,
            end: segment.end,
            records: segment.records,
            batches: segment.batches,
        });
        Ok(JournalReport {
            dir: place.dir.path().to_path_buf(),
            segment_len: summary.segment_len,
            segments: segments.collect(),
            records: summary.records,
            batches: summary.batches,
            bytes: summary.bytes,
            torn: summary
                .torn
                .map(|torn| format!("segment {:016x}, offset {}: {}", torn.segment, torn.offset, torn.found)),
        })
    }

    /// Ends a damaged journal before the damage, so that the store can be opened; `dry_run`: only says what would be
    /// lost.
    ///
    /// And after a write or a sync failed: takes the rings away, so that whoever opens the store next makes them anew
    /// from what the disk really has.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if processes are attached to the store, or the journal is damaged and its rings are
    /// there and work: then nothing is lost yet, and can be exported; `NoSuchStore`, `Io`, and what reading gives.
    pub fn repair_journal(dir: impl AsRef<Path>, dry_run: bool) -> Result<JournalRepair, StoreError> {
        let place = Place::open(dir.as_ref(), &OpenPolicy::default())?;
        let _alone = place.lock()?;
        let rings = Rings::look(&place)?;
        let files = Files::new(Dir::open(place.dir.path())?, OpenPolicy::default());
        let damage = match journal::read(&files, Some(place.id), &mut |_| {}) {
            Ok(_) | Err(JournalError::NotThere { .. }) => None,
            Err(JournalError::Corrupt(damage)) => Some(damage),
            Err(error) => return Err(error.into()),
        };
        if let (Some(_), Rings::Work) = (&damage, &rings) {
            let path = place.rings.display();
            let by = format!("its rings in {path} work, and have all its messages (`ringway export`)");
            return Err(in_use(&place, by));
        }
        let failed = match rings {
            Rings::Failed(why) => Some(why),
            Rings::Work | Rings::None => None,
        };
        if failed.is_some() && !dry_run {
            Store::remove(&place.rings)?;
        }
        let damage = damage.map(|damage| repair(&files, &damage, dry_run)).transpose()?;
        Ok(JournalRepair { damage, failed, done: !dry_run })
    }
}

/// Reads, and once more if something is missing that may have been moved meanwhile: a writer goes on behind the
/// reader's back, and old segments go. What is damaged is so at the same place each time.
fn read_in_use<T>(mut read: impl FnMut() -> Result<T, JournalError>) -> Result<T, JournalError> {
    let mut damaged_at = None;
    for _ in 1..READS {
        match read() {
            Err(JournalError::Corrupt(found)) => {
                let at = Some((found.segment, found.offset));
                if at == damaged_at {
                    return Err(JournalError::Corrupt(found));
                }
                damaged_at = at;
            }
            Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    read()
}

/// Tells a visitor of each record once, and what its numbers mean.
struct Reader<V> {
    visit: V,
    /// The first record that was not told yet.
    next: u64,
    queues: HashMap<u64, QueueEntry>,
}

impl<V: FnMut(&JournalRecord<'_>)> Reader<V> {
    fn take(&mut self, entry: Entry<'_>) {
        if entry.lsn < self.next {
            return;
        }
        self.next = entry.lsn + 1;
        if entry.kind == kind::QUEUE
            && let Ok(described) = serde_json::from_slice(entry.body)
        {
            self.queues.insert(entry.queue, described);
        }
        let described = self.queues.get(&entry.queue).filter(|_| entry.kind != kind::ROSTER);
        let Entry { segment, lsn, position, body, .. } = entry;
        let kind = match entry.kind {
            kind::ROSTER => "roster",
            kind::QUEUE => "queue",
            kind::MESSAGE => "message",
            kind::SETTLED => "settled",
            kind::STATE => "state",
            _ => "unknown",
        };
        let queue = described.map_or("", |queue| queue.name.as_str());
        (self.visit)(&JournalRecord {
            segment,
            lsn,
            kind,
            queue,
            position,
            bytes: body.len(),
            entry,
            described,
        });
    }
}

fn repair(files: &Files, damage: &Corruption, dry_run: bool) -> Result<JournalDamage, StoreError> {
    let loss = if dry_run { journal::loss(files, damage)? } else { journal::cut_at(files, damage)?.loss };
    Ok(JournalDamage {
        what: damage.to_string(),
        first_lost: loss.lsns.0,
        last_lost: loss.lsns.1.saturating_sub(1),
        readable_records: loss.readable_records,
        readable_bytes: loss.readable_bytes,
    })
}

/// What is in the place of a store's rings.
enum Rings {
    /// None of this store, or of an earlier boot.
    None,
    Work,
    /// Their journal failed.
    Failed(String),
}

impl Rings {
    fn look(place: &Place) -> Result<Rings, StoreError> {
        let store = match StoreCore::open(&place.rings, OpenPolicy::default(), false) {
            Ok(store) if store.id == place.id => {
                place.check_journal_of(&store)?;
                Store { core: store }
            }
            // Another store is there, which is left alone.
            Ok(_) | Err(StoreError::NoSuchStore { .. } | StoreError::EarlierBoot { .. }) => {
                return Ok(Rings::None);
            }
            Err(error) => return Err(error),
        };
        if let Some(user) = store.participants().into_iter().find(|other| other.alive && !other.me) {
            return Err(in_use(place, format!("process {} ({}) is attached", user.pid, user.command)));
        }
        let failed = store.journal()?.and_then(|journal| journal.failed);
        Ok(failed.map_or(Rings::Work, Rings::Failed))
    }
}

fn in_use(place: &Place, by: String) -> StoreError {
    StoreError::InUse { what: "store", name: place.dir.path().display().to_string(), by }
}

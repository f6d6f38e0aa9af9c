//! Reading the log.
//!
//! A batch counts if its COMMIT is valid and vouches for it: for its place, its first LSN, its bytes, and
//! through its checksum, from which the next batch is chained, for the batch before it. Where there is no
//! such batch, the log ends, or goes on in the next segment, or is damaged; which of them is told by
//! what lies behind: whatever says that more was durable than was found was right when it was written.
//!
//! ```text
//! no batch here that counts
//!   a COMMIT in the rest of the segment has durable_before > expected LSN   damaged: here
//!   the next segment's first LSN is the expected one                        goes on there
//!   any later segment's first LSN is greater                                damaged: here
//!   else                                                                    the end; what is here is torn
//! ```

use std::io;

use super::record::{self, BLOCK, Commit, HeaderFault, RecordHead, SegmentHeader};
use super::record::{batch_len, commit_at, record_at};
use super::segments::{self, io_error, name_of};
use super::window::{Window, read_all};
use super::writer::BATCH_MAX;
use super::{Corruption, JournalError, Storage, Tail};

/// A record, as it was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// The segment it lies in.
    pub(crate) segment: u64,
    /// Its number.
    pub(crate) lsn: u64,
    /// What it is.
    pub(crate) kind: u8,
    /// For the kind to say.
    pub(crate) aux: u32,
    /// For the kind to say.
    pub(crate) queue: u64,
    /// For the kind to say.
    pub(crate) position: u64,
    /// What was filled in.
    pub(crate) body: &'a [u8],
}

/// One segment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    /// Its number.
    pub(crate) number: u64,
    /// The LSN of its first record.
    pub(crate) first_lsn: u64,
    /// Where its last batch ends.
    pub(crate) end: u64,
    /// Records in it.
    pub(crate) records: u64,
    /// Batches in it.
    pub(crate) batches: u64,
}

/// The rest of a batch behind the end of the log, that was under way when the power went or its writer died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    /// The segment it lies in.
    pub(crate) segment: u64,
    /// Where.
    pub(crate) offset: u64,
    /// What is there of it.
    pub(crate) found: String,
}

/// What a log was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Where it ends. `durable` is what the log vouches for, so `commit(Synced)` there first, if what was
    /// read is to be relied on: it may still be in the page cache only.
    pub(crate) tail: Tail,
    /// The store it belongs to.
    pub(crate) store: [u8; 16],
    /// Bytes of each segment.
    pub(crate) segment_len: u64,
    /// Its segments, by number.
    pub(crate) segments: Vec<SegmentInfo>,
    /// Records read.
    pub(crate) records: u64,
    /// Batches read.
    pub(crate) batches: u64,
    /// Bytes of the batches read.
    pub(crate) bytes: u64,
    /// What lies behind the end.
    pub(crate) torn: Option<Torn>,
}

/// Reads the whole log, in order, whole batches only. It must be that of `store`, if one is given.
pub(crate) fn read<S: Storage>(
    storage: &S,
    store: Option<[u8; 16]>,
    visit: &mut dyn FnMut(Entry<'_>),
) -> Result<Summary, JournalError> {
    let opened = open_all(storage, store)?;
    let Some((first, _)) = opened.first() else {
        return Err(JournalError::NotThere { path: storage.path("") });
    };
    let mut walk = Walk::new(*first);
    let mut window = None;
    for (number, header) in &opened {
        let Ok(header) = header else { break };
        if !walk.goes_on_in(*number, header) {
            break;
        }
        let name = name_of(*number);
        let file = storage.open(&name).map_err(io_error(storage, "opening", &name))?;
        let mut reading = match window.take() {
            None => Window::new(storage, file, header.length),
            Some(window) => Window::on(window, file, header.length),
        };
        walk.enter(*number, header);
        let behind = walk
            .read_batches(&mut reading, visit)
            .and_then(|()| walk.look_behind(&mut reading))
            .map_err(io_error(storage, "reading", &name))?;
        if let Some(says) = behind {
            let later = opened.iter().filter_map(|(_, header)| Some(header.as_ref().ok()?.first_lsn)).max();
            let durable = says.durable_before.max(later.unwrap_or(0));
            return Err(walk.damaged_here(storage, durable, &describe(&says)));
        }
        window = Some(reading);
    }
    walk.check_later(storage, &opened)?;
    Ok(walk.summary)
}

/// A segment's number, and its header or what is there in place of it.
type Opened = (u64, Result<SegmentHeader, String>);

/// The headers of all segments. A segment of something else is an error at once; a damaged header is only
/// one when the log is known to get there.
fn open_all<S: Storage>(storage: &S, store: Option<[u8; 16]>) -> Result<Vec<Opened>, JournalError> {
    let mut all: Vec<Opened> = Vec::new();
    for number in segments::look(storage)?.segments {
        let name = name_of(number);
        let file = storage.open(&name).map_err(io_error(storage, "opening", &name))?;
        storage.forget_cache(&file);
        let known = all.iter().find_map(|(_, header)| header.as_ref().ok().map(|header| header.store));
        all.push((number, header_of(storage, &file, number, store.or(known))?));
    }
    Ok(all)
}

/// The header of a segment, or what is there in place of it.
pub(crate) fn header_of<S: Storage>(
    storage: &S,
    file: &S::File,
    number: u64,
    store: Option<[u8; 16]>,
) -> Result<Result<SegmentHeader, String>, JournalError> {
    let name = name_of(number);
    let len = storage.len(file).map_err(io_error(storage, "looking at", &name))?;
    if len < BLOCK as u64 {
        return Ok(Err(format!("a file of {len} bytes")));
    }
    let mut block = [0; BLOCK];
    read_all(storage, file, &mut block, 0).map_err(io_error(storage, "reading", &name))?;
    let path = storage.path(&name);
    let header = match SegmentHeader::decode(&block) {
        Ok(header) => header,
        Err(HeaderFault::Damaged(found)) => return Ok(Err(found)),
        Err(HeaderFault::Foreign(found)) => return Err(JournalError::Foreign { path, found }),
        Err(HeaderFault::Version(found)) => {
            return Err(JournalError::Version { path, found, expected: record::VERSION });
        }
    };
    if let Some(store) = store
        && header.store != store
    {
        let found = format!("it belongs to store {}, expected {}", hex(header.store), hex(store));
        return Err(JournalError::Foreign { path, found });
    }
    if header.number != number {
        return Ok(Err(format!("segment {}", header.number)));
    }
    if header.length != len {
        return Ok(Err(format!("a file of {len} bytes where its header says {}", header.length)));
    }
    Ok(Ok(header))
}

/// The way through the log.
struct Walk {
    summary: Summary,
}

impl Walk {
    /// Before the first segment.
    fn new(first: u64) -> Walk {
        let tail = Tail { segment: first.wrapping_sub(1), offset: 0, lsn: 0, durable: 0, chain: 0, salt: 0 };
        let (store, segments) = ([0; 16], Vec::new());
        let (segment_len, records, batches, bytes) = (0, 0, 0, 0);
        Walk { summary: Summary { tail, store, segment_len, segments, records, batches, bytes, torn: None } }
    }

    /// Whether the log goes on in this segment.
    fn goes_on_in(&self, number: u64, header: &SegmentHeader) -> bool {
        let Summary { tail, segments, .. } = &self.summary;
        segments.is_empty() || number == tail.segment + 1 && header.first_lsn == tail.lsn
    }

    fn enter(&mut self, number: u64, header: &SegmentHeader) {
        let SegmentHeader { store, length, first_lsn, salt, .. } = *header;
        let end = BLOCK as u64;
        let chain = record::first_link(salt, number);
        let summary = &mut self.summary;
        summary.store = store;
        summary.segment_len = length;
        summary.segments.push(SegmentInfo { number, first_lsn, end, records: 0, batches: 0 });
        summary.torn = None;
        summary.tail = Tail { segment: number, offset: end, lsn: first_lsn, durable: first_lsn, chain, salt };
    }

    /// Reads the batches of the segment.
    fn read_batches<S: Storage>(
        &mut self,
        window: &mut Window<'_, S>,
        visit: &mut dyn FnMut(Entry<'_>),
    ) -> io::Result<()> {
        while let Some((len, commit, link)) = next_batch(window, &self.summary.tail)? {
            let Summary { tail, segments, records, batches, bytes, .. } = &mut self.summary;
            let mut rest = window.get(tail.offset, len)?;
            for _ in 0..commit.count {
                let Some(head) = RecordHead::peek(rest) else { break };
                let RecordHead { kind, aux, lsn, queue, position, .. } = head;
                let body = &rest[record_at::END..record_at::END + head.len as usize];
                visit(Entry { segment: tail.segment, lsn, kind, aux, queue, position, body });
                rest = &rest[head.record_len()..];
            }
            tail.offset += len as u64;
            tail.lsn += u64::from(commit.count);
            tail.durable = tail.durable.max(commit.durable_before);
            tail.chain = link;
            *records += u64::from(commit.count);
            *batches += 1;
            *bytes += len as u64;
            if let Some(segment) = segments.last_mut() {
                segment.end = tail.offset;
                segment.records += u64::from(commit.count);
                segment.batches += 1;
            }
        }
        Ok(())
    }

    /// Looks at the rest of a segment, behind the last batch that counts: a COMMIT that says that more was
    /// durable, the one that says most; or what is torn.
    fn look_behind<S: Storage>(&mut self, window: &mut Window<'_, S>) -> io::Result<Option<Commit>> {
        let Summary { tail, torn, .. } = &mut self.summary;
        let Tail { segment, offset, lsn, salt, .. } = *tail;
        let mut most: Option<Commit> = None;
        let mut found = None;
        for start in (offset..window.len()).step_by(BLOCK) {
            let block = window.get(start, BLOCK)?;
            if start == offset && RecordHead::peek(block).is_some_and(|head| head.lsn == lsn) {
                found = Some(format!("a batch from entry {lsn} on without a COMMIT"));
            }
            let Some((commit, _)) = Commit::find(block, segment, salt, start + BLOCK as u64) else {
                continue;
            };
            if commit.start == offset && commit.first_lsn == lsn {
                found = Some(format!("parts of a batch of {} entries from {lsn} on", commit.count));
            }
            if commit.durable_before > most.map_or(lsn, |most| most.durable_before) {
                most = Some(commit);
            }
        }
        *torn = found.map(|found| Torn { segment, offset, found });
        Ok(most)
    }

    /// Looks at the segments behind the one in which the log ends.
    fn check_later<S: Storage>(&self, storage: &S, opened: &[Opened]) -> Result<(), JournalError> {
        let tail = &self.summary.tail;
        let later = || opened.iter().filter(|(number, _)| *number > tail.segment || tail.offset == 0);
        let most = later().filter_map(|(_, header)| Some(header.as_ref().ok()?.first_lsn)).max();
        let durable = most.unwrap_or(0).max(tail.lsn);
        for (index, (number, header)) in later().enumerate() {
            match header {
                Err(found) => {
                    let expected = "the header of the segment".to_owned();
                    return Err(self.damaged(storage, (*number, 0), found.clone(), expected, durable));
                }
                Ok(header) if header.first_lsn > tail.lsn && index == 0 && *number != tail.segment + 1 => {
                    let expected = format!("the segment from entry {} on", tail.lsn);
                    let found = "no such file".to_owned();
                    return Err(self.damaged(storage, (tail.segment + 1, 0), found, expected, durable));
                }
                Ok(header) if header.first_lsn > tail.lsn => {
                    let says = format!("segment {number} begins with entry {}", header.first_lsn);
                    return Err(self.damaged_here(storage, durable, &says));
                }
                // Begun by a writer that died before it told anyone of it; others went on before it.
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// The log breaks off where it was read to, although all before `durable` was durable.
    fn damaged_here<S: Storage>(&self, storage: &S, durable: u64, says: &str) -> JournalError {
        let Summary { tail, torn, .. } = &self.summary;
        let found = torn.as_ref().map_or("no batch".to_owned(), |torn| torn.found.clone());
        let expected = format!("a whole batch from entry {} on ({says})", tail.lsn);
        self.damaged(storage, (tail.segment, tail.offset), found, expected, durable)
    }

    fn damaged<S: Storage>(
        &self,
        storage: &S,
        (segment, offset): (u64, u64),
        found: String,
        expected: String,
        durable: u64,
    ) -> JournalError {
        let path = storage.path(&name_of(segment));
        let (first_lost, end_lost) = (self.summary.tail.lsn, durable);
        JournalError::Corrupt(Box::new(Corruption {
            path,
            segment,
            offset,
            found,
            expected,
            first_lost,
            end_lost,
        }))
    }
}

/// The batch at the tail, if there is one that counts: its length, its COMMIT, and what the next one is
/// chained from.
fn next_batch<S: Storage>(
    window: &mut Window<'_, S>,
    tail: &Tail,
) -> io::Result<Option<(usize, Commit, u32)>> {
    let Tail { segment, offset, lsn, chain, salt, .. } = *tail;
    let room = window.len().saturating_sub(offset) as usize;
    if room < BLOCK {
        return Ok(None);
    }
    let longest = match RecordHead::peek(window.get(offset, record_at::END)?) {
        Some(head) if head.lsn == lsn => batch_len(head.record_len()).max(BATCH_MAX).min(room),
        _ => return Ok(None),
    };
    for len in (BLOCK..=longest).step_by(BLOCK) {
        let bytes = window.get(offset, len)?;
        if let Some((commit, link)) = Commit::find(bytes, segment, salt, offset + len as u64)
            && (commit.start, commit.first_lsn) == (offset, lsn)
            && is_whole(&bytes[..len - commit_at::END], &commit, chain)
        {
            return Ok(Some((len, commit, link)));
        }
    }
    Ok(None)
}

/// Whether these are the records that the COMMIT vouches for, chained from `link`.
fn is_whole(records: &[u8], commit: &Commit, mut link: u32) -> bool {
    if commit.count == 0 || crc32c::crc32c(records) != commit.batch_crc {
        return false;
    }
    let (mut rest, mut lsn) = (records, commit.first_lsn);
    for _ in 0..commit.count {
        match record::open(rest, link) {
            Some((head, _, next)) if head.lsn == lsn => {
                rest = &rest[head.record_len()..];
                link = next;
                lsn += 1;
            }
            _ => return false,
        }
    }
    link == commit.chain
}

/// What a COMMIT says, for people.
fn describe(commit: &Commit) -> String {
    format!(
        "the COMMIT at offset {} says that all before {} was on disk",
        commit.offset, commit.durable_before
    )
}

/// A store's id, for people.
fn hex(store: [u8; 16]) -> String {
    store.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Ending a damaged log before the damage.
//!
//! What says that there was more goes first where it lies last: later segments, from the last one down, each
//! for good before the next; then the rest of the damaged segment, which is overwritten with zeros. So the log
//! is as damaged as before until the last of it is gone, and a cut that died is begun anew.

use super::reader::{header_of, read};
use super::record::{BLOCK, Commit, commit_at};
use super::segments::{self, failed, io_error, name_of, remove, sync_dir, write_zeros};
use super::window::Window;
use super::{Corruption, JournalError, Storage, Summary, Tail};

/// What a cut would lose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Loss {
    /// The LSNs that were durable, as far as that is known: from the first to before the second.
    pub(crate) lsns: (u64, u64),
    /// Records behind the damage that can still be read, at most.
    pub(crate) readable_records: u64,
    /// Bytes of the batches with them.
    pub(crate) readable_bytes: u64,
    /// Segments that would be removed.
    pub(crate) segments: Vec<u64>,
}

/// What a cut did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CutReport {
    /// Where the log ends now.
    pub(crate) tail: Tail,
    /// What was lost.
    pub(crate) loss: Loss,
}

/// Counts what a cut would lose. Changes nothing.
pub(crate) fn loss<S: Storage>(storage: &S, at: &Corruption) -> Result<Loss, JournalError> {
    let mut loss = Loss { lsns: (at.first_lost, at.end_lost), ..Loss::default() };
    for number in segments::look(storage)?.segments {
        if number < at.segment {
            continue;
        }
        let kept = if number == at.segment { at.offset } else { 0 };
        if kept == 0 {
            loss.segments.push(number);
        }
        count_readable(storage, number, kept.max(BLOCK as u64), &mut loss)?;
    }
    Ok(loss)
}

/// Counts the batches of a segment from an offset on that their COMMIT vouches for. Without its header
/// nothing can be told of them.
fn count_readable<S: Storage>(
    storage: &S,
    number: u64,
    from: u64,
    loss: &mut Loss,
) -> Result<(), JournalError> {
    let name = name_of(number);
    let reading = || io_error(storage, "reading", &name);
    let file = storage.open(&name).map_err(reading())?;
    let Ok(header) = header_of(storage, &file, number, None)? else { return Ok(()) };
    let mut window = Window::new(storage, file, header.length);
    let mut batches: Vec<Commit> = Vec::new();
    for start in (from..header.length).step_by(BLOCK) {
        let block = window.get(start, BLOCK).map_err(reading())?;
        let found = Commit::find(block, number, header.salt, start + BLOCK as u64);
        batches.extend(found.map(|(commit, _)| commit).filter(|commit| commit.start >= from));
    }
    for commit in batches {
        let len = (commit.offset - commit.start) as usize;
        let records = window.get(commit.start, len).map_err(reading())?;
        if crc32c::crc32c(records) == commit.batch_crc {
            loss.readable_records += u64::from(commit.count);
            loss.readable_bytes += (len + commit_at::END) as u64;
        }
    }
    Ok(())
}

/// Ends the log before the damage. After a death in the middle of it the log is as damaged as before, or cut.
///
/// If there is damage before that, nothing is done: it has to be looked at first. If it is found to be
/// further on (a cut that died over it may have undone a part of it), what is whole before it is kept.
pub(crate) fn cut_at<S: Storage>(storage: &S, at: &Corruption) -> Result<CutReport, JournalError> {
    let at = match read(storage, None, &mut |_| {}) {
        Ok(Summary { tail, .. }) => {
            // Perhaps one that died cut it, and what it did is not durable yet.
            sync_end(storage, &tail)?;
            return Ok(CutReport { tail, loss: Loss::default() });
        }
        Err(JournalError::Corrupt(found)) if (found.segment, found.offset) >= (at.segment, at.offset) => {
            found
        }
        Err(other) => return Err(other),
    };
    let numbers = segments::look(storage)?.segments;
    if at.offset == 0 && numbers.first().is_none_or(|&first| first >= at.segment) {
        return Err(JournalError::NothingLeft { path: storage.path("") });
    }
    let loss = loss(storage, &at)?;
    sync_dir(storage)?;
    for number in from_the_last(&numbers, &at) {
        remove(storage, &name_of(number))?;
    }
    if at.offset > 0 {
        let name = name_of(at.segment);
        let file = storage.open(&name).map_err(io_error(storage, "opening", &name))?;
        let len = storage.len(&file).map_err(io_error(storage, "looking at", &name))?;
        write_zeros(storage, &file, at.offset, len).map_err(failed(storage, &name))?;
    }
    let tail = read(storage, None, &mut |_| {})?.tail;
    sync_end(storage, &tail)?;
    Ok(CutReport { tail, loss })
}

/// Makes durable that the log ends there.
fn sync_end<S: Storage>(storage: &S, tail: &Tail) -> Result<(), JournalError> {
    let name = name_of(tail.segment);
    let file = storage.open(&name).map_err(io_error(storage, "opening", &name))?;
    storage.sync(&file).map_err(failed(storage, &name))?;
    sync_dir(storage)
}

/// The segments to be removed, the last one first.
fn from_the_last(numbers: &[u64], at: &Corruption) -> impl Iterator<Item = u64> {
    let first = if at.offset == 0 { at.segment } else { at.segment + 1 };
    numbers.iter().rev().copied().take_while(move |&number| number >= first)
}

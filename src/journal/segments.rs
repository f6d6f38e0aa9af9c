//! The files of a log: spares, the next segment, recycling.
//!
//! ```text
//!            zeros, sync, rename           header, sync, rename              rename
//! new-..-<r> --------------------> spare-<r> ----------------> <number>.log --------> spare-<r>
//!                                      ^  more than are kept:       |
//!                                      |  remove                    | another writer died before it told
//!                                      +----------------------------+ anyone of this one
//! ```
//!
//! A name says what may be relied on: what is called a segment has a header that was durable before it got
//! that name. What a spare holds is never looked at, so one with an old log in it, or with the header of a
//! segment that it did not become, is as good as one of zeros. `new-..-<r>` is no more than half a spare.
//!
//! Until the directory is synced any of the changes of names may be lost and others kept. So there is never
//! more than one under way: each is synced before the next, and the first thing whenever names are
//! changed is a sync, for a predecessor that may have died before its own.

use std::io;

use super::record::SegmentHeader;
use super::writer::write_all;
use super::{JournalError, LogOptions, Storage};

/// How the names of spares begin.
const SPARE: &str = "spare-";

/// How the names of half spares begin that are made in advance. Who makes one removes those that are left.
const IN_ADVANCE: &str = "new-spare-";

/// How they begin when the writer has to make one for itself. It removes those that are left.
const IN_NEED: &str = "new-segment-";

/// Bytes of zeros written at a time.
const ZEROS: usize = 1 << 20;

/// What is in the directory.
#[derive(Debug)]
pub(crate) struct Names {
    /// The numbers of the segments, ascending.
    pub(crate) segments: Vec<u64>,
    /// The names of spares.
    spares: Vec<String>,
    /// The names of half spares.
    unfinished: Vec<String>,
}

/// The name of a segment.
pub(crate) fn name_of(number: u64) -> String {
    format!("{number:016x}.log")
}

/// The number of the segment of this name.
fn number_of(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()?;
    (name_of(number) == name).then_some(number)
}

/// Whether a file of this name is the journal's.
pub(crate) fn is_journal_file(name: &str) -> bool {
    number_of(name).is_some() || [SPARE, IN_ADVANCE, IN_NEED].iter().any(|kind| name.starts_with(kind))
}

/// Looks at what is there.
pub(crate) fn look<S: Storage>(storage: &S) -> Result<Names, JournalError> {
    let mut names = Names { segments: Vec::new(), spares: Vec::new(), unfinished: Vec::new() };
    for name in storage.list().map_err(io_error(storage, "listing", ""))? {
        if let Some(number) = number_of(&name) {
            names.segments.push(number);
        } else if name.starts_with(SPARE) {
            names.spares.push(name);
        } else if name.starts_with(IN_ADVANCE) || name.starts_with(IN_NEED) {
            names.unfinished.push(name);
        }
    }
    names.segments.sort_unstable();
    names.spares.sort_unstable();
    Ok(names)
}

/// A name for one more spare. No two are ever the same, so whoever finds a spare has it to itself.
fn spare_name<S: Storage>(storage: &S) -> String {
    format!("{SPARE}{:016x}", storage.random())
}

/// Makes a spare if there are fewer than should be; whether it did.
///
/// This takes long and needs no right to write to the log: it can be done beside the one who has
/// that, by one process at a time. If two do it at once, one of them may get an error.
pub(crate) fn make_spare<S: Storage>(storage: &S, options: &LogOptions) -> Result<bool, JournalError> {
    let names = look(storage)?;
    if names.spares.len() >= options.spares {
        return Ok(false);
    }
    sync_dir(storage)?;
    add_spare(storage, options, &names, IN_ADVANCE)?;
    Ok(true)
}

/// Makes a spare, under a name that begins in this way; its name.
fn add_spare<S: Storage>(
    storage: &S,
    options: &LogOptions,
    names: &Names,
    purpose: &str,
) -> Result<String, JournalError> {
    for name in names.unfinished.iter().filter(|name| name.starts_with(purpose)) {
        remove(storage, name)?;
    }
    let name = spare_name(storage);
    let unfinished = name.replacen(SPARE, purpose, 1);
    let file = storage.create(&unfinished).map_err(io_error(storage, "creating", &unfinished))?;
    if let Err(error) = fill_with_zeros(storage, &file, options.segment_len) {
        // It is of no use to anybody, and on a full disk it is in the way. Should this fail too, the
        // next one who makes a spare removes it.
        let _ = storage.remove(&unfinished);
        return Err(io_error(storage, "filling", &unfinished)(error));
    }
    rename(storage, &unfinished, &name)?;
    Ok(name)
}

/// Written, not just allocated: the first write to a block that was only allocated has to change the
/// file's metadata too, which costs a second flush.
fn fill_with_zeros<S: Storage>(storage: &S, file: &S::File, len: u64) -> io::Result<()> {
    storage.allocate(file, len)?;
    write_zeros(storage, file, 0, len)?;
    storage.sync(file)
}

/// Writes zeros from one offset to another.
pub(crate) fn write_zeros<S: Storage>(storage: &S, file: &S::File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    for at in (from..to).step_by(ZEROS) {
        write_all(storage, file, &zeros[..(to - at).min(ZEROS as u64) as usize], at, false)?;
    }
    Ok(())
}

/// Makes the segment of this header. All before it must be durable.
pub(crate) fn begin_segment<S: Storage>(
    storage: &S,
    options: &LogOptions,
    header: &SegmentHeader,
) -> Result<S::File, JournalError> {
    let name = name_of(header.number);
    let mut names = look(storage)?;
    sync_dir(storage)?;
    if names.segments.contains(&header.number) {
        // Its maker told nobody, so there is nothing in it.
        let spare = spare_name(storage);
        rename(storage, &name, &spare)?;
        names.spares.push(spare);
    }
    let (spare, file) = take_spare(storage, options, &mut names)?;
    write_header(storage, &file, header).map_err(failed(storage, &spare))?;
    rename(storage, &spare, &name)?;
    Ok(file)
}

/// An open spare of the right length; makes one if there is none.
fn take_spare<S: Storage>(
    storage: &S,
    options: &LogOptions,
    names: &mut Names,
) -> Result<(String, S::File), JournalError> {
    for name in std::mem::take(&mut names.spares) {
        let file = storage.open(&name).map_err(io_error(storage, "opening", &name))?;
        if storage.len(&file).map_err(io_error(storage, "looking at", &name))? == options.segment_len {
            return Ok((name, file));
        }
        remove(storage, &name)?;
    }
    let name = add_spare(storage, options, names, IN_NEED)?;
    let file = storage.open(&name).map_err(io_error(storage, "opening", &name))?;
    Ok((name, file))
}

fn write_header<S: Storage>(storage: &S, file: &S::File, header: &SegmentHeader) -> io::Result<()> {
    write_all(storage, file, &header.encode(), 0, false)?;
    storage.sync(file)
}

/// Takes the segments below this number out of the log, and removes spares that are too many. Never the last
/// segment. How many segments.
pub(crate) fn recycle_below<S: Storage>(
    storage: &S,
    options: &LogOptions,
    below: u64,
) -> Result<u64, JournalError> {
    let mut names = look(storage)?;
    let last = names.segments.last().copied().unwrap_or(0);
    let old: Vec<_> = names.segments.iter().copied().filter(|&number| number < below.min(last)).collect();
    if old.is_empty() && names.spares.len() <= options.spares {
        return Ok(0);
    }
    sync_dir(storage)?;
    // From the lowest up, so that a death leaves no gap.
    for number in &old {
        let name = name_of(*number);
        if names.spares.len() < options.spares {
            let spare = spare_name(storage);
            rename(storage, &name, &spare)?;
            names.spares.push(spare);
        } else {
            remove(storage, &name)?;
        }
    }
    for name in names.spares.iter().skip(options.spares) {
        remove(storage, name)?;
    }
    Ok(old.len() as u64)
}

/// Gives a file another name, for good.
fn rename<S: Storage>(storage: &S, from: &str, to: &str) -> Result<(), JournalError> {
    storage.rename(from, to).map_err(io_error(storage, "renaming", from))?;
    sync_dir(storage)
}

/// Removes a file, for good.
pub(crate) fn remove<S: Storage>(storage: &S, name: &str) -> Result<(), JournalError> {
    storage.remove(name).map_err(io_error(storage, "removing", name))?;
    sync_dir(storage)
}

/// Makes the names durable. An error is final: which of them are is not known, and another sync would not
/// tell.
pub(crate) fn sync_dir<S: Storage>(storage: &S) -> Result<(), JournalError> {
    storage.sync_dir().map_err(failed(storage, ""))
}

/// Wraps a system error that leaves the log as it was, for `map_err`.
pub(crate) fn io_error<S: Storage>(
    storage: &S,
    doing: &'static str,
    name: &str,
) -> impl FnOnce(io::Error) -> JournalError + use<S> {
    let path = storage.path(name);
    move |source| {
        if is_no_space(&source) {
            JournalError::NoSpace { path }
        } else {
            JournalError::Io { doing, path, source }
        }
    }
}

/// Wraps a system error after which it is not known what the disk has, for `map_err`.
pub(crate) fn failed<S: Storage>(storage: &S, name: &str) -> impl FnOnce(io::Error) -> JournalError + use<S> {
    let path = storage.path(name);
    move |source| JournalError::Failed { path, source }
}

/// Whether there is no room on the file system, or none left for this user.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

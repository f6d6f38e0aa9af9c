//! What can go wrong with a journal.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the log could not be made, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file system is full. Nothing was lost, and the writer goes on when there is room.
    #[error("no space left for the journal at {}: free space there, or let consumers catch up", path.display())]
    NoSpace {
        /// The file that found no place.
        path: PathBuf,
    },
    /// A write or sync failed: what was under way may be lost or kept. The writer refuses everything
    /// after it, and the log has to be read anew.
    #[error("writing the journal {} failed ({source}): what was not confirmed may be lost; check the disk, then open the store again", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Something that was durable is not there any more.
    #[error("{0}")]
    Corrupt(Box<Corruption>),
    /// The file is not a segment, or one of another store.
    #[error("{} is not a segment of this journal: {found}; check the journal's directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// The segment was written by another version of the format.
    #[error("{} has journal version {found}, this build reads version {expected}: use a build of that version", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version this build reads.
        expected: u32,
    },
    /// A log is there already.
    #[error("there is a journal at {} already: open it, or choose an empty directory", path.display())]
    AlreadyThere {
        /// Its directory.
        path: PathBuf,
    },
    /// There is no log.
    #[error("no journal at {}: check the directory", path.display())]
    NotThere {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The damage is at the very beginning, so that there is nothing before it to keep.
    #[error("nothing of the journal at {} can be kept, its first segment is damaged: restore it from a copy, or remove the directory", path.display())]
    NothingLeft {
        /// Its directory.
        path: PathBuf,
    },
    /// An option outside its bounds, or other than the log's.
    #[error("{option} = {found} cannot be: expected {expected}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// What was given.
        found: u64,
        /// What it may be.
        expected: String,
    },
    /// The operating system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Where the log breaks off although more of it was durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The segment's file.
    pub path: PathBuf,
    /// The segment's number.
    pub segment: u64,
    /// Where in it: the beginning of a batch, or 0 for the segment as a whole.
    pub offset: u64,
    /// What was found there.
    pub found: String,
    /// What should be there, and what says so.
    pub expected: String,
    /// The first LSN that cannot be read; 0 if that is not known.
    pub first_lost: u64,
    /// All before this LSN was durable, as far as that is known.
    pub end_lost: u64,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corruption { path, offset, found, expected, first_lost, end_lost, .. } = self;
        write!(f, "{} is damaged at offset {offset}: found {found}, expected {expected}; ", path.display())?;
        match end_lost.saturating_sub(*first_lost) {
            0 => write!(f, "entries from {first_lost} on may be lost")?,
            1 => write!(f, "entry {first_lost} is lost, and what came after it")?,
            _ => write!(f, "entries {first_lost} to {} are lost, and what came after them", end_lost - 1)?,
        }
        write!(f, ": restore the file from a copy, or cut the journal with `ringway repair --journal`")
    }
}

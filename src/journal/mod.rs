//! The log of a durable store: what was confirmed stays readable, in order, whatever dies.
//!
//! It knows nothing of queues. It is handed records and gives them back.
//!
//! # Batches, segments, the chain
//!
//! Records are numbered (their LSN) and written in *batches*. A batch is put together in private memory, gets
//! its checksums there, and is written at one place by one write. It ends with a COMMIT that vouches for all
//! of it, at the end of a 4 KiB block, so that no later write touches a sector with confirmed data. Batches
//! lie one after the other in *segments*, files of equal length that are full of written bytes before they are
//! used, so that a write changes no metadata. Old segments become new ones ([`segments`]).
//!
//! Every record's checksum is seeded with that of the record before it, the first one of a batch with that of
//! the COMMIT before it, the first one of a segment with its salt. No two COMMITs are the same. So a batch
//! that is left over from an earlier life is never taken for the next one: it does not follow.
//!
//! `docs/FORMAT.md` has the bytes.
//!
//! # The end of the log, and damage
//!
//! The log ends with the last batch that is whole and follows. What lies behind is usually *torn*: a batch
//! that was under way. But each COMMIT also says up to where all was durable when it was written, and a segment
//! is only begun after all before it is durable. If anything behind the end says that more was durable than
//! can be read, the log is *damaged*, and is refused ([`reader`]) until it is restored or cut ([`repair`]). What
//! nothing vouches for is the last batch that was confirmed: damage to it looks like a torn one.
//!
//! # Writers come and go
//!
//! There is one writer at a time; who it is, is decided elsewhere. All that one tells the next is the [`Tail`],
//! after each step. If it dies before it has told, the next one begins at the old tail:
//!
//! | it died | left behind | the next one |
//! |---|---|---|
//! | in the write of a batch | parts of it | writes another one at the same place. If that is shorter, what is left of the first lies behind it and vouches for nothing past it |
//! | after that | a whole batch that nobody knows of | the same. Or the log is read first: then the batch counts, and nobody can tell that it was not confirmed |
//! | when it went on in a new segment: before the header | zeros behind the tail; a spare less | nothing was there that counts |
//! | after the header | a spare with the header of a segment | takes it as a spare |
//! | after the name | an empty segment that nobody knows of | goes on before it; when the segment is full, makes the next one anew. Or the log is read first: then it goes on in that one, if nothing was written before it |
//! | in recycling | the lowest segments still there, or more spares than needed | does it later |
//!
//! Two rules make that safe. Before a segment gets a successor, what may lie behind its end is overwritten: else a
//! whole batch that nobody knew of would turn up, and the successor not follow. And a writer that
//! opens a segment, instead of making it, trusts nothing it finds to be durable: its first synced
//! commit syncs the whole file, the one before it, and the directory. From then on a commit makes just its own
//! bytes durable, unless batches before it were only written.
//!
//! # Errors
//!
//! An error of a write or sync is final: the kernel may have marked pages clean that never reached the disk, and
//! a second sync would say that all is well. The writer refuses everything after it, and so must all others
//! until the log was read again, past the page cache. A full disk is no such error: segments are
//! full-sized before they are used.

pub(crate) mod error;
pub(crate) mod files;
#[cfg(test)]
mod format;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod repair;
pub(crate) mod segments;
#[cfg(test)]
pub(crate) mod simulated;
pub(crate) mod storage;
#[cfg(test)]
mod tests;
mod window;
pub(crate) mod writer;

pub use error::{Corruption, JournalError};
pub(crate) use files::Files;
pub(crate) use reader::{Entry, Summary, read};
#[cfg(test)]
pub(crate) use repair::Loss;
pub(crate) use repair::{cut_at, loss};
pub(crate) use segments::make_spare;
pub(crate) use storage::Storage;
pub(crate) use writer::Writer;

/// What a log is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Bytes of a segment: a multiple of 4096, at least 64 KiB; the same for all segments of a log.
    pub(crate) segment_len: u64,
    /// Segments kept ready.
    pub(crate) spares: usize,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_len: 64 << 20, spares: 2 }
    }
}

/// Where the log ends. Plain data: it is shared between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Where in it the next batch begins.
    pub(crate) offset: u64,
    /// The LSN of the next record.
    pub(crate) lsn: u64,
    /// All records before this LSN are durable. At most `lsn`; less after batches that were only written.
    pub(crate) durable: u64,
    /// What the next record's checksum is seeded with.
    pub(crate) chain: u32,
    /// The segment's salt.
    pub(crate) salt: u32,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// All up to the new tail is durable when it returns.
    Synced,
    /// The kernel has it: it outlasts every process, not a power cut.
    Written,
}

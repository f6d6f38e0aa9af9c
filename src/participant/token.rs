//! The liveness token: proof that a participant lives, held by its process's address space.
//!
//! A living participant `i` holds a **write** lock on byte `2^62 + i` of the store's control file, far behind
//! the end of it. *No write lock on the byte* means *that process can no longer store to the ring*. The lock
//! is an open-file-description lock, and the open file it belongs to is kept by a mapping of one page and
//! nothing else:
//!
//! 1. open a fresh descriptor, lock the byte through it;
//! 2. map one page through it, `MADV_DONTFORK`, and close it;
//! 3. look from another descriptor whether the byte is still locked.
//!
//! So the lock outlives a pause and the closing of descriptors, is not inherited by a forked child,
//! and goes at exec and at death, when the kernel has torn the address space down. There is no process id,
//! which another namespace or a reuse makes wrong, and no heartbeat, which a pause makes wrong.
//!
//! Step 3 fails on overlayfs, whose mappings hold the file below instead. There the descriptor is kept open
//! instead, in a [`LockFile`], which a forked child closes. The difference is one case: a child made by a
//! bare `clone` system call, past the C library and its fork hooks, keeps its dead parent's token alive
//! until it ends or execs.
//!
//! Whoever **recovers** the work of a dead `i` holds a **read** lock on the same byte ([`begin_recovery`]): several
//! may do so at once, since every step of a recovery is a compare-and-swap, and a paused one stops
//! nobody. While any of them is at it, nobody can take the index anew.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::StoreError;
use crate::sys::files::{Dir, io_error, open_raw};
use crate::sys::fork::{ForkGuard, ForkPause, LockFile, page_size, pause_forks};
use crate::sys::lock;
use crate::sys::mapping::Mapping;

/// The byte of participant 0.
const FIRST: u64 = 1 << 62;

fn byte_of(index: u16) -> u64 {
    FIRST + u64::from(index)
}

/// Which file it is, whatever its name: device and inode. A store that was removed and made anew
/// differs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The identity of an open file.
    pub(crate) fn of(file: &File) -> io::Result<FileId> {
        let found = file.metadata()?;
        Ok(FileId { device: found.dev(), inode: found.ino() })
    }
}

/// Keeps a participant alive in the eyes of all others, until it is dropped or the process is no more.
#[derive(Debug)]
pub(crate) struct Token {
    hold: Hold,
    file: FileId,
}

/// What keeps the open file and so the lock. The field is never read: it is there to be dropped.
#[derive(Debug)]
enum Hold {
    Mapping(#[expect(dead_code, reason = "held for its destructor")] Mapping),
    Descriptor(#[expect(dead_code, reason = "held for its destructor")] LockFile),
}

impl Token {
    /// Becomes participant `index`. `None` if somebody holds the byte: a living participant, or one
    /// who recovers a dead one.
    pub(crate) fn take(dir: &Dir, control_name: &str, index: u16) -> Result<Option<Token>, StoreError> {
        let doing = io_error("taking a participant's lock in", &dir.path().join(control_name));
        take(dir, control_name, index, Pin::Mapping).map_err(doing)
    }

    /// Whether the token needs no descriptor.
    pub(crate) fn pinned_by_mapping(&self) -> bool {
        matches!(self.hold, Hold::Mapping(_))
    }

    /// The file the lock is on.
    pub(crate) fn file_id(&self) -> FileId {
        self.file
    }
}

/// What is to keep the open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pin {
    /// A mapping where that works, else a descriptor.
    Mapping,
    /// A descriptor.
    Descriptor,
}

fn take(dir: &Dir, control_name: &str, index: u16, pin: Pin) -> io::Result<Option<Token>> {
    // Until the lock is kept by what a child does not inherit, there must be no child.
    let mut pause = pause_forks()?;
    let file = open_raw(dir, control_name, true)?;
    if !lock::try_write(file.as_fd(), byte_of(index))? {
        return Ok(None);
    }
    let id = FileId::of(&file)?;
    if pin == Pin::Descriptor {
        let hold = Hold::Descriptor(LockFile::new(file, &mut pause)?);
        return Ok(Some(Token { hold, file: id }));
    }
    let mapping = Mapping::map_read_only(&file, page_size(), Arc::new(ForkGuard::new()?))?;
    drop(file);
    let probe = open_raw(dir, control_name, false)?;
    if lock::write_locked(probe.as_fd(), byte_of(index))? {
        return Ok(Some(Token { hold: Hold::Mapping(mapping), file: id }));
    }
    drop((probe, mapping, pause));
    // The lock was lost in between, so somebody else may have it now.
    take(dir, control_name, index, Pin::Descriptor)
}

/// Looks whether participants are dead.
#[derive(Debug)]
pub(crate) struct Probe {
    file: File,
}

impl Probe {
    /// Opens the control file once, to be asked often.
    pub(crate) fn open(dir: &Dir, control_name: &str) -> Result<Probe, StoreError> {
        let path = dir.path().join(control_name);
        let file = open_raw(dir, control_name, false).map_err(io_error("opening", &path))?;
        Ok(Probe { file })
    }

    /// Whether no living process is participant `index`: dead, or never there. One system call. What it
    /// stored before its death is visible after this.
    pub(crate) fn is_dead(&self, index: u16) -> io::Result<bool> {
        Ok(!lock::write_locked(self.file.as_fd(), byte_of(index))?)
    }

    /// The file that is asked about.
    pub(crate) fn file_id(&self) -> io::Result<FileId> {
        FileId::of(&self.file)
    }
}

/// Keeps the index of a dead participant from being taken while its work is recovered.
#[derive(Debug)]
pub(crate) struct RecoveryGuard {
    _lock: LockFile,
}

/// Begins to recover dead participant `index`; others may be at it too. `None` if the participant is alive.
pub(crate) fn begin_recovery(dir: &Dir, control_name: &str, index: u16) -> io::Result<Option<RecoveryGuard>> {
    let mut pause: ForkPause = pause_forks()?;
    let file = open_raw(dir, control_name, false)?;
    if !lock::try_read(file.as_fd(), byte_of(index))? {
        return Ok(None);
    }
    Ok(Some(RecoveryGuard { _lock: LockFile::new(file, &mut pause)? }))
}

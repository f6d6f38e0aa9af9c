//! Files that outlast a power cut: writes that are durable when they return, syncs, and what the kernel is
//! told of reads to come.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, PosixFadviseAdvice, RenameFlags, openat, posix_fadvise, renameat2};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, fchown, fdatasync};

use crate::sys::files::{Dir, OpenPolicy, allocate};

/// Makes the empty file `name`, open to read and write. It must not be there.
pub(crate) fn create(dir: &Dir, name: &str, policy: &OpenPolicy) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let file: File = retry(|| openat(dir, name, flags, mode))?.into();
    if let Some(gid) = policy.gid {
        fchown(&file, None, Some(Gid::from_raw(gid)))?;
        mode |= Mode::S_IRGRP | Mode::S_IWGRP;
    }
    // The umask has no say.
    fchmod(&file, mode)?;
    Ok(file)
}

/// Gives an empty file a length, and a place on the file system where that can be had in advance.
pub(crate) fn set_len(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)?;
    match allocate(file, 0, len) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Gives a file of the directory another name in it, replacing what has that name.
pub(crate) fn rename(dir: &Dir, from: &str, to: &str) -> io::Result<()> {
    Ok(renameat2(dir, from, dir, to, RenameFlags::empty())?)
}

/// Writes what the kernel takes in one call.
pub(crate) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    again(|| file.write_at(bytes, at))
}

/// Reads what the kernel gives in one call.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    again(|| file.read_at(buffer, at))
}

/// Writes what the kernel takes in one call; that is durable when it returns.
pub(crate) fn write_durably(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    /// Set once the system did not know how to.
    static UNKNOWN: AtomicBool = AtomicBool::new(false);
    // Relaxed: all that depends on it is which of two ways is tried first.
    if !UNKNOWN.load(Ordering::Relaxed) {
        match again(|| write_dsync(file, bytes, at)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                UNKNOWN.store(true, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    let written = write_at(file, bytes, at)?;
    sync(file)?;
    Ok(written)
}

fn write_dsync(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    let at = i64::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one piece, of memory that is borrowed for the call, and only read by it.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const piece, 1, at, libc::RWF_DSYNC) };
    Ok(Errno::result(written)? as usize)
}

/// Makes the bytes of the file durable, and its length.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    // Not again after an interrupted one, if that can be: what an error leaves behind is not known.
    Ok(fdatasync(file.as_fd())?)
}

/// Drops the pages of the file that the kernel need not write any more.
pub(crate) fn forget_cache(file: &File) {
    // A hint: where it is not taken the reads are no worse than others.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Has the kernel read ahead.
pub(crate) fn will_read(file: &File, at: u64, len: u64) {
    if let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) {
        // A hint, as above.
        let _ = posix_fadvise(file, at, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    again(|| Ok(call()?))
}

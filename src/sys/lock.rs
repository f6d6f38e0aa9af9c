//! Open-file-description locks on single bytes.
//!
//! Such a lock belongs to the open file, not to the process: it goes when the last descriptor *and the
//! last mapping* of that open file are gone, and closing some other descriptor of the same file does not
//! touch it. The bytes need not exist in the file. Locks of one open file never conflict with one another,
//! so that a probe must come from another one.

use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Who holds a byte.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// No other open file.
    Nobody,
    /// One or more others, for reading.
    Readers,
    /// Another one, for writing.
    Writer,
}

/// Takes the byte alone. `false` if another open file holds it.
pub(crate) fn try_write(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    set(fd, byte, libc::F_WRLCK)
}

/// Takes the byte together with other readers. `false` if another open file holds it for writing.
pub(crate) fn try_read(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    set(fd, byte, libc::F_RDLCK)
}

/// Gives the byte up. Not an error if it was not held.
pub(crate) fn unlock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    set(fd, byte, libc::F_UNLCK).map(|_| ())
}

/// Who else holds the byte. One system call.
#[cfg(test)]
pub(crate) fn probe(fd: BorrowedFd<'_>, byte: u64) -> io::Result<Holder> {
    // Asks for a write lock, which conflicts with everybody's; readers and a writer exclude one another.
    match conflict(fd, byte, libc::F_WRLCK)? {
        libc::F_UNLCK => Ok(Holder::Nobody),
        libc::F_WRLCK => Ok(Holder::Writer),
        _ => Ok(Holder::Readers),
    }
}

/// Whether another open file holds the byte for writing. One system call.
pub(crate) fn write_locked(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    // Asks for a read lock, with which only a writer conflicts.
    Ok(conflict(fd, byte, libc::F_RDLCK)? != libc::F_UNLCK)
}

/// Whether another open file holds the byte at all. One system call.
#[cfg(test)]
pub(crate) fn locked(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    Ok(probe(fd, byte)? != Holder::Nobody)
}

fn set(fd: BorrowedFd<'_>, byte: u64, kind: libc::c_int) -> io::Result<bool> {
    let wanted = one_byte(byte, kind)?;
    loop {
        match fcntl(fd, FcntlArg::F_OFD_SETLK(&wanted)) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The kind of a lock that stands in the way of one of `kind`; `F_UNLCK` if there is none.
fn conflict(fd: BorrowedFd<'_>, byte: u64, kind: libc::c_int) -> io::Result<libc::c_int> {
    let mut lock = one_byte(byte, kind)?;
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(lock.l_type.into())
}

fn one_byte(byte: u64, kind: libc::c_int) -> io::Result<libc::flock> {
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte.try_into().map_err(out_of_range)?,
        l_len: 1,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    const BYTE: u64 = 1 << 62;

    fn three_of_one_file() -> (tempfile::NamedTempFile, [File; 3]) {
        let file = tempfile::NamedTempFile::new().expect("file");
        let files =
            std::array::from_fn(|_| File::options().read(true).write(true).open(file.path()).expect("open"));
        (file, files)
    }

    #[test]
    fn writers_exclude_everybody() {
        let (_file, [a, b, probe_file]) = three_of_one_file();
        let (a, b, p) = (a.as_fd(), b.as_fd(), probe_file.as_fd());
        assert_eq!(probe(p, BYTE).expect("probe"), Holder::Nobody);
        assert!(try_write(a, BYTE).expect("write"));
        assert!(!try_write(b, BYTE).expect("write"));
        assert!(!try_read(b, BYTE).expect("read"));
        assert_eq!(probe(p, BYTE).expect("probe"), Holder::Writer);
        assert!(write_locked(p, BYTE).expect("probe"));
        assert!(!locked(p, BYTE + 1).expect("probe"));
        assert!(!locked(p, BYTE - 1).expect("probe"));
        unlock(a, BYTE).expect("unlock");
        assert!(!locked(p, BYTE).expect("probe"));
    }

    #[test]
    fn readers_share_and_exclude_writers() {
        let (_file, [a, b, probe_file]) = three_of_one_file();
        let (a, b, p) = (a.as_fd(), b.as_fd(), probe_file.as_fd());
        assert!(try_read(a, BYTE).expect("read"));
        assert!(try_read(b, BYTE).expect("read"));
        assert!(!try_write(p, BYTE).expect("write"));
        assert_eq!(probe(p, BYTE).expect("probe"), Holder::Readers);
        assert!(locked(p, BYTE).expect("probe"));
        assert!(!write_locked(p, BYTE).expect("probe"));
    }

    #[test]
    fn a_byte_past_the_range_of_files_is_an_error() {
        let (_file, [a, ..]) = three_of_one_file();
        assert!(try_write(a.as_fd(), u64::MAX).is_err());
    }
}

//! A disk: writes that are durable when they return, and plain reads.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::{Error, Result, now_ns};

/// Writes begin at multiples of this, in the file and in memory.
const BLOCK: usize = 4096;

/// Bytes that are written or read at a time where that is not what is measured.
const PIECE: usize = 1 << 20;

/// A file that is full of written, synced bytes, to be overwritten from its beginning to its end and again: the
/// place at which a synced write changes no metadata, and is as fast as it can be.
#[derive(Debug)]
pub struct Prewritten {
    file: File,
    len: usize,
    at: usize,
    /// With a block to spare, to be aligned.
    buffer: Vec<u8>,
}

impl Prewritten {
    /// A file of this many bytes in this directory. It has no name, so that nothing of it is left whatever happens.
    pub fn new(dir: &Path, len: usize) -> Result<Prewritten> {
        let mut file = nameless(dir)?;
        let zeros = vec![0; PIECE];
        for at in (0..len).step_by(PIECE) {
            file.write_all(&zeros[..PIECE.min(len - at)])?;
        }
        file.sync_all()?;
        Ok(Prewritten { file, len, at: 0, buffer: Vec::new() })
    }

    /// Writes so many bytes behind those written last, at most as many as the file has, by one `pwritev2` with
    /// `RWF_DSYNC`. Nanoseconds until they were on the disk.
    pub fn write(&mut self, bytes: usize) -> Result<u64> {
        let bytes = bytes.clamp(1, self.len);
        if self.buffer.len() < bytes + BLOCK {
            self.buffer = vec![0x5a; bytes + BLOCK];
        }
        if self.at + bytes > self.len {
            self.at = 0;
        }
        let start = self.buffer.as_ptr().align_offset(BLOCK).min(BLOCK);
        let piece = &mut self.buffer[start..start + bytes];
        // No two writes are the same.
        piece[0] = piece[0].wrapping_add(1);
        let began = now_ns();
        write_durably(&self.file, piece, self.at)?;
        let took = now_ns() - began;
        self.at += bytes.next_multiple_of(BLOCK);
        Ok(took)
    }
}

/// A new file in this directory, without a name: it is usable until it is closed.
pub(crate) fn nameless(dir: &Path) -> Result<File> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: no two are the same, that is all.
    let count = COUNT.fetch_add(1, Relaxed);
    let path = dir.join(format!(".ringway-measure-{}-{count}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(|error| Error::from(error).about(path.display()))?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// All of these bytes in one call, as durable as the kernel makes them.
fn write_durably(file: &File, bytes: &[u8], at: usize) -> Result<()> {
    let piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one piece, of memory that is borrowed for the call, and only read by it.
    let written =
        unsafe { libc::pwritev2(file.as_raw_fd(), &raw const piece, 1, i64::try_from(at)?, libc::RWF_DSYNC) };
    match usize::try_from(written) {
        Err(_) => Err(Error::from(std::io::Error::last_os_error()).about("a write with RWF_DSYNC")),
        Ok(written) if written < bytes.len() => {
            Err(Error::new(format!("{written} of {} bytes were written", bytes.len())))
        }
        Ok(_) => Ok(()),
    }
}

/// Reads these files from their beginning to their end, one after the other, from the disk and not from memory: the
/// kernel is told to forget what it has of them. Their bytes, and the nanoseconds of the reads.
pub fn read_through(files: &[PathBuf]) -> Result<(u64, u64)> {
    forget(files)?;
    let mut buffer = vec![0; PIECE];
    let mut bytes = 0;
    let began = now_ns();
    for path in files {
        let mut file = File::open(path)?;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
        }
    }
    Ok((bytes, now_ns() - began))
}

/// Has the kernel forget what it has of these files in memory, as far as it is on the disk.
pub fn forget(files: &[PathBuf]) -> Result<()> {
    for path in files {
        let file = File::open(path)?;
        file.sync_all()?;
        posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_round_and_round_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("ringway-disk-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory");
        let mut file = Prewritten::new(&dir, 3 * BLOCK).expect("a file");
        for _ in 0..7 {
            assert!(file.write(BLOCK).expect("a write") > 0);
        }
        assert_eq!(file.at, BLOCK);
        // More than there is room for.
        file.write(1 << 20).expect("a write");
        assert_eq!(file.file.metadata().expect("metadata").len(), 3 * BLOCK as u64);
        let path = dir.join("file");
        std::fs::write(&path, vec![7; PIECE + 5]).expect("a file");
        let (bytes, ns) = read_through(&[path.clone(), path]).expect("read");
        assert_eq!(bytes, 2 * (PIECE as u64 + 5));
        assert!(ns > 0);
        assert_eq!(std::fs::read_dir(&dir).expect("a directory").count(), 1);
        std::fs::remove_dir_all(&dir).expect("gone");
        assert!(Prewritten::new(&dir, BLOCK).is_err_and(|error| error.to_string().contains("ringway-disk")));
    }
}

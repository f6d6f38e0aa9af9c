//! A whole file in memory, shared with everyone who maps it.
//!
//! The mapping does not exist in a forked child (`MADV_DONTFORK`): what may lie at its address there is
//! somebody else's, so that a child which drops an inherited [`Mapping`] unmaps nothing. Other
//! processes write to this memory at any time, hence it is given out as a pointer only.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::sys::fork::ForkGuard;

/// A shared mapping of a whole file.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: ManuallyDrop<MmapRaw>,
    guard: Arc<ForkGuard>,
}

impl Mapping {
    /// Maps the first `len` bytes of the file to read and write; `guard` is that of the handle which owns
    /// the mapping. The file must be that long: an access past its end is a `SIGBUS`.
    pub(crate) fn map(file: &File, len: usize, guard: Arc<ForkGuard>) -> io::Result<Mapping> {
        check_len(file, len)?;
        Mapping::finish(MmapOptions::new().len(len).map_raw(file)?, guard)
    }

    /// As [`Mapping::map`], to read only: a write to it is a `SIGSEGV`.
    pub(crate) fn map_read_only(file: &File, len: usize, guard: Arc<ForkGuard>) -> io::Result<Mapping> {
        check_len(file, len)?;
        Mapping::finish(MmapOptions::new().len(len).map_raw_read_only(file)?, guard)
    }

    fn finish(map: MmapRaw, guard: Arc<ForkGuard>) -> io::Result<Mapping> {
        // From here on, an error unmaps by the destructor.
        let mapping = Mapping { map: ManuallyDrop::new(map), guard };
        mapping.map.advise(Advice::DontFork)?;
        Ok(mapping)
    }

    /// Brings the first `len` bytes into this process's page table, ready to be written, so that no access
    /// has to fault. What the kernel cannot do now it does at the first access.
    pub(crate) fn populate(&self, len: usize) {
        let _ = self.map.advise_range(Advice::PopulateWrite, 0, len.min(self.map.len()));
    }

    /// Its first byte, page-aligned. Valid as long as the mapping lives, in the process that made it.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.guard.forked() {
            // SAFETY: the field is not used again: this is the destructor, and it runs once.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

fn check_len(file: &File, len: usize) -> io::Result<()> {
    let found = file.metadata()?.len();
    if len == 0 || found < len as u64 {
        let what = format!("cannot map {len} bytes of a file of {found}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use std::os::unix::fs::FileExt;

    const LEN: usize = 8192;

    fn file_and_guard() -> (File, Arc<ForkGuard>) {
        let file = tempfile::tempfile().expect("file");
        file.set_len(LEN as u64).expect("length");
        (file, Arc::new(ForkGuard::new().expect("guard")))
    }

    #[test]
    fn what_is_written_is_in_the_file() {
        let (file, guard) = file_and_guard();
        let mapping = Mapping::map(&file, LEN, Arc::clone(&guard)).expect("map");
        let view = Mapping::map_read_only(&file, LEN, guard).expect("map");
        assert_eq!((mapping.len(), view.len()), (LEN, LEN));
        // SAFETY: inside both mappings; nobody else uses the file.
        let seen = unsafe {
            mapping.as_ptr().add(LEN - 1).write_volatile(42);
            view.as_ptr().add(LEN - 1).read_volatile()
        };
        assert_eq!(seen, 42);
        let mut byte = [0];
        file.read_exact_at(&mut byte, LEN as u64 - 1).expect("read");
        assert_eq!(byte, [42]);
    }

    #[test]
    fn more_than_the_file_has_is_refused() {
        let (file, guard) = file_and_guard();
        assert!(Mapping::map(&file, LEN + 1, Arc::clone(&guard)).is_err());
        assert!(Mapping::map_read_only(&file, 0, guard).is_err());
    }

    #[test]
    fn a_child_neither_has_nor_unmaps_it() {
        let (file, guard) = file_and_guard();
        let mapping = Mapping::map(&file, LEN, guard).expect("map");
        let at = mapping.as_ptr();
        // SAFETY: the child makes system calls only and leaves without running destructors of its caller.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                // SAFETY: NOREPLACE only succeeds where nothing is mapped; the word is read from the
                // mapping just made, which must still be there after the drop.
                unsafe {
                    let other = libc::mmap(at.cast(), LEN, protection, flags, -1, 0);
                    drop(mapping);
                    let ok = other == at.cast() && at.read_volatile() == 0;
                    libc::_exit(i32::from(!ok));
                }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).expect("waitpid"), WaitStatus::Exited(child, 0));
            }
        }
    }
}

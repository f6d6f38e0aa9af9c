//! Words in memory that forked processes share.

use std::fmt;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use crate::{Error, Result};

/// Zeroed words that this process and those it forks share. Aligned to a page.
pub struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
}

impl Words {
    /// `len` words, all zero.
    pub fn new(len: usize) -> Result<Words> {
        let bytes = len.max(1).checked_mul(size_of::<AtomicU64>());
        let bytes = bytes.ok_or_else(|| Error::new("no memory is as large as that"))?;
        // SAFETY: a new anonymous mapping at an address that the kernel chooses touches no memory in use.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::from(std::io::Error::last_os_error()).about("mapping shared memory"));
        }
        let start = NonNull::new(start.cast::<AtomicU64>());
        start.map(|start| Words { start, len }).ok_or_else(|| Error::new("mapped at address 0"))
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has this many zeroed words and lives as long as `self`; all who share it use
        // them as atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let bytes = self.len.max(1) * size_of::<AtomicU64>();
        // SAFETY: the mapping is ours, of this size, and no reference to it outlives `self`. Forked processes
        // have their own view of it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), bytes) };
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("len", &self.len).finish_non_exhaustive()
    }
}

// SAFETY: the words are atomics in memory that stays where it is.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

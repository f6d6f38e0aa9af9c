//! The seam between the log and what it lies on: one directory of files.
//!
//! Two implementations: [`Files`](super::files::Files), and the simulated disk of the tests, which loses,
//! tears and reorders whatever was not synced, and fails and dies at any of these calls. So each method says
//! what may be relied on after it, and the log relies on nothing else.

use std::io;
use std::path::PathBuf;

/// One directory, and the calls that the log makes on it.
///
/// What a call did is visible to every process at once. It outlasts a power cut only after the sync that
/// covers it, and without that any part of it may: sectors of 512 bytes in any order, directory
/// operations as well.
pub(crate) trait Storage {
    /// An open file.
    type File;

    /// The names in the directory, in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that is there, to read and write.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Makes an empty file of a name that is not taken, and opens it.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Makes an empty file `len` bytes long, with a place on the disk for all of them.
    fn allocate(&self, file: &Self::File, len: u64) -> io::Result<()>;

    /// The length of the file.
    fn len(&self, file: &Self::File) -> io::Result<u64>;

    /// Hands bytes to the kernel; how many, which may be fewer than given.
    fn write_at(&self, file: &Self::File, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// As [`Storage::write_at`], and what it says was written is durable when it returns. That holds for
    /// these bytes alone, not for others written before.
    fn write_durably(&self, file: &Self::File, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Makes all bytes and the length of the file durable. After an error nothing is known of any of them,
    /// and another sync that succeeds says nothing: the kernel has marked the pages clean.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Reads; how many bytes, which may be fewer than asked for; none at the end of the file.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Gives a file another name, replacing what has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names that were added, changed and removed so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Drops what the kernel keeps of the file and need not write any more, so that the next reads see what
    /// the disk has. A hint.
    fn forget_cache(&self, file: &Self::File);

    /// These bytes will be read soon. A hint.
    fn will_read(&self, file: &Self::File, at: u64, len: u64);

    /// A number that does not come again, as far as chance can see to it.
    fn random(&self) -> u64;

    /// Where a file of this name is, for people.
    fn path(&self, name: &str) -> PathBuf;
}

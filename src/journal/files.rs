//! Real files as [`Storage`].

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::PathBuf;

use super::storage::Storage;
use crate::StoreError;
use crate::sys::durable;
use crate::sys::files::{Dir, OpenPolicy, open_file};

/// The files of one directory.
#[derive(Debug)]
pub(crate) struct Files {
    dir: Dir,
    policy: OpenPolicy,
}

impl Files {
    /// The files of this directory. What is made there has the mode that the policy says, and nothing is
    /// opened that it does not trust.
    pub(crate) fn new(dir: Dir, policy: OpenPolicy) -> Files {
        Files { dir, policy }
    }
}

impl Storage for Files {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        self.dir.list()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        // Nothing of the reason is lost: the error that is not the system's is carried along.
        open_file(&self.dir, name, &self.policy, true).map_err(|error| match error {
            StoreError::Io { source, .. } => source,
            other => io::Error::other(other),
        })
    }

    fn create(&self, name: &str) -> io::Result<File> {
        durable::create(&self.dir, name, &self.policy)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        durable::set_len(file, len)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
        durable::write_at(file, bytes, at)
    }

    fn write_durably(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
        durable::write_durably(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        durable::sync(file)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        durable::read_at(file, buffer, at)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        durable::rename(&self.dir, from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir.unlink(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync()
    }

    fn forget_cache(&self, file: &File) {
        durable::forget_cache(file);
    }

    fn will_read(&self, file: &File, at: u64, len: u64) {
        durable::will_read(file, at, len);
    }

    fn random(&self) -> u64 {
        // Each hasher has other random keys, but those of a forked child are its parent's.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        hasher.finish()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.dir.path().to_path_buf() } else { self.dir.path().join(name) }
    }
}

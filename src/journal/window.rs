//! A segment, read in large pieces from the front to the back.

use std::io;

use super::Storage;

/// Bytes read at a time, at least.
const PIECE: usize = 4 << 20;

/// How far ahead the kernel is told of what comes.
const AHEAD: u64 = 16 << 20;

/// The part of a segment that is in memory.
pub(crate) struct Window<'a, S: Storage> {
    storage: &'a S,
    file: S::File,
    /// Bytes of the segment.
    len: u64,
    /// Offset of the first byte of `bytes`.
    start: u64,
    bytes: Vec<u8>,
    /// Up to where the kernel was told.
    told: u64,
}

impl<'a, S: Storage> Window<'a, S> {
    pub(crate) fn new(storage: &'a S, file: S::File, len: u64) -> Window<'a, S> {
        Window { storage, file, len, start: 0, bytes: Vec::new(), told: 0 }
    }

    /// Bytes of the segment.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Gives back the memory, for another segment.
    pub(crate) fn on(self, file: S::File, len: u64) -> Window<'a, S> {
        let mut bytes = self.bytes;
        bytes.clear();
        Window { storage: self.storage, file, len, start: 0, bytes, told: 0 }
    }

    /// These bytes of the segment, which must be in it. Those before `from` are forgotten.
    pub(crate) fn get(&mut self, from: u64, len: usize) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if from < self.start || from > end {
            self.bytes.clear();
            self.start = from;
        }
        if from + len as u64 > self.start + self.bytes.len() as u64 {
            self.bytes.drain(..(from - self.start) as usize);
            self.start = from;
            let more = len.max(self.bytes.len() + PIECE) as u64;
            self.read_to(from + more.min(self.len - from))?;
        }
        let at = (from - self.start) as usize;
        Ok(&self.bytes[at..at + len])
    }

    fn read_to(&mut self, end: u64) -> io::Result<()> {
        let ahead = (end + AHEAD).min(self.len);
        if ahead > self.told {
            let from = self.told.max(end);
            self.storage.will_read(&self.file, from, ahead - from);
            self.told = ahead;
        }
        let filled = self.bytes.len();
        self.bytes.resize((end - self.start) as usize, 0);
        let read = read_all(self.storage, &self.file, &mut self.bytes[filled..], self.start + filled as u64);
        if read.is_err() {
            self.bytes.truncate(filled);
        }
        read
    }
}

/// Fills the buffer, in as many calls as it takes.
pub(crate) fn read_all<S: Storage>(
    storage: &S,
    file: &S::File,
    mut buffer: &mut [u8],
    mut at: u64,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match storage.read_at(file, buffer, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                buffer = &mut buffer[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}

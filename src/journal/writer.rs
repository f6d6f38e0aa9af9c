//! Writing batches.

use std::fmt;
use std::io;

use super::record::{BLOCK, Commit, RecordHead, SegmentHeader, batch_len, commit_at, first_link, record_at};
use super::record::{record_len, seal};
use super::segments::{self, failed, io_error, is_no_space, name_of};
use super::{Durability, JournalError, LogOptions, Storage, Tail, reader};

/// The most bytes of a batch, unless it is a single record that is longer.
pub(crate) const BATCH_MAX: usize = 4 << 20;

/// The least bytes of a segment.
pub(crate) const SEGMENT_MIN: u64 = 64 << 10;

/// The only one who writes to the log: all methods are for who holds the right to do so.
///
/// It knows where the log ends only from the tail that it is told, so another one, in another process, can
/// take over at the tail that was told last, whatever this one was doing.
pub(crate) struct Writer<S: Storage> {
    storage: S,
    options: LogOptions,
    store: [u8; 16],
    batch: Batch,
    current: Option<Current<S::File>>,
    nonce: u32,
    failed: Option<Failure>,
}

/// The batch being put together.
struct Batch {
    /// Where it will be written.
    tail: Tail,
    buffer: Buffer,
    /// Bytes of records.
    used: usize,
    count: u32,
}

/// The segment that is open.
struct Current<F> {
    segment: u64,
    salt: u32,
    file: F,
    /// All that this writer found in it is durable, and so is its name. Without that a write that makes itself
    /// durable says nothing of what somebody else left in the page cache.
    clean: bool,
}

/// What went wrong for good.
struct Failure {
    segment: u64,
    code: Option<i32>,
}

impl<S: Storage> fmt::Debug for Writer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("options", &self.options)
            .field("tail", &self.batch.tail)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Writer<S> {
    /// Makes a log in a directory without one; an empty batch is begun. Also after a death in the middle of
    /// that.
    pub(crate) fn create(
        storage: S,
        options: LogOptions,
        store: [u8; 16],
    ) -> Result<(Self, Tail), JournalError> {
        if !segments::look(&storage)?.segments.is_empty() {
            return Err(JournalError::AlreadyThere { path: storage.path("") });
        }
        let mut writer = Writer::resume(storage, options, store)?;
        let tail = writer.next_segment(NOWHERE)?;
        Ok((writer, tail))
    }

    /// A writer of the log that is there. Looks at nothing yet; [`Writer::begin`] comes next.
    pub(crate) fn resume(storage: S, options: LogOptions, store: [u8; 16]) -> Result<Self, JournalError> {
        check(&options)?;
        let nonce = storage.random() as u32;
        let batch = Batch { tail: NOWHERE, buffer: Buffer::new(BATCH_MAX), used: 0, count: 0 };
        Ok(Writer { storage, options, store, batch, current: None, nonce, failed: None })
    }

    /// The most bytes that one record can carry.
    pub(crate) fn largest_body(options: &LogOptions) -> usize {
        let room = options.segment_len as usize - BLOCK - commit_at::END - record_at::END;
        room.min(u32::MAX as usize)
    }

    /// An empty batch at this tail; forgets one begun before.
    pub(crate) fn begin(&mut self, tail: Tail) {
        self.batch.tail = tail;
        self.batch.used = 0;
        self.batch.count = 0;
        self.batch.buffer.shrink(BATCH_MAX);
    }

    /// Whether the batch has no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.count == 0
    }

    /// Bytes of records that the batch still takes.
    pub(crate) fn room(&self) -> usize {
        let segment = self.options.segment_len.saturating_sub(self.batch.tail.offset) as usize;
        segment.min(BATCH_MAX).saturating_sub(self.batch.used + BLOCK)
    }

    /// The LSN that the next record gets.
    pub(crate) fn next_lsn(&self) -> u64 {
        self.batch.tail.lsn + u64::from(self.batch.count)
    }

    /// One more record, with a body to be filled: all of it, it holds old bytes. `None`: it does not fit in
    /// what is left of the batch, or of the segment. `kind` is not 0.
    pub(crate) fn reserve(
        &mut self,
        kind: u8,
        aux: u32,
        queue: u64,
        position: u64,
        len: usize,
    ) -> Option<&mut [u8]> {
        debug_assert_ne!(kind, 0, "no record has kind 0");
        let room = self.options.segment_len.saturating_sub(self.batch.tail.offset) as usize;
        let head =
            RecordHead { len: u32::try_from(len).ok()?, kind, aux, lsn: self.next_lsn(), queue, position };
        let end = self.batch.used + record_len(len);
        let limit = if self.is_empty() { room } else { room.min(BATCH_MAX) };
        if batch_len(end) > limit {
            return None;
        }
        if self.is_empty() {
            self.batch.buffer.hold(batch_len(end));
        }
        let record = &mut self.batch.buffer.bytes_mut()[self.batch.used..end];
        head.put(record);
        self.batch.used = end;
        self.batch.count += 1;
        Some(&mut record[record_at::END..record_at::END + len])
    }

    /// Writes the batch. The tail after it, at which a new empty batch is begun. An empty batch
    /// is not written, but `Synced` makes all before it durable too.
    ///
    /// `NoSpace`: nothing is lost, and the batch is still there to be committed again. `Failed` is final.
    pub(crate) fn commit(&mut self, durability: Durability) -> Result<Tail, JournalError> {
        self.check_alive()?;
        let tail = self.batch.tail;
        let all_durable = tail.durable == tail.lsn;
        let synced = durability == Durability::Synced;
        if self.is_empty() && (all_durable || !synced) {
            return Ok(tail);
        }
        self.open_current()?;
        let clean = self.current.as_ref().is_some_and(|current| current.clean);
        let mut next = tail;
        if !self.is_empty() {
            let len = self.seal_batch(&mut next);
            self.write_batch(len, synced && clean && all_durable)?;
        }
        if synced {
            if !(clean && all_durable) {
                self.sync_current()?;
            }
            next.durable = next.lsn;
        }
        self.begin(next);
        Ok(next)
    }

    /// Goes on in a new segment, when a record did not fit in an empty batch; all before it is durable.
    /// An empty batch is begun at the new tail. `NoSpace`: nothing happened.
    pub(crate) fn next_segment(&mut self, tail: Tail) -> Result<Tail, JournalError> {
        self.check_alive()?;
        self.begin(tail);
        self.end_segment()?;
        let header = SegmentHeader {
            store: self.store,
            number: tail.segment + 1,
            length: self.options.segment_len,
            first_lsn: tail.lsn,
            salt: self.storage.random() as u32,
        };
        let made = segments::begin_segment(&self.storage, &self.options, &header);
        let file = made.map_err(|error| self.note(error))?;
        let (segment, salt) = (header.number, header.salt);
        self.current = Some(Current { segment, salt, file, clean: true });
        let chain = first_link(salt, segment);
        let next = Tail { segment, offset: BLOCK as u64, lsn: tail.lsn, durable: tail.lsn, chain, salt };
        self.begin(next);
        Ok(next)
    }

    /// Takes the segments below this number out of the log; how many.
    pub(crate) fn recycle_below(&mut self, segment: u64) -> Result<u64, JournalError> {
        self.check_alive()?;
        segments::recycle_below(&self.storage, &self.options, segment).map_err(|error| self.note(error))
    }

    /// Adds the checksums and the COMMIT, and moves the tail behind the batch. Bytes of the batch.
    fn seal_batch(&mut self, tail: &mut Tail) -> usize {
        let Batch { buffer, used, count, .. } = &mut self.batch;
        let len = batch_len(*used);
        let (records, commit) = buffer.bytes_mut()[..len].split_at_mut(len - commit_at::END);
        records[*used..].fill(0);
        let mut at = 0;
        while at < *used {
            let record = RecordHead::peek(&records[at..]).map_or(0, |head| head.record_len());
            tail.chain = seal(&mut records[at..at + record], tail.chain);
            at += record;
        }
        self.nonce = self.nonce.wrapping_add(1);
        let vouches = Commit {
            segment: tail.segment,
            offset: tail.offset + records.len() as u64,
            start: tail.offset,
            first_lsn: tail.lsn,
            durable_before: tail.durable,
            count: *count,
            chain: tail.chain,
            batch_crc: crc32c::crc32c(records),
            nonce: self.nonce,
        };
        tail.chain = vouches.put(commit, tail.salt);
        tail.offset += len as u64;
        tail.lsn += u64::from(*count);
        len
    }

    fn write_batch(&mut self, len: usize, durably: bool) -> Result<(), JournalError> {
        let Some(current) = &self.current else { unreachable!("it was opened") };
        let bytes = &self.batch.buffer.bytes()[..len];
        let written = write_all(&self.storage, &current.file, bytes, self.batch.tail.offset, durably);
        // When there is no space, all of the batch will be written again: nothing depends on what was written.
        written.map_err(|error| self.fail_unless_full(error))
    }

    /// Makes sure that the segment ends at the tail, for all times: what a predecessor wrote there and told
    /// nobody must not turn up as a batch once the next segment goes on from here.
    fn end_segment(&mut self) -> Result<(), JournalError> {
        let Tail { offset, lsn, durable, .. } = self.batch.tail;
        let room = self.options.segment_len.saturating_sub(offset) >= BLOCK as u64;
        if room || durable < lsn {
            self.open_current()?;
        }
        if let (true, Some(current)) = (room, &self.current) {
            let written = write_all(&self.storage, &current.file, &[0; BLOCK], offset, false);
            written.map_err(|error| self.fail_unless_full(error))?;
        }
        if room || durable < lsn { self.sync_current() } else { Ok(()) }
    }

    /// Makes all in the segment durable.
    fn sync_current(&mut self) -> Result<(), JournalError> {
        let Some(current) = &self.current else { unreachable!("it was opened") };
        let mut synced = self.storage.sync(&current.file);
        if !current.clean {
            synced = synced.and_then(|()| self.sync_found(current.segment));
        }
        synced.map_err(|error| self.fail(error))?;
        self.current.iter_mut().for_each(|current| current.clean = true);
        Ok(())
    }

    /// Makes durable what else a reader of this segment relied on: its name, which its maker may not have
    /// synced before it died, and that the segment before it ends where it was found to end.
    fn sync_found(&self, segment: u64) -> io::Result<()> {
        match self.storage.open(&name_of(segment.saturating_sub(1))) {
            Ok(before) => self.storage.sync(&before)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.storage.sync_dir()
    }

    /// Opens the segment of the tail, unless it is.
    fn open_current(&mut self) -> Result<(), JournalError> {
        let Tail { segment, salt, .. } = self.batch.tail;
        if self.current.as_ref().is_some_and(|current| (current.segment, current.salt) == (segment, salt)) {
            return Ok(());
        }
        let name = name_of(segment);
        let file = self.storage.open(&name).map_err(io_error(&self.storage, "opening", &name))?;
        let header = reader::header_of(&self.storage, &file, segment, Some(self.store))?;
        let header =
            header.map_err(|found| JournalError::Foreign { path: self.storage.path(&name), found })?;
        if header.length != self.options.segment_len {
            let expected = format!("{} as in the journal's segments", header.length);
            let found = self.options.segment_len;
            return Err(JournalError::BadOption { option: "segment_len", found, expected });
        }
        if header.salt != salt {
            let found = format!("its salt is {:#010x}, expected {salt:#010x}", header.salt);
            return Err(JournalError::Foreign { path: self.storage.path(&name), found });
        }
        self.current = Some(Current { segment, salt, file, clean: false });
        Ok(())
    }

    fn check_alive(&self) -> Result<(), JournalError> {
        match &self.failed {
            None => Ok(()),
            Some(Failure { segment, code }) => {
                let source = code.map_or(io::ErrorKind::WriteZero.into(), io::Error::from_raw_os_error);
                Err(failed(&self.storage, &name_of(*segment))(source))
            }
        }
    }

    /// Refuses everything from now on, unless all there is to it is that the file system is full.
    fn fail_unless_full(&mut self, error: io::Error) -> JournalError {
        if is_no_space(&error) {
            return JournalError::NoSpace { path: self.storage.path(&name_of(self.batch.tail.segment)) };
        }
        self.fail(error)
    }

    /// Refuses everything from now on.
    fn fail(&mut self, error: io::Error) -> JournalError {
        let segment = self.batch.tail.segment;
        self.failed = Some(Failure { segment, code: error.raw_os_error() });
        failed(&self.storage, &name_of(segment))(error)
    }

    /// Refuses everything from now on, if that was final.
    fn note(&mut self, error: JournalError) -> JournalError {
        if let JournalError::Failed { source, .. } = &error {
            self.failed = Some(Failure { segment: self.batch.tail.segment, code: source.raw_os_error() });
        }
        error
    }
}

/// Writes all of this, in as many calls as it takes.
pub(crate) fn write_all<S: Storage>(
    storage: &S,
    file: &S::File,
    mut bytes: &[u8],
    mut at: u64,
    durably: bool,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = if durably {
            storage.write_durably(file, bytes, at)?
        } else {
            storage.write_at(file, bytes, at)?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

/// Where a log ends that is not there: no record fits, and segment 1 comes next.
const NOWHERE: Tail = Tail { segment: 0, offset: u64::MAX, lsn: 1, durable: 1, chain: 0, salt: 0 };

/// Refuses options outside their bounds.
fn check(options: &LogOptions) -> Result<(), JournalError> {
    let found = options.segment_len;
    if found < SEGMENT_MIN || !found.is_multiple_of(BLOCK as u64) || i64::try_from(found).is_err() {
        let expected = format!("a multiple of {BLOCK}, at least {SEGMENT_MIN}");
        return Err(JournalError::BadOption { option: "segment_len", found, expected });
    }
    Ok(())
}

/// Memory that begins at a multiple of a block, so that the kernel can copy it a page at a time.
struct Buffer {
    memory: Vec<u8>,
    skipped: usize,
}

impl Buffer {
    fn new(len: usize) -> Buffer {
        let memory = vec![0; len + BLOCK];
        let skipped = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        Buffer { memory, skipped }
    }

    fn capacity(&self) -> usize {
        self.memory.len() - BLOCK
    }

    /// Makes room for so many bytes. What was in it is lost.
    fn hold(&mut self, len: usize) {
        if self.capacity() < len {
            *self = Buffer::new(len);
        }
    }

    /// Gives back what is more than this.
    fn shrink(&mut self, len: usize) {
        if self.capacity() > len {
            *self = Buffer::new(len);
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.skipped..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.skipped..]
    }
}

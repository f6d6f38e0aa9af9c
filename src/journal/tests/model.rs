//! What the log must be: a tree.
//!
//! Each batch follows the one at whose end it was begun. A batch whose writer died, or failed, before it told
//! the tail behind it may be followed by nothing; the next one is begun at the same place, and is
//! its sibling. After whatever went wrong the log must read as one path from the root, of whole batches, and
//! the last batch that was confirmed as synced must be on it.

use super::super::reader::{Entry, Summary};
use super::super::{Durability, Tail};
use super::story::After;
use crate::journal::simulated::Random;

/// A batch that somebody tried to write.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    parent: usize,
    pub(super) segment: u64,
    pub(super) first_lsn: u64,
    pub(super) durable_before: u64,
    lens: Vec<usize>,
}

impl Batch {
    fn end_lsn(&self) -> u64 {
        self.first_lsn + self.lens.len() as u64
    }
}

/// All batches there were; number 0 is the beginning of the log.
#[derive(Debug)]
pub(super) struct Model {
    batches: Vec<Batch>,
    /// The last batch that was told of.
    pub(super) told: usize,
    /// The last batch that was told of as durable.
    durable: usize,
    /// All segments below may be gone.
    recycled: u64,
    /// Whether the making of the log was told.
    pub(super) made: bool,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    segment: u64,
    lsn: u64,
    pub(super) batch: usize,
    index: usize,
    len: usize,
}

/// Fills the body of a record: what it holds follows from where it belongs.
pub(super) fn fill(body: &mut [u8], batch: usize, index: usize) {
    let mut random = Random::new((batch as u64) << 20 | index as u64);
    for piece in body.chunks_mut(8) {
        piece.copy_from_slice(&random.next().to_le_bytes()[..piece.len()]);
    }
}

impl Found {
    /// The record, whose bytes must be those that were written.
    pub(super) fn new(entry: Entry<'_>) -> Found {
        let (batch, index) = (entry.queue as usize, entry.position as usize);
        let mut body = vec![0; entry.body.len()];
        fill(&mut body, batch, index);
        assert!(entry.body == body, "entry {} has other bytes than were written", entry.lsn);
        assert_eq!((entry.kind, entry.aux), (kind_of(index), index as u32 ^ 0xa5a5), "entry {}", entry.lsn);
        Found { segment: entry.segment, lsn: entry.lsn, batch, index, len: body.len() }
    }
}

/// The kind that records have.
pub(super) fn kind_of(index: usize) -> u8 {
    index as u8 % 200 + 1
}

impl Model {
    pub(super) fn new() -> Model {
        let root = Batch { parent: 0, segment: 0, first_lsn: 1, durable_before: 1, lens: Vec::new() };
        Model { batches: vec![root], told: 0, durable: 0, recycled: 0, made: false }
    }

    /// The number of the next batch.
    pub(super) fn next(&self) -> usize {
        self.batches.len()
    }

    /// A batch is about to be written at this tail.
    pub(super) fn try_batch(&mut self, tail: Tail, lens: Vec<usize>) {
        self.batches.push(Batch {
            parent: self.told,
            segment: tail.segment,
            first_lsn: tail.lsn,
            durable_before: tail.durable,
            lens,
        });
    }

    /// The batch begun last was told of.
    pub(super) fn tell_batch(&mut self, durability: Durability) {
        self.told = self.batches.len() - 1;
        if durability == Durability::Synced {
            self.durable = self.told;
        }
    }

    /// The log is gone, and will be made anew.
    pub(super) fn restart(&mut self) {
        assert_eq!(self.durable, 0, "the log is gone with a durable batch");
        self.told = 0;
    }

    /// All that was told of was told to be durable.
    pub(super) fn tell_durable(&mut self) {
        self.durable = self.told;
    }

    /// Segments below this number may go.
    pub(super) fn recycle(&mut self, below: u64) {
        self.recycled = self.recycled.max(below);
    }

    pub(super) fn batch(&self, number: usize) -> &Batch {
        &self.batches[number]
    }

    /// The batches up to this one.
    fn path_to(&self, mut batch: usize) -> Vec<usize> {
        let mut path = vec![batch];
        while batch != 0 {
            batch = self.batches[batch].parent;
            path.push(batch);
        }
        path.reverse();
        path
    }

    /// The batch that was told of and ends before this LSN: the last one, if no batch is left in the log.
    fn batch_before(&self, lsn: u64) -> usize {
        let mut path = self.path_to(self.told).into_iter();
        path.rfind(|&batch| self.batches[batch].end_lsn() == lsn).expect("a tail that was told")
    }

    /// The log was read anew: it must be a path with all that was told as durable, or, after a mere death,
    /// with all that was told. It goes on from its end.
    pub(super) fn reread(&mut self, found: &[Found], summary: &Summary, after: After) {
        let end = found.last().map_or_else(|| self.batch_before(summary.tail.lsn), |last| last.batch);
        let path = self.path_to(end);
        let must = if after == After::Death { self.told } else { self.durable };
        assert!(path.contains(&must), "batch {must} is not in the log, which ends with batch {end}");
        self.check_path(&path, found);
        let batch = &self.batches[end];
        assert_eq!(summary.tail.lsn, batch.end_lsn(), "the tail's LSN");
        let (first, last) = (self.batches[must].end_lsn(), summary.tail.lsn);
        assert!(summary.tail.durable <= last, "the tail vouches for more than there is");
        assert!(first <= last, "the log ends before what was told");
        assert_eq!(summary.records, found.len() as u64);
        self.told = end;
        if after == After::PowerCut {
            self.durable = end;
        }
    }

    /// These must be all records of the path, but for those in recycled segments.
    pub(super) fn check_path(&self, path: &[usize], found: &[Found]) {
        let mut expected = Vec::new();
        for &number in path {
            let Batch { segment, first_lsn, lens, .. } = &self.batches[number];
            for (index, (lsn, &len)) in (*first_lsn..).zip(lens).enumerate() {
                expected.push(Found { segment: *segment, lsn, batch: number, index, len });
            }
        }
        let gone = expected.len().checked_sub(found.len()).expect("no more records than were written");
        assert_eq!(expected[gone..], *found, "the log's content");
        if gone > 0 {
            let last_gone = &expected[gone - 1];
            assert!(
                last_gone.segment < self.recycled,
                "segment {} was not to be recycled",
                last_gone.segment
            );
            assert!(found.first().is_none_or(|first| first.segment > last_gone.segment), "half a segment");
        }
    }

    /// After damage the log still could be read. Then nothing behind its new end says that it was durable.
    pub(super) fn check_unvouched(&self, whole: &[Found], left: &[Found]) {
        assert_eq!(whole[..left.len()], *left, "other content");
        let Some(first) = whole.get(left.len()) else { return };
        let damaged = self.batch(first.batch);
        for found in &whole[left.len()..] {
            let later = self.batch(found.batch);
            assert!(
                later.durable_before <= damaged.first_lsn && later.segment == damaged.segment,
                "batch {} says that batch {} was durable, yet its loss was not noticed",
                found.batch,
                first.batch,
            );
        }
    }
}

//! A file of the simulated disk: what is seen of it, and what would be left after a power cut.

use std::collections::{BTreeMap, BTreeSet};

use super::Random;

/// Bytes that are written whole or not at all.
const SECTOR: usize = 512;

/// One file, whatever its names.
#[derive(Debug, Default)]
pub(super) struct Inode {
    /// What processes see.
    pub(super) view: Vec<u8>,
    /// What is durable.
    pub(super) disk: Vec<u8>,
    /// Versions of sectors that are not durable.
    pub(super) versions: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// Lengths that are not durable.
    lengths: Vec<usize>,
    /// Sectors that are clean, and yet the disk has something else.
    lost: BTreeSet<usize>,
}

impl Inode {
    /// A file with these bytes, all durable.
    pub(super) fn durable(bytes: &[u8]) -> Inode {
        Inode { view: bytes.to_vec(), disk: bytes.to_vec(), ..Inode::default() }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if self.view.len() != len {
            self.view.resize(len, 0);
            self.lengths.push(len);
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        if bytes.is_empty() {
            return;
        }
        self.set_len(self.view.len().max(at + bytes.len()));
        self.view[at..at + bytes.len()].copy_from_slice(bytes);
        for sector in sectors(at, bytes.len()) {
            let version = sector_of(&self.view, sector);
            self.versions.entry(sector).or_default().push(version);
            self.lost.remove(&sector);
        }
    }

    pub(super) fn sync_len(&mut self) {
        if let Some(len) = self.lengths.last() {
            self.disk.resize(*len, 0);
            self.lengths.clear();
        }
    }

    /// Makes one sector durable.
    pub(super) fn sync_sector(&mut self, sector: usize) {
        if let Some(version) = self.versions.remove(&sector).and_then(|versions| versions.last().copied()) {
            put_sector(&mut self.disk, sector, &version);
        }
    }

    pub(super) fn sync(&mut self) {
        self.sync_len();
        for sector in self.versions.keys().copied().collect::<Vec<_>>() {
            self.sync_sector(sector);
        }
    }

    /// A sync of these sectors that fails.
    pub(super) fn sync_badly(&mut self, of: &[usize], lost: bool, random: &mut Random) {
        if random.percent(50) {
            self.sync_len();
        }
        for &sector in of {
            if random.percent(50) {
                self.sync_sector(sector);
            } else if lost && self.versions.remove(&sector).is_some() {
                self.lost.insert(sector);
            }
        }
    }

    /// What is not waiting to be written is read from the disk from now on.
    pub(super) fn forget(&mut self) {
        for sector in std::mem::take(&mut self.lost) {
            let durable = sector_of(&self.disk, sector);
            put_sector(&mut self.view, sector, &durable);
        }
    }

    pub(super) fn cut(&mut self, kept: u64, random: &mut Random) {
        for len in std::mem::take(&mut self.lengths) {
            if random.percent(kept) {
                self.disk.resize(len, 0);
            }
        }
        for (sector, versions) in std::mem::take(&mut self.versions) {
            if random.percent(kept) {
                // Mostly the last one.
                let which = if random.percent(70) { versions.len() as u64 - 1 } else { random.next() };
                put_sector(&mut self.disk, sector, &versions[which as usize % versions.len()]);
            }
        }
        self.lost.clear();
        self.view.clone_from(&self.disk);
    }
}

/// The sectors of these bytes.
pub(super) fn sectors(at: usize, len: usize) -> std::ops::Range<usize> {
    at / SECTOR..(at + len).div_ceil(SECTOR)
}

fn sector_of(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
    let mut copy = [0; SECTOR];
    let there = bytes.get(sector * SECTOR..).unwrap_or_default();
    let len = there.len().min(SECTOR);
    copy[..len].copy_from_slice(&there[..len]);
    copy
}

/// Writes a sector, as far as the file reaches.
fn put_sector(bytes: &mut [u8], sector: usize, version: &[u8; SECTOR]) {
    let there = bytes.get_mut(sector * SECTOR..).unwrap_or_default();
    let len = there.len().min(SECTOR);
    there[..len].copy_from_slice(&version[..len]);
}

//! The control file's words: who takes part.

use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::layout::PARTICIPANTS;
use crate::layout::control::{
    ControlWords, DURABLE_PATH_AT, DURABLE_PATH_MAX, Entry, FILE_LEN, JOURNAL_AT, JournalWords,
    PARTICIPANTS_AT, WORDS_AT,
};
use crate::ring::Owner;
use crate::sys::clock;
use crate::sys::mapping::Mapping;

/// The mapped control file.
#[derive(Debug)]
pub(crate) struct Table {
    base: NonNull<u8>,
    /// Owns the memory behind `base`.
    _mapping: Mapping,
}

// SAFETY: `base` points into the mapping that the value owns, which is valid in every thread; all that lies
// there is atomics.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// The state word of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryState(u64);

impl EntryState {
    /// The state of this content.
    pub(crate) fn from_bits(bits: u64) -> EntryState {
        EntryState(bits)
    }

    /// How often the entry has been taken.
    pub(crate) fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether somebody took it, and it was neither left nor recovered since.
    pub(crate) fn is_taken(self) -> bool {
        self.0 & 1 == 1
    }

    fn taken(self) -> EntryState {
        EntryState(u64::from(self.epoch().wrapping_add(1)) << 32 | 1)
    }

    fn freed(self) -> EntryState {
        EntryState(u64::from(self.epoch()) << 32)
    }
}

/// What people may want to know of a participant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    pub(crate) pid: u32,
    pub(crate) command: String,
}

impl Table {
    /// Takes a mapping of the whole control file.
    ///
    /// # Panics
    ///
    /// If it is shorter than a control file; the caller has checked.
    pub(crate) fn new(mapping: Mapping) -> Table {
        assert!(mapping.len() as u64 >= FILE_LEN, "the mapping covers the file");
        let base = NonNull::new(mapping.as_ptr()).expect("a mapping is never at address 0");
        Table { base, _mapping: mapping }
    }

    fn words(&self) -> &ControlWords {
        // SAFETY: the layout has ControlWords, made of atomics, there; the mapping covers it and is
        // page-aligned.
        unsafe { self.base.add(WORDS_AT as usize).cast().as_ref() }
    }

    /// The words of the journal; all zero in a volatile store.
    pub(crate) fn journal(&self) -> &JournalWords {
        // SAFETY: the layout has JournalWords, made of atomics, there; the mapping covers it and is page-aligned.
        unsafe { self.base.add(JOURNAL_AT as usize).cast().as_ref() }
    }

    /// The path of the durable directory, filled up with zeros.
    pub(crate) fn durable_path(&self) -> &[AtomicU8; DURABLE_PATH_MAX] {
        // SAFETY: the layout has that many bytes there, and the mapping covers them.
        unsafe { self.base.add(DURABLE_PATH_AT as usize).cast().as_ref() }
    }

    fn entry(&self, owner: Owner) -> &Entry {
        let index = usize::from(owner.index()) % PARTICIPANTS;
        let at = PARTICIPANTS_AT as usize + index * size_of::<Entry>();
        // SAFETY: the index is in range, and the layout has an array of Entry, made of atomics, there.
        unsafe { self.base.add(at).cast().as_ref() }
    }

    /// The state of an entry. Acquire: pairs with `publish`.
    pub(crate) fn state(&self, owner: Owner) -> EntryState {
        EntryState::from_bits(self.entry(owner).state.load(Acquire))
    }

    /// Takes a free entry for this process. The caller holds its lock, so nobody else writes it.
    ///
    /// Death after the bit: a bit without an entry, cleared by the next who looks. Death before the state
    /// word: the entry is free still.
    pub(crate) fn publish(&self, owner: Owner) {
        let entry = self.entry(owner);
        self.bits(owner).0.fetch_or(self.bits(owner).1, AcqRel);
        entry.pid.store(std::process::id(), Relaxed);
        entry.since_ms.store(clock::boot_ms(), Relaxed);
        entry.process_start.store(process_start(), Relaxed);
        let command = std::fs::read("/proc/self/comm").unwrap_or_default();
        let name = command.trim_ascii().iter().copied().chain(std::iter::repeat(0));
        for (byte, value) in entry.command.iter().zip(name) {
            byte.store(value, Relaxed);
        }
        entry.state.store(self.state(owner).taken().0, Release);
    }

    /// Frees an entry whose work was given back. Nothing happens if it changed since it was read as `seen`.
    /// The caller holds the entry's lock, as its participant or as a recoverer: so nobody is taking it
    /// meanwhile.
    pub(crate) fn free(&self, owner: Owner, seen: EntryState) -> bool {
        let freed = self.entry(owner).state.compare_exchange(seen.0, seen.freed().0, AcqRel, Relaxed).is_ok();
        self.bits(owner).0.fetch_and(!self.bits(owner).1, AcqRel);
        freed
    }

    fn bits(&self, owner: Owner) -> (&std::sync::atomic::AtomicU64, u64) {
        let index = usize::from(owner.index()) % PARTICIPANTS;
        (&self.words().taken[index / 64], 1 << (index % 64))
    }

    /// The entries that may be taken.
    pub(crate) fn taken(&self) -> impl Iterator<Item = Owner> + '_ {
        self.words().taken.iter().enumerate().flat_map(|(index, word)| {
            let bits = word.load(Acquire);
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| Owner::new((index * 64 + bit) as u16))
        })
    }

    /// Who a participant says it is.
    pub(crate) fn who(&self, owner: Owner) -> Who {
        let entry = self.entry(owner);
        let bytes: Vec<u8> =
            entry.command.iter().map(|byte| byte.load(Relaxed)).take_while(|&byte| byte != 0).collect();
        // It goes to terminals, and anyone could have written it.
        let command = String::from_utf8_lossy(&bytes).replace(char::is_control, "?");
        Who { pid: entry.pid.load(Relaxed), command }
    }
}

/// When this process started, in clock ticks since boot: field 22 of its stat line. For people; 0 if unknown.
fn process_start() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or(0)
}

//! A queue's ring as the journal tells it, written straight into its new file.
//!
//! Messages go to the slots they were in, so that positions stay what they were. Of two messages of one slot the
//! later one counts: its producer could take the slot only when all groups had settled the earlier one.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::entry::{GroupEntry, QueueEntry, Standing, StateEntry};
use crate::StoreError;
use crate::layout::FORMAT_VERSION;
use crate::layout::header::{DURABLE, Header, QUEUE_MAGIC};
use crate::layout::queue::Geometry;
use crate::mapped::Mapped;
use crate::memory::{Memory, Place};
use crate::queue::groups::{form_journal, restore};
use crate::ring::repair::sweep;
use crate::ring::settle::Return;
use crate::ring::{Claim, Due, Lease, Owner, Seq, before, lap_of, position_near};
use crate::sys::clock;
use crate::sys::create::create_file;
use crate::sys::files::{Dir, OpenPolicy, io_error, open_raw};
use crate::sys::fork::ForkGuard;
use crate::sys::mapping::Mapping;

/// A queue that is being made.
pub(super) struct Image {
    name: String,
    mapped: Mapped,
    journal: u8,
    /// The first position after all that the journal knows of.
    tail: u64,
    groups: BTreeMap<u8, Group>,
}

struct Group {
    entry: GroupEntry,
    /// Everything before is settled, but for what was moved forward.
    settled: u64,
    moved: HashSet<u64>,
}

impl Image {
    pub(super) fn new(
        queues: &Dir,
        policy: &OpenPolicy,
        (store, id): ([u8; 16], u64),
        entry: &QueueEntry,
        guard: Arc<ForkGuard>,
    ) -> Result<Image, StoreError> {
        crate::sys::files::check_name(&entry.name)?;
        let geometry = Geometry {
            capacity: entry.capacity,
            slot_size: entry.slot_size,
            max_message: entry.max_message,
            max_groups: entry.max_groups,
            durable: true,
        };
        geometry.check()?;
        let plan = geometry.plan();
        let path = queues.path().join(&entry.name);
        let mut file_id = [0; 16];
        file_id[..8].copy_from_slice(&id.to_le_bytes());
        let header = Header {
            magic: QUEUE_MAGIC,
            version: FORMAT_VERSION,
            incompatible: DURABLE,
            file_len: plan.file_len,
            store_id: store,
            file_id,
            boot_id: clock::boot_id().map_err(io_error("reading the boot id for", &path))?,
            created_ms: clock::wall_ms(),
            capacity: geometry.capacity,
            slot_size: geometry.slot_size,
            max_message: geometry.max_message,
            max_groups: geometry.max_groups,
        };
        let page = header.encode();
        create_file(queues, &entry.name, plan.extents, plan.file_len, policy, |file| {
            file.write_all_at(&page, 0)
        })?;
        let file = open_raw(queues, &entry.name, true).map_err(io_error("opening", &path))?;
        let mapping =
            Mapping::map(&file, plan.file_len as usize, guard).map_err(io_error("mapping", &path))?;
        let mapped = Mapped::new(file, mapping, geometry);
        mapped.populate();
        let journal = geometry.max_groups as u8 - 1;
        Ok(Image {
            name: entry.name.clone(),
            tail: geometry.capacity,
            mapped,
            journal,
            groups: BTreeMap::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The queue's groups as they are from here on.
    pub(super) fn describe(&mut self, entry: &QueueEntry, tail: u64) {
        self.tail = self.tail.max(tail);
        self.groups.retain(|index, known| {
            entry.groups.iter().any(|group| group.index == *index && is_same(group, &known.entry))
        });
        for group in entry.groups.iter().filter(|group| group.index < self.journal) {
            if let Some(known) = self.groups.get_mut(&group.index) {
                known.entry = group.clone();
                continue;
            }
            // What another group in its place has made of the messages is not its.
            for slot in 0..self.mapped.capacity() {
                let lap = Seq::from_bits(self.mapped.load(Place::Seq(slot), Relaxed)).lap();
                self.mapped.store(Place::Lease(group.index, slot), Lease::unborn(lap).bits(), Relaxed);
            }
            let new = Group { entry: group.clone(), settled: 0, moved: HashSet::new() };
            self.groups.insert(group.index, new);
        }
    }

    /// A message was published, or moved forward.
    pub(super) fn message(
        &mut self,
        position: u64,
        segment: u64,
        (headers, payload): (&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let lap = lap_of(position, self.mapped.capacity());
        let seq = Seq::from_bits(self.mapped.load(Place::Seq(position), Relaxed));
        if before(lap, seq.lap()) {
            return Ok(());
        }
        self.tail = self.tail.max(position + 1);
        self.mapped.segment_word(position).store(segment, Relaxed);
        for group in self.groups.values_mut() {
            if position < group.settled {
                group.moved.insert(position);
            }
        }
        if seq.is_ready(lap) {
            return Ok(());
        }
        if headers.len() + payload.len() > self.mapped.geometry().max_message as usize {
            return Err(StoreError::Damaged {
                path: self.name.clone().into(),
                what: "a message in the journal",
                found: format!("{} bytes", headers.len() + payload.len()),
                expected: format!("at most {}", self.mapped.geometry().max_message),
            });
        }
        let writing = io_error("writing", std::path::Path::new(&self.name));
        self.mapped.prepare(position, headers.len(), payload.len()).map_err(writing)?.write(headers, payload);
        let len = (headers.len() + payload.len()) as u32;
        self.mapped.store(Place::Seq(position), Seq::ready(lap, len).bits(), Relaxed);
        for group in 0..self.journal {
            self.mapped.store(Place::Lease(group, position), Lease::unborn(lap).bits(), Relaxed);
        }
        Ok(())
    }

    /// A group has settled everything before a position.
    pub(super) fn settled(&mut self, group: u8, position: u64) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.settled = group.settled.max(position);
        }
    }

    /// What a group made of one message.
    pub(super) fn state(&mut self, position: u64, StateEntry { group, standing }: StateEntry, text: &[u8]) {
        let lap = lap_of(position, self.mapped.capacity());
        let seq = Seq::from_bits(self.mapped.load(Place::Seq(position), Relaxed));
        if !seq.is_ready(lap) || !self.groups.contains_key(&group) {
            return;
        }
        let lease = match standing {
            Standing::Done => Lease::settled(lap),
            Standing::Open { failures } => Lease::settled(lap).retry(failures),
            Standing::Dead { failures, reason } => Lease::settled(lap).dead(failures, reason),
        };
        self.mapped.store(Place::Lease(group, position), lease.bits(), Relaxed);
        if matches!(standing, Standing::Dead { .. }) {
            let now = Due::new(clock::boot_ms(), lease.failures(), lease.turn());
            self.mapped.store(Place::Due(group, position), now.bits(), Relaxed);
            if !text.is_empty() {
                crate::queue::dead::write_note(&self.mapped, group, position, &String::from_utf8_lossy(text));
            }
        }
    }

    /// Makes the words that follow from the rest: claims, tail, groups.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let Image { mapped, journal, tail, groups, .. } = &self;
        let capacity = mapped.capacity();
        let mut heads: BTreeMap<u8, u64> = groups.keys().map(|&index| (index, *tail)).collect();
        for slot in 0..capacity {
            // The last position of the slot before the tail.
            let last = *tail - 1 - ((*tail - 1).wrapping_sub(slot) & (capacity - 1));
            let last_lap = lap_of(last, capacity);
            let seq = Seq::from_bits(mapped.load(Place::Seq(slot), Relaxed));
            let position = position_near(last, seq.lap(), slot, capacity);
            let is_message = seq.is_ready(seq.lap()) && position <= last;
            let mut live = false;
            for (index, group) in groups {
                let is_open = is_message && group.is_open(mapped, position);
                if !is_open {
                    let settled = if is_message { seq.lap() } else { last_lap };
                    mapped.store(Place::Lease(*index, slot), Lease::settled(settled).bits(), Relaxed);
                    continue;
                }
                live = true;
                let lease = Lease::from_bits(mapped.load(Place::Lease(*index, slot), Relaxed));
                if before(lease.lap(), seq.lap()) && position + capacity < *tail {
                    // It was out when the ring went on around it.
                    let again = Lease::settled(seq.lap()).retry(0);
                    mapped.store(Place::Lease(*index, slot), again.bits(), Relaxed);
                } else if before(lease.lap(), seq.lap()) {
                    heads.entry(*index).and_modify(|head| *head = (*head).min(position));
                }
            }
            let (claim, written) = if live {
                let skips = last_lap.wrapping_sub(seq.lap());
                (Claim::restored(last_lap, skips.min(Mapped::SKIPS_MAX)), seq.lap())
            } else {
                // In lap 0 there are no messages: nothing was published here yet.
                if last_lap != 0 {
                    mapped.store(Place::Seq(slot), Seq::void(last_lap).bits(), Relaxed);
                }
                for index in groups.keys() {
                    mapped.store(Place::Lease(*index, slot), Lease::settled(last_lap).bits(), Relaxed);
                }
                (Claim::taken(last_lap, Owner::NOBODY), last_lap)
            };
            mapped.store(Place::Claim(slot), claim.bits(), Relaxed);
            mapped.store(Place::Lease(*journal, slot), Lease::settled(written).bits(), Relaxed);
        }
        mapped.store(Place::Tail, *tail, Relaxed);
        form_journal(mapped, *tail);
        for (index, group) in groups {
            let head = heads.get(index).copied().unwrap_or(*tail).max(group.entry.start);
            restore(
                mapped,
                *index,
                &group.entry.name,
                &group.entry.options,
                (group.entry.start, group.entry.birth),
                head,
            );
            // Marks what is to be delivered again.
            let decide = |held: Lease| Return::Retry { due_ms: 0, failures: held.failures() };
            sweep(mapped, *index, 0..capacity, clock::boot_ms(), head, decide);
        }
        Ok(())
    }
}

impl Group {
    /// Whether the group still has to settle the message that is in its slot at `position`.
    fn is_open(&self, mapped: &Mapped, position: u64) -> bool {
        let lap = lap_of(position, mapped.capacity());
        let lease = Lease::from_bits(mapped.load(Place::Lease(self.entry.index, position), Relaxed));
        let before_settled = position < self.settled && !self.moved.contains(&position);
        position >= self.entry.start && !before_settled && !lease.is_done_with(lap)
    }
}

/// Whether it is the same group still, and not another one in its place.
fn is_same(a: &GroupEntry, b: &GroupEntry) -> bool {
    a.index == b.index && a.name == b.name && a.start == b.start && a.birth == b.birth
}

//! Looking into a queue without touching it.
//!
//! A look reads the ledgers slot by slot while the queue goes on. Each figure was true at some moment of the
//! look, but not all at the same. Nothing here stores to shared memory, and nothing that another process may
//! have written there makes it panic: positions are computed on a circle, counts by the slots that were seen.
//!
//! *The last message of a slot.* The claim word tells the lap of the last real claim, and `seq`, read after
//! it, whether its message is there. A group's lease word, read last, tells what the group makes of it. A
//! slot that goes on in between has a later `seq` or lease word, and then counts as settled, which it was.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;

use super::attach::{Role, Who};
use super::core::QueueCore;
use super::groups::{JOURNAL, name_of, settings_of};
use crate::layout::FORMAT_VERSION;
use crate::mapped::Mapped;
use crate::memory::{Memory, Place};
use crate::participant::store::StoreCore;
use crate::ring::repair::{find_tail, is_decided};
use crate::ring::{Claim, Lease, Owner, Seq, State, before, lap_of, position_near};
use crate::sys::files::io_error;
use crate::{GroupInfo, MessageState, Peeked, Queue, QueueInfo, StoreError};

/// The last real claim of a slot, and what `seq` said after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) lap: u32,
    pub(super) position: u64,
    pub(super) seq: Seq,
}

impl Last {
    /// Whether its producer has not come to the end yet.
    fn is_unfinished(&self) -> bool {
        before(self.seq.lap(), self.lap)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.seq.is_ready(self.lap)
    }
}

/// A message that a group has not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) position: u64,
    pub(super) state: MessageState,
    pub(super) lease: Lease,
}

impl Open {
    /// Failed deliveries so far.
    pub(super) fn failures(&self) -> u16 {
        if self.state == MessageState::Ready { 0 } else { self.lease.failures() }
    }
}

/// What was copied out of a slot.
pub(super) struct Copied {
    pub(super) payload: Vec<u8>,
    pub(super) headers: Vec<u8>,
    /// Whether nothing could be copied.
    pub(super) damaged: bool,
}

/// What a scan counts for one group.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    ready: u64,
    leased: u64,
    retrying: u64,
    dead: u64,
}

impl Counts {
    fn add(&mut self, state: MessageState) {
        match state {
            MessageState::Ready => self.ready += 1,
            MessageState::Leased => self.leased += 1,
            MessageState::Retrying => self.retrying += 1,
            MessageState::Dead => self.dead += 1,
        }
    }
}

/// What one scan over the ledgers counts.
struct Scan {
    tail: u64,
    occupied: u64,
    unfinished: u64,
    groups: Vec<(u8, Counts)>,
}

impl QueueCore {
    /// The last real claim of a slot.
    pub(super) fn last_in(&self, slot: u64, tail: u64) -> Last {
        let claim = Claim::from_bits(self.mapped.load(Place::Claim(slot), Acquire));
        let seq = Seq::from_bits(self.mapped.load(Place::Seq(slot), Acquire));
        let lap = claim.real_lap(Mapped::SKIPS_MAX).unwrap_or(seq.lap());
        Last { lap, position: position_near(tail, lap, slot, self.mapped.capacity()), seq }
    }

    /// What a group that begins at `start` still has to settle in a slot.
    pub(super) fn open_in(&self, group: u8, start: u64, slot: u64, tail: u64, last: &Last) -> Option<Open> {
        let lease = Lease::from_bits(self.mapped.load(Place::Lease(group, slot), Acquire));
        let open = |state, position| Some(Open { position, state, lease });
        let state = match lease.state() {
            State::Done => {
                let fresh = last.is_ready() && before(lease.lap(), last.lap) && last.position >= start;
                return if fresh { open(MessageState::Ready, last.position) } else { None };
            }
            State::Leased | State::Timed | State::Committing => MessageState::Leased,
            State::Retry => MessageState::Retrying,
            State::Dead => MessageState::Dead,
            State::Unknown => return None,
        };
        open(state, position_near(tail, lease.lap(), slot, self.mapped.capacity()))
    }

    fn scan(&self) -> Scan {
        let start = |group| (group, self.mapped.load(Place::Start(group), Acquire), Counts::default());
        let mut groups: Vec<_> = self.groups_in_use().map(start).collect();
        let tail = find_tail(&self.mapped);
        let (mut occupied, mut unfinished) = (0, 0);
        for slot in 0..self.mapped.capacity() {
            let last = self.last_in(slot, tail);
            let mut taken = last.is_unfinished();
            unfinished += u64::from(taken);
            for (group, start, counts) in &mut groups {
                if let Some(open) = self.open_in(*group, *start, slot, tail, &last) {
                    counts.add(open.state);
                    taken = true;
                }
            }
            occupied += u64::from(taken);
        }
        let groups = groups.into_iter().map(|(group, _, counts)| (group, counts)).collect();
        Scan { tail, occupied, unfinished, groups }
    }

    /// Where a group really stands: the hint lags by some positions.
    fn head_of(&self, group: u8, tail: u64) -> u64 {
        let capacity = self.mapped.capacity();
        let hint = self.mapped.load(Place::Head(group), Relaxed);
        let start = self.mapped.load(Place::Start(group), Relaxed);
        // More than a lap behind nothing is fresh: producers stop at what is.
        let mut head = hint.max(start).max(tail.saturating_sub(capacity)).min(tail);
        while head < tail && self.is_passed(group, head) {
            head += 1;
        }
        head
    }

    /// Whether there is nothing fresh at a position, nor will be.
    fn is_passed(&self, group: u8, position: u64) -> bool {
        let lap = lap_of(position, self.mapped.capacity());
        if !is_decided(&self.mapped, position) {
            return false;
        }
        let last = self.last_in(position, position);
        let lease = Lease::from_bits(self.mapped.load(Place::Lease(group, position), Acquire));
        if last.seq.is_ready(lap) {
            return !before(lease.lap(), lap);
        }
        // Void, overtaken, or skipped; else its producer is still writing.
        !before(last.seq.lap(), lap) || last.lap != lap
    }

    fn group_info(
        &self,
        group: u8,
        counts: Counts,
        tail: u64,
        users: &Users<'_>,
    ) -> Result<GroupInfo, StoreError> {
        let words = self.mapped.group(group);
        let head = self.head_of(group, tail);
        Ok(GroupInfo {
            name: name_of(words),
            options: settings_of(self, group),
            start: words.start.load(Relaxed),
            head,
            ready: counts.ready,
            leased: counts.leased,
            retrying: counts.retrying,
            dead: counts.dead,
            depth: counts.ready + counts.retrying,
            lag: tail.saturating_sub(head),
            consumers: users.count(|role| matches!(role, Role::Consumer { group: of, .. } if of == group)),
            exclusive_consumer: users.alone(self.exclusive_holder(Some(group)))?,
            expired: words.expired.load(Relaxed),
            recovered: words.recovered.load(Relaxed),
            stale_settles: words.stale_settles.load(Relaxed),
        })
    }

    fn infos(&self, scan: &Scan, users: &Users<'_>) -> Result<Vec<GroupInfo>, StoreError> {
        scan.groups.iter().map(|(group, counts)| self.group_info(*group, *counts, scan.tail, users)).collect()
    }

    /// What a group has not settled, in order of position; only what `wanted` wants.
    pub(super) fn open_messages(&self, group: u8, wanted: impl Fn(MessageState) -> bool) -> Vec<u64> {
        let start = self.mapped.load(Place::Start(group), Acquire);
        let tail = find_tail(&self.mapped);
        let mut positions: Vec<u64> = (0..self.mapped.capacity())
            .filter_map(|slot| self.open_in(group, start, slot, tail, &self.last_in(slot, tail)))
            .filter(|open| wanted(open.state))
            .map(|open| open.position)
            .collect();
        positions.sort_unstable();
        positions
    }

    /// A copy of the message at `position`, without a lease. `None`: the group has settled it, or it went
    /// while it was read.
    pub(super) fn peek_at(&self, group: u8, position: u64) -> Option<(Peeked, Open)> {
        let start = self.mapped.load(Place::Start(group), Acquire);
        let last = self.last_in(position, position);
        let open = self.open_in(group, start, position, position, &last)?;
        if open.position != position {
            return None;
        }
        let Copied { payload, headers, .. } = self.copy_at(position, &last)?;
        Some((Peeked { position, state: open.state, failures: open.failures(), payload, headers }, open))
    }

    /// A copy of the message at `position`, which was the last one of its slot. `None`: it is not there, or
    /// it went while it was read.
    pub(super) fn copy_at(&self, position: u64, last: &Last) -> Option<Copied> {
        if !last.seq.is_ready(lap_of(position, self.mapped.capacity())) {
            return None;
        }
        // Lengths that cannot be were scribbled: there is a message, and nothing of it can be shown.
        let mut headers = Vec::new();
        let copied = self.mapped.copy_unleased(position, last.seq.len(), &mut headers);
        let payload = headers.split_off(copied.unwrap_or(0));
        // A producer claims first and writes then: while the claim stands, nobody wrote before.
        fence(Acquire);
        let again = self.last_in(position, position);
        if again.lap != last.lap || again.seq != last.seq {
            return None;
        }
        Some(Copied { payload, headers, damaged: copied.is_none() })
    }

    /// Counts a settle that was refused.
    #[cold]
    pub(crate) fn count_stale_settle(&self, group: u8) {
        self.mapped.group(group).stale_settles.fetch_add(1, Relaxed);
    }
}

/// The living producers and consumers of a queue.
struct Users<'a> {
    store: &'a StoreCore,
    alive: Vec<Who>,
}

impl Users<'_> {
    fn of<'a>(queue: &QueueCore, store: &'a StoreCore) -> Result<Users<'a>, StoreError> {
        let mut users = Users { store, alive: Vec::new() };
        for (_, who) in queue.attachments() {
            if users.is_alive(who.owner)? {
                users.alive.push(who);
            }
        }
        Ok(users)
    }

    fn is_alive(&self, owner: Owner) -> Result<bool, StoreError> {
        if owner == self.store.me || self.alive.iter().any(|who| who.owner == owner) {
            return Ok(true);
        }
        let dead = self.store.probe.is_dead(owner.index());
        dead.map(|dead| !dead).map_err(io_error("probing participants of", self.store.dir.path()))
    }

    fn count(&self, wanted: impl Fn(Role) -> bool) -> u32 {
        self.alive.iter().filter(|who| wanted(who.role)).count() as u32
    }

    /// The holder of an exclusive role, as `pid command`. One that is dead has it no more: whoever comes
    /// takes it.
    fn alone(&self, holder: Option<Owner>) -> Result<Option<String>, StoreError> {
        match holder {
            Some(owner) if self.is_alive(owner)? => {
                let who = self.store.table.who(owner);
                Ok(Some(format!("{} {}", who.pid, who.command)))
            }
            _ => Ok(None),
        }
    }
}

impl Queue {
    /// The groups' names and settings and where they stand. Reads every word of the ring once.
    ///
    /// # Errors
    ///
    /// `Removed`, `Forked`, `Io`.
    pub fn groups(&self) -> Result<Vec<GroupInfo>, StoreError> {
        let mut groups = self.all_groups()?;
        groups.retain(|group| group.name != JOURNAL);
        Ok(groups)
    }

    /// The same with the journal's group, if the queue is durable.
    pub(crate) fn all_groups(&self) -> Result<Vec<GroupInfo>, StoreError> {
        self.check()?;
        self.core.infos(&self.core.scan(), &Users::of(&self.core, &self.store)?)
    }

    /// Everything `ringway info` shows. Reads every word of the ring once.
    ///
    /// Safe while the queue runs; its figures are then of slightly different moments.
    ///
    /// # Errors
    ///
    /// `Removed`, `Forked`, `Io`.
    pub fn info(&self) -> Result<QueueInfo, StoreError> {
        self.check()?;
        let mapped = &self.core.mapped;
        let path = self.store.queues.path().join(&self.core.name);
        let metadata = mapped.file().metadata().map_err(io_error("looking at", &path))?;
        let users = Users::of(&self.core, &self.store)?;
        let scan = self.core.scan();
        let geometry = mapped.geometry();
        Ok(QueueInfo {
            name: self.core.name.clone(),
            capacity: geometry.capacity,
            slot_size: geometry.slot_size,
            max_message: geometry.max_message,
            max_groups: geometry.max_groups - u32::from(geometry.durable),
            allocated_bytes: metadata.blocks().saturating_mul(512),
            format: FORMAT_VERSION,
            positions: scan.tail.saturating_sub(geometry.capacity),
            occupied: scan.occupied,
            unfinished: scan.unfinished,
            exclusive_producer: users.alone(self.core.exclusive_holder(None))?,
            producers: users.count(|role| matches!(role, Role::Producer { .. })),
            groups: {
                let mut groups = self.core.infos(&scan, &users)?;
                groups.retain(|group| group.name != JOURNAL);
                groups
            },
        })
    }

    /// Up to `limit` messages that a group has not settled, in order of position, without lease, count or
    /// side effect.
    ///
    /// A message that goes while it is read is left out. One whose bytes another process has damaged is shown
    /// with an empty payload.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchGroup`], `Removed`, `Forked`.
    pub fn peek(&self, group: &str, limit: usize) -> Result<Vec<Peeked>, StoreError> {
        self.check()?;
        let group = self.core.find_group(group)?;
        let positions = self.core.open_messages(group, |_| true).into_iter();
        Ok(positions
            .filter_map(|position| self.core.peek_at(group, position))
            .map(|(peeked, _)| peeked)
            .take(limit)
            .collect())
    }

    /// Whether the queue can be looked into.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.store.check_forked()?;
        self.core.check_removed(&self.store)
    }
}

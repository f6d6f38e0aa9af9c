//! What of one queue goes into the journal.
//!
//! **Messages.** The journal is a group of the queue, and its leader the group's one consumer: a message is
//! leased, copied into the batch, and acked once the batch is written. Until then its slot is held, and
//! consumers, who wait for the journal's ack, do not see it. A leader that dies leaves leases of a dead
//! process, which recovery returns like any other's, and the next leader writes those messages again.
//!
//! **What groups make of them** costs them nothing: the leader reads their ledgers. For each group it notes
//! the position before which all is settled, and beyond it what is settled, failed or dead one by one. What it
//! has not come to when the power goes is delivered again.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::hint;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;

use super::entry::{GroupEntry, QueueEntry, Standing, StateEntry, kind};
use super::group_log::{GroupLog, entry_of};
use crate::StoreError;
use crate::journal::record::record_at;
use crate::journal::{Files, Writer};
use crate::mapped::Mapped;
use crate::memory::{Memory, Place};
use crate::participant::store::StoreCore;
use crate::queue::attach::{Attached, Role};
use crate::queue::core::QueueCore;
use crate::ring::repair::{find_tail, is_decided};
use crate::ring::settle::{Return, ack, give_back};
use crate::ring::{
    Attention, Claim, Found, Lease, Leased, Ready, Seq, Subscriber, Unfinished, before, position_near,
};
use crate::sys::clock;

/// Looks at a position that is being written before the batch goes without it, and what comes after.
const LOOKS: u32 = 64;

/// How long a position is waited for that is being written before those that come after it are written, in
/// milliseconds: its producer may be paused, or dead.
const PATIENCE_MS: u64 = 5;

/// One queue's part of the journal, in the hands of a process that may lead.
#[derive(Debug)]
pub(super) struct QueueLog {
    pub(super) queue: Arc<QueueCore>,
    /// The record by which recovery finds this process's leases.
    attached: Attached,
    subscriber: Subscriber,
    journal: u8,
    pub(super) id: u64,
    /// What is in the batch.
    taken: Vec<Leased>,
    /// What was leased and is in no batch: it did not fit, or the batch could not be written.
    waiting: VecDeque<Leased>,
    /// A position that was found unfinished, and when.
    unfinished: (u64, u64),
    groups: Vec<GroupLog>,
    /// In which segment, and at which state of the groups, the queue was described last.
    described: Option<(u64, u32)>,
    copy: Vec<u8>,
    /// All before is written, by whomever.
    seen: Cell<u64>,
}

impl QueueLog {
    pub(super) fn new(
        store: &Arc<StoreCore>,
        queue: Arc<QueueCore>,
        journal: u8,
    ) -> Result<QueueLog, StoreError> {
        let attached =
            Attached::for_journal(store, &queue, Role::Consumer { group: journal, exclusive: false })?;
        queue.mapped.populate();
        let subscriber = Subscriber::new(&queue.mapped, journal, store.me, true, false);
        Ok(QueueLog {
            id: queue.id(),
            attached,
            subscriber,
            journal,
            taken: Vec::new(),
            waiting: VecDeque::new(),
            unfinished: (0, 0),
            groups: Vec::new(),
            described: None,
            copy: Vec::new(),
            seen: Cell::new(0),
            queue,
        })
    }

    /// Somebody else led meanwhile: where the group stands and what was written are to be found anew.
    pub(super) fn begin_anew(&mut self, store: &StoreCore) {
        self.subscriber = Subscriber::new(&self.queue.mapped, self.journal, store.me, true, false);
        self.forget_batch();
    }

    /// The batch was not written: what was in it goes to the next one, and what was thought to be written is not.
    pub(super) fn forget_batch(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        for leased in taken.into_iter().rev() {
            self.waiting.push_front(leased);
        }
        for group in &mut self.groups {
            group.states.clear();
            group.written = 0;
        }
        self.described = None;
    }

    /// Whether there is a message that is not written, as far as a glance tells. Others may have led since.
    pub(super) fn has_messages(&self) -> bool {
        let mapped = &self.queue.mapped;
        let tail = mapped.load(Place::Tail, Relaxed);
        let mut seen =
            self.seen.get().max(self.subscriber.head()).max(mapped.load(Place::Head(self.journal), Relaxed));
        while seen < tail && self.queue.is_written(seen) {
            seen += 1;
        }
        self.seen.set(seen.min(tail));
        !self.waiting.is_empty()
            || tail > seen
            || self.subscriber.attention(mapped).is_due(clock::coarse_ms())
            || is_decided(mapped, seen)
    }

    /// Whether there may be messages that come late: a claimed position that was passed, or what a dead leader left.
    pub(super) fn has_late(&self) -> bool {
        self.subscriber.attention(&self.queue.mapped) != Attention::NONE
    }

    /// Describes the queue, once in each segment and whenever its groups change. `false`: no room.
    pub(super) fn describe(&mut self, writer: &mut Writer<Files>, segment: u64) -> bool {
        let changes = self.queue.mapped.words().groups_changed.load(Acquire);
        if self.described == Some((segment, changes)) {
            return true;
        }
        self.learn_groups();
        let entry = self.entry();
        let body = serde_json::to_vec(&entry).unwrap_or_default();
        let tail = find_tail(&self.queue.mapped);
        let Some(place) = writer.reserve(kind::QUEUE, 0, self.id, tail, body.len()) else { return false };
        place.copy_from_slice(&body);
        self.described = Some((segment, changes));
        for group in &mut self.groups {
            // Once more in each segment, since the one where it was written may go.
            group.written = 0;
        }
        true
    }

    fn entry(&self) -> QueueEntry {
        let geometry = self.queue.mapped.geometry();
        QueueEntry {
            name: self.queue.name.clone(),
            capacity: geometry.capacity,
            slot_size: geometry.slot_size,
            max_message: geometry.max_message,
            max_groups: geometry.max_groups,
            groups: self.groups.iter().map(|group| group.entry.clone()).collect(),
        }
    }

    fn learn_groups(&mut self) {
        let users = self.queue.user_groups();
        let entries: Vec<GroupEntry> = users.map(|index| entry_of(&self.queue, index)).collect();
        self.groups.retain(|known| entries.contains(&known.entry));
        for entry in entries {
            if self.groups.iter().all(|known| known.index != entry.index) {
                let (index, start) = (entry.index, entry.start);
                let states = HashMap::new();
                self.groups.push(GroupLog { index, entry, settled: start, written: 0, at: 0, states });
            }
        }
    }

    /// Takes what there is into the batch. `false`: there is more, and no room for it.
    pub(super) fn take_messages(&mut self, writer: &mut Writer<Files>) -> bool {
        while let Some(leased) = self.waiting.pop_front() {
            if !self.put(writer, leased) {
                return false;
            }
        }
        let queue = self.queue.clone();
        let view = queue.mapped.view_of(self.journal);
        while self.has_room(&view, writer) {
            match self.next(&view) {
                Some(leased) if self.put(writer, leased) => {}
                Some(_) => return false,
                None => return true,
            }
        }
        false
    }

    /// Whether there is room for the next message: one that is leased and then left over would wait for this process
    /// to lead again.
    #[inline]
    fn has_room<M: Memory>(&self, view: &M, writer: &Writer<Files>) -> bool {
        let seq = Seq::from_bits(view.load(Place::Seq(self.subscriber.head()), Acquire));
        let late = self.subscriber.attention(view) != Attention::NONE;
        let longest = if late { self.queue.mapped.geometry().max_message } else { seq.len() };
        writer.is_empty() || writer.room() > longest as usize + 2 * record_at::END
    }

    #[inline]
    fn next<M: Memory>(&mut self, view: &M) -> Option<Leased> {
        if let Ready::Message(leased) = self.subscriber.next_ready(view) {
            return Some(leased);
        }
        for _ in 0..LOOKS {
            match self.subscriber.next_fresh(view, true, Unfinished::Wait) {
                Found::Message(leased) => return Some(leased),
                Found::Writing { .. } => hint::spin_loop(),
                Found::Empty | Found::NotBefore(_) => return self.next_late(view),
            }
        }
        let position = self.subscriber.head();
        if self.unfinished.0 != position {
            self.unfinished = (position, clock::coarse_ms());
        }
        // Its producer may be paused, and nobody else is to wait for it.
        if clock::coarse_ms() >= self.unfinished.1 + PATIENCE_MS
            && let Found::Message(leased) = self.subscriber.next_fresh(view, true, Unfinished::Pass)
        {
            return Some(leased);
        }
        self.next_late(view)
    }

    /// What came late, or was left by a leader that died.
    fn next_late<M: Memory>(&self, view: &M) -> Option<Leased> {
        if self.subscriber.attention(view) == Attention::NONE {
            return None;
        }
        match self.subscriber.next_returned(view, clock::coarse_ms(), false) {
            Found::Message(leased) => Some(leased),
            _ => None,
        }
    }

    fn put(&mut self, writer: &mut Writer<Files>, leased: Leased) -> bool {
        // A message whose lengths were scribbled is parked as unreadable by whoever receives it; there is nothing
        // to be written.
        if let Ok(span) = self.queue.mapped.span(leased.position, leased.len) {
            let headers = span.headers() as u32;
            match writer.reserve(kind::MESSAGE, headers, self.id, leased.position, span.len()) {
                Some(body) => span.copy_into(body),
                None => {
                    self.waiting.push_front(leased);
                    return false;
                }
            }
        }
        self.taken.push(leased);
        true
    }

    /// Acks what was in the batch, which is in this segment. How many there were, and their bytes.
    ///
    /// Death in between: what was not acked is written once more.
    pub(super) fn batch_written(&mut self, segment: u64) -> (u64, u64) {
        let view = self.queue.mapped.view();
        let mut bytes = 0;
        for leased in &self.taken {
            self.queue.mapped.segment_word(leased.position).store(segment, Relaxed);
            // Its holder lives, so it stands.
            let _ = ack(&view, self.journal, leased.position, leased.lease);
            bytes += u64::from(leased.len);
        }
        let count = self.taken.len() as u64;
        self.taken.clear();
        (count, bytes)
    }

    /// Writes what the groups have made of their messages since; `all` of it, or some of it each time. `false`:
    /// there is more, and no room for it.
    pub(super) fn take_states(&mut self, writer: &mut Writer<Files>, all: bool) -> bool {
        // Nothing beyond was handed out, but by a queue that delivers early.
        let tail = self.queue.mapped.load(Place::Tail, Relaxed).max(self.subscriber.head());
        for group in &mut self.groups {
            if !group.take_settled(&self.queue.mapped, writer, self.id)
                || !group.take_single(&self.queue, writer, self.id, (tail, all))
            {
                return false;
            }
        }
        true
    }

    /// Writes that a group has settled a message.
    pub(super) fn take_ack(&mut self, writer: &mut Writer<Files>, group: u8, position: u64) -> bool {
        let entry = StateEntry { group, standing: Standing::Done };
        let written = writer.reserve(kind::STATE, entry.encode(), self.id, position, 0).is_some();
        if written && let Some(known) = self.groups.iter_mut().find(|known| known.index == group) {
            known.states.insert(position, Standing::Done);
        }
        written
    }

    /// The lowest segment that has a message which some group still has to settle.
    pub(super) fn lowest_segment(&self) -> Option<u64> {
        let mapped = &self.queue.mapped;
        (0..mapped.capacity())
            .filter(|&slot| self.is_live(slot))
            .map(|slot| mapped.segment_word(slot).load(Relaxed))
            .min()
    }

    /// Bytes of the live messages, with their records' heads.
    pub(super) fn live_bytes(&self) -> u64 {
        let mapped = &self.queue.mapped;
        let len = |slot| u64::from(Seq::from_bits(mapped.load(Place::Seq(slot), Acquire)).len()) + 48;
        (0..mapped.capacity()).filter(|&slot| self.is_live(slot)).map(len).sum()
    }

    /// Whether the journal has the slot's message, and some group has not settled it.
    fn is_live(&self, slot: u64) -> bool {
        let mapped = &self.queue.mapped;
        let written = Lease::from_bits(mapped.load(Place::Lease(self.journal, slot), Acquire));
        let claim = Claim::from_bits(mapped.load(Place::Claim(slot), Acquire));
        let seq = Seq::from_bits(mapped.load(Place::Seq(slot), Acquire));
        let lap = claim.real_lap(Mapped::SKIPS_MAX).unwrap_or(seq.lap());
        if !written.is_done_with(lap) || !seq.is_ready(lap) {
            return false;
        }
        let position = position_near(self.subscriber.head(), lap, slot, mapped.capacity());
        self.groups.iter().any(|group| {
            let lease = Lease::from_bits(mapped.load(Place::Lease(group.index, slot), Acquire));
            position >= mapped.load(Place::Start(group.index), Acquire) && !lease.is_done_with(lap)
        })
    }

    /// Writes the live messages of a segment once more, with what the groups made of them, from `slot` on. The
    /// slots that were written, to be told of when the batch is; and where it ended.
    pub(super) fn move_forward(
        &mut self,
        writer: &mut Writer<Files>,
        segment: u64,
        from: u64,
        moved: &mut Vec<u64>,
    ) -> u64 {
        let capacity = self.queue.mapped.capacity();
        for slot in from..capacity {
            if self.queue.mapped.segment_word(slot).load(Relaxed) != segment || !self.is_live(slot) {
                continue;
            }
            match self.move_one(writer, slot) {
                None => return slot,
                Some(true) => moved.push(slot),
                Some(false) => {}
            }
        }
        capacity
    }

    /// `None`: no room. `false`: it was settled meanwhile.
    fn move_one(&mut self, writer: &mut Writer<Files>, slot: u64) -> Option<bool> {
        let mapped = &self.queue.mapped;
        let claim = mapped.load(Place::Claim(slot), Acquire);
        let seq = Seq::from_bits(mapped.load(Place::Seq(slot), Acquire));
        let position = position_near(self.subscriber.head(), seq.lap(), slot, mapped.capacity());
        self.copy.clear();
        let Some(headers) = mapped.copy_unleased(position, seq.len(), &mut self.copy) else {
            return Some(false);
        };
        // A producer claims first and writes then: while the claim stands, or is of a lap that the slot sat out,
        // nobody wrote before.
        fence(Acquire);
        let again = Claim::from_bits(mapped.load(Place::Claim(slot), Acquire));
        let same = again.bits() == claim || again.real_lap(Mapped::SKIPS_MAX) == Some(seq.lap());
        if !same || mapped.load(Place::Seq(slot), Acquire) != seq.bits() {
            return Some(false);
        }
        // All or nothing: without its states it would be delivered again to those who have it behind them.
        let needed = (record_at::END + self.copy.len() + 8) + self.groups.len() * record_at::END;
        if writer.room() < needed {
            return None;
        }
        let body = writer.reserve(kind::MESSAGE, headers as u32, self.id, position, self.copy.len())?;
        body.copy_from_slice(&self.copy);
        for group in &self.groups {
            let lease = Lease::from_bits(mapped.load(Place::Lease(group.index, slot), Acquire));
            let standing = match lease.lap() == seq.lap() {
                true => Standing::of(lease),
                false if before(seq.lap(), lease.lap()) => Standing::Done,
                false => continue,
            };
            let entry = StateEntry { group: group.index, standing };
            writer.reserve(kind::STATE, entry.encode(), self.id, position, 0)?;
        }
        Some(true)
    }
}

impl Drop for QueueLog {
    fn drop(&mut self) {
        if self.attached.store.forked() {
            return;
        }
        for Leased { position, lease, .. } in self.taken.drain(..).chain(self.waiting.drain(..)) {
            let again = Return::Retry { due_ms: 0, failures: lease.failures() };
            // Its holder lives, so it stands.
            let _ = give_back(&self.queue.mapped, self.journal, position, lease, again);
        }
    }
}

//! Attachments and exclusive roles.
//!
//! Every producer and consumer has a record in the queue: who, of which group, in which role. It is written
//! before the handle touches a ledger and freed after its last touch, so a dead process without a record in a
//! queue has left nothing there.
//!
//! An **exclusive** role is a word that holds its owner and record. Its holder writes the ledger with plain
//! stores, so no shared handle may be there at the same time. Both sides write first and look second (the
//! shared one its record, then looks at the role; the exclusive one the role, then looks at the records),
//! with a SeqCst fence in between, so at least one of two that come at once sees the other and steps back.
//! Death in between: recovery frees the role, then the record.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

use super::core::QueueCore;
use crate::StoreError;
use crate::durable::{Confirmer, Journal};
use crate::layout::queue::group;
use crate::layout::{ATTACHMENTS, PARTICIPANTS};
use crate::participant::store::StoreCore;
use crate::ring::Owner;
use crate::sys::fork::ForkGuard;

/// What a handle does in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Publishes.
    Producer {
        /// Alone.
        exclusive: bool,
    },
    /// Receives from a group.
    Consumer {
        /// The group's index.
        group: u8,
        /// Alone.
        exclusive: bool,
    },
}

impl Role {
    fn code(self) -> (u64, u64) {
        match self {
            Role::Producer { exclusive: false } => (1, 0),
            Role::Producer { exclusive: true } => (2, 0),
            Role::Consumer { group, exclusive: false } => (3, u64::from(group)),
            Role::Consumer { group, exclusive: true } => (4, u64::from(group)),
        }
    }

    fn is_exclusive(self) -> bool {
        matches!(self, Role::Producer { exclusive: true } | Role::Consumer { exclusive: true, .. })
    }

    fn name(self) -> &'static str {
        if matches!(self, Role::Producer { .. }) { "producer" } else { "consumer" }
    }

    /// Whether the two write the same ledger.
    pub(super) fn shares_ledger(self, other: Role) -> bool {
        match (self, other) {
            (Role::Producer { .. }, Role::Producer { .. }) => true,
            (Role::Consumer { group: a, .. }, Role::Consumer { group: b, .. }) => a == b,
            _ => false,
        }
    }
}

/// The content of an attachment's `who` word: `zero 32 | group 8 | kind 8 | owner 16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) owner: Owner,
    pub(crate) role: Role,
}

impl Who {
    pub(crate) fn encode(self) -> u64 {
        let (kind, group) = self.role.code();
        group << 24 | kind << 16 | u64::from(self.owner.index())
    }

    pub(crate) fn decode(bits: u64) -> Option<Who> {
        let group = (bits >> 24) as u8;
        let role = match (bits >> 16) as u8 {
            1 => Role::Producer { exclusive: false },
            2 => Role::Producer { exclusive: true },
            3 => Role::Consumer { group, exclusive: false },
            4 => Role::Consumer { group, exclusive: true },
            _ => return None,
        };
        Some(Who { owner: Owner::new(bits as u16), role })
    }
}

/// A handle's record, and its role if that is exclusive. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The store's, at hand for the hot paths.
    guard: Arc<ForkGuard>,
    pub(crate) store: Arc<StoreCore>,
    pub(crate) queue: Arc<QueueCore>,
    /// How messages of a durable queue are waited for.
    pub(crate) confirmer: Option<Confirmer>,
    index: usize,
    role: Role,
    /// Set if something of this handle is left in the ledgers: then the record stays, and is found by
    /// recovery.
    leave: std::cell::Cell<bool>,
}

impl Attached {
    /// Attaches a handle of `store` to `queue` in this role.
    pub(crate) fn new(
        store: &Arc<StoreCore>,
        queue: &Arc<QueueCore>,
        role: Role,
    ) -> Result<Attached, StoreError> {
        let mut attached = Attached::for_journal(store, queue, role)?;
        if let Some(journal) = Journal::of(store)? {
            journal.knows(queue);
            attached.confirmer = Some(Confirmer::new(journal, queue.clone()));
        }
        Ok(attached)
    }

    /// As `new`, for those who write the journal: a part in it is what they are.
    pub(crate) fn for_journal(
        store: &Arc<StoreCore>,
        queue: &Arc<QueueCore>,
        role: Role,
    ) -> Result<Attached, StoreError> {
        store.check_forked()?;
        queue.check_removed(store)?;
        let mut refused = queue.try_attach(store, role);
        // The dead that stand in the way are recovered, one after the other.
        for _ in 0..PARTICIPANTS {
            match &refused {
                Ok(Err(in_the_way)) if store.probe.is_dead(in_the_way.index()).unwrap_or(false) => {
                    store.recover(*in_the_way)?;
                    refused = queue.try_attach(store, role);
                }
                _ => break,
            }
        }
        let index = refused?.map_err(|in_the_way| StoreError::RoleTaken {
            role: role.name(),
            name: queue.name.clone(),
            by: format!("{} has a {} here", store.describe(in_the_way), role.name()),
        })?;
        store.attached.fetch_add(1, Relaxed);
        if let Role::Consumer { .. } = role {
            // Who slept long, because there was nobody to look after, has someone now.
            queue.ring_everyone();
        }
        Ok(Attached {
            guard: store.guard.clone(),
            store: store.clone(),
            queue: queue.clone(),
            confirmer: None,
            index,
            role,
            leave: std::cell::Cell::new(false),
        })
    }

    /// Whether the handle was inherited through `fork`. One load.
    #[inline(always)]
    pub(crate) fn forked(&self) -> bool {
        self.guard.forked()
    }

    /// Keeps the record when the handle goes, because something of it is left in the ledgers.
    pub(crate) fn leave_for_recovery(&self) {
        self.leave.set(true);
    }

    /// Whether no other consumer is attached to the queue, dead or alive.
    pub(crate) fn is_only_consumer(&self) -> bool {
        let journal = self.queue.mapped.geometry().journal();
        let consumes = |role| matches!(role, Role::Consumer { group, .. } if Some(group) != journal);
        self.queue.attachments().all(|(index, who)| index == self.index || !consumes(who.role))
    }

    /// Tells people how many deliveries are in flight.
    pub(crate) fn tell_in_flight(&self, deliveries: usize) {
        self.queue.mapped.attachment(self.index).in_flight.store(deliveries as u64, Relaxed);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.store.forked() || self.leave.get() {
            return;
        }
        self.queue.detach(self.index, self.store.me, self.role);
        self.store.attached.fetch_sub(1, Release);
    }
}

impl QueueCore {
    /// The record's index, or who stands in the way.
    fn try_attach(&self, store: &StoreCore, role: Role) -> Result<Result<usize, Owner>, StoreError> {
        let who = Who { owner: store.me, role };
        let free = (0..ATTACHMENTS).find(|&index| {
            let word = &self.mapped.attachment(index).who;
            word.load(Relaxed) == 0 && word.compare_exchange(0, who.encode(), AcqRel, Relaxed).is_ok()
        });
        let index = free.ok_or(StoreError::Exhausted {
            what: "producer or consumer of the queue",
            limit: ATTACHMENTS,
            hint: ": close some",
        })?;
        self.mapped.attachment(index).in_flight.store(0, Relaxed);
        if let Some(in_the_way) = self.conflict(index, who) {
            self.detach(index, who.owner, role);
            return Ok(Err(in_the_way));
        }
        // A remover marks the queue, or the group, and then looks at the records; here the other way round.
        if self.is_removed() {
            self.detach(index, who.owner, role);
            return Err(StoreError::Removed { queue: self.name.clone() });
        }
        if let Role::Consumer { group, .. } = role
            && self.mapped.group(group).state.load(SeqCst) != group::ACTIVE
        {
            self.detach(index, who.owner, role);
            return Err(StoreError::NoSuchGroup {
                queue: self.name.clone(),
                group: "(being removed)".into(),
            });
        }
        Ok(Ok(index))
    }

    /// Who stands in the way of the record just written, which takes the role word if it is exclusive.
    fn conflict(&self, index: usize, who: Who) -> Option<Owner> {
        let role = self.role_word(who.role);
        if !who.role.is_exclusive() {
            fence(SeqCst);
            return holder_of(role.load(SeqCst));
        }
        let mine = role_bits(who.owner, index);
        if let Err(other) = role.compare_exchange(0, mine, SeqCst, SeqCst) {
            return holder_of(other);
        }
        fence(SeqCst);
        self.attachments()
            .find(|(other, at)| *other != index && at.role.shares_ledger(who.role))
            .map(|(_, at)| at.owner)
    }

    /// Frees the role, then the record.
    fn detach(&self, index: usize, owner: Owner, role: Role) {
        if role.is_exclusive() {
            let _ = self.role_word(role).compare_exchange(role_bits(owner, index), 0, SeqCst, SeqCst);
        }
        let who = Who { owner, role };
        let _ = self.mapped.attachment(index).who.compare_exchange(who.encode(), 0, SeqCst, Relaxed);
    }

    fn role_word(&self, role: Role) -> &AtomicU64 {
        match role {
            Role::Producer { .. } => &self.mapped.words().producer_role,
            Role::Consumer { group, .. } => &self.mapped.group(group).role,
        }
    }

    /// All records in use.
    pub(crate) fn attachments(&self) -> impl Iterator<Item = (usize, Who)> + '_ {
        (0..ATTACHMENTS)
            .filter_map(|index| Some((index, Who::decode(self.mapped.attachment(index).who.load(Acquire))?)))
    }

    /// Whether a participant has a record here.
    pub(crate) fn has_records_of(&self, owner: Owner) -> bool {
        self.attachments().any(|(_, who)| who.owner == owner)
    }

    /// Frees the roles and records of a dead participant; the last step of its recovery here. How many there
    /// were.
    pub(crate) fn free_records_of(&self, dead: Owner) -> u64 {
        let mut freed = 0;
        for (index, who) in self.attachments().filter(|(_, who)| who.owner == dead) {
            self.detach(index, dead, who.role);
            freed += 1;
        }
        freed
    }

    /// Who has the role of a producer (`None`) or of a group's consumer alone.
    pub(crate) fn exclusive_holder(&self, group: Option<u8>) -> Option<Owner> {
        let role = match group {
            None => Role::Producer { exclusive: true },
            Some(group) => Role::Consumer { group, exclusive: true },
        };
        holder_of(self.role_word(role).load(Acquire))
    }
}

pub(crate) fn role_bits(owner: Owner, index: usize) -> u64 {
    u64::from(owner.index()) << 32 | (index as u64 + 1)
}

pub(crate) fn holder_of(bits: u64) -> Option<Owner> {
    (bits != 0).then(|| Owner::new((bits >> 32) as u16))
}

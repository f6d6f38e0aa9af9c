//! Looking at every message of a queue, whichever group it is open in, while the queue goes on.
//!
//! A browse notes first which positions hold a message that some group has not settled, and no position at or
//! behind the tail it saw: what is published from then on is not part of it. Then it reads message by message,
//! each at the moment it is asked for. One that all groups have settled by then is left out. What it gives is
//! therefore in order, no message twice, and each of them whole: copied, and then checked not to have gone
//! meanwhile. The states are those of that moment, and not all messages are read at the same.
//!
//! As in [`inspect`](super::inspect), nothing is stored to shared memory.

use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::vec;

use super::core::QueueCore;
use super::groups::name_of;
use super::inspect::Last;
use crate::memory::{Memory, Place};
use crate::participant::store::StoreCore;
use crate::ring::repair::find_tail;
use crate::ring::settle::due_of;
use crate::{Browsed, MessageState, Queue, Standing, StoreError};

/// The messages of a queue, one by one; see [`Queue::browse`].
#[derive(Debug)]
pub struct Browse {
    store: Arc<StoreCore>,
    core: Arc<QueueCore>,
    groups: Vec<Looked>,
    /// The states that make a message part of it; empty for all.
    states: Vec<MessageState>,
    positions: vec::IntoIter<u64>,
}

/// A group that is asked about.
#[derive(Debug)]
struct Looked {
    index: u8,
    name: Arc<str>,
    start: u64,
}

impl Queue {
    /// Looks at every message that was published before this call and that one of these groups has not settled,
    /// in order of position, without lease, count or side effect. No groups: all that there are. With states,
    /// only messages that are in one of them in one of the groups.
    ///
    /// The queue may go on meanwhile. Each message is read when the iterator comes to it, with its states of
    /// that moment; one that has been settled by then is left out.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let store = ringway::Store::open_or_create(dir.path().join("store"))?;
    /// # let queue = ringway::Queue::options().open_or_create(&store, "orders")?;
    /// queue.producer().build()?.publish("a pizza")?;
    /// for message in queue.browse(&[], &[])? {
    ///     let message = message?;
    ///     println!("{}: {} bytes, {:?}", message.position, message.payload.len(), message.groups);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchGroup`], `Removed`, `Forked`. The iterator gives the same if the queue or one of the
    /// groups is removed meanwhile, and ends there.
    pub fn browse(&self, groups: &[&str], states: &[MessageState]) -> Result<Browse, StoreError> {
        self.check()?;
        let indices: Vec<u8> = if groups.is_empty() {
            self.core.user_groups().collect()
        } else {
            groups.iter().map(|name| self.core.find_group(name)).collect::<Result<_, _>>()?
        };
        let looked = |index| Looked {
            index,
            name: name_of(self.core.mapped.group(index)).into(),
            start: self.core.mapped.load(Place::Start(index), Acquire),
        };
        let groups: Vec<Looked> = indices.into_iter().map(looked).collect();
        let positions = self.core.open_positions(&groups).into_iter();
        let (store, core) = (self.store.clone(), self.core.clone());
        Ok(Browse { store, core, groups, states: states.to_vec(), positions })
    }
}

impl QueueCore {
    /// Where there are messages before the tail that some of these groups have not settled, in order.
    fn open_positions(&self, groups: &[Looked]) -> Vec<u64> {
        let tail = find_tail(&self.mapped);
        let mut positions = Vec::new();
        for slot in 0..self.mapped.capacity() {
            let last = self.last_in(slot, tail);
            if !last.is_ready() || last.position >= tail {
                continue;
            }
            let is_open = |group: &Looked| {
                let open = self.open_in(group.index, group.start, slot, tail, &last);
                open.is_some_and(|open| open.position == last.position)
            };
            if groups.iter().any(is_open) {
                positions.push(last.position);
            }
        }
        positions.sort_unstable();
        positions
    }
}

impl Browse {
    /// How many messages may still come: fewer do if some are settled meanwhile, or in other states than those
    /// asked for.
    pub fn remaining(&self) -> usize {
        self.positions.len()
    }

    /// The message at a position. `None`: it is not part of this, or not any more.
    fn read(&self, position: u64) -> Result<Option<Browsed>, StoreError> {
        self.store.check_forked()?;
        self.core.check_removed(&self.store)?;
        let last = self.core.last_in(position, position);
        let standings = self.groups.iter().filter_map(|group| self.standing(group, position, &last));
        let groups: Vec<Standing> = standings.collect();
        let wanted = |of: &Standing| self.states.is_empty() || self.states.contains(&of.state);
        let part = groups.iter().any(wanted);
        let copied = if part { self.core.copy_at(position, &last) } else { None };
        // Last: had a group gone before, its words could be those of another one.
        self.check_groups()?;
        Ok(copied.map(|copied| Browsed {
            position,
            groups,
            payload: copied.payload,
            damaged: copied.damaged,
            headers: copied.headers,
        }))
    }

    /// What a group makes of the message at a position; `None` if it has settled it.
    fn standing(&self, group: &Looked, position: u64, last: &Last) -> Option<Standing> {
        let open = self.core.open_in(group.index, group.start, position, position, last)?;
        if open.position != position {
            return None;
        }
        let attempts = match open.state {
            MessageState::Ready => 0,
            _ => due_of(&self.core.mapped, group.index, position, open.lease).1,
        };
        let (reason, description) = match open.state {
            MessageState::Dead => {
                let (reason, description) = self.core.cause_of(group.index, position, open.lease);
                (Some(reason), description)
            }
            _ => (None, None),
        };
        let (group, failures) = (group.name.clone(), open.failures());
        Some(Standing { group, state: open.state, failures, attempts, reason, description })
    }

    /// An error if one of the groups has been removed.
    fn check_groups(&self) -> Result<(), StoreError> {
        let is_there = |group: &Looked| {
            let in_use = self.core.groups_in_use().any(|index| index == group.index);
            in_use && name_of(self.core.mapped.group(group.index)) == *group.name
        };
        match self.groups.iter().find(|group| !is_there(group)) {
            None => Ok(()),
            Some(gone) => {
                Err(StoreError::NoSuchGroup { queue: self.core.name.clone(), group: gone.name.to_string() })
            }
        }
    }
}

impl Iterator for Browse {
    type Item = Result<Browsed, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let position = self.positions.next()?;
            match self.read(position) {
                Ok(Some(message)) => return Some(Ok(message)),
                Ok(None) => {}
                Err(error) => {
                    self.positions = Vec::new().into_iter();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl FusedIterator for Browse {}

//! A queue of a store: its geometry, its groups, what is in it.

pub(crate) mod admin;
pub(crate) mod attach;
pub(crate) mod bells;
mod browse;
pub(crate) mod core;
pub(crate) mod dead;
pub(crate) mod groups;
mod inspect;
mod report;
pub(crate) mod tend;
mod verify;

use std::sync::Arc;

pub use browse::Browse;
pub use report::{
    Browsed, DeadLetter, DeadReason, GroupInfo, MessageState, Peeked, QueueInfo, Standing, VerifyReport,
    Violation,
};

use self::core::QueueCore;
use crate::consumer::ConsumerBuilder;
use crate::layout::queue::Geometry;
use crate::participant::store::StoreCore;
use crate::producer::ProducerBuilder;
use crate::{GroupOptions, Removal, Store, StoreError};

/// An open queue. Cheap to clone; clones share one mapping.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use ringway::{Queue, Store};
///
/// let store = Store::open_or_create(dir.path().join("store"))?;
/// let orders = Queue::options().capacity(4096).open_or_create(&store, "orders")?;
/// orders.producer().build()?.publish("a pizza")?;
///
/// let worker = orders.consumer("default").build()?;
/// let order = worker.receive()?;
/// assert_eq!(order.payload(), b"a pizza");
/// order.ack()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) store: Arc<StoreCore>,
    pub(crate) core: Arc<QueueCore>,
}

/// The geometry of a new queue, and the settings of its first group.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    geometry: Geometry,
    /// Whether the caller chose a geometry that an existing queue must have.
    chosen: [bool; 4],
    group: GroupOptions,
}

impl Default for QueueOptions {
    fn default() -> Self {
        QueueOptions {
            geometry: Geometry {
                capacity: 16_384,
                slot_size: 128,
                max_message: 1 << 20,
                max_groups: 8,
                durable: false,
            },
            chosen: [false; 4],
            group: GroupOptions::default(),
        }
    }
}

impl QueueOptions {
    /// Slots: a power of two, 1,024 to 16,777,216 (default 16,384). Every message that some group has not
    /// settled yet takes one.
    pub fn capacity(mut self, slots: u32) -> Self {
        self.geometry.capacity = slots.into();
        self.chosen[0] = true;
        self
    }

    /// Bytes of a slot, with 16 for the ring itself: a multiple of 64, 64 to 4,096 (default 128). Longer
    /// messages go to an extent of their own, which costs page faults the first time.
    pub fn slot_size(mut self, bytes: u32) -> Self {
        self.geometry.slot_size = bytes;
        self.chosen[1] = true;
        self
    }

    /// The longest message with its headers, in bytes (default 1 MiB, at most 1 GiB - 1). Costs address space
    /// (capacity times this), not memory.
    pub fn max_message(mut self, bytes: u32) -> Self {
        self.geometry.max_message = bytes;
        self.chosen[2] = true;
        self
    }

    /// How many groups there can be: 1 to 64 (default 8). Each takes 16 bytes per slot.
    pub fn max_groups(mut self, groups: u32) -> Self {
        self.geometry.max_groups = groups;
        self.chosen[3] = true;
        self
    }

    /// The settings of the group `default`, with which every queue is made.
    pub fn default_group(mut self, options: GroupOptions) -> Self {
        self.group = options;
        self
    }

    /// Creates the queue.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`], `BadName`, `BadOption`, or `Io` (`ENOSPC`: no room for the file;
    /// nothing is left behind).
    pub fn create(&self, store: &Store, name: &str) -> Result<Queue, StoreError> {
        if !QueueCore::create(&store.core, name, &self.geometry, &self.group)? {
            return Err(StoreError::AlreadyExists { what: "queue", name: name.to_owned() });
        }
        crate::durable::record_change(&store.core)?;
        store.queue(name)
    }

    /// Opens the queue, creating it if it is not there. Of two processes that do this at once, one creates.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`Store::queue`]; [`StoreError::Geometry`] if the queue is there and
    /// differs from what was chosen here.
    pub fn open_or_create(&self, store: &Store, name: &str) -> Result<Queue, StoreError> {
        let queue = match store.queue(name) {
            Err(StoreError::NoSuchQueue { .. }) => {
                QueueCore::create(&store.core, name, &self.geometry, &self.group)?;
                crate::durable::record_change(&store.core)?;
                store.queue(name)?
            }
            found => found?,
        };
        self.compare(queue.core.mapped.geometry(), name)?;
        Ok(queue)
    }

    fn compare(&self, found: &Geometry, name: &str) -> Result<(), StoreError> {
        let wanted = &self.geometry;
        // The last group of a durable queue is the journal.
        let groups = found.max_groups - u32::from(found.durable);
        let parts = [
            ("capacity", found.capacity, wanted.capacity),
            ("slot_size", found.slot_size.into(), wanted.slot_size.into()),
            ("max_message", found.max_message.into(), wanted.max_message.into()),
            ("max_groups", groups.into(), wanted.max_groups.into()),
        ];
        for ((what, found, expected), chosen) in parts.into_iter().zip(self.chosen) {
            if chosen && found != expected {
                return Err(StoreError::Geometry { queue: name.to_owned(), what, found, expected });
            }
        }
        Ok(())
    }
}

impl Queue {
    /// The geometry of a new queue.
    pub fn options() -> QueueOptions {
        QueueOptions::default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Slots.
    pub fn capacity(&self) -> u64 {
        self.core.mapped.geometry().capacity
    }

    /// Bytes of the longest message with its headers.
    pub fn max_message(&self) -> usize {
        self.core.mapped.geometry().max_message as usize
    }

    /// A producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self)
    }

    /// A consumer of a group.
    pub fn consumer(&self, group: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self, group)
    }

    /// Makes a group. It gets every message published from its start on.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`], `BadName`, `BadOption`, `Exhausted` (the queue was made for fewer
    /// groups), `Removed`, `Forked`, `Io`.
    pub fn add_group(&self, name: &str, options: GroupOptions) -> Result<(), StoreError> {
        self.core.add_group(&self.store, name, &options)
    }

    /// Removes a group: what it has not settled is gone for it, and takes no slot any more on its account.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if it has consumers, and still has them after the wait; `NoSuchGroup`,
    /// `Removed`, `Forked`, `Io`.
    pub fn remove_group(&self, name: &str, removal: Removal) -> Result<(), StoreError> {
        self.core.remove_group(&self.store, name, removal)
    }
}

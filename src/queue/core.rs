//! A queue file, mapped and checked, as all handles of this process share it.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::layout::FORMAT_VERSION;
use crate::layout::header::{DURABLE, Header, QUEUE_MAGIC};
use crate::layout::queue::{Geometry, REMOVED, REMOVING};
use crate::mapped::Mapped;
use crate::memory::{Memory, Place};
use crate::participant::store::{StoreCore, is_missing, random_id, read_header};
use crate::participant::table::Table;
use crate::ring::{Kind, Lease, Seq, before, lap_of, position_near};
use crate::sys::clock;
use crate::sys::files::{Created, Dir, OpenPolicy, check_name, create_file, io_error, open_file};
use crate::sys::fork::ForkGuard;
use crate::sys::mapping::Mapping;
use crate::{GroupOptions, StoreError};

/// A queue of an open store.
#[derive(Debug)]
pub(crate) struct QueueCore {
    pub(crate) name: String,
    pub(crate) mapped: Mapped,
    store_id: [u8; 16],
    file_id: [u8; 16],
    /// The journal's words, if the queue is durable.
    pub(super) journal_words: Option<Arc<Table>>,
}

impl QueueCore {
    /// Opens a queue of `store`.
    pub(crate) fn open(store: &StoreCore, name: &str) -> Result<QueueCore, StoreError> {
        check_name(name)?;
        let mut queue = QueueCore::map(&store.queues, &store.policy, name, store.guard.clone())?;
        if queue.store_id != store.id {
            return Err(StoreError::Foreign {
                path: store.queues.path().join(name),
                expected: "queue of this store",
                found: "it belongs to another store".to_owned(),
            });
        }
        if queue.mapped.geometry().durable {
            queue.journal_words = Some(store.table.clone());
        }
        Ok(queue)
    }

    /// Which queue it is, whatever its name: the journal calls it so.
    pub(crate) fn id(&self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|index| self.file_id[index]))
    }

    /// Whether a message that was published before this position came late to the journal, and is not written yet.
    /// Positions that are being published do not count.
    pub(crate) fn has_unwritten_before(&self, position: u64) -> bool {
        let Some(journal) = self.mapped.geometry().journal() else { return false };
        if self.mapped.load(Place::Attention(journal), Acquire) == 0 {
            return false;
        }
        (0..self.mapped.capacity()).any(|slot| {
            let seq = Seq::from_bits(self.mapped.load(Place::Seq(slot), Acquire));
            let at = position_near(position, seq.lap(), slot, self.mapped.capacity());
            seq.kind() == Kind::Ready && at < position && !self.is_written(at)
        })
    }

    /// The group that must have a message before consumers get it, if any must.
    pub(crate) fn gate(&self, store: &StoreCore) -> Option<u8> {
        let early = crate::durable::options_of(store).is_some_and(|options| options.deliver_early);
        self.mapped.geometry().journal().filter(|_| !early)
    }

    /// Whether the journal has the message that was published at this position.
    ///
    /// Acquire: pairs with the Release of the leader's ack.
    pub(crate) fn is_written(&self, position: u64) -> bool {
        let Some(journal) = self.mapped.geometry().journal() else { return false };
        let lap = lap_of(position, self.mapped.capacity());
        let lease = Lease::from_bits(self.mapped.load(Place::Lease(journal, position), Acquire));
        lease.is_done_with(lap) || before(lap, lease.lap())
    }

    /// Maps the queue file `name` of a store's directory of queues, after checking it.
    pub(crate) fn map(
        queues: &Dir,
        policy: &OpenPolicy,
        name: &str,
        guard: Arc<ForkGuard>,
    ) -> Result<QueueCore, StoreError> {
        let path = queues.path().join(name);
        let file = open_file(queues, name, policy, true).map_err(|error| {
            let store = queues.path().parent().unwrap_or(queues.path()).to_path_buf();
            if is_missing(&error) { StoreError::NoSuchQueue { queue: name.to_owned(), store } } else { error }
        })?;
        let header = read_header(&file, QUEUE_MAGIC, &path)?;
        let geometry = header.geometry();
        let damaged = |what, found: String, expected: String| StoreError::Damaged {
            path: path.clone(),
            what,
            found,
            expected,
        };
        geometry
            .check()
            .map_err(|error| damaged("its geometry", error.to_string(), "a possible one".into()))?;
        let planned = geometry.plan().file_len;
        if planned != header.file_len {
            return Err(damaged("the file's length", header.file_len.to_string(), planned.to_string()));
        }
        let mapping = Mapping::map(&file, planned as usize, guard).map_err(io_error("mapping", &path))?;
        let mapped = Mapped::new(file, mapping, geometry);
        Ok(QueueCore {
            name: name.to_owned(),
            mapped,
            store_id: header.store_id,
            file_id: header.file_id,
            journal_words: None,
        })
    }

    /// Makes a queue with its first group, `default`. `false`: there is a queue of that name.
    ///
    /// Nobody sees the file before it is whole: death in here leaves a temporary, which `repair` removes.
    pub(crate) fn create(
        store: &StoreCore,
        name: &str,
        geometry: &Geometry,
        group: &GroupOptions,
    ) -> Result<bool, StoreError> {
        store.check_forked()?;
        check_name(name)?;
        let mut geometry = *geometry;
        let durable = crate::durable::options_of(store);
        if let Some(options) = &durable {
            geometry.durable = true;
            geometry.max_groups = geometry.max_groups.saturating_add(1);
            crate::durable::check_message_len(options, geometry.max_message)?;
        }
        geometry.check()?;
        super::groups::check_options(group)?;
        let plan = geometry.plan();
        let header = Header {
            magic: QUEUE_MAGIC,
            version: FORMAT_VERSION,
            incompatible: if durable.is_some() { DURABLE } else { 0 },
            file_len: plan.file_len,
            store_id: store.id,
            file_id: random_id()?,
            boot_id: clock::boot_id().map_err(io_error("reading the boot id for", store.dir.path()))?,
            created_ms: clock::wall_ms(),
            capacity: geometry.capacity,
            slot_size: geometry.slot_size,
            max_message: geometry.max_message,
            max_groups: geometry.max_groups,
        };
        let page = header.encode();
        let guard = store.guard.clone();
        let made = create_file(
            &store.queues,
            name,
            plan.extents,
            plan.file_len,
            &store.policy,
            |file| -> io::Result<()> {
                let mapping = Mapping::map(file, plan.file_len as usize, guard)?;
                let mapped = Mapped::new(file.try_clone()?, mapping, geometry);
                super::groups::form_first(&mapped, group);
                drop(mapped);
                file.write_all_at(&page, 0)
            },
        )?;
        Ok(matches!(made, Created::Made(_)))
    }

    /// Whether the queue was removed for good. Nobody is attached, and nobody can be.
    pub(crate) fn is_gone(&self) -> bool {
        self.mapped.words().removed.load(Acquire) == REMOVED
    }

    /// Whether the queue was removed, or is being removed and its users are to stop. One load.
    #[inline(always)]
    pub(crate) fn is_removed(&self) -> bool {
        matches!(self.mapped.words().removed.load(Acquire), REMOVED | REMOVING)
    }

    /// As `is_removed`; but what a dead remover began is taken back.
    pub(crate) fn stops(&self, store: &StoreCore) -> bool {
        if self.is_removed() {
            self.tidy(store);
        }
        self.is_removed()
    }

    /// Tells all who have the queue open that it is gone.
    pub(crate) fn mark_removed(&self) {
        self.mapped.words().removed.store(REMOVED, Release);
        self.ring_everyone();
    }

    /// As `stops`, as an error.
    pub(crate) fn check_removed(&self, store: &StoreCore) -> Result<(), StoreError> {
        if self.stops(store) { Err(StoreError::Removed { queue: self.name.clone() }) } else { Ok(()) }
    }
}

//! A queue file, mapped and checked, as all handles of this process share it.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::layout::FORMAT_VERSION;
use crate::layout::header::{Header, QUEUE_MAGIC};
use crate::layout::queue::{Geometry, REMOVED, REMOVING};
use crate::mapped::Mapped;
use crate::participant::store::{StoreCore, is_missing, random_id, read_header};
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
}

impl QueueCore {
    /// Opens a queue of `store`.
    pub(crate) fn open(store: &StoreCore, name: &str) -> Result<QueueCore, StoreError> {
        check_name(name)?;
        let queue = QueueCore::map(&store.queues, &store.policy, name, store.guard.clone())?;
        if queue.store_id != store.id {
            return Err(StoreError::Foreign {
                path: store.queues.path().join(name),
                expected: "queue of this store",
                found: "it belongs to another store".to_owned(),
            });
        }
        Ok(queue)
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
        Ok(QueueCore { name: name.to_owned(), mapped, store_id: header.store_id })
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
        geometry.check()?;
        super::groups::check_options(group)?;
        let plan = geometry.plan();
        let header = Header {
            magic: QUEUE_MAGIC,
            version: FORMAT_VERSION,
            incompatible: 0,
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
                let mapped = Mapped::new(file.try_clone()?, mapping, *geometry);
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

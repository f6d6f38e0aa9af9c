//! Giving back what a dead participant held.

use std::sync::Arc;

use super::store::StoreCore;
use super::table::Table;
use super::token::begin_recovery;
use crate::layout::CONTROL;
use crate::queue::core::QueueCore;
use crate::ring::Owner;
use crate::sys::files::{Dir, OpenPolicy, io_error};
use crate::sys::fork::ForkGuard;
use crate::{RepairReport, StoreError};

/// What a recovery needs; less than an open store, because a store is opened by recovering first if it is
/// full.
pub(crate) struct Scene<'a> {
    pub(crate) dir: &'a Dir,
    pub(crate) queues: &'a Dir,
    pub(crate) policy: &'a OpenPolicy,
    pub(crate) table: &'a Table,
    pub(crate) guard: &'a Arc<ForkGuard>,
}

impl Scene<'_> {
    /// Recovers `owner` if it is dead. `mapped` gives queues that are mapped already.
    ///
    /// Death in here: the entry is still taken and its lock free, so the next who looks does it again,
    /// finding less to do.
    pub(crate) fn recover(
        &self,
        owner: Owner,
        mapped: &mut dyn FnMut(&str) -> Option<Arc<QueueCore>>,
    ) -> Result<RepairReport, StoreError> {
        let mut report = RepairReport::default();
        let begun = begin_recovery(self.dir, CONTROL, owner.index());
        let Some(_guard) = begun.map_err(io_error("recovering a participant of", self.dir.path()))? else {
            return Ok(report);
        };
        // Read under the lock: from here on nobody can take the entry.
        let seen = self.table.state(owner);
        if !seen.is_taken() {
            self.table.free(owner, seen);
            return Ok(report);
        }
        let names = self.queues.list().map_err(io_error("listing", self.queues.path()))?;
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            if let Some(queue) = mapped(name) {
                queue.return_work_of(owner, &mut report);
                continue;
            }
            match QueueCore::map(self.queues, self.policy, name, self.guard.clone()) {
                Ok(queue) => queue.return_work_of(owner, &mut report),
                // The system refused now and may not later (no memory, no descriptors): the entry stays
                // taken.
                Err(error @ StoreError::Io { .. }) => return Err(error),
                // Removed meanwhile, or damaged: it holds nothing that anyone could still reach.
                Err(_) => {}
            }
        }
        if self.table.free(owner, seen) {
            report.recovered += 1;
        }
        Ok(report)
    }
}

impl StoreCore {
    /// Recovers all participants that are dead. One system call per living one.
    pub(crate) fn recover_dead(self: &Arc<Self>) -> Result<RepairReport, StoreError> {
        let mut report = RepairReport::default();
        for owner in self.table.taken().filter(|&owner| owner != self.me) {
            let dead = self.probe.is_dead(owner.index());
            // The words for it only if they are needed: a sweep comes here every 2 ms, and is not to
            // allocate.
            if dead.map_err(|error| io_error("probing participants of", self.dir.path())(error))? {
                report += self.recover(owner)?;
            }
        }
        Ok(report)
    }

    /// Recovers one participant if it is dead.
    pub(crate) fn recover(self: &Arc<Self>, owner: Owner) -> Result<RepairReport, StoreError> {
        let scene = Scene {
            dir: &self.dir,
            queues: &self.queues,
            policy: &self.policy,
            table: &self.table,
            guard: &self.guard,
        };
        scene.recover(owner, &mut |name| self.queue(name).ok())
    }
}

impl std::ops::AddAssign for RepairReport {
    fn add_assign(&mut self, other: RepairReport) {
        self.recovered += other.recovered;
        self.voided += other.voided;
        self.returned += other.returned;
        self.dead_lettered += other.dead_lettered;
        self.expired += other.expired;
        self.freed += other.freed;
        self.files += other.files;
    }
}

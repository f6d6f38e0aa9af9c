//! A store: a directory of queues that share one participant table and one recovery.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::layout::{CONTROL, QUEUES};
use crate::participant::store::{StoreCore, is_missing};
use crate::ring::Owner;
use crate::sys::clock;
use crate::sys::files::{Dir, OpenPolicy, check_name, io_error, sweep_temporaries};
use crate::{DurableOptions, Queue, Removal, StoreError, durable};

/// An open store. Cheap to clone; all clones are one participant.
///
/// A store is a directory, on tmpfs for speed. It belongs to one host and, like everything on tmpfs, does not
/// outlive a reboot, unless it is made [durable](StoreOptions::durable). It outlives every process: whoever opens
/// it next finds what the others left.
///
/// Dropping the last handle of a process (clones, queues, producers, consumers) ends its part in the store. A
/// process that dies does the same, less tidily: what it held is given back within milliseconds by any other
/// that is receiving.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) core: Arc<StoreCore>,
}

/// How a store is opened or created.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    policy: OpenPolicy,
    trusted: bool,
    durable: Option<(PathBuf, DurableOptions)>,
}

/// A process attached to the store, for people to read.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Participant {
    /// Index in the table, 1 to 1023.
    pub index: u16,
    /// How often the index has been taken.
    pub epoch: u32,
    /// Process id, as seen from that process's own PID namespace.
    pub pid: u32,
    /// Command name.
    pub command: String,
    /// Whether its liveness lock is held.
    pub alive: bool,
    /// Whether it is the caller.
    pub me: bool,
}

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// Dead processes whose work was given back.
    pub recovered: u32,
    /// Half-published positions of the dead, voided.
    pub voided: u64,
    /// Leases of the dead, returned for redelivery.
    pub returned: u64,
    /// Messages that became dead letters in this: their count of failures reached the limit.
    pub dead_lettered: u64,
    /// Expired leases returned.
    pub expired: u64,
    /// Exclusive roles and attachments of the dead, freed.
    pub freed: u64,
    /// Left-over temporary files removed.
    pub files: u32,
}

impl Store {
    /// Opens the store at `path`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchStore`], `Foreign`, `Version`, `Damaged`, `Unsafe`, `EarlierBoot`, `FileSystem`,
    /// `Exhausted`, `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<Store, StoreError> {
        StoreOptions::new().open(path)
    }

    /// Creates a store at `path`, whose parent must be there.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`], else as [`open`](Self::open).
    pub fn create(path: impl AsRef<Path>) -> Result<Store, StoreError> {
        StoreOptions::new().create(path)
    }

    /// Opens the store at `path`, creating it if it is not there.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Store, StoreError> {
        StoreOptions::new().open_or_create(path)
    }

    /// How to open.
    pub fn options() -> StoreOptions {
        StoreOptions::new()
    }

    /// Where a store named `name` lies by default: `/dev/shm/ringway-<uid>/<name>`.
    pub fn default_path(name: &str) -> PathBuf {
        let uid = nix::unistd::geteuid();
        PathBuf::from(format!("/dev/shm/ringway-{uid}")).join(name)
    }

    /// Whether this is the directory of a durable store, the one with its journal; be the journal damaged or not.
    pub fn is_durable_dir(path: impl AsRef<Path>) -> bool {
        durable::is_durable_dir(path.as_ref())
    }

    /// The store's directory.
    pub fn path(&self) -> &Path {
        self.core.dir.path()
    }

    /// Opens a queue.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchQueue`], `BadName`, `Foreign`, `Version`, `Damaged`, `Unsafe`, `Forked`, `Io`.
    pub fn queue(&self, name: &str) -> Result<Queue, StoreError> {
        check_name(name)?;
        Ok(Queue { store: self.core.clone(), core: self.core.queue(name)? })
    }

    /// The names of the queues, sorted.
    ///
    /// # Errors
    ///
    /// `Forked`, `Io`.
    pub fn queues(&self) -> Result<Vec<String>, StoreError> {
        self.core.check_forked()?;
        self.core.names()
    }

    /// Removes a queue and what is in it. A queue that is damaged is removed too.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if it has producers or consumers, and still has them after the wait;
    /// `NoSuchQueue`, `BadName`, `Forked`, `Io`.
    pub fn remove_queue(&self, name: &str, removal: Removal) -> Result<(), StoreError> {
        self.core.check_forked()?;
        check_name(name)?;
        match self.core.queue(name) {
            Ok(queue) => queue.remove(&self.core, removal),
            Err(StoreError::Damaged { .. } | StoreError::Foreign { .. } | StoreError::Version { .. }) => {
                let path = self.core.queues.path().join(name);
                self.core.queues.unlink(name).map_err(io_error("removing", &path))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a whole store that no living process is attached to. A durable one goes with its journal if `path` is
    /// its durable directory; if it is that of its rings, only they go, and come back from the journal.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchStore`], `InUse`, `Io`; a store that cannot be opened because it is damaged or of
    /// an earlier boot is removed all the same.
    pub fn remove(path: impl AsRef<Path>) -> Result<(), StoreError> {
        let path = path.as_ref();
        if durable::is_durable_dir(path) {
            return durable::remove(path);
        }
        match Store::open(path) {
            Ok(store) => {
                let user = store.participants().into_iter().find(|other| other.alive && !other.me);
                if let Some(user) = user {
                    let by = format!("process {} ({}) is attached", user.pid, user.command);
                    return Err(StoreError::InUse { what: "store", name: path.display().to_string(), by });
                }
                for queue in store.queues()? {
                    if let Ok(queue) = store.core.queue(&queue) {
                        queue.mark_removed();
                    }
                }
            }
            Err(
                StoreError::EarlierBoot { .. }
                | StoreError::Damaged { .. }
                | StoreError::Foreign { .. }
                | StoreError::Version { .. },
            ) => {}
            Err(error) => return Err(error),
        }
        remove_files(path)
    }

    /// The processes attached.
    pub fn participants(&self) -> Vec<Participant> {
        if self.core.forked() {
            return Vec::new();
        }
        let table = &self.core.table;
        let taken = table.taken().filter(|&owner| table.state(owner).is_taken());
        taken.map(|owner| self.participant(owner)).collect()
    }

    fn participant(&self, owner: Owner) -> Participant {
        let who = self.core.table.who(owner);
        Participant {
            index: owner.index(),
            epoch: self.core.table.state(owner).epoch(),
            pid: who.pid,
            command: who.command,
            alive: !self.core.probe.is_dead(owner.index()).unwrap_or(false),
            me: owner == self.core.me,
        }
    }

    /// Recovers every dead participant, returns expired leases and removes left-over files, by hand.
    /// Consumers do the first two by themselves; this is for a queue that nobody receives from.
    ///
    /// # Errors
    ///
    /// `Forked`, `Io`, and what opening a queue gives.
    pub fn repair(&self) -> Result<RepairReport, StoreError> {
        self.core.check_forked()?;
        let mut report = self.core.recover_dead()?;
        for name in self.core.names()? {
            let queue = match self.core.queue(&name) {
                Err(StoreError::NoSuchQueue { .. }) => continue,
                found => found?,
            };
            queue.tidy(&self.core);
            for group in queue.groups_in_use() {
                let slots = 0..queue.mapped.geometry().capacity;
                let (expired, dead) = queue.sweep_slots(group, slots, clock::boot_ms(), 0);
                report.expired += expired;
                report.dead_lettered += dead;
            }
        }
        for dir in [&self.core.dir, &self.core.queues] {
            report.files += sweep_temporaries(dir).map_err(io_error("tidying", dir.path()))?;
        }
        Ok(report)
    }
}

/// Removes a store's files, and its directory last.
fn remove_files(path: &Path) -> Result<(), StoreError> {
    let dir = Dir::open(path)?;
    match dir.sub(QUEUES) {
        Ok(queues) => {
            for name in queues.list().map_err(io_error("listing", queues.path()))? {
                queues.unlink(&name).map_err(io_error("removing", &queues.path().join(name)))?;
            }
            dir.remove_dir(QUEUES).map_err(io_error("removing", queues.path()))?;
        }
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error),
    }
    // The control file last: as long as it is there, removing can be tried again.
    sweep_temporaries(&dir).map_err(io_error("tidying", path))?;
    dir.unlink(CONTROL).map_err(io_error("removing", &path.join(CONTROL)))?;
    std::fs::remove_dir(path).map_err(io_error("removing", path))
}

impl StoreOptions {
    /// The defaults: files of mode 0600, of the caller or root, and copies of payloads.
    pub fn new() -> StoreOptions {
        StoreOptions::default()
    }

    /// Lets processes of this group take part: files that are created get this group and mode 0660.
    pub fn group(mut self, gid: u32) -> StoreOptions {
        self.policy.gid = Some(gid);
        self
    }

    /// Also accepts files owned by this user.
    pub fn allow_owner(mut self, uid: u32) -> StoreOptions {
        self.policy.allowed_uids.push(uid);
        self
    }

    /// Allows zero-copy access: [`Producer::loan`](crate::Producer::loan), and deliveries whose payload is
    /// read in place if their lease is until death.
    ///
    /// # Safety
    ///
    /// Every process that can write to the store follows the protocol: it uses this library, or one that
    /// keeps the same rules. Else a slice that is handed out here could change while it is read.
    pub unsafe fn trust_peers(mut self) -> StoreOptions {
        self.trusted = true;
        self
    }

    /// Makes a store that is created durable: what was confirmed outlives a power cut. `dir` is its directory on a
    /// disk, for the journal; the path it is created at is that of its rings, on tmpfs. If both are the same the
    /// rings get a place in `/dev/shm`.
    ///
    /// A durable store is opened by `dir`, whether its rings are still there or not: after a reboot whoever opens it
    /// first makes them anew.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let place = tempfile::tempdir()?;
    /// # let dir = place.path().join("shop");
    /// use ringway::{Queue, Store};
    ///
    /// # let rings = place.path().join("rings");
    /// # let store = Store::options().durable(&dir).open_or_create(&rings)?;
    /// # drop(store);
    /// let store = Store::options().durable(&dir).open_or_create(&dir)?;
    /// let orders = Queue::options().open_or_create(&store, "orders")?;
    /// let producer = orders.producer().build()?;
    /// producer.publish("two pizzas")?.durable()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn durable(mut self, dir: impl AsRef<Path>) -> StoreOptions {
        self.durable = Some((dir.as_ref().to_path_buf(), DurableOptions::default()));
        self
    }

    /// When the journal of a durable store is synced, and more. Call [`durable`](Self::durable) first.
    pub fn durable_options(mut self, change: impl FnOnce(&mut DurableOptions)) -> StoreOptions {
        if let Some((_, options)) = &mut self.durable {
            change(options);
        }
        self
    }

    /// Opens the store at `path`, which may be that of its rings or of its durable directory; see [`Store::open`].
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        let path = match &self.durable {
            Some((dir, _)) => dir,
            None => path.as_ref(),
        };
        let core = if self.durable.is_some() || durable::is_durable_dir(path) {
            durable::open(path, &self.policy, self.trusted)?
        } else {
            StoreCore::open(path, self.policy.clone(), self.trusted)?
        };
        Ok(Store { core })
    }

    /// Makes the files of a store. `false`: there is one.
    fn make(&self, path: &Path) -> Result<bool, StoreError> {
        match &self.durable {
            Some((dir, options)) => durable::create(dir, path, options, &self.policy),
            None => StoreCore::create(path, &self.policy),
        }
    }

    /// Creates a store at `path`; see [`Store::create`].
    ///
    /// # Errors
    ///
    /// As [`Store::create`].
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        let path = path.as_ref();
        if !self.make(path)? {
            return Err(StoreError::AlreadyExists { what: "store", name: path.display().to_string() });
        }
        self.open(path)
    }

    /// Opens the store at `path`, creating it if it is not there; see [`Store::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`Store::open_or_create`].
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        match self.open(&path) {
            Err(StoreError::NoSuchStore { .. }) => {
                self.make(path.as_ref())?;
                self.open(path)
            }
            opened => opened,
        }
    }
}

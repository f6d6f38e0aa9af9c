//! Durable stores: what sits between the rings and the journal.
//!
//! A durable store has two directories. Its rings are on tmpfs like any store's, and are all that producers and
//! consumers touch. Its *durable directory* is on a disk: a file `store` that says who it is and where its rings
//! are ([`place`]), and the journal ([`crate::journal`]). If the rings are gone, or are from an earlier boot,
//! whoever opens the store makes them anew from the journal ([`rebuild`]).
//!
//! The journal is a consumer group of every queue ([`queue_log`]). One process at a time leads it ([`leader`]): it
//! takes what is there, writes and syncs it as one batch, and acks it; what came meanwhile is the next batch. So the
//! ring itself keeps a slot until its message is written, holds producers back when the disk is slow, and gives
//! consumers only what is durable.
//!
//! Who waits for its message to be durable leads by itself if nobody does. For those who do not wait, each process
//! with a producer or consumer has one thread ([`thread`]), which sleeps as long as there is nothing to do.

pub(crate) mod confirm;
mod entry;
mod group_log;
mod image;
mod info;
mod leader;
mod place;
mod queue_log;
mod rebuild;
mod shared;
mod thread;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

pub use confirm::Confirmed;
pub(crate) use confirm::Confirmer;
pub use info::JournalInfo;
pub(crate) use place::{create, is_durable_dir, open, remove};
pub use tools::{JournalDamage, JournalRecord, JournalRepair, JournalReport, JournalSegment};

use self::confirm::Watchers;
use self::leader::{Leader, Turn};
use self::thread::WriterThread;
use crate::journal::{Files, LogOptions, Writer, make_spare};
use crate::layout::CONTROL;
use crate::participant::store::StoreCore;
use crate::queue::core::QueueCore;
use crate::sys::files::{Dir, io_error, open_raw};
use crate::sys::fork::{LockFile, pause_forks};
use crate::sys::{clock, futex};
use crate::{DurableOptions, StoreError};

/// The byte of the control file whose lock makes a leader.
const LEADER_BYTE: u64 = 1 << 61;

/// The byte for the one who makes spare segments.
const SPARES_BYTE: u64 = LEADER_BYTE + 1;

/// How long what comes late is waited for where all is to be written, in milliseconds.
const LATE_MS: u64 = 200;

/// How often it is looked whether there is a spare segment, in milliseconds: on a full disk, until there is room.
const LOOK_FOR_SPARES_MS: u64 = 1_000;

/// The settings of a store's journal, if it has one.
pub(crate) fn options_of(store: &StoreCore) -> Option<DurableOptions> {
    shared::settings(store.table.journal())
}

/// The durable directory of a durable store.
pub(crate) fn path_of(store: &StoreCore) -> PathBuf {
    shared::read_path(store.table.durable_path())
}

/// An ack that somebody waits for.
#[derive(Debug)]
pub(crate) struct AckOrder {
    queue: u64,
    group: u8,
    position: u64,
    /// Whether it is in the batch.
    taken: bool,
}

/// A process's part in a store's journal, as long as it has producers or consumers there.
#[derive(Debug)]
pub(crate) struct Journal {
    inner: Arc<Inner>,
    thread: Option<WriterThread>,
}

/// What handles and the thread share.
#[derive(Debug)]
pub(crate) struct Inner {
    store: Arc<StoreCore>,
    options: DurableOptions,
    leader: Mutex<Leader>,
    lock: LockFile,
    /// Acks that somebody waits for, not in the journal yet.
    acks: Mutex<Vec<AckOrder>>,
    watchers: Watchers,
    spares: Mutex<Spares>,
    stop: AtomicBool,
    /// Turns that were not the thread's: then it holds back.
    turns: AtomicU64,
}

/// What came of a try to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Led {
    Written,
    Idle,
    /// Somebody else leads.
    Busy,
}

impl Journal {
    /// The process's part in the journal of `store`; `None` if that is volatile.
    pub(crate) fn of(store: &Arc<StoreCore>) -> Result<Option<Arc<Journal>>, StoreError> {
        let Some(options) = options_of(store) else { return Ok(None) };
        let mut slot = lock(&store.journal);
        if let Some(journal) = slot.upgrade() {
            return Ok(Some(journal));
        }
        let path = path_of(store);
        let leader = Leader::new(options, Dir::open(&path)?, store)?;
        let inner = Arc::new(Inner {
            store: store.clone(),
            options,
            leader: Mutex::new(leader),
            lock: lock_file(store, LEADER_BYTE)?,
            acks: Mutex::new(Vec::new()),
            watchers: Watchers::default(),
            spares: Mutex::new(Spares::new(&options, store)?),
            stop: AtomicBool::new(false),
            turns: AtomicU64::new(0),
        });
        let thread = WriterThread::start(inner.clone()).map_err(io_error("starting a thread for", &path))?;
        let journal = Arc::new(Journal { inner, thread: Some(thread) });
        *slot = Arc::downgrade(&journal);
        Ok(Some(journal))
    }

    /// Makes sure that every leader knows of this queue.
    pub(crate) fn knows(&self, queue: &QueueCore) {
        let known = lock(&self.inner.leader).queues().iter().any(|log| log.id == queue.id());
        if !known {
            announce(&self.inner.store);
        }
    }

    /// Waits until all that was published and decided before is in the journal, and synced.
    pub(crate) fn write_all(&self) -> Result<(), StoreError> {
        self.inner.write_all()
    }
}

/// Tells all leaders that there are other queues, or groups, than there were.
pub(crate) fn announce(store: &StoreCore) {
    store.table.journal().queues.fetch_add(1, AcqRel);
}

/// Announces a queue that was made or removed, or a change of its groups, and waits until the journal says so.
pub(crate) fn record_change(store: &Arc<StoreCore>) -> Result<(), StoreError> {
    match Journal::of(store)? {
        None => Ok(()),
        Some(journal) => {
            announce(store);
            journal.write_all()
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let thread = self.thread.take();
        if self.inner.store.forked() {
            // There is no such thread here, and its handle must not be waited for.
            std::mem::forget(thread);
            return;
        }
        self.inner.stop.store(true, std::sync::atomic::Ordering::Release);
        if let Some(thread) = thread {
            thread.end(&self.inner);
        }
        leader::resign(&self.inner.store);
    }
}

impl Inner {
    /// Writes a batch if there is something to write, unless somebody else is at it; `all`: whatever it is.
    fn try_lead(&self, all: bool) -> Result<Led, StoreError> {
        let mut leader = match self.leader.try_lock() {
            Ok(leader) => leader,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(Led::Busy),
        };
        let led = self.as_leader(&mut leader, |leader| {
            let mut acks = lock(&self.acks);
            Ok(match leader.lead(&self.store, &mut acks, all)? {
                Turn::Written => Led::Written,
                Turn::Idle => Led::Idle,
            })
        });
        led.map(|led| led.unwrap_or(Led::Busy))
    }

    /// Does something under the lock of the kernel; `None` if another process has it.
    fn as_leader<T>(
        &self,
        leader: &mut Leader,
        what: impl FnOnce(&mut Leader) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let failed = |error| io_error("locking the journal of", self.store.dir.path())(error);
        if !self.lock.try_lock().map_err(failed)? {
            return Ok(None);
        }
        let done = what(leader);
        self.lock.unlock().map_err(failed)?;
        done.map(Some)
    }

    /// Writes and syncs all that there is. What a producer is in the middle of publishing, or dead, is waited for a
    /// moment.
    fn write_all(&self) -> Result<(), StoreError> {
        let deadline = clock::boot_ms() + LATE_MS;
        loop {
            let mut leader = lock(&self.leader);
            let all_written = self.as_leader(&mut leader, |leader| {
                let mut acks = lock(&self.acks);
                while leader.lead(&self.store, &mut acks, true)? == Turn::Written {}
                leader.sync(&self.store)
            })?;
            let late = leader.queues().iter().any(|log| log.has_late());
            drop(leader);
            if all_written.is_some() && (!late || clock::boot_ms() >= deadline) {
                self.watchers.look(self);
                return Ok(());
            }
            confirm::sleep_until_written(&self.store, std::time::Duration::from_millis(1), || None::<()>);
        }
    }

    /// Wakes the thread: there is somebody to be told.
    fn wake_thread(&self) {
        let words = self.store.table.journal();
        words.work_bell.fetch_add(1, AcqRel);
        futex::wake(&words.work_bell, u32::MAX);
    }

    fn failed(&self) -> bool {
        self.store.table.journal().failed.load(Acquire) != 0
    }
}

/// Makes segments ready, beside the leader.
#[derive(Debug)]
struct Spares {
    files: Files,
    options: LogOptions,
    /// One process at a time.
    lock: LockFile,
    /// The segment that was written to when it was last looked whether there are enough, and when that was.
    seen: (u64, u64),
}

impl Spares {
    fn new(options: &DurableOptions, store: &StoreCore) -> Result<Spares, StoreError> {
        let files = Files::new(Dir::open(path_of(store))?, store.policy.clone());
        // Only if there is none: those that are taken come back as the oldest segments go.
        let options = LogOptions { spares: 1, ..log_options(options) };
        Ok(Spares { files, options, lock: lock_file(store, SPARES_BYTE)?, seen: (0, 0) })
    }

    /// Makes one if there is none. Looks whenever another segment is written to, and now and then.
    fn make(&mut self, segment: u64) -> Result<(), StoreError> {
        let now = clock::coarse_ms();
        let (last, at) = self.seen;
        if segment == last && now < at.saturating_add(LOOK_FOR_SPARES_MS) {
            return Ok(());
        }
        let failed = io_error("locking the journal's spare segments in", Path::new("the store"));
        if !self.lock.try_lock().map_err(failed)? {
            return Ok(());
        }
        let made = make_spare(&self.files, &self.options);
        let failed = io_error("unlocking the journal's spare segments in", Path::new("the store"));
        self.lock.unlock().map_err(failed)?;
        made?;
        self.seen = (segment, now);
        Ok(())
    }
}

/// The log's part of the options.
fn log_options(options: &DurableOptions) -> LogOptions {
    LogOptions { segment_len: options.segment_len, ..LogOptions::default() }
}

/// Refuses a message length that no segment has room for.
pub(crate) fn check_message_len(options: &DurableOptions, max_message: u32) -> Result<(), StoreError> {
    let most = Writer::<Files>::largest_body(&log_options(options));
    if max_message as usize <= most {
        return Ok(());
    }
    Err(StoreError::BadOption {
        option: "max_message",
        found: max_message.to_string(),
        expected: format!("at most {most}, which fits a segment of the journal"),
    })
}

/// An open file of its own, for a lock of the kernel; a forked child closes its copy.
fn lock_file(store: &StoreCore, byte: u64) -> Result<LockFile, StoreError> {
    let locking = || io_error("locking the journal of", store.dir.path());
    let mut pause = pause_forks().map_err(locking())?;
    let file = open_raw(&store.dir, CONTROL, true).map_err(locking())?;
    LockFile::new(file, byte, &mut pause).map_err(locking())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole after each call; and what a panic left undone is done by the next leader.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a store finds the process's part in its journal.
pub(crate) type JournalSlot = Mutex<Weak<Journal>>;

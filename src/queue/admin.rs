//! Makers and removers: of groups, and of the queue itself.
//!
//! They take turns by a lock of the kernel on the queue file, which goes with its holder. Producers and
//! consumers never wait for it.
//!
//! **Sending users away.** A mark first (a group LEAVING, a queue REMOVING), then a look at the records. A
//! user writes its record first and then looks at the mark, so one of the two sees the other: when the
//! remover finds no record, nobody is there and nobody can come. A removal that is refused because of its
//! users does not even mark, so they notice nothing; one that waits for them in vain takes the mark back.
//!
//! **One that dies** leaves its mark, and the lock free. Whoever comes by (the next maker or remover, a
//! sweep, someone who attaches, `repair`) takes the lock, which proves the death, and the mark back: a
//! FORMING group is cleared away, a LEAVING one and a REMOVING queue are in use again. Only REMOVED is for
//! good: it is written when nobody is left, and whoever opens the file by its name then takes that name away.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::sync::atomic::fence;
use std::thread;
use std::time::{Duration, Instant};

use super::attach::Role;
use super::core::QueueCore;
use crate::layout::queue::{REMOVED, REMOVING, group};
use crate::memory::{Memory, Place};
use crate::participant::store::{StoreCore, is_missing};
use crate::participant::token::FileId;
use crate::sys::files::{io_error, open_raw};
use crate::sys::fork::{LockFile, pause_forks};
use crate::sys::lock;
use crate::{Removal, StoreError};

/// The byte of the queue file whose lock makers and removers take.
pub(crate) const ADMIN_BYTE: u64 = 1 << 62;

/// How long they wait for each other.
const PATIENCE: Duration = Duration::from_secs(5);

impl QueueCore {
    /// Removes the queue, when its last user has gone.
    pub(crate) fn remove(&self, store: &Arc<StoreCore>, removal: Removal) -> Result<(), StoreError> {
        let _turn = self.admin_lock(store)?;
        self.end_half_done();
        let word = &self.mapped.words().removed;
        let mark = |removing| word.store(if removing { REMOVING } else { 0 }, SeqCst);
        // Who writes the journal stops by itself: nothing comes any more.
        let journal = self.mapped.geometry().journal();
        let uses = |role| !matches!(role, Role::Consumer { group, .. } if Some(group) == journal);
        self.send_away(store, removal, ("queue", &self.name), uses, mark)?;
        word.store(REMOVED, Release);
        self.unlink(store)?;
        crate::durable::record_change(store)
    }

    /// Marks something as being removed, and waits until nobody uses it any more. In vain: the mark is taken
    /// back.
    pub(super) fn send_away(
        &self,
        store: &Arc<StoreCore>,
        removal: Removal,
        (what, name): (&'static str, &str),
        uses: impl Fn(Role) -> bool,
        mark: impl Fn(bool),
    ) -> Result<(), StoreError> {
        let refused = || {
            store.recover_dead()?;
            let user = self.attachments().find(|(_, who)| uses(who.role));
            user.map_or(Ok(()), |(_, who)| {
                let by = format!("{} uses it", store.describe(who.owner));
                Err(StoreError::InUse { what, name: name.to_owned(), by })
            })
        };
        let longest = match removal {
            Removal::IfUnused => {
                refused()?;
                Duration::ZERO
            }
            Removal::WaitFor(longest) => longest,
        };
        let deadline = Instant::now().checked_add(longest);
        mark(true);
        // Between the mark and the look at the records; the other side has one between its record and its
        // look at the mark.
        fence(SeqCst);
        self.ring_everyone();
        loop {
            match refused() {
                Ok(()) => return Ok(()),
                Err(StoreError::InUse { .. }) if deadline.is_none_or(|at| Instant::now() < at) => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    mark(false);
                    return Err(error);
                }
            }
        }
    }

    /// Ends what a dead maker or remover left half done. Nothing happens while a living one is at it.
    pub(crate) fn tidy(&self, store: &StoreCore) {
        let groups = 0..self.mapped.geometry().max_groups as u8;
        let half_done = |index| is_half_done(self.mapped.group(index).state.load(Acquire));
        // What the system refuses now, the next who comes by tries again.
        if (self.is_removing() || groups.into_iter().any(half_done))
            && let Ok(Some(_turn)) = try_admin_lock(store, &self.name)
        {
            self.end_half_done();
        }
    }

    fn is_removing(&self) -> bool {
        self.mapped.words().removed.load(Acquire) == REMOVING
    }

    /// As `tidy`, under the admin lock: so whoever began is dead.
    pub(super) fn end_half_done(&self) {
        if self.is_removing() {
            self.mapped.words().removed.store(0, SeqCst);
        }
        for index in 0..self.mapped.geometry().max_groups as u8 {
            let state = &self.mapped.group(index).state;
            match state.load(Acquire) {
                group::FORMING => {
                    self.mapped.fetch_and(Place::Active, !(1 << index));
                    state.store(group::FREE, Release);
                }
                group::LEAVING if self.mapped.load(Place::Active, Acquire) & 1 << index != 0 => {
                    state.store(group::ACTIVE, SeqCst);
                }
                // Producers have stopped respecting it: it is as good as gone.
                group::LEAVING => state.store(group::FREE, Release),
                _ => {}
            }
        }
    }

    /// Takes the name from a queue that is REMOVED. Its remover died before it did.
    pub(crate) fn unlink_removed(&self, store: &StoreCore) -> Result<(), StoreError> {
        match self.admin_lock(store) {
            // Somebody was faster.
            Err(error) if is_missing(&error) => Ok(()),
            turn => {
                let _turn = turn?;
                self.unlink(store)
            }
        }
    }

    /// Takes the queue's name away, unless it is a newer queue's by now. Under the admin lock: nobody else
    /// takes a name away meanwhile, and a newer queue gets it only after it was.
    fn unlink(&self, store: &StoreCore) -> Result<(), StoreError> {
        let path = store.queues.path().join(&self.name);
        let named = open_raw(&store.queues, &self.name, false).map_err(io_error("opening", &path))?;
        let same = |other| Ok::<_, io::Error>(FileId::of(&named)? == FileId::of(other)?);
        if same(self.mapped.file()).map_err(io_error("looking at", &path))? {
            store.queues.unlink(&self.name).map_err(io_error("removing", &path))?;
        }
        Ok(())
    }

    pub(super) fn admin_lock(&self, store: &StoreCore) -> Result<LockFile, StoreError> {
        let path = store.queues.path().join(&self.name);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let locked = try_admin_lock(store, &self.name).map_err(io_error("locking", &path))?;
            if let Some(lock) = locked {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(StoreError::InUse {
                    what: "queue",
                    name: self.name.clone(),
                    by: "another process is removing it, or making or removing a group".to_owned(),
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a group in this state has a living maker or remover, or a dead one.
fn is_half_done(state: u64) -> bool {
    matches!(state, group::FORMING | group::LEAVING)
}

/// The admin lock of a queue, if it is free.
fn try_admin_lock(store: &StoreCore, name: &str) -> io::Result<Option<LockFile>> {
    let mut pause = pause_forks()?;
    let file = open_raw(&store.queues, name, true)?;
    if !lock::try_write(file.as_fd(), ADMIN_BYTE)? {
        return Ok(None);
    }
    LockFile::new(file, ADMIN_BYTE, &mut pause).map(Some)
}

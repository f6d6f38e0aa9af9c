//! The thread that writes for those who do not wait: one for a process and store.
//!
//! While there is traffic it writes batch after batch, and looks again within a fraction of a millisecond when there
//! was none: so a publisher makes no system call to wake it. After a while without traffic it sleeps on a futex
//! that the next publisher rings. It holds back while others lead.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Inner, Led, leader, lock};
use crate::journal::JournalError;
use crate::layout::queue::careful;
use crate::queue::bells::barrier;
use crate::sys::futex;
use crate::{Level, StoreError};

/// Between two looks while there may be traffic.
const LOOK: Duration = Duration::from_micros(50);

/// Looks without a message before it sleeps: some milliseconds.
const LOOKS: u32 = 32;

/// Between two looks while others lead.
const BACK: Duration = Duration::from_millis(1);

/// The longest sleep: what groups settled is written at least this often.
const NAP: Duration = Duration::from_millis(100);

/// After an error that may pass, such as a full disk.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct WriterThread {
    handle: JoinHandle<()>,
}

impl WriterThread {
    pub(super) fn start(inner: Arc<Inner>) -> io::Result<WriterThread> {
        let thread = thread::Builder::new().name("ringway-journal".to_owned());
        let handle = thread.spawn(move || inner.run())?;
        Ok(WriterThread { handle })
    }

    /// Wakes the thread, which has been told to stop, and waits for its end.
    pub(super) fn end(self, inner: &Inner) {
        inner.wake_thread();
        // The last handle may go in a callback, which runs in this very thread.
        if self.handle.thread().id() != thread::current().id() {
            // It does not panic; and if it did, there is nobody to tell.
            let _ = self.handle.join();
        }
    }
}

impl Inner {
    fn run(&self) {
        let mut idle = 0_u32;
        let mut turns = 0;
        while !self.stop.load(Acquire) {
            let others = self.turns.load(Relaxed);
            let turn = if others != turns && !self.watchers.are_there() {
                turns = others;
                Ok(Led::Busy)
            } else {
                self.turn(idle >= LOOKS)
            };
            match turn.and_then(|led| self.look_after().map(|()| led)) {
                Ok(Led::Written) => idle = 0,
                Ok(Led::Busy) => self.sleep_while_others_lead(),
                Ok(Led::Idle) if idle < LOOKS => {
                    idle += 1;
                    thread::sleep(LOOK);
                }
                Ok(Led::Idle) => self.sleep_until_work(),
                Err(StoreError::JournalFailed { .. }) => thread::sleep(NAP),
                Err(_) => thread::sleep(PAUSE),
            }
            self.watchers.look(self);
        }
        // What was published last is not left to chance.
        if !self.failed() {
            let _ = self.write_all();
        }
        self.watchers.look(self);
    }

    /// Writes a batch if there are messages; `all`: or anything else, such as what groups settled.
    fn turn(&self, all: bool) -> Result<Led, StoreError> {
        let worth = lock(&self.leader).has_messages(&self.store) || (all && leader::has_duty(&self.store)?);
        if worth { self.try_lead(all) } else { Ok(Led::Idle) }
    }

    /// What nobody else does: syncs that come by time, segments that are made before they are needed.
    fn look_after(&self) -> Result<(), StoreError> {
        if let Level::SyncEveryTime(time) = self.options.level {
            self.sync_if_due(time)?;
        }
        self.make_spare()
    }

    fn sync_if_due(&self, time: Duration) -> Result<(), StoreError> {
        let synced = self.store.table.journal().synced_ms.load(Relaxed);
        if crate::sys::clock::boot_ms().saturating_sub(synced) < time.as_millis() as u64 {
            return Ok(());
        }
        let mut leader = lock(&self.leader);
        self.as_leader(&mut leader, |leader| leader.sync(&self.store)).map(|_| ())
    }

    /// Gets a segment ready, so that no leader has to wait for it.
    fn make_spare(&self) -> Result<(), StoreError> {
        let segment = super::shared::tail(self.store.table.journal()).segment;
        let made = lock(&self.spares).make(segment);
        match &made {
            Ok(()) => lock(&self.leader).set_halt(0),
            // While there is still room for what was accepted.
            Err(StoreError::Journal(JournalError::NoSpace { .. })) => {
                let mut leader = lock(&self.leader);
                leader.set_halt(careful::NO_SPACE);
                if !leader::has_duty(&self.store)? {
                    return made;
                }
                self.as_leader(&mut leader, |leader| leader.make_room(&self.store))?;
            }
            Err(_) => {}
        }
        made
    }

    fn sleep_while_others_lead(&self) {
        super::confirm::sleep_until_written(&self.store, BACK, || None::<()>);
    }

    /// Sleeps until somebody publishes to a queue where nobody did for a while.
    ///
    /// As with consumers: the mark first, then a barrier, then a look; the publisher's message first, then its look
    /// at the mark (`queue::bells`).
    fn sleep_until_work(&self) {
        let words = self.store.table.journal();
        let heard = words.work_bell.load(Acquire);
        for log in lock(&self.leader).queues() {
            log.queue.mark_writer_asleep();
        }
        fence(SeqCst);
        let nap = NAP.min(barrier());
        let nap = if self.watchers.are_there() { nap.min(BACK) } else { nap };
        if self.stop.load(Acquire) || lock(&self.leader).has_messages(&self.store) {
            return;
        }
        futex::wait(&words.work_bell, heard, Some(nap));
    }
}

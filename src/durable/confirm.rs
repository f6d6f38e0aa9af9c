//! Confirms: who waits until a message is durable.
//!
//! A message is durable once the journal's group has settled it: that is one word, and whoever waits looks at it.
//! Who finds nobody leading leads by itself, so that a single producer waits for nobody but the disk.
//!
//! At the levels that do not sync each batch, a confirm syncs what was written so far, unless that was done since.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicUsize, fence};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{AckOrder, Inner, Journal, Led, lock};
use crate::journal::JournalError;
use crate::participant::store::StoreCore;
use crate::queue::bells::barrier;
use crate::queue::core::QueueCore;
use crate::sys::futex;
use crate::{DurableError, Level, StoreError};

/// The longest sleep of one who waits for a batch: it may be that its leader died.
const NAP: Duration = Duration::from_millis(2);

/// How a handle's messages are waited for.
#[derive(Debug, Clone)]
pub(crate) struct Confirmer {
    journal: Arc<Journal>,
    queue: Arc<QueueCore>,
}

impl Confirmer {
    pub(crate) fn new(journal: Arc<Journal>, queue: Arc<QueueCore>) -> Confirmer {
        Confirmer { journal, queue }
    }

    fn inner(&self) -> &Inner {
        &self.journal.inner
    }

    /// Waits until the message at `position` is durable, at most this long.
    pub(crate) fn wait(&self, position: u64, timeout: Option<Duration>) -> Result<(), DurableError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let inner = self.inner();
        inner.wait_for(deadline, || self.queue.is_written(position))?;
        inner.sync_behind()
    }

    /// Waits until all that one producer published up to `position` is durable.
    ///
    /// What a producer publishes is mostly written in order. But a leader that found a message being written for long
    /// goes on without it, and comes back.
    pub(crate) fn flush(&self, position: u64) -> Result<(), DurableError> {
        let inner = self.inner();
        inner.wait_for(None, || {
            self.queue.is_written(position) && !self.queue.has_unwritten_before(position)
        })?;
        inner.sync_behind()
    }

    /// A future that is ready when the message at `position` is durable.
    pub(crate) fn watch(&self, position: u64) -> Confirmed<'_> {
        Confirmed { confirmer: self, position, watched: false }
    }

    /// Calls back when the message at `position` is durable; in order, for one producer.
    pub(crate) fn on_confirm(&self, position: u64, callback: Arc<Callback>) {
        self.inner().watchers.add(Watcher {
            queue: self.queue.clone(),
            position,
            whom: Whom::Callback(callback),
        });
    }

    /// Waits until an ack is in the journal.
    pub(crate) fn ack(&self, group: u8, position: u64) -> Result<(), DurableError> {
        let inner = self.inner();
        let queue = self.queue.id();
        lock(&inner.acks).push(AckOrder { queue, group, position, taken: false });
        let is_waiting =
            |order: &AckOrder| order.queue == queue && order.group == group && order.position == position;
        inner.wait_for(None, || !lock(&inner.acks).iter().any(is_waiting))?;
        inner.sync_behind()
    }
}

/// What `on_confirm` was given.
pub(crate) type Callback = dyn Fn(u64, Result<(), DurableError>) + Send + Sync;

impl Inner {
    /// Waits for something that a leader does; leads if nobody does.
    fn wait_for(&self, deadline: Option<Instant>, is_done: impl Fn() -> bool) -> Result<(), DurableError> {
        if self.store.forked() {
            return Err(DurableError::Forked);
        }
        loop {
            if is_done() {
                return Ok(());
            }
            if self.failed() {
                return Err(DurableError::Unknown);
            }
            let led = self.try_lead(false);
            self.turns.fetch_add(1, Relaxed);
            let written = matches!(led, Ok(Led::Written));
            match led {
                Err(StoreError::JournalFailed { .. }) => return Err(DurableError::Unknown),
                // Until there is room again.
                Err(StoreError::Journal(JournalError::NoSpace { .. })) | Ok(_) => {}
                Err(error) => return Err(DurableError::Store(Box::new(error))),
            }
            if written {
                continue;
            }
            let left = deadline.map_or(NAP, |at| at.saturating_duration_since(Instant::now()).min(NAP));
            if left.is_zero() {
                return if is_done() { Ok(()) } else { Err(DurableError::Timeout) };
            }
            sleep_until_written(&self.store, left, || is_done().then_some(()));
        }
    }

    /// At the levels that do not sync each batch: syncs what was written until now.
    fn sync_behind(&self) -> Result<(), DurableError> {
        if self.options.level == Level::GroupCommit {
            return Ok(());
        }
        loop {
            let mut leader = lock(&self.leader);
            match self.as_leader(&mut leader, |leader| leader.sync(&self.store)) {
                Ok(Some(())) => return Ok(()),
                Ok(None) => {}
                Err(StoreError::JournalFailed { .. }) => return Err(DurableError::Unknown),
                Err(error) => return Err(DurableError::Store(Box::new(error))),
            }
            drop(leader);
            sleep_until_written(&self.store, Duration::from_millis(1), || None::<()>);
        }
    }
}

/// Sleeps until a batch was written, at most this long, unless `look` finds something.
///
/// The mark first, then a barrier, then the look; the leader acks first and looks at the mark then, with a fence in
/// between.
pub(super) fn sleep_until_written<T>(
    store: &StoreCore,
    nap: Duration,
    look: impl FnOnce() -> Option<T>,
) -> Option<T> {
    let words = store.table.journal();
    let heard = words.written_bell.load(Acquire);
    words.written_wanted.store(1, SeqCst);
    fence(SeqCst);
    let nap = nap.min(barrier());
    let found = look();
    if found.is_none() {
        futex::wait(&words.written_bell, heard, Some(nap));
    }
    found
}

/// Those who are told by the thread.
#[derive(Default)]
pub(super) struct Watchers {
    list: Mutex<Vec<Watcher>>,
    count: AtomicUsize,
}

struct Watcher {
    queue: Arc<QueueCore>,
    position: u64,
    whom: Whom,
}

enum Whom {
    Callback(Arc<Callback>),
    Waker(Waker),
}

impl Whom {
    fn callback(&self) -> Option<&Arc<Callback>> {
        match self {
            Whom::Callback(callback) => Some(callback),
            Whom::Waker(_) => None,
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Watchers {
    pub(super) fn are_there(&self) -> bool {
        self.count.load(Acquire) != 0
    }

    fn add(&self, watcher: Watcher) {
        let mut list = lock(&self.list);
        list.push(watcher);
        self.count.store(list.len(), SeqCst);
    }

    /// Tells those whose message is durable, or whose journal failed. In the order in which they came.
    pub(super) fn look(&self, inner: &Inner) {
        if !self.are_there() {
            return;
        }
        let failed = inner.failed();
        let mut told = Vec::new();
        {
            let mut list = lock(&self.list);
            let mut kept: Vec<Watcher> = Vec::new();
            let mut behind: Vec<Arc<Callback>> = Vec::new();
            for watcher in list.drain(..) {
                // A callback hears of its messages in order.
                let waits = watcher
                    .whom
                    .callback()
                    .is_some_and(|own| behind.iter().any(|other| Arc::ptr_eq(own, other)));
                if failed || (!waits && watcher.queue.is_written(watcher.position)) {
                    told.push(watcher);
                    continue;
                }
                if let Some(own) = watcher.whom.callback().filter(|_| !waits) {
                    behind.push(own.clone());
                }
                kept.push(watcher);
            }
            *list = kept;
            self.count.store(list.len(), SeqCst);
        }
        if told.is_empty() {
            return;
        }
        let synced = inner.sync_behind();
        for Watcher { position, whom, queue } in told {
            match whom {
                Whom::Waker(waker) => waker.wake(),
                Whom::Callback(callback) => {
                    let unknown = synced.is_err() || !queue.is_written(position);
                    callback(position, if unknown { Err(DurableError::Unknown) } else { Ok(()) });
                }
            }
        }
    }
}

/// A future that is ready when a message is durable: see [`Receipt::durable_async`](crate::Receipt::durable_async).
///
/// It runs on any executor, and may be dropped at any time: the message stays as it is.
#[must_use = "futures do nothing unless polled"]
pub struct Confirmed<'p> {
    confirmer: &'p Confirmer,
    position: u64,
    watched: bool,
}

impl fmt::Debug for Confirmed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmed").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Future for Confirmed<'_> {
    type Output = Result<(), DurableError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let confirmer = self.confirmer;
        let inner = confirmer.inner();
        if inner.store.forked() {
            return Poll::Ready(Err(DurableError::Forked));
        }
        let watcher = || Watcher {
            queue: confirmer.queue.clone(),
            position: self.position,
            whom: Whom::Waker(context.waker().clone()),
        };
        if !confirmer.queue.is_written(self.position) && !inner.failed() {
            // Before the last look: who is told in between looks at the list after this.
            inner.watchers.add(watcher());
            self.watched = true;
            inner.wake_thread();
        }
        if inner.failed() {
            return Poll::Ready(Err(DurableError::Unknown));
        }
        if !confirmer.queue.is_written(self.position) {
            return Poll::Pending;
        }
        // Who was woken by the thread finds it synced.
        Poll::Ready(inner.sync_behind())
    }
}

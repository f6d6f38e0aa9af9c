//! The leader: who writes the next batch.
//!
//! Whoever needs durability and finds nobody leading takes the lock of the kernel that makes a leader; there is
//! no process whose task it is. What a leader knows stays in its process, and is good as long as nobody else
//! leads in between.
//!
//! # Death at each step
//!
//! | after | what is left |
//! |---|---|
//! | a message is leased | a lease of a dead process: recovery returns it, the next leader finds it |
//! | the batch is written, in part or whole | bytes beyond the told tail: the next leader writes over them |
//! | the new tail is told | records that are durable, and leases as above: those messages are written again |
//! | some are acked | the same, for the others |
//! | all are acked | sleepers, who look by themselves within milliseconds |
//!
//! A leader that is *paused* holds up those who wait for the disk, and with them whoever needs the slots; what is
//! durable already goes on being delivered. Its lock cannot be taken away: it may be in the middle of a write.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;
use std::time::Instant;

use super::entry::kind;
use super::queue_log::QueueLog;
use super::{AckOrder, shared};
use crate::journal::record::BLOCK;
use crate::journal::{Durability, Files, JournalError, Tail, Writer};
use crate::layout::control::JournalWords;
use crate::layout::queue::careful;
use crate::memory::Memory;
use crate::participant::store::StoreCore;
use crate::ring::Owner;
use crate::sys::files::{Dir, io_error};
use crate::sys::{clock, futex};
use crate::{DurableOptions, Level, StoreError};

/// A move of live messages out of the oldest segment, so that it can go.
#[derive(Debug)]
struct Move {
    segment: u64,
    queue: usize,
    slot: u64,
}

/// What a process knows that leads, or did.
#[derive(Debug)]
pub(super) struct Leader {
    options: DurableOptions,
    writer: Writer<Files>,
    queues: Vec<QueueLog>,
    /// The shared word when the queues were listed.
    listed: Option<u64>,
    /// Whether each queue that there is could be opened. Else what the journal has of the others must stay: no
    /// roster is written, and no segment goes.
    all_known: bool,
    /// The segment in which the queues were named last.
    named: Option<u64>,
    /// The queue that is asked first.
    first: usize,
    moving: Option<Move>,
    moved: Vec<(usize, u64)>,
    /// The segment where it was last seen to which one can go.
    recycled: u64,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// A batch was written.
    Written,
    /// There was nothing to write.
    Idle,
}

impl Leader {
    pub(super) fn new(options: DurableOptions, dir: Dir, store: &StoreCore) -> Result<Leader, StoreError> {
        let files = Files::new(dir, store.policy.clone());
        let writer = Writer::resume(files, super::log_options(&options), store.id)?;
        Ok(Leader {
            options,
            writer,
            queues: Vec::new(),
            listed: None,
            all_known: false,
            named: None,
            first: 0,
            moving: None,
            moved: Vec::new(),
            recycled: 0,
        })
    }

    /// Whether there are messages to write, as far as a glance tells. Without the lock.
    pub(super) fn has_messages(&self, store: &StoreCore) -> bool {
        self.listed != Some(store.table.journal().queues.load(Acquire))
            || self.queues.iter().any(QueueLog::has_messages)
    }

    /// The queues that it knows.
    pub(super) fn queues(&self) -> &[QueueLog] {
        &self.queues
    }

    /// Writes a batch of what there is; `all`: not just some of what groups settled out of order. The caller has
    /// the leader's lock.
    ///
    /// # Errors
    ///
    /// `Failed`: for good, for every process. `NoSpace`: until there is some.
    pub(super) fn lead(
        &mut self,
        store: &Arc<StoreCore>,
        acks: &mut Vec<AckOrder>,
        all: bool,
    ) -> Result<Turn, StoreError> {
        let words = store.table.journal();
        let failed = words.failed.load(Acquire);
        if failed != 0 {
            return Err(StoreError::JournalFailed { path: super::path_of(store), code: failed as i32 });
        }
        self.take_over(store)?;
        self.list(store)?;
        let mut tail = shared::tail(words);
        loop {
            self.writer.begin(tail);
            let fits = self.fill(tail.segment, acks, all);
            if !self.writer.is_empty() {
                break;
            }
            if fits {
                return Ok(Turn::Idle);
            }
            tail = self.next_segment(store, tail)?;
            shared::tell_tail(words, tail);
        }
        let written = self.write(store, acks);
        if written.is_err() {
            self.forget_batch();
        }
        written.map(|()| Turn::Written)
    }

    /// Goes on in a new segment; on a full disk in one that is not needed any more.
    fn next_segment(&mut self, store: &StoreCore, tail: Tail) -> Result<Tail, StoreError> {
        let mut next = self.writer.next_segment(tail);
        if matches!(next, Err(JournalError::NoSpace { .. })) && self.recycle(store, tail)? > 0 {
            next = self.writer.next_segment(tail);
        }
        next.map_err(|error| self.stopped(store, error))
    }

    /// Lets go of what is not needed any more, on a full disk. The caller has the leader's lock.
    pub(super) fn make_room(&mut self, store: &Arc<StoreCore>) -> Result<(), StoreError> {
        self.take_over(store)?;
        self.list(store)?;
        self.recycle(store, shared::tail(store.table.journal())).map(|_| ())
    }

    /// Puts what there is into the batch. `false`: there is more than fits.
    fn fill(&mut self, segment: u64, acks: &mut [AckOrder], all: bool) -> bool {
        if self.named != Some(segment) && self.all_known {
            let ids: Vec<u8> = self.queues.iter().flat_map(|log| log.id.to_le_bytes()).collect();
            let Some(body) = self.writer.reserve(kind::ROSTER, 0, 0, 0, ids.len()) else { return false };
            body.copy_from_slice(&ids);
            self.named = Some(segment);
        }
        let count = self.queues.len();
        if !self.queues.iter_mut().all(|log| log.describe(&mut self.writer, segment)) {
            return false;
        }
        acks.iter_mut().for_each(|order| order.taken = false);
        for order in acks.iter_mut() {
            let log = self.queues.iter_mut().find(|log| log.id == order.queue);
            let Some(log) = log else {
                order.taken = true;
                continue;
            };
            // A message that was delivered early goes first; its ack is in the batch after.
            if log.queue.is_written(order.position) {
                order.taken = log.take_ack(&mut self.writer, order.group, order.position);
                if !order.taken {
                    return false;
                }
            }
        }
        if !self.move_some() {
            return false;
        }
        // Another one first each time, so that none takes all the room.
        self.first = (self.first + 1) % count.max(1);
        let (later, sooner) = self.queues.split_at_mut(self.first.min(count));
        let mut logs = sooner.iter_mut().chain(later);
        logs.all(|log| log.take_messages(&mut self.writer) && log.take_states(&mut self.writer, all))
    }

    /// The batch was not written: the next one begins anew.
    fn forget_batch(&mut self) {
        for log in &mut self.queues {
            log.forget_batch();
        }
        self.named = None;
        self.moving = None;
        self.recycled = 0;
    }

    /// Writes the batch, and tells everyone.
    fn write(&mut self, store: &Arc<StoreCore>, acks: &mut Vec<AckOrder>) -> Result<(), StoreError> {
        let words = store.table.journal();
        let before = shared::tail(words);
        let durability = self.durability(words, &before);
        let began = Instant::now();
        let tail = self.writer.commit(durability).map_err(|error| self.stopped(store, error))?;
        if durability == Durability::Synced {
            note_sync(words, began);
        }
        shared::tell_tail(words, tail);
        let (mut messages, mut message_bytes) = (0, 0);
        for log in &mut self.queues {
            let (count, bytes) = log.batch_written(tail.segment);
            messages += count;
            message_bytes += bytes;
        }
        for (queue, slot) in self.moved.drain(..) {
            self.queues[queue].queue.mapped.segment_word(slot).store(tail.segment, Relaxed);
        }
        acks.retain(|order| !order.taken);
        add(&words.batches, 1);
        add(&words.messages, messages);
        add(&words.message_bytes, message_bytes);
        add(&words.written_bytes, tail.offset - before.offset);
        self.ring(words);
        if self.recycled != tail.segment && self.moving.is_none() {
            // What could not be renamed now is tried again with the next segment; the batch is written.
            if let Err(error @ StoreError::JournalFailed { .. }) = self.recycle(store, tail) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn durability(&self, words: &JournalWords, tail: &Tail) -> Durability {
        let due = match self.options.level {
            Level::GroupCommit => true,
            Level::Os => false,
            Level::SyncEveryMessages(messages) => tail.lsn - tail.durable >= messages,
            Level::SyncEveryTime(time) => {
                clock::boot_ms().saturating_sub(words.synced_ms.load(Relaxed)) >= time.as_millis() as u64
            }
        };
        if due { Durability::Synced } else { Durability::Written }
    }

    /// Syncs what was written and not synced. The caller has the leader's lock.
    pub(super) fn sync(&mut self, store: &StoreCore) -> Result<(), StoreError> {
        let words = store.table.journal();
        let tail = shared::tail(words);
        if tail.durable < tail.lsn {
            let began = Instant::now();
            self.writer.begin(tail);
            let tail = self.writer.commit(Durability::Synced).map_err(|error| self.stopped(store, error))?;
            note_sync(words, began);
            shared::tell_tail(words, tail);
        }
        Ok(())
    }

    /// Wakes those who wait for the batch, for messages, or for room.
    ///
    /// The fence stands between the acks and the looks at who sleeps; a sleeper has a barrier between its mark and
    /// its last look (see `queue::bells`).
    fn ring(&self, words: &JournalWords) {
        fence(SeqCst);
        if words.written_wanted.load(Relaxed) != 0 {
            words.written_wanted.store(0, SeqCst);
            words.written_bell.fetch_add(1, AcqRel);
            futex::wake(&words.written_bell, u32::MAX);
        }
        for log in &self.queues {
            log.queue.ring_for_journal();
        }
    }

    /// Begins anew if somebody else led since, and gives back what that one held if it is dead.
    fn take_over(&mut self, store: &Arc<StoreCore>) -> Result<(), StoreError> {
        let led_by = &store.table.journal().led_by;
        let mine = name_of(store, store.me);
        let last = led_by.load(Acquire);
        if last == mine {
            return Ok(());
        }
        let owner = Owner::new(last as u16);
        if owner != Owner::NOBODY && owner != store.me {
            // Does nothing if it lives.
            store.recover(owner)?;
        }
        for log in &mut self.queues {
            log.begin_anew(store);
        }
        self.named = None;
        self.moving = None;
        led_by.store(mine, Release);
        Ok(())
    }

    /// Finds the queues that there are, if that may have changed.
    fn list(&mut self, store: &Arc<StoreCore>) -> Result<(), StoreError> {
        let now = store.table.journal().queues.load(Acquire);
        if self.listed == Some(now) {
            return Ok(());
        }
        self.queues.retain(|log| !log.queue.is_gone());
        self.all_known = true;
        let mut again = false;
        for name in store.names()? {
            if self.queues.iter().any(|log| log.queue.name == name) {
                continue;
            }
            match store.queue(&name) {
                Ok(queue) => {
                    if let Some(journal) = queue.mapped.geometry().journal() {
                        self.queues.push(QueueLog::new(store, queue, journal)?);
                    }
                }
                Err(StoreError::NoSuchQueue { .. }) => {}
                // Damaged, or there are too many open files here.
                Err(error) => {
                    self.all_known = false;
                    again |= matches!(error, StoreError::Io { .. } | StoreError::Exhausted { .. });
                }
            }
        }
        if again {
            return Ok(());
        }
        self.listed = Some(now);
        self.named = None;
        self.moving = None;
        Ok(())
    }

    /// Lets go of the segments that hold nothing that is needed, and begins to move the oldest messages if the
    /// journal is longer than twice what lives in it and four segments. How many went.
    fn recycle(&mut self, store: &StoreCore, tail: Tail) -> Result<u64, StoreError> {
        self.recycled = tail.segment;
        // In a segment without a batch nothing is said of the queues yet.
        if !self.all_known || tail.offset <= BLOCK as u64 {
            return Ok(0);
        }
        let words = store.table.journal();
        let low = self.queues.iter().filter_map(QueueLog::lowest_segment).min();
        let low = low.unwrap_or(tail.segment).min(tail.segment);
        if low > words.low.load(Relaxed) {
            // What the older ones said of the queues is said again in this one, and must not go before that is safe.
            self.sync(store)?;
        }
        words.low.store(low, Relaxed);
        let gone = self.writer.recycle_below(low).map_err(|error| self.stopped(store, error))?;
        let live: u64 = self.queues.iter().map(QueueLog::live_bytes).sum();
        let segments = tail.segment - low + 1;
        if segments > 4 + 2 * live.div_ceil(self.options.segment_len) {
            self.moving = Some(Move { segment: low, queue: 0, slot: 0 });
        }
        Ok(gone)
    }

    /// Moves some live messages forward. `false`: there are more, and no room for them.
    fn move_some(&mut self) -> bool {
        self.moved.clear();
        let Some(moving) = &mut self.moving else { return true };
        let mut slots = Vec::new();
        while let Some(log) = self.queues.get_mut(moving.queue) {
            slots.clear();
            moving.slot = log.move_forward(&mut self.writer, moving.segment, moving.slot, &mut slots);
            self.moved.extend(slots.iter().map(|&slot| (moving.queue, slot)));
            if moving.slot < log.queue.mapped.capacity() {
                return false;
            }
            *moving = Move { segment: moving.segment, queue: moving.queue + 1, slot: 0 };
        }
        self.moving = None;
        // Once they are written, that segment can go.
        self.recycled = 0;
        true
    }

    /// What an error of the log means for everyone.
    fn stopped(&self, store: &StoreCore, error: JournalError) -> StoreError {
        match &error {
            JournalError::NoSpace { .. } => self.set_halt(careful::NO_SPACE),
            JournalError::Failed { .. } => {
                let words = store.table.journal();
                words.failed.store(code_of(&error), Release);
                self.set_halt(careful::FAILED);
                words.written_bell.fetch_add(1, AcqRel);
                futex::wake(&words.written_bell, u32::MAX);
                for log in &self.queues {
                    log.queue.ring_everyone();
                }
                return StoreError::JournalFailed {
                    path: super::path_of(store),
                    code: code_of(&error) as i32,
                };
            }
            _ => {}
        }
        error.into()
    }

    /// Lets producers publish, or not.
    pub(super) fn set_halt(&self, why: u32) {
        for log in &self.queues {
            let word = &log.queue.mapped.words().careful;
            let is = word.load(Relaxed) & (careful::NO_SPACE | careful::FAILED);
            if is == why || is & careful::FAILED != 0 {
                continue;
            }
            word.fetch_and(!careful::NO_SPACE, AcqRel);
            word.fetch_or(why, AcqRel);
            log.queue.ring_everyone();
        }
    }
}

/// A participant as it is now, for `led_by`.
fn name_of(store: &StoreCore, owner: Owner) -> u64 {
    u64::from(store.table.state(owner).epoch()) << 32 | u64::from(owner.index())
}

/// Whether it is up to this process to write what nobody waits for, such as what groups settled: it led last, or
/// nobody did that lives. Otherwise two that have nothing to do would take the lead from each other for ever, and
/// write what the queues are each time.
pub(super) fn has_duty(store: &StoreCore) -> Result<bool, StoreError> {
    let last = store.table.journal().led_by.load(Acquire);
    let owner = Owner::new(last as u16);
    if owner == Owner::NOBODY || owner == store.me || name_of(store, owner) != last {
        return Ok(true);
    }
    store.probe.is_dead(owner.index()).map_err(io_error("looking for the leader of", store.dir.path()))
}

/// This process has no writer any more: leaves the duty to others.
pub(super) fn resign(store: &StoreCore) {
    let led_by = &store.table.journal().led_by;
    // If it fails somebody else has it.
    let _ = led_by.compare_exchange(name_of(store, store.me), 0, AcqRel, Relaxed);
}

/// The system's number for an error of the journal.
fn code_of(error: &JournalError) -> u64 {
    let code = match error {
        JournalError::Failed { source, .. } | JournalError::Io { source, .. } => source.raw_os_error(),
        _ => None,
    };
    code.unwrap_or(libc::EIO) as u64
}

fn note_sync(words: &JournalWords, began: Instant) {
    words.sync_ns.store(began.elapsed().as_nanos() as u64, Relaxed);
    words.synced_ms.store(clock::boot_ms(), Relaxed);
}

/// Only the leader counts.
fn add(word: &std::sync::atomic::AtomicU64, by: u64) {
    word.store(word.load(Relaxed).wrapping_add(by), Relaxed);
}

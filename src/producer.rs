//! Producers: publish, one by one, in batches, or in place.

use std::cell::Cell;
use std::fmt;
use std::hint;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::thread;
use std::time::{Duration, Instant};

use crate::durable::{Confirmed, Confirmer, confirm};
use crate::layout::queue::careful;
use crate::mapped::Span;
use crate::queue::attach::{Attached, Role};
use crate::ring::{Full, Publisher};
use crate::sys::{clock, membarrier};
use crate::{
    ConfirmError, DurableError, OnFull, Payload, PublishError, PublishFailure, Queue, StoreError, Wait,
};

/// Looks ahead for room between two tries for the exact next slot, with a processor's pause after each.
const LOOKS: u32 = 128;

/// Rounds of looks before an adaptive producer sleeps.
const ROUNDS: u32 = 8;

/// Publishes to a queue. `Send`, not `Sync`: one per thread.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let store = ringway::Store::open_or_create(dir.path().join("store"))?;
/// # let queue = ringway::Queue::options().open_or_create(&store, "orders")?;
/// use ringway::Message;
///
/// let producer = queue.producer().build()?;
/// producer.publish("plain bytes")?;
/// let receipt = producer.publish(Message::json(&["typed", "too"])?.with_type("order"))?;
/// println!("accepted at {}", receipt.position);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Producer {
    attached: Attached,
    publisher: Publisher,
    on_full: OnFull,
    wait: Wait,
    /// Whether sleepers can be reached without a fence here.
    fenced: bool,
    /// The groups that a message is visible to once it is published: of a durable queue only the journal's.
    audience: u64,
    /// The last position that was published to a durable queue; 0 for none.
    last: Cell<u64>,
    on_confirm: Option<Callback>,
    /// Loans that are neither published nor dropped.
    loans: Cell<usize>,
}

/// How a producer is made.
#[derive(Debug)]
pub struct ProducerBuilder {
    queue: Queue,
    exclusive: bool,
    on_full: OnFull,
    wait: Wait,
    on_confirm: Option<Callback>,
}

/// What is called when a message is durable; shared with the thread that calls it.
#[derive(Clone)]
struct Callback(Arc<confirm::Callback>);

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

impl ProducerBuilder {
    pub(crate) fn new(queue: &Queue) -> ProducerBuilder {
        ProducerBuilder {
            queue: queue.clone(),
            exclusive: false,
            on_full: OnFull::default(),
            wait: Wait::default(),
            on_confirm: None,
        }
    }

    /// Takes the producer role alone: no other producer can be made while this one lives, and publishing
    /// needs no locked instruction.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// What `publish` does when there is no free slot. Default: gives the message back.
    pub fn on_full(mut self, policy: OnFull) -> Self {
        self.on_full = policy;
        self
    }

    /// How to wait for a free slot.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Calls back for each message of this producer once it is durable, or once that cannot be known any more; in
    /// order of position, from a thread of the library. For those who neither wait nor poll.
    pub fn on_confirm(
        mut self,
        callback: impl Fn(u64, Result<(), DurableError>) + Send + Sync + 'static,
    ) -> Self {
        self.on_confirm = Some(Callback(Arc::new(callback)));
        self
    }

    /// Makes the producer.
    ///
    /// # Errors
    ///
    /// `Volatile` if `on_confirm` was asked for and the store has no journal;
    /// [`StoreError::RoleTaken`] if another producer is exclusive, or this one is to be and there are others;
    /// `Removed`, `Forked`, `Exhausted`, `Io`.
    pub fn build(self) -> Result<Producer, StoreError> {
        let Queue { store, core } = &self.queue;
        let attached = Attached::new(store, core, Role::Producer { exclusive: self.exclusive })?;
        if self.on_confirm.is_some() && attached.confirmer.is_none() {
            return Err(StoreError::Volatile { path: store.dir.path().to_path_buf() });
        }
        core.mapped.populate();
        let publisher = Publisher::new(&core.mapped, store.me, self.exclusive);
        Ok(Producer {
            attached,
            publisher,
            on_full: self.on_full,
            wait: self.wait,
            fenced: membarrier::available(),
            audience: core.audience(store),
            last: Cell::new(0),
            on_confirm: self.on_confirm,
            loans: Cell::new(0),
        })
    }
}

/// A message was accepted: it is visible, and survives the death of any process.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Receipt<'p> {
    /// Its position in the queue: rises with each message, with gaps.
    pub position: u64,
    /// Whether the queue had it already (idempotent publishing).
    pub duplicate: bool,
    confirmer: Option<&'p Confirmer>,
}

impl<'p> Receipt<'p> {
    /// Waits until the message is durable: synced to the disk, and there after a power cut.
    ///
    /// # Errors
    ///
    /// [`DurableError::Volatile`] if the store has no journal; `Unknown` if the disk failed, which is final: the
    /// message may be there after a restart or not; `Forked`, `Store`.
    pub fn durable(&self) -> Result<(), DurableError> {
        self.confirmer()?.wait(self.position, None)
    }

    /// The same, for at most this long.
    ///
    /// # Errors
    ///
    /// As [`durable`](Self::durable); [`DurableError::Timeout`], after which it can be waited for again.
    pub fn durable_timeout(&self, timeout: Duration) -> Result<(), DurableError> {
        self.confirmer()?.wait(self.position, Some(timeout))
    }

    /// The same as a future, for any executor. Dropping it changes nothing.
    ///
    /// # Errors
    ///
    /// As [`durable`](Self::durable), `Volatile` at once.
    pub fn durable_async(&self) -> Result<Confirmed<'p>, DurableError> {
        Ok(self.confirmer()?.watch(self.position))
    }

    fn confirmer(&self) -> Result<&'p Confirmer, DurableError> {
        self.confirmer.ok_or(DurableError::Volatile)
    }
}

impl Producer {
    /// Publishes. A full queue is met by the producer's policy ([`ProducerBuilder::on_full`]).
    ///
    /// # Errors
    ///
    /// [`PublishError`] gives the message back and says why: `Full`, `TooLarge`, `HeadersTooLarge`,
    /// `NoSpace`, `Removed`, `Forked`, `Io`.
    #[inline(always)]
    pub fn publish<M: Payload>(&self, message: M) -> Result<Receipt<'_>, PublishError<M>> {
        self.publish_by(message, self.on_full)
    }

    /// Publishes, and waits until the message is durable: [`publish`](Self::publish) and
    /// [`Receipt::durable`] in one, which saves waking the thread that would write it otherwise.
    ///
    /// # Errors
    ///
    /// [`PublishError`] as `publish`, with the message: it was not accepted. [`ConfirmError::NotConfirmed`]: it was,
    /// and may be durable or not.
    pub fn publish_confirmed<M: Payload>(&self, message: M) -> Result<Receipt<'_>, ConfirmError<M>> {
        let put = match self.put_inline(&message) {
            Some(position) => Ok(position),
            None => self.put_anywhere(&message, &mut Patience::new(self.on_full)),
        };
        match put {
            Err(failure) => Err(ConfirmError::NotAccepted(PublishError { message, failure })),
            Ok(position) => {
                self.accepted(position, !self.attached.queue.journal_bit());
                let receipt = self.receipt(position);
                match receipt.durable() {
                    Ok(()) => Ok(receipt),
                    Err(error) => Err(ConfirmError::NotConfirmed { position, error }),
                }
            }
        }
    }

    /// Waits until all that this producer published is durable.
    ///
    /// # Errors
    ///
    /// As [`Receipt::durable`].
    pub fn flush(&self) -> Result<(), DurableError> {
        let confirmer = self.attached.confirmer.as_ref().ok_or(DurableError::Volatile)?;
        // What one producer publishes is never written after what it publishes later.
        if self.last.get() == 0 { Ok(()) } else { confirmer.flush(self.last.get()) }
    }

    /// Publishes, never waits.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn try_publish<M: Payload>(&self, message: M) -> Result<Receipt<'_>, PublishError<M>> {
        self.publish_by(message, OnFull::Reject)
    }

    /// Publishes, waits for a free slot at most this long.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn publish_timeout<M: Payload>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Receipt<'_>, PublishError<M>> {
        self.publish_by(message, OnFull::Block(timeout))
    }

    /// Publishes many, each with its own result, in order; waits by the producer's policy, once for all
    /// together. Once the queue is found full the rest is refused as well, so that nothing overtakes.
    /// Sleeping consumers are woken once at the end.
    pub fn publish_batch<M: Payload>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Vec<Result<Receipt<'_>, PublishError<M>>> {
        let mut patience = Patience::new(self.on_full);
        let mut full = None;
        let results = messages.into_iter().map(|message| {
            if let Some(capacity) = full {
                return Err(PublishError { message, failure: PublishFailure::Full { capacity } });
            }
            match self.put(&message, &mut patience) {
                Ok(position) => {
                    self.note(position);
                    Ok(self.receipt(position))
                }
                Err(failure) => {
                    if let PublishFailure::Full { capacity } = failure {
                        full = Some(capacity);
                    }
                    Err(PublishError { message, failure })
                }
            }
        });
        let results: Vec<_> = results.collect();
        // If none was published there is nobody to wake; and in a forked child no word to look at.
        if results.iter().any(Result::is_ok) {
            self.attached.queue.ring_consumers(self.fenced, self.audience);
        }
        results
    }

    /// Publishes many in order, up to the first that is refused; waits by the producer's policy, once for all
    /// together. Nothing is allocated. Sleeping consumers are woken once at the end. How many there were.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let store = ringway::Store::open_or_create(dir.path().join("store"))?;
    /// # let queue = ringway::Queue::options().open_or_create(&store, "ticks")?;
    /// let producer = queue.producer().build()?;
    /// let ticks = ["EURUSD 1.0812", "EURUSD 1.0813"];
    /// if let Err((published, error)) = producer.publish_all(ticks) {
    ///     println!("{published} of {} published: {}", ticks.len(), error.failure);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// How many were accepted before, and the one that was not, as in [`publish`](Self::publish).
    pub fn publish_all<M: Payload>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<usize, (usize, PublishError<M>)> {
        let mut patience = Patience::new(self.on_full);
        let mut published = 0;
        let mut refused = None;
        for message in messages {
            match self.put(&message, &mut patience) {
                Ok(position) => {
                    self.note(position);
                    published += 1;
                }
                Err(failure) => {
                    refused = Some(PublishError { message, failure });
                    break;
                }
            }
        }
        if published > 0 {
            self.attached.queue.ring_consumers(self.fenced, self.audience);
        }
        refused.map_or(Ok(published), |error| Err((published, error)))
    }

    /// A slot for a payload of `len` bytes, to be filled in place; its content is what the slot held before.
    /// Waits by the producer's policy.
    ///
    /// A loan that is leaked (`mem::forget`) keeps its slot until this process ends, and ordered groups wait
    /// for it.
    ///
    /// # Errors
    ///
    /// `NotTrusted` unless the store was opened with
    /// [`StoreOptions::trust_peers`](crate::StoreOptions::trust_peers); else as [`publish`](Self::publish).
    pub fn loan(&self, len: usize) -> Result<Loan<'_>, PublishFailure> {
        if !self.attached.store.trusted {
            return Err(PublishFailure::NotTrusted);
        }
        let (position, span) = self.take_slot(0, len, &mut Patience::new(self.on_full))?;
        self.loans.set(self.loans.get() + 1);
        // SAFETY: the caller of `trust_peers` has stated that all writers follow the protocol, by which a
        // claimed slot is its claimant's alone until it is finished; the loan borrows the producer, which
        // keeps the mapping.
        let payload = unsafe { span.as_payload_mut() };
        Ok(Loan { producer: self, position, payload, published: false })
    }

    #[inline(always)]
    fn publish_by<M: Payload>(&self, message: M, on_full: OnFull) -> Result<Receipt<'_>, PublishError<M>> {
        let put = match self.put_inline(&message) {
            Some(position) => Ok(position),
            None => self.put_anywhere(&message, &mut Patience::new(on_full)),
        };
        match put {
            Ok(position) => {
                self.accepted(position, self.audience);
                Ok(self.receipt(position))
            }
            Err(failure) => Err(PublishError { message, failure }),
        }
    }

    #[inline(always)]
    fn receipt(&self, position: u64) -> Receipt<'_> {
        Receipt { position, duplicate: false, confirmer: self.attached.confirmer.as_ref() }
    }

    /// A message was published: wakes those of its audience who are among these.
    #[inline(always)]
    fn accepted(&self, position: u64, groups: u64) {
        self.note(position);
        self.attached.queue.ring_consumers(self.fenced, self.audience & groups);
    }

    /// Remembers what has to be confirmed.
    #[inline(always)]
    fn note(&self, position: u64) {
        if let Some(confirmer) = &self.attached.confirmer {
            self.last.set(position);
            if let Some(callback) = &self.on_confirm {
                confirmer.on_confirm(position, callback.0.clone());
            }
        }
    }

    /// Publishes without waking anyone.
    #[inline(always)]
    fn put<M: Payload>(&self, message: &M, patience: &mut Patience) -> Result<u64, PublishFailure> {
        match self.put_inline(message) {
            Some(position) => Ok(position),
            None => self.put_anywhere(message, patience),
        }
    }

    /// The hot path: the next position is known to be free, the message fits its slot, and no slot has an
    /// extent to give back. `None`: nothing was done.
    ///
    /// Death after the claim: the position is voided by whoever proves the death. Death after `finish`: it is
    /// published.
    #[inline(always)]
    fn put_inline<M: Payload>(&self, message: &M) -> Option<u64> {
        let (headers, payload) = (message.encoded_headers(), message.payload_bytes());
        let mapped = &self.attached.queue.mapped;
        let len = headers.len() + payload.len();
        if self.attached.forked() || !mapped.is_plain(len) || message.header_problem().is_some() {
            return None;
        }
        let view = mapped.view();
        let position = self.publisher.claim_known(&view)?;
        view.inline_span(position, headers.len(), len).write(headers, payload);
        self.publisher.finish(&view, position, len as u32);
        Some(position)
    }

    /// The same wherever the message goes, and however long it takes.
    #[inline(never)]
    fn put_anywhere<M: Payload>(&self, message: &M, patience: &mut Patience) -> Result<u64, PublishFailure> {
        if let Some(problem) = message.header_problem() {
            return Err(problem);
        }
        let (headers, payload) = (message.encoded_headers(), message.payload_bytes());
        let (position, span) = self.take_slot(headers.len(), payload.len(), patience)?;
        span.write(headers, payload);
        let view = self.attached.queue.mapped.view();
        self.publisher.finish(&view, position, (headers.len() + payload.len()) as u32);
        Ok(position)
    }

    /// Claims a position and makes room there.
    fn take_slot(
        &self,
        headers: usize,
        payload: usize,
        patience: &mut Patience,
    ) -> Result<(u64, Span), PublishFailure> {
        let queue = &self.attached.queue;
        if self.attached.forked() {
            return Err(PublishFailure::Forked);
        }
        if queue.is_removed() && queue.stops(&self.attached.store) {
            return Err(PublishFailure::Removed);
        }
        let careful = queue.mapped.words().careful.load(Acquire);
        if careful & careful::FAILED != 0 {
            return Err(PublishFailure::JournalFailed);
        }
        if careful & careful::NO_SPACE != 0 {
            return Err(PublishFailure::JournalFull);
        }
        let (found, limit) = (headers.saturating_add(payload), queue.mapped.geometry().max_message as usize);
        if found > limit {
            return Err(PublishFailure::TooLarge { found, limit });
        }
        let claimed = self.publisher.claim(&queue.mapped.view());
        let position = claimed.or_else(|Full| self.claim_when_full(patience))?;
        match queue.mapped.prepare(position, headers, payload) {
            Ok(span) => Ok((position, span)),
            Err(error) => {
                self.publisher.abandon(&queue.mapped, position);
                let no_space = error.raw_os_error() == Some(libc::ENOSPC);
                Err(if no_space {
                    PublishFailure::NoSpace { bytes: found }
                } else {
                    PublishFailure::Io(error)
                })
            }
        }
    }

    /// Waits for a position: looks ahead for room, tries the exact next one after a number of looks, and
    /// sleeps after a number of rounds.
    #[cold]
    fn claim_when_full(&self, patience: &mut Patience) -> Result<u64, PublishFailure> {
        let Attached { store, queue, .. } = &self.attached;
        let try_claim = || self.publisher.claim(&queue.mapped.view()).ok();
        for round in 0_u64.. {
            if queue.stops(store) {
                return Err(PublishFailure::Removed);
            }
            // It may be the dead who keep it full.
            let swept = queue.tend(store, clock::coarse_ms(), None);
            if swept && let Some(position) = try_claim() {
                return Ok(position);
            }
            let Some(left) = patience.left() else {
                return Err(PublishFailure::Full { capacity: queue.mapped.geometry().capacity });
            };
            if round == 0 {
                // What this producer published without waking anyone must not sleep while it waits.
                queue.ring_consumers(self.fenced, self.audience);
            }
            let sleeps = match self.wait {
                Wait::Spin => false,
                Wait::Adaptive => round >= u64::from(ROUNDS),
                Wait::Park => true,
            };
            if !sleeps && self.wait == Wait::Adaptive && round > 0 {
                // Where there are more processes than processors, it may keep out the consumer it waits for.
                thread::yield_now();
            }
            let found = if sleeps { queue.sleep_for_room(left, try_claim) } else { self.look_for_room() };
            if let Some(position) = found.or_else(try_claim) {
                return Ok(position);
            }
        }
        unreachable!("the loop ends by a return")
    }

    fn look_for_room(&self) -> Option<u64> {
        let mapped = &self.attached.queue.mapped;
        for _ in 0..LOOKS {
            if self.publisher.room_ahead(mapped) {
                break;
            }
            hint::spin_loop();
        }
        None
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.loans.get() != 0 {
            self.attached.leave_for_recovery();
        }
    }
}

/// How long to wait for room. The clock is read when it is needed first.
#[derive(Debug, Clone, Copy)]
enum Patience {
    None,
    NotNeededYet(Duration),
    Until(Instant),
    ForEver,
}

impl Patience {
    fn new(on_full: OnFull) -> Patience {
        match on_full {
            OnFull::Reject => Patience::None,
            OnFull::Block(longest) => Patience::NotNeededYet(longest),
        }
    }

    /// What is left; `None` when it is over.
    fn left(&mut self) -> Option<Duration> {
        if let Patience::NotNeededYet(longest) = *self {
            *self = Instant::now().checked_add(longest).map_or(Patience::ForEver, Patience::Until);
        }
        match *self {
            Patience::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                (!left.is_zero()).then_some(left)
            }
            Patience::ForEver => Some(Duration::MAX),
            Patience::None | Patience::NotNeededYet(_) => None,
        }
    }
}

/// A slot to be filled in place. Dropping it abandons it: nobody sees it, and the slot is free again in the
/// next lap.
#[derive(Debug)]
#[must_use = "dropping a loan abandons it"]
pub struct Loan<'p> {
    producer: &'p Producer,
    position: u64,
    payload: &'p mut [u8],
    published: bool,
}

impl<'p> Loan<'p> {
    /// Makes the message visible.
    ///
    /// # Errors
    ///
    /// `Forked`, in a child of the process that took the loan.
    pub fn publish(mut self) -> Result<Receipt<'p>, PublishFailure> {
        let Attached { store, queue, .. } = &self.producer.attached;
        if store.forked() {
            return Err(PublishFailure::Forked);
        }
        let len = self.payload.len() as u32;
        self.producer.publisher.finish(&queue.mapped, self.position, len);
        self.published = true;
        let producer = self.producer;
        producer.accepted(self.position, producer.audience);
        Ok(producer.receipt(self.position))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let Attached { store, queue, .. } = &self.producer.attached;
        if store.forked() {
            return;
        }
        self.producer.loans.set(self.producer.loans.get() - 1);
        if !self.published {
            self.producer.publisher.abandon(&queue.mapped, self.position);
        }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.payload
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.payload
    }
}

//! A delivery: a message under a lease, to be settled.

mod held;
pub(crate) mod policy;

use std::fmt;
use std::mem::ManuallyDrop;
use std::time::Duration;

use serde::de::DeserializeOwned;

pub(crate) use self::held::Held;
use self::policy::REASON_REJECTED;
use crate::mapped::Span;
use crate::ring::settle::{LeaseLost, Return};
use crate::sys::clock;
use crate::{Consumer, DurableError, HeadersRef, LEASE_BOUNDS, Message, SettleError, SettleFailure};

/// The longest delay that can be asked for.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A message under a lease. Dropping it unsettled is a [`nack`](Self::nack).
///
/// The methods that settle take it by value, and give it back in the error. After
/// [`SettleFailure::LeaseLost`] there is nothing left to do with it but to drop it: the message went to
/// somebody else.
#[must_use = "a delivery that is dropped unsettled is nacked"]
pub struct Delivery<'c> {
    consumer: &'c Consumer,
    /// Given back to the consumer when this is dropped. In a box, so that a delivery is two words, however
    /// often it is moved.
    parcel: ManuallyDrop<Box<Parcel>>,
}

/// What a delivery holds. Reused with its buffer.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    pub(crate) held: Held,
    pub(crate) body: Body,
    /// A private copy: headers, then payload.
    pub(crate) buffer: Vec<u8>,
    /// Nothing is left to settle.
    pub(crate) settled: bool,
}

/// Where the bytes are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    /// In the buffer, with this many bytes of headers.
    Copied(usize),
    /// In the ring: the store trusts its peers, and the lease is until death.
    InPlace(Span),
}

impl Default for Body {
    fn default() -> Body {
        Body::Copied(0)
    }
}

/// A message that was received and deleted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Received {
    /// Its position.
    pub position: u64,
    /// Headers and payload.
    pub message: Message,
}

impl<'c> Delivery<'c> {
    #[inline(always)]
    pub(crate) fn new(consumer: &'c Consumer, parcel: Box<Parcel>) -> Delivery<'c> {
        consumer.in_flight.set(consumer.in_flight.get() + 1);
        Delivery { consumer, parcel: ManuallyDrop::new(parcel) }
    }

    /// Headers and payload.
    #[inline(always)]
    fn bytes(&self) -> (&[u8], &[u8]) {
        match self.parcel.body {
            Body::Copied(headers) => self.parcel.buffer.split_at(headers),
            // SAFETY: such a body is made only if the caller of `trust_peers` has stated that all writers
            // follow the protocol, by which nobody writes to a slot while it is leased until death; `self`
            // holds that lease, and the mapping.
            Body::InPlace(span) => unsafe { span.as_slices() },
        }
    }

    /// The payload: a private copy, or in place if the store trusts its peers and the lease is until death.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.bytes().1
    }

    /// The headers.
    pub fn headers(&self) -> HeadersRef<'_> {
        HeadersRef::from_encoded(self.bytes().0)
    }

    /// The payload as JSON.
    ///
    /// # Errors
    ///
    /// What serde_json has against it. The delivery is untouched: [`reject`](Self::reject) is for messages
    /// that can never be read.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.payload())
    }

    /// Its position in the queue.
    pub fn position(&self) -> u64 {
        self.parcel.held.position
    }

    /// Which delivery of this message this is, from 1.
    pub fn attempt(&self) -> u16 {
        self.parcel.held.attempts as u16
    }

    /// Failed deliveries before this one: nacked, expired, or ended by the death of the consumer.
    pub fn failures(&self) -> u16 {
        self.parcel.held.lease.failures()
    }

    /// Whether it was delivered before, to anyone.
    pub fn redelivered(&self) -> bool {
        self.parcel.held.attempts > 1
    }

    /// What is left of a timed lease; `None` for a lease until death.
    pub fn remaining(&self) -> Option<Duration> {
        if self.consumer.attached.forked() {
            return self.parcel.held.is_timed().then_some(Duration::ZERO);
        }
        let deadline =
            self.parcel.held.deadline(&self.consumer.attached.queue.mapped, self.consumer.group)?;
        Some(Duration::from_millis(deadline.saturating_sub(clock::boot_ms())))
    }

    /// Whether the lease was lost: the message is, or will be, somebody else's.
    pub fn lost(&self) -> bool {
        self.consumer.attached.forked()
            || !self.parcel.held.stands(&self.consumer.attached.queue.mapped, self.consumer.group)
    }

    /// Starts a timed lease anew, for this long from now (1 ms to 12 h). For a lease until death there is
    /// nothing to do.
    ///
    /// # Errors
    ///
    /// `LeaseLost`, `BadTime`, `Forked`.
    pub fn extend(&mut self, lease: Duration) -> Result<(), SettleFailure> {
        let (least, most) = LEASE_BOUNDS;
        if lease < least || lease > most {
            return Err(SettleFailure::BadTime { found: lease, least, most });
        }
        if self.consumer.attached.forked() {
            return Err(SettleFailure::Forked);
        }
        // The clock tells whole milliseconds, and has begun the next one.
        let deadline = clock::boot_ms() + 1 + lease.as_millis() as u64;
        let mapped = &self.consumer.attached.queue.mapped;
        self.parcel
            .held
            .extend(mapped, self.consumer.group, deadline)
            .map_err(|LeaseLost| SettleFailure::LeaseLost)
    }

    /// Done: the group has it no more.
    ///
    /// # Errors
    ///
    /// `LeaseLost`: it ran out before, and the message is redelivered. `Forked`. The delivery comes back in
    /// the error.
    #[inline(always)]
    pub fn ack(self) -> Result<(), SettleError<Self>> {
        let consumer = self.consumer;
        self.settle(|held| {
            held.ack(&consumer.view())?;
            consumer.attached.queue.ring_producers(consumer.fenced);
            Ok(())
        })
    }

    /// Done, and known to be: waits until the ack is in the journal and synced. A plain [`ack`](Self::ack) is in it
    /// soon after; what was not when the power goes is delivered again.
    ///
    /// # Errors
    ///
    /// [`DurableError::Settle`] as `ack`; else the message is acked for all who live, and the ack may not outlive
    /// a power cut. `Volatile`: the store has no journal; the message is given back as by [`release`](Self::release).
    pub fn ack_durable(self) -> Result<(), DurableError> {
        let consumer = self.consumer;
        let Some(confirmer) = &consumer.attached.confirmer else {
            // If its lease was lost it is given back already.
            let _ = self.release();
            return Err(DurableError::Volatile);
        };
        let position = self.position();
        self.ack().map_err(|error| DurableError::Settle(error.into_failure()))?;
        confirmer.ack(consumer.group, position)
    }

    /// Failed: once more after the group's backoff, or dead if it failed as often as it may.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn nack(self) -> Result<(), SettleError<Self>> {
        let consumer = self.consumer;
        self.settle(|held| held.fail(consumer, None))
    }

    /// Failed: once more after this time (at most a year), or dead if it failed as often as it may.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack), and `BadTime`.
    pub fn nack_after(self, delay: Duration) -> Result<(), SettleError<Self>> {
        let consumer = self.consumer;
        self.checked(delay)?.settle(|held| held.fail(consumer, Some(delay.as_millis() as u64)))
    }

    /// Not now: once more at once, to anyone; not counted as a failure.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn release(self) -> Result<(), SettleError<Self>> {
        self.defer(Duration::ZERO)
    }

    /// Not now: once more after this time (at most a year); not counted as a failure.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack), and `BadTime`.
    pub fn defer(self, delay: Duration) -> Result<(), SettleError<Self>> {
        let consumer = self.consumer;
        self.checked(delay)?.settle(|held| {
            let due_ms = clock::due_in(delay.as_millis() as u64);
            held.give_back(consumer, Return::Retry { due_ms, failures: held.lease.failures() })
        })
    }

    /// Never again: a dead letter now, for this reason. The first 240 bytes of the last 64 reasons of a group
    /// are kept.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn reject(self, reason: &str) -> Result<(), SettleError<Self>> {
        let consumer = self.consumer;
        self.settle(|held| {
            // The note first: a dead letter without its reason would be worse than a reason without its dead
            // letter.
            consumer.attached.queue.note(consumer.group, held.position, reason);
            held.bury(consumer, REASON_REJECTED)
        })
    }

    fn checked(self, delay: Duration) -> Result<Self, SettleError<Self>> {
        if delay <= DELAY_MAX {
            return Ok(self);
        }
        let failure = SettleFailure::BadTime { found: delay, least: Duration::ZERO, most: DELAY_MAX };
        Err(SettleError { delivery: self, failure })
    }

    #[inline(always)]
    fn settle(mut self, how: impl FnOnce(Held) -> Result<(), LeaseLost>) -> Result<(), SettleError<Self>> {
        if self.consumer.attached.forked() {
            return Err(SettleError { delivery: self, failure: SettleFailure::Forked });
        }
        match how(self.parcel.held) {
            Ok(()) => {
                self.consumer.in_flight.set(self.consumer.in_flight.get() - 1);
                let mut settled = ManuallyDrop::new(self);
                // SAFETY: taken once, here; the delivery is not dropped.
                settled.consumer.spares.keep(unsafe { ManuallyDrop::take(&mut settled.parcel) });
                Ok(())
            }
            Err(LeaseLost) => {
                self.parcel.settled = true;
                self.consumer.attached.queue.count_stale_settle(self.consumer.group);
                Err(SettleError { delivery: self, failure: SettleFailure::LeaseLost })
            }
        }
    }

    /// An owned copy of the message.
    pub(crate) fn to_received(&self) -> Received {
        let message = Message::new(self.payload().to_vec()).with_headers(self.headers().to_owned());
        Received { position: self.parcel.held.position, message }
    }
}

impl Drop for Delivery<'_> {
    #[inline]
    fn drop(&mut self) {
        let consumer = self.consumer;
        if !consumer.attached.forked() {
            consumer.in_flight.set(consumer.in_flight.get() - 1);
            if !self.parcel.settled {
                // A lease that was lost meanwhile needs nothing.
                let _ = self.parcel.held.fail(consumer, None);
            }
        }
        // SAFETY: taken once, here; nothing uses it after.
        consumer.spares.keep(unsafe { ManuallyDrop::take(&mut self.parcel) });
    }
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("position", &self.position())
            .field("attempt", &self.attempt())
            .field("failures", &self.failures())
            .field("bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

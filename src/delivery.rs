//! A delivery: a message under a lease, to be settled.

use crate::{HeadersRef, Message, SettleError, SettleFailure};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::time::Duration;

/// A message under a lease. Dropping it unsettled is a `nack`.
#[derive(Debug)]
#[must_use = "a delivery that is dropped unsettled is nacked"]
pub struct Delivery<'c> {
    c: PhantomData<&'c ()>,
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

impl Delivery<'_> {
    /// The payload.
    pub fn payload(&self) -> &[u8] {
        todo!()
    }
    /// The headers.
    pub fn headers(&self) -> HeadersRef<'_> {
        todo!()
    }
    /// The payload as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        todo!()
    }
    /// Position in the queue.
    pub fn position(&self) -> u64 {
        todo!()
    }
    /// Which delivery of this message this is, from 1.
    pub fn attempt(&self) -> u16 {
        todo!()
    }
    /// Failed deliveries before this one.
    pub fn failures(&self) -> u16 {
        todo!()
    }
    /// Whether it was delivered before.
    pub fn redelivered(&self) -> bool {
        todo!()
    }
    /// What is left of a timed lease; `None` for a lease until death.
    pub fn remaining(&self) -> Option<Duration> {
        todo!()
    }
    /// Whether the lease was lost: the message is somebody else's now.
    pub fn lost(&self) -> bool {
        todo!()
    }
    /// Starts a timed lease anew, for this long from now. Nothing to do for a lease until death.
    pub fn extend(&mut self, lease: Duration) -> Result<(), SettleFailure> {
        todo!()
    }
    /// Done: the group has it no more.
    pub fn ack(self) -> Result<(), SettleError<Self>> {
        todo!()
    }
    /// Failed: once more after the group's backoff.
    pub fn nack(self) -> Result<(), SettleError<Self>> {
        todo!()
    }
    /// Failed: once more after this time.
    pub fn nack_after(self, delay: Duration) -> Result<(), SettleError<Self>> {
        todo!()
    }
    /// Not now: once more at once, not counted as a failure.
    pub fn release(self) -> Result<(), SettleError<Self>> {
        todo!()
    }
    /// Not now: once more after this time, not counted as a failure.
    pub fn defer(self, delay: Duration) -> Result<(), SettleError<Self>> {
        todo!()
    }
    /// Never again: dead now, for this reason.
    pub fn reject(self, reason: &str) -> Result<(), SettleError<Self>> {
        todo!()
    }
}

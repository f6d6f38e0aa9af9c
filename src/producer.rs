//! Producers: publish, one by one, in batches, or in place.

use crate::{OnFull, Payload, PublishError, PublishFailure, StoreError, Wait};
use std::time::Duration;

/// Publishes to a queue. Send, not Sync: one per thread.
#[derive(Debug)]
pub struct Producer {}

/// How a producer is made.
#[derive(Debug)]
pub struct ProducerBuilder {}

impl ProducerBuilder {
    /// Takes the producer role alone.
    pub fn exclusive(self) -> Self {
        todo!()
    }
    /// What `publish` does when there is no free slot.
    pub fn on_full(self, policy: OnFull) -> Self {
        todo!()
    }
    /// How to wait.
    pub fn wait(self, wait: Wait) -> Self {
        todo!()
    }
    /// Makes the producer.
    pub fn build(self) -> Result<Producer, StoreError> {
        todo!()
    }
}

/// A message was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its position in the queue.
    pub position: u64,
    /// Whether the queue had it already (idempotent publishing).
    pub duplicate: bool,
}

/// A slot to be filled in place.
#[derive(Debug)]
#[must_use = "dropping a loan abandons it"]
pub struct Loan<'p> {
    p: &'p mut [u8],
}

impl Loan<'_> {
    /// Makes it visible.
    pub fn publish(self) -> Receipt {
        todo!()
    }
}

impl std::ops::Deref for Loan<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.p
    }
}
impl std::ops::DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.p
    }
}

impl Producer {
    /// Publishes; a full queue is met by the producer's policy.
    pub fn publish<M: Payload>(&self, message: M) -> Result<Receipt, PublishError<M>> {
        todo!()
    }
    /// Publishes, never waits.
    pub fn try_publish<M: Payload>(&self, message: M) -> Result<Receipt, PublishError<M>> {
        todo!()
    }
    /// Publishes, waits for a slot at most this long.
    pub fn publish_timeout<M: Payload>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Receipt, PublishError<M>> {
        todo!()
    }
    /// Publishes many, each with its own result; waiting by the producer's policy, once for all.
    pub fn publish_batch<M: Payload>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Vec<Result<Receipt, PublishError<M>>> {
        todo!()
    }
    /// A slot for a payload of `len` bytes, to be filled in place; needs trust.
    pub fn loan(&self, len: usize) -> Result<Loan<'_>, PublishFailure> {
        todo!()
    }
}

//! Consumers: receive under a lease.

use crate::{Delivery, Lease, ReceiveError, Received, StoreError, Wait};
use std::time::Duration;

/// Receives from a group. Send, not Sync: one per thread.
#[derive(Debug)]
pub struct Consumer {}

/// How a consumer is made.
#[derive(Debug)]
pub struct ConsumerBuilder {}

impl ConsumerBuilder {
    /// Takes the consumer role of the group alone.
    pub fn exclusive(self) -> Self {
        todo!()
    }
    /// How long a delivery stays with this consumer.
    pub fn lease(self, lease: Lease) -> Self {
        todo!()
    }
    /// How many deliveries it may hold: 1 to 65,536 (default 256).
    pub fn max_in_flight(self, deliveries: usize) -> Self {
        todo!()
    }
    /// How to wait.
    pub fn wait(self, wait: Wait) -> Self {
        todo!()
    }
    /// Makes the consumer.
    pub fn build(self) -> Result<Consumer, StoreError> {
        todo!()
    }
}

impl Consumer {
    /// Waits for a message.
    pub fn receive(&self) -> Result<Delivery<'_>, ReceiveError> {
        todo!()
    }
    /// A message if there is one.
    pub fn try_receive(&self) -> Result<Option<Delivery<'_>>, ReceiveError> {
        todo!()
    }
    /// Waits for a message at most this long.
    pub fn receive_timeout(&self, timeout: Duration) -> Result<Option<Delivery<'_>>, ReceiveError> {
        todo!()
    }
    /// Up to `max` messages: waits at most `wait` for the first, and for none after it.
    pub fn receive_batch(&self, max: usize, wait: Duration) -> Result<Vec<Delivery<'_>>, ReceiveError> {
        todo!()
    }
    /// At most once: a message, already acked.
    pub fn receive_and_delete(&self, timeout: Duration) -> Result<Option<Received>, ReceiveError> {
        todo!()
    }
    /// An endless iterator of deliveries.
    pub fn messages(&self) -> Messages<'_> {
        todo!()
    }
    /// Deliveries not settled yet.
    pub fn in_flight(&self) -> usize {
        todo!()
    }
}

/// See [`Consumer::messages`].
#[derive(Debug)]
pub struct Messages<'c> {
    c: &'c Consumer,
}

impl<'c> Iterator for Messages<'c> {
    type Item = Result<Delivery<'c>, ReceiveError>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

//! Ringway itself: publish, receive under a lease, acknowledge.

use std::time::Duration;

use anyhow::{Result, anyhow};
use ringway::{Consumer, OnFull, Producer, Queue, Store};
use tempfile::TempDir;

use super::pending::Outbox;
use super::server::Durability;
use super::{Broker, Line, Receiver, Sender, TICK};
use crate::deliveries::{Batch, settle};

/// A queue is full when the consumer is this far behind; producers wait then.
const CAPACITY: u32 = 16_384;

/// A store.
#[derive(Debug)]
pub struct Ringway {
    directory: TempDir,
}

impl Ringway {
    pub fn new() -> Result<Ringway> {
        Ok(Ringway { directory: Durability::Volatile.directory()? })
    }

    /// The queue, as seen by the calling process, which becomes a participant of its own.
    fn queue(&self, queue: Line<'_>) -> Result<Queue> {
        let store = Store::open_or_create(self.directory.path().join("store"))?;
        // A slot has room for the message and the ring's own 16 bytes.
        let slot = (queue.payload + 16).next_multiple_of(64).max(128);
        let options = Queue::options().capacity(CAPACITY).slot_size(slot as u32);
        Ok(options.open_or_create(&store, queue.name)?)
    }
}

impl Broker for Ringway {
    type Sender = Publisher;
    type Receiver = Subscriber;

    fn receiver(&self, queue: Line<'_>) -> Result<Subscriber> {
        let consumer = self.queue(queue)?.consumer("default").build()?;
        Ok(Subscriber { consumer, batch: Batch::default() })
    }

    fn sender(&self, queue: Line<'_>, window: usize) -> Result<Publisher> {
        let builder = self.queue(queue)?.producer().on_full(OnFull::Block(Duration::from_secs(60)));
        Ok(Publisher { producer: builder.build()?, pending: Outbox::new(window), alone: window == 1 })
    }
}

/// A producer.
#[derive(Debug)]
pub struct Publisher {
    producer: Producer,
    pending: Outbox,
    /// Messages are published one by one.
    alone: bool,
}

impl Sender for Publisher {
    #[inline]
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        if self.alone {
            self.producer.publish(payload).map_err(|error| anyhow!("{}", error.failure))?;
            return Ok(());
        }
        if self.pending.add(payload) { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = self.pending.messages().iter().map(Vec::as_slice);
        self.producer.publish_all(batch).map_err(|(_, error)| anyhow!("{}", error.failure))?;
        self.pending.clear();
        Ok(())
    }
}

/// A consumer.
#[derive(Debug)]
pub struct Subscriber {
    consumer: Consumer,
    batch: Batch,
}

impl Receiver for Subscriber {
    #[inline]
    fn take(&mut self, max: usize, see: impl FnMut(&[u8])) -> Result<usize> {
        if max > 1 {
            return self.batch.take(&self.consumer, max, TICK, see);
        }
        match self.consumer.receive_timeout(TICK)? {
            Some(delivery) => settle(delivery, see).map(|()| 1),
            None => Ok(0),
        }
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

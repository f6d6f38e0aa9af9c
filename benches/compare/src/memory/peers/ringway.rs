//! Ringway, through the safe copying API: every message is leased until death and acked.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ringway::{Consumer, Lease, OnFull, Producer, Queue, QueueOptions, Store, Wait};

use crate::deliveries::{Batch, settle};
use crate::memory::peer::{Pace, Peer, Receiver, Sender, Setup};

/// How long a batch is waited for before the consumer asks again.
const PATIENCE: Duration = Duration::from_secs(1);

/// A queue of one shared, or one exclusive, group.
pub struct Ringway<const EXCLUSIVE: bool> {
    path: PathBuf,
    options: QueueOptions,
    batch: usize,
    payload: usize,
    wait: Wait,
}

impl<const EXCLUSIVE: bool> Ringway<EXCLUSIVE> {
    fn queue(&self) -> Result<Queue> {
        let store = Store::open(&self.path)?;
        Ok(self.options.open_or_create(&store, "messages")?)
    }
}

impl<const EXCLUSIVE: bool> Peer for Ringway<EXCLUSIVE> {
    type Sender = Sending;
    type Receiver = Receiving;

    fn create(setup: &Setup) -> Result<Self> {
        // 16 bytes of a slot are the ring's. Longer messages than fit get an extent of their own.
        let slot = (setup.payload + 16).next_multiple_of(64);
        let slot = if slot <= 4096 { slot } else { 128 };
        let options = Queue::options()
            .capacity(u32::try_from(setup.capacity)?)
            .slot_size(u32::try_from(slot)?)
            .max_message(u32::try_from(setup.payload)?);
        let wait = if setup.pace == Pace::Spin { Wait::Spin } else { Wait::Adaptive };
        let peer = Ringway { path: setup.path(), options, batch: setup.batch, payload: setup.payload, wait };
        Store::create(&peer.path)?;
        // Made here, so that no two participants make it at once.
        peer.queue()?;
        Ok(peer)
    }

    fn sender(&self, _index: usize) -> Result<Sending> {
        let builder = self.queue()?.producer().on_full(OnFull::Block(Duration::MAX)).wait(self.wait);
        let producer = if EXCLUSIVE { builder.exclusive() } else { builder }.build()?;
        Ok(Sending { producer, buffers: vec![vec![0; self.payload]; self.batch], filled: 0 })
    }

    fn receiver(&self, _index: usize) -> Result<Receiving> {
        let builder = self.queue()?.consumer("default").lease(Lease::UntilDeath).wait(self.wait);
        let consumer = if EXCLUSIVE { builder.exclusive() } else { builder }.build()?;
        Ok(Receiving { consumer, most: self.batch, batch: Batch::default() })
    }
}

/// A producer, and the messages that wait for their batch to be full.
pub struct Sending {
    producer: Producer,
    buffers: Vec<Vec<u8>>,
    filled: usize,
}

impl Sender for Sending {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if let [buffer] = &mut self.buffers[..] {
            fill(buffer);
            return match self.producer.publish(&buffer[..]) {
                Ok(_) => Ok(()),
                Err(error) => Err(anyhow!("{}", error.failure)),
            };
        }
        fill(&mut self.buffers[self.filled]);
        self.filled += 1;
        if self.filled == self.buffers.len() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = self.buffers[..self.filled].iter().map(|buffer| &buffer[..]);
        self.filled = 0;
        self.producer.publish_all(batch).map_err(|(_, error)| anyhow!("{}", error.failure))?;
        Ok(())
    }
}

/// A consumer.
pub struct Receiving {
    consumer: Consumer,
    /// Messages of a batch.
    most: usize,
    batch: Batch,
}

impl Receiver for Receiving {
    #[inline]
    fn try_recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        if self.most > 1 {
            return self.batch.take(&self.consumer, self.most, Duration::ZERO, read);
        }
        match self.consumer.try_receive()? {
            Some(delivery) => settle(delivery, read).map(|()| 1),
            None => Ok(0),
        }
    }

    #[inline]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        if self.most == 1 {
            return settle(self.consumer.receive()?, read).map(|()| 1);
        }
        loop {
            match self.batch.take(&self.consumer, self.most, PATIENCE, &mut read)? {
                0 => {}
                found => return Ok(found),
            }
        }
    }
}

//! rtrb, a ring between two threads. Batches are its chunks.

use anyhow::{Result, anyhow};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::memory::peer::{Bytes, Ends, Pace, Peer, Receiver, Sender, Setup};

/// The ring.
pub struct Rtrb<const N: usize> {
    producers: Ends<Producer<Bytes<N>>>,
    consumers: Ends<Consumer<Bytes<N>>>,
    batch: usize,
    pace: Pace,
}

impl<const N: usize> Peer for Rtrb<N> {
    type Sender = Sending<N>;
    type Receiver = Receiving<N>;

    const THREADS: bool = true;

    fn create(setup: &Setup) -> Result<Self> {
        let (producer, consumer) = RingBuffer::new(setup.capacity);
        let (producers, consumers) = (Ends::new([producer]), Ends::new([consumer]));
        Ok(Rtrb { producers, consumers, batch: setup.batch, pace: setup.pace })
    }

    fn sender(&self, index: usize) -> Result<Sending<N>> {
        let producer = self.producers.take(index)?;
        Ok(Sending { producer, buffer: vec![Bytes::ZERO; self.batch], filled: 0, pace: self.pace })
    }

    fn receiver(&self, index: usize) -> Result<Receiving<N>> {
        let consumer = self.consumers.take(index)?;
        Ok(Receiving { consumer, batch: self.batch, pace: self.pace })
    }
}

/// The end to send by, and the messages that wait for their batch to be full.
pub struct Sending<const N: usize> {
    producer: Producer<Bytes<N>>,
    buffer: Vec<Bytes<N>>,
    filled: usize,
    pace: Pace,
}

impl<const N: usize> Sender for Sending<N> {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if let [message] = &mut self.buffer[..] {
            fill(&mut message.0);
            return self.pace.until(|| Ok(self.producer.push(*message).ok()));
        }
        fill(&mut self.buffer[self.filled].0);
        self.filled += 1;
        if self.filled == self.buffer.len() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = &self.buffer[..self.filled];
        if !batch.is_empty() {
            self.pace.until(|| Ok(self.producer.push_entire_slice(batch).ok()))?;
            self.filled = 0;
        }
        Ok(())
    }
}

/// The end to receive by.
pub struct Receiving<const N: usize> {
    consumer: Consumer<Bytes<N>>,
    batch: usize,
    pace: Pace,
}

impl<const N: usize> Receiver for Receiving<N> {
    #[inline]
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        if self.batch == 1 {
            let Ok(message) = self.consumer.pop() else { return Ok(0) };
            read(&message.0);
            return Ok(1);
        }
        let found = self.consumer.slots().min(self.batch);
        let chunk = self.consumer.read_chunk(found).map_err(|error| anyhow!("{error}"))?;
        let (first, second) = chunk.as_slices();
        first.iter().chain(second).for_each(|message| read(&message.0));
        chunk.commit_all();
        Ok(found)
    }

    #[inline]
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.poll(self.pace, read)
    }
}

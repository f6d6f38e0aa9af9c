//! disruptor-rs, one producer and one event poller, between threads. Messages are written and read in place;
//! a poll takes all that is there, which is how it is meant to be used. Batches are those of the publisher.

use anyhow::{Result, bail};
use disruptor::{
    BusySpin, EventPoller, Polling, Producer, SingleConsumerBarrier, SingleProducer, SingleProducerBarrier,
    build_single_producer,
};

use crate::memory::peer::{Bytes, Ends, Pace, Peer, Receiver, Sender, Setup};

/// The ring.
pub struct Disruptor<const N: usize> {
    producers: Ends<SingleProducer<Bytes<N>, SingleConsumerBarrier>>,
    pollers: Ends<EventPoller<Bytes<N>, SingleProducerBarrier>>,
    batch: usize,
    pace: Pace,
}

impl<const N: usize> Peer for Disruptor<N> {
    type Sender = Sending<N>;
    type Receiver = Receiving<N>;

    const THREADS: bool = true;

    fn create(setup: &Setup) -> Result<Self> {
        let builder = build_single_producer(setup.capacity, || Bytes::ZERO, BusySpin);
        let (poller, builder) = builder.new_event_poller();
        let (producers, pollers) = (Ends::new([builder.build()]), Ends::new([poller]));
        Ok(Disruptor { producers, pollers, batch: setup.batch, pace: setup.pace })
    }

    fn sender(&self, index: usize) -> Result<Sending<N>> {
        let producer = self.producers.take(index)?;
        Ok(Sending { producer, buffer: vec![Bytes::ZERO; self.batch], filled: 0, pace: self.pace })
    }

    fn receiver(&self, index: usize) -> Result<Receiving<N>> {
        Ok(Receiving { poller: self.pollers.take(index)?, pace: self.pace })
    }
}

/// The end to send by, and the messages that wait for their batch to be full.
pub struct Sending<const N: usize> {
    producer: SingleProducer<Bytes<N>, SingleConsumerBarrier>,
    buffer: Vec<Bytes<N>>,
    filled: usize,
    pace: Pace,
}

impl<const N: usize> Sender for Sending<N> {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if self.buffer.len() == 1 {
            // Waits for room by itself, spinning.
            self.producer.publish(|event| fill(&mut event.0));
            return Ok(());
        }
        fill(&mut self.buffer[self.filled].0);
        self.filled += 1;
        if self.filled == self.buffer.len() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = &self.buffer[..self.filled];
        if !batch.is_empty() {
            self.pace.until(|| {
                let copied = self.producer.try_batch_publish(batch.len(), |events| {
                    events.zip(batch).for_each(|(event, message)| *event = *message);
                });
                Ok(copied.ok())
            })?;
            self.filled = 0;
        }
        Ok(())
    }
}

/// The end to receive by.
pub struct Receiving<const N: usize> {
    poller: EventPoller<Bytes<N>, SingleProducerBarrier>,
    pace: Pace,
}

impl<const N: usize> Receiver for Receiving<N> {
    #[inline]
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        match self.poller.poll() {
            Ok(mut events) => {
                let mut found = 0;
                for event in &mut events {
                    read(&event.0);
                    found += 1;
                }
                Ok(found)
            }
            Err(Polling::NoEvents) => Ok(0),
            Err(Polling::Shutdown) => bail!("the producer is gone"),
        }
    }

    #[inline]
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.poll(self.pace, read)
    }
}

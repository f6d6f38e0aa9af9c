//! shaq: rings of typed slots in a shared file, for one sender and one receiver or for many. Messages are
//! written and read in place.

use std::fs::File;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;

use anyhow::{Result, anyhow};
use shaq::{error::Error, mpmc, spsc};

use crate::memory::peer::{Bytes, Pace, Peer, Receiver, Sender, Setup};

/// A queue for one sender and one receiver.
pub struct Spsc<const N: usize> {
    file: File,
    setup: Setup,
}

/// A queue for many of both.
pub struct Mpmc<const N: usize> {
    file: File,
    setup: Setup,
}

/// One message.
const ONE: NonZeroUsize = NonZeroUsize::MIN;

impl<const N: usize> Peer for Spsc<N> {
    type Sender = SpscSender<N>;
    type Receiver = SpscReceiver<N>;

    fn create(setup: &Setup) -> Result<Self> {
        let file = new_file(setup)?;
        let size = spsc::minimum_file_size::<Bytes<N>>(setup.capacity);
        // SAFETY: the file is new, so this initializes it for the first time, and the producer is gone again
        // before the one that uses it joins. The messages are bytes, valid in every process.
        unsafe { spsc::Producer::<Bytes<N>>::create(&file, size) }.map_err(explain)?;
        Ok(Spsc { file, setup: setup.clone() })
    }

    fn sender(&self, _index: usize) -> Result<SpscSender<N>> {
        // SAFETY: the only sender of this run; the receiver has the same type.
        let producer = unsafe { spsc::Producer::join(&self.file) }.map_err(explain)?;
        let Setup { batch, pace, .. } = self.setup;
        Ok(SpscSender { producer, buffer: vec![Bytes::ZERO; batch], filled: 0, pace })
    }

    fn receiver(&self, _index: usize) -> Result<SpscReceiver<N>> {
        // SAFETY: the only receiver of this run; the sender has the same type.
        let consumer = unsafe { spsc::Consumer::join(&self.file) }.map_err(explain)?;
        let batch = NonZeroUsize::new(self.setup.batch).unwrap_or(ONE);
        Ok(SpscReceiver { consumer, batch, pace: self.setup.pace })
    }
}

/// The sender, and the messages that wait for their batch to be full.
pub struct SpscSender<const N: usize> {
    producer: spsc::Producer<Bytes<N>>,
    buffer: Vec<Bytes<N>>,
    filled: usize,
    pace: Pace,
}

impl<const N: usize> Sender for SpscSender<N> {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let [message] = &mut self.buffer[..] else {
            fill(&mut self.buffer[self.filled].0);
            self.filled += 1;
            return if self.filled == self.buffer.len() { self.flush() } else { Ok(()) };
        };
        fill(&mut message.0);
        self.pace.until(|| Ok(self.producer.try_write(*message).ok()))
    }

    fn flush(&mut self) -> Result<()> {
        let mut sent = 0;
        while sent < self.filled {
            self.pace.until(|| {
                let mut batch = self.producer.write_batch();
                let before = sent;
                while sent < self.filled && batch.try_write(self.buffer[sent]).is_ok() {
                    sent += 1;
                }
                Ok((sent > before).then_some(()))
            })?;
        }
        self.filled = 0;
        Ok(())
    }
}

/// The receiver.
pub struct SpscReceiver<const N: usize> {
    consumer: spsc::Consumer<Bytes<N>>,
    batch: NonZeroUsize,
    pace: Pace,
}

impl<const N: usize> Receiver for SpscReceiver<N> {
    #[inline]
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        let Some(batch) = self.consumer.try_reserve_read_batch(self.batch) else { return Ok(0) };
        batch.iter().for_each(|message| read(&message.0));
        Ok(batch.len())
    }

    #[inline]
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.poll(self.pace, read)
    }
}

impl<const N: usize> Peer for Mpmc<N> {
    type Sender = MpmcSender<N>;
    type Receiver = MpmcReceiver<N>;

    fn create(setup: &Setup) -> Result<Self> {
        let file = new_file(setup)?;
        let size = mpmc::minimum_file_size::<Bytes<N>>(setup.capacity);
        // SAFETY: the file is new, so this initializes it for the first time. The messages are bytes, valid
        // in every process.
        unsafe { mpmc::Producer::<Bytes<N>>::create(&file, size) }.map_err(explain)?;
        Ok(Mpmc { file, setup: setup.clone() })
    }

    fn sender(&self, _index: usize) -> Result<MpmcSender<N>> {
        // SAFETY: all senders and receivers of this file have the same type.
        let producer = unsafe { mpmc::Producer::join(&self.file) }.map_err(explain)?;
        Ok(MpmcSender { producer, pace: self.setup.pace })
    }

    fn receiver(&self, _index: usize) -> Result<MpmcReceiver<N>> {
        // SAFETY: as above.
        let consumer = unsafe { mpmc::Consumer::join(&self.file) }.map_err(explain)?;
        Ok(MpmcReceiver { consumer, pace: self.setup.pace })
    }
}

/// A sender.
pub struct MpmcSender<const N: usize> {
    producer: mpmc::Producer<Bytes<N>>,
    pace: Pace,
}

impl<const N: usize> Sender for MpmcSender<N> {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        // SAFETY: the slot is filled before the guard goes. It is never uninitialized for us: new files are
        // zeros, and all bytes are valid.
        let mut slot = self.pace.until(|| Ok(unsafe { self.producer.try_reserve_write() }))?;
        let slot: &mut MaybeUninit<Bytes<N>> = slot.as_mut();
        // SAFETY: as above.
        fill(&mut unsafe { slot.assume_init_mut() }.0);
        Ok(())
    }
}

/// A receiver.
pub struct MpmcReceiver<const N: usize> {
    consumer: mpmc::Consumer<Bytes<N>>,
    pace: Pace,
}

impl<const N: usize> Receiver for MpmcReceiver<N> {
    #[inline]
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        let Some(message) = self.consumer.try_reserve_read() else { return Ok(0) };
        read(&message.as_ref().0);
        Ok(1)
    }

    #[inline]
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.poll(self.pace, read)
    }
}

fn new_file(setup: &Setup) -> Result<File> {
    Ok(File::options().read(true).write(true).create_new(true).open(setup.path())?)
}

fn explain(error: Error) -> anyhow::Error {
    anyhow!("shaq: {error:?}")
}

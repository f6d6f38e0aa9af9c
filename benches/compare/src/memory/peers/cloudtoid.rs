//! cloudtoid-interprocess: a byte ring in shared memory, here polled.

use anyhow::{Result, bail};
use cloudtoid_interprocess::{Error, Options, Publisher, Subscriber};

use crate::memory::peer::{Pace, Peer, Receiver, Sender, Setup};

/// Bytes before each message.
const HEADER: usize = 8;

/// The queue. Its file is gone when its last end is closed, and made by the first.
pub struct Cloudtoid {
    options: Options,
    setup: Setup,
}

impl Peer for Cloudtoid {
    type Sender = Sending;
    type Receiver = Receiving;

    fn create(setup: &Setup) -> Result<Self> {
        let bytes = setup.capacity * (setup.payload + HEADER).next_multiple_of(8);
        let options = Options::new(setup.name.clone(), bytes).with_path(setup.dir.clone());
        Ok(Cloudtoid { options, setup: setup.clone() })
    }

    fn sender(&self, _index: usize) -> Result<Sending> {
        let publisher = Publisher::open(&self.options)?;
        Ok(Sending { publisher, buffer: self.setup.buffer(), pace: self.setup.pace })
    }

    fn receiver(&self, _index: usize) -> Result<Receiving> {
        let subscriber = Subscriber::open(&self.options)?;
        Ok(Receiving { subscriber, buffer: self.setup.buffer(), pace: self.setup.pace })
    }
}

/// A publisher.
pub struct Sending {
    publisher: Publisher,
    buffer: Vec<u8>,
    pace: Pace,
}

impl Sender for Sending {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.buffer);
        self.pace.until(|| match self.publisher.try_send(&self.buffer) {
            Ok(()) => Ok(Some(())),
            Err(Error::Full) => Ok(None),
            Err(error) => bail!(error),
        })
    }
}

/// A subscriber.
pub struct Receiving {
    subscriber: Subscriber,
    buffer: Vec<u8>,
    pace: Pace,
}

impl Receiver for Receiving {
    #[inline]
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        let Some(len) = self.subscriber.try_recv_into(&mut self.buffer)? else { return Ok(0) };
        read(&self.buffer[..len]);
        Ok(1)
    }

    #[inline]
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.poll(self.pace, read)
    }
}

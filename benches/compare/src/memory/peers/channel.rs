//! crossbeam's bounded channel, between threads. It waits by itself where there are more participants than
//! processors.

use anyhow::{Result, bail};
use crossbeam_channel::{Receiver as Rx, Sender as Tx, TryRecvError, TrySendError, bounded};

use crate::memory::peer::{Bytes, Pace, Peer, Receiver, Sender, Setup};

/// The channel.
pub struct Channel<const N: usize> {
    tx: Tx<Bytes<N>>,
    rx: Rx<Bytes<N>>,
    pace: Pace,
}

impl<const N: usize> Peer for Channel<N> {
    type Sender = Sending<N>;
    type Receiver = Receiving<N>;

    const THREADS: bool = true;

    fn create(setup: &Setup) -> Result<Self> {
        let (tx, rx) = bounded(setup.capacity);
        Ok(Channel { tx, rx, pace: setup.pace })
    }

    fn sender(&self, _index: usize) -> Result<Sending<N>> {
        Ok(Sending { tx: self.tx.clone(), message: Bytes::boxed(), pace: self.pace })
    }

    fn receiver(&self, _index: usize) -> Result<Receiving<N>> {
        Ok(Receiving { rx: self.rx.clone(), pace: self.pace })
    }
}

/// The end to send by.
pub struct Sending<const N: usize> {
    tx: Tx<Bytes<N>>,
    message: Box<Bytes<N>>,
    pace: Pace,
}

impl<const N: usize> Sender for Sending<N> {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.message.0);
        if self.pace == Pace::Yield {
            return Ok(self.tx.send(*self.message)?);
        }
        self.pace.until(|| match self.tx.try_send(*self.message) {
            Ok(()) => Ok(Some(())),
            Err(TrySendError::Full(_)) => Ok(None),
            Err(TrySendError::Disconnected(_)) => bail!("the channel has no receiver"),
        })
    }
}

/// The end to receive by.
pub struct Receiving<const N: usize> {
    rx: Rx<Bytes<N>>,
    pace: Pace,
}

impl<const N: usize> Receiver for Receiving<N> {
    #[inline]
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        match self.rx.try_recv() {
            Ok(message) => {
                read(&message.0);
                Ok(1)
            }
            Err(TryRecvError::Empty) => Ok(0),
            Err(TryRecvError::Disconnected) => bail!("the channel has no sender"),
        }
    }

    #[inline]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        if self.pace == Pace::Spin {
            return self.poll(self.pace, read);
        }
        read(&self.rx.recv()?.0);
        Ok(1)
    }
}

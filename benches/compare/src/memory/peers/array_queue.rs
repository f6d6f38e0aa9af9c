//! crossbeam's `ArrayQueue`, between threads.

use std::sync::Arc;

use anyhow::Result;
use crossbeam_queue::ArrayQueue;

use crate::memory::peer::{Bytes, Pace, Peer, Receiver, Sender, Setup};

/// The queue, which is both ends.
pub struct Array<const N: usize> {
    queue: Arc<ArrayQueue<Bytes<N>>>,
    message: Box<Bytes<N>>,
    pace: Pace,
}

impl<const N: usize> Array<N> {
    fn end(&self) -> Array<N> {
        Array { queue: self.queue.clone(), message: Bytes::boxed(), pace: self.pace }
    }
}

impl<const N: usize> Peer for Array<N> {
    type Sender = Array<N>;
    type Receiver = Array<N>;

    const THREADS: bool = true;

    fn create(setup: &Setup) -> Result<Self> {
        let queue = Arc::new(ArrayQueue::new(setup.capacity));
        Ok(Array { queue, message: Bytes::boxed(), pace: setup.pace })
    }

    fn sender(&self, _index: usize) -> Result<Array<N>> {
        Ok(self.end())
    }

    fn receiver(&self, _index: usize) -> Result<Array<N>> {
        Ok(self.end())
    }
}

impl<const N: usize> Sender for Array<N> {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.message.0);
        self.pace.until(|| Ok(self.queue.push(*self.message).ok()))
    }
}

impl<const N: usize> Receiver for Array<N> {
    #[inline]
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        let Some(message) = self.queue.pop() else { return Ok(0) };
        read(&message.0);
        Ok(1)
    }

    #[inline]
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.poll(self.pace, read)
    }
}

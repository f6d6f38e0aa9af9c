//! What a peer must be able to do: be made, and give out ends to send and to receive by.
//!
//! The loops of the workloads are generic over these traits, so every peer is compiled into loops of its own.
//! A message is written by a closure that is given its bytes, in the queue where the peer lends them, else in
//! a buffer that the peer then copies; and read by one that is given them where they are.

use std::hint;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// What a queue is made for.
#[derive(Debug, Clone)]
pub struct Setup {
    /// A directory in shared memory that is removed after the run.
    pub dir: PathBuf,
    /// Unique on this machine.
    pub name: String,
    /// Bytes of a message.
    pub payload: usize,
    /// Messages that have room.
    pub capacity: usize,
    /// Ends to receive by.
    pub consumers: usize,
    /// Messages per call.
    pub batch: usize,
    /// How to wait.
    pub pace: Pace,
}

impl Setup {
    /// A path for this queue.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// A buffer for a message.
    pub fn buffer(&self) -> Vec<u8> {
        vec![0; self.payload]
    }
}

/// How to wait for messages and for room, where the peer leaves that to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Try again at once: each participant has a processor of its own.
    Spin,
    /// Try some times, then let others run: there are more participants than processors.
    Yield,
}

/// Tries in a row before a yield.
const TRIES: u32 = 32;

impl Pace {
    /// Tries until something comes of it.
    #[inline]
    pub fn until<T>(self, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let mut tries = 0;
        loop {
            if let Some(found) = attempt()? {
                return Ok(found);
            }
            if self == Pace::Yield && tries >= TRIES {
                thread::yield_now();
            } else {
                tries += 1;
                hint::spin_loop();
            }
        }
    }
}

/// A queue. It is made in the parent, before the participants are forked, and dropped there after they ended.
pub trait Peer: Sized + Send + Sync + 'static {
    /// The end to send by.
    type Sender: Sender;
    /// The end to receive by.
    type Receiver: Receiver;

    /// Whether the participants must be threads of one process.
    const THREADS: bool = false;

    /// Makes the queue. Starts no thread, since the parent forks; what needs threads is made by `sender` and
    /// `receiver`.
    fn create(setup: &Setup) -> Result<Self>;

    /// The producer of this number; called in its process, after all receivers were made.
    fn sender(&self, index: usize) -> Result<Self::Sender>;

    /// The consumer of this number; called in its process.
    fn receiver(&self, index: usize) -> Result<Self::Receiver>;
}

/// The end to send by.
pub trait Sender {
    /// Sends a message that `fill` writes, and waits for room if there is none. With batches it may stay
    /// with the sender until there are enough.
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()>;

    /// Sends what stayed with the sender.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The end to receive by.
pub trait Receiver {
    /// Reads what is there, a batch at most, and says how many messages that was.
    fn try_recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize>;

    /// As `try_recv`, but waits for a message.
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize>;

    /// `recv` by trying again and again.
    #[inline]
    fn poll(&mut self, pace: Pace, mut read: impl FnMut(&[u8])) -> Result<usize> {
        pace.until(|| Ok(Some(self.try_recv(&mut read)?).filter(|&found| found > 0)))
    }
}

/// A message as a value, for queues of typed slots.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub struct Bytes<const N: usize>(pub [u8; N]);

impl<const N: usize> Bytes<N> {
    /// All zeros.
    pub const ZERO: Bytes<N> = Bytes([0; N]);

    /// A message in a box, since the largest would not fit on every stack.
    pub fn boxed() -> Box<Bytes<N>> {
        Box::new(Bytes::ZERO)
    }
}

/// Ends that there are from the start, and that are given out once.
#[derive(Debug)]
pub struct Ends<T>(Mutex<Vec<Option<T>>>);

impl<T> Ends<T> {
    /// These.
    pub fn new(ends: impl IntoIterator<Item = T>) -> Ends<T> {
        Ends(Mutex::new(ends.into_iter().map(Some).collect()))
    }

    /// The end of this number.
    pub fn take(&self, index: usize) -> Result<T> {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.get_mut(index).and_then(Option::take).context("this queue has no more ends to give out")
    }
}

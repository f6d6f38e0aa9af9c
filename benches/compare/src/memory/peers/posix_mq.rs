//! POSIX message queues. Root may make them as deep as the others are; else the system's limits hold, which
//! are 10 messages by default.

use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::mqueue::{
    MQ_OFlag, MqAttr, MqdT, mq_attr_member_t, mq_open, mq_receive, mq_send, mq_set_nonblock, mq_unlink,
};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;

use super::WOULD_BLOCK;
use crate::memory::peer::{Pace, Peer, Receiver, Sender, Setup};
use crate::memory::workload::Workload;

/// What an ordinary user gets.
const DEFAULT_DEPTH: usize = 10;

/// The queue, which has no name any more: all participants inherit its descriptor. `POLLED`: no call sleeps.
pub struct PosixMq<const POLLED: bool> {
    queue: OwnedFd,
    setup: Setup,
}

/// Whether the system allows messages of this length.
pub fn fits(workload: &Workload) -> bool {
    open(&format!("rwc{}_fits", std::process::id()), workload.payload, 1).is_ok()
}

/// Makes a queue of this many messages.
fn open(name: &str, bytes: usize, depth: usize) -> nix::Result<OwnedFd> {
    let name = format!("/{name}");
    let (depth, bytes) = (depth as mq_attr_member_t, bytes as mq_attr_member_t);
    let attributes = MqAttr::new(0, depth, bytes, 0);
    let flags = MQ_OFlag::O_RDWR | MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_CLOEXEC;
    let queue = mq_open(name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attributes))?;
    mq_unlink(name.as_str())?;
    // SAFETY: on Linux it is a file descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(queue.into_raw_fd()) })
}

impl<const POLLED: bool> PosixMq<POLLED> {
    fn end(&self) -> Result<End<POLLED>> {
        let fd = self.queue.as_fd().try_clone_to_owned()?;
        // SAFETY: it is a descriptor of a message queue, and nobody else owns it.
        let queue = unsafe { MqdT::from_raw_fd(fd.into_raw_fd()) };
        let Setup { pace, .. } = self.setup;
        Ok(End { queue, buffer: self.setup.buffer(), pace, blocks: !POLLED })
    }
}

impl<const POLLED: bool> Peer for PosixMq<POLLED> {
    type Sender = End<POLLED>;
    type Receiver = End<POLLED>;

    fn create(setup: &Setup) -> Result<Self> {
        // Only root may; for others the limit stands.
        let _ = setrlimit(Resource::RLIMIT_MSGQUEUE, u64::MAX, u64::MAX);
        let depths = [setup.capacity, DEFAULT_DEPTH].into_iter();
        let mut tries = depths.map(|depth| open(&setup.name, setup.payload, depth));
        let queue =
            tries.find_map(Result::ok).context("the system allows no such queue, see mq_overview(7)")?;
        let peer = PosixMq { queue, setup: setup.clone() };
        if POLLED {
            mq_set_nonblock(&peer.end()?.queue)?;
        }
        Ok(peer)
    }

    fn sender(&self, _index: usize) -> Result<End<POLLED>> {
        self.end()
    }

    fn receiver(&self, _index: usize) -> Result<End<POLLED>> {
        self.end()
    }
}

/// An end. The descriptor is the process's until it ends.
pub struct End<const POLLED: bool> {
    queue: MqdT,
    buffer: Vec<u8>,
    pace: Pace,
    blocks: bool,
}

impl<const POLLED: bool> End<POLLED> {
    /// Reads one, if there is one, or a blocking queue waits for it.
    #[inline]
    fn receive(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        let mut priority = 0;
        match mq_receive(&self.queue, &mut self.buffer, &mut priority) {
            Ok(len) => {
                read(&self.buffer[..len]);
                Ok(1)
            }
            Err(WOULD_BLOCK) => Ok(0),
            Err(error) => bail!(error),
        }
    }
}

impl<const POLLED: bool> Sender for End<POLLED> {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.buffer);
        self.pace.until(|| match mq_send(&self.queue, &self.buffer, 0) {
            Ok(()) => Ok(Some(())),
            Err(WOULD_BLOCK) => Ok(None),
            Err(error) => bail!(error),
        })
    }
}

impl<const POLLED: bool> Receiver for End<POLLED> {
    #[inline]
    fn try_recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        if self.blocks {
            // For all who have this queue; those who sleep in `recv` are told by the next message.
            mq_set_nonblock(&self.queue)?;
            self.blocks = false;
        }
        self.receive(read)
    }

    #[inline]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        self.pace.until(|| Ok(Some(self.receive(&mut read)?).filter(|&found| found > 0)))
    }
}

//! Pipes. All messages of a run are of one length, so a message is that many bytes. Writes of up to 4,096
//! bytes are all or nothing, so several may write and read those.

use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read, write};

use super::WOULD_BLOCK;
use crate::memory::peer::{Pace, Peer, Receiver, Sender, Setup};
use crate::memory::workload::Workload;

/// Bytes that a pipe of an ordinary user can have, by default.
const LARGEST: usize = 1 << 20;

/// The longest message that is written at once.
const AT_ONCE: usize = 4096;

/// Whether the messages of several would stay whole.
pub fn fit(workload: &Workload) -> bool {
    workload.producers == 1 && workload.consumers == 1 || workload.payload <= AT_ONCE
}

/// The pipe, whose two ends all participants inherit. `POLLED`: no call sleeps.
pub struct Pipes<const POLLED: bool> {
    reading: OwnedFd,
    writing: OwnedFd,
    setup: Setup,
}

impl<const POLLED: bool> Peer for Pipes<POLLED> {
    type Sender = Writing;
    type Receiver = Reading<POLLED>;

    fn create(setup: &Setup) -> Result<Self> {
        let flags = if POLLED { OFlag::O_NONBLOCK } else { OFlag::empty() };
        let (reading, writing) = pipe2(flags | OFlag::O_CLOEXEC)?;
        let bytes = (setup.capacity * setup.payload).min(LARGEST);
        // The machine may allow less.
        let _ = fcntl(&writing, FcntlArg::F_SETPIPE_SZ(i32::try_from(bytes)?));
        Ok(Pipes { reading, writing, setup: setup.clone() })
    }

    fn sender(&self, _index: usize) -> Result<Writing> {
        let fd = self.writing.try_clone()?;
        Ok(Writing { fd, buffer: self.setup.buffer(), pace: self.setup.pace })
    }

    fn receiver(&self, _index: usize) -> Result<Reading<POLLED>> {
        let fd = self.reading.try_clone()?;
        Ok(Reading { fd, buffer: self.setup.buffer(), pace: self.setup.pace, blocks: !POLLED })
    }
}

/// The end to write to.
pub struct Writing {
    fd: OwnedFd,
    buffer: Vec<u8>,
    pace: Pace,
}

impl Sender for Writing {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.buffer);
        let mut written = 0;
        while written < self.buffer.len() {
            written += self.pace.until(|| some(write(&self.fd, &self.buffer[written..])))?;
        }
        Ok(())
    }
}

/// The end to read from.
pub struct Reading<const POLLED: bool> {
    fd: OwnedFd,
    buffer: Vec<u8>,
    pace: Pace,
    blocks: bool,
}

impl<const POLLED: bool> Reading<POLLED> {
    /// Reads the rest of a message whose beginning was read.
    #[inline]
    fn finish(&mut self, mut found: usize, mut read_message: impl FnMut(&[u8])) -> Result<usize> {
        while found < self.buffer.len() {
            found += self.pace.until(|| some(read(&self.fd, &mut self.buffer[found..])))?;
        }
        read_message(&self.buffer);
        Ok(1)
    }
}

impl<const POLLED: bool> Receiver for Reading<POLLED> {
    #[inline]
    fn try_recv(&mut self, read_message: impl FnMut(&[u8])) -> Result<usize> {
        if self.blocks {
            // For all who read from this end; those who sleep in `recv` are told by the next message.
            fcntl(&self.fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            self.blocks = false;
        }
        match some(read(&self.fd, &mut self.buffer))? {
            Some(found) => self.finish(found, read_message),
            None => Ok(0),
        }
    }

    #[inline]
    fn recv(&mut self, read_message: impl FnMut(&[u8])) -> Result<usize> {
        let found = self.pace.until(|| some(read(&self.fd, &mut self.buffer)))?;
        self.finish(found, read_message)
    }
}

/// How many bytes were moved, if any.
#[inline]
fn some(moved: Result<usize, Errno>) -> Result<Option<usize>> {
    match moved {
        Ok(0) => bail!("the pipe is closed at the other end"),
        Ok(bytes) => Ok(Some(bytes)),
        Err(WOULD_BLOCK) => Ok(None),
        Err(error) => bail!(error),
    }
}

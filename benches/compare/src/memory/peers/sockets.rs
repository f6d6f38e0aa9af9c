//! Unix sockets: a connected pair that keeps messages apart (`SOCK_SEQPACKET`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use anyhow::{Result, bail};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair, sockopt};

use super::WOULD_BLOCK;
use crate::memory::peer::{Pace, Peer, Receiver, Sender, Setup};

/// The pair, whose two ends all participants inherit. `POLLED`: no call sleeps.
pub struct Sockets<const POLLED: bool> {
    sending: OwnedFd,
    receiving: OwnedFd,
    setup: Setup,
}

impl<const POLLED: bool> Peer for Sockets<POLLED> {
    type Sender = End<POLLED>;
    type Receiver = End<POLLED>;

    fn create(setup: &Setup) -> Result<Self> {
        let kind = SockType::SeqPacket;
        let (sending, receiving) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        // As much as the kernel allows, which is the smaller one of this and its own limit.
        let bytes = setup.capacity * setup.payload;
        nix::sys::socket::setsockopt(&sending, sockopt::SndBuf, &bytes)?;
        Ok(Sockets { sending, receiving, setup: setup.clone() })
    }

    fn sender(&self, _index: usize) -> Result<End<POLLED>> {
        Ok(End::new(&self.sending, &self.setup))
    }

    fn receiver(&self, _index: usize) -> Result<End<POLLED>> {
        Ok(End::new(&self.receiving, &self.setup))
    }
}

/// One of the ends. The descriptor is the process's until it ends.
pub struct End<const POLLED: bool> {
    fd: RawFd,
    buffer: Vec<u8>,
    pace: Pace,
}

impl<const POLLED: bool> End<POLLED> {
    fn new(fd: &OwnedFd, setup: &Setup) -> Self {
        End { fd: fd.as_raw_fd(), buffer: setup.buffer(), pace: setup.pace }
    }

    #[inline]
    fn receive(&mut self, flags: MsgFlags, mut read: impl FnMut(&[u8])) -> Result<usize> {
        match recv(self.fd, &mut self.buffer, flags) {
            Ok(0) => bail!(io::Error::from(io::ErrorKind::UnexpectedEof)),
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
        let flags = if POLLED { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
        self.pace.until(|| match send(self.fd, &self.buffer, flags | MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => Ok(Some(())),
            Err(WOULD_BLOCK) => Ok(None),
            Err(error) => bail!(error),
        })
    }
}

impl<const POLLED: bool> Receiver for End<POLLED> {
    #[inline]
    fn try_recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.receive(MsgFlags::MSG_DONTWAIT, read)
    }

    #[inline]
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        if POLLED { self.poll(self.pace, read) } else { self.receive(MsgFlags::empty(), read) }
    }
}

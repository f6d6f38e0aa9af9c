//! ZeroMQ over `ipc://`, PUSH to PULL, by the system's libzmq, which is loaded when it is there.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use libloading::Library;
use nix::errno::Errno;

use super::WOULD_BLOCK;
use crate::memory::peer::{Peer, Receiver, Sender, Setup};

/// As the library's interface of version 4 has them.
const LIBRARY: &str = "libzmq.so.5";
const PULL: c_int = 7;
const PUSH: c_int = 8;
const SNDHWM: c_int = 23;
const RCVHWM: c_int = 24;
const DONTWAIT: c_int = 1;

type Opaque = *mut c_void;

/// The functions of the library that are used.
struct Zmq {
    ctx_new: unsafe extern "C" fn() -> Opaque,
    socket: unsafe extern "C" fn(Opaque, c_int) -> Opaque,
    setsockopt: unsafe extern "C" fn(Opaque, c_int, *const c_void, usize) -> c_int,
    bind: unsafe extern "C" fn(Opaque, *const c_char) -> c_int,
    connect: unsafe extern "C" fn(Opaque, *const c_char) -> c_int,
    send: unsafe extern "C" fn(Opaque, *const c_void, usize, c_int) -> c_int,
    recv: unsafe extern "C" fn(Opaque, *mut c_void, usize, c_int) -> c_int,
    errno: unsafe extern "C" fn() -> c_int,
    /// Keeps the functions where they are.
    _library: Library,
}

impl Zmq {
    fn load() -> Result<Zmq, libloading::Error> {
        // SAFETY: the library's initialization has no conditions, and the functions have these types in every
        // version of this major number.
        unsafe {
            let library = Library::new(LIBRARY)?;
            Ok(Zmq {
                ctx_new: *library.get(b"zmq_ctx_new\0")?,
                socket: *library.get(b"zmq_socket\0")?,
                setsockopt: *library.get(b"zmq_setsockopt\0")?,
                bind: *library.get(b"zmq_bind\0")?,
                connect: *library.get(b"zmq_connect\0")?,
                send: *library.get(b"zmq_send\0")?,
                recv: *library.get(b"zmq_recv\0")?,
                errno: *library.get(b"zmq_errno\0")?,
                _library: library,
            })
        }
    }

    fn error(&self) -> Errno {
        // SAFETY: has no conditions.
        Errno::from_raw(unsafe { (self.errno)() })
    }

    fn check(&self, result: c_int) -> Result<usize, Errno> {
        usize::try_from(result).map_err(|_| self.error())
    }
}

/// What is missing, if it is.
pub fn missing() -> Option<String> {
    Zmq::load().err().map(|_| format!("{LIBRARY} is not there: apt-get install libzmq5"))
}

/// An endpoint for each consumer, to which all producers connect.
pub struct ZeroMq {
    zmq: Arc<Zmq>,
    setup: Setup,
}

impl ZeroMq {
    fn endpoint(&self, index: usize) -> Result<CString> {
        let path = self.setup.path();
        let name = [b"ipc://", path.as_os_str().as_bytes(), format!("-{index}").as_bytes()].concat();
        Ok(CString::new(name)?)
    }

    fn socket(&self, kind: c_int) -> Result<End> {
        let zmq = self.zmq.clone();
        // SAFETY: has no conditions.
        let context = NonNull::new(unsafe { (zmq.ctx_new)() }).context("no context")?;
        // SAFETY: the context is one, and never ended.
        let socket = NonNull::new(unsafe { (zmq.socket)(context.as_ptr(), kind) }).context("no socket")?;
        let depth = c_int::try_from(self.setup.capacity)?;
        for option in [SNDHWM, RCVHWM] {
            // SAFETY: the socket is open, and the value is an int of this size.
            let set = unsafe {
                (zmq.setsockopt)(socket.as_ptr(), option, (&raw const depth).cast(), size_of::<c_int>())
            };
            zmq.check(set)?;
        }
        Ok(End { zmq, socket, buffer: self.setup.buffer() })
    }
}

impl Peer for ZeroMq {
    type Sender = End;
    type Receiver = End;

    fn create(setup: &Setup) -> Result<Self> {
        // Its threads come with the context.
        Ok(ZeroMq { zmq: Arc::new(Zmq::load()?), setup: setup.clone() })
    }

    fn sender(&self, _index: usize) -> Result<End> {
        let end = self.socket(PUSH)?;
        for consumer in 0..self.setup.consumers {
            let endpoint = self.endpoint(consumer)?;
            // SAFETY: the socket is open, and the text ends.
            let connected = unsafe { (end.zmq.connect)(end.socket.as_ptr(), endpoint.as_ptr()) };
            end.zmq.check(connected)?;
        }
        Ok(end)
    }

    fn receiver(&self, index: usize) -> Result<End> {
        let end = self.socket(PULL)?;
        let endpoint = self.endpoint(index)?;
        // SAFETY: the socket is open, and the text ends.
        let bound = unsafe { (end.zmq.bind)(end.socket.as_ptr(), endpoint.as_ptr()) };
        end.zmq.check(bound)?;
        Ok(end)
    }
}

/// A socket. It is its process's until that ends.
pub struct End {
    zmq: Arc<Zmq>,
    socket: NonNull<c_void>,
    buffer: Vec<u8>,
}

impl End {
    fn receive(&mut self, flags: c_int, mut read: impl FnMut(&[u8])) -> Result<usize> {
        // SAFETY: the socket is open and this thread's, and the buffer has this many bytes.
        let found = unsafe {
            (self.zmq.recv)(self.socket.as_ptr(), self.buffer.as_mut_ptr().cast(), self.buffer.len(), flags)
        };
        match self.zmq.check(found) {
            Ok(len) => {
                // A longer message is cut off, which `read` finds.
                read(&self.buffer[..len.min(self.buffer.len())]);
                Ok(1)
            }
            Err(WOULD_BLOCK | Errno::EINTR) => Ok(0),
            Err(error) => bail!(error),
        }
    }
}

impl Sender for End {
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.buffer);
        // SAFETY: the socket is open and this thread's, and the buffer has this many bytes.
        let sent = unsafe {
            (self.zmq.send)(self.socket.as_ptr(), self.buffer.as_ptr().cast(), self.buffer.len(), 0)
        };
        self.zmq.check(sent)?;
        Ok(())
    }
}

impl Receiver for End {
    fn try_recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.receive(DONTWAIT, read)
    }

    fn recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        loop {
            match self.receive(0, &mut read)? {
                0 => {}
                found => return Ok(found),
            }
        }
    }
}

//! Boost.Interprocess' `message_queue`, by a few lines of C++ that build.rs compiles where the headers are
//! (`src/memory/peers/boost.cpp`). Polled: its blocking calls sleep on a condition variable in shared memory.

use crate::memory::peers::Entry;

const NAME: &str = "Boost.Interprocess";

/// The line of the tables.
#[cfg(boost)]
pub fn entry() -> Entry {
    Entry::new::<linked::Boost>(NAME)
}

/// The line of the tables.
#[cfg(not(boost))]
pub fn entry() -> Entry {
    Entry::absent(NAME, || {
        Some("its headers were not there when this was built: apt-get install libboost-dev g++".to_owned())
    })
}

#[cfg(boost)]
mod linked {
    use std::ffi::{CString, c_char, c_int, c_void};
    use std::ptr::NonNull;

    use anyhow::{Context, Result, bail};

    use crate::memory::peer::{Pace, Peer, Receiver, Sender, Setup};

    unsafe extern "C" {
        fn compare_boost_create(name: *const c_char, messages: usize, bytes: usize) -> c_int;
        fn compare_boost_open(name: *const c_char) -> *mut c_void;
        fn compare_boost_remove(name: *const c_char);
        fn compare_boost_try_send(queue: *mut c_void, bytes: *const u8, len: usize) -> c_int;
        fn compare_boost_try_receive(queue: *mut c_void, bytes: *mut u8, len: usize) -> c_int;
    }

    /// The queue's name in shared memory.
    pub struct Boost {
        name: CString,
        setup: Setup,
    }

    impl Boost {
        fn end(&self) -> Result<End> {
            // SAFETY: the text ends.
            let queue = NonNull::new(unsafe { compare_boost_open(self.name.as_ptr()) });
            let queue = queue.context("Boost could not open the queue")?;
            Ok(End { queue, buffer: self.setup.buffer(), pace: self.setup.pace })
        }
    }

    impl Peer for Boost {
        type Sender = End;
        type Receiver = End;

        fn create(setup: &Setup) -> Result<Self> {
            let name = CString::new(setup.name.as_str())?;
            // SAFETY: the text ends.
            let made = unsafe { compare_boost_create(name.as_ptr(), setup.capacity, setup.payload) };
            if made != 1 {
                bail!("Boost could not make the queue");
            }
            Ok(Boost { name, setup: setup.clone() })
        }

        fn sender(&self, _index: usize) -> Result<End> {
            self.end()
        }

        fn receiver(&self, _index: usize) -> Result<End> {
            self.end()
        }
    }

    impl Drop for Boost {
        fn drop(&mut self) {
            // SAFETY: the text ends.
            unsafe { compare_boost_remove(self.name.as_ptr()) };
        }
    }

    /// An end. The mapping is its process's until that ends.
    pub struct End {
        queue: NonNull<c_void>,
        buffer: Vec<u8>,
        pace: Pace,
    }

    /// What a try comes to: done or not, or an error.
    #[inline]
    fn tried(result: c_int) -> Result<bool> {
        match result {
            0 => Ok(false),
            1 => Ok(true),
            _ => bail!("Boost gave an error"),
        }
    }

    impl Sender for End {
        #[inline]
        fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
            fill(&mut self.buffer);
            self.pace.until(|| {
                // SAFETY: the queue is open, and the buffer has this many bytes.
                let sent = unsafe {
                    compare_boost_try_send(self.queue.as_ptr(), self.buffer.as_ptr(), self.buffer.len())
                };
                Ok(tried(sent)?.then_some(()))
            })
        }
    }

    impl Receiver for End {
        #[inline]
        fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
            // SAFETY: the queue is open, and the buffer has this many bytes.
            let found = unsafe {
                compare_boost_try_receive(self.queue.as_ptr(), self.buffer.as_mut_ptr(), self.buffer.len())
            };
            if !tried(found)? {
                return Ok(0);
            }
            read(&self.buffer);
            Ok(1)
        }

        #[inline]
        fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
            self.poll(self.pace, read)
        }
    }
}

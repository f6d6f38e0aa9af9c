//! Processes by fork: each runs a closure, and sends what it returns back through a pipe.
//!
//! The parent has one thread, so the child is a copy that can do anything the parent could. A child ends by
//! `_exit`: nothing of the parent's is flushed or dropped twice. It dies with its parent, by the kernel's
//! word, and is killed and reaped when its handle is dropped.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pipe2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// How long [`join_all`] waits between two looks at whether to go on.
const TICK: Duration = Duration::from_millis(50);

/// A forked process whose closure returns a `T`. Killed and reaped when dropped.
#[derive(Debug)]
pub struct Child<T> {
    pid: Pid,
    pipe: File,
    received: Vec<u8>,
    reaped: bool,
    result: PhantomData<fn() -> T>,
}

/// Forks a process that runs `work` and ends.
///
/// SIGINT and SIGTERM do to it what they do by default, whatever the parent does with them, and it gets a
/// SIGKILL when the parent ends.
///
/// # Errors
///
/// If this process has more than one thread, or the kernel refuses.
pub fn spawn<T, F>(work: F) -> Result<Child<T>>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce() -> Result<T>,
{
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(Error::new(format!("a process with {threads} threads cannot fork a copy of itself")));
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let parent = getpid();
    // SAFETY: there is one thread, the one that forks: no lock is held by another, so the child may do what
    // any process may.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(read);
            run(work, write, parent)
        }
        ForkResult::Parent { child } => Ok(Child {
            pid: child,
            pipe: File::from(read),
            received: Vec::new(),
            reaped: false,
            result: PhantomData,
        }),
    }
}

/// The child's life.
fn run<T: Serialize>(work: impl FnOnce() -> Result<T>, pipe: OwnedFd, parent: Pid) -> ! {
    let bound = set_pdeathsig(Signal::SIGKILL);
    // The parent may have ended before that.
    if bound.is_err() || getppid() != parent {
        exit(1);
    }
    for interrupt in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the default action runs no code of ours.
        let _ = unsafe { signal(interrupt, SigHandler::SigDfl) };
    }
    let result = without_panic(work).map_err(|error| error.to_string());
    let sent = serde_json::to_vec(&result).map_err(io::Error::from);
    let sent = sent.and_then(|json| File::from(pipe).write_all(&json));
    exit(i32::from(sent.is_err()))
}

/// Ends the process at once.
fn exit(code: i32) -> ! {
    // SAFETY: it does not return, and runs none of the parent's exit handlers.
    unsafe { libc::_exit(code) }
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Turns a panic into an error that says where it was, instead of lines on stderr.
fn without_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        PANIC.with(|panic| panic.replace(text));
    }));
    // Nothing of what the closure left half done is used again: the process ends.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|_| Err(Error::new(PANIC.with(RefCell::take))))
}

impl<T: DeserializeOwned> Child<T> {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Waits for its result at most this long.
    ///
    /// # Errors
    ///
    /// The closure's error; that it panicked, was killed or ended without a word; or that it takes longer,
    /// in which case it is killed.
    pub fn join(mut self, timeout: Duration) -> Result<T> {
        let late = || Error::new(format!("process {} has not ended within {timeout:?}", self.pid));
        let late = late();
        self.try_join(timeout).unwrap_or(Err(late))
    }

    /// Waits for its result at most this long; `None` if there is none yet. A signal that this process
    /// handles ends the wait early.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join), time aside. After a result of any kind there is no other.
    pub fn try_join(&mut self, wait: Duration) -> Option<Result<T>> {
        let deadline = Instant::now() + wait.min(Duration::from_secs(1 << 30));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.read_more(left) {
                Ok(Some(0)) => return Some(self.result()),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Bytes that came within this time, 0 at the end of all; `None` if none came.
    fn read_more(&mut self, wait: Duration) -> Result<Option<usize>> {
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        // Rounded up, so that the end of a wait is no busy loop.
        let wait = PollTimeout::try_from(wait + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, wait) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0; 1 << 16];
        let count = self.pipe.read(&mut buffer)?;
        self.received.extend_from_slice(&buffer[..count]);
        Ok(Some(count))
    }

    /// The end of the pipe was reached: reaps the process, and reads what it sent.
    fn result(&mut self) -> Result<T> {
        let status = loop {
            match waitpid(self.pid, None) {
                Err(Errno::EINTR) => {}
                status => break status?,
            }
        };
        self.reaped = true;
        match status {
            WaitStatus::Exited(_, 0) => {}
            WaitStatus::Signaled(_, signal, _) => {
                return Err(Error::new(format!("process {} was ended by {signal}", self.pid)));
            }
            _ => return Err(Error::new(format!("process {} ended without a result", self.pid))),
        }
        let result: Result<T, String> = serde_json::from_slice(&self.received)?;
        result.map_err(Error::new)
    }
}

impl<T> Drop for Child<T> {
    fn drop(&mut self) {
        if !self.reaped {
            // It is not reaped, so the number is still its own.
            let _ = kill(self.pid, Signal::SIGKILL);
            while waitpid(self.pid, None) == Err(Errno::EINTR) {}
        }
    }
}

/// Waits for the results of all, in their order, at most this long. `go_on` is asked some twenty times a
/// second, and ends the wait by an error. At the first error, all that still run are killed.
///
/// # Errors
///
/// The first error of any child, be it the last of the list; that of `go_on`; or that they take longer.
pub fn join_all<T: DeserializeOwned>(
    children: Vec<Child<T>>,
    timeout: Duration,
    mut go_on: impl FnMut() -> Result<()>,
) -> Result<Vec<T>> {
    let start = Instant::now();
    let mut results: Vec<Option<T>> = children.iter().map(|_| None).collect();
    let mut running: Vec<(usize, Child<T>)> = children.into_iter().enumerate().collect();
    while !running.is_empty() {
        wait_for_any(&running)?;
        go_on()?;
        let mut left = Vec::new();
        for (index, mut child) in running {
            match child.try_join(Duration::ZERO) {
                Some(result) => results[index] = Some(result?),
                None => left.push((index, child)),
            }
        }
        running = left;
        if start.elapsed() > timeout && !running.is_empty() {
            return Err(Error::new(format!("{} processes have not ended within {timeout:?}", running.len())));
        }
    }
    Ok(results.into_iter().flatten().collect())
}

/// Until one of them says something, or for a tick.
fn wait_for_any<T>(running: &[(usize, Child<T>)]) -> Result<()> {
    let mut fds: Vec<_> =
        running.iter().map(|(_, child)| PollFd::new(child.pipe.as_fd(), PollFlags::POLLIN)).collect();
    let tick = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, tick) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

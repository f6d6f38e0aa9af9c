//! Noticing a fork, and keeping locks out of forked children.
//!
//! A handle that was inherited through `fork` must not be used: the child is not the participant that
//! the handle stands for. Asking for the process id costs a system call, so a [`ForkGuard`] is a page
//! that the kernel empties in a child (`MADV_WIPEONFORK`): the parent reads 1 there, every child and
//! grandchild 0. A store that the child opens itself makes a guard of its own.
//!
//! An open-file-description lock lives as long as any descriptor of its open file does, so a child that
//! inherits such a descriptor would keep a dead parent's lock alive. Descriptors that carry a lock are
//! therefore [`LockFile`]s: they are listed while they are open, and a hook run by `fork`
//! closes them in the child. Setting one up or putting it away takes the list's mutex
//! ([`ForkPause`]), and so does the hook before the fork: no fork falls into the middle.
//!
//! The hook runs for `fork` and everything made of it. It does not run for a bare `clone` system call
//! made past the C library, nor for `vfork` and `posix_spawn`; the children of those last exec soon, which
//! closes the descriptors. Until then they share the lock, which is why a lock is given up by unlocking,
//! for all who share it, and not by closing alone.

use std::cell::UnsafeCell;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use memmap2::{MmapMut, MmapOptions};

use crate::sys::lock;

/// What a guard's page holds in the process that made it.
const MINE: u32 = 1;

/// Tells the process that made it from its children.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    page: MmapMut,
}

impl ForkGuard {
    /// A guard of the calling process.
    pub(crate) fn new() -> io::Result<ForkGuard> {
        let page = MmapOptions::new().len(page_size()).map_anon()?;
        // SAFETY: the range is exactly the anonymous private mapping made above, which nobody else uses
        // yet; the advice changes nothing in this process.
        let advised =
            unsafe { libc::madvise(page.as_ptr().cast_mut().cast(), page.len(), libc::MADV_WIPEONFORK) };
        if advised != 0 {
            return Err(io::Error::last_os_error());
        }
        let guard = ForkGuard { page };
        guard.rearm();
        Ok(guard)
    }

    /// Whether this process is not the one that made the guard, but a child of it, however remote. One load.
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        // Acquire: pairs with `rearm`.
        self.word().load(Ordering::Acquire) != MINE
    }

    /// Makes the guard the calling process's own. Whoever sees that sees what was written before it.
    pub(crate) fn rearm(&self) {
        self.word().store(MINE, Ordering::Release);
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped, private, page-aligned and longer than the word as long as `self`
        // lives; it is only ever accessed through this function, so always atomically.
        unsafe { AtomicU32::from_ptr(self.page.as_ptr().cast_mut().cast()) }
    }
}

/// Bytes of a page.
fn page_size() -> usize {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// The descriptors to be closed in a forked child.
static LISTED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// No fork begins while one of these lives.
pub(crate) struct ForkPause {
    listed: MutexGuard<'static, Vec<RawFd>>,
}

/// Keeps forks of this process waiting until the result is dropped. Microseconds, please.
pub(crate) fn pause_forks() -> io::Result<ForkPause> {
    install_hook()?;
    Ok(ForkPause { listed: lock_list() })
}

/// An open file that carries a lock on one byte and so is closed in a forked child. It gives no [`File`] out
/// on purpose: a duplicate would escape the list.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: ManuallyDrop<File>,
    byte: u64,
    guard: ForkGuard,
}

impl LockFile {
    /// Takes the byte alone, for a time. `false` if another open file holds it. One system call.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        lock::try_write(self.file.as_fd(), self.byte)
    }

    /// Gives the byte up.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        lock::unlock(self.file.as_fd(), self.byte)
    }

    /// Lists `file`, which must have been opened, and if it is to be, locked at `byte` under this same pause.
    pub(crate) fn new(file: File, byte: u64, pause: &mut ForkPause) -> io::Result<LockFile> {
        let guard = ForkGuard::new()?;
        pause.listed.push(file.as_raw_fd());
        Ok(LockFile { file: ManuallyDrop::new(file), byte, guard })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.guard.forked() {
            // The hook closed it, and the number may be somebody else's by now.
            return;
        }
        // Should it fail, closing does the same, if later.
        let _ = lock::unlock(self.file.as_fd(), self.byte);
        let number = self.file.as_raw_fd();
        let mut listed = lock_list();
        listed.retain(|fd| *fd != number);
        // SAFETY: the field is not used again: this is the destructor, and it runs once. It is done
        // under the mutex, so that no child is made between unlisting and closing.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

fn lock_list() -> MutexGuard<'static, Vec<RawFd>> {
    LISTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the list's mutex is kept locked from before a fork until after it.
struct Held(UnsafeCell<Option<MutexGuard<'static, Vec<RawFd>>>>);

// SAFETY: only who holds the mutex of `LISTED` touches the cell: `before_fork` locks it, and the hooks after
// the fork run in the same thread, or its only copy in the child, and empty the cell before they unlock. So
// no two threads are at it at once, and the guard is dropped by the thread that made it.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

fn install_hook() -> io::Result<()> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let code = *INSTALLED.get_or_init(|| {
        // SAFETY: the three functions have the right type, live as long as the program, and do not unwind.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_parent), Some(after_fork_child)) }
    });
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

unsafe extern "C" fn before_fork() {
    let listed = lock_list();
    // SAFETY: this thread holds the mutex, see `Held`.
    unsafe { *HELD.0.get() = Some(listed) };
}

unsafe extern "C" fn after_fork_parent() {
    // SAFETY: this thread locked the mutex in `before_fork`, see `Held`.
    let listed = unsafe { (*HELD.0.get()).take() };
    drop(listed);
}

unsafe extern "C" fn after_fork_child() {
    // SAFETY: this is the copy of the thread that locked the mutex in `before_fork`, see `Held`.
    let listed = unsafe { (*HELD.0.get()).take() };
    let Some(mut listed) = listed else { return };
    for fd in listed.drain(..) {
        // SAFETY: a listed descriptor is open and owned by a `LockFile`, whose destructor closes nothing
        // in a child. Closing the child's copy leaves the parent's open.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// Runs `child` in a forked process and tells what it answered.
    fn answer_of_child(child: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child calls only `child`, which in these tests loads words, makes system calls and
        // forks again, and then leaves without running destructors.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                let code = i32::from(child());
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => match waitpid(child, None).expect("waitpid") {
                WaitStatus::Exited(_, code) => code == 1,
                other => panic!("the child ended with {other:?}"),
            },
        }
    }

    #[test]
    fn children_and_grandchildren_are_told_from_the_maker() {
        let guard = ForkGuard::new().expect("guard");
        assert!(!guard.forked());
        assert!(answer_of_child(|| guard.forked()));
        assert!(answer_of_child(|| answer_of_child(|| guard.forked())));
        assert!(!guard.forked());
    }

    #[test]
    fn a_child_has_guards_of_its_own() {
        let old = ForkGuard::new().expect("guard");
        assert!(answer_of_child(|| {
            let new = ForkGuard::new().expect("guard");
            let own_child_sees_it = answer_of_child(|| new.forked());
            old.forked() && !new.forked() && own_child_sees_it
        }));
        assert!(answer_of_child(|| {
            old.rearm();
            !old.forked() && answer_of_child(|| old.forked())
        }));
    }

    #[test]
    fn a_lock_file_is_closed_in_a_child_and_only_there() {
        let mut pause = pause_forks().expect("hook");
        let held = LockFile::new(tempfile::tempfile().expect("file"), 0, &mut pause).expect("list");
        drop(pause);
        let is_open = || nix::fcntl::fcntl(held.file.as_fd(), nix::fcntl::FcntlArg::F_GETFD).is_ok();
        assert!(is_open());
        assert!(answer_of_child(|| !is_open()));
        assert!(is_open());
    }

    #[test]
    fn dropping_a_lock_file_unlocks_for_those_who_share_it() {
        let place = tempfile::NamedTempFile::new().expect("file");
        let open = || File::options().read(true).write(true).open(place.path()).expect("open");
        let (file, other) = (open(), open());
        // As in a child that was made past the hook.
        let shared = file.try_clone().expect("duplicate");
        let mut pause = pause_forks().expect("hook");
        assert!(lock::try_write(file.as_fd(), 5).expect("lock"));
        let held = LockFile::new(file, 5, &mut pause).expect("list");
        drop(pause);
        assert!(lock::locked(other.as_fd(), 5).expect("probe"));
        drop(held);
        assert!(!lock::locked(other.as_fd(), 5).expect("probe"));
        drop(shared);
    }
}

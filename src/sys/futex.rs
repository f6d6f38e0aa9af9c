//! Sleeping on a word of shared memory.
//!
//! Always shared futexes: the kernel finds the sleepers by the file and offset of the word, so that
//! processes which map it at different addresses meet. A wake-up may come for no reason and a word may
//! change and change back, so that callers look again whatever the answer is.

use std::io;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Duration;

/// Why a [`wait`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// By a [`wake`], or for no reason.
    Woken,
    /// The word was not the expected one: there was no sleep.
    Changed,
    /// The time is over.
    TimedOut,
    /// By a signal; or the kernel could not wait here, and the caller slept a little instead.
    Interrupted,
}

/// How long the caller sleeps when the kernel cannot wait on the word, so that its loop polls and does
/// not spin. It looks for the reason (the file was truncated) itself.
const POLL: Duration = Duration::from_millis(1);

/// Sleeps while the word is `expected`, at most `timeout`, for ever if that is `None`.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Wake {
    let timeout = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word is a live, aligned 4-byte atomic, which the kernel only reads; the timeout is null
    // or points to a timespec that lives until after the call.
    let code = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout) };
    if code == 0 {
        return Wake::Woken;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Wake::Changed,
        Some(libc::ETIMEDOUT) => Wake::TimedOut,
        Some(libc::EINTR) => Wake::Interrupted,
        _ => {
            thread::sleep(POLL);
            Wake::Interrupted
        }
    }
}

/// Wakes up to `n` sleepers; how many there were.
pub(crate) fn wake(word: &AtomicU32, n: u32) -> u32 {
    let n = i32::try_from(n).unwrap_or(i32::MAX);
    // SAFETY: the word is a live, aligned 4-byte atomic; the kernel uses its address and does not access it.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, n) };
    // A word whose page is gone has no sleepers: not an error.
    u32::try_from(woken).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_changed_word_is_not_slept_on() {
        let word = AtomicU32::new(7);
        assert_eq!(wait(&word, 6, None), Wake::Changed);
        assert_eq!(wait(&word, 7, Some(Duration::from_millis(2))), Wake::TimedOut);
        assert_eq!(wait(&word, 7, Some(Duration::ZERO)), Wake::TimedOut);
        assert_eq!(wake(&word, u32::MAX), 0);
    }

    #[test]
    fn sleepers_are_woken_across_two_mappings_of_one_file() {
        let file = tempfile::tempfile().expect("file");
        file.set_len(4096).expect("length");
        let map = || memmap2::MmapOptions::new().len(4096).map_raw(&file).expect("map");
        let (here, there) = (map(), map());
        // SAFETY: page-aligned, mapped until the end of the test, only accessed atomically.
        let word = |map: &memmap2::MmapRaw| unsafe { AtomicU32::from_ptr(map.as_mut_ptr().cast()) }
            as *const _ as usize;
        let (here_word, there_word) = (word(&here), word(&there));
        let done = Arc::new(AtomicU32::new(0));
        let sleeper = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                // SAFETY: as above; the thread is joined before the mapping goes.
                let word = unsafe { &*(there_word as *const AtomicU32) };
                while word.load(Ordering::Acquire) == 0 {
                    wait(word, 0, None);
                }
                done.store(1, Ordering::Release);
            }
        });
        // SAFETY: as above.
        let word = unsafe { &*(here_word as *const AtomicU32) };
        while wake(word, 1) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(done.load(Ordering::Acquire), 0);
        word.store(1, Ordering::Release);
        wake(word, 1);
        sleeper.join().expect("sleeper");
        assert_eq!(done.load(Ordering::Acquire), 1);
    }
}

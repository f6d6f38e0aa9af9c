//! Time: one clock for all processes, processor time, and the pace of an open loop.

use std::hint;
use std::mem::MaybeUninit;

/// Nanoseconds of the monotonic clock, which is the same in every process of the host.
#[inline]
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds that this process has spent on a processor, in the kernel or not.
pub fn processor_ns() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the pointer is to a structure of the kernel's type, which the call fills.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    assert_eq!(done, 0, "getrusage of oneself cannot fail");
    // SAFETY: the call succeeded, so it filled the structure.
    let usage = unsafe { usage.assume_init() };
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000)
        .sum()
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    let done = unsafe { libc::clock_gettime(clock, &mut time) };
    debug_assert_eq!(done, 0, "this clock is there");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The pace of an open loop: messages are due at a fixed rate, whatever happened to the ones before.
///
/// A latency is measured from the time a message was due, not from the time it was sent: so a stall counts
/// for every message that had to wait because of it, and is not hidden by a sender that stalls along.
#[derive(Debug, Clone)]
pub struct Pace {
    start_ns: u64,
    period_ns: f64,
    next: u64,
}

impl Pace {
    /// `per_second` messages a second, the first at `start_ns` of [`now_ns`].
    ///
    /// # Panics
    ///
    /// If the rate is not positive.
    pub fn new(start_ns: u64, per_second: f64) -> Pace {
        assert!(per_second > 0.0, "a rate is positive");
        Pace { start_ns, period_ns: 1e9 / per_second, next: 0 }
    }

    /// Spins until the next message is due, and says when that was. If it is overdue, returns at once.
    pub fn wait_next(&mut self) -> u64 {
        let due = self.start_ns + (self.next as f64 * self.period_ns) as u64;
        self.next += 1;
        while now_ns() < due {
            hint::spin_loop();
        }
        due
    }
}

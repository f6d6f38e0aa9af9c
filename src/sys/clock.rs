//! Time that all processes of the host agree on.
//!
//! Deadlines in shared memory are milliseconds of the host's `CLOCK_BOOTTIME`: it never jumps, counts
//! while the machine sleeps, and starts anew with the boot id. A process in a time namespace sees that
//! clock shifted, by an offset that the kernel tells and that is taken off again here.

use std::fs;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys::fork::ForkGuard;

const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;

/// How much the kept difference of the clocks may be off before it is written again.
const SLACK_NS: i64 = NS_PER_MS / 10;

/// Milliseconds since the host booted, time asleep included. The same in every time namespace.
pub(crate) fn boot_ms() -> u64 {
    in_ms(boot_ns(kept()))
}

/// The host's boot time; keeps its difference to the other clock up to date on the way.
fn boot_ns(kept: &Kept) -> i64 {
    let boot = read(libc::CLOCK_BOOTTIME) - kept.offset_ns.load(Ordering::Relaxed);
    // The second reading follows the first, so this is at most the true difference, short of it by the time
    // in between. Keeping the greatest gets rid of the occasions when that time was long.
    let difference = boot - read(libc::CLOCK_MONOTONIC);
    // Relaxed: the number stands for itself.
    if difference > kept.boot_less_monotonic_ns.load(Ordering::Relaxed).saturating_add(SLACK_NS) {
        kept.boot_less_monotonic_ns.fetch_max(difference, Ordering::Relaxed);
    }
    boot
}

/// As [`boot_ms`] and never ahead of it, but a few nanoseconds cheap, and late: by about [`tick_ms`] plus
/// 1 ms, and by more where the timer interrupt itself comes late (a virtual machine whose processor was taken
/// away). After the machine slept it is late by that time until somebody in this process calls [`boot_ms`].
pub(crate) fn coarse_ms() -> u64 {
    let difference = kept().boot_less_monotonic_ns.load(Ordering::Relaxed);
    in_ms(read(libc::CLOCK_MONOTONIC_COARSE) + difference)
}

/// The time this many milliseconds from now, for a due word. Due words are compared with [`coarse_ms`]: what
/// is to be done at once is due at once by that clock, not when it has caught up with the exact one.
pub(crate) fn due_in(delay_ms: u64) -> u64 {
    if delay_ms == 0 { coarse_ms() } else { boot_ms() + delay_ms }
}

/// How far [`coarse_ms`] goes in one step: milliseconds, rounded up.
pub(crate) fn tick_ms() -> u64 {
    static TICK: OnceLock<u64> = OnceLock::new();
    *TICK.get_or_init(|| {
        let mut step = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `step` is a valid place for the answer.
        let code = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut step) };
        let ns = if code == 0 { step.tv_sec * NS_PER_S + step.tv_nsec } else { 10 * NS_PER_MS };
        u64::try_from(ns).unwrap_or(0).div_ceil(NS_PER_MS as u64).max(1)
    })
}

/// Milliseconds since 1970, for people to read: it may jump.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The id of this boot of the host.
pub(crate) fn boot_id() -> io::Result<[u8; 16]> {
    static ID: OnceLock<[u8; 16]> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(*id);
    }
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let id = parse_uuid(&text).ok_or_else(|| {
        let what = format!("/proc/sys/kernel/random/boot_id holds {text:?}, expected a UUID");
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    Ok(*ID.get_or_init(|| id))
}

/// What is read once per process.
struct Kept {
    /// What this time namespace adds to the host's `CLOCK_BOOTTIME`.
    offset_ns: AtomicI64,
    /// Host's boot time less this process's `CLOCK_MONOTONIC`. Grows when the machine sleeps.
    boot_less_monotonic_ns: AtomicI64,
    /// A child may be in another time namespace than its parent. Where there is no such guard
    /// (a kernel before 4.14), there are no time namespaces either.
    guard: Option<ForkGuard>,
}

impl Kept {
    fn new() -> Kept {
        let kept = Kept {
            offset_ns: AtomicI64::new(0),
            boot_less_monotonic_ns: AtomicI64::new(0),
            guard: ForkGuard::new().ok(),
        };
        kept.fill();
        kept
    }

    fn fill(&self) {
        self.offset_ns.store(namespace_offset_ns(), Ordering::Relaxed);
        self.boot_less_monotonic_ns.store(i64::MIN, Ordering::Relaxed);
        // Once would do, but for a pause in the middle.
        for _ in 0..8 {
            boot_ns(self);
        }
    }
}

fn kept() -> &'static Kept {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    let kept = KEPT.get_or_init(Kept::new);
    if let Some(guard) = &kept.guard
        && guard.forked()
    {
        kept.fill();
        guard.rearm();
    }
    kept
}

/// What the caller's time namespace adds to the host's `CLOCK_BOOTTIME`, in nanoseconds.
///
/// The kernel shows the offsets of the namespace that *children* are born into. It is the caller's own
/// except in a process that called `unshare(CLONE_NEWTIME)` itself and did not fork since; that one is
/// still in the namespace it was born in, taken to be the host's.
fn namespace_offset_ns() -> i64 {
    let own = fs::read_link("/proc/self/ns/time");
    let of_children = fs::read_link("/proc/self/ns/time_for_children");
    match (own, of_children) {
        (Ok(own), Ok(of_children)) if own == of_children => {
            fs::read_to_string("/proc/self/timens_offsets").map_or(0, |text| parse_boot_offset(&text))
        }
        _ => 0,
    }
}

/// The nanoseconds of the line `boottime <seconds> <nanoseconds>`.
fn parse_boot_offset(text: &str) -> i64 {
    let numbers = |line: &str| {
        let mut words = line.split_whitespace();
        // Old kernels name the clock, newer ones may give its number.
        matches!(words.next()?, "boottime" | "7").then_some(())?;
        let seconds: i64 = words.next()?.parse().ok()?;
        let nanoseconds: i64 = words.next()?.parse().ok()?;
        seconds.checked_mul(NS_PER_S)?.checked_add(nanoseconds)
    };
    text.lines().find_map(numbers).unwrap_or(0)
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .trim_end()
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let digits: [u8; 32] = digits.try_into().ok()?;
    Some(std::array::from_fn(|i| digits[2 * i] << 4 | digits[2 * i + 1]))
}

/// The clock's nanoseconds.
#[inline]
fn read(clock: libc::clockid_t) -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the answer. The clocks asked for exist on every Linux that has
    // futexes and open-file-description locks, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec * NS_PER_S + now.tv_nsec
}

fn in_ms(ns: i64) -> u64 {
    u64::try_from(ns / NS_PER_MS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_coarse_clock_follows_the_exact_one_and_is_never_ahead() {
        for _ in 0..20 {
            let start = boot_ms();
            // Late, by an unknown time, but it does come. A clock with a wrong difference never would.
            let deadline = Instant::now() + Duration::from_secs(10);
            while coarse_ms() <= start {
                assert!(Instant::now() < deadline, "the coarse clock does not get past {start}");
                let (coarse, exact) = (coarse_ms(), boot_ms());
                assert!(coarse <= exact, "{coarse} is ahead of {exact}");
            }
        }
    }

    #[test]
    fn boot_time_is_the_uptime_of_the_host() {
        let uptime = fs::read_to_string("/proc/uptime").expect("uptime");
        let seconds: f64 = uptime.split(' ').next().and_then(|s| s.parse().ok()).expect("seconds");
        let offset_s = parse_boot_offset(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default())
            as f64
            / NS_PER_S as f64;
        assert!(boot_ms() as f64 >= (seconds - offset_s) * 1000.0 - 10.0);
    }

    #[test]
    fn offsets_of_time_namespaces() {
        assert_eq!(parse_boot_offset("monotonic  0  0\nboottime  0  0\n"), 0);
        assert_eq!(parse_boot_offset("monotonic  5 1\nboottime  -86400 500000000\n"), -86_399_500_000_000);
        assert_eq!(parse_boot_offset("boottime lots\n"), 0);
        assert_eq!(parse_boot_offset(""), 0);
    }

    #[test]
    fn a_forked_child_tells_the_same_time() {
        let before = boot_ms();
        // SAFETY: the child reads clocks and small files of /proc, and leaves without destructors.
        match unsafe { nix::unistd::fork() }.expect("fork") {
            nix::unistd::ForkResult::Child => {
                let coarse = coarse_ms();
                let exact = boot_ms();
                let ok = exact >= before && coarse <= exact && coarse + 60_000 > exact;
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(i32::from(!ok)) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).expect("waitpid");
                assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
            }
        }
    }

    #[test]
    fn boot_ids() {
        assert_eq!(boot_id().expect("boot id"), boot_id().expect("boot id"));
        let id = parse_uuid("00112233-4455-6677-8899-aabbccddeeff\n").expect("a UUID");
        assert_eq!(id[0], 0);
        assert_eq!(id[15], 0xff);
        assert_eq!(parse_uuid("00112233"), None);
        assert_eq!(parse_uuid("g0112233-4455-6677-8899-aabbccddeeff"), None);
    }
}

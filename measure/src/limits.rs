//! What the machine can do at best: the figures to which all others are put in relation.
//!
//! Two processes are pinned to the first two processors there are. On a machine with one processor the
//! ping-pongs take what the scheduler takes.

use std::hint;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::{Prewritten, nameless};
use crate::{Error, Gate, Latency, Result, Words, cpus, join_all, now_ns, pin, spawn};

/// No limit takes this long to measure, unless the machine stands still.
const HANGS: Duration = Duration::from_secs(120);

/// Looks at a word before others are let on the processor: only where there is one processor for both.
const LOOKS: u32 = 10_000;

/// Bytes of a file for synced writes.
pub const PREWRITTEN: usize = 64 << 20;

/// Nanoseconds of a round trip between two processes over one word: there and back on the same cache line. The
/// median of trips that are timed one by one, as those over a queue are: with the reading of the clock.
pub fn one_line(rounds: u64) -> Result<f64> {
    ping_pong(rounds, 0)
}

/// Nanoseconds of a round trip between two processes over two words, on cache lines of their own, one for
/// each way: no queue between processes can be faster.
pub fn two_lines(rounds: u64) -> Result<f64> {
    ping_pong(rounds, 32)
}

/// The words are `apart` words apart; the one at 0 is the way there.
fn ping_pong(rounds: u64, apart: usize) -> Result<f64> {
    let words = Words::new(64)?;
    let gate = Gate::new(2)?;
    let warm_up = rounds / 10 + 1;
    let cpus = cpus();
    let pong = spawn(|| {
        pin(cpus[1 % cpus.len()])?;
        gate.arrive();
        for round in 0..warm_up + rounds {
            wait_for(&words[0], round * 2 + 1);
            words[apart].store(round * 2 + 2, Release);
        }
        Ok(0.0)
    })?;
    let ping = spawn(|| {
        pin(cpus[0])?;
        gate.arrive();
        let mut trips = Vec::with_capacity(rounds as usize);
        for round in 0..warm_up + rounds {
            let start = Instant::now();
            words[0].store(round * 2 + 1, Release);
            wait_for(&words[apart], round * 2 + 2);
            if round >= warm_up {
                trips.push(start.elapsed().as_nanos() as u64);
            }
        }
        trips.sort_unstable();
        Ok(trips.get(trips.len() / 2).map_or(f64::NAN, |&median| median as f64))
    })?;
    Ok(join_all(vec![ping, pong], HANGS, || Ok(()))?[0])
}

fn wait_for(word: &AtomicU64, value: u64) {
    let mut looks = 0_u32;
    // Pairs with the Release stores of the other side.
    while word.load(Acquire) != value {
        looks += 1;
        if looks.is_multiple_of(LOOKS) { thread::yield_now() } else { hint::spin_loop() }
    }
}

/// Bytes per second of `memcpy` in blocks of `block` bytes, going round through two buffers of `buffers`
/// bytes each, all in all `total` bytes.
pub fn memcpy(block: usize, buffers: usize, total: u64) -> f64 {
    let block = block.max(1);
    let buffers = buffers.max(block);
    let (from, mut to) = (vec![0x5a_u8; buffers], vec![0xa5_u8; buffers]);
    let copy = |to: &mut [u8], copies: u64| {
        let mut at = 0;
        for _ in 0..copies {
            if at + block > buffers {
                at = 0;
            }
            // Through a black box each time, so that no copy is left out.
            hint::black_box(&mut to[at..at + block]).copy_from_slice(hint::black_box(&from[at..at + block]));
            at += block;
        }
    };
    copy(&mut to, (buffers / block) as u64);
    let copies = (total / block as u64).max(1);
    let start = Instant::now();
    copy(&mut to, copies);
    (copies * block as u64) as f64 / start.elapsed().as_secs_f64()
}

/// Nanoseconds of reading the clock: each latency contains it once.
pub fn clock(rounds: u64) -> f64 {
    let start = Instant::now();
    for _ in 0..rounds {
        hint::black_box(now_ns());
    }
    start.elapsed().as_nanos() as f64 / rounds.max(1) as f64
}

/// From a futex wake to the woken process being back from the kernel, on processors of their own; one every
/// `every`, so that the sleeper sleeps. Wakes that met nobody asleep are not counted.
pub fn futex_wake(rounds: u64, every: Duration) -> Result<Latency> {
    let words = Words::new(64)?;
    let (bell, sent) = (&words[0], &words[32]);
    let gate = Gate::new(2)?;
    let cpus = cpus();
    let sleeper = spawn(|| {
        pin(cpus[1 % cpus.len()])?;
        gate.arrive();
        let mut latency = Latency::new();
        let mut seen = 0;
        while seen < rounds {
            let woken = futex(bell, libc::FUTEX_WAIT, seen as u32).is_ok();
            let woken_at = now_ns();
            let now = bell.load(Acquire);
            if woken && now == seen + 1 {
                latency.record(woken_at.saturating_sub(sent.load(Relaxed)));
            }
            seen = now;
        }
        Ok(latency)
    })?;
    let waker = spawn(|| {
        pin(cpus[0])?;
        gate.arrive();
        for round in 1..=rounds {
            thread::sleep(every);
            // Ordered before the bell, whose Release pairs with the sleeper's Acquire.
            sent.store(now_ns(), Relaxed);
            bell.store(round, Release);
            futex(bell, libc::FUTEX_WAKE, 1)?;
        }
        Ok(Latency::new())
    })?;
    let timeout = HANGS + every.saturating_mul(rounds.min(u64::from(u32::MAX)) as u32) * 4;
    let mut results = join_all(vec![sleeper, waker], timeout, || Ok(()))?;
    let latency = results.swap_remove(0);
    if rounds > 0 && latency.count() == 0 {
        return Err(Error::new("no futex wake met a process asleep: the machine is too busy"));
    }
    Ok(latency)
}

/// A futex call on the lower half of a word, without a timeout, between processes.
fn futex(word: &AtomicU64, operation: libc::c_int, value: u32) -> Result<(), std::io::Error> {
    const { assert!(cfg!(target_endian = "little"), "the lower half comes first") };
    // SAFETY: the address is that of a word that outlives the call, and there is no timeout to be read.
    let done = unsafe {
        libc::syscall(libc::SYS_futex, ptr::from_ref(word), operation, value, ptr::null::<libc::timespec>())
    };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Overwrites a block of `bytes` of a file in this directory and waits until it is on the disk, again and again.
pub fn fdatasync(dir: &Path, bytes: usize, rounds: u64) -> Result<Latency> {
    let file = nameless(dir)?;
    let block = vec![0x5a_u8; bytes];
    file.write_all_at(&block, 0)?;
    file.sync_all()?;
    let mut latency = Latency::new();
    for _ in 0..rounds {
        let start = Instant::now();
        file.write_all_at(&block, 0)?;
        file.sync_data()?;
        latency.record(start.elapsed().as_nanos() as u64);
    }
    Ok(latency)
}

/// Overwrites this many bytes by one `pwritev2` with `RWF_DSYNC`, again and again, in a file of this directory that is
/// full of written bytes: no journal can make a batch of that size durable sooner.
pub fn synced_write(dir: &Path, bytes: usize, rounds: u64) -> Result<Latency> {
    let mut file = Prewritten::new(dir, PREWRITTEN.max(bytes))?;
    let mut latency = Latency::new();
    for _ in 0..rounds {
        latency.record(file.write(bytes)?);
    }
    Ok(latency)
}

//! What a message costs the system: nothing. Counts the system calls and the allocations of the hot path.
//!
//! Two settings: one process that publishes to itself, and a producer and a consumer in two processes, all of
//! them spinning. They run under `ptrace`, which stops them at each system call, and with an allocator that
//! counts. After a warm-up a window is opened (by a system call that is used for nothing else here); what is
//! counted in it is printed as `SYSCALLS {json}`.
//!
//! Nothing at all is allowed but the sweeps: every 2 ms somebody asks the kernel whether the other
//! participants live, by one `fcntl` for each. That depends on the time, not on the messages.
//! `SYSCALLS_MESSAGES` sets the number of messages.

#![cfg(target_os = "linux")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use ringway::{Consumer, OnFull, Producer, Queue, Store, Wait};

/// Messages in the window.
const MESSAGES: u64 = 1_000_000;

/// Messages before it: more than a lap, so that every slot and buffer has been used.
const WARM_UP: u64 = 20_000;

const CAPACITY: u32 = 4096;

/// Opens and closes the window: nothing else here calls it.
const MARK: u64 = libc::SYS_getpgrp as u64;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: all is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a worker tells: a page shared with the one who watches.
struct Told {
    allocations: AtomicU64,
    window_ns: AtomicU64,
    ready: AtomicBool,
}

fn shared_page() -> &'static [Told; 2] {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous mapping at an address of the kernel's choice, zeroed, longer than the array, never
    // unmapped; zeros are valid for the atomics.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED, "a shared page");
        &*at.cast::<[Told; 2]>()
    }
}

fn messages() -> u64 {
    std::env::var("SYSCALLS_MESSAGES").map_or(MESSAGES, |text| text.parse().expect("a number"))
}

/// Runs the window of a worker, and tells what it cost.
fn window(told: &Told, work: impl FnOnce()) {
    let mark = || {
        // SAFETY: a system call that changes nothing.
        unsafe { libc::syscall(MARK as libc::c_long) }
    };
    mark();
    let (allocations, start) = (ALLOCATIONS.load(Relaxed), Instant::now());
    work();
    let elapsed = start.elapsed();
    told.allocations.store(ALLOCATIONS.load(Relaxed) - allocations, Relaxed);
    told.window_ns.store(elapsed.as_nanos() as u64, Relaxed);
    mark();
}

fn queue(path: &Path) -> Queue {
    Store::open(path).and_then(|store| store.queue("q")).expect("open the queue")
}

fn producer(queue: &Queue) -> Producer {
    queue.producer().wait(Wait::Spin).on_full(OnFull::Block(Duration::MAX)).build().expect("a producer")
}

fn consumer(queue: &Queue) -> Consumer {
    queue.consumer("default").wait(Wait::Spin).build().expect("a consumer")
}

fn publish(producer: &Producer, count: u64) {
    for index in 0..count {
        producer.publish(&index.to_le_bytes()).expect("publish");
    }
}

fn receive(consumer: &Consumer, count: u64) {
    for _ in 0..count {
        consumer.receive().expect("receive").ack().expect("ack");
    }
}

fn alone(path: &Path, told: &[Told; 2]) {
    let queue = queue(path);
    let (producer, consumer) = (producer(&queue), consumer(&queue));
    let round = |count| {
        for _ in 0..count {
            publish(&producer, 1);
            receive(&consumer, 1);
        }
    };
    round(WARM_UP);
    window(&told[0], || round(messages()));
}

fn produce(path: &Path, told: &[Told; 2]) {
    let producer = producer(&queue(path));
    publish(&producer, WARM_UP);
    window(&told[0], || publish(&producer, messages()));
    // The consumer's window must not have our end in it.
    while !told[1].ready.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn consume(path: &Path, told: &[Told; 2]) {
    let consumer = consumer(&queue(path));
    receive(&consumer, WARM_UP);
    window(&told[1], || receive(&consumer, messages()));
    told[1].ready.store(true, Relaxed);
}

/// A child that does this under `ptrace`; `Err` where that is not permitted.
fn start(work: impl FnOnce()) -> Result<Pid, String> {
    // SAFETY: the child goes on in this thread alone; the allocator bears that.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let fine = ptrace::traceme().is_ok() && nix::sys::signal::raise(Signal::SIGSTOP).is_ok() && {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok()
            };
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!fine)) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("wait") {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
                ptrace::setoptions(child, options).map_err(|error| error.to_string())?;
                ptrace::syscall(child, None).map_err(|error| error.to_string())?;
                Ok(child)
            }
            other => Err(format!("{other:?}")),
        },
    }
}

/// A traced child's system calls in its window, by number.
#[derive(Default)]
struct Count {
    inside: bool,
    over: bool,
    calls: BTreeMap<u64, u64>,
}

/// The number of the system call that a child is about to make; `None` if it is on its way out of one.
fn entered(child: Pid) -> Option<u64> {
    let info = ptrace::syscall_info(child).expect("PTRACE_GET_SYSCALL_INFO");
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: `op` says that this member of the union is valid.
    Some(unsafe { info.u.entry.nr })
}

/// Follows the children to their ends.
fn watch(children: &[Pid]) -> Vec<Count> {
    let mut counts: Vec<Count> = children.iter().map(|_| Count::default()).collect();
    while counts.iter().any(|count| !count.over) {
        // Only this thread's own children, which are these: another test may have some, too.
        let status = waitpid(None, Some(WaitPidFlag::__WNOTHREAD)).expect("wait");
        let child = status.pid().expect("somebody");
        let index = children.iter().position(|other| *other == child).expect("one of ours");
        let count = &mut counts[index];
        match status {
            WaitStatus::PtraceSyscall(_) => {
                match entered(child) {
                    Some(MARK) => count.inside = !count.inside,
                    Some(number) if count.inside => *count.calls.entry(number).or_default() += 1,
                    _ => {}
                }
                ptrace::syscall(child, None).expect("go on");
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(child, signal).expect("go on"),
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "a worker failed");
                count.over = true;
            }
            other => panic!("a worker met {other:?}"),
        }
    }
    counts
}

fn judge(setting: &str, count: &Count, told: &Told) {
    let (allocations, ms) = (told.allocations.load(Relaxed), told.window_ns.load(Relaxed) as f64 / 1e6);
    let total: u64 = count.calls.values().sum();
    let sweeps = count.calls.get(&(libc::SYS_fcntl as u64)).copied().unwrap_or(0);
    let line = serde_json::json!({
        "setting": setting,
        "messages": messages(),
        "system_calls": total,
        "of_those_sweeps": sweeps,
        "per_message": total as f64 / messages() as f64,
        "per_ms": total as f64 / ms,
        "ms": ms.round(),
        "allocations": allocations,
    });
    println!("SYSCALLS {line}");
    assert_eq!(allocations, 0, "{setting}");
    assert_eq!(total - sweeps, 0, "{setting}: other than sweeps: {:?}", count.calls);
    // One question per sweep and other participant, one sweep in 2 ms; twice that, for the clock's steps.
    assert!(sweeps as f64 <= 8.0 + ms, "{setting}: {sweeps} in {ms} ms");
}

fn store() -> (tempfile::TempDir, std::path::PathBuf) {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let path = place.path().join("store");
    let store = Store::create(&path).expect("create a store");
    Queue::options().capacity(CAPACITY).create(&store, "q").expect("create a queue");
    (place, path)
}

#[test]
fn a_process_that_publishes_to_itself() {
    let (_place, path) = store();
    let told = shared_page();
    match start(|| alone(&path, told)) {
        Ok(child) => judge("one process", &watch(&[child])[0], &told[0]),
        Err(why) => {
            println!("skipped: a_process_that_publishes_to_itself: ptrace is not permitted here: {why}")
        }
    }
}

#[test]
fn a_producer_and_a_consumer() {
    let (_place, path) = store();
    let told = shared_page();
    match (start(|| produce(&path, told)), start(|| consume(&path, told))) {
        (Ok(producer), Ok(consumer)) => {
            let counts = watch(&[producer, consumer]);
            judge("producer", &counts[0], &told[0]);
            judge("consumer", &counts[1], &told[1]);
        }
        (Err(why), _) | (_, Err(why)) => {
            println!("skipped: a_producer_and_a_consumer: ptrace is not permitted here: {why}");
        }
    }
}

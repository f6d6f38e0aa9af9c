//! First figures: round trip and stream between two processes, next to the physical limit in the same run.
//!
//! Both ends are processes of their own, pinned to two processors where there are two. The payload is written
//! and read, the ids in it are checked, every message is leased and acked. The rounds are interleaved; what
//! is printed is the median over the rounds, with the least and the most.
//!
//! ```sh
//! cargo bench --bench two_processes            # 7 rounds
//! cargo bench --bench two_processes -- 15      # more
//! ```
//!
//! The gauge is a ping-pong on two cache lines, one for each way: no queue between processes can be faster.

use std::env;
use std::hint;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ringway::{Consumer, Lease, Producer, Queue, Store, StoreOptions, Wait};

const ROUND_TRIPS: u64 = 100_000;
const STREAM: u64 = 4_000_000;
const CAPACITY: u32 = 16_384;

/// One thing to measure.
#[derive(Clone, Copy)]
struct Case {
    exclusive: bool,
    payload: usize,
    slot: u32,
}

impl Case {
    const ALL: [Case; 4] = [
        Case { exclusive: true, payload: 48, slot: 64 },
        Case { exclusive: true, payload: 64, slot: 128 },
        Case { exclusive: false, payload: 48, slot: 64 },
        Case { exclusive: false, payload: 64, slot: 128 },
    ];

    fn name(self) -> String {
        format!("{} {} B", if self.exclusive { "exclusive" } else { "shared" }, self.payload)
    }

    fn queue(self, store: &Store, name: &str) -> Queue {
        let options = Queue::options().capacity(CAPACITY).slot_size(self.slot).max_message(1024);
        options.open_or_create(store, name).expect("queue")
    }

    fn producer(self, queue: &Queue) -> Producer {
        let builder =
            queue.producer().on_full(ringway::OnFull::Block(std::time::Duration::MAX)).wait(Wait::Spin);
        if self.exclusive { builder.exclusive() } else { builder }.build().expect("producer")
    }

    fn consumer(self, queue: &Queue) -> Consumer {
        let builder = queue.consumer("default").lease(Lease::UntilDeath).wait(Wait::Spin);
        if self.exclusive { builder.exclusive() } else { builder }.build().expect("consumer")
    }
}

fn main() {
    let args: Vec<String> = env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--peer") {
        return peer(&args[at + 1..]);
    }
    let rounds = args.iter().filter_map(|arg| arg.parse().ok()).next().unwrap_or(7_usize);
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
    pin(0);
    let mut gauge = Series::default();
    let mut trips = vec![Series::default(); Case::ALL.len()];
    let mut tails = vec![Series::default(); Case::ALL.len()];
    let mut streams = vec![Series::default(); Case::ALL.len()];
    for round in 0..rounds {
        gauge.add(ping_pong(dir.path()));
        for (index, case) in Case::ALL.iter().enumerate() {
            let path = dir.path().join(format!("store-{round}-{index}"));
            let store = Store::create(&path).expect("store");
            let (p50, p999) = round_trip(&store, &path, index, *case);
            trips[index].add(p50);
            tails[index].add(p999);
            streams[index].add(stream(&store, &path, index, *case));
            drop(store);
            Store::remove(&path).expect("remove");
        }
    }
    let limit = gauge.median();
    println!("two-line cache ping-pong, round trip: {} ns", gauge.show(1));
    println!(
        "{:<16} {:>26} {:>8} {:>26} {:>26}",
        "", "round trip p50 ns", "ratio", "round trip p99.9 ns", "stream M msg/s"
    );
    for (index, case) in Case::ALL.iter().enumerate() {
        let (trip, tail, stream) = (&trips[index], &tails[index], &streams[index]);
        println!(
            "{:<16} {:>26} {:>8.2} {:>26} {:>26}",
            case.name(),
            trip.show(0),
            trip.median() / limit,
            tail.show(0),
            stream.show(1)
        );
    }
}

/// Median and spread.
#[derive(Default, Clone)]
struct Series(Vec<f64>);

impl Series {
    fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    fn show(&self, digits: usize) -> String {
        let (least, most) = (self.0[0], self.0[self.0.len() - 1]);
        format!("{:.digits$} ({least:.digits$} - {most:.digits$})", self.median())
    }
}

fn round_trip(store: &Store, path: &Path, index: usize, case: Case) -> (f64, f64) {
    let (there, back) = (case.queue(store, "there"), case.queue(store, "back"));
    let (producer, consumer) = (case.producer(&there), case.consumer(&back));
    let mut child = spawn(&["echo", &path.display().to_string(), &index.to_string()]);
    let mut payload = vec![0xa5_u8; case.payload];
    let mut times = Vec::with_capacity(ROUND_TRIPS as usize);
    for id in 0..ROUND_TRIPS + ROUND_TRIPS / 10 {
        payload[..8].copy_from_slice(&id.to_le_bytes());
        let start = Instant::now();
        producer.publish(&payload[..]).expect("publish");
        let delivery = consumer.receive().expect("receive");
        let took = start.elapsed();
        assert_eq!(delivery.payload(), payload, "the echo is what was sent");
        delivery.ack().expect("ack");
        if id >= ROUND_TRIPS / 10 {
            times.push(took.as_nanos() as u64);
        }
    }
    finish(&mut child);
    times.sort_unstable();
    (times[times.len() / 2] as f64, times[times.len() * 999 / 1000] as f64)
}

fn stream(store: &Store, path: &Path, index: usize, case: Case) -> f64 {
    let queue = case.queue(store, "stream");
    let consumer = case.consumer(&queue);
    let mut child = spawn(&["send", &path.display().to_string(), &index.to_string()]);
    let mut start = Instant::now();
    let mut sum = 0_u64;
    let mut seen = vec![false; STREAM as usize];
    for id in 0..STREAM {
        let delivery = consumer.receive().expect("receive");
        let payload = delivery.payload();
        let found = u64::from_le_bytes(payload[..8].try_into().expect("8 bytes"));
        // A relaxed group goes on past a producer that pauses in the middle of a publish.
        assert!(found == id || !case.exclusive, "in order");
        assert!(!std::mem::replace(&mut seen[found as usize], true), "none doubled, so none lost");
        sum = sum.wrapping_add(payload.iter().map(|&byte| u64::from(byte)).sum::<u64>());
        delivery.ack().expect("ack");
        if id == STREAM / 10 {
            start = Instant::now();
        }
    }
    hint::black_box(sum);
    let rate = (STREAM - STREAM / 10) as f64 / start.elapsed().as_secs_f64() / 1e6;
    finish(&mut child);
    rate
}

/// The other end.
fn peer(args: &[String]) {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).expect("prctl");
    pin(1);
    let open = |path: &str| StoreOptions::new().open(path).expect("store");
    match args[0].as_str() {
        "echo" => {
            let (store, case) = (open(&args[1]), Case::ALL[args[2].parse::<usize>().expect("index")]);
            let (there, back) = (case.queue(&store, "there"), case.queue(&store, "back"));
            let (consumer, producer) = (case.consumer(&there), case.producer(&back));
            for _ in 0..ROUND_TRIPS + ROUND_TRIPS / 10 {
                let delivery = consumer.receive().expect("receive");
                producer.publish(delivery.payload()).expect("publish");
                delivery.ack().expect("ack");
            }
        }
        "send" => {
            let (store, case) = (open(&args[1]), Case::ALL[args[2].parse::<usize>().expect("index")]);
            let producer = case.producer(&case.queue(&store, "stream"));
            let mut payload = vec![0x5a_u8; case.payload];
            for id in 0..STREAM {
                payload[..8].copy_from_slice(&id.to_le_bytes());
                producer.publish(&payload[..]).expect("publish");
            }
        }
        "pong" => {
            let lines = Lines::open(Path::new(&args[1]));
            for value in 1..=ROUND_TRIPS {
                while lines.there().load(Ordering::Acquire) != value {
                    hint::spin_loop();
                }
                lines.back().store(value, Ordering::Release);
            }
        }
        other => panic!("no such peer: {other}"),
    }
}

/// Mean nanoseconds there and back over two lines.
fn ping_pong(dir: &Path) -> f64 {
    let path = dir.join("lines");
    std::fs::write(&path, vec![0; 4096]).expect("write");
    let lines = Lines::open(&path);
    let mut child = spawn(&["pong", &path.display().to_string()]);
    let mut start = Instant::now();
    for value in 1..=ROUND_TRIPS {
        lines.there().store(value, Ordering::Release);
        while lines.back().load(Ordering::Acquire) != value {
            hint::spin_loop();
        }
        if value == ROUND_TRIPS / 10 {
            start = Instant::now();
        }
    }
    let took = start.elapsed().as_nanos() as f64 / (ROUND_TRIPS - ROUND_TRIPS / 10) as f64;
    finish(&mut child);
    took
}

/// Two words, 256 bytes apart, in a mapped file.
struct Lines(memmap2::MmapRaw);

impl Lines {
    fn open(path: &Path) -> Lines {
        let file = std::fs::File::options().read(true).write(true).open(path).expect("open");
        Lines(memmap2::MmapOptions::new().map_raw(&file).expect("map"))
    }

    fn there(&self) -> &AtomicU64 {
        // SAFETY: the file is a page long, and all who map it use these words as atomics.
        unsafe { &*self.0.as_mut_ptr().cast() }
    }

    fn back(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { &*self.0.as_mut_ptr().add(256).cast() }
    }
}

fn spawn(args: &[&str]) -> Child {
    let exe = env::current_exe().expect("this program");
    let mut command = Command::new(exe);
    command.arg0("two_processes").arg("--peer").args(args).stdin(Stdio::null());
    command.spawn().expect("spawn")
}

fn finish(child: &mut Child) {
    assert!(child.wait().expect("wait").success(), "the other end failed");
}

/// Pins this process to a processor, if it is there.
fn pin(processor: usize) {
    let mut set = nix::sched::CpuSet::new();
    if set.set(processor).is_ok() {
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}

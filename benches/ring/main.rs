//! What publish, and receive with ack, cost one process: runs of 512 messages are published, then received,
//! so that neither side waits for the other.
//!
//! Twice: `queue` is a queue as everybody uses it, with its payload copied in and out of the mapped file;
//! `ring` is the algorithm alone, on a vector of words. The difference is what the queue adds.

mod bare;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::{Lease, Queue, Store};
use std::hint::black_box;
use std::time::{Duration, Instant};

const RUN: u64 = 512;

const ROLES: [(&str, bool); 2] = [("shared", false), ("exclusive", true)];

fn queue(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
    let store = Store::create(dir.path().join("store")).expect("store");
    let mut group = criterion.benchmark_group("queue");
    for (role, exclusive) in ROLES {
        let options = Queue::options().capacity(bare::CAPACITY as u32).slot_size(128).max_message(1024);
        let queue = options.create(&store, role).expect("queue");
        let producer = queue.producer();
        let producer = if exclusive { producer.exclusive() } else { producer }.build().expect("producer");
        let consumer = queue.consumer("default").max_in_flight(1024).lease(Lease::UntilDeath);
        let consumer = if exclusive { consumer.exclusive() } else { consumer }.build().expect("consumer");
        let payload = [0x5a_u8; 64];
        let publish = || {
            producer.publish(&payload[..]).expect("publish");
        };
        let receive = || {
            let delivery = consumer.try_receive().expect("receive").expect("a message");
            black_box(delivery.payload()[7]);
            delivery.ack().expect("ack");
        };
        phases(&mut group, ["publish", "receive+ack"], role, publish, receive);
    }
    group.finish();
}

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    for (role, exclusive) in ROLES {
        let ends = bare::Ends::new(exclusive);
        phases(&mut group, ["claim+finish", "lease+ack"], role, || ends.publish(), || ends.receive());
    }
    group.finish();
}

/// Measures both sides, each in runs between which the other one does its part.
fn phases(
    group: &mut BenchmarkGroup<'_, WallTime>,
    [publishing, receiving]: [&str; 2],
    role: &str,
    publish: impl Fn(),
    receive: impl Fn(),
) {
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(2));
    let publish = || (0..RUN).for_each(|_| publish());
    let receive = || (0..RUN).for_each(|_| receive());
    group.bench_function(BenchmarkId::new(publishing, role), |bencher| {
        bencher.iter_custom(|n| in_runs(n, || (), publish, receive));
    });
    group.bench_function(BenchmarkId::new(receiving, role), |bencher| {
        bencher.iter_custom(|n| in_runs(n, publish, receive, || ()));
    });
}

/// The time of `iterations`, by whole runs; that before and after a run does not count.
fn in_runs(iterations: u64, before: impl Fn(), timed: impl Fn(), after: impl Fn()) -> Duration {
    let runs = iterations.div_ceil(RUN);
    let mut took = Duration::ZERO;
    for _ in 0..runs {
        before();
        let start = Instant::now();
        timed();
        took += start.elapsed();
        after();
    }
    took.mul_f64(iterations as f64 / (runs * RUN) as f64)
}

criterion_group!(benches, queue, ring);
criterion_main!(benches);

//! What it costs one process to settle: runs of 256 deliveries are received, then acked, nacked, released or
//! extended, and only that is timed. What was given back is received again and acked before the next run.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::{Consumer, Delivery, Lease, Producer, Queue, Store};
use std::time::{Duration, Instant};

const RUN: usize = 256;

/// A way to end a delivery.
struct End {
    name: &'static str,
    settle: for<'c> fn(Delivery<'c>),
    /// Whether the message is delivered again.
    comes_back: bool,
}

const ENDS: [End; 3] = [
    End { name: "ack", settle: |delivery| delivery.ack().expect("ack"), comes_back: false },
    End {
        name: "nack",
        settle: |delivery| delivery.nack_after(Duration::ZERO).expect("nack"),
        comes_back: true,
    },
    End { name: "release", settle: |delivery| delivery.release().expect("release"), comes_back: true },
];

fn settle(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
    let store = Store::create(dir.path().join("store")).expect("store");
    let mut group = criterion.benchmark_group("settle");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(1));
    let timed = Lease::Timed(Duration::from_secs(60));
    for (name, exclusive, lease) in [
        ("shared", false, Lease::UntilDeath),
        ("shared timed", false, timed),
        ("exclusive", true, Lease::UntilDeath),
    ] {
        let queue = Queue::options().capacity(1024).create(&store, &name.replace(' ', "-")).expect("queue");
        let producer = queue.producer().build().expect("producer");
        let consumer = queue.consumer("default").max_in_flight(RUN).lease(lease);
        let consumer = if exclusive { consumer.exclusive() } else { consumer }.build().expect("consumer");
        for end in &ENDS {
            group.bench_function(BenchmarkId::new(end.name, name), |bencher| {
                bencher.iter_custom(|n| in_runs(n, || ends(&producer, &consumer, end)));
            });
        }
        if lease == timed {
            group.bench_function(BenchmarkId::new("extend", name), |bencher| {
                bencher.iter_custom(|n| in_runs(n, || extends(&producer, &consumer)));
            });
        }
    }
    group.finish();
}

/// The time of `iterations`, by whole runs.
fn in_runs(iterations: u64, run: impl Fn() -> Duration) -> Duration {
    let runs = iterations.div_ceil(RUN as u64);
    let took: Duration = (0..runs).map(|_| run()).sum();
    took.mul_f64(iterations as f64 / (runs * RUN as u64) as f64)
}

fn ends(producer: &Producer, consumer: &Consumer, end: &End) -> Duration {
    let deliveries = filled(producer, consumer);
    let start = Instant::now();
    deliveries.into_iter().for_each(end.settle);
    let took = start.elapsed();
    let again = if end.comes_back { RUN } else { 0 };
    for _ in 0..again {
        consumer.receive().expect("it comes again").ack().expect("ack");
    }
    took
}

fn extends(producer: &Producer, consumer: &Consumer) -> Duration {
    let mut deliveries = filled(producer, consumer);
    let start = Instant::now();
    for delivery in &mut deliveries {
        delivery.extend(Duration::from_secs(60)).expect("extend");
    }
    let took = start.elapsed();
    deliveries.into_iter().for_each(|delivery| delivery.ack().expect("ack"));
    took
}

fn filled<'c>(producer: &Producer, consumer: &'c Consumer) -> Vec<Delivery<'c>> {
    for _ in 0..RUN {
        producer.publish(&[0x5a_u8; 64][..]).expect("publish");
    }
    let receive = |_| consumer.try_receive().expect("receive").expect("a message");
    (0..RUN).map(receive).collect()
}

criterion_group!(benches, settle);
criterion_main!(benches);

//! What publish, and receive with ack, cost one process: runs of 512 messages are published, then received,
//! so that neither side waits for the other.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::{Lease, Queue, Store};
use std::hint::black_box;
use std::time::{Duration, Instant};

const RUN: u64 = 512;

fn phases(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
    let store = Store::create(dir.path().join("store")).expect("store");
    let mut group = criterion.benchmark_group("phase");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(2));
    for (role, exclusive) in [("shared", false), ("exclusive", true)] {
        let options = Queue::options().capacity(16_384).slot_size(128).max_message(1024);
        let queue = options.create(&store, role).expect("queue");
        let producer = queue.producer();
        let producer = if exclusive { producer.exclusive() } else { producer }.build().expect("producer");
        let consumer = queue.consumer("default").max_in_flight(1024).lease(Lease::UntilDeath);
        let consumer = if exclusive { consumer.exclusive() } else { consumer }.build().expect("consumer");
        let payload = [0x5a_u8; 64];
        let publish = || {
            for _ in 0..RUN {
                producer.publish(&payload[..]).expect("publish");
            }
        };
        let receive = || {
            for _ in 0..RUN {
                let delivery = consumer.try_receive().expect("receive").expect("a message");
                black_box(delivery.payload()[7]);
                delivery.ack().expect("ack");
            }
        };
        let timed = |iterations: u64, first: &dyn Fn(), timed: &dyn Fn(), last: &dyn Fn()| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations.div_ceil(RUN) {
                first();
                let start = Instant::now();
                timed();
                took += start.elapsed();
                last();
            }
            took.mul_f64(iterations as f64 / (iterations.div_ceil(RUN) * RUN) as f64)
        };
        group.bench_function(BenchmarkId::new("publish", role), |bencher| {
            bencher.iter_custom(|n| timed(n, &|| (), &publish, &receive));
        });
        group.bench_function(BenchmarkId::new("receive+ack", role), |bencher| {
            bencher.iter_custom(|n| timed(n, &publish, &receive, &|| ()));
        });
    }
    group.finish();
}

criterion_group!(benches, phases);
criterion_main!(benches);

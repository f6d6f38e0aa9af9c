//! What headers cost: writing a message's, and reading them, by themselves and on their way through a queue.

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::{HeadersRef, Message, Queue, Store};
use std::hint::black_box;
use std::time::Duration;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn message() -> Message {
    Message::new(black_box([0x5a_u8; 64]))
        .with_type(black_box("order.placed"))
        .with_correlation_id(black_box("order-17"))
        .with_traceparent(black_box(TRACE))
        .with_header(black_box("tenant"), black_box("blue"))
        .with_header(black_box("region"), black_box("north"))
}

/// Every header that there is.
fn read(headers: HeadersRef<'_>) -> usize {
    let known = [headers.message_type(), headers.correlation_id(), headers.traceparent()];
    known.iter().flatten().map(|text| text.len()).sum::<usize>()
        + headers.user().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers");
    group.sample_size(20).measurement_time(Duration::from_secs(1));
    group.bench_function("write 5", |bencher| bencher.iter(message));
    let written = message();
    group.bench_function("read 5", |bencher| bencher.iter(|| read(black_box(&written).headers())));
    group.bench_function("find the last of 5", |bencher| {
        bencher.iter(|| black_box(&written).headers().get(black_box("region")).map(str::len));
    });

    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
    let store = Store::create(dir.path().join("store")).expect("store");
    let queue = Queue::options().capacity(1024).slot_size(256).create(&store, "headers").expect("queue");
    let (producer, consumer) = (queue.producer().build(), queue.consumer("default").build());
    let (producer, consumer) = (producer.expect("producer"), consumer.expect("consumer"));
    let plain = Message::new([0x5a_u8; 64]);
    for (name, message) in [("through a queue with 5", &written), ("through a queue without", &plain)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                producer.publish(message).expect("publish");
                let delivery = consumer.try_receive().expect("receive").expect("a message");
                black_box(read(delivery.headers()));
                delivery.ack().expect("ack");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);

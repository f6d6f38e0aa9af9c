//! Those who work in a store that somebody scribbles over.

use std::path::Path;
use std::time::{Duration, Instant};

use ringway::{Consumer, Delivery, GroupOptions, Lease, Message, Producer, Queue, Removal, Start, Store};

use super::Random;

/// What begins a victim's report.
pub(crate) const REPORT: &str = "victim: ";

/// Seconds that a call may take on a busy machine.
const ALARM: u32 = 20;

/// Address space that a victim may have. It maps some 5 MB.
const MEMORY: u64 = 1 << 30;

/// Memory that it may ever have had, in KiB: what its buffers can add up to is far less.
const PEAK_KIB: u64 = 200 << 10;

/// Ends this process if it does not call it again in time.
fn watchdog() {
    // SAFETY: sets a timer; its signal ends the process.
    unsafe { libc::alarm(ALARM) };
}

fn limit_memory() {
    let limit = libc::rlimit { rlim_cur: MEMORY, rlim_max: MEMORY };
    // SAFETY: a valid structure; it concerns this process alone.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(set, 0, "setrlimit");
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What a victim has open. Any of it may be refused by what the scribbler wrote.
#[derive(Default)]
struct Handles {
    producer: Option<Producer>,
    consumer: Option<Consumer>,
}

/// Does this many things, whatever comes of them.
pub(crate) fn work(path: &Path, seed: u64, operations: u64) {
    limit_memory();
    let mut random = Random(seed);
    let mut done = 0;
    let mut longest = Duration::ZERO;
    while done < operations {
        watchdog();
        done += 1;
        // SAFETY: none of the bytes handed out in place are relied upon here.
        let Ok(store) = unsafe { Store::options().trust_peers() }.open(path) else { continue };
        let Ok(queue) = store.queue("q") else { continue };
        let mut handles = Handles::default();
        for _ in 0..256 {
            watchdog();
            let start = Instant::now();
            one_thing(&store, &queue, &mut handles, &mut random);
            longest = longest.max(start.elapsed());
            done += 1;
        }
    }
    let peak = peak_kib();
    let longest = longest.as_millis();
    println!(
        "\n{REPORT}{{\"seed\":{seed},\"operations\":{done},\"longest_ms\":{longest},\"peak_kib\":{peak}}}"
    );
    assert!(peak < PEAK_KIB, "it had {peak} KiB");
}

fn one_thing(store: &Store, queue: &Queue, handles: &mut Handles, random: &mut Random) {
    match random.below(64) {
        0..20 => publish(queue, handles, random),
        20..44 => receive(queue, handles, random),
        44 => handles.producer = None,
        45 => handles.consumer = None,
        _ => look(store, queue, random),
    }
}

fn publish(queue: &Queue, handles: &mut Handles, random: &mut Random) {
    if handles.producer.is_none() {
        let builder = queue.producer();
        let builder = if random.below(8) == 0 { builder.exclusive() } else { builder };
        handles.producer = builder.build().ok();
    }
    let Some(producer) = &handles.producer else { return };
    match random.below(8) {
        0 => drop(producer.publish(vec![7; 4000])),
        1 => drop(producer.publish_batch(["a", "b", "c"])),
        2 => drop(producer.publish_timeout("patient", Duration::from_micros(200))),
        3 => drop(producer.publish(Message::new("x").with_type("t").with_header("k", "v"))),
        4 => drop(producer.loan(20)),
        5 => {
            if let Ok(mut loan) = producer.loan(20) {
                loan.fill(1);
                drop(loan.publish());
            }
        }
        _ => drop(producer.publish("small")),
    }
}

fn receive(queue: &Queue, handles: &mut Handles, random: &mut Random) {
    if handles.consumer.is_none() {
        let group = if random.below(4) == 0 { "other" } else { "default" };
        let builder = queue.consumer(group);
        let builder = if random.below(8) == 0 { builder.exclusive() } else { builder };
        let lease =
            if random.below(2) == 0 { Lease::UntilDeath } else { Lease::Timed(Duration::from_millis(3)) };
        handles.consumer = builder.lease(lease).build().ok();
    }
    let Some(consumer) = &handles.consumer else { return };
    match random.below(8) {
        0 => drop(consumer.receive_and_delete(Duration::from_micros(100))),
        1 => {
            for delivery in consumer.receive_batch(8, Duration::from_micros(100)).unwrap_or_default() {
                settle(delivery, random);
            }
        }
        2 => {
            if let Ok(Some(delivery)) = consumer.receive_timeout(Duration::from_micros(500)) {
                settle(delivery, random);
            }
        }
        _ => {
            if let Ok(Some(delivery)) = consumer.try_receive() {
                settle(delivery, random);
            }
        }
    }
}

fn settle(mut delivery: Delivery<'_>, random: &mut Random) {
    let headers = delivery.headers().to_owned();
    assert!(delivery.payload().len() <= 4096);
    let _ = (headers, delivery.attempt(), delivery.remaining(), delivery.lost());
    match random.below(10) {
        0 => drop(delivery.nack()),
        1 => drop(delivery.nack_after(Duration::from_millis(1))),
        2 => drop(delivery.release()),
        3 => drop(delivery.reject("scribbled")),
        4 => drop(delivery.extend(Duration::from_millis(2))),
        5 => drop(delivery),
        _ => drop(delivery.ack()),
    }
}

/// Looks at everything, and does what is seldom done.
fn look(store: &Store, queue: &Queue, random: &mut Random) {
    match random.below(12) {
        0 => drop(queue.info()),
        1 => drop(queue.groups()),
        2 => {
            for peeked in queue.peek("default", 10).unwrap_or_default() {
                drop(peeked.headers().to_owned());
            }
            if let Ok(browse) = queue.browse(&[], &[]) {
                for browsed in browse.flatten() {
                    drop(browsed.headers().to_owned());
                }
            }
        }
        3 => {
            for letter in queue.dead("default").unwrap_or_default() {
                let position = letter.message.position;
                if random.below(2) == 0 {
                    drop(queue.retry_dead("default", position));
                } else {
                    drop(queue.purge_dead("default", position));
                }
            }
        }
        4 => drop(queue.verify().map(|report| assert!(report.violations.len() < 1_000_000))),
        5 => drop(store.repair()),
        6 => drop(store.participants()),
        7 => drop(store.queues()),
        8 => {
            let start = if random.below(2) == 0 { Start::Now } else { Start::Oldest };
            drop(queue.add_group("other", GroupOptions { start, ..GroupOptions::default() }));
        }
        9 => drop(queue.remove_group("other", Removal::IfUnused)),
        10 => drop(queue.retry_dead("default", random.next())),
        _ => drop(queue.purge_dead("default", random.next())),
    }
}

/// Leaves a message of each state in the first slots: leased, leased with a deadline, returned, dead, ready
/// in two sizes.
pub(crate) fn prepare(queue: &Queue) -> impl Drop + use<> {
    let producer = queue.producer().build().expect("a producer");
    let holder: &'static Consumer =
        Box::leak(Box::new(queue.consumer("default").lease(Lease::UntilDeath).build().expect("a consumer")));
    let timed: &'static Consumer =
        Box::leak(Box::new(queue.consumer("default").build().expect("a consumer")));
    for index in 0..6 {
        producer.publish(vec![7; if index == 5 { 3000 } else { 20 }]).expect("publish");
    }
    let take = |consumer: &'static Consumer| consumer.try_receive().expect("receive").expect("a message");
    let kept = (take(holder), take(timed));
    take(holder).nack().expect("nack");
    take(holder).reject("no").expect("reject");
    Kept(Some(kept))
}

/// Deliveries that are held meanwhile.
struct Kept(Option<(Delivery<'static>, Delivery<'static>)>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some((one, two)) = self.0.take() {
            // Whether it still stands is for the flipped bit to say.
            drop(one.ack());
            drop(two.ack());
        }
    }
}

/// Does each thing a few times, as a process that had the store open, and as one that opens it now.
pub(crate) fn everything(path: &Path, store: &Store, queue: &Queue, random: &mut Random) {
    for round in 0..2 {
        watchdog();
        let opened = if round == 0 { None } else { Store::open(path).ok() };
        let store = opened.as_ref().unwrap_or(store);
        let opened = if round == 0 { None } else { store.queue("q").ok() };
        let queue = opened.as_ref().unwrap_or(queue);
        let mut handles = Handles::default();
        for _ in 0..24 {
            watchdog();
            publish(queue, &mut handles, random);
            receive(queue, &mut handles, random);
        }
        for _ in 0..24 {
            watchdog();
            look(store, queue, random);
        }
    }
}

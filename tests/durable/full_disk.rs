//! A disk that is full, on a small file system of its own.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringway::{Consumer, DurableError, Producer, PublishFailure, Store};

use crate::{left, small};

/// Tells this binary where the small disk is mounted.
const DISK: &str = "RINGWAY_DURABLE_DISK";

const OPTIONS: [&str; 4] = ["--map-root-user", "--mount", "--propagation", "private"];

#[test]
fn a_full_disk_stops_publishers_and_nobody_else() {
    let name = "a_full_disk_stops_publishers_and_nobody_else";
    let tried = Command::new("unshare").args(OPTIONS).arg("true").stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("skipped: {name}: unshare {OPTIONS:?} is missing or not permitted here");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mount = format!(r#"mount -t tmpfs -o size=2m none "${DISK}" && exec "$@""#);
    let mut command = Command::new("unshare");
    command.args(OPTIONS).args(["sh", "-c", &mount, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "full_disk::on_a_small_disk", "--nocapture", "--test-threads=1"]);
    let status = command.env(DISK, place.path()).status().unwrap();
    if status.code() == Some(32) {
        println!("skipped: {name}: mount is not permitted here");
        return;
    }
    assert!(status.success(), "{status}");
}

/// Not a test by itself: what runs with a disk of 2 MiB.
#[test]
fn on_a_small_disk() {
    let Some(disk) = std::env::var_os(DISK) else { return };
    let disk = Path::new(&disk);
    let (dir, filler) = (disk.join("shop"), disk.join("filler"));
    std::fs::write(&filler, vec![1; 1 << 20]).unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let rings = memory.path().join("rings");
    let options = Store::options().durable(&dir).durable_options(|options| options.segment_len = 64 << 10);
    let mut told = Told::default();
    {
        let store = options.create(&rings).unwrap();
        let queue = small().create(&store, "q").unwrap();
        let producer = queue.producer().build().unwrap();
        let worker = queue.consumer("default").build().unwrap();
        told.publish_until_full(&producer);
        assert!(told.confirmed.len() > 20, "{} confirmed", told.confirmed.len());
        let full = producer.publish("a short one").unwrap_err();
        assert!(matches!(full.failure, PublishFailure::JournalFull), "{full:?}");
        for _ in 0..10 {
            told.ack_one(&worker);
        }
        std::fs::remove_file(&filler).unwrap();
        told.publish_again(&producer, "space was freed");
    }
    std::fs::remove_dir_all(&rings).unwrap();
    let store = Store::open(&dir).unwrap();
    let queue = store.queue("q").unwrap();
    told.check(&left(&queue, "default"));
    // Nobody makes room but the consumers.
    let producer = queue.producer().build().unwrap();
    let worker = queue.consumer("default").build().unwrap();
    told.publish_until_full(&producer);
    while worker.receive_timeout(Duration::from_millis(200)).unwrap().is_some_and(|d| d.ack().is_ok()) {}
    told.confirmed.clear();
    told.publish_again(&producer, "consumers caught up");
    producer.flush().unwrap();
}

/// What the producer was told, and the worker.
#[derive(Default)]
struct Told {
    published: usize,
    confirmed: VecDeque<String>,
}

impl Told {
    fn message(&mut self) -> String {
        self.published += 1;
        format!("{:>8000}", self.published)
    }

    fn publish_until_full(&mut self, producer: &Producer) {
        for _ in 0..1000 {
            let message = self.message();
            match producer.publish(&message[..]) {
                Ok(receipt) => match receipt.durable_timeout(Duration::from_millis(500)) {
                    Ok(()) => self.confirmed.push_back(message),
                    Err(DurableError::Timeout) => {}
                    Err(error) => panic!("{error}"),
                },
                Err(refused) => {
                    assert!(matches!(refused.failure, PublishFailure::JournalFull), "{refused:?}");
                    return;
                }
            }
        }
        panic!("8 MB do not fit 2");
    }

    fn ack_one(&mut self, worker: &Consumer) {
        let delivery = worker.receive_timeout(Duration::from_secs(9)).unwrap().expect("a message");
        let expected = self.confirmed.pop_front().unwrap();
        assert_eq!(String::from_utf8_lossy(delivery.payload()), expected);
        delivery.ack().unwrap();
    }

    /// Publishes once it can be.
    fn publish_again(&mut self, producer: &Producer, why: &str) {
        let start = Instant::now();
        loop {
            let message = self.message();
            match producer.publish(&message[..]) {
                Ok(receipt) => {
                    receipt.durable_timeout(Duration::from_secs(9)).unwrap();
                    self.confirmed.push_back(message);
                    return;
                }
                Err(refused) => {
                    assert!(matches!(refused.failure, PublishFailure::JournalFull), "{refused:?}");
                    assert!(start.elapsed() < Duration::from_secs(9), "{why}, and nobody noticed");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// All that was confirmed is there; acks that were not waited for may have been lost.
    fn check(&self, left: &[String]) {
        for message in &self.confirmed {
            assert!(left.contains(message), "lost: {}", message.trim());
        }
    }
}

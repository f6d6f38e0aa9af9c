//! Files of a durable store that are damaged, missing, or somebody else's.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringway::{Corruption, JournalError, OnFull, Store, StoreError};

use crate::{Scene, left, small};

/// The names of the segments, in order.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    segments.sort();
    segments
}

/// Publishes these, one batch each, in segments of 64 KiB, and takes the rings away.
fn scene_with(messages: &[Vec<u8>]) -> Scene {
    let scene = Scene::new();
    {
        let store = scene.store_with(|options| options.segment_len = 64 << 10);
        let queue = small().create(&store, "q").unwrap();
        let producer = queue.producer().build().unwrap();
        for message in messages {
            producer.publish_confirmed(message).unwrap();
        }
    }
    scene.cut();
    scene
}

fn corruption_of<T>(result: Result<T, StoreError>) -> Corruption {
    match result {
        Err(StoreError::Journal(JournalError::Corrupt(found))) => *found,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

/// A message of a number, as long as it takes to fill segments.
fn long(number: usize) -> Vec<u8> {
    format!("{number:>9000}").into_bytes()
}

fn numbers(scene: &Scene) -> Vec<usize> {
    let queue = scene.reopen().queue("q").unwrap();
    left(&queue, "default").iter().map(|text| text.trim().parse().unwrap()).collect()
}

#[test]
fn a_flipped_byte_in_the_middle_is_refused_and_can_be_cut_off() {
    let scene = scene_with(&(0..30).map(long).collect::<Vec<_>>());
    let segments = segments(&scene.dir);
    assert!(segments.len() > 3, "{segments:?}");
    let damaged = &segments[1];
    let bytes = fs::read(damaged).unwrap();
    let at = bytes.windows(2000).position(|window| window == [b' '; 2000]).unwrap() + 1000;
    let file = OpenOptions::new().write(true).open(damaged).unwrap();
    file.write_all_at(&[bytes[at] ^ 0x10], at as u64).unwrap();
    let found = corruption_of(Store::open(&scene.dir));
    assert_eq!((&found.path, found.segment), (damaged, 2));
    assert!(found.offset > 0 && found.offset <= at as u64 && at as u64 - found.offset < 16 << 10);
    assert!(found.end_lost > found.first_lost + 10, "{found:?}");
    assert!(!scene.rings.join("control").exists(), "it was refused before there was a store");

    let files = || segments_and_bytes(&scene.dir);
    let before = files();
    let told = Store::repair_journal(&scene.dir, true).unwrap();
    let damage = told.damage.clone().expect("damage");
    assert_eq!((damage.first_lost, damage.last_lost + 1), (found.first_lost, found.end_lost));
    assert!(damage.readable_records > 10 && !told.done && told.is_needed(), "{told:?}");
    assert_eq!(files(), before, "nothing was done");
    let done = Store::repair_journal(&scene.dir, false).unwrap();
    assert_eq!((done.damage, done.done), (told.damage, true));
    assert!(!Store::repair_journal(&scene.dir, false).unwrap().is_needed());
    let kept = numbers(&scene);
    assert!(!kept.is_empty() && kept.len() < 15, "{kept:?}");
    assert_eq!(kept, (0..kept.len()).collect::<Vec<_>>());
    // And it goes on.
    scene.reopen().queue("q").unwrap().producer().build().unwrap().publish_confirmed("77").unwrap();
    scene.cut();
    assert_eq!(numbers(&scene).last(), Some(&77));
}

fn segments_and_bytes(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    segments(dir).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_segment_that_is_missing_is_missed() {
    let scene = scene_with(&(0..30).map(long).collect::<Vec<_>>());
    let segments = segments(&scene.dir);
    fs::remove_file(&segments[2]).unwrap();
    let found = corruption_of(Store::open(&scene.dir));
    assert_eq!((&found.path, found.offset), (&segments[2], 0));
    assert!(found.end_lost > found.first_lost, "{found:?}");
    assert!(Store::repair_journal(&scene.dir, false).unwrap().damage.is_some());
    let kept = numbers(&scene);
    assert!(!kept.is_empty() && kept.len() < 20, "{kept:?}");
    assert_eq!(kept, (0..kept.len()).collect::<Vec<_>>());
}

#[test]
fn an_identity_that_cannot_be_is_refused() {
    let scene = scene_with(&[b"kept".to_vec()]);
    let other = scene_with(&[]);
    let path = scene.dir.join("store");
    let good = fs::read_to_string(&path).unwrap();
    let fails = |content: &str| {
        fs::write(&path, content).unwrap();
        let error = Store::open(&scene.dir).expect_err(content);
        assert!(Store::repair_journal(&scene.dir, false).is_err(), "{content}");
        error
    };
    for bad in ["", "{", "\0\0\0\0", "[1]", "{\"ringway\": 1}"] {
        let error = fails(bad);
        assert!(matches!(error, StoreError::Foreign { .. }), "{bad:?}: {error}");
    }
    let error = fails(&good.replace("\"ringway\": 1", "\"ringway\": 2"));
    assert!(matches!(error, StoreError::Version { found: 2, expected: 1, .. }), "{error}");
    let id = good.split('"').find(|text| text.len() == 32).expect("the id");
    let error = fails(&good.replace(id, &format!("x{}", &id[1..])));
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let error = fails(&good.replace("65536", "65537"));
    assert!(matches!(error, StoreError::BadOption { option: "segment_len", .. }), "{error}");
    // That of another store, with its rings elsewhere.
    let foreign = fs::read_to_string(other.dir.join("store")).unwrap();
    let error = fails(&foreign);
    assert!(matches!(error, StoreError::Journal(JournalError::Foreign { .. })), "{error}");
    fs::remove_file(&path).unwrap();
    assert!(matches!(Store::open(&scene.dir), Err(StoreError::NoSuchStore { .. })));
    fs::write(&path, &good).unwrap();
    assert_eq!(left(&scene.reopen().queue("q").unwrap(), "default"), ["kept"]);
}

#[test]
fn another_store_in_the_place_of_the_rings_is_left_alone() {
    let scene = scene_with(&[b"kept".to_vec()]);
    {
        let other = Store::create(&scene.rings).unwrap();
        let queue = small().create(&other, "theirs").unwrap();
        queue.producer().build().unwrap().publish("precious").unwrap();
    }
    let precious = || {
        let other = Store::open(&scene.rings).unwrap();
        left(&other.queue("theirs").unwrap(), "default")
    };
    assert!(matches!(Store::open(&scene.dir), Err(StoreError::Foreign { .. })));
    assert!(!Store::repair_journal(&scene.dir, false).unwrap().is_needed());
    assert_eq!(precious(), ["precious"]);
    Store::remove(&scene.dir).unwrap();
    assert!(!scene.dir.exists());
    assert_eq!(precious(), ["precious"]);
}

#[test]
fn rings_are_not_put_into_another_durable_directory() {
    let scene = scene_with(&[b"kept".to_vec()]);
    let refused = Store::options().durable(scene.dir.with_file_name("second")).create(&scene.dir);
    assert!(matches!(refused, Err(StoreError::BadOption { .. })));
    assert_eq!(left(&scene.reopen().queue("q").unwrap(), "default"), ["kept"]);
}

#[test]
fn a_journal_in_use_is_read_without_a_false_alarm() {
    let scene = Scene::new();
    let store = scene.store_with(|options| options.segment_len = 64 << 10);
    let queue = small().create(&store, "q").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let patience = OnFull::Block(Duration::from_secs(20));
            let producer = queue.producer().on_full(patience).build().unwrap();
            let worker = queue.consumer("default").build().unwrap();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                producer.publish(long(number)).unwrap();
                worker.receive().unwrap().ack().unwrap();
            }
        });
        let first = || Store::read_journal(&scene.dir, |_| {}).unwrap().segments[0].number;
        let began = first();
        let mut reads = 0;
        // Until segments went and came while it was read.
        while reads < 20 || first() < began + 20 {
            let mut last = 0;
            let report = Store::read_journal(&scene.dir, |record| {
                assert!(record.lsn > last, "{} after {last}", record.lsn);
                last = record.lsn;
            });
            if let Err(error) = report {
                stop.store(true, Ordering::Relaxed);
                panic!("{error}");
            }
            reads += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_journal_keeps_what_it_has_of_a_queue_whose_ring_is_damaged() {
    let scene = Scene::new();
    {
        let store = scene.store_with(|options| options.segment_len = 64 << 10);
        let queue = small().create(&store, "damaged").unwrap();
        queue.producer().build().unwrap().publish_confirmed("precious").unwrap();
    }
    fs::write(scene.rings.join("queues/damaged"), "nonsense").unwrap();
    {
        let store = scene.reopen();
        let queue = small().create(&store, "q").unwrap();
        let producer = queue.producer().build().unwrap();
        let worker = queue.consumer("default").build().unwrap();
        for number in 0..60 {
            producer.publish_confirmed(long(number)).unwrap();
            worker.receive().unwrap().ack().unwrap();
        }
    }
    scene.cut();
    assert_eq!(left(&scene.reopen().queue("damaged").unwrap(), "default"), ["precious"]);
}

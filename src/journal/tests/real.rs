//! The log on real files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;

use super::super::{Durability, Files, JournalError, LogOptions, Storage, Summary, Writer};
use super::super::{cut_at, make_spare, read, segments};
use crate::sys::files::{Dir, OpenPolicy};

const STORE: [u8; 16] = *b"on real files...";
const OPTIONS: LogOptions = LogOptions { segment_len: 128 << 10, spares: 2 };

fn files(place: &tempfile::TempDir) -> Files {
    Files::new(Dir::open(place.path()).expect("open"), OpenPolicy::default())
}

/// The numbers of the segments, and how many spares there are.
fn segments_and_spares(place: &tempfile::TempDir) -> (Vec<u64>, usize) {
    let names = files(place).list().expect("list");
    let spares = names.iter().filter(|name| name.starts_with("spare-")).count();
    let numbers = segments::look(&files(place)).expect("look").segments;
    assert_eq!(numbers.len() + spares, names.len(), "nothing else: {names:?}");
    (numbers, spares)
}

fn bodies(place: &tempfile::TempDir) -> Result<(Vec<Vec<u8>>, Summary), JournalError> {
    let mut bodies = Vec::new();
    let summary = read(&files(place), Some(STORE), &mut |entry| bodies.push(entry.body.to_vec()))?;
    Ok((bodies, summary))
}

/// Writes 30 records of 20,000 bytes, each in a batch of its own, as a chain of writers.
fn written(place: &tempfile::TempDir) {
    let (mut writer, mut tail) = Writer::create(files(place), OPTIONS, STORE).expect("create");
    for number in 0..30_u8 {
        if number % 7 == 0 {
            writer = Writer::resume(files(place), OPTIONS, STORE).expect("resume");
            writer.begin(tail);
        }
        while writer.reserve(1, 0, 0, 0, 20_000).map(|body| body.fill(number)).is_none() {
            tail = writer.next_segment(tail).expect("next segment");
        }
        let durability = if number % 3 == 0 { Durability::Written } else { Durability::Synced };
        tail = writer.commit(durability).expect("commit");
    }
    assert_eq!(tail.lsn, 31);
    assert!(make_spare(&files(place), &OPTIONS).expect("spare"));
}

#[test]
fn what_is_written_is_read() {
    let place = tempfile::tempdir().expect("directory");
    written(&place);
    let (found, summary) = bodies(&place).expect("read");
    assert_eq!(found, (0..30).map(|number| vec![number; 20_000]).collect::<Vec<_>>());
    assert_eq!((summary.records, summary.batches, summary.torn), (30, 30, None));
    assert_eq!(summary.segments.len(), 5);
    for name in files(&place).list().expect("list") {
        let found = fs::metadata(place.path().join(name)).expect("metadata");
        assert_eq!((found.len(), found.permissions().mode() & 0o777), (OPTIONS.segment_len, 0o600));
    }
}

#[test]
fn segments_are_recycled() {
    let place = tempfile::tempdir().expect("directory");
    written(&place);
    let mut writer = Writer::resume(files(&place), OPTIONS, STORE).expect("resume");
    assert_eq!(writer.recycle_below(4).expect("recycle"), 3);
    assert_eq!(segments_and_spares(&place), (vec![4, 5], 2));
    assert_eq!(writer.recycle_below(u64::MAX).expect("recycle"), 1);
    assert!(!make_spare(&files(&place), &OPTIONS).expect("spare"), "there are enough");
    let (found, summary) = bodies(&place).expect("read");
    assert_eq!(summary.segments[0].number, 5);
    assert_eq!(summary.tail.lsn, 31);
    // A spare is taken, old content and all.
    let tail = writer.next_segment(summary.tail).expect("next segment");
    assert_eq!(segments_and_spares(&place), (vec![5, 6], 1));
    let (same, summary) = bodies(&place).expect("read");
    assert_eq!((same, summary.tail, summary.torn), (found, tail, None));
}

#[test]
fn damage_is_found_and_cut() {
    let place = tempfile::tempdir().expect("directory");
    written(&place);
    let path = place.path().join("0000000000000002.log");
    let mut bytes = fs::read(&path).expect("read");
    bytes[30_000] ^= 1;
    fs::write(&path, bytes).expect("write");
    let Err(JournalError::Corrupt(damage)) = bodies(&place) else { panic!("not found") };
    assert_eq!(damage.path, path);
    cut_at(&files(&place), &damage).expect("cut");
    let (found, summary) = bodies(&place).expect("read");
    assert_eq!(found.len() as u64 + 1, damage.first_lost);
    assert_eq!(summary.segments.len(), 2);
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(1 << 16)).expect("cut short");
    assert!(matches!(bodies(&place), Err(JournalError::Corrupt(_))));
}

#[test]
fn a_stranger_in_the_directory_is_not_opened() {
    let place = tempfile::tempdir().expect("directory");
    written(&place);
    let path = place.path().join("0000000000000003.log");
    fs::rename(&path, place.path().join("elsewhere")).expect("rename");
    symlink(place.path().join("elsewhere"), &path).expect("symlink");
    match bodies(&place) {
        Err(error @ JournalError::Io { .. }) => {
            assert!(error.to_string().contains("symbolic link"), "{error}");
        }
        other => panic!("expected a refusal, found {other:?}"),
    }
    fs::remove_file(&path).expect("remove");
    fs::rename(place.path().join("elsewhere"), &path).expect("rename");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
    assert!(bodies(&place).is_err(), "everyone can write to it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(place.path().join("store"), "not ours").expect("write");
    fs::write(place.path().join("3.log"), "not ours").expect("write");
    assert_eq!(bodies(&place).expect("read").0.len(), 30);
}

#[test]
fn spares_are_made_beside_the_writer() {
    let place = tempfile::tempdir().expect("directory");
    let (mut writer, mut tail) = Writer::create(files(&place), OPTIONS, STORE).expect("create");
    thread::scope(|scope| {
        let making = scope.spawn(|| {
            let files = files(&place);
            (0..200).filter(|_| make_spare(&files, &OPTIONS).expect("spare")).count()
        });
        while !making.is_finished() {
            tail = writer.next_segment(tail).expect("next segment");
            writer.reserve(1, 0, 0, 0, 8).expect("room").copy_from_slice(&tail.segment.to_le_bytes());
            tail = writer.commit(Durability::Written).expect("commit");
            // Two at a time: more spares than are kept, so that some are removed.
            if tail.segment % 2 == 0 {
                writer.recycle_below(tail.segment.saturating_sub(3)).expect("recycle");
            }
        }
        assert!(making.join().expect("making spares") > 0);
    });
    let (found, summary) = bodies(&place).expect("read");
    let numbers: Vec<_> =
        summary.segments.iter().map(|segment| segment.number).filter(|&one| one > 1).collect();
    assert_eq!(found, numbers.iter().map(|number| number.to_le_bytes().to_vec()).collect::<Vec<_>>());
    assert_eq!(summary.tail.lsn, tail.lsn);
}

//! Damage of every kind: each bit of a log flipped, files gone, files of something else.

use super::super::segments::name_of;
use super::super::{
    Corruption, Durability, JournalError, LogOptions, Storage, Tail, Writer, cut_at, loss, read,
};
use crate::journal::record::{BLOCK, VERSION, segment_at};
use crate::journal::simulated::Disk;

const STORE: [u8; 16] = *b"0123456789abcdef";
const OPTIONS: LogOptions = LogOptions { segment_len: 64 << 10, spares: 0 };

type Records = Vec<(u64, Vec<u8>)>;

/// A log of three segments, with two batches of two records in each; all durable. The tail behind each batch.
fn three_segments() -> (Disk, Vec<Tail>) {
    let disk = Disk::new(1);
    let (mut writer, mut tail) = Writer::create(disk.clone(), OPTIONS, STORE).expect("create");
    let mut tails = Vec::new();
    for segment in 0..3 {
        if segment > 0 {
            tail = writer.next_segment(tail).expect("next segment");
        }
        for batch in 0..2 {
            for record in 0..2 {
                // One batch is longer than a block.
                let len = if (segment, batch) == (1, 1) { 3000 } else { 5 + 100 * batch };
                let body = writer.reserve(1, 2, 3, 4, len).expect("room");
                body.fill(segment * 4 + batch as u8 * 2 + record + 1);
            }
            tail = writer.commit(Durability::Synced).expect("commit");
            tails.push(tail);
        }
    }
    (disk, tails)
}

fn records(disk: &Disk) -> Result<Records, JournalError> {
    let mut records = Records::new();
    read(disk, Some(STORE), &mut |entry| records.push((entry.lsn, entry.body.to_vec())))?;
    Ok(records)
}

fn corruption(disk: &Disk) -> Corruption {
    match records(disk) {
        Err(JournalError::Corrupt(corruption)) => *corruption,
        other => panic!("expected corruption, found {other:?}"),
    }
}

#[test]
fn each_flipped_bit_is_noticed() {
    let (disk, tails) = three_segments();
    let whole = records(&disk).expect("read");
    assert_eq!(whole.len(), 12);
    for segment in 1..=3_u64 {
        let ends: Vec<_> =
            tails.iter().filter(|tail| tail.segment == segment).map(|tail| tail.offset).collect();
        let contents = disk.contents(&name_of(segment));
        for at in 0..ends[1] as usize {
            // All bits where there is something, and some where there are many that are all the same.
            let alike = contents[at.saturating_sub(2)..at + 2].iter().all(|byte| *byte == contents[at]);
            for bit in if !alike {
                0..8
            } else if at % 8 == 0 {
                3..4
            } else {
                0..0
            } {
                disk.flip(&name_of(segment), at, bit);
                let found = records(&disk);
                disk.flip(&name_of(segment), at, bit);
                match found {
                    // Nothing vouches for the last batch of all: it might not have been finished.
                    Ok(left) if segment == 3 && at as u64 >= ends[0] => assert_eq!(left, whole[..10]),
                    Err(
                        JournalError::Corrupt(_)
                        | JournalError::Foreign { .. }
                        | JournalError::Version { .. },
                    ) => {}
                    other => panic!("bit {bit} at {at} of segment {segment}: {other:?}"),
                }
            }
        }
        // What lies behind is not part of the log.
        disk.flip(&name_of(segment), ends[1] as usize + 77, 1);
        assert_eq!(records(&disk).expect("read"), whole);
    }
}

#[test]
fn damage_is_located_counted_and_cut() {
    let (disk, tails) = three_segments();
    let whole = records(&disk).expect("read");
    let start = tails[2].offset;
    disk.flip(&name_of(2), start as usize + 50, 0);
    let damage = corruption(&disk);
    assert_eq!((damage.segment, damage.offset), (2, start));
    assert_eq!((damage.first_lost, damage.end_lost), (7, 9));
    let text = damage.to_string();
    assert!(text.contains("0000000000000002.log is damaged at offset"), "{text}");
    assert!(text.contains("entries 7 to 8 are lost"), "{text}");

    let loss = loss(&disk, &damage).expect("count");
    assert_eq!((loss.lsns, loss.readable_records, &loss.segments[..]), ((7, 9), 4, &[3][..]));
    assert_eq!(corruption(&disk), damage, "counting changes nothing");
    let report = cut_at(&disk, &damage).expect("cut");
    assert_eq!((report.tail.segment, report.tail.offset, report.tail.lsn), (2, start, 7));
    assert_eq!(report.loss, loss);
    assert_eq!(records(&disk).expect("read"), whole[..6]);
    assert_eq!(cut_at(&disk, &damage).expect("nothing to do").loss, super::super::Loss::default());
}

#[test]
fn a_segment_that_is_gone_is_missed() {
    let (disk, tails) = three_segments();
    let whole = records(&disk).expect("read");
    disk.remove(&name_of(2)).expect("remove");
    let damage = corruption(&disk);
    assert_eq!((damage.segment, damage.offset), (2, 0));
    assert_eq!((damage.first_lost, damage.end_lost), (5, 9));
    assert_eq!(damage.found, "no such file");
    assert_eq!(cut_at(&disk, &damage).expect("cut").tail.lsn, 5);
    assert_eq!(records(&disk).expect("read"), whole[..4]);
    assert_eq!(tails[1].lsn, 5);
}

#[test]
fn a_damaged_first_header_leaves_nothing() {
    let (disk, _) = three_segments();
    disk.flip(&name_of(1), segment_at::FIRST_LSN, 0);
    let damage = corruption(&disk);
    assert_eq!((damage.segment, damage.offset, damage.first_lost), (1, 0, 0));
    assert!(matches!(cut_at(&disk, &damage), Err(JournalError::NothingLeft { .. })));
    let (disk, _) = three_segments();
    disk.flip(&name_of(2), segment_at::SALT, 0);
    let damage = corruption(&disk);
    assert_eq!((damage.segment, damage.offset), (2, 0));
    assert_eq!(cut_at(&disk, &damage).expect("cut").tail.lsn, 5);
}

#[test]
fn what_is_not_this_log_is_refused() {
    let (disk, tails) = three_segments();
    assert!(matches!(read(&disk, Some([7; 16]), &mut |_| {}), Err(JournalError::Foreign { .. })));
    assert_eq!(read(&disk, None, &mut |_| {}).expect("read").store, STORE);
    let (empty, again) = (Disk::new(1), Writer::create(disk.clone(), OPTIONS, STORE));
    assert!(matches!(records(&empty), Err(JournalError::NotThere { .. })));
    assert!(matches!(again, Err(JournalError::AlreadyThere { .. })));

    let resume = |options, store, tail| {
        let mut writer = Writer::resume(disk.clone(), options, store).expect("options");
        writer.begin(tail);
        writer.reserve(1, 0, 0, 0, 0).expect("room");
        writer.commit(Durability::Synced)
    };
    let tail = tails[5];
    let longer = LogOptions { segment_len: OPTIONS.segment_len * 2, ..OPTIONS };
    assert!(matches!(resume(OPTIONS, [7; 16], tail), Err(JournalError::Foreign { .. })));
    assert!(matches!(resume(OPTIONS, STORE, Tail { salt: 7, ..tail }), Err(JournalError::Foreign { .. })));
    assert!(matches!(resume(longer, STORE, tail), Err(JournalError::BadOption { .. })));
    for segment_len in [0, 4096, (64 << 10) - 4096, (64 << 10) + 512] {
        let options = LogOptions { segment_len, ..OPTIONS };
        assert!(matches!(Writer::resume(disk.clone(), options, STORE), Err(JournalError::BadOption { .. })));
    }

    let file = disk.open(&name_of(3)).expect("open");
    disk.write_at(&file, &(VERSION + 1).to_le_bytes(), segment_at::VERSION as u64).expect("write");
    assert!(matches!(records(&disk), Err(JournalError::Version { found: 2, expected: 1, .. })));
    disk.write_at(&file, b"?", 0).expect("write");
    assert!(matches!(records(&disk), Err(JournalError::Foreign { .. })));
}

#[test]
fn the_largest_record_fits_and_a_larger_one_never() {
    let disk = Disk::new(1);
    let (mut writer, tail) = Writer::create(disk.clone(), OPTIONS, STORE).expect("create");
    let largest = Writer::<Disk>::largest_body(&OPTIONS);
    assert!(writer.reserve(1, 0, 0, 0, largest + 1).is_none());
    writer.reserve(1, 0, 0, 0, largest).expect("room").fill(9);
    assert!(writer.reserve(1, 0, 0, 0, 0).is_none());
    assert_eq!((writer.is_empty(), writer.next_lsn()), (false, tail.lsn + 1));
    let tail = writer.commit(Durability::Synced).expect("commit");
    assert_eq!(tail.offset, OPTIONS.segment_len);
    assert!(writer.reserve(1, 0, 0, 0, 0).is_none(), "the segment is full");
    let tail = writer.next_segment(tail).expect("next segment");
    assert_eq!((tail.segment, tail.offset, tail.lsn), (2, BLOCK as u64, 2));
    assert_eq!(records(&disk).expect("read"), [(1, vec![9; largest])]);
}

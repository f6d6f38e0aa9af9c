//! Holds the journal's section of docs/FORMAT.md against the code.

use super::record::{BLOCK, COMMIT_MAGIC, Commit, MAGIC, RecordHead, SegmentHeader, VERSION, first_link};
use super::record::{commit_at, record_at, seal, segment_at};
use super::writer::{BATCH_MAX, SEGMENT_MIN};
use crate::layout::format::document::{check_fields, check_values};

#[test]
fn the_constants_are_as_documented() {
    check_values(
        "Constants of the journal",
        &[
            (VERSION.into(), "version"),
            (BLOCK as u64, "block"),
            (BATCH_MAX as u64, "batch"),
            (SEGMENT_MIN, "segment"),
        ],
    );
    assert_eq!((&MAGIC, &COMMIT_MAGIC.to_le_bytes()), (b"RINGWAYJ", b"CMIT"));
}

/// Fields that lie one after the other: names and offsets, and the end of the last one.
fn fields(names: &[(&'static str, usize)], end: usize) -> Vec<(&'static str, usize, usize)> {
    let ends = names.iter().skip(1).map(|(_, at)| *at).chain([end]);
    names.iter().zip(ends).map(|((name, at), end)| (*name, *at, end - at)).collect()
}

#[test]
fn the_fields_are_as_documented() {
    let header = [
        ("magic", segment_at::MAGIC),
        ("byte order", segment_at::BYTE_ORDER),
        ("version", segment_at::VERSION),
        ("store id", segment_at::STORE),
        ("number", segment_at::NUMBER),
        ("length", segment_at::LENGTH),
        ("first LSN", segment_at::FIRST_LSN),
        ("salt", segment_at::SALT),
        ("checksum", segment_at::CRC),
    ];
    check_fields("Segment header", Some(segment_at::END), &fields(&header, segment_at::END));
    let record = [
        ("checksum", record_at::CRC),
        ("length", record_at::LENGTH),
        ("kind", record_at::KIND),
        ("flags", record_at::FLAGS),
        ("zero", record_at::ZERO),
        ("aux", record_at::AUX),
        ("LSN", record_at::LSN),
        ("queue", record_at::QUEUE),
        ("position", record_at::POSITION),
        ("body", record_at::END),
    ];
    check_fields("Record of the journal", None, &fields(&record, record_at::END));
    let commit = [
        ("checksum", commit_at::CRC),
        ("magic", commit_at::MAGIC),
        ("segment", commit_at::SEGMENT),
        ("offset", commit_at::OFFSET),
        ("start", commit_at::START),
        ("first LSN", commit_at::FIRST_LSN),
        ("durable before", commit_at::DURABLE),
        ("count", commit_at::COUNT),
        ("chain", commit_at::CHAIN),
        ("batch checksum", commit_at::BATCH_CRC),
        ("nonce", commit_at::NONCE),
    ];
    check_fields("COMMIT", Some(commit_at::END), &fields(&commit, commit_at::END));
}

/// Fields are written by offset, so what is written must have the documented sizes too. Byte `0xab` of each
/// number is its least significant one.
#[test]
fn the_fields_are_written_as_documented() {
    let (long, short) = (0xab_u64 | 0xcd << 56, 0xab_u32 | 0xcd << 24);
    let long_bytes = [0xab, 0, 0, 0, 0, 0, 0, 0xcd];
    let short_bytes = [0xab, 0, 0, 0xcd];
    let header =
        SegmentHeader { store: [0xee; 16], number: long, length: long, first_lsn: long, salt: short };
    let block = header.encode();
    let mut expected = b"RINGWAYJ\x04\x03\x02\x01\x01\0\0\0".to_vec();
    expected.extend([0xee; 16]);
    expected.extend([long_bytes; 3].concat());
    expected.extend(short_bytes);
    let crc = crc32c::crc32c(&expected);
    expected.extend(crc.to_le_bytes());
    expected.resize(BLOCK, 0);
    assert_eq!(block[..], expected);

    let head = RecordHead { len: 3, kind: 0xab, aux: short, lsn: long, queue: long, position: long };
    let mut record = vec![0xee; head.record_len()];
    head.put(&mut record);
    record[record_at::END..][..3].copy_from_slice(b"abc");
    let link = first_link(short, long);
    assert_eq!(link, crc32c::crc32c_append(short, &long_bytes));
    let sealed = seal(&mut record, link);
    let mut expected = vec![3, 0, 0, 0, 0xab, 0, 0, 0];
    expected.extend(short_bytes);
    expected.extend([long_bytes; 3].concat());
    expected.extend(b"abc\0\0\0\0\0");
    let crc = crc32c::crc32c_append(link, &expected);
    assert_eq!((&record[4..], &record[..4], sealed), (&expected[..], &crc.to_le_bytes()[..], crc));

    let commit = Commit {
        segment: long,
        offset: long,
        start: long,
        first_lsn: long,
        durable_before: long,
        count: short,
        chain: short,
        batch_crc: short,
        nonce: short,
    };
    let mut place = [0xee; commit_at::END];
    let link = commit.put(&mut place, short);
    let mut expected = b"CMIT".to_vec();
    expected.extend([long_bytes; 5].concat());
    expected.extend([short_bytes; 4].concat());
    let crc = crc32c::crc32c_append(short, &expected);
    assert_eq!((&place[4..], &place[..4], link), (&expected[..], &crc.to_le_bytes()[..], crc));
}

//! The bytes alone.

use proptest::prelude::*;

use crate::journal::record::{self, BLOCK, Commit, RecordHead, SegmentHeader, commit_at, record_len};

fn heads() -> impl Strategy<Value = (RecordHead, Vec<u8>)> {
    let fields = (1_u8.., any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>());
    (fields, prop::collection::vec(any::<u8>(), 0..100)).prop_map(
        |((kind, aux, lsn, queue, position), body)| {
            (RecordHead { len: body.len() as u32, kind, aux, lsn, queue, position }, body)
        },
    )
}

fn encoded(head: &RecordHead, body: &[u8], link: u32) -> (Vec<u8>, u32) {
    let mut bytes = vec![0xee; head.record_len()];
    head.put(&mut bytes);
    let at = record::record_at::END;
    bytes[at..at + body.len()].copy_from_slice(body);
    let next = record::seal(&mut bytes, link);
    (bytes, next)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn records_read_as_written(records in prop::collection::vec(heads(), 1..8), first in any::<u32>()) {
        let (mut bytes, mut link) = (Vec::new(), first);
        for (head, body) in &records {
            let (record, next) = encoded(head, body, link);
            prop_assert_eq!(record.len() % 8, 0);
            bytes.extend(record);
            link = next;
        }
        let (mut rest, mut link) = (&bytes[..], first);
        for (head, body) in &records {
            let (found, found_body, next) = record::open(rest, link).expect("a record");
            prop_assert_eq!((found, found_body), (*head, &body[..]));
            prop_assert!(record::open(rest, !link).is_none(), "the chain counts");
            prop_assert!(record::open(&rest[..record_len(body.len()) - 1], link).is_none());
            rest = &rest[head.record_len()..];
            link = next;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn any_bytes_can_be_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..300), link in any::<u32>()) {
        prop_assert!(record::open(&bytes, link).is_none());
        let mut block = [0; BLOCK];
        block[..bytes.len()].copy_from_slice(&bytes);
        prop_assert!(SegmentHeader::decode(&block).is_err());
        block.rotate_left(bytes.len());
        prop_assert!(Commit::find(&block, 0, link, 0).is_none());
    }

    #[test]
    fn headers_read_as_written(
        store in any::<[u8; 16]>(), number in any::<u64>(), length in any::<u64>(),
        first_lsn in any::<u64>(), salt in any::<u32>(), at in 0..BLOCK, bit in 0_u8..8,
    ) {
        let header = SegmentHeader { store, number, length, first_lsn, salt };
        let mut block = header.encode();
        prop_assert_eq!(SegmentHeader::decode(&block), Ok(header));
        block[at] ^= 1 << bit;
        prop_assert!(SegmentHeader::decode(&block).is_err());
    }

    #[test]
    fn commits_read_as_written(
        segment in any::<u64>(), blocks in 2_u64..1 << 40, first_lsn in any::<u64>(), durable_before in any::<u64>(),
        rest in any::<[u32; 4]>(), salt in any::<u32>(), at in 0..commit_at::END, bit in 0_u8..8,
    ) {
        let end = blocks * BLOCK as u64;
        let [count, chain, batch_crc, nonce] = rest;
        let (offset, start) = (end - commit_at::END as u64, BLOCK as u64);
        let commit =
            Commit { segment, offset, start, first_lsn, durable_before, count, chain, batch_crc, nonce };
        let mut block = [0; BLOCK];
        let link = commit.put(&mut block[BLOCK - commit_at::END..], salt);
        prop_assert_eq!(Commit::find(&block, segment, salt, end), Some((commit, link)));
        prop_assert!(Commit::find(&block, segment, !salt, end).is_none());
        prop_assert!(Commit::find(&block, !segment, salt, end).is_none());
        prop_assert!(Commit::find(&block, segment, salt, end + BLOCK as u64).is_none());
        block[BLOCK - commit_at::END + at] ^= 1 << bit;
        prop_assert!(Commit::find(&block, segment, salt, end).is_none());
    }
}

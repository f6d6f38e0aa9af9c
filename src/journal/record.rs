//! The bytes of a segment: its header, records, and the COMMIT that ends each batch. Pure: no files, no
//! state.
//!
//! `docs/FORMAT.md` has the tables; a test holds them against the offsets here.

/// First bytes of a segment.
pub(crate) const MAGIC: [u8; 8] = *b"RINGWAYJ";
/// Reads back as itself only in the byte order it was written in.
const BYTE_ORDER: u32 = 0x0102_0304;
/// Version of the journal's format. Raised by every change after the first release.
pub(crate) const VERSION: u32 = 1;
/// Batches begin and end at multiples of this; the segment header has one to itself.
pub(crate) const BLOCK: usize = 4096;
/// What tells a COMMIT from other bytes at a glance: `CMIT`.
pub(crate) const COMMIT_MAGIC: u32 = u32::from_le_bytes(*b"CMIT");
/// Records begin at multiples of this.
const ALIGN: usize = 8;

/// Offsets of the segment header's fields.
pub(crate) mod segment_at {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const BYTE_ORDER: usize = 8;
    pub(crate) const VERSION: usize = 12;
    pub(crate) const STORE: usize = 16;
    pub(crate) const NUMBER: usize = 32;
    pub(crate) const LENGTH: usize = 40;
    pub(crate) const FIRST_LSN: usize = 48;
    pub(crate) const SALT: usize = 56;
    pub(crate) const CRC: usize = 60;
    /// Bytes of the header; the rest of its block is zero.
    pub(crate) const END: usize = 64;
}

/// Offsets of a record's fields.
pub(crate) mod record_at {
    pub(crate) const CRC: usize = 0;
    pub(crate) const LENGTH: usize = 4;
    pub(crate) const KIND: usize = 8;
    pub(crate) const FLAGS: usize = 9;
    #[cfg(test)]
    pub(crate) const ZERO: usize = 10;
    pub(crate) const AUX: usize = 12;
    pub(crate) const LSN: usize = 16;
    pub(crate) const QUEUE: usize = 24;
    pub(crate) const POSITION: usize = 32;
    /// Bytes of the header; the body follows.
    pub(crate) const END: usize = 40;
}

/// Offsets of a COMMIT's fields, from its own beginning.
pub(crate) mod commit_at {
    pub(crate) const CRC: usize = 0;
    pub(crate) const MAGIC: usize = 4;
    pub(crate) const SEGMENT: usize = 8;
    pub(crate) const OFFSET: usize = 16;
    pub(crate) const START: usize = 24;
    pub(crate) const FIRST_LSN: usize = 32;
    pub(crate) const DURABLE: usize = 40;
    pub(crate) const COUNT: usize = 48;
    pub(crate) const CHAIN: usize = 52;
    pub(crate) const BATCH_CRC: usize = 56;
    pub(crate) const NONCE: usize = 60;
    /// Bytes of a COMMIT: the last ones of the batch's last block.
    pub(crate) const END: usize = 64;
}

/// Bytes of a record with this body.
pub(crate) const fn record_len(body: usize) -> usize {
    (record_at::END + body).next_multiple_of(ALIGN)
}

/// Bytes of a batch with so many bytes of records.
pub(crate) const fn batch_len(records: usize) -> usize {
    (records + commit_at::END).next_multiple_of(BLOCK)
}

/// What the first record of a segment is chained from.
pub(crate) fn first_link(salt: u32, segment: u64) -> u32 {
    crc32c::crc32c_append(salt, &segment.to_le_bytes())
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The store it belongs to.
    pub(crate) store: [u8; 16],
    /// Its number.
    pub(crate) number: u64,
    /// Bytes of the file.
    pub(crate) length: u64,
    /// The LSN of its first record.
    pub(crate) first_lsn: u64,
    /// Other than that of what lay in the file before.
    pub(crate) salt: u32,
}

/// Why a block is no segment header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// It never was one: what was found.
    Foreign(String),
    /// It is one of another version.
    Version(u32),
    /// It was one: what was found.
    Damaged(String),
}

impl SegmentHeader {
    /// The header's block.
    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, segment_at::MAGIC, MAGIC);
        put(&mut block, segment_at::BYTE_ORDER, BYTE_ORDER.to_le_bytes());
        put(&mut block, segment_at::VERSION, VERSION.to_le_bytes());
        put(&mut block, segment_at::STORE, self.store);
        put(&mut block, segment_at::NUMBER, self.number.to_le_bytes());
        put(&mut block, segment_at::LENGTH, self.length.to_le_bytes());
        put(&mut block, segment_at::FIRST_LSN, self.first_lsn.to_le_bytes());
        put(&mut block, segment_at::SALT, self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&block[..segment_at::CRC]);
        put(&mut block, segment_at::CRC, crc.to_le_bytes());
        block
    }

    /// Reads a header's block.
    pub(crate) fn decode(block: &[u8; BLOCK]) -> Result<SegmentHeader, HeaderFault> {
        let magic: [u8; 8] = get(block, segment_at::MAGIC);
        if magic != MAGIC {
            return Err(HeaderFault::Foreign(format!(
                "it begins with {:?}",
                String::from_utf8_lossy(&magic)
            )));
        }
        if get_u32(block, segment_at::BYTE_ORDER) != BYTE_ORDER {
            return Err(HeaderFault::Foreign("it has another byte order".to_owned()));
        }
        let version = get_u32(block, segment_at::VERSION);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        let (found, expected) = (get_u32(block, segment_at::CRC), crc32c::crc32c(&block[..segment_at::CRC]));
        if found != expected {
            let what = format!("a header with checksum {found:#010x} where its bytes have {expected:#010x}");
            return Err(HeaderFault::Damaged(what));
        }
        if block[segment_at::END..].iter().any(|&byte| byte != 0) {
            return Err(HeaderFault::Damaged("something behind the header".to_owned()));
        }
        Ok(SegmentHeader {
            store: get(block, segment_at::STORE),
            number: get_u64(block, segment_at::NUMBER),
            length: get_u64(block, segment_at::LENGTH),
            first_lsn: get_u64(block, segment_at::FIRST_LSN),
            salt: get_u32(block, segment_at::SALT),
        })
    }
}

/// The header of a record, without its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    /// Bytes of the body.
    pub(crate) len: u32,
    /// What it is; not 0.
    pub(crate) kind: u8,
    /// For the kind to say, like the next two but one.
    pub(crate) aux: u32,
    /// Its number.
    pub(crate) lsn: u64,
    /// For the kind to say.
    pub(crate) queue: u64,
    /// For the kind to say.
    pub(crate) position: u64,
}

impl RecordHead {
    /// Bytes of the whole record.
    pub(crate) fn record_len(&self) -> usize {
        record_len(self.len as usize)
    }

    /// Writes the header, and the zeros behind the body, into the record's place. The checksum comes last,
    /// with [`seal`].
    pub(crate) fn put(&self, record: &mut [u8]) {
        record[..record_at::END].fill(0);
        put(record, record_at::LENGTH, self.len.to_le_bytes());
        put(record, record_at::KIND, [self.kind]);
        put(record, record_at::AUX, self.aux.to_le_bytes());
        put(record, record_at::LSN, self.lsn.to_le_bytes());
        put(record, record_at::QUEUE, self.queue.to_le_bytes());
        put(record, record_at::POSITION, self.position.to_le_bytes());
        record[record_at::END + self.len as usize..].fill(0);
    }

    /// The header at the beginning of these bytes, unchecked. `None`: no record begins here.
    pub(crate) fn peek(bytes: &[u8]) -> Option<RecordHead> {
        if bytes.len() < record_at::END {
            return None;
        }
        let head = RecordHead {
            len: get_u32(bytes, record_at::LENGTH),
            kind: bytes[record_at::KIND],
            aux: get_u32(bytes, record_at::AUX),
            lsn: get_u64(bytes, record_at::LSN),
            queue: get_u64(bytes, record_at::QUEUE),
            position: get_u64(bytes, record_at::POSITION),
        };
        let zero: [u8; 3] = get(bytes, record_at::FLAGS);
        (head.kind != 0 && zero == [0; 3]).then_some(head)
    }
}

/// Gives a record its checksum, chained from `link`. What the next one is chained from.
pub(crate) fn seal(record: &mut [u8], link: u32) -> u32 {
    let crc = crc32c::crc32c_append(link, &record[record_at::LENGTH..]);
    put(record, record_at::CRC, crc.to_le_bytes());
    crc
}

/// The record at the beginning of these bytes, if its checksum is the one chained from `link`; its body, and
/// what the next one is chained from.
pub(crate) fn open(bytes: &[u8], link: u32) -> Option<(RecordHead, &[u8], u32)> {
    let head = RecordHead::peek(bytes)?;
    let record = bytes.get(..head.record_len())?;
    let crc = crc32c::crc32c_append(link, &record[record_at::LENGTH..]);
    let body = &record[record_at::END..record_at::END + head.len as usize];
    (crc == get_u32(record, record_at::CRC)).then_some((head, body, crc))
}

/// What a COMMIT vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Where the COMMIT itself is.
    pub(crate) offset: u64,
    /// Where its batch begins.
    pub(crate) start: u64,
    /// The LSN of the batch's first record.
    pub(crate) first_lsn: u64,
    /// All before this LSN was durable when the batch was begun.
    pub(crate) durable_before: u64,
    /// Records of the batch.
    pub(crate) count: u32,
    /// The checksum of its last record.
    pub(crate) chain: u32,
    /// The checksum of all bytes of the batch before the COMMIT.
    pub(crate) batch_crc: u32,
    /// Another one for each batch, so that no two COMMITs are the same.
    pub(crate) nonce: u32,
}

impl Commit {
    /// Writes it into its place. What the next batch is chained from.
    pub(crate) fn put(&self, place: &mut [u8], salt: u32) -> u32 {
        put(place, commit_at::MAGIC, COMMIT_MAGIC.to_le_bytes());
        put(place, commit_at::SEGMENT, self.segment.to_le_bytes());
        put(place, commit_at::OFFSET, self.offset.to_le_bytes());
        put(place, commit_at::START, self.start.to_le_bytes());
        put(place, commit_at::FIRST_LSN, self.first_lsn.to_le_bytes());
        put(place, commit_at::DURABLE, self.durable_before.to_le_bytes());
        put(place, commit_at::COUNT, self.count.to_le_bytes());
        put(place, commit_at::CHAIN, self.chain.to_le_bytes());
        put(place, commit_at::BATCH_CRC, self.batch_crc.to_le_bytes());
        put(place, commit_at::NONCE, self.nonce.to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &place[commit_at::MAGIC..commit_at::END]);
        put(place, commit_at::CRC, crc.to_le_bytes());
        crc
    }

    /// The COMMIT in the last bytes of a block of this segment, if there is a valid one; `end` is where
    /// the block ends. With it, what the next batch is chained from.
    pub(crate) fn find(block: &[u8], segment: u64, salt: u32, end: u64) -> Option<(Commit, u32)> {
        let bytes = &block[block.len() - commit_at::END..];
        if get_u32(bytes, commit_at::MAGIC) != COMMIT_MAGIC {
            return None;
        }
        let crc = crc32c::crc32c_append(salt, &bytes[commit_at::MAGIC..]);
        let commit = Commit {
            segment: get_u64(bytes, commit_at::SEGMENT),
            offset: get_u64(bytes, commit_at::OFFSET),
            start: get_u64(bytes, commit_at::START),
            first_lsn: get_u64(bytes, commit_at::FIRST_LSN),
            durable_before: get_u64(bytes, commit_at::DURABLE),
            count: get_u32(bytes, commit_at::COUNT),
            chain: get_u32(bytes, commit_at::CHAIN),
            batch_crc: get_u32(bytes, commit_at::BATCH_CRC),
            nonce: get_u32(bytes, commit_at::NONCE),
        };
        let valid = crc == get_u32(bytes, commit_at::CRC)
            && commit.segment == segment
            && commit.offset == end - commit_at::END as u64
            && commit.start <= commit.offset
            && commit.start >= BLOCK as u64
            && commit.start.is_multiple_of(BLOCK as u64);
        valid.then_some((commit, crc))
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

//! The header page: who wrote the file, in which version, and the geometry. Immutable once the file has its
//! name.

use std::path::Path;

use super::queue::Geometry;
use super::{FORMAT_VERSION, PAGE};
use crate::StoreError;

/// First bytes of a control file.
pub(crate) const CONTROL_MAGIC: [u8; 8] = *b"RINGWAYC";
/// First bytes of a queue file.
pub(crate) const QUEUE_MAGIC: [u8; 8] = *b"RINGWAYQ";
/// The incompatible feature of a durable store's files: builds that know no journal must not write to them.
pub(crate) const DURABLE: u64 = 1;
/// Reads back as itself only in the byte order it was written in.
const BYTE_ORDER: u32 = 0x0102_0304;

/// Offsets of the header's fields.
pub(crate) mod at {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const BYTE_ORDER: usize = 8;
    pub(crate) const VERSION: usize = 12;
    pub(crate) const INCOMPATIBLE: usize = 16;
    pub(crate) const READ_ONLY_COMPATIBLE: usize = 24;
    pub(crate) const COMPATIBLE: usize = 32;
    pub(crate) const FILE_LEN: usize = 40;
    pub(crate) const STORE_ID: usize = 48;
    pub(crate) const FILE_ID: usize = 64;
    pub(crate) const BOOT_ID: usize = 80;
    pub(crate) const CREATED_MS: usize = 96;
    pub(crate) const CAPACITY: usize = 104;
    pub(crate) const SLOT_SIZE: usize = 112;
    pub(crate) const MAX_MESSAGE: usize = 116;
    pub(crate) const MAX_GROUPS: usize = 120;
    pub(crate) const CRC: usize = 124;
    /// Bytes of the header; the rest of its page is zero.
    pub(crate) const END: usize = 128;
}

/// The fields of a header. A control file has zeros for the geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    pub(crate) incompatible: u64,
    pub(crate) file_len: u64,
    pub(crate) store_id: [u8; 16],
    pub(crate) file_id: [u8; 16],
    pub(crate) boot_id: [u8; 16],
    pub(crate) created_ms: u64,
    pub(crate) capacity: u64,
    pub(crate) slot_size: u32,
    pub(crate) max_message: u32,
    pub(crate) max_groups: u32,
}

impl Header {
    /// The geometry that it states; not checked.
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry {
            capacity: self.capacity,
            slot_size: self.slot_size,
            max_message: self.max_message,
            max_groups: self.max_groups,
            durable: self.incompatible & DURABLE != 0,
        }
    }

    /// The header's page. The CRC-32C (Castagnoli) covers all fields before it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE as usize];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(at::MAGIC, &self.magic);
        put(at::BYTE_ORDER, &BYTE_ORDER.to_le_bytes());
        put(at::VERSION, &self.version.to_le_bytes());
        put(at::INCOMPATIBLE, &self.incompatible.to_le_bytes());
        put(at::COMPATIBLE, &0_u64.to_le_bytes());
        put(at::FILE_LEN, &self.file_len.to_le_bytes());
        put(at::STORE_ID, &self.store_id);
        put(at::FILE_ID, &self.file_id);
        put(at::BOOT_ID, &self.boot_id);
        put(at::CREATED_MS, &self.created_ms.to_le_bytes());
        put(at::CAPACITY, &self.capacity.to_le_bytes());
        put(at::SLOT_SIZE, &self.slot_size.to_le_bytes());
        put(at::MAX_MESSAGE, &self.max_message.to_le_bytes());
        put(at::MAX_GROUPS, &self.max_groups.to_le_bytes());
        let crc = crc32c::crc32c(&page[..at::CRC]);
        page[at::CRC..at::END].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads a header, checking all that does not depend on the kind of file: magic, byte order, version,
    /// checksum, features, length.
    pub(crate) fn decode(
        page: &[u8],
        magic: [u8; 8],
        actual_len: u64,
        path: &Path,
    ) -> Result<Header, StoreError> {
        let expected = if magic == CONTROL_MAGIC { "Ringway store" } else { "Ringway queue" };
        let foreign = |found: String| StoreError::Foreign { path: path.to_path_buf(), expected, found };
        if page.len() < at::END {
            return Err(foreign(format!("it has only {} bytes", page.len())));
        }
        let found_magic: [u8; 8] = field(page, at::MAGIC);
        if found_magic != magic {
            return Err(foreign(format!("it begins with {:?}", String::from_utf8_lossy(&found_magic))));
        }
        if u32::from_le_bytes(field(page, at::BYTE_ORDER)) != BYTE_ORDER {
            return Err(foreign("it has another byte order".to_owned()));
        }
        let version = u32::from_le_bytes(field(page, at::VERSION));
        if version != FORMAT_VERSION {
            return Err(StoreError::Version {
                path: path.to_path_buf(),
                found: version,
                expected: FORMAT_VERSION,
            });
        }
        let damaged = |what, found: String, expected: String| {
            Err(StoreError::Damaged { path: path.to_path_buf(), what, found, expected })
        };
        let crc = u32::from_le_bytes(field(page, at::CRC));
        let computed = crc32c::crc32c(&page[..at::CRC]);
        if crc != computed {
            return damaged("the header's checksum", format!("{crc:#010x}"), format!("{computed:#010x}"));
        }
        let header = Header {
            magic,
            version,
            incompatible: u64::from_le_bytes(field(page, at::INCOMPATIBLE)),
            file_len: u64::from_le_bytes(field(page, at::FILE_LEN)),
            store_id: field(page, at::STORE_ID),
            file_id: field(page, at::FILE_ID),
            boot_id: field(page, at::BOOT_ID),
            created_ms: u64::from_le_bytes(field(page, at::CREATED_MS)),
            capacity: u64::from_le_bytes(field(page, at::CAPACITY)),
            slot_size: u32::from_le_bytes(field(page, at::SLOT_SIZE)),
            max_message: u32::from_le_bytes(field(page, at::MAX_MESSAGE)),
            max_groups: u32::from_le_bytes(field(page, at::MAX_GROUPS)),
        };
        // Whoever opens a file writes to it.
        let unknown =
            (header.incompatible & !DURABLE) | u64::from_le_bytes(field(page, at::READ_ONLY_COMPATIBLE));
        if unknown != 0 {
            return damaged("its features", format!("{unknown:#x}"), "none that this build lacks".into());
        }
        if header.file_len != actual_len {
            return damaged("the file's length", actual_len.to_string(), header.file_len.to_string());
        }
        Ok(header)
    }
}

/// The bytes of a field. The caller has checked that the header is long enough.
fn field<const N: usize>(page: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&page[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            magic: QUEUE_MAGIC,
            version: FORMAT_VERSION,
            incompatible: 0,
            file_len: 8192,
            store_id: [1; 16],
            file_id: [2; 16],
            boot_id: [3; 16],
            created_ms: 4,
            capacity: 1024,
            slot_size: 128,
            max_message: 1 << 20,
            max_groups: 8,
        }
    }

    #[test]
    fn a_header_reads_back() {
        let page = sample().encode();
        assert_eq!(Header::decode(&page, QUEUE_MAGIC, 8192, Path::new("q")).unwrap(), sample());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let page = sample().encode();
        for bit in 0..at::END * 8 {
            let mut flipped = page.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped, QUEUE_MAGIC, 8192, Path::new("q")).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_features_that_nobody_must_know_may_be_unknown() {
        for (at, opens) in
            [(at::INCOMPATIBLE, false), (at::READ_ONLY_COMPATIBLE, false), (at::COMPATIBLE, true)]
        {
            let mut page = sample().encode();
            page[at + 7] = 1;
            let crc = crc32c::crc32c(&page[..at::CRC]);
            page[at::CRC..at::END].copy_from_slice(&crc.to_le_bytes());
            let opened = Header::decode(&page, QUEUE_MAGIC, 8192, Path::new("q"));
            assert_eq!(opened.is_ok(), opens, "{at}");
        }
    }

    #[test]
    fn a_wrong_length_and_a_short_page_are_noticed() {
        let page = sample().encode();
        assert!(matches!(
            Header::decode(&page, QUEUE_MAGIC, 4096, Path::new("q")),
            Err(StoreError::Damaged { what: "the file's length", .. })
        ));
        assert!(matches!(
            Header::decode(&page[..100], QUEUE_MAGIC, 100, Path::new("q")),
            Err(StoreError::Foreign { .. })
        ));
    }
}

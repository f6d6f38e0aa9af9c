//! Files that are not what they should be.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ringway::{Queue, Store, StoreError};

use super::{small_queue, store};

/// Where the fields of a header are, as docs/FORMAT.md has it.
mod at {
    pub(super) const VERSION: u64 = 12;
    pub(super) const FILE_LEN: u64 = 40;
    pub(super) const BOOT_ID: u64 = 80;
    pub(super) const CAPACITY: u64 = 104;
    pub(super) const SLOT_SIZE: u64 = 112;
    pub(super) const MAX_MESSAGE: u64 = 116;
    pub(super) const MAX_GROUPS: u64 = 120;
    pub(super) const CRC: u64 = 124;
    pub(super) const END: usize = 128;
}

/// A store with a queue, closed; opened anew for each damage.
struct Patient {
    _place: tempfile::TempDir,
    path: PathBuf,
}

impl Patient {
    fn new() -> Patient {
        let (place, store) = store();
        let path = store.path().to_path_buf();
        small_queue(&store, "q");
        drop(store);
        Patient { _place: place, path }
    }

    fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    fn queue_file(&self) -> PathBuf {
        self.path.join("queues/q")
    }

    /// What opening the store, and the queue, comes to.
    fn open(&self) -> Result<Queue, StoreError> {
        Store::open(&self.path)?.queue("q")
    }

    /// Opens it while `file` is replaced by what `damage` makes there.
    fn open_with(&self, file: &Path, damage: impl FnOnce(&Path)) -> Result<Queue, StoreError> {
        let kept = self.path.with_extension("kept");
        fs::rename(file, &kept).expect("put the file aside");
        damage(file);
        let opened = self.open();
        if file.is_dir() && !file.is_symlink() {
            fs::remove_dir_all(file).expect("remove the damage");
        } else if file.is_symlink() || file.exists() {
            fs::remove_file(file).expect("remove the damage");
        }
        fs::rename(&kept, file).expect("put the file back");
        opened
    }

    /// As `open_with`, with a changed copy of the file.
    fn open_changed(&self, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<Queue, StoreError> {
        let mut bytes = fs::read(file).expect("read");
        change(&mut bytes);
        self.open_with(file, |file| write_private(file, &bytes))
    }
}

fn write_private(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).expect("write");
    fs::set_permissions(file, Permissions::from_mode(0o600)).expect("chmod");
}

fn kind(result: &Result<Queue, StoreError>) -> &'static str {
    match result {
        Ok(_) => "fine",
        Err(StoreError::Foreign { .. }) => "foreign",
        Err(StoreError::Version { .. }) => "version",
        Err(StoreError::Damaged { .. }) => "damaged",
        Err(StoreError::Unsafe { .. }) => "unsafe",
        Err(StoreError::EarlierBoot { .. }) => "earlier boot",
        Err(StoreError::NoSuchStore { .. }) => "no such store",
        Err(StoreError::NoSuchQueue { .. }) => "no such queue",
        Err(_) => "something else",
    }
}

#[track_caller]
fn assert_kind(result: Result<Queue, StoreError>, expected: &str, what: &str) {
    assert_eq!(kind(&result), expected, "{what}: {:?}", result.err());
}

/// Writes a field, and the checksum that makes the header right again.
fn set(bytes: &mut [u8], at: u64, value: &[u8]) {
    bytes[at as usize..][..value.len()].copy_from_slice(value);
    let crc = crc32c::crc32c(&bytes[..at::CRC as usize]);
    bytes[at::CRC as usize..at::END].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn every_flipped_byte_of_a_header_is_noticed() {
    let patient = Patient::new();
    for file in [patient.control(), patient.queue_file()] {
        let open = OpenOptions::new().read(true).write(true).open(&file).expect("open");
        for byte in 0..at::END as u64 {
            let mut original = [0];
            open.read_exact_at(&mut original, byte).expect("read");
            open.write_all_at(&[original[0] ^ 1 << (byte % 8)], byte).expect("write");
            let expected = match byte {
                0..12 => "foreign",
                12..16 => "version",
                _ => "damaged",
            };
            assert_kind(patient.open(), expected, &format!("byte {byte} of {}", file.display()));
            open.write_all_at(&original, byte).expect("write");
        }
        assert_kind(patient.open(), "fine", "as it was");
    }
}

#[test]
fn truncated_longer_empty_and_foreign_files() {
    let patient = Patient::new();
    for file in [patient.control(), patient.queue_file()] {
        let len = fs::metadata(&file).expect("metadata").len();
        for (cut, expected) in [
            (0, "foreign"),
            (1, "foreign"),
            (127, "foreign"),
            (128, "damaged"),
            (4096, "damaged"),
            (len - 1, "damaged"),
            (len + 1, "damaged"),
        ] {
            let open = OpenOptions::new().read(true).write(true).open(&file).expect("open");
            let mut header = vec![0; 8192];
            open.read_exact_at(&mut header, 0).expect("read");
            let opened = patient.open_with(&file, |file| {
                write_private(file, &header);
                File::options().write(true).open(file).and_then(|file| file.set_len(cut)).expect("cut");
            });
            assert_kind(opened, expected, &format!("{cut} bytes of {}", file.display()));
        }
        let foreign =
            patient.open_with(&file, |file| write_private(file, "not a queue. ".repeat(1000).as_bytes()));
        assert_kind(foreign, "foreign", "a text");
        let zeros = patient.open_with(&file, |file| write_private(file, &[0; 300_000]));
        assert_kind(zeros, "foreign", "zeros");
    }
    let swapped = patient.open_with(&patient.queue_file(), |file| {
        fs::copy(patient.control(), file).expect("copy");
    });
    assert_kind(swapped, "foreign", "a control file in place of a queue");
}

#[test]
fn headers_of_other_versions_boots_and_geometries() {
    let patient = Patient::new();
    for file in [patient.control(), patient.queue_file()] {
        let opened = patient.open_changed(&file, |bytes| set(bytes, at::VERSION, &2_u32.to_le_bytes()));
        match opened {
            Err(StoreError::Version { found: 2, expected: 1, .. }) => {}
            other => panic!("{other:?}"),
        }
        let opened = patient.open_changed(&file, |bytes| set(bytes, at::FILE_LEN, &4096_u64.to_le_bytes()));
        assert_kind(opened, "damaged", "another length");
    }
    let opened = patient.open_changed(&patient.control(), |bytes| set(bytes, at::BOOT_ID, &[7; 16]));
    assert_kind(opened, "earlier boot", "another boot id");
    for (field, value) in [
        (at::CAPACITY, 1000_u64.to_le_bytes().to_vec()),
        (at::CAPACITY, 0_u64.to_le_bytes().to_vec()),
        (at::CAPACITY, (1_u64 << 63).to_le_bytes().to_vec()),
        (at::CAPACITY, 2048_u64.to_le_bytes().to_vec()),
        (at::SLOT_SIZE, 65_u32.to_le_bytes().to_vec()),
        (at::SLOT_SIZE, 0_u32.to_le_bytes().to_vec()),
        (at::MAX_MESSAGE, 0_u32.to_le_bytes().to_vec()),
        (at::MAX_MESSAGE, u32::MAX.to_le_bytes().to_vec()),
        (at::MAX_GROUPS, 0_u32.to_le_bytes().to_vec()),
        (at::MAX_GROUPS, 65_u32.to_le_bytes().to_vec()),
    ] {
        let opened = patient.open_changed(&patient.queue_file(), |bytes| set(bytes, field, &value));
        assert_kind(opened, "damaged", &format!("{value:?} at {field}"));
    }
}

#[test]
fn a_queue_of_another_store_is_foreign() {
    let patient = Patient::new();
    let other = Patient::new();
    let opened = patient.open_with(&patient.queue_file(), |file| {
        fs::copy(other.queue_file(), file).expect("copy");
    });
    assert_kind(opened, "foreign", "another store's queue");
}

#[test]
fn what_is_no_plain_file_is_refused() {
    let patient = Patient::new();
    let elsewhere = patient.path.with_extension("elsewhere");
    for file in [patient.control(), patient.queue_file()] {
        let what = file.display().to_string();
        assert_kind(patient.open_with(&file, |file| fs::create_dir(file).expect("mkdir")), "unsafe", &what);
        let linked = patient.open_with(&file, |file| {
            fs::copy(patient.path.with_extension("kept"), &elsewhere).expect("copy");
            symlink(&elsewhere, file).expect("symlink");
        });
        assert_kind(linked, "unsafe", &format!("{what}: a symbolic link"));
        let linked = patient.open_with(&file, |file| {
            fs::hard_link(patient.path.with_extension("kept"), file).expect("link");
        });
        assert_kind(linked, "unsafe", &format!("{what}: a second name"));
        let pipe = patient.open_with(&file, |file| {
            nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        });
        assert_kind(pipe, "unsafe", &format!("{what}: a pipe"));
    }
    let queues = patient.path.join("queues");
    let linked = patient.open_with(&queues, |queues| {
        symlink(patient.path.with_extension("kept"), queues).expect("symlink");
    });
    assert_kind(linked, "unsafe", "a link in place of the directory of queues");
    let file = patient.open_with(&queues, |queues| write_private(queues, b""));
    assert_kind(file, "unsafe", "a file in place of the directory of queues");
    // The path to the store is the user's own, and may lead through links.
    let link = patient.path.with_extension("link");
    symlink(&patient.path, &link).expect("symlink");
    Store::open(&link).expect("by a link").queue("q").expect("the queue");
}

#[test]
fn what_strangers_can_write_to_is_refused() {
    let patient = Patient::new();
    for path in [patient.control(), patient.queue_file(), patient.path.clone(), patient.path.join("queues")] {
        let mode = fs::metadata(&path).expect("metadata").permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode.mode() | 0o002)).expect("chmod");
        assert_kind(patient.open(), "unsafe", &format!("{}: writable by everyone", path.display()));
        fs::set_permissions(&path, mode).expect("chmod");
        assert_kind(patient.open(), "fine", "as it was");
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: {}: only root can give it to somebody else", path.display());
            continue;
        }
        std::os::unix::fs::chown(&path, Some(12_345), None).expect("chown");
        assert_kind(patient.open(), "unsafe", &format!("{}: a stranger's", path.display()));
        let allowed =
            Store::options().allow_owner(12_345).open(&patient.path).and_then(|store| store.queue("q"));
        assert_kind(allowed, "fine", "a stranger who is allowed");
        std::os::unix::fs::chown(&path, Some(0), None).expect("chown");
    }
}

#[test]
fn damaged_stores_and_queues_can_be_removed() {
    let patient = Patient::new();
    fs::write(patient.queue_file(), b"rubbish").expect("write");
    let store = Store::open(&patient.path).expect("the store is fine");
    store.remove_queue("q", ringway::Removal::IfUnused).expect("remove the damaged queue");
    small_queue(&store, "q");
    drop(store);
    fs::write(patient.control(), b"rubbish").expect("write");
    assert_kind(patient.open(), "foreign", "a damaged store");
    Store::remove(&patient.path).expect("remove the damaged store");
    assert_kind(patient.open(), "no such store", "removed");
}

#[test]
fn names_that_cannot_be() {
    let (_place, store) = store();
    let queue = small_queue(&store, "q");
    let too_long = "x".repeat(65);
    for name in
        ["", "a/b", "../q", "/etc/passwd", ".", "..", ".hidden", "-x", "a b", "a\0b", "ä", too_long.as_str()]
    {
        let bad = |result: Result<(), StoreError>| {
            assert!(matches!(result, Err(StoreError::BadName { .. })), "{name:?}: {result:?}")
        };
        bad(Queue::options().create(&store, name).map(drop));
        bad(Queue::options().open_or_create(&store, name).map(drop));
        bad(store.queue(name).map(drop));
        bad(store.remove_queue(name, ringway::Removal::IfUnused));
        bad(queue.add_group(name, ringway::GroupOptions::default()));
    }
    assert!(matches!(store.queue("other"), Err(StoreError::NoSuchQueue { .. })));
    assert!(matches!(queue.consumer("other").build(), Err(StoreError::NoSuchGroup { .. })));
    assert!(matches!(Store::open(store.path().join("nowhere")), Err(StoreError::NoSuchStore { .. })));
    assert!(matches!(Store::create(store.path().join("no/parent")), Err(StoreError::Io { .. })));
    assert!(matches!(Store::create(store.path()), Err(StoreError::AlreadyExists { .. })));
    assert!(matches!(Queue::options().create(&store, "q"), Err(StoreError::AlreadyExists { .. })));
    let other = Queue::options().capacity(2048).open_or_create(&store, "q");
    assert!(matches!(other, Err(StoreError::Geometry { what: "capacity", found: 1024, expected: 2048, .. })));
}

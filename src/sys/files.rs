//! Directories and files, opened so that nobody can slip a foreign one in.
//!
//! A [`Dir`] is an open descriptor, and every file is reached from it by one plain name: no symbolic link
//! and no `..` is followed, whatever happens to the path above in the meantime. What is opened
//! must be a regular file with one link, not writable by everyone, and owned by somebody who is trusted
//! ([`OpenPolicy`]). Making files is in [`create`](crate::sys::create).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::dir as nix_dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, OFlag, OpenHow, ResolveFlag, fallocate, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{UnlinkatFlags, fsync, geteuid, unlinkat};

use crate::StoreError;
pub(crate) use crate::sys::create::{Created, create_file, sweep_temporaries};

/// The longest name of a store, queue or group, in bytes.
pub(crate) const NAME_MAX: usize = 64;

/// Whose files are trusted, and who may share those that are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenPolicy {
    /// Owners to be trusted besides the caller and root.
    pub(crate) allowed_uids: Vec<u32>,
    /// The group that files are shared with, mode 0660. Without it they are the caller's alone, mode 0600.
    pub(crate) gid: Option<u32>,
}

impl OpenPolicy {
    /// The mode of a store's directories.
    pub(crate) fn dir_mode(&self) -> u32 {
        if self.gid.is_some() { 0o770 } else { 0o700 }
    }

    fn trusts(&self, uid: u32) -> bool {
        uid == 0 || uid == geteuid().as_raw() || self.allowed_uids.contains(&uid)
    }
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the directory at `path`. The path is the user's own and may lead through symbolic links.
    pub(crate) fn open(path: impl AsRef<Path>) -> Result<Dir, StoreError> {
        Dir::open_at(AT_FDCWD, path.as_ref(), path.as_ref().to_path_buf(), OFlag::empty())
    }

    /// Opens the directory at `path`, making it with this mode (less the umask) if it is not there. Its
    /// parent must be there; the last part of the path must not be a symbolic link.
    pub(crate) fn create(path: impl AsRef<Path>, mode: u32) -> Result<Dir, StoreError> {
        Dir::create_at(AT_FDCWD, path.as_ref(), path.as_ref().to_path_buf(), mode)
    }

    /// As [`Dir::create`] with mode 0700, for a directory whose place anybody can write to, such as
    /// `/dev/shm/ringway-<uid>`: one that is there already must be the caller's and closed to others.
    pub(crate) fn create_private(path: impl AsRef<Path>) -> Result<Dir, StoreError> {
        let dir = Dir::create(path, 0o700)?;
        let found = dir.metadata()?;
        let me = geteuid().as_raw();
        if found.st_uid != me {
            let what = format!("it belongs to user {}, not to {me}: choose another path", found.st_uid);
            return Err(StoreError::Unsafe { path: dir.path, what });
        }
        if found.st_mode & 0o077 != 0 {
            let what = format!("others can enter it (mode {:03o}): `chmod 700` it", found.st_mode & 0o777);
            return Err(StoreError::Unsafe { path: dir.path, what });
        }
        Ok(dir)
    }

    /// Opens the directory `name` in this one.
    pub(crate) fn sub(&self, name: &str) -> Result<Dir, StoreError> {
        Dir::open_at(self.fd.as_fd(), Path::new(name), self.path.join(name), OFlag::O_NOFOLLOW)
    }

    /// As [`Dir::sub`], making it with this mode (less the umask) if it is not there.
    pub(crate) fn create_sub(&self, name: &str, mode: u32) -> Result<Dir, StoreError> {
        Dir::create_at(self.fd.as_fd(), Path::new(name), self.path.join(name), mode)
    }

    /// Where it was when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, unsorted, without those that are not UTF-8 (none of them is ours).
    pub(crate) fn list(&self) -> io::Result<Vec<String>> {
        // A descriptor of its own: one open directory has one position.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut entries = nix_dir::Dir::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in entries.iter() {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Removes the file `name`.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes the empty directory `name`.
    pub(crate) fn remove_dir(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)?)
    }

    /// Makes the names that were added and removed durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.fd)?)
    }

    /// Refuses a directory in which a stranger could replace files: the owner must be trusted, and
    /// not everyone may write to it.
    pub(crate) fn check_safe(&self, policy: &OpenPolicy) -> Result<(), StoreError> {
        let found = self.metadata()?;
        check_owner_and_mode(&self.path, found.st_uid, found.st_mode, policy)
    }

    fn metadata(&self) -> Result<FileStat, StoreError> {
        fstat(&self.fd).map_err(|error| io_error("looking at", &self.path)(error.into()))
    }

    fn create_at(at: BorrowedFd<'_>, name: &Path, path: PathBuf, mode: u32) -> Result<Dir, StoreError> {
        match mkdirat(at, name, Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(Errno::EEXIST) => Dir::open_at(at, name, path, OFlag::O_NOFOLLOW),
            Err(error) => Err(StoreError::Io { doing: "creating", path, source: error.into() }),
        }
    }

    fn open_at(at: BorrowedFd<'_>, name: &Path, path: PathBuf, more: OFlag) -> Result<Dir, StoreError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | more;
        match openat(at, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path }),
            Err(Errno::ELOOP | Errno::ENOTDIR) if more.contains(OFlag::O_NOFOLLOW) => {
                let what = "it is a symbolic link or no directory: remove it, or choose another path".into();
                Err(StoreError::Unsafe { path, what })
            }
            Err(error) => Err(StoreError::Io { doing: "opening", path, source: error.into() }),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens the file `name` of the directory, if it is what it should be.
pub(crate) fn open_file(
    dir: &Dir,
    name: &str,
    policy: &OpenPolicy,
    writable: bool,
) -> Result<File, StoreError> {
    let path = dir.path.join(name);
    let file = open_raw(dir, name, writable).map_err(|source| match source.raw_os_error() {
        Some(libc::ELOOP) => {
            StoreError::Unsafe { path: path.clone(), what: "it is a symbolic link: remove it".into() }
        }
        Some(libc::EISDIR | libc::ENXIO) => {
            StoreError::Unsafe { path: path.clone(), what: "it is not a regular file: remove it".into() }
        }
        _ => StoreError::Io { doing: "opening", path: path.clone(), source },
    })?;
    let found = file.metadata().map_err(io_error("looking at", &path))?;
    if !found.is_file() {
        return Err(StoreError::Unsafe { path, what: "it is not a regular file: remove it".into() });
    }
    if found.nlink() != 1 {
        let what = format!("it has {} links, expected 1: remove the other names", found.nlink());
        return Err(StoreError::Unsafe { path, what });
    }
    check_owner_and_mode(&path, found.uid(), found.mode(), policy)?;
    Ok(file)
}

/// Opens the file without looking at what it is. Never follows a link, never waits for a pipe's other end.
pub(crate) fn open_raw(dir: &Dir, name: &str, writable: bool) -> io::Result<File> {
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let resolve =
        ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_BENEATH;
    for _ in 0..OPEN_TRIES {
        match openat2(&dir.fd, name, OpenHow::new().flags(flags).resolve(resolve)) {
            Ok(fd) => return Ok(fd.into()),
            // EAGAIN: something on the way was renamed meanwhile, or somebody has a lease on the file.
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // An old kernel, or a sandbox that does not know the call. A plain name has no way to lead astray
            // but a link, which O_NOFOLLOW refuses.
            Err(Errno::ENOSYS | Errno::EPERM) if !name.contains('/') && name != ".." => {
                return Ok(openat(&dir.fd, name, flags, Mode::empty())?.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// How often an open is tried that says "again".
const OPEN_TRIES: u32 = 64;

fn check_owner_and_mode(path: &Path, uid: u32, mode: u32, policy: &OpenPolicy) -> Result<(), StoreError> {
    let path = || path.to_path_buf();
    if mode & 0o002 != 0 {
        let what = format!("everyone can write to it (mode {:03o}): `chmod o-w` it", mode & 0o777);
        return Err(StoreError::Unsafe { path: path(), what });
    }
    if !policy.trusts(uid) {
        let what = format!("it belongs to user {uid}: allow that owner if you trust it (`allow_owner`)");
        return Err(StoreError::Unsafe { path: path(), what });
    }
    Ok(())
}

/// Gives `len` bytes from `offset` on a place on the file system, within the file's length, so that
/// a later write through a mapping cannot fail. What is in them already stays.
pub(crate) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    change_allocation(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, len)
}

/// Gives the place of these bytes back to the file system; they read as zero then.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE | FallocateFlags::FALLOC_FL_PUNCH_HOLE;
    change_allocation(file, flags, offset, len)
}

fn change_allocation(file: &File, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
    let signed = |bytes: u64| i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (offset, len) = (signed(offset)?, signed(len)?);
    loop {
        match fallocate(file, flags, offset, len) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// File systems whose memory or locks are not those of this host alone, by the magic number of `statfs`.
const REFUSED: [(u32, &str); 19] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x786f_4256, "a VirtualBox shared folder"),
    (0xbacb_acbc, "a VMware shared folder"),
    (0x2003_0528, "OrangeFS"),
    (0x6e66_7364, "the NFS server's own file system"),
];

/// Refuses a directory on a file system that cannot carry a store: one that is shared over a network or
/// served by a process.
pub(crate) fn file_system_check(dir: &Dir) -> Result<(), StoreError> {
    let found = fstatfs(dir).map_err(|error| io_error("looking at", &dir.path)(error.into()))?;
    // The kernel's number has 32 bits; some of them arrive sign-extended.
    let magic = found.filesystem_type().0 as u32;
    match REFUSED.iter().find(|(refused, _)| *refused == magic) {
        Some((_, kind)) => Err(StoreError::FileSystem { path: dir.path.clone(), kind: (*kind).to_owned() }),
        None => Ok(()),
    }
}

/// File systems whose mappings hold the very file they were made through, by their magic numbers: tmpfs,
/// ext2 to ext4, XFS, Btrfs and F2FS. Those of stacked ones hold a file of the layer below.
const MAPPING_HOLDS_FILE: [u32; 5] = [0x0102_1994, 0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/// Whether it is known that a mapping of a file of this directory keeps the open file, and so its locks.
pub(crate) fn mapping_holds_file(dir: &Dir) -> io::Result<bool> {
    Ok(MAPPING_HOLDS_FILE.contains(&(fstatfs(dir)?.filesystem_type().0 as u32)))
}

/// Refuses a name that no store, queue or group can have.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_MAX {
        "it is too long"
    } else if name.contains('/') {
        "it has a slash"
    } else if name.starts_with('.') {
        "it starts with a dot"
    } else if name.starts_with('-') {
        "it starts with a hyphen"
    } else if !name.bytes().all(usable) {
        "it has a character that is not allowed"
    } else {
        return Ok(());
    };
    Err(StoreError::BadName { name: name.to_owned(), reason })
}

/// Wraps a system error, for `map_err`.
pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_path_buf();
    move |source| StoreError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn dir() -> (tempfile::TempDir, Dir) {
        let place = tempfile::tempdir().expect("directory");
        let dir = Dir::open(place.path()).expect("open");
        (place, dir)
    }

    fn unsafe_because(result: Result<File, StoreError>) -> String {
        match result {
            Err(StoreError::Unsafe { what, .. }) => what,
            other => panic!("expected Unsafe, found {other:?}"),
        }
    }

    #[test]
    fn what_is_not_a_plain_file_of_ours_is_refused() {
        let (place, dir) = dir();
        let path = |name: &str| place.path().join(name);
        let policy = OpenPolicy::default();
        fs::write(path("good"), "x").expect("write");
        assert!(open_file(&dir, "good", &policy, true).is_ok());
        assert!(open_file(&dir, "good", &policy, false).is_ok());

        symlink(path("good"), path("link")).expect("symlink");
        assert!(unsafe_because(open_file(&dir, "link", &policy, true)).contains("symbolic link"));

        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).expect("mkfifo");
        assert!(unsafe_because(open_file(&dir, "pipe", &policy, false)).contains("regular file"));

        fs::create_dir(path("sub")).expect("mkdir");
        assert!(unsafe_because(open_file(&dir, "sub", &policy, false)).contains("regular file"));

        fs::write(path("open"), "x").expect("write");
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o666)).expect("chmod");
        assert!(unsafe_because(open_file(&dir, "open", &policy, true)).contains("mode 666"));

        fs::hard_link(path("good"), path("other")).expect("link");
        assert!(unsafe_because(open_file(&dir, "good", &policy, true)).contains("2 links"));

        match open_file(&dir, "none", &policy, true) {
            Err(StoreError::Io { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        }
        assert!(open_file(&dir, "../x", &policy, true).is_err());
        assert!(open_file(&dir, "a\0b", &policy, true).is_err());
    }

    #[test]
    fn owners_are_the_caller_root_and_the_allowed() {
        let policy = OpenPolicy { allowed_uids: vec![4242], gid: None };
        let check = |uid| check_owner_and_mode(Path::new("f"), uid, 0o100_600, &policy);
        assert!(check(0).is_ok());
        assert!(check(geteuid().as_raw()).is_ok());
        assert!(check(4242).is_ok());
        match check(4243) {
            Err(StoreError::Unsafe { what, .. }) => assert!(what.contains("user 4243"), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn directories() {
        let (place, dir) = dir();
        dir.create_sub("a", 0o700).expect("create");
        let sub = dir.create_sub("a", 0o700).expect("there already is fine");
        assert_eq!(sub.path(), place.path().join("a"));
        sub.check_safe(&OpenPolicy::default()).expect("safe");
        fs::write(place.path().join("a/f"), "").expect("write");
        assert_eq!(sub.list().expect("list"), ["f"]);
        assert_eq!(sub.list().expect("list again"), ["f"]);
        assert!(dir.remove_dir("a").is_err());
        sub.unlink("f").expect("unlink");
        dir.sync().expect("sync");
        dir.remove_dir("a").expect("remove");
        assert!(dir.sub("a").is_err());

        symlink(place.path(), place.path().join("loop")).expect("symlink");
        assert!(matches!(dir.sub("loop"), Err(StoreError::Unsafe { .. })));
        assert!(matches!(Dir::create(place.path().join("loop"), 0o700), Err(StoreError::Unsafe { .. })));
    }

    #[test]
    fn a_private_directory_is_closed_to_others() {
        let (place, _dir) = dir();
        let path = place.path().join("mine");
        Dir::create_private(&path).expect("create");
        Dir::create_private(&path).expect("there already is fine");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        match Dir::create_private(&path) {
            Err(StoreError::Unsafe { what, .. }) => assert!(what.contains("mode 755"), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn allocation_keeps_length_and_contents() {
        let file = tempfile::tempfile().expect("file");
        file.set_len(1 << 20).expect("length");
        let blocks = || file.metadata().expect("metadata").blocks() * 512;
        allocate(&file, 0, 1 << 16).expect("allocate");
        assert_eq!(file.metadata().expect("metadata").len(), 1 << 20);
        assert!(blocks() >= 1 << 16);
        punch(&file, 0, 1 << 16).expect("punch");
        assert!(blocks() < 1 << 16);
        assert!(allocate(&file, 0, u64::MAX).is_err());
    }

    #[test]
    fn local_file_systems_pass() {
        file_system_check(&dir().1).expect("the temporary directory's file system");
        let proc = Dir::open("/proc").expect("open");
        file_system_check(&proc).expect("not on the list");
    }

    #[test]
    fn names() {
        for good in ["a", "orders.eu-1_x", "9", &"n".repeat(NAME_MAX)] {
            check_name(good).expect(good);
        }
        let too_long = "n".repeat(NAME_MAX + 1);
        for bad in ["", ".", "..", ".new-1", "-x", "a/b", "a b", "a\0", "ä", too_long.as_str()] {
            assert!(matches!(check_name(bad), Err(StoreError::BadName { .. })), "{bad:?} passed");
        }
    }
}

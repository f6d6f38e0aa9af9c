//! Making a file that nobody ever sees half made.
//!
//! It is made under a temporary name, filled, given its place on the file system and synced there, and only
//! then gets its name; of two creators one wins, and the other is told that the file exists. All the while
//! the creator holds a write lock on the first byte of the temporary. A temporary whose lock is free belongs
//! to a dead creator and may be removed. One living creator looks dead: the one that has made its temporary
//! and not locked it yet. It finds out when it does (the lock is taken, or the file has no name any more),
//! and starts again.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, fchown, linkat};

use crate::StoreError;
use crate::sys::files::{Dir, OpenPolicy, allocate, io_error, open_raw};
use crate::sys::lock;

/// How the names of temporaries begin.
const PREFIX: &str = ".new-";

/// The byte whose lock shows that a temporary's creator is alive.
const ALIVE: u64 = 0;

/// What became of a creation.
#[derive(Debug)]
pub(crate) enum Created {
    /// The file was made; it is open to read and write.
    Made(#[cfg_attr(not(test), expect(dead_code, reason = "the tests look into it"))] File),
    /// A file of this name is there already.
    Exists,
}

/// Makes the file `name`: `len_total` bytes long, the first `len_allocated` of them with a place on the file
/// system, the contents written by `fill`. All or nothing.
pub(crate) fn create_file(
    dir: &Dir,
    name: &str,
    len_allocated: u64,
    len_total: u64,
    policy: &OpenPolicy,
    fill: impl FnOnce(&File) -> io::Result<()>,
) -> Result<Created, StoreError> {
    let path = dir.path().join(name);
    let (temporary, file) = locked_temporary(dir).map_err(io_error("creating", &path))?;
    let made = prepare(&file, &path, len_allocated, len_total, policy, fill)
        .and_then(|()| publish(dir, &temporary, name).map_err(io_error("naming", &path)));
    match made {
        Ok(true) => {
            dir.sync().map_err(io_error("syncing the directory of", &path))?;
            lock::unlock(file.as_fd(), ALIVE).map_err(io_error("unlocking", &path))?;
            Ok(Created::Made(file))
        }
        Ok(false) => {
            discard(dir, &temporary);
            Ok(Created::Exists)
        }
        Err(error) => {
            discard(dir, &temporary);
            Err(error)
        }
    }
}

/// Removes the temporaries that dead creators left behind; how many there were.
pub(crate) fn sweep_temporaries(dir: &Dir) -> io::Result<u32> {
    let mut removed = 0;
    for name in dir.list()?.iter().filter(|name| name.starts_with(PREFIX)) {
        let Ok(file) = open_raw(dir, name, true) else {
            // Gone meanwhile, or not ours to open.
            continue;
        };
        // The name is unlinked under the lock, and no other file ever gets that name.
        if file.metadata()?.is_file() && lock::try_write(file.as_fd(), ALIVE)? {
            match dir.unlink(name) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

/// A new empty file under a temporary name, with the lock that keeps sweepers off it.
fn locked_temporary(dir: &Dir) -> io::Result<(String, File)> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    loop {
        // Each hasher has other random keys.
        let random = RandomState::new().build_hasher().finish();
        let name = format!("{PREFIX}{}-{random:016x}", std::process::id());
        let file: File = match openat(dir, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(fd) => fd.into(),
            Err(Errno::EEXIST | Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let claimed = lock::try_write(file.as_fd(), ALIVE).and_then(|locked| {
            // A sweeper that was quicker holds the lock, or has unlinked the file and is gone.
            Ok(locked && file.metadata()?.nlink() == 1)
        });
        match claimed {
            Ok(true) => return Ok((name, file)),
            Ok(false) => {}
            Err(error) => {
                discard(dir, &name);
                return Err(error);
            }
        }
    }
}

fn prepare(
    file: &File,
    path: &Path,
    len_allocated: u64,
    len_total: u64,
    policy: &OpenPolicy,
    fill: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), StoreError> {
    let mut mode = Mode::S_IRUSR | Mode::S_IWUSR;
    if let Some(gid) = policy.gid {
        let given = fchown(file, None, Some(Gid::from_raw(gid)));
        given.map_err(|error| io_error("giving the group its share of", path)(error.into()))?;
        mode |= Mode::S_IRGRP | Mode::S_IWGRP;
    }
    // The umask has no say.
    fchmod(file, mode).map_err(|error| io_error("setting the mode of", path)(error.into()))?;
    file.set_len(len_total).map_err(io_error("setting the length of", path))?;
    if len_allocated > 0 {
        allocate(file, 0, len_allocated).map_err(io_error("allocating", path))?;
    }
    fill(file).map_err(io_error("writing", path))?;
    file.sync_all().map_err(io_error("syncing", path))
}

/// Gives the temporary its name. `false` if that is taken.
fn publish(dir: &Dir, temporary: &str, name: &str) -> io::Result<bool> {
    match renameat2(dir, temporary, dir, name, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        // The file system or the kernel does not know the flag. A link does not replace anything either;
        // until the second step is done, the file has two names and openers refuse it.
        Err(Errno::EINVAL | Errno::ENOSYS) => match linkat(dir, temporary, dir, name, AtFlags::empty()) {
            Ok(()) => dir.unlink(temporary).map(|()| true),
            Err(Errno::EEXIST) => Ok(false),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Removes a temporary on the way out of a failure, which is reported; one that stays is for the sweeper.
fn discard(dir: &Dir, temporary: &str) {
    let _ = dir.unlink(temporary);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::files::open_file;
    use std::fs;
    use std::io::Write;

    fn dir() -> (tempfile::TempDir, Dir) {
        let place = tempfile::tempdir().expect("directory");
        let dir = Dir::open(place.path()).expect("open");
        (place, dir)
    }

    fn write(text: &'static str) -> impl FnOnce(&File) -> io::Result<()> {
        move |mut file| file.write_all(text.as_bytes())
    }

    #[test]
    fn the_first_creator_wins_and_nothing_is_left_over() {
        let (place, dir) = dir();
        let policy = OpenPolicy::default();
        let made = create_file(&dir, "f", 4096, 8192, &policy, write("one")).expect("create");
        let Created::Made(file) = made else { panic!("exists") };
        let found = file.metadata().expect("metadata");
        assert_eq!((found.len(), found.mode() & 0o777, found.nlink()), (8192, 0o600, 1));
        assert!(found.blocks() * 512 >= 4096);
        let second = create_file(&dir, "f", 0, 8192, &policy, write("two")).expect("create");
        assert!(matches!(second, Created::Exists));
        assert!(fs::read(place.path().join("f")).expect("read").starts_with(b"one\0"));
        assert_eq!(dir.list().expect("list"), ["f"]);
        let other = open_file(&dir, "f", &policy, true).expect("open");
        assert!(!lock::locked(other.as_fd(), ALIVE).expect("probe"), "the lock outlived the creation");
    }

    #[test]
    fn a_group_gets_its_share() {
        let (_place, dir) = dir();
        let gid = nix::unistd::getegid().as_raw();
        let policy = OpenPolicy { allowed_uids: vec![], gid: Some(gid) };
        let made = create_file(&dir, "f", 0, 1, &policy, |_| Ok(())).expect("create");
        let Created::Made(file) = made else { panic!("exists") };
        let found = file.metadata().expect("metadata");
        assert_eq!((found.mode() & 0o777, found.gid()), (0o660, gid));
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let (_place, dir) = dir();
        let policy = OpenPolicy::default();
        let failed = create_file(&dir, "f", 0, 10, &policy, |_| Err(io::Error::other("no")));
        assert!(matches!(failed, Err(StoreError::Io { doing: "writing", .. })));
        let failed = create_file(&dir, "f", 1 << 62, 1 << 10, &policy, |_| Ok(()));
        assert!(matches!(failed, Err(StoreError::Io { doing: "allocating", .. })), "{failed:?}");
        assert!(dir.list().expect("list").is_empty());
    }

    #[test]
    fn the_fall_back_for_old_file_systems_does_not_replace_either() {
        let (_place, dir) = dir();
        let (temporary, _file) = locked_temporary(&dir).expect("temporary");
        assert!(publish(&dir, &temporary, "f").expect("publish"));
        let (temporary, _file) = locked_temporary(&dir).expect("temporary");
        assert!(!publish(&dir, &temporary, "f").expect("publish"));
    }

    #[test]
    fn sweepers_take_the_temporaries_of_the_dead_only() {
        let (place, dir) = dir();
        fs::write(place.path().join(".new-1-dead"), "").expect("write");
        fs::write(place.path().join("queue"), "").expect("write");
        let (living, _file) = locked_temporary(&dir).expect("temporary");
        assert_eq!(sweep_temporaries(&dir).expect("sweep"), 1);
        let mut left = dir.list().expect("list");
        left.sort();
        assert_eq!(left, [living.as_str(), "queue"]);
    }

    #[test]
    fn creators_and_sweepers_race() {
        let (_place, dir) = dir();
        let policy = OpenPolicy::default();
        let made: usize = std::thread::scope(|scope| {
            let creator = || {
                (0..40)
                    .filter(|i| {
                        let name = format!("f{i}");
                        let made = create_file(&dir, &name, 0, 1, &policy, write("x")).expect("create");
                        sweep_temporaries(&dir).expect("sweep");
                        matches!(made, Created::Made(_))
                    })
                    .count()
            };
            let creators = [scope.spawn(creator), scope.spawn(creator)];
            creators.into_iter().map(|creator| creator.join().expect("creator")).sum()
        });
        assert_eq!(made, 40, "each file is made once");
        assert_eq!(dir.list().expect("list").len(), 40);
    }
}

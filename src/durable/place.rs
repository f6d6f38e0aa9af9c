//! The durable directory: who the store is, where its rings are, and that only one process rebuilds them.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::rebuild::rebuild;
use crate::layout::CONTROL;
use crate::participant::store::{StoreCore, is_missing, random_id};
use crate::sys::files::{
    Created, Dir, OpenPolicy, create_file, file_system_check, io_error, open_file, open_raw,
    sweep_temporaries,
};
use crate::sys::fork::{LockFile, pause_forks};
use crate::sys::lock;
use crate::{DurableOptions, Store, StoreError};

/// The file that makes a directory a durable store.
const IDENTITY: &str = "store";

/// Version of that file.
const VERSION: u32 = 1;

/// The byte of the file whose lock the one holds who rebuilds the rings.
const REBUILD_BYTE: u64 = 1 << 62;

/// How long others wait for that: a large journal on a slow disk.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who a durable store is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Identity {
    ringway: u32,
    store: String,
    rings: PathBuf,
    options: DurableOptions,
}

/// An open durable directory.
pub(super) struct Place {
    pub(super) dir: Dir,
    pub(super) id: [u8; 16],
    pub(super) rings: PathBuf,
    pub(super) options: DurableOptions,
}

/// Whether a path is that of a durable directory.
pub(crate) fn is_durable_dir(path: &Path) -> bool {
    path.join(IDENTITY).is_file() && !path.join(CONTROL).exists()
}

/// Makes a durable directory. `false`: there is a store in it.
///
/// Nothing else is written: whoever opens it finds neither rings nor a journal, and makes both. So a death in here
/// leaves nothing, or all.
pub(crate) fn create(
    path: &Path,
    rings: &Path,
    options: &DurableOptions,
    policy: &OpenPolicy,
) -> Result<bool, StoreError> {
    options.check()?;
    if rings != path && is_durable_dir(rings) {
        return Err(StoreError::BadOption {
            option: "path of the rings",
            found: rings.display().to_string(),
            expected: "a directory of their own: this one is that of another durable store".to_owned(),
        });
    }
    let dir = Dir::create(path, policy.dir_mode())?;
    file_system_check(&dir)?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(io_error("finding", path));
    let id = random_id()?;
    let rings = if rings == path {
        Store::default_path(&format!("durable-{}", hex(&id[..8])))
    } else {
        absolute(rings)?
    };
    let identity = Identity { ringway: VERSION, store: hex(&id), rings, options: *options };
    let bytes = serde_json::to_vec_pretty(&identity).map_err(|error| StoreError::BadOption {
        option: "path of the rings",
        found: error.to_string(),
        expected: "a path in UTF-8".to_owned(),
    })?;
    let len = bytes.len() as u64;
    let made = create_file(&dir, IDENTITY, len, len, policy, |file| file.write_all_at(&bytes, 0))?;
    Ok(matches!(made, Created::Made(_)))
}

/// Opens the durable store of this directory: its rings as they are, or made anew from the journal.
pub(crate) fn open(path: &Path, policy: &OpenPolicy, trusted: bool) -> Result<Arc<StoreCore>, StoreError> {
    let place = Place::open(path, policy)?;
    if let Some(store) = place.open_rings(policy, trusted)? {
        return Ok(store);
    }
    let _alone = place.lock()?;
    // Somebody else may have done it meanwhile.
    if let Some(store) = place.open_rings(policy, trusted)? {
        return Ok(store);
    }
    rebuild(&place, policy)?;
    StoreCore::open(&place.rings, policy.clone(), trusted)
}

/// Removes a durable store, rings and journal, that no living process is attached to.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let place = Place::open(path, &OpenPolicy::default())?;
    let _alone = place.lock()?;
    remove_rings(&place)?;
    let removing = || io_error("removing the journal in", path);
    sweep_temporaries(&place.dir).map_err(removing())?;
    for name in place.dir.list().map_err(removing())? {
        if crate::journal::segments::is_journal_file(&name) {
            place.dir.unlink(&name).map_err(removing())?;
        }
    }
    // Last: as long as it is there, removing can be tried again.
    place.dir.unlink(IDENTITY).map_err(removing())?;
    std::fs::remove_dir(path).map_err(removing())
}

/// Removes the rings of this store. Those of another one in their place are left alone.
fn remove_rings(place: &Place) -> Result<(), StoreError> {
    if let Ok(there) = StoreCore::open(&place.rings, OpenPolicy::default(), false) {
        if there.id != place.id {
            return Ok(());
        }
        place.check_journal_of(&there)?;
    }
    match Store::remove(&place.rings) {
        Ok(()) | Err(StoreError::NoSuchStore { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Place {
    pub(super) fn open(path: &Path, policy: &OpenPolicy) -> Result<Place, StoreError> {
        let path = std::path::absolute(path).map_err(io_error("finding", path))?;
        let missing = || StoreError::NoSuchStore { path: path.clone() };
        let dir = Dir::open(&path).map_err(|error| if is_missing(&error) { missing() } else { error })?;
        file_system_check(&dir)?;
        dir.check_safe(policy)?;
        let file = open_file(&dir, IDENTITY, policy, false)
            .map_err(|error| if is_missing(&error) { missing() } else { error })?;
        let identity = read_identity(&file, &path.join(IDENTITY))?;
        let id = unhex(&identity.store).ok_or_else(|| StoreError::Damaged {
            path: path.join(IDENTITY),
            what: "the store's id",
            found: format!("{:?}", identity.store),
            expected: "32 hexadecimal digits".to_owned(),
        })?;
        identity.options.check()?;
        Ok(Place { dir, id, rings: identity.rings, options: identity.options })
    }

    /// The store in the rings' directory. `None`: there is none, or one of an earlier boot.
    fn open_rings(&self, policy: &OpenPolicy, trusted: bool) -> Result<Option<Arc<StoreCore>>, StoreError> {
        match StoreCore::open(&self.rings, policy.clone(), trusted) {
            Ok(store) if store.id == self.id => self.check_journal_of(&store).map(|()| Some(store)),
            Ok(_) => Err(StoreError::Foreign {
                path: self.rings.clone(),
                expected: "place for this store's rings",
                found: "another store is there: remove it, or make this one with rings elsewhere".to_owned(),
            }),
            Err(StoreError::NoSuchStore { .. } | StoreError::EarlierBoot { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses rings that write to another directory: this one is a copy of it, or was moved.
    pub(super) fn check_journal_of(&self, store: &StoreCore) -> Result<(), StoreError> {
        let journal = super::path_of(store);
        let same = |path: &Path| std::fs::metadata(path).map(|dir| (dir.dev(), dir.ino()));
        match (same(&journal), same(self.dir.path())) {
            (Ok(theirs), Ok(this)) if theirs == this => Ok(()),
            _ => Err(StoreError::Foreign {
                path: self.dir.path().to_path_buf(),
                expected: "durable store that its rings know",
                found: format!(
                    "the rings in {} write to the journal in {}: use that, or if it was moved here end all users \
                     and remove those rings (they are made anew)",
                    self.rings.display(),
                    journal.display()
                ),
            }),
        }
    }

    /// Waits for its turn to rebuild.
    pub(super) fn lock(&self) -> Result<LockFile, StoreError> {
        let locking = || io_error("locking", self.dir.path());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut pause = pause_forks().map_err(locking())?;
            let file = open_raw(&self.dir, IDENTITY, true).map_err(locking())?;
            if lock::try_write(file.as_fd(), REBUILD_BYTE).map_err(locking())? {
                return LockFile::new(file, REBUILD_BYTE, &mut pause).map_err(locking());
            }
            drop(pause);
            if Instant::now() >= deadline {
                return Err(StoreError::InUse {
                    what: "store",
                    name: self.dir.path().display().to_string(),
                    by: "another process is making its rings anew from the journal".to_owned(),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read_identity(file: &File, path: &Path) -> Result<Identity, StoreError> {
    let mut text = String::new();
    let read = file.take(1 << 16).read_to_string(&mut text).map_err(io_error("reading", path));
    read?;
    let identity: Identity = serde_json::from_str(&text).map_err(|error| StoreError::Foreign {
        path: path.to_path_buf(),
        expected: "durable store's identity",
        found: error.to_string(),
    })?;
    if identity.ringway != VERSION {
        let (found, expected) = (identity.ringway, VERSION);
        return Err(StoreError::Version { path: path.to_path_buf(), found, expected });
    }
    Ok(identity)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut id = [0; 16];
    for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(id)
}

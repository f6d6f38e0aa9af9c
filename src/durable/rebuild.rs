//! Making the rings anew: after a reboot, or when they were removed.
//!
//! The queues first, each in its file, and the control file last, under a name that appears at once: until then
//! there is no store in the rings' directory, and whoever comes after a death in here begins anew. The journal is
//! only read. What is written next goes on where its last whole batch ends.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::sync::Arc;

use super::entry::{QueueEntry, StateEntry, kind};
use super::image::Image;
use super::place::Place;
use crate::StoreError;
use crate::journal::{self, Durability, Entry, Files, JournalError, Tail, Writer};
use crate::layout::header::QUEUE_MAGIC;
use crate::layout::{CONTROL, QUEUES};
use crate::participant::store::{StoreCore, is_missing};
use crate::sys::files::{Dir, OpenPolicy, io_error, open_raw, sweep_temporaries};
use crate::sys::fork::ForkGuard;

/// What a pass over the journal makes.
struct Rebuild<'a> {
    queues: &'a Dir,
    policy: &'a OpenPolicy,
    id: [u8; 16],
    guard: Arc<ForkGuard>,
    images: BTreeMap<u64, Image>,
    /// What went wrong first: the journal's reader takes no errors.
    failed: Option<StoreError>,
}

/// Makes the rings of a durable store from its journal. The caller has its lock.
pub(super) fn rebuild(place: &Place, policy: &OpenPolicy) -> Result<(), StoreError> {
    let dir = empty_rings(place, policy)?;
    let queues = dir.create_sub(QUEUES, policy.dir_mode())?;
    let guard = Arc::new(ForkGuard::new().map_err(io_error("guarding against fork", dir.path()))?);
    let mut rebuild =
        Rebuild { queues: &queues, policy, id: place.id, guard, images: BTreeMap::new(), failed: None };
    let files = || Ok::<_, StoreError>(Files::new(Dir::open(place.dir.path())?, policy.clone()));
    let tail = match journal::read(&files()?, Some(place.id), &mut |entry| rebuild.take(&entry)) {
        Ok(summary) => {
            // What was read may be in the page cache only, and is relied on from here on.
            let mut writer = Writer::resume(files()?, super::log_options(&place.options), place.id)?;
            writer.begin(summary.tail);
            writer.commit(Durability::Synced)?
        }
        Err(JournalError::NotThere { .. }) => {
            let options = super::log_options(&place.options);
            Writer::create(files()?, options, place.id)?.1
        }
        Err(error) => return Err(error.into()),
    };
    rebuild.finish()?;
    make_control(place, policy, tail)
}

/// An empty directory for the rings. What is there is no store of this boot, and is removed.
fn empty_rings(place: &Place, policy: &OpenPolicy) -> Result<Dir, StoreError> {
    let default = crate::Store::default_path("any");
    if let Some(parent) = place.rings.parent() {
        if Some(parent) == default.parent() {
            Dir::create_private(parent)?;
        } else {
            // Like the rings themselves it may have gone with the reboot.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(io_error("creating", parent))?;
        }
    }
    let dir = Dir::create(&place.rings, policy.dir_mode())?;
    dir.check_safe(policy)?;
    let removing = || io_error("removing old rings in", &place.rings);
    sweep_temporaries(&dir).map_err(removing())?;
    match dir.unlink(CONTROL) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(removing()(error)),
        _ => {}
    }
    match dir.sub(QUEUES) {
        Ok(queues) => {
            for name in queues.list().map_err(removing())? {
                check_is_ours(&queues, &name)?;
                queues.unlink(&name).map_err(removing())?;
            }
        }
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(dir)
}

/// Refuses to remove what is no queue's file: the place of the rings may have been chosen by mistake.
fn check_is_ours(queues: &Dir, name: &str) -> Result<(), StoreError> {
    let path = queues.path().join(name);
    let file = open_raw(queues, name, false).map_err(io_error("opening", &path))?;
    let mut magic = [0; 8];
    // One that is too short, or no file, has another one.
    let _ = file.read_exact_at(&mut magic, 0);
    if magic == QUEUE_MAGIC {
        return Ok(());
    }
    let what = "it is in the way of the store's rings and is no queue: choose another place for them, or move it away";
    Err(StoreError::Unsafe { path, what: what.to_owned() })
}

fn make_control(place: &Place, policy: &OpenPolicy, tail: Tail) -> Result<(), StoreError> {
    let path = place.dir.path();
    StoreCore::create_durable(&place.rings, policy, place.id, |table| {
        let words = table.journal();
        super::shared::write_settings(words, &place.options);
        super::shared::tell_tail(words, tail);
        words.low.store(0, std::sync::atomic::Ordering::Relaxed);
        super::shared::write_path(table.durable_path(), path)
    })
}

impl Rebuild<'_> {
    fn take(&mut self, entry: &Entry<'_>) {
        if self.failed.is_none() {
            self.failed = self.try_take(entry).err();
        }
    }

    fn try_take(&mut self, entry: &Entry<'_>) -> Result<(), StoreError> {
        match entry.kind {
            kind::ROSTER => {
                let ids: Vec<u64> = entry
                    .body
                    .chunks_exact(8)
                    .map(|id| u64::from_le_bytes(id.try_into().unwrap_or_default()))
                    .collect();
                let gone: Vec<u64> = self.images.keys().copied().filter(|id| !ids.contains(id)).collect();
                for id in gone {
                    if let Some(image) = self.images.remove(&id) {
                        let path = self.queues.path().join(image.name());
                        self.queues.unlink(image.name()).map_err(io_error("removing", &path))?;
                    }
                }
            }
            kind::QUEUE => {
                let described: QueueEntry = serde_json::from_slice(entry.body)
                    .map_err(|error| unreadable(entry, &error.to_string()))?;
                if !self.images.contains_key(&entry.queue) {
                    let image = Image::new(
                        self.queues,
                        self.policy,
                        (self.id, entry.queue),
                        &described,
                        self.guard.clone(),
                    )?;
                    self.images.insert(entry.queue, image);
                }
                if let Some(image) = self.images.get_mut(&entry.queue) {
                    image.describe(&described, entry.position);
                }
            }
            kind::MESSAGE => {
                let headers = entry.aux as usize;
                if headers > entry.body.len() {
                    return Err(unreadable(entry, "more headers than bytes"));
                }
                if let Some(image) = self.images.get_mut(&entry.queue) {
                    image.message(entry.position, entry.segment, entry.body.split_at(headers))?;
                }
            }
            kind::SETTLED => {
                if let Some(image) = self.images.get_mut(&entry.queue) {
                    image.settled(entry.aux as u8, entry.position);
                }
            }
            kind::STATE => {
                if let Some(image) = self.images.get_mut(&entry.queue) {
                    image.state(entry.position, StateEntry::decode(entry.aux), entry.body);
                }
            }
            other => return Err(unreadable(entry, &format!("a record of kind {other}"))),
        }
        Ok(())
    }

    fn finish(self) -> Result<(), StoreError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.images.into_values().try_for_each(Image::finish)
    }
}

/// A record whose checksum is right and whose content is not: another build wrote it.
fn unreadable(entry: &Entry<'_>, found: &str) -> StoreError {
    StoreError::Damaged {
        path: format!("{:016x}.log", entry.segment).into(),
        what: "a record",
        found: format!("{found}, at LSN {}", entry.lsn),
        expected: "one that this build knows".to_owned(),
    }
}

//! An open store, as all handles of this process share it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::table::Table;
use super::token::{FileId, Probe, Token};
use crate::StoreError;
use crate::durable::JournalSlot;
use crate::layout::control::FILE_LEN;
use crate::layout::header::{CONTROL_MAGIC, DURABLE, Header};
use crate::layout::{CONTROL, FORMAT_VERSION, PAGE, PARTICIPANTS, QUEUES};
use crate::queue::core::QueueCore;
use crate::ring::Owner;
use crate::sys::clock;
use crate::sys::files::{Created, Dir, OpenPolicy, create_file, file_system_check, io_error, open_file};
use crate::sys::fork::ForkGuard;
use crate::sys::mapping::Mapping;
use crate::sys::membarrier;

/// An open store.
#[derive(Debug)]
pub(crate) struct StoreCore {
    pub(crate) dir: Dir,
    pub(crate) queues: Dir,
    pub(crate) policy: OpenPolicy,
    pub(crate) trusted: bool,
    pub(crate) guard: Arc<ForkGuard>,
    pub(crate) table: Arc<Table>,
    pub(crate) probe: Probe,
    pub(crate) id: [u8; 16],
    /// This process's index.
    pub(crate) me: Owner,
    /// Attachments of this process that are not given back yet.
    pub(crate) attached: AtomicUsize,
    /// The queues that are mapped here.
    open: Mutex<Vec<Weak<QueueCore>>>,
    /// This process's part in the journal, while it has one.
    pub(crate) journal: JournalSlot,
    /// Shows the others that this process lives. Given up last.
    _token: Token,
}

impl StoreCore {
    /// Opens the store at `path` and takes part in it.
    pub(crate) fn open(path: &Path, policy: OpenPolicy, trusted: bool) -> Result<Arc<StoreCore>, StoreError> {
        let missing = || StoreError::NoSuchStore { path: path.to_path_buf() };
        let dir = Dir::open(path).map_err(|error| if is_missing(&error) { missing() } else { error })?;
        file_system_check(&dir)?;
        dir.check_safe(&policy)?;
        let file = open_file(&dir, CONTROL, &policy, true)
            .map_err(|error| if is_missing(&error) { missing() } else { error })?;
        let control = path.join(CONTROL);
        let header = read_header(&file, CONTROL_MAGIC, &control)?;
        if header.file_len != FILE_LEN {
            return Err(StoreError::Damaged {
                path: control,
                what: "the control file's length",
                found: header.file_len.to_string(),
                expected: FILE_LEN.to_string(),
            });
        }
        if header.boot_id != clock::boot_id().map_err(io_error("reading the boot id for", path))? {
            return Err(StoreError::EarlierBoot { path: path.to_path_buf() });
        }
        // Who removes a store, and dies, may have removed just the directory.
        let queues = dir.create_sub(QUEUES, policy.dir_mode())?;
        queues.check_safe(&policy)?;
        // Publishers run no fence for sleepers that can be reached by membarrier; so each process registers
        // before it publishes.
        membarrier::register();
        let guard = Arc::new(ForkGuard::new().map_err(io_error("guarding against fork", path))?);
        let mapping =
            Mapping::map(&file, FILE_LEN as usize, guard.clone()).map_err(io_error("mapping", &control))?;
        let table = Arc::new(Table::new(mapping));
        let probe = Probe::open(&dir, CONTROL)?;
        let (me, token) = join(&dir, &queues, &policy, &table, &probe, &guard)?;
        // Locks are taken by the file's name: they say nothing about the file that is mapped here if that was
        // replaced meanwhile.
        let mapped = FileId::of(&file).map_err(io_error("looking at", &control))?;
        if token.file_id() != mapped || probe.file_id().map_err(io_error("looking at", &control))? != mapped {
            return Err(missing());
        }
        Ok(Arc::new(StoreCore {
            dir,
            queues,
            policy,
            trusted,
            guard,
            table,
            probe,
            id: header.file_id,
            me,
            attached: AtomicUsize::new(0),
            open: Mutex::new(Vec::new()),
            journal: JournalSlot::default(),
            _token: token,
        }))
    }

    /// Makes a volatile store at `path`. `false`: there is one.
    pub(crate) fn create(path: &Path, policy: &OpenPolicy) -> Result<bool, StoreError> {
        Self::create_with(path, policy, (random_id()?, 0), |_| Ok(()))
    }

    /// Makes the rings' directory of the durable store `id` a store. `fill` writes the journal's words.
    pub(crate) fn create_durable(
        path: &Path,
        policy: &OpenPolicy,
        id: [u8; 16],
        fill: impl FnOnce(&Table) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        Self::create_with(path, policy, (id, DURABLE), fill).map(|_| ())
    }

    fn create_with(
        path: &Path,
        policy: &OpenPolicy,
        (id, features): ([u8; 16], u64),
        fill: impl FnOnce(&Table) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let mode = policy.dir_mode();
        let default = crate::Store::default_path("any");
        if let Some(parent) = path.parent().filter(|parent| Some(*parent) == default.parent()) {
            Dir::create_private(parent)?;
        }
        let dir = Dir::create(path, mode)?;
        file_system_check(&dir)?;
        dir.create_sub(QUEUES, mode)?;
        let header = Header {
            magic: CONTROL_MAGIC,
            version: FORMAT_VERSION,
            incompatible: features,
            file_len: FILE_LEN,
            store_id: id,
            file_id: id,
            boot_id: clock::boot_id().map_err(io_error("reading the boot id for", path))?,
            created_ms: clock::wall_ms(),
            capacity: 0,
            slot_size: 0,
            max_message: 0,
            max_groups: 0,
        };
        let page = header.encode();
        let guard = Arc::new(ForkGuard::new().map_err(io_error("guarding against fork", path))?);
        let mut filled = Ok(());
        let made = create_file(&dir, CONTROL, FILE_LEN, FILE_LEN, policy, |file| {
            filled = fill(&Table::new(Mapping::map(file, FILE_LEN as usize, guard)?));
            file.write_all_at(&page, 0)
        })?;
        filled.map(|()| matches!(made, Created::Made(_)))
    }

    /// Whether these handles were inherited through `fork`. One load.
    #[inline(always)]
    pub(crate) fn forked(&self) -> bool {
        self.guard.forked()
    }

    /// As `forked`, as an error.
    pub(crate) fn check_forked(&self) -> Result<(), StoreError> {
        if self.forked() { Err(StoreError::Forked) } else { Ok(()) }
    }

    /// The queue `name`, mapped; the same mapping for all handles of the process.
    pub(crate) fn queue(self: &Arc<Self>, name: &str) -> Result<Arc<QueueCore>, StoreError> {
        self.check_forked()?;
        let mut open = self.open_queues();
        open.retain(|queue| queue.strong_count() > 0);
        let known =
            open.iter().filter_map(Weak::upgrade).find(|queue| queue.name == name && !queue.is_gone());
        if let Some(queue) = known {
            return Ok(queue);
        }
        let queue = Arc::new(QueueCore::open(self, name)?);
        if queue.is_gone() {
            // Its remover is about to take its name away, or died before it did.
            queue.unlink_removed(self)?;
            return Err(StoreError::NoSuchQueue {
                queue: name.to_owned(),
                store: self.dir.path().to_path_buf(),
            });
        }
        open.push(Arc::downgrade(&queue));
        Ok(queue)
    }

    fn open_queues(&self) -> MutexGuard<'_, Vec<Weak<QueueCore>>> {
        // The list is whole whatever happened to a thread that held it: each change is one call.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the queues, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, StoreError> {
        let list = self.queues.list().map_err(io_error("listing", self.queues.path()))?;
        let mut names: Vec<String> = list.into_iter().filter(|name| !name.starts_with('.')).collect();
        names.sort();
        Ok(names)
    }

    /// How a participant is called in messages for people.
    pub(crate) fn describe(&self, owner: Owner) -> String {
        let who = self.table.who(owner);
        format!("process {} ({})", who.pid, who.command)
    }
}

impl Drop for StoreCore {
    fn drop(&mut self) {
        // In a child the words are not there; and they are the parent's.
        if self.forked() {
            return;
        }
        // With attachments left over (a leaked handle) the entry stays taken, and is recovered like that of a
        // dead process.
        if self.attached.load(Ordering::Acquire) == 0 {
            self.table.free(self.me, self.table.state(self.me));
        }
    }
}

/// Takes a free participant's entry, after recovering dead ones if there is none.
fn join(
    dir: &Dir,
    queues: &Dir,
    policy: &OpenPolicy,
    table: &Table,
    probe: &Probe,
    guard: &Arc<ForkGuard>,
) -> Result<(Owner, Token), StoreError> {
    for round in 0..2 {
        for index in 1..PARTICIPANTS as u16 {
            let owner = Owner::new(index);
            if table.state(owner).is_taken() {
                if round == 0
                    || !probe.is_dead(index).map_err(io_error("probing participants of", dir.path()))?
                {
                    continue;
                }
                let scene = super::recovery::Scene { dir, queues, policy, table, guard };
                scene.recover(owner, &mut |_| None)?;
            }
            let Some(token) = Token::take(dir, CONTROL, index)? else { continue };
            // Somebody may have taken it and died since; then it is recovered first, by whoever comes.
            if table.state(owner).is_taken() {
                continue;
            }
            table.publish(owner);
            return Ok((owner, token));
        }
    }
    Err(StoreError::Exhausted {
        what: "participant",
        limit: PARTICIPANTS - 1,
        hint: ": let some processes end, or use another store",
    })
}

/// Reads and checks the header of an open file.
pub(crate) fn read_header(file: &File, magic: [u8; 8], path: &Path) -> Result<Header, StoreError> {
    let len = file.metadata().map_err(io_error("looking at", path))?.size();
    let mut page = Vec::with_capacity(PAGE as usize);
    let mut start = file.take(PAGE);
    start.read_to_end(&mut page).map_err(io_error("reading", path))?;
    Header::decode(&page, magic, len, path)
}

/// Sixteen bytes from the kernel's random numbers.
pub(crate) fn random_id() -> Result<[u8; 16], StoreError> {
    let mut id = [0; 16];
    let path = Path::new("/dev/urandom");
    File::open(path).and_then(|mut file| file.read_exact(&mut id)).map_err(io_error("reading", path))?;
    Ok(id)
}

/// Whether an error says that a file is not there.
pub(crate) fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

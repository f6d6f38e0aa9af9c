//! The processes that are killed: a process does its job until it is told to leave, its log is nearly
//! full, or it is no more.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use ringway::{Queue, Store, StoreError};

use crate::clock::Rng;
use crate::job::{Job, Role};
use crate::log::{Command, Log, Stage};
use crate::{consuming, producing, redelivery, stopped, warden};

/// What every role works with.
pub(crate) struct Worker {
    pub(crate) job: Job,
    pub(crate) queue: Queue,
    pub(crate) log: Log,
    pub(crate) rng: Rng,
}

/// Does the job in this process, and says how to exit. What went wrong is left next to the log.
pub(crate) fn run(job: Job) -> i32 {
    // Nobody outlives the harness.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let complaint = complaint_of(&job.log);
    let place = complaint.clone();
    panic::set_hook(Box::new(move |panic| {
        let _ = fs::write(&place, format!("panicked: {panic}"));
    }));
    match panic::catch_unwind(|| work(job)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            let _ = fs::write(complaint, format!("gave up: {error}"));
            1
        }
        Err(_) => 101,
    }
}

/// Where a worker says why it ended.
pub(crate) fn complaint_of(log: &Path) -> PathBuf {
    log.with_extension("complaint")
}

fn work(job: Job) -> Result<(), String> {
    let log = Log::open(&job.log).map_err(|error| format!("opening its log: {error}"))?;
    log.reach(Stage::Attaching);
    let (store, queue) = attach(&job)?;
    let rng = Rng::new(job.seed);
    let role = job.role.clone();
    let worker = Worker { job, queue, log, rng };
    let done = match role {
        Role::Producer(role) => producing::run(worker, &role),
        Role::Consumer(role) => consuming::run(worker, &role),
        Role::Warden { group } => warden::run(worker, &group),
        Role::Holder => redelivery::hold(worker),
        Role::Heir => redelivery::inherit(worker),
        Role::Sprinter { bytes } => stopped::sprint(worker, bytes),
        Role::Eater => stopped::eat(worker),
        Role::Keeper => stopped::keep(worker),
    };
    drop(store);
    done
}

/// Opens the store and the queue.
pub(crate) fn attach(job: &Job) -> Result<(Store, Queue), String> {
    let mut options = Store::options();
    if job.trust {
        // SAFETY: only workers of this harness write to the store, through the library.
        options = unsafe { options.trust_peers() };
    }
    let store = options.open(&job.store).map_err(|error| format!("opening the store: {error}"))?;
    let queue = store.queue(&job.queue).map_err(|error| format!("opening the queue: {error}"))?;
    Ok((store, queue))
}

/// A handle, waiting as long as somebody else has the role; `None` when told to leave meanwhile.
pub(crate) fn take<T>(log: &Log, build: impl Fn() -> Result<T, StoreError>) -> Result<Option<T>, String> {
    loop {
        match build() {
            Ok(handle) => {
                log.reach(Stage::Working);
                return Ok(Some(handle));
            }
            Err(StoreError::RoleTaken { .. }) if log.command() == Command::Leave => return Ok(None),
            Err(StoreError::RoleTaken { .. }) => thread::sleep(Duration::from_micros(300)),
            Err(error) => return Err(format!("making its handle: {error}")),
        }
    }
}

impl Worker {
    /// Whether it is time to leave.
    pub(crate) fn done(&self) -> bool {
        self.log.command() == Command::Leave || self.log.nearly_full()
    }

    /// Does nothing as long as it is told to; what it is told then.
    pub(crate) fn rest(&self) -> Command {
        while self.log.command() == Command::Idle {
            self.log.reach(Stage::Idle);
            thread::sleep(Duration::from_micros(200));
        }
        self.log.reach(Stage::Working);
        self.log.command()
    }
}

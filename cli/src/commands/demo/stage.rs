//! Where the demo takes place: a directory, a store and a queue, and the processes, all gone at the end.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use ringway::{Queue, Removal, Store, StoreError};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use super::part::{ORDERS, log_path};
use crate::commands::create::open_or_create;
use crate::exit::{Code, Failure, note};

/// Memory, where there is some to be had as files.
const MEMORY: &str = "/dev/shm";

/// Short, so that nobody waits for a segment to be filled with zeros.
const SEGMENT: u64 = 1 << 20;
const LONGEST_ORDER: u32 = 256 << 10;

/// Where something on a disk can be for a while.
const DISK: &str = "/var/tmp";

/// The demo's directory, and its queue in the store that was chosen, or in one of its own.
#[derive(Debug)]
pub(super) struct Stage {
    /// In memory: orders, evidence, and the store if it is volatile.
    dir: TempDir,
    /// On a disk, for a durable store that was given no place.
    _disk: Option<TempDir>,
    store_path: PathBuf,
    /// Whether the store is to be removed with the queue.
    store_created: bool,
    /// Where the rings of a durable store are, which only this demo uses.
    rings: Option<PathBuf>,
    queue: String,
}

impl Stage {
    pub(super) fn set(chosen: Option<&Path>, orders: &[String]) -> Result<Stage, Failure> {
        let dir = temporary(MEMORY)?;
        let store_path = chosen.map_or_else(|| dir.path().join("store"), Path::to_path_buf);
        let (store, store_created) = open_or_create(&store_path)?;
        // From here on it takes itself down.
        let stage = Stage { dir, _disk: None, store_path, store_created, rings: None, queue: queue_name() };
        stage.furnish(store, orders)?;
        Ok(stage)
    }

    /// The same with a durable store, in this directory or a temporary one.
    pub(super) fn set_durable(place: Option<&Path>, orders: &[String]) -> Result<Stage, Failure> {
        let dir = temporary(MEMORY)?;
        let (disk, store_path) = match place {
            Some(place) if place.exists() => {
                let text = format!("{} is there already: name a place for a new store", place.display());
                return Err(Failure::new(Code::Usage, text));
            }
            Some(place) => (None, place.to_path_buf()),
            None => {
                let disk = temporary(DISK)?;
                let path = disk.path().join("store");
                (Some(disk), path)
            }
        };
        let rings = dir.path().join("rings");
        let options =
            Store::options().durable(&store_path).durable_options(|options| options.segment_len = SEGMENT);
        let store = options.create(&rings)?;
        let queue = queue_name();
        let stage = Stage { dir, _disk: disk, store_path, store_created: true, rings: Some(rings), queue };
        stage.furnish(store, orders)?;
        Ok(stage)
    }

    /// Makes what the parts need. The store is open no longer than that.
    fn furnish(&self, store: Store, orders: &[String]) -> Result<(), Failure> {
        let options = Queue::options();
        // The longest message has to fit a segment.
        let options = if self.rings.is_some() { options.max_message(LONGEST_ORDER) } else { options };
        options.create(&store, &self.queue)?;
        self.write_orders(orders.iter().map(String::as_str))
    }

    /// What the next order service is to place.
    pub(super) fn write_orders<'o>(&self, orders: impl Iterator<Item = &'o str>) -> Result<(), Failure> {
        let text = orders.collect::<Vec<_>>().join("\n");
        std::fs::write(self.dir().join(ORDERS), text).map_err(|e| Failure::io("writing orders", &e))
    }

    /// The durable store's directory.
    pub(super) fn store_path(&self) -> &Path {
        &self.store_path
    }

    /// What a power cut does to memory. Nobody has the store open.
    pub(super) fn take_rings_away(&self) -> Result<(), Failure> {
        let Some(rings) = &self.rings else { return Ok(()) };
        std::fs::remove_dir_all(rings).map_err(|e| Failure::io("taking the rings away", &e))
    }

    /// Opens the store as it is now.
    pub(super) fn open(&self) -> Result<Queue, Failure> {
        Ok(Store::open(&self.store_path)?.queue(&self.queue)?)
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a part, with an empty log.
    pub(super) fn start(&self, part: &str, number: usize, cook: Duration) -> Result<Player, Failure> {
        let failed = |e: std::io::Error| Failure::io("starting a process of the demo", &e);
        File::create_new(log_path(self.dir(), number)).map_err(failed)?;
        let child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg(part)
            .arg("--store")
            .arg(&self.store_path)
            .args(["--queue", &self.queue, "--number", &number.to_string()])
            .arg("--dir")
            .arg(self.dir())
            .args(["--cook", &format!("{}us", cook.as_micros())])
            .args(self.rings.iter().map(|_| "--confirm"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // An interrupt from the terminal is for the director, who ends the others.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Player {
            name: if part == "demo-service" {
                "the order service".into()
            } else {
                format!("worker {number}")
            },
            child,
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let removed = if self.store_created {
            Store::remove(&self.store_path)
        } else {
            Store::open(&self.store_path).and_then(|store| store.remove_queue(&self.queue, Removal::IfUnused))
        };
        match removed {
            // It was not made, or somebody has cleared up already.
            Ok(()) | Err(StoreError::NoSuchQueue { .. } | StoreError::NoSuchStore { .. }) => {}
            Err(error) => note(&format!("the demo's queue {} is left over: {error}", self.queue)),
        }
    }
}

/// A directory in there, or where such directories are otherwise.
fn temporary(parent: &str) -> Result<TempDir, Failure> {
    let parent = if Path::new(parent).is_dir() { PathBuf::from(parent) } else { std::env::temp_dir() };
    let mut builder = tempfile::Builder::new();
    let made = builder.prefix(&format!("ringway-demo-{}-", std::process::id())).tempdir_in(&parent);
    made.map_err(|e| Failure::io(&format!("preparing the demo in {}", parent.display()), &e))
}

fn queue_name() -> String {
    format!("demo-{}", std::process::id())
}

/// A process of the demo. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) name: String,
    child: Child,
}

impl Player {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a line.
    pub(super) fn tell(&mut self, line: &str) -> Result<(), Failure> {
        let Some(stdin) = &mut self.child.stdin else { return Ok(()) };
        let sent = stdin.write_all(format!("{line}\n").as_bytes());
        sent.map_err(|e| Failure::io(&format!("leading {}", self.name), &e))
    }

    /// Kills it outright, and does not wait for it to be gone.
    pub(super) fn strike(&self) -> Result<(), Failure> {
        self.signal(Signal::KILL)
    }

    /// Kills it outright, and waits for it to be gone.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|e| Failure::io(&format!("killing {}", self.name), &e))
    }

    /// Stops it, and waits for it to stand still.
    pub(super) fn pause(&mut self) -> Result<(), Failure> {
        self.signal(Signal::STOP)?;
        let pid = Pid::from_child(&self.child);
        let status = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::UNTRACED));
        match status.map_err(|e| Failure::io(&format!("pausing {}", self.name), &e.into()))? {
            Some((_, status)) if status.stopped() => Ok(()),
            _ => Err(Failure::new(Code::Failed, format!("{} ended while it was to be paused", self.name))),
        }
    }

    /// Lets it go on.
    pub(super) fn resume(&mut self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|e| Failure::io(&format!("signalling {}", self.name), &e.into()))
    }

    /// Whether it has ended, and how.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(|e| Failure::io(&format!("waiting for {}", self.name), &e))
    }

    /// Tells it that there is nothing more to come, and waits for its end.
    pub(super) fn dismiss(mut self) -> Result<(), Failure> {
        // This closes its stdin first.
        let status = self.child.wait().map_err(|e| Failure::io(&format!("waiting for {}", self.name), &e))?;
        if status.success() { Ok(()) } else { Err(failed(&self.name, status)) }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that ended other than it should.
pub(super) fn failed(name: &str, status: ExitStatus) -> Failure {
    Failure::new(Code::Failed, format!("{name} ended early ({status})"))
}

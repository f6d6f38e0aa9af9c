//! Where the demo takes place: a directory, a store and a queue, and the processes, all gone at the end.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use ringway::{Queue, Removal, Store};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use super::part::{ORDERS, log_path};
use crate::commands::create::open_or_create;
use crate::exit::{Code, Failure, note};

/// Memory, where there is some to be had as files.
const MEMORY: &str = "/dev/shm";

/// The demo's directory, and its queue in the store that was chosen, or in one of its own in there.
#[derive(Debug)]
pub(super) struct Stage {
    dir: TempDir,
    /// `None` only while it is taken down.
    store: Option<Store>,
    store_path: PathBuf,
    /// Whether the store is to be removed with the queue.
    store_created: bool,
    queue: String,
}

impl Stage {
    pub(super) fn set(chosen: Option<&Path>, orders: &[String]) -> Result<Stage, Failure> {
        let memory = Path::new(MEMORY);
        let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let failed =
            |e: std::io::Error| Failure::io(&format!("preparing the demo in {}", parent.display()), &e);
        let dir = tempfile::Builder::new()
            .prefix(&format!("ringway-demo-{}-", std::process::id()))
            .tempdir_in(&parent)
            .map_err(failed)?;
        let mut file = File::create(dir.path().join(ORDERS)).map_err(failed)?;
        file.write_all(orders.join("\n").as_bytes()).map_err(failed)?;
        let store_path = chosen.map_or_else(|| dir.path().join("store"), Path::to_path_buf);
        let (store, store_created) = open_or_create(&store_path)?;
        let queue = format!("demo-{}", std::process::id());
        // From here on it takes itself down.
        let stage = Stage { dir, store: Some(store), store_path, store_created, queue };
        if let Some(store) = &stage.store {
            Queue::options().create(store, &stage.queue)?;
        }
        Ok(stage)
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
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // An interrupt from the terminal is for the director, who ends the others.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Player {
            name: if number == 0 { "the order service".into() } else { format!("worker {number}") },
            child,
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let Some(store) = self.store.take() else { return };
        let removed = if self.store_created {
            drop(store);
            Store::remove(&self.store_path)
        } else {
            match store.remove_queue(&self.queue, Removal::IfUnused) {
                // It was not made, or somebody has cleared up already.
                Err(ringway::StoreError::NoSuchQueue { .. }) => Ok(()),
                other => other,
            }
        };
        if let Err(error) = removed {
            note(&format!("the demo's queue {} is left over: {error}", self.queue));
        }
    }
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

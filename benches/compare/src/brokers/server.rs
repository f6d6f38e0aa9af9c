//! A broker's server: found, started, waited for until it answers, and ended with the harness.
//!
//! Servers come from the distribution's packages and are started with a data directory of their own, on a
//! Unix socket or a free port of the loopback interface; nothing of an installed service is touched. They die
//! with the harness in any case: it kills them when they are dropped, and the kernel does
//! (`PR_SET_PDEATHSIG`) if it is killed itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::interrupt;
use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// How long a server may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(90);

/// How long the last writer to a server's directory may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(2);

/// A pause between two looks at something that another process does.
const LOOK: Duration = Duration::from_millis(10);

/// Where packages put servers, beyond `PATH`.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin"];

/// The path of a program, from `PATH` or where packages put servers.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let listed = std::env::split_paths(&path).collect::<Vec<_>>();
    let places = listed.into_iter().chain(PLACES.iter().map(PathBuf::from));
    places.map(|place| place.join(program)).find(|path| path.is_file())
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Whether data there must survive the machine, or only the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Volatile,
    Durable,
}

impl Durability {
    /// A fresh directory: in memory, or on a disk.
    ///
    /// # Errors
    ///
    /// If durable data would be put on a file system in memory.
    pub fn directory(self) -> Result<TempDir> {
        let place = match self {
            Durability::Volatile => PathBuf::from("/dev/shm"),
            Durability::Durable => {
                std::env::var_os("RINGWAY_COMPARE_DISK").map_or_else(|| "/var/tmp".into(), PathBuf::from)
            }
        };
        if self == Durability::Durable {
            let kind = nix::sys::statfs::statfs(&place)
                .with_context(|| format!("cannot use {} for durable data", place.display()))?
                .filesystem_type();
            ensure!(
                kind != nix::sys::statfs::TMPFS_MAGIC,
                "{} is in memory: set RINGWAY_COMPARE_DISK to a directory on a disk",
                place.display()
            );
        }
        let builder = tempfile::Builder::new().prefix("ringway-compare-").tempdir_in(&place);
        builder.with_context(|| format!("cannot make a directory in {}", place.display()))
    }
}

/// A running server, or several that belong together.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    processes: Vec<Child>,
    directory: TempDir,
}

impl Server {
    /// No process yet, only a directory.
    pub fn new(name: &'static str, durability: Durability) -> Result<Server> {
        Ok(Server { name, processes: Vec::new(), directory: durability.directory()? })
    }

    /// Its data directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file or directory in its data directory, as text.
    pub fn text_path(&self, name: &str) -> Result<String> {
        let path = self.path().join(name);
        path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
    }

    /// Starts a process with these arguments. What it prints goes to a file that is shown if it fails.
    pub fn start<A: AsRef<OsStr>>(
        &mut self,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        environment: &[(&str, String)],
    ) -> Result<()> {
        let log = File::create(self.path().join("log")).context("cannot write the server's log")?;
        let mut command = Command::new(program);
        command.args(args).envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C at the terminal is for the harness, which ends its servers in order.
        command.process_group(0);
        // SAFETY: between fork and exec only these two system calls are made, and they allocate nothing.
        unsafe { command.pre_exec(bind_to_parent) };
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        self.processes.push(child);
        Ok(())
    }

    /// Waits until `answers` says so; an error of it means not yet.
    pub fn wait_until(&mut self, mut answers: impl FnMut() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        loop {
            let Err(error) = answers() else { return Ok(()) };
            for process in &mut self.processes {
                if let Some(status) = process.try_wait()? {
                    bail!("{} ended while it started ({status}): {}", self.name, self.log());
                }
            }
            interrupt::check()?;
            if start.elapsed() > START_LIMIT {
                bail!("{} did not answer within {START_LIMIT:?} ({error}): {}", self.name, self.log());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The end of what the server printed.
    fn log(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(self.path().join("log")).and_then(|mut log| log.read_to_end(&mut text));
        if read.is_err() || text.is_empty() {
            return "it printed nothing".to_owned();
        }
        String::from_utf8_lossy(&text[text.len().saturating_sub(600)..]).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody needs its data any more, so it need not put them in order. The last one started goes first.
        for process in self.processes.iter_mut().rev() {
            // Each leads a group: a script may have others at work.
            let group = nix::unistd::Pid::from_raw(process.id() as i32);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = process.wait();
        }
        // The others of a group may take a moment to go, and write until then.
        let start = Instant::now();
        while std::fs::remove_dir_all(self.path()).is_err() && start.elapsed() < GONE_LIMIT {
            std::thread::sleep(LOOK);
        }
    }
}

/// In the child: dies with its parent, and runs on all processors, whatever the harness is pinned to.
fn bind_to_parent() -> std::io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let mut all = nix::sched::CpuSet::new();
    for processor in 0..nix::sched::CpuSet::count() {
        all.set(processor)?;
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &all)?;
    Ok(())
}

//! The processes of a scenario, seen from the harness: started, stopped, killed, replaced at once.
//!
//! Most workers are forked from the harness, which starts them in a fraction of a millisecond; some
//! are started as a new program, so that not all of them have the same memory map. The harness has
//! no store open when it forks.

use std::env;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::clock::{Rng, now};
use crate::history::{End, Nanos, Process};
use crate::job::{Job, Role};
use crate::log::{Command, Log};
use crate::worker;

/// The argument that makes this program a worker.
pub(crate) const WORKER: &str = "--torture-worker";

/// One process.
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    pub(crate) pid: Pid,
    pub(crate) log: Log,
    log_path: PathBuf,
    group: usize,
    pauses: Vec<(Nanos, Nanos)>,
    stopped: Option<Nanos>,
    end: Option<End>,
}

/// What each place in the fleet is for.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) role: Role,
    /// The number of the role's group.
    pub(crate) group: usize,
}

/// A process in every place.
#[derive(Debug)]
pub(crate) struct Fleet {
    store: PathBuf,
    queue: String,
    logs: PathBuf,
    trust: bool,
    places: Vec<Place>,
    live: Vec<Option<Worker>>,
    gone: Vec<Worker>,
    rng: Rng,
    /// How many in a thousand are started as a new program.
    exec_permille: u64,
    pub(crate) kills: u64,
    pub(crate) pauses: u64,
}

/// A process that was killed and is not known to be gone.
struct Struck {
    gone: usize,
    sent: Nanos,
}

/// Where the fleet's store is and how it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) store: PathBuf,
    pub(crate) queue: String,
    pub(crate) logs: PathBuf,
    pub(crate) trust: bool,
}

impl Fleet {
    /// No process yet.
    pub(crate) fn new(home: Home, places: Vec<Place>, rng: Rng) -> Fleet {
        let Home { store, queue, logs, trust } = home;
        let live = places.iter().map(|_| None).collect();
        let (gone, exec_permille, kills, pauses) = (Vec::new(), 120, 0, 0);
        Fleet { store, queue, logs, trust, places, live, gone, rng, exec_permille, kills, pauses }
    }

    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The process in a place, if there is one.
    pub(crate) fn at(&self, place: usize) -> Option<&Worker> {
        self.live[place].as_ref()
    }

    /// Every process that there is now.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Worker> {
        self.live.iter().flatten()
    }

    /// From now on every worker is a new program: the harness is about to open the store.
    pub(crate) fn stop_forking(&mut self) {
        self.exec_permille = 1000;
    }

    /// Puts a new process into a place.
    pub(crate) fn start(&mut self, place: usize) -> Result<(), String> {
        let number = (self.gone.len() + self.live().count() + 1) as u32;
        let log_path = self.logs.join(format!("{number:05}.log"));
        let say = |error: std::io::Error| format!("making {}: {error}", log_path.display());
        Log::create(&log_path).map_err(say)?;
        let log = Log::open(&log_path).map_err(say)?;
        let role = self.places[place].role.clone();
        let title = role.title();
        let job = Job {
            store: self.store.clone(),
            queue: self.queue.clone(),
            log: log_path.clone(),
            number,
            seed: self.rng.next(),
            trust: self.trust,
            role,
        };
        let pid = if self.rng.chance(self.exec_permille) { as_program(&job)? } else { as_fork(job)? };
        self.live[place] = Some(Worker {
            name: format!("{title} {number} (pid {pid})"),
            pid,
            log,
            log_path,
            group: self.places[place].group,
            pauses: Vec::new(),
            stopped: None,
            end: None,
        });
        Ok(())
    }

    /// Kills the processes in these places, puts new ones there at once, and then waits until the
    /// killed ones are gone.
    pub(crate) fn replace(&mut self, places: &[usize]) -> Result<(), String> {
        let mut dying = Vec::new();
        for &place in places {
            dying.extend(self.strike(place)?);
            self.start(place)?;
        }
        dying.into_iter().try_for_each(|struck| self.mourn(struck))
    }

    /// Kills the process in a place and waits until it is gone; when the kill was sent.
    pub(crate) fn kill(&mut self, place: usize) -> Result<Option<Nanos>, String> {
        let Some(struck) = self.strike(place)? else { return Ok(None) };
        let sent = struck.sent;
        self.mourn(struck)?;
        Ok(Some(sent))
    }

    fn strike(&mut self, place: usize) -> Result<Option<Struck>, String> {
        let Some(mut worker) = self.live[place].take() else { return Ok(None) };
        worker.resumed();
        let sent = now();
        signal(worker.pid, Signal::SIGKILL)?;
        self.gone.push(worker);
        Ok(Some(Struck { gone: self.gone.len() - 1, sent }))
    }

    fn mourn(&mut self, struck: Struck) -> Result<(), String> {
        let worker = &mut self.gone[struck.gone];
        let status = wait(worker.pid, WaitPidFlag::empty())?;
        worker.ended(status, Some(struck.sent));
        self.kills += u64::from(matches!(worker.end, Some(End::Killed { .. })));
        Ok(())
    }

    /// Stops the process in a place, unless it is stopped.
    pub(crate) fn pause(&mut self, place: usize) -> Result<(), String> {
        if let Some(worker) = self.live[place].as_mut().filter(|worker| worker.stopped.is_none()) {
            worker.stopped = Some(now());
            signal(worker.pid, Signal::SIGSTOP)?;
            self.pauses += 1;
        }
        Ok(())
    }

    /// Lets the process in a place go on, if it is stopped.
    pub(crate) fn resume(&mut self, place: usize) -> Result<(), String> {
        if let Some(worker) = self.live[place].as_mut().filter(|worker| worker.stopped.is_some()) {
            signal(worker.pid, Signal::SIGCONT)?;
            worker.resumed();
        }
        Ok(())
    }

    /// Tells the processes in some places something.
    pub(crate) fn order(&self, command: Command, whom: impl Fn(&Place) -> bool) {
        let pairs = self.places.iter().zip(&self.live);
        pairs
            .filter(|(place, _)| whom(place))
            .filter_map(|(_, worker)| worker.as_ref())
            .for_each(|worker| worker.log.order(command));
    }

    /// The places whose processes have left by themselves since the last look.
    pub(crate) fn reap(&mut self) -> Result<Vec<usize>, String> {
        let mut left = Vec::new();
        for place in 0..self.live.len() {
            let Some(worker) = &mut self.live[place] else { continue };
            let status = wait(worker.pid, WaitPidFlag::WNOHANG)?;
            if status != WaitStatus::StillAlive {
                worker.ended(status, None);
                left.push(place);
                self.gone.extend(self.live[place].take());
            }
        }
        Ok(left)
    }

    /// Deliveries and accepted messages so far.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let workers = || self.live().chain(&self.gone);
        let receives = workers().map(|worker| worker.log.receives()).sum();
        (receives, workers().map(|worker| worker.log.publishes()).sum())
    }

    /// How long each process has waited for a processor, altogether; where the kernel tells.
    pub(crate) fn waits(&self) -> Vec<(Pid, Nanos)> {
        let wait = |worker: &Worker| {
            // Time on a processor, time waiting for one, time slices.
            let stat = fs::read_to_string(format!("/proc/{}/schedstat", worker.pid)).unwrap_or_default();
            let wait = stat.split_whitespace().nth(1).and_then(|wait| wait.parse().ok());
            (worker.pid, wait.unwrap_or(0))
        };
        self.live().map(wait).collect()
    }

    /// Whether some process ended as none should.
    pub(crate) fn crashed(&self) -> bool {
        self.gone.iter().any(|worker| matches!(worker.end, Some(End::Failed(_))))
    }

    /// Kills whatever is left, and tells what every process did.
    pub(crate) fn history(mut self) -> Result<Vec<Process>, String> {
        for place in 0..self.live.len() {
            self.kill(place)?;
        }
        let told = self.gone.into_iter().map(|worker| Process {
            calls: worker.log.calls(),
            name: worker.name,
            group: worker.group,
            end: worker.end.unwrap_or_default(),
            pauses: worker.pauses,
        });
        Ok(told.collect())
    }

    /// What every process is doing, a line each, for finding out why nothing goes on.
    pub(crate) fn describe(&self) -> String {
        let lines = self.live().map(|worker| {
            let read =
                |what: &str| fs::read_to_string(format!("/proc/{}/{what}", worker.pid)).unwrap_or_default();
            let last = worker.log.calls().last().copied();
            format!(
                "  {}: {:?}, {:?}, process state {}, in {} {}, last call {last:?}",
                worker.name,
                worker.log.stage(),
                worker.log.command(),
                worker.state(),
                read("wchan").trim(),
                read("syscall").trim(),
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Worker {
    /// The kernel's letter for what it is doing: R, S, T, ...
    pub(crate) fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).unwrap_or('?')
    }

    fn resumed(&mut self) {
        if let Some(since) = self.stopped.take() {
            self.pauses.push((since, now()));
        }
    }

    /// Notes how it ended; `sent`: when it was killed.
    fn ended(&mut self, status: WaitStatus, sent: Option<Nanos>) {
        let gone = now();
        let complaint = || fs::read_to_string(worker::complaint_of(Path::new(&self.log_path)));
        self.end = Some(match (status, sent) {
            (WaitStatus::Exited(_, 0), _) => End::Left,
            (WaitStatus::Signaled(_, Signal::SIGKILL, _), Some(sent)) => End::Killed { sent, gone },
            (WaitStatus::Exited(_, code), _) => {
                End::Failed(complaint().unwrap_or_else(|_| format!("exited with code {code}")))
            }
            (status, _) => End::Failed(format!("ended with {status:?}")),
        });
    }
}

/// Lets the harness go before its workers while `work` runs, if the system allows: a kill should come
/// when it was meant to. The workers themselves are scheduled as ever.
pub(crate) fn with_precedence<T>(work: impl FnOnce() -> T) -> T {
    let schedule = |policy, priority| {
        let parameters = libc::sched_param { sched_priority: priority };
        // SAFETY: the parameters are valid for the call, which changes this thread's scheduling only.
        // Where it is not permitted nothing changes.
        unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &parameters) }
    };
    schedule(libc::SCHED_FIFO, 1);
    let done = work();
    schedule(libc::SCHED_OTHER, 0);
    done
}

fn signal(pid: Pid, signal: Signal) -> Result<(), String> {
    kill(pid, signal).map_err(|error| format!("sending {signal} to {pid}: {error}"))
}

fn wait(pid: Pid, flags: WaitPidFlag) -> Result<WaitStatus, String> {
    loop {
        match waitpid(pid, Some(flags)) {
            Err(Errno::EINTR) => {}
            result => return result.map_err(|error| format!("waiting for {pid}: {error}")),
        }
    }
}

/// Starts a worker as a new program.
fn as_program(job: &Job) -> Result<Pid, String> {
    let program = env::current_exe().map_err(|error| format!("looking for this program: {error}"))?;
    let job = serde_json::to_string(job).map_err(|error| format!("writing down a job: {error}"))?;
    let child = Program::new(program).arg(WORKER).arg(job).spawn();
    child.map(|child| Pid::from_raw(child.id() as i32)).map_err(|error| format!("starting a worker: {error}"))
}

/// Starts a worker as a copy of this process.
fn as_fork(job: Job) -> Result<Pid, String> {
    // SAFETY: this process has one thread, so the child finds no lock held by another.
    match unsafe { fork() }.map_err(|error| format!("forking: {error}"))? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = std::panic::catch_unwind(AssertUnwindSafe(|| worker::run(job))).unwrap_or(102);
            // SAFETY: ends the process without running what the harness has left to do at its exit.
            unsafe { libc::_exit(code) }
        }
    }
}

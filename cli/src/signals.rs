//! Being asked to stop: SIGINT and SIGTERM end a command after what it holds is settled.
//!
//! The first signal asks the loops to take nothing more. Commands started by `consume --exec` run in
//! process groups of their own, so that they are not interrupted by it; the second signal passes
//! SIGTERM on to them. With none running, or at the third, the signal does what it does by default.
//!
//! A command that forks must not have a second thread: it asks an [`Interrupt`] now and then instead.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Failure, note};

/// Whether this process was asked to stop, and which commands it would have to take along.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// The first signal; 0 for none. Read by loops that have nothing else to learn from it.
    signal: AtomicI32,
    running: Mutex<HashSet<Pid>>,
}

impl Stop {
    /// Starts to listen for SIGINT and SIGTERM.
    pub(crate) fn listen() -> Result<Arc<Stop>, Failure> {
        let stop = Arc::new(Stop::default());
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).map_err(|e| Failure::io("waiting for signals", &e))?;
        let listener = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("signals".to_string())
            .spawn(move || {
                for (earlier, signal) in signals.forever().enumerate() {
                    listener.take(earlier, signal);
                }
            })
            .map_err(|e| Failure::io("starting a thread", &e))?;
        Ok(stop)
    }

    fn take(&self, earlier: usize, signal: i32) {
        let running = self.running();
        if earlier == 0 {
            self.signal.store(signal, Ordering::Relaxed);
            if !running.is_empty() {
                note("waiting for the commands that run; once more ends them");
            }
            return;
        }
        if earlier > 1 || running.is_empty() {
            // Ends the process: the default action of both signals. Should it fail, the next one tries again.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
        for group in running.iter() {
            // One that has just ended is no error.
            let _ = kill_process_group(*group, Signal::TERM);
        }
    }

    /// Whether to take nothing more.
    pub(crate) fn asked(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// Asks this process's other threads to stop: one of them failed.
    pub(crate) fn ask(&self) {
        let _ = self.signal.compare_exchange(0, SIGTERM, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How a command ends that ran until it was asked to stop.
    pub(crate) fn outcome(&self) -> Result<(), Failure> {
        if self.signal.load(Ordering::Relaxed) == SIGINT { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// A command that leads a process group is running.
    pub(crate) fn started(&self, command: Pid) {
        self.running().insert(command);
    }

    /// It ended; to be called before it is reaped, while its number cannot be another's.
    pub(crate) fn ended(&self, command: Pid) {
        self.running().remove(&command);
    }

    fn running(&self) -> MutexGuard<'_, HashSet<Pid>> {
        // A set of numbers is whole whoever panicked while holding it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this process was asked to stop, known without a thread that listens.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// The signal; 0 for none.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Starts to note SIGINT and SIGTERM, which do nothing else from now on.
    pub(crate) fn listen() -> Result<Interrupt, Failure> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM] {
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)
                .map_err(|e| Failure::io("waiting for signals", &e))?;
        }
        Ok(Interrupt { signal })
    }

    /// An error if it was asked to stop.
    pub(crate) fn check(&self) -> ringway_measure::Result<()> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(ringway_measure::Error::new("asked to stop")),
        }
    }

    /// How the command ends: the outcome, unless it was asked to stop meanwhile.
    pub(crate) fn outcome(&self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        match self.signal.load(Ordering::Relaxed) as i32 {
            SIGINT => Err(Failure::Interrupted),
            SIGTERM => Ok(()),
            _ => outcome,
        }
    }
}

//! A victim under `ptrace`: a forked child that is brought to one exact instruction of an operation.
//!
//! A victim runs up to a breakpoint in front of the operation, and is single-stepped from there. To spare the
//! machine stepping the same beginning again for each point, the operation is traced once ([`trace`]): every
//! victim is a fork of one process, so all have the same code at the same addresses. A later victim is taken
//! to the instruction nearest before its point that is cheap to reach by a breakpoint, and single-stepped
//! from there ([`Trace::way_to`]).

use std::collections::HashMap;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Where `rip` lies among the registers, as `PTRACE_PEEKUSER` counts.
const RIP: usize = 16 * 8;

/// The breakpoint instruction.
const INT3: u8 = 0xcc;

/// Steps after which an operation is taken to be endless.
const STEPS_MAX: usize = 20_000_000;

/// What it costs to get over one hit of a breakpoint, in single steps. (Debug registers would be cheaper, but
/// virtual machines often have none.)
const HIT_COST: usize = 4;

/// Stops the calling process in front of its tracer.
#[inline(always)]
pub(crate) fn breakpoint() {
    // SAFETY: a trap that the tracer swallows; it changes nothing in this process.
    unsafe { std::arch::asm!("int3", options(nostack)) };
}

/// A traced child.
#[derive(Debug)]
pub(crate) struct Victim {
    pid: Pid,
}

/// Whether the operation is still going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Inside,
    /// The second breakpoint was reached.
    Over,
}

impl Victim {
    /// Forks a child that runs `body` and stops at its first breakpoint. `body` need not return.
    pub(crate) fn start(body: impl FnOnce()) -> Result<Victim, String> {
        // SAFETY: this program has one thread, so the child has a whole heap and no lock is held by somebody
        // who is not there.
        match unsafe { fork() }.map_err(|error| format!("fork: {error}"))? {
            ForkResult::Child => {
                if let Err(error) = ptrace::traceme() {
                    eprintln!("traceme: {error}");
                    // SAFETY: ends the child, which has nothing to tidy up.
                    unsafe { libc::_exit(3) };
                }
                body();
                // SAFETY: as above.
                unsafe { libc::_exit(4) };
            }
            ForkResult::Parent { child } => {
                let victim = Victim { pid: child };
                match victim.wait()? {
                    WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                    other => return Err(format!("the victim did not come to its operation: {other:?}")),
                }
                ptrace::setoptions(child, ptrace::Options::PTRACE_O_EXITKILL)
                    .map_err(|error| format!("setoptions: {error}"))?;
                Ok(victim)
            }
        }
    }

    fn wait(&self) -> Result<WaitStatus, String> {
        waitpid(self.pid, None).map_err(|error| format!("waitpid: {error}"))
    }

    /// The address of the next instruction.
    pub(crate) fn at(&self) -> Result<u64, String> {
        let rip = ptrace::read_user(self.pid, RIP as ptrace::AddressType);
        rip.map(|rip| rip as u64).map_err(|error| format!("peek rip: {error}"))
    }

    /// One instruction; a system call counts as one.
    fn step(&self) -> Result<(), String> {
        ptrace::step(self.pid, None).map_err(|error| format!("step: {error}"))?;
        self.expect_trap()
    }

    fn expect_trap(&self) -> Result<(), String> {
        match self.wait()? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(()),
            other => Err(format!("the victim met {other:?}")),
        }
    }

    /// `steps` instructions, or up to the end of the operation. `over` tells whether it is.
    pub(crate) fn steps(&self, steps: usize, over: &dyn Fn() -> bool) -> Result<Step, String> {
        for _ in 0..steps {
            if over() {
                return Ok(Step::Over);
            }
            self.step()?;
        }
        Ok(if over() { Step::Over } else { Step::Inside })
    }

    /// Lets it run to its next own breakpoint.
    pub(crate) fn run_on(&self) -> Result<(), String> {
        ptrace::cont(self.pid, None).map_err(|error| format!("cont: {error}"))?;
        self.expect_trap()
    }

    /// Lets it run until it comes to `address` for the `hits`-th time (from 1), or to the end of the
    /// operation.
    fn run_to(&self, address: u64, hits: usize) -> Result<Step, String> {
        let original = self.text(address)?;
        let trapped = original & !0xff | i64::from(INT3);
        for hit in 1..=hits {
            self.set_text(address, trapped)?;
            self.run_on()?;
            self.set_text(address, original)?;
            if self.at()? != address + 1 {
                return Ok(Step::Over);
            }
            ptrace::write_user(self.pid, RIP as ptrace::AddressType, address as i64)
                .map_err(|error| format!("poke rip: {error}"))?;
            if hit < hits {
                self.step()?;
            }
        }
        Ok(Step::Inside)
    }

    fn text(&self, address: u64) -> Result<i64, String> {
        ptrace::read(self.pid, address as ptrace::AddressType).map_err(|error| format!("peek text: {error}"))
    }

    fn set_text(&self, address: u64, word: i64) -> Result<(), String> {
        ptrace::write(self.pid, address as ptrace::AddressType, word)
            .map_err(|error| format!("poke text: {error}"))
    }

    /// SIGKILL; returns when it is no more.
    pub(crate) fn kill(self) -> Result<(), String> {
        kill(self.pid, Signal::SIGKILL).map_err(|error| format!("kill: {error}"))?;
        loop {
            match self.wait()? {
                WaitStatus::Signaled(..) | WaitStatus::Exited(..) => return Ok(()),
                _ => {}
            }
        }
    }
}

/// The instructions of one run of an operation.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Their addresses.
    addresses: Vec<u64>,
    /// For each of them, the how-manieth time its address is met, from 1.
    times: Vec<usize>,
}

/// Single-steps a victim that stands at its operation to the end.
pub(crate) fn trace(victim: &Victim, over: &dyn Fn() -> bool) -> Result<Trace, String> {
    let mut trace = Trace { addresses: Vec::new(), times: Vec::new() };
    let mut met = HashMap::new();
    while !over() {
        if trace.addresses.len() >= STEPS_MAX {
            return Err(format!("the operation is not over after {STEPS_MAX} instructions"));
        }
        let address = victim.at()?;
        let times = met.entry(address).and_modify(|times| *times += 1).or_insert(1);
        trace.addresses.push(address);
        trace.times.push(*times);
        victim.step()?;
    }
    Ok(trace)
}

impl Trace {
    /// Instructions.
    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Distinct addresses.
    pub(crate) fn distinct(&self) -> usize {
        self.times.iter().filter(|times| **times == 1).count()
    }

    /// Whether the instruction with this index is the first one at its address.
    fn is_first(&self, index: usize) -> bool {
        self.times[index] == 1
    }

    /// The points of the operation, in the order in which they are visited: behind its end; then every
    /// address the first time it is come to; then all the rest. Each part is spread out, however early it
    /// ends.
    pub(crate) fn points(&self) -> Vec<usize> {
        let (first, rest): (Vec<usize>, Vec<usize>) =
            (0..self.len()).partition(|index| self.is_first(*index));
        let mut points = vec![self.len()];
        for part in [first, rest] {
            let stride = coprime_stride(part.len());
            points.extend((0..part.len()).map(|visit| part[visit * stride % part.len()]));
        }
        points
    }

    /// Takes a victim that stands at its operation `steps` instructions into it.
    ///
    /// An operation may take another way than the traced one (another time of day is enough). If it ends
    /// before the breakpoint is met, the answer is `Over`.
    pub(crate) fn lead(
        &self,
        victim: &Victim,
        steps: usize,
        over: &dyn Fn() -> bool,
    ) -> Result<Step, String> {
        let (start, hits) = self.way_to(steps.min(self.len() - 1));
        if hits != 0 && victim.run_to(self.addresses[start], hits)? == Step::Over {
            return Ok(Step::Over);
        }
        victim.steps(steps - start, over)
    }

    /// From which instruction to single-step to reach the one with this index, and how many hits of a
    /// breakpoint there lead to it; none for the first.
    fn way_to(&self, index: usize) -> (usize, usize) {
        let mut best = (0, 0);
        let mut least = index;
        for start in (0..=index).rev() {
            let steps = index - start;
            if steps >= least {
                break;
            }
            let cost = steps + self.times[start] * HIT_COST;
            if cost < least {
                (best, least) = ((start, self.times[start]), cost);
            }
        }
        best
    }
}

/// A number near the golden section of `points` that has no divisor in common with it.
fn coprime_stride(points: usize) -> usize {
    let near = (points as f64 * 0.618) as usize;
    let gcd = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (near.max(1)..).find(|stride| gcd(*stride, points) == 1 || points == 0).unwrap_or(1)
}

//! An explicit-state model checker for `ringway::ring`.
//!
//! **A process is an automaton compiled from the shipping code.** A process is stepped by running its current
//! operation (say `Publisher::claim`) on a [`Replay`](replay::Replay) memory, which answers from the log of
//! results that the operation has had so far and stops it, by unwinding, before the next access. What comes
//! out is that next access. Which access follows which result depends on nothing but the process's own past,
//! so it is found once and remembered (`automaton`): the search itself never runs the code again.
//!
//! **A state** is the shared words, one automaton state per process, and ghost state for the properties. The
//! search is breadth first over a set of 128-bit hashes, so a counterexample is a shortest one.
//!
//! **Crashes**: a process may vanish before any access. Then recoverers for its owner index may start, two at
//! once, and may vanish themselves; when one is through and none is under way, the index may be used again.
//!
//! **Properties**: `rules` judges each write to a shared word (laps, claims, seq, leases) and each outcome
//! that a process is told. `fair` judges wedges: from sampled states it lets the living, and then chosen few
//! of them, run on, and everything that was accepted has to end acked.

pub mod automaton;
pub mod config;
pub mod fair;
pub mod replay;
pub mod rules;
pub mod script;
pub mod search;
pub mod spec;
pub mod state;

pub use config::{Config, Mutant};
pub use search::{Report, Violation, explore};
pub use spec::{Consumer, Producer, Role, Settle, Spec};

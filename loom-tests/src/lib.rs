//! Proofs of the ring: the code that ships, on modelled memory.
//!
//! - [`explicit`]: every shared-memory operation of every process is one step; all interleavings, with a
//!   crash at any of them, are searched under sequential consistency.
//! - [`modelled`]: loom's atomics behind the same trait, for what sequential consistency hides: the
//!   orderings.
//!
//! Neither touches private details of `ringway::ring`: a process is moved by calling the shipping functions.

pub mod explicit;
pub mod modelled;

//! The operating system: the only modules that make system calls.
//!
//! Everything else in the crate is handed what it needs from here: memory ([`mapping`]), time
//! ([`clock`]), sleep and wake-up ([`futex`]), a barrier over all threads of the host
//! ([`membarrier`]), proof of life ([`lock`], with `participant::token` on top), files ([`files`]) and
//! the question whether this process was forked ([`fork`]). Linux only.
//!
//! Three rules hold in all of them:
//!
//! - **What is shared is a file.** Futexes are shared ones and locks are open-file-description locks, so
//!   that both work between containers that share nothing but the file.
//! - **A forked child gets nothing.** Mappings are `MADV_DONTFORK`, descriptors that carry a lock are
//!   closed in the child, and a child that runs the destructor of an inherited handle unmaps and closes
//!   nothing, since its address or number may be in use for something else there.
//! - **No call is repeated on the fast path.** What cannot change (boot id, clock offsets, the system's
//!   abilities) is asked once and kept.

pub(crate) mod clock;
pub(crate) mod create;
#[allow(dead_code, reason = "what uses it is under construction")]
pub(crate) mod durable;
pub(crate) mod files;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod membarrier;

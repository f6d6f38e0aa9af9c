//! Who is alive, and what happens when someone dies.
//!
//! A **participant** is a process attached to a store: an index, an entry in the store's [`table`], and a
//! lock that the kernel holds for it until its memory is torn down ([`token`]). Words in shared memory name
//! participants by index (`Owner`). Nothing is ever concluded from a process id, a heartbeat or a time:
//! *dead* means that the lock is free, and then the dead process can no longer store to the ring.
//!
//! A participant that dies leaves words that name it. Whoever notices (see `queue::tend`) **recovers** it:
//! takes a *read* lock on its byte, so that nobody can become this participant meanwhile, goes through the
//! ledgers of each queue it was attached to, and frees its entry last ([`recovery`]). Each step is one CAS
//! against the word seen, so any number of recoverers may be at it at once, die half way, or pause for an
//! hour: a paused one keeps an index from being reused, and nothing else.

pub(crate) mod recovery;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod token;

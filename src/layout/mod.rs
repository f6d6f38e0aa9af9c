//! Every byte in shared memory.
//!
//! A store has one **control** file and one **queue** file per queue. Both begin with a header page that is
//! written once, before the file gets its name, and is never changed after ([`header`]). What follows is
//! words: atomics, each of them named in [`control`] or [`queue`], or computed by a [`Plan`](queue::Plan).
//! All numbers are little-endian.
//!
//! `docs/FORMAT.md` is the same for people; the tests in `format` hold the two together.

pub(crate) mod control;
#[cfg(test)]
pub(crate) mod format;
pub(crate) mod header;
pub(crate) mod queue;

/// Version of both files. Raised by every change after the first release.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Alignment of everything large, and size of the header.
pub(crate) const PAGE: u64 = 4096;

/// Name of the control file in a store's directory.
pub(crate) const CONTROL: &str = "control";

/// Name of the directory of queue files in a store's directory.
pub(crate) const QUEUES: &str = "queues";

/// Participants of a store: indices 1 to this less one.
pub(crate) const PARTICIPANTS: usize = 1024;

/// Producers and consumers attached to a queue, all processes together.
pub(crate) const ATTACHMENTS: usize = 1024;

/// The most groups that a queue can be made for.
pub(crate) const GROUPS_MAX: u32 = 64;

/// Bytes of a name.
pub(crate) const NAME_MAX: usize = 64;

//! What can go wrong, one small enum per kind of operation.
//!
//! Every error says what was found, what was expected and what to do next, and gives the caller's
//! message or delivery back where there is one: [`PublishError`] holds the message,
//! [`SettleError`] the delivery.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::journal::JournalError;

/// Why a store or a queue could not be created, opened, listed, repaired or removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store at this path.
    #[error("no store at {}: create it with `ringway create` or `Store::open_or_create`", path.display())]
    NoSuchStore {
        /// Where the store was looked for.
        path: PathBuf,
    },
    /// The store has no queue of this name.
    #[error("no queue {queue:?} in the store {}: `ringway ls` shows what there is", store.display())]
    NoSuchQueue {
        /// The name asked for.
        queue: String,
        /// The store's directory.
        store: PathBuf,
    },
    /// The queue has no group of this name.
    #[error(
        "queue {queue:?} has no group {group:?}: `ringway group ls {queue}` shows what there is, `ringway group add` makes one"
    )]
    NoSuchGroup {
        /// The queue.
        queue: String,
        /// The group asked for.
        group: String,
    },
    /// A store, queue or group of this name is there already.
    #[error("{what} {name:?} exists already")]
    AlreadyExists {
        /// `"store"`, `"queue"` or `"group"`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A name that cannot be used.
    #[error(
        "{name:?} is not a usable name: {reason}; use 1 to 64 letters, digits, '.', '_' or '-', not starting with '.' or '-'"
    )]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option outside its bounds.
    #[error("{option} = {found} cannot be: expected {expected}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// What was given.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// The file is not Ringway's, or is not the kind of file expected here.
    #[error("{} is not a {expected}: {found}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What kind of file was expected.
        expected: &'static str,
        /// What was found instead.
        found: String,
    },
    /// The file was written by another version of the format.
    #[error("{} has format version {found}, this build reads version {expected}: use a build of that version, or drain and recreate it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version this build reads.
        expected: u32,
    },
    /// The file is damaged: truncated, or a checksum or a geometry that does not add up.
    #[error("{} is damaged: {what}: found {found}, expected {expected}; restore it from a copy, or remove it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which property failed.
        what: &'static str,
        /// The value in the file.
        found: String,
        /// The value that would be right.
        expected: String,
    },
    /// An existing queue differs from the geometry asked for.
    #[error(
        "queue {queue:?} has {what} {found}, asked for {expected}: open it without options, or remove it first"
    )]
    Geometry {
        /// The queue.
        queue: String,
        /// Which property.
        what: &'static str,
        /// The queue's value.
        found: u64,
        /// The value asked for.
        expected: u64,
    },
    /// The file's owner or mode would let strangers write to it.
    #[error("{} is unsafe to open: {what}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is unsafe about it, and what to do.
        what: String,
    },
    /// The store was made before the last boot, and volatile stores do not outlive one.
    #[error("the store {} belongs to an earlier boot of this host and its messages are gone (a volatile store does not outlive a reboot): remove it", path.display())]
    EarlierBoot {
        /// The store.
        path: PathBuf,
    },
    /// The file system cannot carry a store.
    #[error("{} is on {kind}, which cannot carry a store: use tmpfs (/dev/shm) or a local disk", path.display())]
    FileSystem {
        /// The path.
        path: PathBuf,
        /// The file system.
        kind: String,
    },
    /// No free place is left in a table of fixed size.
    #[error("no place for another {what}: all {limit} are taken{hint}")]
    Exhausted {
        /// What there is no place for.
        what: &'static str,
        /// How many there can be.
        limit: usize,
        /// What to do.
        hint: &'static str,
    },
    /// Somebody still uses what was to be removed.
    #[error("{what} {name:?} is in use: {by}; close them first, or force it")]
    InUse {
        /// `"queue"` or `"group"`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Who uses it.
        by: String,
    },
    /// Someone else holds an exclusive role, or shared handles stand in the way of one.
    #[error("the {role} role of {name:?} is taken: {by}")]
    RoleTaken {
        /// `"producer"` or `"consumer"`.
        role: &'static str,
        /// The queue or group.
        name: String,
        /// Who stands in the way.
        by: String,
    },
    /// The store has no journal.
    #[error("the store {} is volatile: create it with `ringway create --durable` or `StoreOptions::durable`", path.display())]
    Volatile {
        /// The store.
        path: PathBuf,
    },
    /// A write or a sync of the journal failed; that is final.
    #[error("the journal in {} failed ({}) and takes nothing more: see to the disk, end all users of the store, then run `ringway repair --journal`", path.display(), io::Error::from_raw_os_error(*code))]
    JournalFailed {
        /// The durable directory.
        path: PathBuf,
        /// The system's error number.
        code: i32,
    },
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The handle was inherited through `fork` and belongs to the parent.
    #[error("this handle belongs to the parent process: open the store anew after fork")]
    Forked,
    /// The queue was removed while this handle was open.
    #[error(
        "queue {queue:?} was removed, or is being removed: close its handles, and open or create it anew"
    )]
    Removed {
        /// The queue.
        queue: String,
    },
    /// The operating system refused.
    #[error("{doing} {}: {source}{}", path.display(), hint_of(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// What a user can do about the system errors that one can do something about.
fn hint_of(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => " (free space there, or choose a smaller capacity)",
        Some(libc::EACCES | libc::EPERM) => " (check the owner and mode of the store)",
        Some(libc::EMFILE | libc::ENFILE) => " (raise the limit of open files)",
        _ => "",
    }
}

/// A message that was not accepted, with the reason. Nothing of it is in the queue.
///
/// It holds the message, which may be borrowed, so it is not a `std::error::Error` itself; `?` turns it into
/// its [`PublishFailure`], or into a boxed error.
pub struct PublishError<M> {
    /// The message, given back.
    pub message: M,
    /// Why it was not accepted.
    pub failure: PublishFailure,
}

impl<M> fmt::Debug for PublishError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishError").field("failure", &self.failure).finish_non_exhaustive()
    }
}

/// Why a message was not accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishFailure {
    /// No free slot: consumers are behind, or hold every slot.
    #[error(
        "the queue is full ({capacity} slots): consume, wait with `publish_timeout`, or use a larger queue"
    )]
    Full {
        /// The queue's slots.
        capacity: u64,
    },
    /// Headers and payload together are longer than the queue's limit.
    #[error(
        "the message is {found} bytes with its headers, the queue takes {limit}: send less, or create the queue with a larger max_message"
    )]
    TooLarge {
        /// Bytes of headers and payload.
        found: usize,
        /// The queue's limit in bytes.
        limit: usize,
    },
    /// The headers are longer than a header block can be.
    #[error("the headers are {found} bytes, at most {limit} can be: put large values into the payload")]
    HeadersTooLarge {
        /// Bytes of encoded headers.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A user header's name is empty or too long.
    #[error(
        "a header's name is {found} bytes, 1 to 255 can be: shorten the name, or put it into the payload"
    )]
    BadHeaderName {
        /// Bytes of the name.
        found: usize,
    },
    /// The file system has no room for the message's extent.
    #[error("no space left for a message of {bytes} bytes: free space on the file system of the store")]
    NoSpace {
        /// Bytes of headers and payload.
        bytes: usize,
    },
    /// The handle was inherited through `fork` and belongs to the parent.
    #[error("this producer belongs to the parent process: open the store anew after fork")]
    Forked,
    /// Zero-copy access was asked for from a store that was opened without trust.
    #[error("zero-copy access needs a store opened with `StoreOptions::trust_peers`")]
    NotTrusted,
    /// The queue was removed while this handle was open.
    #[error("the queue was removed, or is being removed: drop this producer, then open or create it anew")]
    Removed,
    /// The disk of the journal is full; nothing is accepted until there is room.
    #[error(
        "no space left for the journal: free space on its disk; what was accepted is safe, and acks go on"
    )]
    JournalFull,
    /// The journal failed, which is final.
    #[error("the journal failed and the store takes nothing more: `ringway info` says why")]
    JournalFailed,
    /// The operating system refused.
    #[error("the system refused: {0}")]
    Io(#[from] io::Error),
}

/// Why a message that was accepted is not known to be durable, or an ack.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The store has no journal.
    #[error("the store is volatile: create it with `ringway create --durable` or `StoreOptions::durable`")]
    Volatile,
    /// The disk failed, which is final: after a restart it may be there or not.
    #[error(
        "the journal failed before this was known to be on the disk: after a restart it may be there or not; publish it again then, and let its consumers be idempotent"
    )]
    Unknown,
    /// It is not durable yet.
    #[error("not durable yet: the disk is slow, or full, or the process that writes is paused; wait again")]
    Timeout,
    /// The handle was inherited through `fork` and belongs to the parent.
    #[error("this handle belongs to the parent process: open the store anew after fork")]
    Forked,
    /// The ack that was to be made durable found its lease lost.
    #[error(transparent)]
    Settle(#[from] SettleFailure),
    /// The journal could not be written.
    #[error(transparent)]
    Store(Box<StoreError>),
}

/// Why a message was not published and confirmed.
pub enum ConfirmError<M> {
    /// It was not accepted; here it is.
    NotAccepted(PublishError<M>),
    /// It was accepted, and is not known to be durable.
    NotConfirmed {
        /// Its position.
        position: u64,
        /// Why.
        error: DurableError,
    },
}

impl<M> fmt::Debug for ConfirmError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfirmError::NotAccepted(error) => f.debug_tuple("NotAccepted").field(error).finish(),
            ConfirmError::NotConfirmed { position, error } => {
                let mut out = f.debug_struct("NotConfirmed");
                out.field("position", position).field("error", error).finish()
            }
        }
    }
}

impl<M> fmt::Display for ConfirmError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfirmError::NotAccepted(error) => error.fmt(f),
            ConfirmError::NotConfirmed { position, error } => write!(f, "message {position}: {error}"),
        }
    }
}

impl<M> From<ConfirmError<M>> for Box<dyn std::error::Error> {
    fn from(error: ConfirmError<M>) -> Self {
        match error {
            ConfirmError::NotAccepted(error) => error.into(),
            ConfirmError::NotConfirmed { error, .. } => error.into(),
        }
    }
}

/// Why nothing could be received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// This consumer holds as many deliveries as it may.
    #[error(
        "{limit} deliveries are in flight, the most this consumer may hold: settle some, or raise max_in_flight"
    )]
    InFlightLimit {
        /// The limit.
        limit: usize,
    },
    /// The group was removed while this consumer was open.
    #[error("the group was removed: drop this consumer")]
    GroupRemoved,
    /// The queue was removed while this handle was open.
    #[error("the queue was removed, or is being removed: drop this consumer")]
    Removed,
    /// The handle was inherited through `fork` and belongs to the parent.
    #[error("this consumer belongs to the parent process: open the store anew after fork")]
    Forked,
    /// Another process wrote where the protocol does not let it.
    #[error("the queue's memory is damaged: {what}; run `ringway verify`, then `ringway repair`")]
    Damaged {
        /// What does not add up.
        what: &'static str,
    },
    /// The operating system refused.
    #[error("the system refused: {0}")]
    Io(#[from] io::Error),
}

/// A delivery that was not settled, with the reason.
///
/// It holds the delivery, which borrows its consumer, so it is not a `std::error::Error` itself; `?` turns it
/// into its [`SettleFailure`], or into a boxed error, and drops the delivery.
pub struct SettleError<D> {
    /// The delivery, given back. Dropping one whose lease was lost does nothing.
    pub delivery: D,
    /// Why it was not settled.
    pub failure: SettleFailure,
}

impl<D> fmt::Debug for SettleError<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettleError").field("failure", &self.failure).finish_non_exhaustive()
    }
}

/// Why a delivery was not settled. Nothing else was touched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SettleFailure {
    /// The lease ran out, and the message went back or to somebody else.
    #[error(
        "the lease was lost: it ran out before this call, and the message is redelivered; take longer leases, or extend them"
    )]
    LeaseLost,
    /// The handle was inherited through `fork` and belongs to the parent.
    #[error("this delivery belongs to the parent process")]
    Forked,
    /// A time outside its bounds.
    #[error("{found:?} is out of bounds: from {least:?} to {most:?}")]
    BadTime {
        /// What was given.
        found: Duration,
        /// The least it may be.
        least: Duration,
        /// The most it may be.
        most: Duration,
    },
}

/// What both errors that give something back have in common.
macro_rules! gives_back {
    ($error:ident, $failure:ident) => {
        impl<T> $error<T> {
            /// The reason alone; what was given back is dropped.
            pub fn into_failure(self) -> $failure {
                self.failure
            }
        }

        impl<T> fmt::Display for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.failure.fmt(f)
            }
        }

        impl<T> From<$error<T>> for $failure {
            fn from(error: $error<T>) -> $failure {
                error.failure
            }
        }

        impl<T> From<$error<T>> for Box<dyn std::error::Error> {
            fn from(error: $error<T>) -> Self {
                error.failure.into()
            }
        }

        impl<T> From<$error<T>> for Box<dyn std::error::Error + Send + Sync> {
            fn from(error: $error<T>) -> Self {
                error.failure.into()
            }
        }
    };
}

gives_back!(PublishError, PublishFailure);
gives_back!(SettleError, SettleFailure);

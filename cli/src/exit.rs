//! How a command ends: an exit code, and at most one line on stderr.
//!
//! The codes are part of the command's interface: [`CODES`] is what `ringway help` prints, and
//! `docs/COMMAND.md` repeats it. A reader that goes away (a broken pipe on stdout) is success.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use ringway::{DurableError, JournalError, PublishFailure, ReceiveError, SettleFailure, StoreError};

/// The exit codes, for the help.
pub(crate) const CODES: &str = "\
Exit codes:
  0    done (also when the reader of the output went away, and after SIGTERM, unless it cut an
       export or import short)
  1    the operation failed
  2    wrong usage: an option, a value or a name that cannot be
  3    no such store, queue or group
  4    the queue is full
  5    verify found violations, or demo or bench lost messages
  6    in use: a role is taken, or a queue or group has users
  7    damaged, foreign, or of another format version
  8    no permission, or unsafe to open
  9    no space left
  130  stopped by SIGINT, with everything it held settled or given back";

/// The exit codes, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Full = 4,
    Violated = 5,
    InUse = 6,
    Damaged = 7,
    Denied = 8,
    NoSpace = 9,
    Interrupted = 130,
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of stdout went away: nothing is wrong, and there is nobody to tell.
    ReaderGone,
    /// SIGINT, after what was held has been settled or given back.
    Interrupted,
    /// Something to tell, in one line.
    Error { code: Code, message: String },
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure::Error { code, message: message.into() }
    }

    /// The same failure, told with what it concerns in front.
    pub(crate) fn about(self, what: impl fmt::Display) -> Failure {
        self.retold(|message| format!("{what}: {message}"))
    }

    /// The same failure, told with an afterthought.
    pub(crate) fn and(self, what: impl fmt::Display) -> Failure {
        self.retold(|message| format!("{message}; {what}"))
    }

    fn retold(self, tell: impl FnOnce(String) -> String) -> Failure {
        match self {
            Failure::Error { code, message } => Failure::Error { code, message: tell(message) },
            silent => silent,
        }
    }

    /// A system error that is not about a store, such as one on stdin.
    pub(crate) fn io(doing: &str, error: &io::Error) -> Failure {
        Failure::new(code_of_io(error), format!("{doing}: {error}"))
    }

    /// An error of writing to stdout.
    pub(crate) fn stdout(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::io("writing to stdout", error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let code = match &error {
            StoreError::NoSuchStore { .. }
            | StoreError::NoSuchQueue { .. }
            | StoreError::NoSuchGroup { .. }
            | StoreError::Removed { .. } => Code::NotFound,
            StoreError::BadName { .. } | StoreError::BadOption { .. } => Code::Usage,
            StoreError::Foreign { .. }
            | StoreError::Version { .. }
            | StoreError::Damaged { .. }
            | StoreError::EarlierBoot { .. } => Code::Damaged,
            StoreError::Unsafe { .. } => Code::Denied,
            StoreError::InUse { .. } | StoreError::RoleTaken { .. } => Code::InUse,
            StoreError::Io { source, .. } => code_of_io(source),
            StoreError::Volatile { .. } => Code::Usage,
            StoreError::Journal(error) => match error {
                JournalError::NoSpace { .. } => Code::NoSpace,
                JournalError::Failed { .. } | JournalError::Io { .. } => Code::Failed,
                _ => Code::Damaged,
            },
            _ => Code::Failed,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<DurableError> for Failure {
    fn from(error: DurableError) -> Failure {
        let code = if matches!(error, DurableError::Volatile) { Code::Usage } else { Code::Failed };
        Failure::new(code, error.to_string())
    }
}

impl From<PublishFailure> for Failure {
    fn from(failure: PublishFailure) -> Failure {
        let code = match &failure {
            PublishFailure::Full { .. } => Code::Full,
            PublishFailure::NoSpace { .. } | PublishFailure::JournalFull => Code::NoSpace,
            PublishFailure::BadHeaderName { .. } => Code::Usage,
            PublishFailure::Removed => Code::NotFound,
            PublishFailure::Io(source) => code_of_io(source),
            _ => Code::Failed,
        };
        Failure::new(code, failure.to_string())
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Failure {
        let code = match &error {
            ReceiveError::GroupRemoved | ReceiveError::Removed => Code::NotFound,
            ReceiveError::Damaged { .. } => Code::Damaged,
            ReceiveError::Io(source) => code_of_io(source),
            _ => Code::Failed,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<SettleFailure> for Failure {
    fn from(failure: SettleFailure) -> Failure {
        Failure::new(Code::Failed, failure.to_string())
    }
}

fn code_of_io(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
        _ => Code::Failed,
    }
}

/// Ends the process the way the outcome asks for.
pub(crate) fn report(outcome: Result<(), Failure>) -> ExitCode {
    let code = match outcome {
        Ok(()) | Err(Failure::ReaderGone) => Code::Done,
        Err(Failure::Interrupted) => Code::Interrupted,
        Err(failure @ Failure::Error { code, .. }) => {
            tell(&failure);
            code
        }
    };
    ExitCode::from(code as u8)
}

/// Tells a failure that is no reason to end.
pub(crate) fn tell(failure: &Failure) {
    if let Failure::Error { message, .. } = failure {
        note(message);
    }
}

/// Writes one line to stderr. Names and payloads of others can be part of it, so control characters are
/// shown, not sent. A stderr that is closed or full is nothing to stop for.
pub(crate) fn note(message: &str) {
    let mut line = String::with_capacity(message.len() + 16);
    line.push_str("ringway: ");
    for c in message.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
}

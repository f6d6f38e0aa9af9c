//! Why a measurement failed, in words: there is nobody to handle it but a reader.

use std::fmt;

/// What went wrong, in one line.
///
/// It does not implement [`std::error::Error`], so that `?` can turn every error into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
}

/// A result whose error is told, not handled.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Error {
        Error { message: message.into() }
    }

    /// The same error, told with what it concerns in front.
    #[must_use]
    pub fn about(self, what: impl fmt::Display) -> Error {
        Error { message: format!("{what}: {}", self.message) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        Error { message: error.to_string() }
    }
}

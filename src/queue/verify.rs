//! Checking every invariant that a file can show.

use crate::{Queue, StoreError, VerifyReport};

impl Queue {
    /// Checks every invariant that the file can show. Changes nothing; safe while the queue runs.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        todo!()
    }
}

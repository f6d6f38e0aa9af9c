//! How soon a consumer looks around again.

use std::cell::Cell;

use crate::queue::tend::SWEEP_MS;

/// Futile looks before a consumer looks around again, at most.
const FUTILE_PER_ROUND: u32 = 16;

/// Messages before a consumer looks around again, at most.
const MESSAGES_PER_ROUND: u32 = 16;

/// When a consumer last looked around, and how soon it does again.
///
/// Looking around takes a clock, so it is not done for every message. Futile looks and messages are counted
/// apart: a consumer that span for a while and then takes a message to work on for long must look around
/// after that one.
#[derive(Debug)]
pub(super) struct Rounds {
    futile_left: Cell<u32>,
    futile: Cell<u32>,
    messages_left: Cell<u32>,
    messages: Cell<u32>,
    last_ms: Cell<u64>,
    /// Whether this consumer did the last sweep that it came by.
    pub(super) swept: Cell<bool>,
}

impl Rounds {
    pub(super) fn new() -> Rounds {
        Rounds {
            futile_left: Cell::new(0),
            futile: Cell::new(1),
            messages_left: Cell::new(0),
            messages: Cell::new(1),
            last_ms: Cell::new(0),
            swept: Cell::new(false),
        }
    }

    /// Whether enough messages were handed over since the last time.
    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        self.messages_left.get() == 0
    }

    /// A message was handed over.
    #[inline(always)]
    pub(super) fn message(&self) {
        self.messages_left.set(self.messages_left.get().saturating_sub(1));
    }

    /// A look: whether it is time, by the number of messages or of looks.
    pub(super) fn look(&self) -> bool {
        let futile = self.futile_left.get();
        self.futile_left.set(futile.saturating_sub(1));
        futile == 0 || self.is_due()
    }

    /// It is time whatever happens next.
    pub(super) fn hasten(&self) {
        self.futile_left.set(0);
    }

    /// Begins another round; whether the last one took less than the time between two sweeps, and there is
    /// nothing to do yet.
    pub(super) fn begin(&self, now_ms: u64) -> bool {
        let hurried = now_ms < self.last_ms.get() + SWEEP_MS;
        if hurried {
            self.futile.set((self.futile.get() * 2).min(FUTILE_PER_ROUND));
            if self.messages_left.get() < self.messages.get() {
                self.messages.set((self.messages.get() * 2).min(MESSAGES_PER_ROUND));
            }
        } else {
            self.futile.set(1);
            self.messages.set(1);
            self.last_ms.set(now_ms);
        }
        self.futile_left.set(self.futile.get() - 1);
        self.messages_left.set(self.messages.get());
        hurried
    }
}

//! The start line of forked processes, and a few words that they share.

use std::hint;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::thread;

use crate::{Result, Words, now_ns};

/// Words of a pair of cache lines: processors fetch two at a time.
const APART: usize = 16;

/// Looks at the gate before a process lets others on its processor.
const LOOKS: u32 = 1_000;

/// A start line: the last of the processes to arrive opens it for all. Made before they are forked.
///
/// A process that dies on its way leaves the others waiting; whoever joins them learns of the death and ends
/// them ([`join_all`](crate::join_all)).
#[derive(Debug)]
pub struct Gate {
    words: Words,
    parties: u64,
}

impl Gate {
    /// How many [words](Self::word) there are.
    pub const WORDS: usize = 8;

    const ARRIVED: usize = 0;
    const START: usize = APART;
    const STOP: usize = 2 * APART;
    const FREE: usize = 3 * APART;

    /// A start line for this many processes.
    pub fn new(parties: usize) -> Result<Gate> {
        let words = Words::new(Self::FREE + Self::WORDS * APART)?;
        Ok(Gate { words, parties: parties as u64 })
    }

    /// Waits until all have arrived, spinning, but letting others on the processor. Returns when the gate
    /// opened, by [`now_ns`].
    pub fn arrive(&self) -> u64 {
        // AcqRel: what each did before it arrived is seen by the last, and by way of START by all.
        if self.words[Self::ARRIVED].fetch_add(1, AcqRel) + 1 == self.parties {
            self.words[Self::START].store(now_ns(), Release);
        }
        let mut looks = 0_u32;
        loop {
            // Pairs with the store above.
            let start = self.words[Self::START].load(Acquire);
            if start != 0 {
                return start;
            }
            looks += 1;
            if looks.is_multiple_of(LOOKS) { thread::yield_now() } else { hint::spin_loop() }
        }
    }

    /// When the gate opened, by [`now_ns`], if it has.
    pub fn started(&self) -> Option<u64> {
        match self.words[Self::START].load(Acquire) {
            0 => None,
            start => Some(start),
        }
    }

    /// Asks all to stop.
    pub fn stop(&self) {
        // Relaxed, here and below: a request, which publishes nothing.
        self.words[Self::STOP].store(1, Relaxed);
    }

    /// Whether all are asked to stop.
    #[inline]
    pub fn stopped(&self) -> bool {
        self.words[Self::STOP].load(Relaxed) != 0
    }

    /// A word for any use, zero at first, on a cache line of its own.
    ///
    /// # Panics
    ///
    /// If there is none of this index: there are [`Gate::WORDS`].
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < Self::WORDS, "there are {} words", Self::WORDS);
        &self.words[Self::FREE + index * APART]
    }
}

//! How the parent leads the participants of a run, by words that all of them share.
//!
//! There is one phase for all, which only the parent moves on, and a few counts of how many participants have
//! come where. Every participant counts its messages in a word of its own, so that the parent can see from
//! outside how fast they go: nobody reads a clock per message.
//!
//! A stream ends without a special message: receivers stop to *wait* for messages while senders still send
//! (so that none sleeps for ever), then the senders stop, then the receivers take what is left.

use std::hint;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::thread;

use ringway_measure::{Result, Words};

/// Words between two that are written by different processes: processors fetch cache lines in pairs.
const APART: usize = 16;

/// Looks at a word before others are let on the processor.
const LOOKS: u32 = 1_000;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The participants make their ends.
    Attach,
    /// They send and receive.
    Run,
    /// Receivers only take what is there.
    Drain,
    /// Senders stop.
    Stop,
    /// All go home.
    End,
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Attach, Phase::Run, Phase::Drain, Phase::Stop, Phase::End];
}

/// A place that participants come to.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// The end to receive by is there.
    Receiving = 1,
    /// All is made.
    Ready,
    /// Receives without waiting.
    Draining,
    /// Has sent all that it will.
    Sent,
    /// Has received all that there is.
    Received,
}

/// The words.
#[derive(Debug)]
pub struct Control {
    words: Words,
}

const COUNTS: usize = 6;

impl Control {
    /// For this many participants.
    pub fn new(parties: usize) -> Result<Control> {
        Ok(Control { words: Words::new((COUNTS + parties) * APART)? })
    }

    /// Where the run is.
    #[inline]
    pub fn phase(&self) -> Phase {
        // Pairs with `enter`.
        let phase = self.words[0].load(Acquire) as usize;
        Phase::ALL[phase.min(Phase::ALL.len() - 1)]
    }

    /// Moves on; the parent's.
    pub fn enter(&self, phase: Phase) {
        self.words[0].store(phase as u64, Release);
    }

    /// Waits for a phase.
    pub fn wait_for(&self, phase: Phase) {
        wait_until(|| self.phase() >= phase);
    }

    /// One more is there.
    pub fn arrive(&self, place: Place) {
        // What it did before is seen by whoever sees it there.
        self.words[place as usize * APART].fetch_add(1, AcqRel);
    }

    /// How many are there.
    pub fn arrived(&self, place: Place) -> usize {
        self.words[place as usize * APART].load(Acquire) as usize
    }

    /// Waits until this many are there.
    pub fn wait_for_all(&self, place: Place, parties: usize) {
        wait_until(|| self.arrived(place) >= parties);
    }

    /// The messages of one participant.
    pub fn count(&self, party: usize) -> &AtomicU64 {
        &self.words[(COUNTS + party) * APART]
    }

    /// The messages of all these.
    pub fn total(&self, parties: std::ops::Range<usize>) -> u64 {
        // Only a number: nothing else is read because of it.
        parties.map(|party| self.count(party).load(Relaxed)).sum()
    }
}

fn wait_until(there: impl Fn() -> bool) {
    let mut looks = 0_u32;
    while !there() {
        looks += 1;
        if looks.is_multiple_of(LOOKS) { thread::yield_now() } else { hint::spin_loop() }
    }
}

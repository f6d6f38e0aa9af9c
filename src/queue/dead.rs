//! Dead letters, parked in their slots, and what consumers said when they rejected them.
//!
//! A group keeps the last 64 such notes in a ring of its own. A writer takes the next place, makes it
//! nobody's (position 0), writes the text and then the position; a reader looks at the position before and
//! after. Two writers that share a place, 64 notes apart, may mix their texts: that costs a text, and nothing
//! depends on it. Death in the middle: a place that is nobody's.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use super::core::QueueCore;
use crate::delivery::policy::reason_of;
use crate::layout::queue::NOTES;
use crate::mapped::Mapped;
use crate::memory::{Memory, Place};
use crate::ring::settle::{due_of, revive};
use crate::ring::{Lease, State, lap_of};
use crate::sys::clock;
use crate::{DeadLetter, DeadReason, MessageState, Queue, StoreError};

/// As [`QueueCore::note`].
pub(crate) fn write_note(mapped: &Mapped, group: u8, position: u64, text: &str) {
    let index = mapped.group(group).notes_written.fetch_add(1, Relaxed);
    let note = mapped.note(group, index);
    let mut len = text.len().min(note.text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    note.position.store(0, Relaxed);
    // Pairs with the fence in `note_of`: who reads new text sees that the place was given up.
    fence(Release);
    note.len.store(len as u64, Relaxed);
    for (byte, value) in note.text.iter().zip(text[..len].bytes()) {
        byte.store(value, Relaxed);
    }
    // Pairs with the Acquire in `note_of`.
    note.position.store(position, Release);
}

impl QueueCore {
    /// Keeps what a consumer said when it rejected a message.
    pub(crate) fn note(&self, group: u8, position: u64, text: &str) {
        write_note(&self.mapped, group, position, text);
    }

    /// The last note on a position, if it is still there.
    pub(crate) fn note_of(&self, group: u8, position: u64) -> Option<String> {
        let written = self.mapped.group(group).notes_written.load(Acquire);
        (1..=NOTES).find_map(|back| {
            let note = self.mapped.note(group, written.wrapping_sub(back));
            if note.position.load(Acquire) != position {
                return None;
            }
            let len = (note.len.load(Relaxed) as usize).min(note.text.len());
            let text: Vec<u8> = note.text[..len].iter().map(|byte| byte.load(Relaxed)).collect();
            fence(Acquire);
            let stands = note.position.load(Relaxed) == position;
            stands.then(|| String::from_utf8_lossy(&text).into_owned())
        })
    }

    fn dead_letter(&self, group: u8, position: u64) -> Option<DeadLetter> {
        let (message, open) = self.peek_at(group, position)?;
        if open.state != MessageState::Dead {
            return None;
        }
        let (reason, description) = self.cause_of(group, position, open.lease);
        let (_, attempts) = due_of(&self.mapped, group, position, open.lease);
        Some(DeadLetter { message, reason, description, attempts })
    }

    /// Why a message is dead, and what was said of it.
    pub(super) fn cause_of(&self, group: u8, position: u64, dead: Lease) -> (DeadReason, Option<String>) {
        let reason = reason_of(dead);
        // A message that died of something else may have a note of a rejection that came too late.
        let description = if reason == DeadReason::Rejected { self.note_of(group, position) } else { None };
        (reason, description)
    }

    /// Takes a dead letter back, or deletes it. `false`: it is not dead, or not there.
    fn revive(&self, group: u8, position: u64, again: bool) -> bool {
        let lease = Lease::from_bits(self.mapped.load(Place::Lease(group, position), Acquire));
        let dead = lease.state() == State::Dead && lease.lap() == lap_of(position, self.mapped.capacity());
        dead && revive(&self.mapped, group, position, lease, again, clock::boot_ms())
    }
}

impl Queue {
    /// The dead letters of a group, in order of position.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchGroup`], `Removed`, `Forked`.
    pub fn dead(&self, group: &str) -> Result<Vec<DeadLetter>, StoreError> {
        self.check()?;
        let group = self.core.find_group(group)?;
        let positions = self.core.open_messages(group, |state| state == MessageState::Dead).into_iter();
        Ok(positions.filter_map(|position| self.core.dead_letter(group, position)).collect())
    }

    /// Gives a dead letter another chance, at once, with its failures reset. `false` if it is not dead (any
    /// more).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchGroup`], `Removed`, `Forked`.
    pub fn retry_dead(&self, group: &str, position: u64) -> Result<bool, StoreError> {
        self.check()?;
        let group = self.core.find_group(group)?;
        let revived = self.core.revive(group, position, true);
        if revived {
            self.core.ring_group(group, 1);
        }
        Ok(revived)
    }

    /// Deletes a dead letter, and with it what keeps its slot. `false` if it is not dead (any more).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchGroup`], `Removed`, `Forked`.
    pub fn purge_dead(&self, group: &str, position: u64) -> Result<bool, StoreError> {
        self.check()?;
        let group = self.core.find_group(group)?;
        let purged = self.core.revive(group, position, false);
        if purged {
            self.core.ring_producers(false);
        }
        Ok(purged)
    }
}

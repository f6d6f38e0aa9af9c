//! The memory that a process runs on: answers from a log, and stops before the next access.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use ringway::memory::{Memory, Place};

use super::config::{Config, Mutant};

/// A word of the model: the ring's, or the payload of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// One of the ring's shared words.
    Ring(Place),
    /// The payload of a slot, one word.
    Payload(u64),
}

/// An access, with its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads.
    Load,
    /// Writes.
    Store(u64),
    /// Writes the second if the first is there.
    Swap(u64, u64),
    /// Sets bits.
    Or(u64),
    /// Keeps bits.
    And(u64),
    /// Raises.
    Max(u64),
}

/// One step of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// Where.
    pub spot: Spot,
    /// What.
    pub access: Access,
}

/// What the unwinding carries.
struct Stopped;

/// See the module.
pub struct Replay<'a, const SKIPS: u32> {
    config: &'a Config,
    producer: bool,
    log: &'a [u64],
    used: Cell<usize>,
    pending: Cell<Option<Op>>,
}

impl<'a, const SKIPS: u32> Replay<'a, SKIPS> {
    /// Runs `operation` on the log. `Err`: the access it would make next.
    ///
    /// # Panics
    ///
    /// If the operation panics, or leaves a part of the log unused: the code under test is not deterministic.
    pub fn run<T>(
        config: &'a Config,
        producer: bool,
        log: &'a [u64],
        operation: impl FnOnce(&Self) -> T,
    ) -> Result<T, Op> {
        let memory = Replay { config, producer, log, used: Cell::new(0), pending: Cell::new(None) };
        match catch_unwind(AssertUnwindSafe(|| operation(&memory))) {
            Ok(value) => {
                assert_eq!(memory.used.get(), log.len(), "the operation did not repeat itself");
                Ok(value)
            }
            Err(cause) if cause.is::<Stopped>() => {
                Err(memory.pending.get().expect("it stopped at an access"))
            }
            Err(cause) => resume_unwind(cause),
        }
    }

    /// Reads the payload of the slot of a position.
    pub fn read_payload(&self, position: u64) -> u64 {
        self.access(Spot::Payload(position % self.config.slots), Access::Load)
    }

    /// Writes it.
    pub fn write_payload(&self, position: u64, value: u64) {
        self.access(Spot::Payload(position % self.config.slots), Access::Store(value));
    }

    fn access(&self, spot: Spot, access: Access) -> u64 {
        if access == Access::Load
            && let Some(value) = self.config.constant(spot)
        {
            return value;
        }
        let used = self.used.get();
        if let Some(&result) = self.log.get(used) {
            self.used.set(used + 1);
            return result;
        }
        self.pending.set(Some(Op { spot, access }));
        resume_unwind(Box::new(Stopped))
    }

    fn ring(&self, place: Place, access: Access) -> u64 {
        let slots = self.config.slots;
        let place = match place {
            Place::Claim(slot) => Place::Claim(slot % slots),
            Place::Seq(slot) => Place::Seq(slot % slots),
            Place::Lease(group, slot) => Place::Lease(group, slot % slots),
            Place::Due(group, slot) => Place::Due(group, slot % slots),
            other => other,
        };
        self.access(Spot::Ring(place), access)
    }

    /// Whether the model's mutant is this one.
    fn mutant(&self, mutant: Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }
}

/// Whether a due word says that its lease is being given back.
fn is_back(due: u64) -> bool {
    let same_turn = ringway::ring::Lease::from_bits(due & 0xff);
    ringway::ring::Due::from_bits(due).is_back(same_turn)
}

impl<const SKIPS: u32> Memory for Replay<'_, SKIPS> {
    const SKIPS_MAX: u32 = SKIPS;
    const UNBEGUN_MS: u64 = 1;

    fn capacity(&self) -> u64 {
        self.config.slots
    }

    fn load(&self, place: Place, _: Ordering) -> u64 {
        let value = self.ring(place, Access::Load);
        match place {
            // Every lease word looks settled to a producer.
            Place::Lease(..) if self.producer && self.mutant(Mutant::HeldLooksDone) => value & !(7 << 29),
            // A writer that is still at it looks finished to a producer.
            Place::Seq(slot) if self.producer && self.mutant(Mutant::UnfinishedLooksFinished) => {
                let claim = ringway::ring::Claim::from_bits(self.ring(Place::Claim(slot), Access::Load));
                match claim.real_lap(SKIPS) {
                    Some(lap) if ringway::ring::Seq::from_bits(value).lap() != lap => {
                        ringway::ring::Seq::void(lap).bits()
                    }
                    _ => value,
                }
            }
            // Where the groups stand is not looked at.
            Place::Start(_) if self.producer && self.mutant(Mutant::StartIgnored) => u64::MAX,
            _ => value,
        }
    }

    fn store(&self, place: Place, value: u64, _: Ordering) {
        if matches!(place, Place::Seq(_)) && self.mutant(Mutant::FinishForgotten) {
            self.ring(place, Access::Load);
            return;
        }
        self.ring(place, Access::Store(value));
    }

    fn compare_exchange(&self, place: Place, old: u64, new: u64) -> Result<(), u64> {
        let torn = match place {
            Place::Claim(_) => self.mutant(Mutant::ClaimNotAtomic),
            Place::Lease(..) => self.mutant(Mutant::LeaseNotAtomic),
            _ => false,
        };
        if torn {
            let there = self.ring(place, Access::Load);
            if there != old {
                return Err(there);
            }
            self.ring(place, Access::Store(new));
            return Ok(());
        }
        let new = match place {
            Place::Lease(..) if self.mutant(Mutant::TurnForgotten) => new & !0xff,
            _ => new,
        };
        match place {
            Place::Seq(_) if self.mutant(Mutant::VoidByStore) => {
                self.ring(place, Access::Store(new));
                return Ok(());
            }
            Place::Seq(_) if self.mutant(Mutant::VoidForgotten) => return Ok(()),
            Place::Due(..) if self.mutant(Mutant::DueForgotten) && is_back(new) => return Ok(()),
            _ => {}
        }
        let there = self.ring(place, Access::Swap(old, new));
        if there == old { Ok(()) } else { Err(there) }
    }

    fn fetch_or(&self, place: Place, bits: u64) -> u64 {
        if matches!(place, Place::Returned(..)) && self.mutant(Mutant::MarkForgotten) {
            return 0;
        }
        self.ring(place, Access::Or(bits))
    }

    fn fetch_and(&self, place: Place, bits: u64) -> u64 {
        self.ring(place, Access::And(bits))
    }

    fn fetch_max(&self, place: Place, value: u64) -> u64 {
        self.ring(place, Access::Max(value))
    }
}

//! The ledgers: claims, slots, leases.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::words::CLOCK_SLACK_MS;
use super::{Look, expect, standing};
use crate::LEASE_BOUNDS;
use crate::delivery::DELAY_MAX;
use crate::delivery::policy::{REASON_CORRUPT, REASON_MAX_DELIVERIES};
use crate::layout::queue::group;
use crate::layout::{PAGE, PARTICIPANTS};
use crate::mapped::Mapped;
use crate::memory::{Memory, Place};
use crate::message::headers;
use crate::queue::attach::Role;
use crate::queue::inspect::Last;
use crate::ring::repair::is_decided;
use crate::ring::{Claim, Due, Kind, Lease, Seq, State, before, position_near};

/// Positions that one look follows the tail.
const WALK: u64 = 1 << 16;

/// The words of a slot as they stood at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Words {
    claim: Claim,
    seq: Seq,
    headers: u64,
    extent: u64,
}

impl Look<'_> {
    fn words_of(&self, slot: u64) -> Words {
        let mapped = &self.queue.mapped;
        Words {
            claim: Claim::from_bits(mapped.load(Place::Claim(slot), Acquire)),
            seq: Seq::from_bits(mapped.load(Place::Seq(slot), Acquire)),
            headers: mapped.header_word(slot).load(Acquire),
            extent: mapped.extent_word(slot).load(Acquire),
        }
    }

    /// The position in `slot` and a lap, next to the tail.
    fn position(&self, lap: u32, slot: u64) -> u64 {
        position_near(self.tail.get(), lap, slot, self.queue.mapped.capacity())
    }

    /// Whether a position is before the tail, which may have moved.
    fn is_before_tail(&self, position: u64) -> bool {
        let mut tail = self.tail.get();
        let mut steps = 0;
        while tail <= position && steps < WALK && is_decided(&self.queue.mapped, tail) {
            // A position that was scribbled may be the last there is.
            tail = tail.saturating_add(1);
            steps += 1;
        }
        self.tail.set(tail);
        position < tail
    }

    pub(super) fn claim(&self, slot: u64) -> Option<String> {
        let mapped = &self.queue.mapped;
        let claim = Claim::from_bits(mapped.load(Place::Claim(slot), Acquire));
        let capacity = mapped.capacity();
        let position = self.position(claim.lap(), slot);
        // Decided are all positions before the tail, and none at or after it.
        let least = self.tail_before.saturating_sub(capacity);
        if position < least || (position >= capacity && !self.is_before_tail(position)) {
            let laps = (
                self.tail_before.saturating_sub(slot + 1) / capacity,
                self.tail.get().saturating_sub(slot + 1) / capacity,
            );
            return expect(false, claim, format!("lap {} to {}", laps.0, laps.1));
        }
        if position < capacity {
            return expect(claim.bits() == 0, claim, "0, as nothing was ever claimed here");
        }
        if claim.real_lap(Mapped::SKIPS_MAX).is_some() && u64::from(claim.skips()) >= position / capacity {
            return expect(false, claim, "fewer skips than laps");
        }
        let owner = claim.owner().index();
        // What was made anew from a journal is nobody's.
        let made_anew = owner == 0 && self.queue.mapped.geometry().durable;
        let known = made_anew || (1..PARTICIPANTS as u16).contains(&owner);
        expect(known, claim, format!("an owner from 1 to {}", PARTICIPANTS - 1))
    }

    pub(super) fn slot(&self, slot: u64) -> Option<String> {
        let words = standing(|| self.words_of(slot))?;
        let lap = words.claim.real_lap(Mapped::SKIPS_MAX).unwrap_or(words.seq.lap());
        if before(lap, words.seq.lap()) {
            return expect(false, words.seq, format!("at most lap {lap}, the last claimed"));
        }
        if let Some(what) = self.extent(words.extent) {
            return Some(what);
        }
        let right = match words.seq.kind() {
            Kind::Never => words.seq.bits() == 0,
            Kind::Ready => true,
            Kind::Void => words.seq.len() == 0,
            Kind::Unknown => false,
        };
        if !right {
            return expect(false, words.seq, "0, READY or VOID");
        }
        if words.seq.lap() != lap {
            return self.unfinished(slot, words);
        }
        if words.seq.kind() == Kind::Ready { self.message(words) } else { None }
    }

    /// What is wrong with an extent word.
    fn extent(&self, word: u64) -> Option<String> {
        let (idle, pages) = (word >> 32, word & u64::from(u32::MAX));
        let most = self.queue.mapped.plan().extent_size / PAGE;
        expect(pages <= most, format_args!("an extent of {pages} pages"), format!("at most {most}")).or_else(
            || {
                let most = crate::mapped::IDLE_MAX;
                expect(idle <= most, format_args!("an extent idle {idle} times"), format!("at most {most}"))
            },
        )
    }

    /// What is wrong with a READY message's lengths.
    fn message(&self, words: Words) -> Option<String> {
        let geometry = self.queue.mapped.geometry();
        let (len, limit) = (u64::from(words.seq.len()), u64::from(geometry.max_message));
        let headers = words.headers;
        let pages = words.extent & u64::from(u32::MAX);
        expect(len <= limit, words.seq, format!("at most {limit} bytes"))
            .or_else(|| {
                let most = len.min(headers::MAX_BLOCK as u64);
                let right = headers <= most && headers.is_multiple_of(headers::ALIGN as u64);
                let expected = format!("at most {most} and a multiple of {}", headers::ALIGN);
                expect(right, format_args!("{headers} bytes of headers"), expected)
            })
            .or_else(|| {
                let right = len <= geometry.inline() || len <= pages * PAGE;
                expect(right, format_args!("{pages} pages in the extent"), format!("room for {len} bytes"))
            })
    }

    /// What is wrong with a position that was claimed and not finished.
    fn unfinished(&self, slot: u64, words: Words) -> Option<String> {
        let owner = words.claim.owner();
        self.owner(owner.index().into()).or_else(|| {
            let is_its = |role| matches!(role, Role::Producer { .. });
            let attached = self.queue.attachments().any(|(_, who)| who.owner == owner && is_its(who.role));
            // It may have finished and gone since the words were read.
            let still = self.words_of(slot) == words;
            expect(
                attached || !still,
                words.claim,
                "its claimant to have a producer here, or to have finished",
            )
        })
    }

    pub(super) fn lease(&self, of: u8, slot: u64) -> Option<String> {
        let mapped = &self.queue.mapped;
        let group = mapped.group(of);
        let read = || {
            let last = self.queue.last_in(slot, self.tail.get());
            let lease = Lease::from_bits(mapped.load(Place::Lease(of, slot), Acquire));
            let due = Due::from_bits(mapped.load(Place::Due(of, slot), Acquire));
            (last, lease, due, group.start.load(Acquire), group.state.load(Acquire))
        };
        let (last, lease, due, start, state) = standing(read)?;
        if !matches!(state, group::ACTIVE | group::LEAVING) {
            return None;
        }
        if lease.state() == State::Done {
            return self.settled(slot, last, lease, start);
        }
        self.unsettled(slot, last, lease, start, group.birth.load(Acquire))
            .or_else(|| self.failures(lease, group.max_deliveries.load(Relaxed)))
            .or_else(|| self.due(lease, due))
            .or_else(|| self.holder(of, slot, lease))
    }

    fn settled(&self, slot: u64, last: Last, lease: Lease, start: u64) -> Option<String> {
        // Words that a group is born with speak of a lap before its start.
        let unborn = self.position(lease.lap(), slot) < start;
        let clean = lease.failures() == 0 && lease.owner().index() == 0;
        let in_time = unborn || !before(last.lap, lease.lap());
        expect(in_time, lease, format!("at most lap {}, the last claimed", last.lap))
            .or_else(|| expect(clean, lease, "no failures and no owner, as it is settled"))
    }

    /// A message that is not settled keeps its slot: nobody may have claimed it since.
    fn unsettled(&self, slot: u64, last: Last, lease: Lease, start: u64, birth: u64) -> Option<String> {
        let position = self.position(lease.lap(), slot);
        let whole = last.lap == lease.lap() && last.seq.is_ready(lease.lap());
        // What is older than the group may be overwritten under its hands.
        let old = position < birth && !before(last.lap, lease.lap());
        expect(lease.state() != State::Unknown, lease, "a state from 0 to 5")
            .or_else(|| {
                let expected = format!("the lap of a message, but the slot has {:?}", last.seq);
                expect(whole || old, lease, expected)
            })
            .or_else(|| {
                expect(position >= start, lease, format!("a position from {start}, the group's start"))
            })
    }

    fn failures(&self, lease: Lease, max_deliveries: u32) -> Option<String> {
        let failures = u32::from(lease.failures());
        if lease.state() == State::Dead {
            let known = (REASON_MAX_DELIVERIES..=REASON_CORRUPT).contains(&lease.reason());
            let expected = format!("a reason from {REASON_MAX_DELIVERIES} to {REASON_CORRUPT}");
            return expect(known, lease, expected).or_else(|| {
                let right = max_deliveries == 0 || failures <= max_deliveries;
                expect(right, lease, format!("at most {max_deliveries} failures"))
            });
        }
        let right = max_deliveries == 0 || failures < max_deliveries;
        expect(right, lease, format!("fewer than {max_deliveries} failures, or dead"))
    }

    fn due(&self, lease: Lease, due: Due) -> Option<String> {
        let longest = match lease.state() {
            State::Timed if !due.is_back(lease) => LEASE_BOUNDS.1.as_millis() as u64,
            State::Timed => DELAY_MAX.as_millis() as u64,
            State::Retry => DELAY_MAX.as_millis() as u64,
            State::Dead => 0,
            _ => return None,
        };
        let latest = self.now_ms + longest + CLOCK_SLACK_MS;
        match due.time_of(lease) {
            Some(time) => expect(time <= latest, due, format!("at most {latest} ms, for {lease:?}")),
            // Its holder has not come to it yet.
            None if lease.state() == State::Timed => None,
            None => expect(false, due, format!("the tag of {lease:?}")),
        }
    }

    fn holder(&self, group: u8, slot: u64, lease: Lease) -> Option<String> {
        let owner = lease.owner();
        if lease.state() == State::Retry {
            return expect(owner.index() == 0, lease, "no owner, as nobody has it");
        }
        if !lease.is_held() {
            return None;
        }
        self.owner(owner.index().into()).or_else(|| {
            let is_its = |role| matches!(role, Role::Consumer { group: of, .. } if of == group);
            let attached = self.queue.attachments().any(|(_, who)| who.owner == owner && is_its(who.role));
            let still = self.queue.mapped.load(Place::Lease(group, slot), Acquire) == lease.bits();
            expect(attached || !still, lease, "its owner to have a consumer of the group")
        })
    }
}

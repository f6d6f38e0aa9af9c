//! Looking for a message, and turning one into a delivery.

use std::hint;
use std::sync::atomic::Ordering::Acquire;

use super::{Consumer, WRITING_PATIENCE};
use crate::delivery::policy::REASON_CORRUPT;
use crate::delivery::{Body, Held};
use crate::layout::queue::group;
use crate::mapped::View;
use crate::queue::attach::Attached;
use crate::ring::{Attention, Found, Leased, Ready, Unfinished};
use crate::sys::clock;
use crate::{Delivery, ReceiveError};

/// What a look gave.
pub(super) enum Look {
    Message(Leased),
    /// Nothing, and nothing before this time (milliseconds since boot) unless somebody publishes.
    Nothing {
        until_ms: Option<u64>,
    },
}

impl Consumer {
    /// A fresh message where nothing stands in the way: it is not time to look around, nothing was returned,
    /// and the next position is READY.
    #[inline(always)]
    pub(super) fn glance<const GATED: bool>(&self, view: &View<'_>) -> Ready {
        if self.rounds.is_due() || self.attached.forked() || self.in_flight.get() >= self.limit {
            return Ready::Unclear;
        }
        if self.subscriber.attention(view) != self.not_due.get() {
            return Ready::Unclear;
        }
        if GATED { self.subscriber.next_ready_behind(view) } else { self.subscriber.next_ready(view) }
    }

    /// Where the ring's words are, for one who has to do with the journal's group too. Whoever may take one or the
    /// other does so at the beginning, once: in a loop the two would be one, which knows less.
    #[inline(always)]
    pub(super) fn gated_view(&self) -> View<'_> {
        self.attached.queue.mapped.view()
    }

    /// Where the ring's words are, for one who has to do with the consumer's group only.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        self.attached.queue.mapped.view_of(self.group)
    }

    /// Some glances in a row, until one says more than that there is nothing yet.
    ///
    /// With all of the glance in the loop, a message that arrives finds its lease on the way already. A
    /// tighter loop was slower: it takes the line from the producer in the middle of its writes.
    pub(super) fn glance_about(&self) -> Option<Leased> {
        if self.gated {
            self.glance_about_in::<true>(&self.gated_view())
        } else {
            self.glance_about_in::<false>(&self.view())
        }
    }

    #[inline(always)]
    fn glance_about_in<const GATED: bool>(&self, view: &View<'_>) -> Option<Leased> {
        for _ in 0..self.glances {
            match self.glance::<GATED>(view) {
                Ready::Message(leased) => return Some(leased),
                Ready::NotYet => hint::spin_loop(),
                Ready::Unclear => return None,
            }
        }
        None
    }

    /// Whether the next position was found being written.
    pub(super) fn is_writing(&self) -> bool {
        self.writing.get().0 == self.subscriber.head()
    }

    pub(super) fn look_and_hand_over(&self, thorough: bool) -> Result<Option<Delivery<'_>>, ReceiveError> {
        match self.look(thorough)? {
            Look::Message(leased) => self.hand_over(leased),
            Look::Nothing { .. } => Ok(None),
        }
    }

    /// Looks for a message and leases it: returned ones first, then fresh ones.
    pub(super) fn look(&self, thorough: bool) -> Result<Look, ReceiveError> {
        let queue = &self.attached.queue;
        if self.attached.forked() {
            return Err(ReceiveError::Forked);
        }
        if self.in_flight.get() >= self.limit {
            return Err(ReceiveError::InFlightLimit { limit: self.limit });
        }
        if self.rounds.look() {
            // Who finds nothing has the time to read the exact clock; the coarse one has ticks of some milliseconds,
            // by which a death would be noticed later.
            let busy = self.rounds.is_due();
            self.look_around(if busy { clock::coarse_ms() } else { clock::boot_ms() })?;
        }
        let subscriber = &self.subscriber;
        let view = queue.mapped.view();
        let mut until_ms = None;
        let attention = subscriber.attention(&view);
        if attention != Attention::NONE {
            match subscriber.next_returned(&view, clock::coarse_ms(), self.ordered) {
                Found::Message(leased) => return Ok(Look::Message(leased)),
                // In an ordered group nothing overtakes it.
                Found::NotBefore(time) if self.ordered => return Ok(Look::Nothing { until_ms: Some(time) }),
                Found::NotBefore(time) => {
                    self.not_due.set(attention);
                    until_ms = Some(time);
                }
                Found::Empty | Found::Writing { .. } => {}
            }
        }
        // A slot that is held, by whichever group, is skipped by every lap: that must not cost a wait.
        let thorough = thorough || subscriber.is_behind(&view);
        match subscriber.next_fresh(&view, thorough, Unfinished::Wait) {
            Found::Message(leased) => Ok(Look::Message(leased)),
            Found::Writing { position, .. } if self.passes(position) => {
                match subscriber.next_fresh(&view, true, Unfinished::Pass) {
                    Found::Message(leased) => Ok(Look::Message(leased)),
                    _ => Ok(Look::Nothing { until_ms }),
                }
            }
            // Its producer rings no bell if it dies.
            Found::Writing { .. } => Ok(Look::Nothing { until_ms: Some(clock::coarse_ms() + 1) }),
            Found::Empty | Found::NotBefore(_) => Ok(Look::Nothing { until_ms }),
        }
    }

    /// Whether a position that is being written has been waited for long enough.
    fn passes(&self, position: u64) -> bool {
        let (last, times) = self.writing.get();
        let times = if last == position { times + 1 } else { 1 };
        self.writing.set((position, times));
        !self.ordered && times >= WRITING_PATIENCE
    }

    /// What is not done for every message: takes a turn at the sweep, notices that group or queue are gone.
    #[cold]
    fn look_around(&self, now_ms: u64) -> Result<(), ReceiveError> {
        let Attached { store, queue, .. } = &self.attached;
        if self.not_due.get().is_due(now_ms) {
            self.not_due.set(Attention::NONE);
        }
        if self.rounds.begin(now_ms) {
            return Ok(());
        }
        if queue.stops(store) {
            return Err(ReceiveError::Removed);
        }
        if queue.mapped.group(self.group).state.load(Acquire) != group::ACTIVE {
            return Err(ReceiveError::GroupRemoved);
        }
        let head = self.subscriber.head();
        self.rounds.swept.set(queue.tend(store, now_ms, Some((self.group, head))));
        self.attached.tell_in_flight(self.in_flight.get());
        Ok(())
    }

    /// Turns a leased message into a delivery. `None`: the lease was lost meanwhile.
    pub(super) fn hand_over(&self, leased: Leased) -> Result<Option<Delivery<'_>>, ReceiveError> {
        match self.hand_over_plain(&self.view(), leased) {
            Some(delivery) => Ok(Some(delivery)),
            None => self.hand_over_any(leased),
        }
    }

    /// `hand_over` where it is easy: the first delivery of a message that fits its slot and is to be copied,
    /// under a lease until death. `None`: nothing was done.
    #[inline(always)]
    pub(super) fn hand_over_plain(&self, view: &View<'_>, leased: Leased) -> Option<Delivery<'_>> {
        if !self.plain || leased.attempts != 1 || leased.position < self.birth {
            return None;
        }
        let span = view.span_in_slot(leased.position, leased.len)?;
        self.rounds.message();
        let mut parcel = self.spares.parcel();
        parcel.held = Held { position: leased.position, lease: leased.lease, attempts: 1 };
        parcel.body = Body::Copied(span.copy_to(&mut parcel.buffer));
        Some(Delivery::new(self, parcel))
    }

    #[inline(never)]
    pub(super) fn hand_over_any(&self, leased: Leased) -> Result<Option<Delivery<'_>>, ReceiveError> {
        self.rounds.message();
        let mapped = &self.attached.queue.mapped;
        let held = Held { position: leased.position, lease: leased.lease, attempts: leased.attempts.into() };
        if let Some(lease_ms) = self.lease_ms {
            // The coarse clock may be a tick behind, and tells whole milliseconds: the lease must not be shorter than
            // promised.
            let deadline = clock::coarse_ms() + clock::tick_ms() + 1 + lease_ms;
            if held.begin(mapped, self.group, deadline).is_err() {
                return Ok(None);
            }
        } else if leased.attempts > 1 && held.begin(mapped, self.group, 0).is_err() {
            return Ok(None);
        }
        let Ok(span) = mapped.span(leased.position, leased.len) else {
            self.park_unreadable(held);
            return Err(ReceiveError::Damaged { what: "a message is longer than its queue's limit" });
        };
        if leased.position < self.birth {
            return Ok(self.copy_old(held, leased.len));
        }
        let mut parcel = self.spares.parcel();
        parcel.held = held;
        if self.attached.store.trusted && self.lease_ms.is_none() {
            parcel.body = Body::InPlace(span);
            return Ok(Some(Delivery::new(self, parcel)));
        }
        parcel.body = Body::Copied(span.copy_to(&mut parcel.buffer));
        if self.lease_ms.is_some() && !held.stands(mapped, self.group) {
            self.spares.keep(parcel);
            return Ok(None);
        }
        Ok(Some(Delivery::new(self, parcel)))
    }

    /// Copies a message that is older than the group: a producer that knew nothing of the group may be
    /// overwriting it. Then it is gone.
    #[cold]
    fn copy_old(&self, held: Held, len: u32) -> Option<Delivery<'_>> {
        let mapped = &self.attached.queue.mapped;
        let mut parcel = self.spares.parcel();
        parcel.held = held;
        let copied = mapped.copy_unleased(held.position, len, &mut parcel.buffer);
        if let Some(headers) = copied
            && held.is_whole(mapped)
            && held.stands(mapped, self.group)
        {
            parcel.body = Body::Copied(headers);
            return Some(Delivery::new(self, parcel));
        }
        // A lease that was lost meanwhile is lost either way.
        let _ = held.ack(&self.view());
        None
    }

    #[cold]
    fn park_unreadable(&self, held: Held) {
        let _ = held.bury(self, REASON_CORRUPT);
    }
}

//! Consumers: receive under a lease.
//!
//! A receive is a number of *looks*, with waiting in between. One look (`look`) asks the ring for a returned
//! message, else for a fresh one, takes the lease and hands the message over as a delivery. Now and then a
//! consumer looks around, in place of a daemon: it does its share of the sweep and of recovery; how soon
//! again is for `rounds`. The waiting is here: spin, spin and then sleep, or sleep at once.

mod builder;
mod look;
mod rounds;
mod spares;

use std::cell::Cell;
use std::hint;
use std::thread;
use std::time::{Duration, Instant};

pub use self::builder::ConsumerBuilder;
use self::look::Look;
use self::rounds::Rounds;
use self::spares::Spares;
use crate::delivery::policy::FailurePolicy;
use crate::mapped::View;
use crate::queue::attach::Attached;
use crate::queue::bells::{NAP, NAP_ALONE};
use crate::ring::{Attention, Leased, Ready, Subscriber};
use crate::sys::clock;
use crate::{Delivery, ReceiveError, Received, Wait};

/// Glances at the next slot between two looks, with a processor's pause after each.
const GLANCES: u32 = 32;

/// Looks before an adaptive consumer sleeps: some 20 us.
const LOOKS: u32 = 64;

/// Looks before an adaptive consumer lets others run in between: where there are more processes than
/// processors, it may keep out the one it waits for.
const SPINS: u32 = 4;

/// The first look of a wait that reads the claim word of an empty slot too, which takes its line from the
/// producers: after more than a message's round trip, so that whoever answers at once is not slowed down.
const FIRST_THOROUGH: u32 = 8;

/// Looks from one such to the next.
const THOROUGH_EVERY: u32 = 32;

/// Looks at a position that a producer is writing before a relaxed group goes on without it.
const WRITING_PATIENCE: u32 = 64;

/// The sleep of the consumer that swept last: it is the one to do it again.
const SWEEPER_NAP: Duration = Duration::from_millis(5);

/// Receives from a group. `Send`, not `Sync`: one per thread.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let store = ringway::Store::open_or_create(dir.path().join("store"))?;
/// # let queue = ringway::Queue::options().open_or_create(&store, "orders")?;
/// # queue.producer().build()?.publish("x")?;
/// use std::time::Duration;
/// use ringway::Lease;
///
/// let worker = queue.consumer("default").lease(Lease::Timed(Duration::from_secs(5))).build()?;
/// while let Some(delivery) = worker.receive_timeout(Duration::from_millis(10))? {
///     match do_the_work(delivery.payload()) {
///         Ok(()) => delivery.ack()?,
///         Err(_) => delivery.nack()?,
///     }
/// }
/// # fn do_the_work(_: &[u8]) -> Result<(), ()> { Ok(()) }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    pub(crate) attached: Attached,
    pub(crate) group: u8,
    pub(crate) policy: FailurePolicy,
    /// Whether sleepers can be reached without a fence here.
    pub(crate) fenced: bool,
    pub(crate) in_flight: Cell<usize>,
    subscriber: Subscriber,
    lease_ms: Option<u64>,
    /// It gets only what the journal has.
    gated: bool,
    /// Leases have no deadline and messages are copied.
    plain: bool,
    ordered: bool,
    /// Positions before this are older than the group, and may be overwritten while they are read.
    birth: u64,
    limit: usize,
    wait: Wait,
    /// Glances between two looks.
    glances: u32,
    /// The same before the first look.
    first_glances: u32,
    pub(crate) spares: Spares,
    rounds: Rounds,
    /// The group's attention word when it was last found that nothing is due yet. As long as it stands, and
    /// its time has not come, fresh messages are received as if nothing had been returned.
    not_due: Cell<Attention>,
    /// A position that was found unfinished, and how often in a row.
    writing: Cell<(u64, u32)>,
}

impl Consumer {
    /// Waits for a message.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]: `InFlightLimit`, `GroupRemoved`, `Removed`, `Forked`; `Damaged` if a message cannot be
    /// read, which is then parked as a dead letter.
    #[inline(always)]
    pub fn receive(&self) -> Result<Delivery<'_>, ReceiveError> {
        let view = self.view();
        // The answer to what was just published is on its way: the first glances are here, with no call in
        // between. (None for those that get only what the journal has: they wait for a disk anyway.)
        for _ in 0..self.first_glances {
            match self.glance::<false>(&view) {
                Ready::Message(leased) => match self.hand_over_plain(&view, leased) {
                    Some(delivery) => return Ok(delivery),
                    None => return self.receive_other(leased),
                },
                Ready::NotYet => hint::spin_loop(),
                Ready::Unclear => break,
            }
        }
        self.receive_waiting()
    }

    #[inline(never)]
    fn receive_other(&self, leased: Leased) -> Result<Delivery<'_>, ReceiveError> {
        match self.hand_over_any(leased)? {
            Some(delivery) => Ok(delivery),
            None => self.receive_waiting(),
        }
    }

    #[inline(never)]
    fn receive_waiting(&self) -> Result<Delivery<'_>, ReceiveError> {
        loop {
            if let Some(delivery) = self.receive_until(None)? {
                return Ok(delivery);
            }
        }
    }

    /// A message if there is one.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    #[inline]
    pub fn try_receive(&self) -> Result<Option<Delivery<'_>>, ReceiveError> {
        if self.gated {
            self.try_receive_in::<true>(&self.gated_view())
        } else {
            self.try_receive_in::<false>(&self.view())
        }
    }

    #[inline(always)]
    fn try_receive_in<const GATED: bool>(
        &self,
        view: &View<'_>,
    ) -> Result<Option<Delivery<'_>>, ReceiveError> {
        match self.glance::<GATED>(view) {
            Ready::Message(leased) => self.hand_over(leased),
            Ready::NotYet | Ready::Unclear => self.look_and_hand_over(true),
        }
    }

    /// Waits for a message at most this long.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn receive_timeout(&self, timeout: Duration) -> Result<Option<Delivery<'_>>, ReceiveError> {
        match self.try_receive()? {
            None if !timeout.is_zero() => self.receive_until(Instant::now().checked_add(timeout)),
            found => Ok(found),
        }
    }

    /// Up to `max` messages: waits at most `wait` for the first, and takes of the others what is there.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive), if there is not even one.
    pub fn receive_batch(&self, max: usize, wait: Duration) -> Result<Vec<Delivery<'_>>, ReceiveError> {
        let mut batch = Vec::new();
        self.receive_batch_into(&mut batch, max, wait)?;
        Ok(batch)
    }

    /// The same, appended to `batch`, which can be used again: then nothing is allocated. How many there are.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let store = ringway::Store::open_or_create(dir.path().join("store"))?;
    /// # let queue = ringway::Queue::options().open_or_create(&store, "ticks")?;
    /// # queue.producer().build()?.publish("a tick")?;
    /// # let consumer = queue.consumer("default").build()?;
    /// # let wait = std::time::Duration::ZERO;
    /// let mut batch = Vec::new();
    /// while consumer.receive_batch_into(&mut batch, 16, wait)? > 0 {
    ///     for delivery in batch.drain(..) {
    ///         delivery.ack()?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive), if there is not even one.
    pub fn receive_batch_into<'c>(
        &'c self,
        batch: &mut Vec<Delivery<'c>>,
        max: usize,
        wait: Duration,
    ) -> Result<usize, ReceiveError> {
        if max == 0 {
            return Ok(0);
        }
        let Some(first) = self.receive_timeout(wait)? else { return Ok(0) };
        batch.push(first);
        Ok(if self.gated {
            self.receive_more::<true>(&self.gated_view(), batch, max)
        } else {
            self.receive_more::<false>(&self.view(), batch, max)
        })
    }

    /// What is there, up to `max` with the one that is in the batch. How many there are.
    #[inline(always)]
    fn receive_more<'c, const GATED: bool>(
        &'c self,
        view: &View<'_>,
        batch: &mut Vec<Delivery<'c>>,
        max: usize,
    ) -> usize {
        for count in 1..max {
            let delivery = match self.glance::<GATED>(view) {
                Ready::Message(leased) => match self.hand_over_plain(view, leased) {
                    Some(delivery) => Ok(Some(delivery)),
                    None => self.hand_over_any(leased),
                },
                // Nothing that is known of.
                Ready::NotYet => Ok(None),
                Ready::Unclear if self.in_flight.get() >= self.limit => Ok(None),
                Ready::Unclear => self.look_and_hand_over(true),
            };
            match delivery {
                Ok(Some(delivery)) => batch.push(delivery),
                // Whatever is wrong, the next call says so; these must not be lost to the caller.
                Ok(None) | Err(_) => return count,
            }
        }
        max
    }

    /// At most once: a message, already acked, or `None` after this time. It is lost if this process dies
    /// before it has done its work.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn receive_and_delete(&self, timeout: Duration) -> Result<Option<Received>, ReceiveError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            let Some(delivery) = self.receive_timeout(left)? else { return Ok(None) };
            let received = delivery.to_received();
            // A lease that was lost here is somebody else's message now.
            if delivery.ack().is_ok() {
                return Ok(Some(received));
            }
        }
    }

    /// An endless iterator of deliveries: [`receive`](Self::receive) again and again.
    pub fn messages(&self) -> Messages<'_> {
        Messages { consumer: self }
    }

    /// Deliveries that are not settled yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    fn receive_until(&self, deadline: Option<Instant>) -> Result<Option<Delivery<'_>>, ReceiveError> {
        let mut next_thorough = FIRST_THOROUGH;
        let mut slept = false;
        for look in 1_u32.. {
            // Who was woken looks for the message before looking around.
            if let Some(leased) = self.glance_about()
                && let Some(delivery) = self.hand_over(leased)?
            {
                return Ok(Some(delivery));
            }
            let thorough = look >= next_thorough;
            if let Some(delivery) = self.look_and_hand_over(thorough)? {
                return Ok(Some(delivery));
            }
            if thorough {
                next_thorough = look.wrapping_add(if self.is_writing() { 1 } else { THOROUGH_EVERY });
            }
            let left = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return self.look_and_hand_over(true),
                Some(left) => left,
                None => Duration::MAX,
            };
            let sleeps = match self.wait {
                Wait::Spin => false,
                Wait::Adaptive => look >= LOOKS,
                Wait::Park => true,
            };
            if sleeps {
                let nap = self.nap(slept);
                if let Some(delivery) = self.sleep(left.min(nap))? {
                    return Ok(Some(delivery));
                }
                slept = true;
            } else if self.wait == Wait::Adaptive && look >= SPINS {
                thread::yield_now();
            }
        }
        Ok(None)
    }

    /// How long to sleep at most: whoever swept last is the one to do it again. `slept`: nothing came during
    /// the last nap, so it is worth while to find out whether there is anything to be swept for.
    fn nap(&self, slept: bool) -> Duration {
        if slept && self.in_flight.get() == 0 && self.attached.is_only_consumer() {
            NAP_ALONE
        } else if self.rounds.swept.get() {
            SWEEPER_NAP
        } else {
            NAP
        }
    }

    /// Sleeps until there may be something, at most this long.
    #[cold]
    fn sleep(&self, mut nap: Duration) -> Result<Option<Delivery<'_>>, ReceiveError> {
        // A look before, to know until when there is nothing.
        match self.look(true)? {
            Look::Message(leased) => return self.hand_over(leased),
            Look::Nothing { until_ms: Some(until) } => {
                nap = nap.min(Duration::from_millis(until.saturating_sub(clock::boot_ms()).max(1)));
            }
            Look::Nothing { until_ms: None } => {}
        }
        let found = self.attached.queue.sleep_for_messages(self.group, nap, || match self.look(true) {
            Ok(Look::Nothing { .. }) => None,
            found => Some(found),
        });
        self.rounds.hasten();
        match found.transpose()? {
            Some(Look::Message(leased)) => self.hand_over(leased),
            _ => Ok(None),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.attached.store.forked() {
            return;
        }
        self.subscriber.leave(&self.attached.queue.mapped);
        // A delivery that was leaked is still leased: its record has to be found when this process ends.
        if self.in_flight.get() != 0 {
            self.attached.leave_for_recovery();
        }
    }
}

/// See [`Consumer::messages`].
#[derive(Debug)]
pub struct Messages<'c> {
    consumer: &'c Consumer,
}

impl<'c> Iterator for Messages<'c> {
    type Item = Result<Delivery<'c>, ReceiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.consumer.receive())
    }
}

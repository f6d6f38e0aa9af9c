//! Consumers: receive under a lease.

use std::cell::{Cell, RefCell};
use std::hint;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use crate::delivery::policy::{FailurePolicy, policy_of};
use crate::delivery::{Body, Held, Parcel};
use crate::layout::queue::group;
use crate::queue::attach::{Attached, Role};
use crate::queue::groups::settings_of;
use crate::ring::{Found, Leased, Subscriber, Unfinished};
use crate::sys::{clock, membarrier};
use crate::{Delivery, LEASE_BOUNDS, Lease, Order, Queue, ReceiveError, Received, StoreError, Wait};

/// Looks in a row, with a processor's pause after each, before an adaptive consumer sleeps: some 20 us.
const LOOKS: u32 = 2048;

/// Looks at an empty slot before its claim word is read too.
const LOOKS_PER_CLAIM: u32 = 32;

/// Looks at a position that a producer is writing before a relaxed group goes on without it.
const WRITING_PATIENCE: u32 = 64;

/// Futile looks before a consumer looks around again, at most.
const FUTILE_PER_ROUND: u32 = 64;

/// Messages before a consumer looks around again, at most.
const MESSAGES_PER_ROUND: u32 = 16;

/// The sleep of the consumer that swept last: it is the one to do it again.
const SWEEPER_NAP: Duration = Duration::from_millis(5);

/// Parcels that are kept for the next messages.
const SPARE_MAX: usize = 64;

/// Bytes of a parcel's buffer above which it is not kept.
const SPARE_BYTES: usize = 1 << 20;

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
    /// Nobody else writes the group's ledger, and leases have no deadline: plain stores do.
    pub(crate) alone: bool,
    pub(crate) policy: FailurePolicy,
    /// Whether sleepers can be reached without a fence here.
    pub(crate) fenced: bool,
    pub(crate) in_flight: Cell<usize>,
    subscriber: RefCell<Subscriber>,
    lease_ms: Option<u64>,
    ordered: bool,
    /// Positions before this are older than the group, and may be overwritten while they are read.
    birth: u64,
    limit: usize,
    wait: Wait,
    /// Parcels of settled deliveries. Boxed, since they are handed out by the box.
    #[expect(clippy::vec_box)]
    spare: RefCell<Vec<Box<Parcel>>>,
    rounds: Rounds,
    /// A position that was found unfinished, and how often in a row.
    writing: Cell<(u64, u32)>,
}

/// When a consumer last looked around, and how soon it does again.
///
/// Looking around takes a clock, so it is not done for every message. Futile looks and messages are counted apart: a consumer that
/// span for a while and then takes a message to work on for long must look around after that one.
#[derive(Debug)]
struct Rounds {
    futile_left: Cell<u32>,
    futile: Cell<u32>,
    messages_left: Cell<u32>,
    messages: Cell<u32>,
    last_ms: Cell<u64>,
    swept: Cell<bool>,
}

impl Rounds {
    fn new() -> Rounds {
        Rounds {
            futile_left: Cell::new(0),
            futile: Cell::new(1),
            messages_left: Cell::new(1),
            messages: Cell::new(1),
            last_ms: Cell::new(0),
            swept: Cell::new(false),
        }
    }

    /// A message was handed over.
    #[inline(always)]
    fn message(&self) {
        self.messages_left.set(self.messages_left.get().saturating_sub(1));
        if self.messages_left.get() == 0 {
            self.futile_left.set(0);
        }
    }

    /// Begins another round; whether the last one took less than the time between two sweeps, and there is nothing to do yet.
    fn begin(&self, now_ms: u64) -> bool {
        let hurried = now_ms < self.last_ms.get() + crate::queue::tend::SWEEP_MS;
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

/// How a consumer is made.
#[derive(Debug)]
pub struct ConsumerBuilder {
    queue: Queue,
    group: String,
    exclusive: bool,
    lease: Option<Lease>,
    max_in_flight: usize,
    wait: Wait,
}

impl ConsumerBuilder {
    pub(crate) fn new(queue: &Queue, group: &str) -> ConsumerBuilder {
        ConsumerBuilder {
            queue: queue.clone(),
            group: group.to_owned(),
            exclusive: false,
            lease: None,
            max_in_flight: 256,
            wait: Wait::default(),
        }
    }

    /// Takes the consumer role of the group alone: messages come strictly in order, a failed one before the next, and
    /// with a lease until death (the default then) no locked instruction is needed.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// How long a delivery stays with this consumer. Default: until death for exclusive consumers, else 30 s.
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How many deliveries it may hold unsettled: 1 to 65,536 (default 256).
    pub fn max_in_flight(mut self, deliveries: usize) -> Self {
        self.max_in_flight = deliveries;
        self
    }

    /// How to wait for messages.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Makes the consumer.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchGroup`]; `BadOption`; `RoleTaken` if another consumer of the group is exclusive, or this one is to be and there are
    /// others; `Removed`, `Forked`, `Exhausted`, `Io`.
    pub fn build(self) -> Result<Consumer, StoreError> {
        let lease_ms = self.lease_ms()?;
        if !(1..=65_536).contains(&self.max_in_flight) {
            return Err(StoreError::BadOption {
                option: "max_in_flight",
                found: self.max_in_flight.to_string(),
                expected: "1 to 65536".to_owned(),
            });
        }
        let Queue { store, core } = &self.queue;
        store.check_forked()?;
        core.check_removed()?;
        core.tidy_groups(store);
        let group = core.find_group(&self.group)?;
        let attached = Attached::new(store, core, Role::Consumer { group, exclusive: self.exclusive })?;
        // The name is the group's still: it cannot be removed while this record is there, but could before.
        if core.find_group(&self.group)? != group {
            return Err(StoreError::NoSuchGroup { queue: core.name.clone(), group: self.group });
        }
        core.mapped.populate();
        let words = core.mapped.group(group);
        let timed = lease_ms.is_some();
        let subscriber = Subscriber::new(&core.mapped, group, store.me, self.exclusive, timed);
        if self.exclusive {
            // What the predecessor left returned must be known before anything fresh is handed out.
            core.sweep_slots(group, 0..core.mapped.geometry().capacity, clock::boot_ms(), subscriber.head());
        }
        Ok(Consumer {
            group,
            alone: self.exclusive && !timed,
            policy: policy_of(words),
            fenced: membarrier::available(),
            in_flight: Cell::new(0),
            subscriber: RefCell::new(subscriber),
            lease_ms,
            ordered: self.exclusive || settings_of(core, group).order == Order::Ordered,
            birth: words.birth.load(Acquire),
            limit: self.max_in_flight,
            wait: self.wait,
            spare: RefCell::new(Vec::with_capacity(SPARE_MAX)),
            rounds: Rounds::new(),
            writing: Cell::new((0, 0)),
            attached,
        })
    }

    fn lease_ms(&self) -> Result<Option<u64>, StoreError> {
        let default = if self.exclusive { Lease::UntilDeath } else { Lease::Timed(Duration::from_secs(30)) };
        match self.lease.unwrap_or(default) {
            Lease::UntilDeath => Ok(None),
            Lease::Timed(time) if time >= LEASE_BOUNDS.0 && time <= LEASE_BOUNDS.1 => {
                Ok(Some(time.as_millis() as u64))
            }
            Lease::Timed(time) => Err(StoreError::BadOption {
                option: "lease",
                found: format!("{time:?}"),
                expected: "1 ms to 12 h".to_owned(),
            }),
        }
    }
}

/// What a look gave.
enum Look {
    Message(Leased),
    /// Nothing, and nothing before this time (milliseconds since boot) unless somebody publishes.
    Nothing {
        until_ms: Option<u64>,
    },
}

impl Consumer {
    /// Waits for a message.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]: `InFlightLimit`, `GroupRemoved`, `Removed`, `Forked`; `Damaged` if a message cannot be read, which is then parked as a dead letter.
    #[inline]
    pub fn receive(&self) -> Result<Delivery<'_>, ReceiveError> {
        if let Some(leased) = self.look_ahead()
            && let Some(delivery) = self.hand_over(leased)?
        {
            return Ok(delivery);
        }
        self.receive_waiting()
    }

    #[cold]
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
        match self.look_ahead() {
            Some(leased) => self.hand_over(leased),
            None => self.look_and_hand_over(true),
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
        if max == 0 {
            return Ok(batch);
        }
        batch.extend(self.receive_timeout(wait)?);
        while !batch.is_empty() && batch.len() < max && self.in_flight.get() < self.limit {
            match self.try_receive() {
                Ok(Some(delivery)) => batch.push(delivery),
                // Whatever is wrong, the next call says so; these must not be lost to the caller.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(batch)
    }

    /// At most once: a message, already acked, or `None` after this time. It is lost if this process dies before it has done its work.
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
        let mut looks = 0_u32;
        loop {
            let thorough = looks % LOOKS_PER_CLAIM == LOOKS_PER_CLAIM - 1;
            if let Some(delivery) = self.look_and_hand_over(thorough)? {
                return Ok(Some(delivery));
            }
            looks = looks.wrapping_add(1);
            let sleeps = match self.wait {
                Wait::Spin => false,
                Wait::Adaptive => looks >= LOOKS,
                Wait::Park => true,
            };
            if sleeps || looks.is_multiple_of(LOOKS_PER_CLAIM) {
                let left = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                    Some(Duration::ZERO) => return self.look_and_hand_over(true),
                    Some(left) => left,
                    None => Duration::MAX,
                };
                if sleeps {
                    if let Some(delivery) = self.sleep(left)? {
                        return Ok(Some(delivery));
                    }
                    continue;
                }
            }
            hint::spin_loop();
        }
    }

    /// Sleeps until there may be something, at most `longest`.
    #[cold]
    fn sleep(&self, longest: Duration) -> Result<Option<Delivery<'_>>, ReceiveError> {
        let mut nap = if self.rounds.swept.get() { longest.min(SWEEPER_NAP) } else { longest };
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
        self.rounds.futile_left.set(0);
        match found.transpose()? {
            Some(Look::Message(leased)) => self.hand_over(leased),
            _ => Ok(None),
        }
    }

    /// A fresh message where nothing stands in the way; it is not time to look around, nothing was returned, and the next
    /// position is READY. `None` says nothing.
    #[inline(always)]
    fn look_ahead(&self) -> Option<Leased> {
        let queue = &self.attached.queue;
        if self.rounds.futile_left.get() == 0 || self.attached.forked() || self.in_flight.get() >= self.limit
        {
            return None;
        }
        let mut subscriber = self.subscriber.borrow_mut();
        if subscriber.wants_attention(&queue.mapped) {
            return None;
        }
        subscriber.next_ready(&queue.mapped)
    }

    fn look_and_hand_over(&self, thorough: bool) -> Result<Option<Delivery<'_>>, ReceiveError> {
        match self.look(thorough)? {
            Look::Message(leased) => self.hand_over(leased),
            Look::Nothing { .. } => Ok(None),
        }
    }

    /// Looks for a message and leases it: returned ones first, then fresh ones.
    fn look(&self, thorough: bool) -> Result<Look, ReceiveError> {
        let queue = &self.attached.queue;
        if self.attached.forked() {
            return Err(ReceiveError::Forked);
        }
        if self.in_flight.get() >= self.limit {
            return Err(ReceiveError::InFlightLimit { limit: self.limit });
        }
        match self.rounds.futile_left.get() {
            0 => self.look_around()?,
            left => self.rounds.futile_left.set(left - 1),
        }
        let mut subscriber = self.subscriber.borrow_mut();
        let mut until_ms = None;
        if subscriber.wants_attention(&queue.mapped) {
            match subscriber.next_returned(&queue.mapped, clock::coarse_ms(), self.ordered) {
                Found::Message(leased) => return Ok(Look::Message(leased)),
                // In an ordered group nothing overtakes it.
                Found::NotBefore(time) if self.ordered => return Ok(Look::Nothing { until_ms: Some(time) }),
                Found::NotBefore(time) => until_ms = Some(time),
                Found::Empty | Found::Writing { .. } => {}
            }
        }
        match subscriber.next_fresh(&queue.mapped, thorough, Unfinished::Wait) {
            Found::Message(leased) => Ok(Look::Message(leased)),
            Found::Writing { position, .. } if self.passes(position) => {
                match subscriber.next_fresh(&queue.mapped, true, Unfinished::Pass) {
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
    ///
    #[cold]
    fn look_around(&self) -> Result<(), ReceiveError> {
        let Attached { store, queue, .. } = &self.attached;
        let now_ms = clock::coarse_ms();
        if self.rounds.begin(now_ms) {
            return Ok(());
        }
        if queue.is_removed() {
            return Err(ReceiveError::Removed);
        }
        if queue.mapped.group(self.group).state.load(Acquire) != group::ACTIVE {
            return Err(ReceiveError::GroupRemoved);
        }
        let head = self.subscriber.borrow().head();
        self.rounds.swept.set(queue.tend(store, now_ms, Some((self.group, head))));
        self.attached.tell_in_flight(self.in_flight.get());
        Ok(())
    }

    /// Turns a leased message into a delivery. `None`: the lease was lost meanwhile.
    #[inline]
    fn hand_over(&self, leased: Leased) -> Result<Option<Delivery<'_>>, ReceiveError> {
        self.rounds.message();
        let mapped = &self.attached.queue.mapped;
        let held = Held { position: leased.position, lease: leased.lease, attempts: leased.attempts.into() };
        if let Some(lease_ms) = self.lease_ms {
            // The coarse clock may be a tick behind: the lease must not be shorter than promised.
            let deadline = clock::coarse_ms() + clock::tick_ms() + lease_ms;
            held.begin(mapped, self.group, deadline);
        } else if leased.attempts > 1 {
            held.begin(mapped, self.group, 0);
        }
        let Ok(span) = mapped.span(leased.position, leased.len) else {
            self.park_unreadable(held);
            return Err(ReceiveError::Damaged { what: "a message is longer than its queue's limit" });
        };
        if leased.position < self.birth {
            return Ok(self.copy_old(held, leased.len));
        }
        let mut parcel = self.parcel(held);
        if self.attached.store.trusted && self.lease_ms.is_none() {
            parcel.body = Body::InPlace(span);
            return Ok(Some(Delivery::new(self, parcel)));
        }
        parcel.body = Body::Copied(span.copy_to(&mut parcel.buffer));
        if self.lease_ms.is_some() && !held.stands(mapped, self.group) {
            self.keep(parcel);
            return Ok(None);
        }
        Ok(Some(Delivery::new(self, parcel)))
    }

    /// Copies a message that is older than the group: a producer that knew nothing of the group may be overwriting it. Then it is gone.
    #[cold]
    fn copy_old(&self, held: Held, len: u32) -> Option<Delivery<'_>> {
        let mapped = &self.attached.queue.mapped;
        let mut parcel = self.parcel(held);
        let copied = mapped.copy_unleased(held.position, len, &mut parcel.buffer);
        if let Some(headers) = copied
            && held.is_whole(mapped)
            && held.stands(mapped, self.group)
        {
            parcel.body = Body::Copied(headers);
            return Some(Delivery::new(self, parcel));
        }
        // A lease that was lost meanwhile is lost either way.
        let _ = held.ack(mapped, self.group, self.alone);
        None
    }

    #[cold]
    fn park_unreadable(&self, held: Held) {
        let _ = held.bury(self, crate::delivery::policy::REASON_CORRUPT);
    }

    /// A parcel for a message; an old one if there is one.
    #[inline(always)]
    fn parcel(&self, held: Held) -> Box<Parcel> {
        match self.spare.borrow_mut().pop() {
            Some(mut parcel) => {
                parcel.held = held;
                parcel.settled = false;
                parcel
            }
            None => Box::new(Parcel { held, body: Body::Copied(0), buffer: Vec::new(), settled: false }),
        }
    }

    /// Keeps a parcel for the next message.
    #[inline(always)]
    pub(crate) fn keep(&self, mut parcel: Box<Parcel>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX && parcel.buffer.capacity() <= SPARE_BYTES {
            parcel.buffer.clear();
            spare.push(parcel);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.attached.store.forked() {
            return;
        }
        self.subscriber.borrow_mut().leave(&self.attached.queue.mapped);
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

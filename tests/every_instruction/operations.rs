//! The operations, as a victim carries them out: it takes part in the store, prepares, meets a breakpoint,
//! does one thing, tells on the board what came of it, and meets another breakpoint.

use std::path::Path;
use std::time::Duration;

use ringway::{
    Consumer, Delivery, GroupOptions, Lease, Producer, Queue, Removal, SettleError, SettleFailure, Store,
};

use super::board::{Board, Told};
use super::tracee::breakpoint;

/// The queue that victims and witnesses meet in.
pub(crate) const QUEUE: &str = "q";

/// What is left of an operation that was killed, and what may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The first of this many messages, in order; all if it returned.
    Published(usize),
    /// The given message, once: with one failure, or with none if the lease was not taken yet or not any
    /// more.
    Back { failures_if_done: u16, untouched_if_killed: bool },
    /// The given message is gone; or, if it did not return, there once.
    Gone { untouched_if_killed: bool },
    /// The given message is a dead letter; or, if it did not return, there once.
    Dead,
    /// Nothing.
    Nothing,
    /// The message that a dead process held, with one failure.
    Recovered,
    /// A queue, or none; one can be made and used.
    Queue,
    /// A group, or none; one can be made and removed.
    Group,
    /// A store, or none; one can be made and used.
    Store,
}

/// Who else may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Shared,
    /// The victim is the only producer.
    OnlyProducer,
    /// The victim is the only consumer.
    OnlyConsumer,
}

/// An operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// Whether a message is to be there before.
    pub(crate) given: bool,
    pub(crate) expect: Expect,
    /// Whether it can race with the end of its own lease.
    pub(crate) races: bool,
    victim: fn(Stage),
}

/// What a victim works with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) path: &'a Path,
    pub(crate) board: Board,
    /// What it publishes.
    pub(crate) messages: &'a [Vec<u8>],
    pub(crate) lease: Lease,
    pub(crate) role: Role,
}

impl Operation {
    /// Carries it out, in a victim.
    pub(crate) fn perform(&self, stage: Stage) {
        (self.victim)(stage)
    }
}

impl Stage<'_> {
    fn store(&self) -> Store {
        // SAFETY: all processes of this test keep to the protocol.
        unsafe { Store::options().trust_peers() }.open(self.path).expect("the victim opens the store")
    }

    fn queue(&self) -> Queue {
        self.store().queue(QUEUE).expect("the victim opens the queue")
    }

    /// A producer that has looked ahead already, as it does once in many messages. `publish_first` has not.
    fn producer(&self) -> Producer {
        let producer = build_producer(&self.queue(), self.role).expect("the victim's producer");
        producer.publish("own warm-up").expect("the victim publishes");
        producer
    }

    /// A consumer with the given message before it.
    fn consumer(&self) -> Consumer {
        let consumer = build_consumer(&self.queue(), self.role, self.lease).expect("the victim's consumer");
        // After a few looks in a row it leaves out what is not done for every message.
        for _ in 0..4 {
            assert!(consumer.try_receive().expect("the victim looks").is_none(), "nothing is given yet");
        }
        // Now the message is given.
        breakpoint();
        consumer
    }

    /// The operation itself.
    fn act(&self, operation: impl FnOnce() -> Told) -> ! {
        breakpoint();
        let told = operation();
        self.board.tell(told);
        breakpoint();
        // SAFETY: ends the process without destructors: what it holds is for the living to give back.
        unsafe { libc::_exit(0) }
    }
}

pub(crate) fn build_producer(queue: &Queue, role: Role) -> Result<Producer, ringway::StoreError> {
    let builder = queue.producer();
    if role == Role::OnlyProducer { builder.exclusive() } else { builder }.build()
}

pub(crate) fn build_consumer(
    queue: &Queue,
    role: Role,
    lease: Lease,
) -> Result<Consumer, ringway::StoreError> {
    let builder = queue.consumer("default").lease(lease);
    if role == Role::OnlyConsumer { builder.exclusive() } else { builder }.build()
}

fn done<T, E>(result: Result<T, E>) -> Told {
    if result.is_ok() { Told::Done } else { Told::Refused }
}

fn settled(result: Result<(), SettleError<Delivery<'_>>>) -> Told {
    match result {
        Ok(()) => Told::Done,
        Err(SettleError { failure: SettleFailure::LeaseLost, .. }) => Told::LeaseLost,
        Err(_) => Told::Refused,
    }
}

fn take(consumer: &Consumer) -> Delivery<'_> {
    consumer.receive_timeout(Duration::from_secs(5)).expect("receive").expect("the given message")
}

fn publish(stage: Stage) {
    let producer = stage.producer();
    let message = &stage.messages[0];
    stage.act(|| done(producer.publish(message)))
}

fn publish_first(stage: Stage) {
    let producer = build_producer(&stage.queue(), stage.role).expect("the victim's producer");
    let message = &stage.messages[0];
    stage.act(|| done(producer.publish(message)))
}

fn publish_batch(stage: Stage) {
    let producer = stage.producer();
    stage.act(|| {
        let results = producer.publish_batch(stage.messages);
        if results.iter().all(Result::is_ok) { Told::Done } else { Told::Refused }
    })
}

fn publish_loan(stage: Stage) {
    let producer = stage.producer();
    let message = &stage.messages[0];
    stage.act(|| {
        let Ok(mut loan) = producer.loan(message.len()) else { return Told::Refused };
        loan.copy_from_slice(message);
        done(loan.publish())
    })
}

fn received(result: Result<Option<Delivery<'_>>, ringway::ReceiveError>) -> Told {
    match result {
        Ok(Some(delivery)) => {
            // It stays in this process's hands.
            std::mem::forget(delivery);
            Told::Done
        }
        Ok(None) => Told::Empty,
        Err(_) => Told::Refused,
    }
}

fn receive(stage: Stage) {
    let consumer = stage.consumer();
    stage.act(|| received(consumer.try_receive()))
}

/// The first receive of a consumer looks around.
fn receive_and_sweep(stage: Stage) {
    let consumer = build_consumer(&stage.queue(), stage.role, stage.lease).expect("the victim's consumer");
    breakpoint();
    // So that it is time for a sweep, by the coarsest clock there is.
    std::thread::sleep(Duration::from_millis(12));
    stage.act(|| received(consumer.try_receive()))
}

fn receive_and_delete(stage: Stage) {
    let consumer = stage.consumer();
    stage.act(|| match consumer.receive_and_delete(Duration::ZERO) {
        Ok(Some(_)) => Told::Done,
        Ok(None) => Told::Empty,
        Err(_) => Told::Refused,
    })
}

fn ack(stage: Stage) {
    let consumer = stage.consumer();
    let delivery = take(&consumer);
    stage.act(|| settled(delivery.ack()))
}

fn nack(stage: Stage) {
    let consumer = stage.consumer();
    let delivery = take(&consumer);
    stage.act(|| settled(delivery.nack()))
}

fn release(stage: Stage) {
    let consumer = stage.consumer();
    let delivery = take(&consumer);
    stage.act(|| settled(delivery.release()))
}

fn reject(stage: Stage) {
    let consumer = stage.consumer();
    let delivery = take(&consumer);
    stage.act(|| settled(delivery.reject("no")))
}

fn extend(stage: Stage) {
    let consumer = stage.consumer();
    let mut delivery = take(&consumer);
    stage.act(|| match delivery.extend(Duration::from_secs(60)) {
        Ok(()) => Told::Done,
        Err(SettleFailure::LeaseLost) => Told::LeaseLost,
        Err(_) => Told::Refused,
    })
}

fn attach_producer(stage: Stage) {
    let queue = stage.queue();
    stage.act(|| done(build_producer(&queue, stage.role).map(drop)))
}

fn attach_consumer(stage: Stage) {
    let queue = stage.queue();
    stage.act(|| done(build_consumer(&queue, stage.role, stage.lease).map(drop)))
}

fn open(stage: Stage) {
    stage.act(|| done(Store::open(stage.path).and_then(|store| store.queue(QUEUE)).map(drop)))
}

fn repair(stage: Stage) {
    let store = stage.store();
    stage.act(|| done(store.repair()))
}

fn create_queue(stage: Stage) {
    let store = stage.store();
    stage.act(|| done(Queue::options().capacity(1024).max_groups(2).create(&store, MADE)))
}

fn remove_queue(stage: Stage) {
    let store = stage.store();
    Queue::options().capacity(1024).max_groups(2).create(&store, MADE).expect("the victim makes a queue");
    stage.act(|| done(store.remove_queue(MADE, Removal::IfUnused)))
}

fn add_group(stage: Stage) {
    let queue = stage.queue();
    stage.act(|| done(queue.add_group(MADE, GroupOptions::default())))
}

fn remove_group(stage: Stage) {
    let queue = stage.queue();
    queue.add_group(MADE, GroupOptions::default()).expect("the victim makes a group");
    stage.act(|| done(queue.remove_group(MADE, Removal::IfUnused)))
}

fn create_store(stage: Stage) {
    let path = other_store(stage.path);
    stage.act(|| done(Store::create(&path).map(drop)))
}

fn remove_store(stage: Stage) {
    let path = other_store(stage.path);
    let store = Store::create(&path).expect("the victim makes a store");
    Queue::options().capacity(1024).max_groups(2).create(&store, MADE).expect("and a queue");
    drop(store);
    stage.act(|| done(Store::remove(&path)))
}

/// The name of queues and groups that victims make and remove.
pub(crate) const MADE: &str = "made";

/// The store that victims make and remove.
pub(crate) fn other_store(path: &Path) -> std::path::PathBuf {
    path.with_extension("other")
}

const fn operation(
    name: &'static str,
    role: Role,
    given: bool,
    expect: Expect,
    victim: fn(Stage),
) -> Operation {
    Operation { name, role, given, expect, races: false, victim }
}

/// One that settles a lease, which may run out at the same time if others can have it.
const fn settling(name: &'static str, role: Role, expect: Expect, victim: fn(Stage)) -> Operation {
    let races = matches!(role, Role::Shared);
    Operation { name, role, given: true, expect, races, victim }
}

const RECEIVED: Expect = Expect::Back { failures_if_done: 1, untouched_if_killed: true };
const NACKED: Expect = Expect::Back { failures_if_done: 1, untouched_if_killed: false };
const RELEASED: Expect = Expect::Back { failures_if_done: 0, untouched_if_killed: true };

use Role::{OnlyConsumer, OnlyProducer, Shared};

/// What is done for every message.
pub(crate) const FAST: [Operation; 19] = [
    operation("publish", Shared, false, Expect::Published(1), publish),
    operation("publish_exclusive", OnlyProducer, false, Expect::Published(1), publish),
    operation("publish_large", Shared, false, Expect::Published(1), publish),
    operation("publish_batch", Shared, false, Expect::Published(3), publish_batch),
    operation("publish_batch_exclusive", OnlyProducer, false, Expect::Published(3), publish_batch),
    operation("publish_loan", Shared, false, Expect::Published(1), publish_loan),
    operation("receive_timed", Shared, true, RECEIVED, receive),
    operation("receive_until_death", Shared, true, RECEIVED, receive),
    operation("receive_exclusive", OnlyConsumer, true, RECEIVED, receive),
    operation(
        "receive_and_delete",
        Shared,
        true,
        Expect::Gone { untouched_if_killed: true },
        receive_and_delete,
    ),
    settling("ack", Shared, Expect::Gone { untouched_if_killed: false }, ack),
    settling("ack_exclusive", OnlyConsumer, Expect::Gone { untouched_if_killed: false }, ack),
    settling("nack", Shared, NACKED, nack),
    settling("nack_exclusive", OnlyConsumer, NACKED, nack),
    settling("release", Shared, RELEASED, release),
    settling("reject", Shared, Expect::Dead, reject),
    settling("extend", Shared, NACKED, extend),
    operation("attach_producer", Shared, false, Expect::Nothing, attach_producer),
    operation("attach_consumer", Shared, false, Expect::Nothing, attach_consumer),
];

/// What is done once in a while.
pub(crate) const SLOW: [Operation; 12] = [
    operation("publish_first", Shared, false, Expect::Published(1), publish_first),
    operation("receive_and_sweep", Shared, true, RECEIVED, receive_and_sweep),
    operation("attach_producer_exclusive", OnlyProducer, false, Expect::Nothing, attach_producer),
    operation("attach_consumer_exclusive", OnlyConsumer, false, Expect::Nothing, attach_consumer),
    operation("open_store", Shared, false, Expect::Nothing, open),
    operation("repair", Shared, true, Expect::Recovered, repair),
    operation("create_queue", Shared, false, Expect::Queue, create_queue),
    operation("remove_queue", Shared, false, Expect::Queue, remove_queue),
    operation("add_group", Shared, false, Expect::Group, add_group),
    operation("remove_group", Shared, false, Expect::Group, remove_group),
    operation("create_store", Shared, false, Expect::Store, create_store),
    operation("remove_store", Shared, false, Expect::Store, remove_store),
];

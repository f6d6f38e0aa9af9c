//! Ringway hands work from process to process on one host, without a server.
//!
//! # In one minute
//!
//! A [`Store`] is a directory in shared memory, and each [`Queue`] of it is a file that all its users map. A
//! [`Producer`] publishes to a queue; a [`Consumer`] receives for a *group*. Every group of a queue gets
//! every message; within a group each message is leased to one consumer at a time, as a [`Delivery`], until
//! that acknowledges it.
//!
//! ```
//! use std::time::Duration;
//! use ringway::{Message, Queue, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! # let path = place.path().join("shop");
//! // Each process opens the store by its path; whoever is first creates it.
//! let store = Store::open_or_create(&path)?;
//! let orders = Queue::options().capacity(4096).open_or_create(&store, "orders")?;
//!
//! // One process publishes. `Ok` means: visible to all, and whoever dies now, it stays.
//! let producer = orders.producer().build()?;
//! producer.publish("plain bytes")?;
//! producer.publish(Message::json(&["two", "pizzas"])?.with_type("order.placed"))?;
//!
//! // Another one receives. If it died here, somebody else would get the message at once.
//! let worker = orders.consumer("default").build()?;
//! let first = worker.receive()?;
//! assert_eq!(first.payload(), b"plain bytes");
//! first.ack()?;
//!
//! // What a worker cannot do goes back, and becomes a dead letter after too many failures.
//! let second = worker.receive()?;
//! assert_eq!(second.headers().message_type(), Some("order.placed"));
//! second.nack_after(Duration::from_millis(1))?;
//! let again = worker.receive()?;
//! assert_eq!((again.attempt(), again.failures()), (2, 1));
//! again.reject("nobody is hungry")?;
//! assert_eq!(orders.dead("default")?.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! - **At least once.** A message comes again if its consumer dies, drops or [nacks](Delivery::nack) it, or
//!   holds it longer than its lease; so handlers should be idempotent. [`Consumer::receive_and_delete`] is at
//!   most once.
//! - **Leases.** [`Lease::Timed`] ends by itself and can be [extended](Delivery::extend);
//!   [`Lease::UntilDeath`] ends when it is settled or the consumer's process is no more. A settle after the
//!   end is refused ([`SettleFailure::LeaseLost`]) and touches nothing.
//! - **Death** is what the kernel says, not a timeout: what a dead process held is given back by whoever
//!   receives next, or by [`Store::repair`]. A process that is paused is not dead.
//! - **Roles.** Any number of producers and of consumers in a group; or
//!   [exclusive](ProducerBuilder::exclusive) ones, which need no locked instruction per message.
//!   [`Order::Ordered`] groups hand out strictly by position.
//! - **Full.** A queue has a fixed number of slots, and each message that some group has not settled takes
//!   one. When there is none, `publish` gives the message back or waits ([`OnFull`]).
//! - **Forks.** Handles belong to the process that made them; a forked child gets `Forked` errors from them
//!   and opens the store anew.
//!
//! Every error says what was found, what was expected and what to do, and gives the message or the delivery
//! back. Nothing here panics for anything that a user, a file or another process does.
//!
//! The crate has no Cargo features. It runs on Linux on 64-bit processors; file systems shared over a network
//! are refused.
//!
//! # Where things are
//!
//! ```text
//! store  queue  producer  consumer  delivery  message  options  error
//!    |     the public face: what is asked for, checked, and put together
//!    v
//! queue/        a queue file: groups, attachments and roles, bells, the sweep, looking in, verify
//! participant/  who is alive, and what happens when someone dies
//! delivery/     leases in the hands of a consumer; what becomes of a failure
//! journal/      the log of a durable store: what outlasts a power cut
//!    |
//!    v
//! ring/         the algorithm: publish, receive, settle, repair. Owns no memory, reads no clock, asks no kernel
//!    |
//!    v
//! memory        the seam: each shared word there is, as a trait that models implement too
//!    ^
//!    |
//! mapped/       the implementation that ships: a mapped file, and the bytes of messages in it
//!    |
//!    v
//! layout/ sys/  where every byte is; the only code that calls the operating system
//! ```
//!
//! `ring/mod.rs` has the essay on the algorithm. In the repository, `docs/ARCHITECTURE.md` tells how the
//! parts play together, `docs/GUARANTEES.md` what is promised, `docs/FORMAT.md` what is in the files and
//! `docs/RELIABILITY.md` how all that is tested.

mod consumer;
mod delivery;
mod durable;
mod error;
mod journal;
mod layout;
mod mapped;
#[doc(hidden)]
pub mod memory;
mod message;
mod options;
mod participant;
mod producer;
mod queue;
#[doc(hidden)]
pub mod ring;
mod store;
mod sys;

pub use consumer::{Consumer, ConsumerBuilder, Messages};
pub use delivery::{Delivery, Received};
pub use durable::{
    Confirmed, JournalDamage, JournalInfo, JournalRecord, JournalRepair, JournalReport, JournalSegment,
};
pub use error::{
    ConfirmError, DurableError, PublishError, PublishFailure, ReceiveError, SettleError, SettleFailure,
    StoreError,
};
pub use journal::{Corruption, JournalError};
pub use message::{Headers, HeadersRef, Message, Payload};
pub use options::{
    Backoff, DurableOptions, GroupOptions, LEASE_BOUNDS, Lease, Level, OnFull, Order, Removal, Start, Wait,
};
pub use producer::{Loan, Producer, ProducerBuilder, Receipt};
pub use queue::{
    Browse, Browsed, DeadLetter, DeadReason, GroupInfo, MessageState, Peeked, Queue, QueueInfo, QueueOptions,
    Standing, VerifyReport, Violation,
};
pub use store::{Participant, RepairReport, Store, StoreOptions};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

/// Handles go to the thread that uses them; stores and queues are shared by all.
const _: () = {
    const fn sent<T: Send>() {}
    const fn shared<T: Send + Sync>() {}
    sent::<Producer>();
    sent::<Consumer>();
    shared::<Store>();
    shared::<Queue>();
};

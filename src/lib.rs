//! Ringway hands work from process to process on one host.

mod consumer;
mod delivery;
mod error;
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
pub use error::{PublishError, PublishFailure, ReceiveError, SettleError, SettleFailure, StoreError};
pub use message::{Headers, HeadersRef, Message, Payload};
pub use options::{Backoff, GroupOptions, LEASE_BOUNDS, Lease, OnFull, Order, Removal, Start, Wait};
pub use producer::{Loan, Producer, ProducerBuilder, Receipt};
pub use queue::{
    DeadLetter, DeadReason, GroupInfo, MessageState, Peeked, Queue, QueueInfo, QueueOptions, VerifyReport,
    Violation,
};
pub use store::{Participant, RepairReport, Store, StoreOptions};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

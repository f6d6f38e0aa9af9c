pub mod publish;
pub mod receive;
pub mod repair;
pub mod settle;
mod words;

pub use publish::{Full, Publisher};
pub use receive::{Found, Leased, Subscriber, Unfinished};
pub use words::*;

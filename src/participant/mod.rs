//! The processes attached to a store.

pub(crate) mod token;

//! The history checker of the kill harness on made-up histories: every verdict on one that earns it,
//! and none on good ones that come close.

mod bad;
mod good;
#[path = "../torture/history/mod.rs"]
mod history;
mod tale;

//! Tests of the log as a whole.

mod codec;
mod damage;
mod model;
mod power;
mod real;
mod relay;
mod story;

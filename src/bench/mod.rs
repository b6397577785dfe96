//! `millstream bench`: load from outside, through real connections, and what came of it.
//!
//! Owns load clients and their accounts; knows the client protocol and nothing of what is behind the
//! edge, so it measures a system on another machine as well.
//!
//! # Design
//! Load is open loop where a rate is given: the time of a send is planned by a clock that waits for
//! nobody, and latency counts from the plan, so a stall of the server costs every message that should
//! have been sent meanwhile. Each receiver keeps an account of each sender, so that loss, repeats
//! and disorder are counted rather than assumed.

mod account;
mod body;
mod catch_up;
mod client;
mod clock;
mod connect;
mod fan_out;
mod latency;
mod pacer;
mod publisher;
mod report;
mod storm;
mod subscriber;
mod target;

pub use catch_up::{CatchUpArgs, CatchUpReport};
pub use connect::{ConnectArgs, ConnectReport};
pub use fan_out::{FanOutArgs, FanOutReport, IngestArgs, LoadArgs};
pub use latency::Latency;
pub use report::Report;
pub use storm::{StormArgs, StormReport};
pub use target::{Target, TargetArgs};

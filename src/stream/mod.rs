//! The door to Redis: the log, its groups, leases, inboxes and scripts, as functions named by facts.
//!
//! Only this module names fred. Every function here takes and gives values of [`crate::model`];
//! what Redis says in words is turned into an [`Error`](crate::Error) with a
//! [`Kind`](crate::error::Kind) in one place, `failure`.
//!
//! **Invariant:** a command that got no answer is never sent again by the client library: its
//! caller decides, because only the caller knows whether twice is harmless.

mod call;
mod cluster;
mod connection;
mod dead;
mod device;
mod durability;
mod edge;
mod failure;
mod group;
mod group_info;
mod group_reader;
mod inbox;
mod initialise;
mod keys;
mod lease;
mod link;
mod log;
mod log_tail;
mod members;
mod meta;
mod plain;
mod publish;
mod ranges;
mod replay_job;
mod resp;
mod retry_dead;
mod scan;
mod script;
mod server;
mod signal;
mod survey;
mod topology;
mod trim;

pub use connection::{Reader, Redis, Waker};
pub use dead::{DEAD_ERROR_BYTES_MAX, DeadLetter};
pub use device::{DeviceCursors, DeviceHolder, Generation};
pub use durability::Verified;
pub use group::{Acknowledged, Claimed, GroupStream, MovedBack, Settlement, Spent};
pub use group_info::{ConsumerInfo, GroupInfo, PendingEntry, PendingSummary};
pub use group_reader::GroupReader;
pub use initialise::{Owed, Positions};
pub use keys::Keys;
pub use lease::Holder;
pub use log::RawEntry;
pub use members::{MemberStep, Step, Stepped};
pub use meta::Meta;
pub use publish::{Publish, Published, Seen};
pub use replay_job::ReplayJob;
pub use scan::{LogEntry, Scanned};
pub use script::{Arg, Reply, Script};
pub use server::Info;
pub use signal::SignalReader;
pub use survey::{SURVEY_ROOMS_MAX, Survey};
pub use trim::{ARCHIVE_GROUP, Counted, Trimmed, Trimmer};

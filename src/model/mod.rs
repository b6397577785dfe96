//! The words of the system: rooms, users, devices, ids, cursors, envelopes.
//!
//! Pure values with their limits; nothing here waits or knows a server.

mod catchup;
mod cursor;
mod entry;
mod envelope;
mod id;
mod room;

pub use catchup::{Answer, Answered, Ask, EdgeNote, Page, Request, Requests, ResetReason, Resume, Since};
pub use cursor::Cursor;
pub use entry::{Entry, EntryKind};
pub use envelope::{ENVELOPE_VERSION, Event, EventName, FileRef, Item, Message, SenderType};
pub use id::EntryId;
pub use room::{Cid, DeviceId, NAME_BYTES_MAX, PartitionId, Partitions, ROOM_BYTES_MAX, Room, UserId};

//! From a [`ServerFrame`] to the payload of a WebSocket message, appended to a buffer.
//!
//! Nothing is built in between: fields go straight into the buffer, and a body goes from its
//! envelope into a JSON frame as it stands.

mod map;
mod transcode;

use super::key::Key;
use super::server::{Limits, Member, ServerFrame, Welcome};
use super::{RequestRef, Subprotocol};
use crate::error::Result;
use crate::model::{Entry, EntryKind, Event, Item, Message, SenderType};
use map::Map;

impl ServerFrame<'_> {
    /// Its `type`: for labels, from a closed set. An entry is a `message` or an `event`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Joined { .. } => "joined",
            Self::Replay { .. } => "replay",
            Self::Live { .. } => "live",
            Self::Entry(entry) => entry_type(entry),
            Self::Sent { .. } => "sent",
            Self::Signal { .. } => "signal",
            Self::Receipt { .. } => "receipt",
            Self::History { .. } => "history",
            Self::Presence { .. } => "presence",
            Self::Reset { .. } => "reset",
            Self::Left { .. } => "left",
            Self::Pong { .. } => "pong",
            Self::Error { .. } => "error",
            Self::Bye { .. } => "bye",
        }
    }

    /// About the bytes that it takes, so that a page is not moved while it grows.
    pub(super) fn bytes_about(&self) -> usize {
        const FRAME_BYTES: usize = 256;
        // Names of fields, id, number, time.
        const ENTRY_BYTES: usize = 128;
        match self {
            Self::Replay { entries, .. } | Self::History { entries, .. } => {
                FRAME_BYTES + entries.iter().map(|entry| entry.envelope.len() + ENTRY_BYTES).sum::<usize>()
            }
            _ => FRAME_BYTES,
        }
    }

    /// Appends the frame's payload, without the header of WebSocket, to `out`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) if an envelope or the body in it is damaged;
    /// `out` then ends somewhere in the frame.
    pub fn write(&self, subprotocol: Subprotocol, out: &mut Vec<u8>) -> Result<()> {
        let mut map = Map::open(subprotocol, out);
        map.text(Key::Type, self.type_name());
        self.write_fields(&mut map)?;
        map.close();
        Ok(())
    }

    fn write_fields(&self, map: &mut Map<'_>) -> Result<()> {
        match *self {
            Self::Welcome(ref welcome) => write_welcome(map, welcome),
            Self::Joined { request_ref, room, resume, reason, since, head, unread } => {
                about(map, request_ref, room);
                map.text(Key::Resume, resume.as_str());
                map.text_if(Key::Reason, reason.map(|reason| reason.as_str()));
                map.cursor(Key::Since, since);
                map.cursor(Key::Head, head);
                map.uint(Key::Unread, unread);
            }
            Self::Replay { room, entries, more } => {
                map.text(Key::Room, room);
                write_entries(map, entries)?;
                map.flag(Key::More, more);
            }
            Self::Live { room, seq } => {
                map.text(Key::Room, room);
                map.uint(Key::Seq, seq);
            }
            Self::Entry(entry) => {
                map.text(Key::Room, &entry.room);
                write_entry(map, entry)?;
            }
            Self::Sent { request_ref, room, cid, id, seq, duplicate } => {
                about(map, request_ref, room);
                map.text(Key::Cid, cid);
                map.id(Key::Id, id);
                map.uint(Key::Seq, seq);
                map.flag(Key::Duplicate, duplicate);
            }
            Self::Signal { room, user, body } => {
                map.text(Key::Room, room);
                map.text(Key::User, user);
                map.json(Key::Body, body)?;
            }
            Self::Receipt { room, user, received, read } => {
                map.text(Key::Room, room);
                map.text(Key::User, user);
                map.uint(Key::Received, received);
                map.uint(Key::Read, read);
            }
            _ => return self.write_answer_fields(map),
        }
        Ok(())
    }

    /// The other half of [`Self::write_fields`].
    fn write_answer_fields(&self, map: &mut Map<'_>) -> Result<()> {
        match *self {
            Self::History { request_ref, room, entries, more, floor, head } => {
                about(map, request_ref, room);
                write_entries(map, entries)?;
                map.flag(Key::More, more);
                map.uint(Key::Floor, floor);
                map.cursor(Key::Head, head);
            }
            Self::Presence { request_ref, room, count, members } => {
                about(map, request_ref, room);
                map.uint(Key::Count, count);
                if let Some(members) = members {
                    write_members(map, members);
                }
            }
            Self::Reset { room, reason, from } => {
                map.text(Key::Room, room);
                map.text(Key::Reason, reason.as_str());
                map.cursor(Key::From, from);
            }
            Self::Left { request_ref, room, reason } => {
                about(map, request_ref, room);
                map.text_if(Key::Reason, reason.map(|reason| reason.as_str()));
            }
            Self::Pong { request_ref } => write_ref(map, request_ref),
            Self::Error { request_ref, room, cid, code, message, retry_after_ms } => {
                write_ref(map, request_ref);
                map.text_if(Key::Room, room);
                map.text_if(Key::Cid, cid);
                map.text(Key::Code, code.as_str());
                map.text(Key::Message, message);
                map.flag(Key::Retryable, code.retryable());
                map.uint_if(Key::RetryAfterMs, retry_after_ms);
            }
            Self::Bye { reason, reconnect, reconnect_after_ms } => {
                map.text(Key::Reason, reason);
                map.flag(Key::Reconnect, reconnect);
                map.uint_if(Key::ReconnectAfterMs, reconnect_after_ms);
            }
            _ => (),
        }
        Ok(())
    }
}

fn entry_type(entry: &Entry) -> &'static str {
    match entry.kind {
        EntryKind::Message => "message",
        EntryKind::Event => "event",
    }
}

fn write_ref(map: &mut Map<'_>, request_ref: Option<&RequestRef>) {
    match request_ref {
        None => (),
        Some(RequestRef::Unsigned(number)) => map.uint(Key::Ref, *number),
        Some(RequestRef::Negative(number)) => map.sint(Key::Ref, *number),
        Some(RequestRef::Text(text)) => map.text(Key::Ref, text),
    }
}

fn about(map: &mut Map<'_>, request_ref: Option<&RequestRef>, room: &str) {
    write_ref(map, request_ref);
    map.text(Key::Room, room);
}

fn write_welcome(map: &mut Map<'_>, welcome: &Welcome<'_>) {
    let Welcome { request_ref, connection, user, device, server, heartbeat_ms, expires_at, limits } = *welcome;
    write_ref(map, request_ref);
    map.text(Key::Connection, connection);
    map.text(Key::User, user);
    map.text(Key::Device, device);
    map.text(Key::Server, server);
    map.uint(Key::HeartbeatMs, heartbeat_ms);
    map.uint_if(Key::ExpiresAt, expires_at);
    let Limits { message_bytes, body_bytes, rooms, unacked_sends, sends_per_second } = limits;
    let mut map = map.map(Key::Limits);
    map.uint(Key::MessageBytes, message_bytes);
    map.uint(Key::BodyBytes, body_bytes);
    map.uint(Key::Rooms, rooms);
    map.uint(Key::UnackedSends, unacked_sends);
    map.uint(Key::SendsPerSecond, sends_per_second);
    map.close();
}

fn write_members(map: &mut Map<'_>, members: &[Member<'_>]) {
    map.array(Key::Members, members.len());
    for (at, member) in members.iter().enumerate() {
        let mut map = map.item(at);
        map.text(Key::User, member.user);
        map.uint(Key::Devices, member.devices);
        map.uint(Key::Since, member.since);
        map.close();
    }
    map.array_end();
}

/// `message` and `event` frames without `room`.
fn write_entries(map: &mut Map<'_>, entries: &[Entry]) -> Result<()> {
    map.array(Key::Entries, entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let mut map = map.item(at);
        map.text(Key::Type, entry_type(entry));
        write_entry(&mut map, entry)?;
        map.close();
    }
    map.array_end();
    Ok(())
}

fn write_entry(map: &mut Map<'_>, entry: &Entry) -> Result<()> {
    map.id(Key::Id, entry.id);
    map.uint(Key::Seq, entry.seq);
    let written = entry.open().and_then(|item| match item {
        Item::Message(message) => write_message(map, &message),
        Item::Event(event) => write_event(map, &event),
    });
    written.map_err(|error| error.context(&format!("encode entry {} of room {}", entry.id, entry.room)))?;
    map.at(entry.id);
    Ok(())
}

fn write_message(map: &mut Map<'_>, message: &Message<'_>) -> Result<()> {
    map.text(Key::User, message.user);
    map.text(Key::Device, message.device);
    map.text(Key::Cid, message.cid);
    map.text(Key::Kind, message.kind);
    map.json(Key::Body, message.body)?;
    if let Some(file) = message.file {
        let mut map = map.map(Key::File);
        map.text(Key::Url, file.url);
        map.text(Key::Name, file.name);
        map.close();
    }
    if message.sender_type != SenderType::User {
        map.text(Key::SenderType, message.sender_type.as_str());
    }
    Ok(())
}

fn write_event(map: &mut Map<'_>, event: &Event<'_>) -> Result<()> {
    map.text(Key::Event, event.event);
    map.text_if(Key::User, event.user);
    if let Some(data) = event.data {
        map.json(Key::Data, data)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! What an entry holds: a message or an event, as a versioned MessagePack array.
//!
//! # Design
//! A body is kept as compact JSON text: JSON frames and `jsonb` columns take it as it is, and only
//! MessagePack frames are transcoded, once for all receivers. Fields stand by position; a later
//! version appends fields, and a reader ignores those it doesn't know.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::EntryKind;
use crate::error::{Error, Kind, Result};

/// The version that this program writes, and the newest it reads.
pub const ENVELOPE_VERSION: u8 = 1;

/// Who sent a message: a person, the system, or a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SenderType {
    /// A person.
    #[default]
    User,
    /// The system itself.
    System,
    /// Another service.
    Service,
}

impl SenderType {
    /// Its name in frames, tokens and columns.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
            Self::Service => "service",
        }
    }
}

/// A file that a message refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef<'a> {
    /// Where it is; at most 2 KiB.
    pub url: &'a str,
    /// What it is called; at most 255 bytes.
    pub name: &'a str,
}

/// A message, borrowed from its envelope or from the frame that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who sent it.
    pub user: &'a str,
    /// From which device.
    pub device: &'a str,
    /// The device's own id for it.
    pub cid: &'a str,
    /// What sort of body it has; `text` by default.
    pub kind: &'a str,
    /// The body: compact JSON text.
    pub body: &'a str,
    /// Person, system or service.
    pub sender_type: SenderType,
    /// The file it refers to.
    pub file: Option<FileRef<'a>>,
}

/// The events that the system writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventName {
    /// First join or message of a room.
    RoomCreated,
    /// The room takes no more messages.
    RoomClosed,
    /// A user's stay began.
    UserJoined,
    /// A user's stay ended.
    UserLeft,
}

impl EventName {
    /// Its name in frames and columns.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoomCreated => "room_created",
            Self::RoomClosed => "room_closed",
            Self::UserJoined => "user_joined",
            Self::UserLeft => "user_left",
        }
    }
}

/// An event, borrowed from its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// What happened. Text, so that an older program passes on what a newer one wrote.
    pub event: &'a str,
    /// Whom it concerns.
    pub user: Option<&'a str>,
    /// More about it: compact JSON text.
    pub data: Option<&'a str>,
}

/// The content of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A numbered message.
    Message(Message<'a>),
    /// A fact about the room.
    Event(Event<'a>),
}

/// `[version, user, device, cid, kind, body, sender_type, file_url, file_name]`
#[derive(Serialize, Deserialize)]
struct MessageFields<'a>(u8, &'a str, &'a str, &'a str, &'a str, &'a str, u8, Option<&'a str>, Option<&'a str>);

/// `[version, event, user, data]`
#[derive(Serialize, Deserialize)]
struct EventFields<'a>(u8, &'a str, #[serde(borrow)] Option<&'a str>, #[serde(borrow)] Option<&'a str>);

/// An array that begins with the fields of a `T`. What a later version has appended is ignored.
struct Appendable<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Appendable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
                let known = T::deserialize(SeqAccessDeserializer::new(&mut items))?;
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(known)
            }
        }

        deserializer.deserialize_seq(Items(PhantomData)).map(Self)
    }
}

impl<'a> Item<'a> {
    /// Message or event.
    pub fn entry_kind(&self) -> EntryKind {
        match self {
            Self::Message(_) => EntryKind::Message,
            Self::Event(_) => EntryKind::Event,
        }
    }

    /// The envelope of this item.
    pub fn encode(&self) -> Vec<u8> {
        let encoded = match self {
            Self::Message(m) => rmp_serde::to_vec(&MessageFields(
                ENVELOPE_VERSION,
                m.user,
                m.device,
                m.cid,
                m.kind,
                m.body,
                m.sender_type as u8,
                m.file.map(|file| file.url),
                m.file.map(|file| file.name),
            )),
            Self::Event(e) => rmp_serde::to_vec(&EventFields(ENVELOPE_VERSION, e.event, e.user, e.data)),
        };
        encoded.expect("strings and small numbers always encode into memory")
    }

    /// Opens an envelope.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if it is damaged or of a version to come.
    pub fn decode(kind: EntryKind, envelope: &'a [u8]) -> Result<Self> {
        let corrupt = |e: rmp_serde::decode::Error| Error::new(Kind::Corrupt, "open an envelope").caused_by(e);
        match kind {
            EntryKind::Message => {
                let Appendable(MessageFields(version, user, device, cid, kind, body, sender_type, url, name)) =
                    rmp_serde::from_slice(envelope).map_err(corrupt)?;
                known(version)?;
                let sender_type = match sender_type {
                    0 => SenderType::User,
                    1 => SenderType::System,
                    2 => SenderType::Service,
                    other => return Err(Error::new(Kind::Corrupt, format!("open an envelope: sender type {other}"))),
                };
                let file = url.map(|url| FileRef { url, name: name.unwrap_or_default() });
                Ok(Self::Message(Message { user, device, cid, kind, body, sender_type, file }))
            }
            EntryKind::Event => {
                let Appendable(EventFields(version, event, user, data)) =
                    rmp_serde::from_slice(envelope).map_err(corrupt)?;
                known(version)?;
                Ok(Self::Event(Event { event, user, data }))
            }
        }
    }
}

fn known(version: u8) -> Result<()> {
    if version == ENVELOPE_VERSION {
        Ok(())
    } else {
        Err(Error::new(
            Kind::Corrupt,
            format!("open an envelope of version {version}: this program reads {ENVELOPE_VERSION}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Item<'_> {
        Item::Message(Message {
            user: "alice",
            device: "phone",
            cid: "c1",
            kind: "text",
            body,
            sender_type: SenderType::Service,
            file: Some(FileRef { url: "https://example.org/a", name: "a.png" }),
        })
    }

    #[test]
    fn an_envelope_comes_back_as_it_went_in() {
        let item = message(r#"{"text":"héllo"}"#);
        assert_eq!(Item::decode(EntryKind::Message, &item.encode()).unwrap(), item);
        let event = Item::Event(Event { event: "user_joined", user: Some("bob"), data: None });
        assert_eq!(Item::decode(EntryKind::Event, &event.encode()).unwrap(), event);
    }

    /// The library refuses an array with more items than it was asked for: while a newer edge runs beside older
    /// workers, they would park everything that it accepts.
    #[test]
    fn what_a_later_version_appends_is_ignored() {
        let more = (1, "alice", "phone", "c1", "text", "1", 0, None::<&str>, None::<&str>, "more", vec![(1, "x")]);
        let more = rmp_serde::to_vec(&more).unwrap();
        let Item::Message(message) = Item::decode(EntryKind::Message, &more).unwrap() else { panic!("an event") };
        assert_eq!((message.user, message.body, message.file), ("alice", "1", None));
        let more = rmp_serde::to_vec(&(1, "user_left", "bob", None::<&str>, 7)).unwrap();
        let left = Item::Event(Event { event: "user_left", user: Some("bob"), data: None });
        assert_eq!(Item::decode(EntryKind::Event, &more).unwrap(), left);
    }

    #[test]
    fn a_damaged_envelope_is_an_error() {
        let bytes = message("1").encode();
        for end in 0..bytes.len() {
            let error = Item::decode(EntryKind::Message, &bytes[..end]).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
        }
    }
}

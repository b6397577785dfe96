//! `millstream publish`: one message into a room, as a client would send it.

use serde_json::json;

use super::ending::Outcome;
use super::{output, settings};
use crate::error::{Error, Kind, Result};
use crate::model::{Cid, DeviceId, Item, Message, Room, SenderType, UserId};
use crate::protocol::{KIND_BYTES_MAX, KIND_DEFAULT, check_body};
use crate::publish::{Known, Outcome as Published, Publisher, mark};
use crate::service::SettingsArgs;
use crate::stream::{Generation, Publish};

/// Puts a message into a room, and returns when it is durable.
///
/// It goes the way of every message: clients see it, it is archived and called back. Repeated with the
/// same --cid it is stored once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream publish --room lobby --user alice 'hello'\n  \
    millstream publish --room orders:42 --user billing --kind paid '{\"amount\": 12}'\n  \
    millstream publish --room lobby --user alice --cid order-42-paid --json 'once, however often this is run'")]
pub(super) struct PublishArgs {
    /// The room.
    #[arg(long)]
    room: String,
    /// Who sends it.
    #[arg(long)]
    user: String,
    /// From which device; a cid is unique per device.
    #[arg(long, default_value = "millstream-cli")]
    device: String,
    /// Its own id: a repeat with the same one is stored once [default: made up].
    #[arg(long)]
    cid: Option<String>,
    /// What sort of body it has.
    #[arg(long, default_value = KIND_DEFAULT)]
    kind: String,
    /// As what it is sent.
    #[arg(long, value_name = "TYPE", default_value = "service")]
    sender_type: SenderName,
    /// Take BODY as text even if it is JSON.
    #[arg(long)]
    text: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// JSON, or else a text.
    #[arg(allow_hyphen_values = true)]
    body: String,
}

/// As what a message is sent.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum SenderName {
    /// A person.
    User,
    /// The system itself.
    System,
    /// Another service.
    Service,
}

impl From<SenderName> for SenderType {
    fn from(name: SenderName) -> Self {
        match name {
            SenderName::User => Self::User,
            SenderName::System => Self::System,
            SenderName::Service => Self::Service,
        }
    }
}

/// Publishes.
pub(super) async fn run(args: PublishArgs, flags: &SettingsArgs) -> Outcome {
    let room = Room::new(&args.room)?;
    let (user, device) = (UserId::new(&args.user)?, DeviceId::new(&args.device)?);
    let cid = match &args.cid {
        Some(cid) => Cid::new(cid)?,
        None => Cid::new(&uuid::Uuid::now_v7().to_string())?,
    };
    if args.kind.len() > KIND_BYTES_MAX {
        return Err(Error::invalid(format!("accept the kind: it is longer than {KIND_BYTES_MAX} bytes")).into());
    }
    let here = settings::open(flags).await?;
    let body = body(&args.body, args.text, here.settings.limits.body_bytes)?;
    let message = Message {
        user: &user,
        device: &device,
        cid: &cid,
        kind: &args.kind,
        body: &body,
        sender_type: args.sender_type.into(),
        file: None,
    };
    let mark = mark(&room, &message);
    let envelope = Item::Message(message).encode().into();
    let publisher =
        Publisher::start(&here.redis, &here.settings, here.partitions, Known::new(here.partitions, None)).await?;
    let (room_name, generation) = (room.clone(), Generation::default());
    let publish = Publish { room: room_name, user: user.clone(), device: device.clone(), generation, mark, envelope };
    let refused = |kind, what: String| Err(Error::new(kind, format!("publish to room {room}: {what}")).into());
    match publisher.publish(publish).await {
        Published::Accepted { place, duplicate } if args.json => {
            output::json(&json!({ "room": room, "cid": cid, "id": place.id, "seq": place.seq, "duplicate": duplicate }))
        }
        Published::Accepted { place, duplicate } => {
            let known = if duplicate { " (it was there already)" } else { "" };
            output::line(format!("{} #{}{known}", place.id, place.seq))
        }
        Published::CidConflict => refused(Kind::Invalid, format!("the cid {cid} was used for another message")),
        Published::RoomClosed => refused(Kind::RoomClosed, "the room is closed".to_owned()),
        // Superseded is a connection, and the command line has none.
        Published::Superseded(_) | Published::Unavailable => {
            let again =
                format!("the log can't be written now; run it again with --cid {cid}, which makes that harmless");
            refused(Kind::RedisRefused, again)
        }
    }
}

/// Compact JSON: what was given if it is JSON, else a string of it.
fn body(given: &str, as_text: bool, bytes_max: usize) -> Result<String> {
    let is_json = !as_text && serde_json::from_str::<&serde_json::value::RawValue>(given).is_ok();
    let text = if is_json { given.to_owned() } else { serde_json::Value::from(given).to_string() };
    let checked = check_body(&text, bytes_max);
    checked
        .map(std::borrow::Cow::into_owned)
        .map_err(|fault| Error::invalid(format!("accept the body: {}", fault.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_or_else_a_text() {
        assert_eq!(body(r#"{ "a": 1 }"#, false, 100).unwrap(), r#"{"a":1}"#);
        assert_eq!(body("hello", false, 100).unwrap(), r#""hello""#);
        assert_eq!(body("42", false, 100).unwrap(), "42");
        assert_eq!(body("42", true, 100).unwrap(), r#""42""#);
        assert_eq!(body("", false, 100).unwrap(), r#""""#);
    }

    #[test]
    fn a_body_outside_the_limits_is_refused() {
        assert_eq!(body("hello", false, 6).unwrap_err().kind(), Kind::Invalid);
        assert!(body(r#""\u0000""#, false, 100).is_err());
        assert!(body(&"[".repeat(40), false, 100).is_ok(), "it is no JSON, so it is a text");
    }
}

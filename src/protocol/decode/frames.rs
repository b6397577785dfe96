//! The frames of a client, by `type`.

use std::borrow::Cow;

use super::Fault;
use super::fields::Fields;
use super::value::Integer;
use crate::model::{Cid, Cursor, DeviceId, NAME_BYTES_MAX, Room};
use crate::protocol::client::{
    CLIENT_BYTES_MAX, ClientFrame, FILE_NAME_BYTES_MAX, FILE_URL_BYTES_MAX, FileAsked, HISTORY_LIMIT_DEFAULT,
    HISTORY_LIMIT_MAX, HistoryRange, KIND_BYTES_MAX, KIND_DEFAULT, LAST_MAX, SIGNAL_BYTES_MAX, SendFrame, SinceAsked,
};
use crate::protocol::key::Key;
use crate::protocol::{BodyFault, ErrorCode};

/// Reads what the frame's type has, and nothing else.
pub(super) fn read<'a>(fields: &Fields<'a>, body_bytes: usize) -> Result<ClientFrame<'a>, Fault> {
    Ok(match &*fields.text_required(Key::Type)? {
        "send" => ClientFrame::Send(send(fields, body_bytes)?),
        "ack" => ClientFrame::Ack { room: room(fields)?, seq: seq(fields)? },
        "read" => ClientFrame::Read { room: room(fields)?, seq: seq(fields)? },
        "signal" => ClientFrame::Signal { room: room(fields)?, body: signal_body(fields)? },
        "join" => ClientFrame::Join { room: room(fields)?, since: since(fields)? },
        "leave" => ClientFrame::Leave { room: room(fields)? },
        "history" => history(fields)?,
        "presence" => ClientFrame::Presence { room: room(fields)? },
        "hello" => hello(fields)?,
        "refresh" => ClientFrame::Refresh { token: fields.text_required(Key::Token)? },
        "ping" => ClientFrame::Ping,
        _ => return Err(Fault::new(ErrorCode::UnknownType, "unknown `type`")),
    })
}

fn hello<'a>(fields: &Fields<'a>) -> Result<ClientFrame<'a>, Fault> {
    let device = fields.short(Key::Device, NAME_BYTES_MAX)?;
    if device.as_deref().is_some_and(|device| !DeviceId::is_valid(device)) {
        return Err(Fault::kind(Key::Device, "1 to 64 bytes"));
    }
    let client = fields.text(Key::Client)?.map(|client| cut(client, CLIENT_BYTES_MAX));
    Ok(ClientFrame::Hello { token: fields.text(Key::Token)?, device, client })
}

fn send<'a>(fields: &Fields<'a>, body_bytes: usize) -> Result<SendFrame<'a>, Fault> {
    let room = room(fields)?;
    let cid = fields.text_required(Key::Cid)?;
    if !Cid::is_valid(&cid) {
        return Err(Fault::new(ErrorCode::BadCid, "`cid` must be 1 to 64 bytes, without U+0000"));
    }
    let kind = fields.short(Key::Kind, KIND_BYTES_MAX)?.unwrap_or(Cow::Borrowed(KIND_DEFAULT));
    Ok(SendFrame { room, cid, kind, file: file(fields)?, body: fields.body(body_bytes)? })
}

fn file<'a>(fields: &Fields<'a>) -> Result<Option<FileAsked<'a>>, Fault> {
    let Some(value) = fields.get(Key::File)? else { return Ok(None) };
    let file = value.fields().ok_or_else(|| Fault::kind(Key::File, "an object"))?;
    let required = |key, bytes_max| file.short(key, bytes_max)?.ok_or_else(|| Fault::missing(key));
    let url = required(Key::Url, FILE_URL_BYTES_MAX)?;
    Ok(Some(FileAsked { url, name: required(Key::Name, FILE_NAME_BYTES_MAX)? }))
}

fn history<'a>(fields: &Fields<'a>) -> Result<ClientFrame<'a>, Fault> {
    let room = room(fields)?;
    let range = match (fields.seq(Key::Before)?, fields.seq(Key::After)?) {
        (None, None) => HistoryRange::Newest,
        (Some(seq), None) => HistoryRange::Before(seq),
        (None, Some(seq)) => HistoryRange::After(seq),
        (Some(_), Some(_)) => return Err(Fault::bad_frame("`before` and `after` exclude each other")),
    };
    let limit = fields.count(Key::Limit)?.unwrap_or(HISTORY_LIMIT_DEFAULT).min(HISTORY_LIMIT_MAX);
    Ok(ClientFrame::History { room, range, limit })
}

fn since(fields: &Fields<'_>) -> Result<SinceAsked, Fault> {
    let malformed =
        || Fault::kind(Key::Since, "\"saved\", \"start\", \"now\", {\"last\": 1 to 1000} or {\"id\", \"seq\"}");
    let Some(value) = fields.get(Key::Since)? else { return Ok(SinceAsked::Saved) };
    if let Some(text) = value.text() {
        return match &*text {
            "saved" => Ok(SinceAsked::Saved),
            "start" => Ok(SinceAsked::Start),
            "now" => Ok(SinceAsked::Now),
            _ => Err(malformed()),
        };
    }
    let since = value.fields().ok_or_else(malformed)?;
    match (since.get(Key::Last)?, since.text(Key::Id)?, since.get(Key::Seq)?) {
        (Some(_), None, None) => match since.count(Key::Last)? {
            Some(last @ 1..=LAST_MAX) => Ok(SinceAsked::Last(last)),
            _ => Err(malformed()),
        },
        (None, Some(id), Some(seq)) => match (id.parse(), seq.integer()) {
            (Ok(id), Integer::Is(seq)) => {
                let seq = u64::try_from(seq).map_err(|_| malformed())?;
                Ok(SinceAsked::Cursor(Cursor::new(id, seq)))
            }
            _ => Err(malformed()),
        },
        _ => Err(malformed()),
    }
}

fn room<'a>(fields: &Fields<'a>) -> Result<Cow<'a, str>, Fault> {
    let room = fields.text_required(Key::Room)?;
    if Room::is_valid(&room) {
        Ok(room)
    } else {
        Err(Fault::new(ErrorCode::BadRoom, "`room` must be 1 to 128 bytes of A-Z a-z 0-9 _ - . : / @"))
    }
}

fn seq(fields: &Fields<'_>) -> Result<u64, Fault> {
    fields.seq(Key::Seq)?.ok_or_else(|| Fault::missing(Key::Seq))
}

fn signal_body<'a>(fields: &Fields<'a>) -> Result<Cow<'a, str>, Fault> {
    fields.body(SIGNAL_BYTES_MAX).map_err(|fault| match fault.code {
        ErrorCode::TooLarge => BodyFault { code: fault.code, message: "a signal is over 1 KiB" }.into(),
        _ => fault,
    })
}

/// The first `bytes_max` bytes, or a little less so that no character is cut.
fn cut(text: Cow<'_, str>, bytes_max: usize) -> Cow<'_, str> {
    let end = text.floor_char_boundary(bytes_max);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

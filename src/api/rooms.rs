//! Calls about rooms: publish, close, flush.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::problem::Problem;
use super::state::Api;
use crate::archive::flush as flush_archive;
use crate::model::{Cid, DeviceId, FileRef, Item, Message, Room, SenderType, UserId};
use crate::protocol::{FILE_NAME_BYTES_MAX, FILE_URL_BYTES_MAX, KIND_BYTES_MAX, KIND_DEFAULT, check_body};
use crate::publish::{Outcome, mark};
use crate::stream::{Generation, Publish};

/// Longest wait of a flush if the caller names none.
const FLUSH_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait of a flush that a caller may name, in milliseconds.
const FLUSH_PATIENCE_MAX_MS: u64 = 300_000;
/// The device of messages that come through the API and name none.
const API_DEVICE: &str = "api";

/// Memories of cids that the API has for each user, as many as devices.
const API_MEMORIES: u8 = 64;

/// A message to be put into a room.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// In whose name; `api` by default.
    user: Option<String>,
    /// The caller's own id for it: a repeat with the same one stores nothing again. Made up by default.
    cid: Option<String>,
    /// What sort of body it has; `text` by default.
    kind: Option<String>,
    /// Any JSON value.
    #[schema(value_type = Object)]
    body: Box<RawValue>,
    /// A file that it refers to.
    file: Option<NewFile>,
    /// `user`, `system` or `service` (by default).
    #[schema(value_type = Option<String>)]
    sender_type: Option<SenderType>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewFile {
    url: String,
    name: String,
}

/// Where a message stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Place {
    room: String,
    /// Its position in the log.
    id: String,
    /// Its number in the room.
    seq: u64,
    cid: String,
    /// Whether an earlier call had put it there.
    duplicate: bool,
}

/// Puts a message into a room; answers when it is in the log.
#[utoipa::path(
    post, path = "/api/v1/rooms/{room}/messages", tag = "rooms", security(("api_key" = [])),
    params(("room" = String, Path, description = "The room")), request_body = NewMessage,
    responses((status = 200, body = Place), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem, description = "The log can't be written now; repeat with the same cid"))
)]
pub(super) async fn publish(
    State(api): State<Arc<Api>>,
    Path(room): Path<String>,
    message: Result<Json<NewMessage>, JsonRejection>,
) -> Result<Json<Place>, Problem> {
    let Json(message) = message?;
    let room = name(Room::new(&room), "bad_room")?;
    let user = name(UserId::new(message.user.as_deref().unwrap_or(API_DEVICE)), "bad_request")?;
    let cid = message.cid.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let cid = name(Cid::new(&cid), "bad_cid")?;
    let publish = prepare(&api, &room, &user, &cid, &message)?;
    match api.publisher.publish(publish).await {
        Outcome::Accepted { place, duplicate } => Ok(Json(Place {
            room: room.to_string(),
            id: place.id.to_string(),
            seq: place.seq,
            cid: cid.to_string(),
            duplicate,
        })),
        Outcome::CidConflict => Err(Problem::conflict("cid_conflict", "this cid was used for another message")),
        Outcome::RoomClosed => Err(Problem::conflict("room_closed", "the room is closed")),
        // Superseded is a connection, and the API has none.
        Outcome::Superseded(_) | Outcome::Unavailable => {
            Err(Problem::unavailable("the log can't be written now; repeat with the same cid"))
        }
    }
}

fn prepare(api: &Api, room: &Room, user: &UserId, cid: &Cid, message: &NewMessage) -> Result<Publish, Problem> {
    let raw = message.body.get();
    let refused = |fault: crate::protocol::BodyFault| Problem::bad_request(fault.code.as_str(), fault.message);
    let body = check_body(raw, api.settings.limits.body_bytes).map_err(refused)?;
    let kind = message.kind.as_deref().unwrap_or(KIND_DEFAULT);
    let file = message.file.as_ref().map(|file| FileRef { url: &file.url, name: &file.name });
    let long_file = file.is_some_and(|f| f.url.len() > FILE_URL_BYTES_MAX || f.name.len() > FILE_NAME_BYTES_MAX);
    if kind.len() > KIND_BYTES_MAX || long_file {
        return Err(Problem::bad_request("bad_request", "kind or file is over its length"));
    }
    // Postgres has no U+0000: the archive could never store it.
    if kind.contains('\0') || file.is_some_and(|file| file.url.contains('\0') || file.name.contains('\0')) {
        return Err(Problem::bad_request("bad_request", "kind or file holds U+0000"));
    }
    let device = name(DeviceId::new(API_DEVICE), "bad_request")?;
    let message = Message {
        user,
        device: &device,
        cid,
        kind,
        body: &body,
        sender_type: message.sender_type.unwrap_or(SenderType::Service),
        file,
    };
    let mark = mark(room, &message);
    let envelope = Item::Message(message).encode().into();
    // A backend sends more than one device does: its cids are spread over many memories, so that
    // some thousands are remembered.
    let device = name(DeviceId::new(&format!("{API_DEVICE}-{:02x}", mark[0] % API_MEMORIES)), "bad_request")?;
    let generation = Generation::default();
    Ok(Publish { room: room.clone(), user: user.clone(), device, generation, mark, envelope })
}

fn name<T>(checked: crate::Result<T>, code: &'static str) -> Result<T, Problem> {
    checked.map_err(|error| Problem::bad_request(code, error.to_string()))
}

/// Whether a room was closed by this call.
#[derive(Serialize, ToSchema)]
pub(super) struct Closed {
    room: String,
    /// False: it was closed before.
    closed_now: bool,
}

/// Closes a room for good: it takes no more messages, and whoever follows it is put out once it has
/// got everything up to there.
#[utoipa::path(
    post, path = "/api/v1/rooms/{room}/close", tag = "rooms", security(("api_key" = [])),
    params(("room" = String, Path, description = "The room")),
    responses((status = 200, body = Closed), (status = 404, body = Problem))
)]
pub(super) async fn close(State(api): State<Arc<Api>>, Path(room): Path<String>) -> Result<Json<Closed>, Problem> {
    let room = name(Room::new(&room), "bad_room")?;
    let closed = api.redis.close_room(api.partitions.of(&room), &room).await?;
    let closed_now = closed.ok_or_else(|| Problem::no_such(format!("there is no room {room}")))?;
    Ok(Json(Closed { room: room.to_string(), closed_now }))
}

/// What to flush.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Flush {
    /// One room only; its whole partition is flushed.
    room: Option<String>,
    /// Longest wait in milliseconds.
    timeout_ms: Option<u64>,
}

/// What was flushed.
#[derive(Serialize, ToSchema)]
pub(super) struct Flushed {
    /// Partitions that held something.
    partitions: usize,
}

/// Waits until everything that was accepted before the call is in Postgres.
#[utoipa::path(
    post, path = "/api/v1/flush", tag = "rooms", security(("api_key" = [])), request_body = Flush,
    responses((status = 200, body = Flushed), (status = 503, body = Problem))
)]
pub(super) async fn flush(State(api): State<Arc<Api>>, body: axum::body::Bytes) -> Result<Json<Flushed>, Problem> {
    let wanted: Flush = if body.is_empty() {
        Flush::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request("bad_request", error.to_string()))?
    };
    let room = wanted.room.map(|room| name(Room::new(&room), "bad_room")).transpose()?;
    let patience = wanted.timeout_ms.map_or(FLUSH_PATIENCE, |ms| Duration::from_millis(ms.min(FLUSH_PATIENCE_MAX_MS)));
    let partitions = flush_archive(&api.redis, &api.store, api.partitions, room.as_ref(), patience).await?;
    Ok(Json(Flushed { partitions }))
}

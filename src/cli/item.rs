//! An entry as one line: JSON for scripts, words for people.

use super::output::{printable, time_of};
use crate::error::Result;
use crate::model::{Entry, Item};
use crate::protocol::{ServerFrame, Subprotocol, payload};

/// The `message` or `event` frame of the protocol, with `room`.
pub(super) fn json_line(entry: &Entry) -> Result<Vec<u8>> {
    payload(Subprotocol::Json, &ServerFrame::Entry(entry)).map(Into::into)
}

/// Time, room, number, who, and what.
pub(super) fn human_line(entry: &Entry) -> Result<String> {
    let (time, room) = (time_of(entry.id), &entry.room);
    Ok(match entry.open()? {
        Item::Message(message) => {
            let (user, device) = (printable(message.user), printable(message.device));
            let kind = if message.kind == "text" { String::new() } else { format!(" [{}]", printable(message.kind)) };
            let file = message.file.map_or_else(String::new, |file| format!(" ({})", printable(file.name)));
            format!("{time}  {room} #{}  {user}/{device}{kind}  {}{file}", entry.seq, printable(message.body))
        }
        Item::Event(event) => {
            let user = event.user.map_or_else(String::new, |user| format!(" {}", printable(user)));
            let data = event.data.map_or_else(String::new, |data| format!("  {}", printable(data)));
            format!("{time}  {room}  * {}{user}{data}", printable(event.event))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EntryId, Event, FileRef, Message, Room, SenderType};

    fn entry(item: &Item<'_>) -> Entry {
        Entry {
            id: EntryId::new(1_700_000_000_005, 0),
            room: Room::new("lobby").unwrap(),
            seq: 7,
            kind: item.entry_kind(),
            envelope: item.encode().into(),
        }
    }

    fn message(kind: &'static str, file: Option<FileRef<'static>>) -> Entry {
        let (user, device, cid, body) = ("al\u{1b}ice", "phone", "c", r#"{"text":"hi"}"#);
        entry(&Item::Message(Message { user, device, cid, kind, body, sender_type: SenderType::User, file }))
    }

    #[test]
    fn a_person_reads_who_said_what_where_and_when() {
        assert_eq!(
            human_line(&message("text", None)).unwrap(),
            r#"2023-11-14T22:13:20.005Z  lobby #7  al\u{1b}ice/phone  {"text":"hi"}"#
        );
        let file = Some(FileRef { url: "https://x/a", name: "a.png" });
        assert!(human_line(&message("image", file)).unwrap().ends_with(r#"phone [image]  {"text":"hi"} (a.png)"#));
        let event = Item::Event(Event { event: "user_joined", user: Some("bob"), data: None });
        assert_eq!(human_line(&entry(&event)).unwrap(), "2023-11-14T22:13:20.005Z  lobby  * user_joined bob");
    }

    #[test]
    fn a_script_reads_the_frame_of_the_protocol() {
        let line: serde_json::Value = serde_json::from_slice(&json_line(&message("text", None)).unwrap()).unwrap();
        assert_eq!((&line["type"], &line["room"], &line["seq"]), (&"message".into(), &"lobby".into(), &7.into()));
        assert_eq!(line["body"]["text"], "hi");
    }
}

//! A device as an application should be: it reconnects, sends again, and goes on after its cursor.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Came, Client, Format, token};

/// How long an answer may take before the device believes the connection to be dead.
const PATIENCE: Duration = Duration::from_secs(5);
/// Wait between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);
/// How often one who reads looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// A room that the device follows.
#[derive(Default)]
struct Followed {
    /// After what the next join goes on.
    cursor: Option<Value>,
    /// The messages, as (seq, cid).
    account: Vec<(u64, String)>,
    /// Entries of this connection that are in the account already.
    taken: usize,
}

/// A device that reads in a task of its own.
pub struct Reading {
    stop: watch::Sender<bool>,
    device: JoinHandle<Device>,
}

impl Reading {
    /// Ends the task; the device with what it has read so far.
    ///
    /// # Panics
    /// If what it read broke a promise.
    pub async fn device(self) -> Device {
        self.stop.send_replace(true);
        self.device.await.expect("what was read keeps the promises")
    }
}

/// A device.
pub struct Device {
    edges: Vec<String>,
    attempts: usize,
    format: Format,
    user: String,
    client: Option<Client>,
    rooms: BTreeMap<String, Followed>,
}

impl Device {
    /// A device of `user` that connects to the first of `edges`, and to the next when that fails.
    pub fn new(edges: &[String], format: Format, user: &str) -> Self {
        let (attempts, client, rooms) = (0, None, BTreeMap::new());
        Self { edges: edges.to_vec(), attempts, format, user: user.to_owned(), client, rooms }
    }

    /// Follows a room from its start.
    pub fn follow(&mut self, room: &str) {
        self.rooms.insert(room.to_owned(), Followed::default());
    }

    /// Sends until it is accepted; the message's seq.
    pub async fn send(&mut self, room: &str, cid: &str) -> u64 {
        let frame = json!({ "type": "send", "room": room, "cid": cid, "body": { "cid": cid } });
        loop {
            let client = self.connected().await;
            let mut answer = Came::Closed;
            if client.try_send_frame(&frame).await {
                answer = client.next_within(PATIENCE).await;
            }
            while let Came::Frame(frame) = &answer {
                if frame["cid"] == cid && (frame["type"] == "sent" || frame["type"] == "error") {
                    break;
                }
                answer = self.connected().await.next_within(PATIENCE).await;
            }
            match answer {
                Came::Frame(frame) if frame["type"] == "sent" => return frame["seq"].as_u64().unwrap(),
                Came::Frame(frame) => {
                    assert_eq!(frame["retryable"], true, "{frame}");
                    tokio::time::sleep(PAUSE).await;
                }
                Came::Nothing | Came::Closed => self.client = None,
            }
        }
    }

    /// Reads until `count` messages of a room are in its account; gives the account.
    pub async fn read(&mut self, room: &str, count: usize) -> Vec<(u64, String)> {
        let mut heard_at = Instant::now();
        while self.rooms[room].account.len() < count {
            self.read_some(PATIENCE, &mut heard_at).await;
        }
        self.rooms[room].account.clone()
    }

    /// Reads in a task of its own, from now on, until it is asked for.
    pub fn reading(mut self) -> Reading {
        let (stop, stopped) = watch::channel(false);
        let device = tokio::spawn(async move {
            let mut heard_at = Instant::now();
            while !*stopped.borrow() {
                self.read_some(LOOK, &mut heard_at).await;
            }
            self
        });
        Reading { stop, device }
    }

    /// Takes over what comes next, if something does within `wait`.
    async fn read_some(&mut self, wait: Duration, heard_at: &mut Instant) {
        let came = self.connected().await.next_within(wait).await;
        self.take_over();
        match came {
            Came::Frame(frame) => {
                assert_ne!(frame["resume"], "reset", "{frame}");
                assert_ne!(frame["type"], "reset", "{frame}");
                *heard_at = Instant::now();
            }
            // Perhaps nobody writes, perhaps the connection is dead.
            Came::Nothing if heard_at.elapsed() < PATIENCE => {}
            Came::Nothing | Came::Closed => {
                self.client = None;
                *heard_at = Instant::now();
            }
        }
    }

    /// Takes over what has come: an application's own cursor moves with its own account.
    fn take_over(&mut self) {
        let Some(client) = &self.client else { return };
        for (room, followed) in &mut self.rooms {
            let entries = client.account(room);
            for entry in &entries[followed.taken..] {
                followed.cursor = Some(json!({ "id": entry["id"], "seq": entry["seq"] }));
                if entry["type"] == "message" {
                    let message = (entry["seq"].as_u64().unwrap(), entry["cid"].as_str().unwrap().to_owned());
                    let before = followed.account.last().map_or(0, |(seq, _)| *seq);
                    assert_eq!(message.0, before + 1, "{room} over connections: after {before} came {entry}");
                    followed.account.push(message);
                }
            }
            followed.taken = entries.len();
        }
    }

    /// The connection; a new one, joined to all rooms after their cursors, if there is none.
    async fn connected(&mut self) -> &mut Client {
        while self.client.is_none() {
            let edge = &self.edges[self.attempts % self.edges.len()];
            self.attempts += 1;
            if let Some(client) = self.try_connect(edge).await {
                self.client = Some(client);
                self.rooms.values_mut().for_each(|followed| followed.taken = 0);
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.client.as_mut().expect("it was just made")
    }

    async fn try_connect(&self, edge: &str) -> Option<Client> {
        let headers = [("sec-websocket-protocol", self.format.subprotocol())];
        let mut client = Client::try_connect(edge, &headers, self.format).await.ok()?;
        let token = token(&self.user, &[("*", "rw")]);
        client.try_send_frame(&json!({ "type": "hello", "token": token, "device": "d" })).await.then_some(())?;
        let Came::Frame(welcome) = client.next_within(PATIENCE).await else { return None };
        if welcome["type"] != "welcome" {
            assert_eq!(welcome["retryable"], true, "{welcome}");
            return None;
        }
        for (room, followed) in &self.rooms {
            let since = followed.cursor.clone().unwrap_or_else(|| json!("start"));
            client.try_send_frame(&json!({ "type": "join", "room": room, "since": since })).await.then_some(())?;
        }
        Some(client)
    }
}

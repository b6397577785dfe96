//! `millstream connect`: a client in a terminal. What comes is printed, what is typed is sent.
//!
//! It keeps the promises that a client has to keep: a line that was not answered is sent again under
//! the same cid, what was printed is acknowledged, and a lost connection is made again. So an edge
//! may be killed in the middle of it.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::ending::Outcome;
use super::{output, settings};
use crate::auth::{Grant, Mint, mint};
use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::model::{SenderType, UserId};
use crate::service::SettingsArgs;
use crate::shutdown::Shutdown;

/// Lines that may wait for their answer; beyond, no more are read.
const UNANSWERED_MAX: usize = 32;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Follows a room as a client and sends each line that is typed.
///
/// It resumes after what it has printed, also over restarts: give the same --user and --device.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream connect --room lobby --user alice\n  \
    millstream connect --room lobby --token \"$TOKEN\" --url ws://127.0.0.1:7400\n  \
    seq 1000 | millstream connect --room lobby --user bob --json")]
pub(super) struct ConnectArgs {
    /// The room.
    #[arg(long)]
    room: String,
    /// Who: a token is made with auth.hs256_secret.
    #[arg(long, required_unless_present = "token")]
    user: Option<String>,
    /// A token, instead of --user.
    #[arg(long, env = "MILLSTREAM_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The device, whose cursor it resumes from.
    #[arg(long, default_value = "terminal")]
    device: String,
    /// The edge [default: edge.listen].
    #[arg(long)]
    url: Option<String>,
    /// Where to begin: saved, start or now.
    #[arg(long, default_value = "saved")]
    since: String,
    /// Print frames as they come.
    #[arg(long)]
    json: bool,
}

/// Runs until Ctrl-C, or until standard input has ended and every line of it is answered.
pub(super) async fn run(args: ConnectArgs, flags: &SettingsArgs) -> Outcome {
    let settings = settings::load(flags)?;
    let token = match (&args.token, &args.user) {
        (Some(token), _) => token.clone(),
        (None, user) => {
            let user = UserId::new(user.as_deref().unwrap_or_default())?;
            let grants = vec![Grant::new("*", "rw")];
            let ttl = Duration::from_secs(86_400);
            mint(&settings.auth, &Mint { user, sender_type: SenderType::User, grants, ttl })?
        }
    };
    let listen = settings.edge.listen.replace("0.0.0.0", "127.0.0.1");
    let url = format!("{}/v1/connect", args.url.clone().unwrap_or_else(|| format!("ws://{listen}")));
    let input = Some(BufReader::new(tokio::io::stdin()).lines());
    let mut client = Client { args, url, token, input, unanswered: VecDeque::new() };
    let shutdown = Shutdown::on_signals()?;
    match shutdown.or(client.run()).await {
        Some(ended) => ended,
        None => Ok(()),
    }
}

struct Client {
    args: ConnectArgs,
    url: String,
    token: String,
    input: Option<Lines<BufReader<Stdin>>>,
    /// Sent, or to be sent: cid and body.
    unanswered: VecDeque<(String, Value)>,
}

/// What happened first.
enum Came {
    Frame(Value),
    Line(Option<String>),
    Gone,
}

impl Client {
    async fn run(&mut self) -> Outcome {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
        loop {
            match self.connect().await {
                Ok(mut socket) => {
                    backoff.reset();
                    if self.talk(&mut socket).await? {
                        let _ = socket.close(None).await;
                        return Ok(());
                    }
                    output::note("the connection is gone, connecting again");
                }
                Err(error) if error.is_retryable() => {
                    if backoff.attempts() == 0 {
                        output::note(format!("{error}; trying again"));
                    }
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn connect(&self) -> Result<Socket> {
        let doing = format!("connect to {}", self.url);
        match tokio_tungstenite::connect_async(&self.url).await {
            Ok((socket, _)) => Ok(socket),
            Err(error @ tokio_tungstenite::tungstenite::Error::Url(_)) => Err(Error::invalid(doing).caused_by(error)),
            Err(error) => Err(Error::new(Kind::Endpoint, doing).caused_by(error)),
        }
    }

    /// Talks until the connection is gone (false) or everything is said (true).
    async fn talk(&mut self, socket: &mut Socket) -> Outcome<bool> {
        let hello =
            json!({ "type": "hello", "token": self.token, "device": self.args.device, "client": "millstream connect" });
        let join = json!({ "type": "join", "room": self.args.room, "since": self.args.since });
        let again: Vec<Value> = self.unanswered.iter().map(|(cid, body)| self.send_frame(cid, body)).collect();
        for frame in [hello, join].iter().chain(&again) {
            if say(socket, frame).await.is_err() {
                return Ok(false);
            }
        }
        loop {
            if self.input.is_none() && self.unanswered.is_empty() {
                return Ok(true);
            }
            match self.next(socket).await {
                Came::Gone => return Ok(false),
                Came::Line(None) => self.input = None,
                Came::Line(Some(line)) => {
                    let body = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    let cid = uuid::Uuid::now_v7().to_string();
                    let frame = self.send_frame(&cid, &body);
                    self.unanswered.push_back((cid, body));
                    // A frame that is lost is sent again on the next connection.
                    let _ = say(socket, &frame).await;
                }
                Came::Frame(frame) => self.frame(socket, &frame).await?,
            }
        }
    }

    async fn next(&mut self, socket: &mut Socket) -> Came {
        let full = self.unanswered.len() >= UNANSWERED_MAX;
        let line = async {
            match &mut self.input {
                Some(input) if !full => input.next_line().await.unwrap_or_default(),
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            line = line => Came::Line(line),
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => serde_json::from_str(&text).map_or(Came::Gone, Came::Frame),
                Some(Ok(Message::Close(_)) | Err(_)) | None => Came::Gone,
                Some(Ok(_)) => Came::Frame(Value::Null),
            },
        }
    }

    async fn frame(&mut self, socket: &mut Socket, frame: &Value) -> Outcome {
        if self.args.json && !frame.is_null() {
            output::json(frame)?;
        }
        match frame["type"].as_str().unwrap_or_default() {
            "sent" => self.unanswered.retain(|(cid, _)| *cid != frame["cid"]),
            "error" => self.refused(socket, frame).await?,
            "replay" if frame["room"] == self.args.room.as_str() => {
                for entry in frame["entries"].as_array().into_iter().flatten() {
                    self.show(entry)?;
                }
                self.ack(socket, frame["entries"].as_array().and_then(|entries| entries.last())).await;
            }
            "message" | "event" if frame["room"] == self.args.room.as_str() => {
                self.show(frame)?;
                self.ack(socket, Some(frame)).await;
            }
            "reset" => output::note(format!("the room begins anew: {}", frame["reason"])),
            "bye" if frame["reconnect"] == false => {
                return Err(Error::new(Kind::Fenced, format!("stay connected: {}", frame["reason"])).into());
            }
            _ => {}
        }
        Ok(())
    }

    /// A refusal of a line that may be sent again is no end of it; any other ends the command.
    async fn refused(&mut self, socket: &mut Socket, frame: &Value) -> Outcome {
        let told =
            format!("{}: {}", frame["code"].as_str().unwrap_or("error"), frame["message"].as_str().unwrap_or(""));
        if frame["retryable"] != true {
            return Err(Error::invalid(told).into());
        }
        let wait = frame["retry_after_ms"].as_u64().unwrap_or(500).min(5_000);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if let Some((cid, body)) = self.unanswered.iter().find(|(cid, _)| *cid == frame["cid"]) {
            let again = self.send_frame(cid, body);
            let _ = say(socket, &again).await;
        } else {
            output::note(told);
        }
        Ok(())
    }

    fn show(&self, entry: &Value) -> Outcome {
        if self.args.json {
            return Ok(());
        }
        let user = output::printable(entry["user"].as_str().unwrap_or("-"));
        if entry["type"] == "event" {
            return output::line(format!("     * {} {user}", output::printable(entry["event"].as_str().unwrap_or(""))));
        }
        let body = entry["body"].as_str().map_or_else(|| entry["body"].to_string(), str::to_owned);
        output::line(format!("{:>6} {user}: {}", entry["seq"].as_u64().unwrap_or(0), output::printable(&body)))
    }

    /// After printing: what is acknowledged does not come again.
    async fn ack(&self, socket: &mut Socket, last: Option<&Value>) {
        if let Some(seq) = last.and_then(|entry| entry["seq"].as_u64()).filter(|seq| *seq > 0) {
            let _ = say(socket, &json!({ "type": "ack", "room": self.args.room, "seq": seq })).await;
        }
    }

    fn send_frame(&self, cid: &str, body: &Value) -> Value {
        json!({ "type": "send", "room": self.args.room, "cid": cid, "body": body })
    }
}

async fn say(socket: &mut Socket, frame: &Value) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    socket.send(Message::text(frame.to_string())).await
}

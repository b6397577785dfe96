//! The module as a whole, against real HTTP servers on loopback.

mod answers;
mod order;
mod receiver;
mod server;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::dispatch::{Dispatcher, Site};
use super::endpoint::Endpoint;
use super::lanes::Lanes;
use super::ledger::Ledger;
use crate::config::{CallbackSettings, EndpointSettings, Secret, Span};
use crate::group::{Delivery, Handler as _, Lease, Settled, Settler};
use crate::model::{EntryId, Event, Item, Message, PartitionId, SenderType};
use crate::stream::RawEntry;

/// Longest wait for anything: a busy machine is no failure.
const DEADLINE: Duration = Duration::from_secs(30);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An endpoint on loopback that tries quickly, and often enough for any test that lets it.
fn endpoint(url: &str) -> EndpointSettings {
    EndpointSettings {
        name: "test".into(),
        url: url.into(),
        secrets: vec![Secret::new(SECRET)],
        max_retries: Some(3),
        retry_delay: Some(Span::millis(10)),
        timeout: Some(Span::secs(20)),
        allow_private: Some(true),
        ..EndpointSettings::default()
    }
}

/// The lanes of one partition and what came of it.
struct Bench {
    dispatcher: Arc<Dispatcher>,
    lanes: Option<Lanes>,
    lease: watch::Sender<bool>,
    outcomes: mpsc::UnboundedReceiver<(Delivery, Settled)>,
    settled: HashMap<EntryId, Settled>,
}

impl Bench {
    fn new(endpoint: EndpointSettings) -> Self {
        let retry_delay_max = Span::secs(1);
        let settings = CallbackSettings { endpoints: vec![endpoint], retry_delay_max, ..CallbackSettings::default() };
        let endpoint = Endpoint::all(&settings).unwrap().remove(0);
        let dispatcher = Arc::new(Dispatcher::new(endpoint).unwrap());
        let (lease, held) = Lease::new(PartitionId(3), 1);
        let site = Site {
            lease,
            ledger: Ledger::forgetful(),
            group: "callback:test".into(),
            redis: None,
            stop: CancellationToken::new(),
        };
        let (settler, outcomes) = Settler::channel();
        let lanes = Some(Lanes::new(dispatcher.clone(), site, settler));
        Self { dispatcher, lanes, lease: held, outcomes, settled: HashMap::new() }
    }

    async fn give(&mut self, batch: Vec<Delivery>) {
        self.lanes.as_mut().expect("it is open").handle(batch).await;
    }

    async fn close(&mut self, grace: Duration) {
        self.lanes.take().expect("it is open").close(grace).await;
    }

    /// How the entry with this number ended.
    async fn ended(&mut self, n: u64) -> Settled {
        let id = EntryId::new(1_700_000_000_000, n);
        loop {
            if let Some(settled) = self.settled.get(&id) {
                return settled.clone();
            }
            let next = tokio::time::timeout(DEADLINE, self.outcomes.recv()).await;
            let (delivery, settled) = next.unwrap_or_else(|_| panic!("{id} was not settled")).expect("it is open");
            assert!(self.settled.insert(delivery.id, settled).is_none(), "{} was settled twice", delivery.id);
        }
    }

    async fn all_done(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for n in numbers {
            assert_eq!(self.ended(n).await, Settled::Done, "entry {n}");
        }
    }

    /// The reason and the error of an entry that was given up.
    async fn parked(&mut self, n: u64) -> (&'static str, String) {
        match self.ended(n).await {
            Settled::Park { reason, error } => (reason, error),
            other => panic!("entry {n} ended as {other:?}"),
        }
    }

    /// How many were settled so far.
    fn settled_now(&mut self) -> usize {
        while let Ok((delivery, settled)) = self.outcomes.try_recv() {
            self.settled.insert(delivery.id, settled);
        }
        self.settled.len()
    }
}

/// Message number `n` of the partition, in `room`; its body is `n`.
fn message(room: &str, n: u64) -> Delivery {
    let body = n.to_string();
    let item = Item::Message(Message {
        user: "alice",
        device: "phone",
        cid: "c",
        kind: "text",
        body: &body,
        sender_type: SenderType::User,
        file: None,
    });
    delivery(room, n, &item)
}

fn event(room: &str, n: u64) -> Delivery {
    delivery(room, n, &Item::Event(Event { event: "user_joined", user: Some("bob"), data: None }))
}

fn delivery(room: &str, n: u64, item: &Item<'_>) -> Delivery {
    let id = EntryId::new(1_700_000_000_000, n);
    let field = |name: &'static str, value: Vec<u8>| (Bytes::from_static(name.as_bytes()), Bytes::from(value));
    let fields = vec![
        field("r", room.into()),
        field("s", n.to_string().into()),
        field("k", item.entry_kind().letter().into()),
        field("e", item.encode()),
    ];
    Delivery { id, raw: RawEntry { id, fields }, deliveries: 1, replay_of: None }
}

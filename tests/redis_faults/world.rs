//! The whole system on a Redis of its own, with traffic, and one who looks how sends are answered.

use serde_json::{Value, json};

use crate::support::{Client, Reading, Receiver, Redis, Stack, StackBuilder, Traffic, get, readers, wait_until};

/// Messages that have to be accepted between two faults.
pub(crate) const BETWEEN: u64 = 40;
/// The partitions of a [`Stack`].
pub(crate) const PARTITIONS: u16 = 4;
const EDGES: [&str; 2] = ["edge", "edge2"];
/// A room apart from those of the traffic.
const PROBED: &str = "probed";

/// The system under traffic.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) traffic: Traffic,
    pub(crate) receiver: Receiver,
    readers: Vec<Reading>,
}

/// One who sends messages one by one, and knows which were accepted.
pub(crate) struct Probe {
    client: Client,
    accepted: Vec<(u64, String)>,
    sends: usize,
}

/// Two edges and all workers; short leases, so that whoever lost one has it again within a test's patience.
pub(crate) fn builder(receiver: &Receiver) -> StackBuilder {
    Stack::builder()
        .edges(2)
        .data_callback(&receiver.url())
        .env("MILLSTREAM__GROUP__LEASE_TTL", "3s")
        .env("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms")
        .env("MILLSTREAM__ARCHIVE__MAX_DELAY", "100ms")
        .env("MILLSTREAM__EDGE__PUBLISH_RETRY", "500ms")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
}

impl World {
    /// On a new Redis with these options.
    pub(crate) async fn start(options: &[&str]) -> Self {
        Self::on(Redis::start(options).await).await
    }

    /// On this Redis.
    pub(crate) async fn on(redis: Redis) -> Self {
        let receiver = Receiver::start().await;
        let stack = builder(&receiver).redis(redis).start().await;
        Self::with(stack, receiver).await
    }

    /// Traffic on a system that is there.
    pub(crate) async fn with(stack: Stack, receiver: Receiver) -> Self {
        let traffic = Traffic::start(&stack, &EDGES);
        let readers = readers(&stack, &EDGES);
        traffic.goes_on(BETWEEN).await;
        Self { stack, traffic, receiver, readers }
    }

    pub(crate) fn redis(&self) -> &Redis {
        self.stack.redis()
    }

    /// A command that must not be refused.
    pub(crate) async fn command(&self, command: &str) {
        let reply = self.redis().command(command.split_whitespace()).await;
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }

    /// Waits until sends are accepted, enough of them to come from every writer.
    pub(crate) async fn goes_on(&self) {
        self.traffic.goes_on(BETWEEN).await;
    }

    /// One who will send, connected while it can be.
    pub(crate) async fn probe(&self) -> Probe {
        let client = self.stack.client("probe", "d").await;
        let mut probe = Probe { client, accepted: Vec::new(), sends: 0 };
        probe.is_accepted().await;
        probe
    }

    /// Acknowledged = log = archive = every reader's account = what the endpoint got; and every
    /// process is the one that was started, and has not panicked.
    pub(crate) async fn audit(self, probes: Option<Probe>) {
        let Self { stack, traffic, receiver, readers } = self;
        traffic.goes_on(BETWEEN).await;
        traffic.audit(&stack, readers, Some(&receiver)).await;
        if let Some(probe) = probes {
            assert_eq!(stack.logged(PROBED).await, probe.accepted);
            assert_eq!(stack.archived_when(PROBED, probe.accepted.len()).await, probe.accepted);
        }
        stack.assert_all_run();
    }
}

impl Probe {
    /// A send is refused now, in the words that the protocol has for it. It is sent again by the next
    /// [`Probe::is_accepted`].
    pub(crate) async fn is_refused(&mut self) {
        let error = self.answer().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("unavailable")), "{error}");
        assert_eq!(error["retryable"], true, "{error}");
        assert!(error["retry_after_ms"].is_u64(), "{error}");
    }

    /// A send is accepted, now or when it is repeated.
    pub(crate) async fn is_accepted(&mut self) {
        let cid = self.cid();
        let sent = self.client.send_until_sent(PROBED, &cid, json!(cid)).await;
        self.accepted.push((sent["seq"].as_u64().unwrap(), cid));
        self.sends += 1;
    }

    async fn answer(&mut self) -> Value {
        let cid = self.cid();
        self.client.send_frame(&json!({ "type": "send", "room": PROBED, "cid": cid, "body": cid })).await;
        loop {
            let frame = self.client.next_frame().await.expect("the edge keeps the connection");
            if frame["cid"] == cid {
                return frame;
            }
        }
    }

    fn cid(&self) -> String {
        format!("p-{}", self.sends)
    }
}

/// Joins a room, again as long as it can't be read; gives `joined` when everything was delivered.
pub(crate) async fn join(stack: &Stack, client: &mut Client, room: &str, since: &Value) -> Value {
    loop {
        client.send_frame(&json!({ "type": "join", "room": room, "since": since })).await;
        let answer = loop {
            let frame = client.next_frame().await.expect("the edge keeps the connection");
            if frame["room"] == room && (frame["type"] == "joined" || frame["type"] == "error") {
                break frame;
            }
        };
        if answer["type"] == "joined" {
            client.expect_in("live", room).await;
            return answer;
        }
        assert_eq!((&answer["code"], &answer["retryable"]), (&json!("unavailable"), &json!(true)), "{answer}");
        let addr = stack.addr("edge");
        wait_until("every partition is initialised", async || get(addr, "/readyz", &[]).await.0 == 200).await;
    }
}

/// The keys of all logs.
pub(crate) fn logs(stack: &Stack) -> Vec<String> {
    (0..PARTITIONS).map(|p| format!("{}:{{{p}}}:log", stack.prefix)).collect()
}

/// The groups of a log.
pub(crate) async fn groups_of(redis: &Redis, log: &str) -> Vec<String> {
    let groups = redis.command(["XINFO", "GROUPS", log]).await.list();
    groups.into_iter().map(|group| group.list()[1].text()).collect()
}

/// Waits until a section of `INFO` has this line.
pub(crate) async fn wait_for_info(redis: &Redis, section: &str, line: &str) {
    wait_until(&format!("INFO {section} says {line}"), async || {
        redis.command(["INFO", section]).await.text().lines().any(|found| found.trim() == line)
    })
    .await;
}

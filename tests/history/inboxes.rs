//! From requests in a stream to answers in inboxes.

use millstream::config::{GroupSettings, Span};
use millstream::group::{Delivery, Group, Handler, Lease, Runner, Settled, Settler};
use millstream::model::{Answer, Ask, EdgeNote, EntryId, Partitions, Request, Requests, Resume, Room, Since};
use millstream::replay::ReplayGroup;
use millstream::shutdown::Shutdown;
use millstream::stream::Arg;

use super::support::{eventually, wait_until_eq};
use super::world::{P, World, short};

impl World {
    /// Puts an entry into the stream of requests, and gives it as the runner would.
    async fn request(&self, value: Vec<u8>, id: &str) -> Delivery {
        let key = self.redis.keys().replay(P);
        let args = vec![Arg::from(key.clone()), Arg::from(id), Arg::from("q"), Arg::from(value)];
        let id: EntryId = self.redis.command("XADD", args).await.unwrap().text().unwrap().parse().unwrap();
        let raw = self.redis.range(&key, id, id, 1).await.unwrap().remove(0);
        Delivery { id, raw, deliveries: 1, replay_of: None }
    }

    async fn answers(&self, edge: &str) -> Vec<(Vec<u64>, Answer)> {
        let key = self.redis.keys().inbox(edge);
        let mut answers = Vec::new();
        for note in self.redis.range(&key, EntryId::ZERO, EntryId::MAX, 100).await.unwrap() {
            match rmp_serde::from_slice(note.field("m").unwrap()).unwrap() {
                EdgeNote::Answers(answered) => answers.extend(answered.into_iter().map(|a| (a.requests, a.answer))),
                other => panic!("{other:?}"),
            }
        }
        answers
    }

    /// Hands `batch` to the worker; how each delivery ended.
    async fn handle(&self, batch: Vec<Delivery>) -> Vec<(EntryId, Settled)> {
        let group = ReplayGroup::new(self.redis.clone(), self.history());
        let (lease, _held) = Lease::new(P, 1);
        let (settler, mut ended) = Settler::channel();
        group.open(lease, settler).await.unwrap().handle(batch).await;
        let mut settled = Vec::new();
        while let Ok((delivery, how)) = ended.try_recv() {
            settled.push((delivery.id, how));
        }
        settled
    }
}

fn join(request: u64, room: &str) -> Request {
    Request { request, room: Room::new(room).unwrap(), ask: Ask::Join(Since::Last(2)) }
}

fn encoded(edge: &str, requests: Vec<Request>) -> Vec<u8> {
    rmp_serde::to_vec(&Requests { edge: edge.into(), requests }).unwrap()
}

#[tokio::test]
async fn each_edge_finds_its_answers_in_its_inbox() {
    let world = World::new().await;
    world.messages("a", 3).await;
    world.messages("b", 1).await;
    let one = world.request(encoded("e1", vec![join(1, "a"), join(2, "b"), join(3, "a")]), "*").await;
    let two = world.request(encoded("e2", vec![join(9, "a")]), "*").await;
    let ids = [one.id, two.id];
    let settled = world.handle(vec![one, two]).await;
    assert_eq!(settled, ids.map(|id| (id, Settled::Done)));
    let joined = |answer: &Answer| match answer {
        Answer::Joined { resume: Resume::Fresh, page, .. } => short(&page.entries),
        other => panic!("{other:?}"),
    };
    let of_one = world.answers("e1").await;
    assert_eq!(of_one.iter().map(|(numbers, _)| numbers.clone()).collect::<Vec<_>>(), [vec![1, 3], vec![2]]);
    assert_eq!((joined(&of_one[0].1), joined(&of_one[1].1)), (vec!["m2".into(), "m3".into()], vec!["m1".to_owned()]));
    assert_eq!(world.answers("e2").await, [(vec![9], of_one[0].1.clone())]);
    // An edge that is gone reads nothing: its inbox must not stay.
    let life = world.redis.command("TTL", vec![world.redis.keys().inbox("e1")]).await.unwrap().int().unwrap();
    assert!((1..=60).contains(&life), "{life}");
}

#[tokio::test]
async fn old_requests_are_dropped_and_damaged_ones_parked() {
    let world = World::new().await;
    world.messages("a", 1).await;
    let old = world.request(encoded("e", vec![join(1, "a")]), "1000-0").await;
    let damaged = world.request(b"nonsense".to_vec(), "*").await;
    let good = world.request(encoded("e", vec![join(2, "a")]), "*").await;
    let ids = [old.id, damaged.id, good.id];
    let mut settled = world.handle(vec![old, damaged, good]).await;
    settled.sort_by_key(|(id, _)| *id);
    assert_eq!((settled[0].clone(), settled[2].clone()), ((ids[0], Settled::Done), (ids[2], Settled::Done)));
    assert!(matches!(&settled[1].1, Settled::Park { reason: "corrupt", .. }));
    assert_eq!(world.answers("e").await.iter().map(|(numbers, _)| numbers.clone()).collect::<Vec<_>>(), [vec![2]]);
}

/// Through the group: asked before the worker came, answered once, and nothing stays behind.
#[tokio::test]
async fn a_worker_answers_what_waits_and_leaves_the_stream_empty() {
    let world = World::new().await;
    world.messages("a", 3).await;
    let ask = async |edge: &str, numbers: std::ops::Range<u64>| {
        let requests = numbers.map(|number| join(number, "a")).collect();
        world.redis.ask_replay(P, &Requests { edge: edge.into(), requests }).await.unwrap();
    };
    ask("e1", 0..3).await;
    let settings = GroupSettings { lease_interval: Span::millis(100), ..GroupSettings::default() };
    let shutdown = Shutdown::new();
    let group = ReplayGroup::new(world.redis.another().await.unwrap(), world.history());
    let runner = Runner::new(world.redis.clone(), settings, Partitions::new(1).unwrap());
    let worker = tokio::spawn(runner.run(group, shutdown.clone()));
    let numbers = async |edge: &str| {
        let answers = eventually("answers", async || Some(world.answers(edge).await).filter(|a| !a.is_empty())).await;
        answers.into_iter().flat_map(|(numbers, _)| numbers).collect::<Vec<_>>()
    };
    assert_eq!(numbers("e1").await, [0, 1, 2]);
    ask("e2", 7..9).await;
    assert_eq!(numbers("e2").await, [7, 8]);
    let key = world.redis.keys().replay(P);
    wait_until_eq("the stream is empty", 0, async || world.redis.length(&key).await.unwrap()).await;
    shutdown.request();
    worker.await.unwrap().unwrap();
}

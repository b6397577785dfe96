//! Order, limits, stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::Notify;

use super::server::{Reply, Server, ok, status};
use super::*;
use crate::config::EndpointKind;

/// Numbers of the requests for one room, repeats included.
fn of_room(server: &Server, room: &str) -> Vec<u64> {
    server.order().into_iter().filter(|(other, _)| other == room).map(|(_, n)| n).collect()
}

#[tokio::test]
async fn a_failing_message_holds_its_room_in_order_and_no_other() {
    let (failed, b_came) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let b_has_come = b_came.clone();
    // The first of room a fails until room b has come through: so b can't have waited for it.
    let server = Server::start(move |request| match request.what() {
        (room, 1) if room == "a" && (failed.fetch_add(1, Ordering::SeqCst) < 2 || !b_came.load(Ordering::SeqCst)) => {
            status(500)
        }
        (room, 6) if room == "b" => {
            b_came.store(true, Ordering::SeqCst);
            ok()
        }
        _ => ok(),
    })
    .await;
    let mut bench = Bench::new(EndpointSettings { max_retries: Some(1_000), ..endpoint(&server.url()) });
    let rooms = ["a", "a", "a", "b", "b", "b"];
    bench.give(rooms.iter().zip(1..).map(|(room, n)| message(room, n)).collect()).await;
    bench.all_done(1..=6).await;
    assert!(b_has_come.load(Ordering::SeqCst));
    let a = of_room(&server, "a");
    assert!(a.len() >= 5, "the first was not repeated: {a:?}");
    assert!(a.windows(2).all(|pair| pair[0] <= pair[1]), "out of order: {a:?}");
    assert_eq!(of_room(&server, "b"), [4, 5, 6]);
}

#[tokio::test]
async fn rooms_proceed_while_one_has_no_answer() {
    let answer = Arc::new(Notify::new());
    let held = answer.clone();
    let server = Server::start(move |request| match request.what() {
        (_, 1) => Reply::After(held.clone()),
        _ => ok(),
    })
    .await;
    let mut bench = Bench::new(endpoint(&server.url()));
    bench.give(vec![message("a", 1), message("a", 2), message("b", 3), message("b", 4)]).await;
    bench.all_done([3, 4]).await;
    assert_eq!(of_room(&server, "a"), [1], "the second of a room was attempted before the first had ended");
    answer.notify_one();
    bench.all_done([1, 2]).await;
}

#[tokio::test]
async fn no_more_attempts_are_under_way_than_allowed() {
    let answer = Arc::new(Notify::new());
    let held = answer.clone();
    let server = Server::start(move |_| Reply::After(held.clone())).await;
    let mut bench = Bench::new(EndpointSettings { concurrency: 2, ..endpoint(&server.url()) });
    bench.give((1..=5).map(|n| message(&format!("room{n}"), n)).collect()).await;
    for seen in 2..=5 {
        server.saw(seen).await;
        // The next one can't be on its way: both slots are taken until an answer goes out.
        assert_eq!(server.seen().len(), seen);
        answer.notify_one();
    }
    answer.notify_one();
    bench.all_done(1..=5).await;
}

#[tokio::test]
async fn what_is_not_wanted_is_done_at_once() {
    let server = Server::start(|_| ok()).await;
    let wants =
        EndpointSettings { kinds: vec![EndpointKind::RoomEvents], rooms: "team:*".into(), ..endpoint(&server.url()) };
    let mut bench = Bench::new(wants);
    bench.give(vec![message("team:1", 1), event("lobby", 2), event("@all", 3), event("team:1", 4)]).await;
    bench.all_done(1..=4).await;
    assert_eq!(server.order(), [("team:1".to_owned(), 4)]);
}

#[tokio::test]
async fn a_damaged_entry_is_parked_and_harms_nobody() {
    let server = Server::start(|_| ok()).await;
    let mut bench = Bench::new(endpoint(&server.url()));
    let (mut no_room, mut no_envelope) = (message("a", 1), message("a", 2));
    no_room.raw.fields.remove(0);
    no_envelope.raw.fields[3].1 = Bytes::from_static(b"\xc1");
    bench.give(vec![no_room, no_envelope, message("a", 3)]).await;
    assert_eq!(bench.parked(1).await.0, "corrupt");
    assert_eq!(bench.parked(2).await.0, "corrupt");
    bench.all_done([3]).await;
    assert_eq!(server.order(), [("a".to_owned(), 3)]);
}

#[tokio::test]
async fn closing_finishes_what_is_under_way_and_hands_the_rest_back() {
    let answer = Arc::new(Notify::new());
    let held = answer.clone();
    let server = Server::start(move |_| Reply::After(held.clone())).await;
    let mut bench = Bench::new(EndpointSettings { concurrency: 1, ..endpoint(&server.url()) });
    bench.give(vec![message("a", 1), message("a", 2), message("b", 3)]).await;
    server.saw(1).await;
    let answering = async {
        tokio::task::yield_now().await;
        answer.notify_one();
    };
    tokio::join!(bench.close(DEADLINE), answering);
    bench.all_done([server.order()[0].1]).await;
    assert_eq!(bench.settled_now(), 1, "more was settled than was under way");
    assert_eq!(server.seen().len(), 1, "an attempt began while stopping");
}

#[tokio::test]
async fn closing_ends_with_its_grace() {
    let server = Server::start(|_| Reply::Hang).await;
    let mut bench = Bench::new(endpoint(&server.url()));
    bench.give(vec![message("a", 1)]).await;
    server.saw(1).await;
    tokio::time::timeout(DEADLINE, bench.close(Duration::from_millis(20))).await.unwrap();
    assert_eq!(bench.settled_now(), 0);
}

/// Attempts were counted when their answer came: those that a lost lease cut off had reached the endpoint, and stood
/// in no metric.
#[tokio::test]
async fn an_attempt_that_is_cut_off_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let server = Server::start(|_| Reply::Hang).await;
    let mut bench = Bench::new(endpoint(&server.url()));
    bench.give(vec![message("a", 1)]).await;
    server.saw(1).await;
    // What holds it, and with it the attempt, is dropped: a lease that is lost does this.
    bench.close(Duration::ZERO).await;
    let counted = "millstream_callback_attempts_total{endpoint=\"test\",outcome=\"abandoned\"} 1";
    let all = async {
        while !metrics.render().lines().any(|line| line == counted) {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(DEADLINE, all).await.unwrap_or_else(|_| panic!("{}", metrics.render()));
}

#[tokio::test]
async fn without_the_lease_nothing_is_attempted() {
    let server = Server::start(|_| ok()).await;
    let mut bench = Bench::new(endpoint(&server.url()));
    bench.lease.send_replace(false);
    bench.give(vec![message("a", 1), message("b", 2)]).await;
    // Its lanes end by themselves, and nothing has been settled or sent.
    bench.close(DEADLINE).await;
    assert_eq!((bench.settled_now(), server.seen().len()), (0, 0));
}

#[tokio::test]
async fn two_endpoints_do_not_know_of_each_other() {
    let (dead, alive) = (Server::start(|_| Reply::Hang).await, Server::start(|_| ok()).await);
    let (mut one, mut other) = (Bench::new(endpoint(&dead.url())), Bench::new(endpoint(&alive.url())));
    let batch: Vec<_> = (1..=20).map(|n| message("a", n)).collect();
    one.give(batch.clone()).await;
    other.give(batch).await;
    other.all_done(1..=20).await;
    assert_eq!(one.settled_now(), 0);
}

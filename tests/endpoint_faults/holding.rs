//! Endpoints that ask to be left alone: for a time, or for good.

use millstream::callback;

use crate::endpoint::{Endpoint, How};
use crate::support::wait_until;
use crate::world::World;

/// One attempt at a time: no other can be under way when the endpoint asks to wait.
const ONE_AT_A_TIME: &[(&str, &str)] = &[("CONCURRENCY", "1")];

/// An hour is longer than anything here: not one attempt may follow, not by other rooms, not by newer
/// messages, and not by the next process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_never_undercut_also_not_by_the_next_process() {
    let answer = "HTTP/1.1 429 x\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let endpoint = Endpoint::start(How::With(answer.into())).await;
    let mut world = World::start(&endpoint.url(), ONE_AT_A_TIME).await;
    world.publish().await;
    world.fails("throttled", 1).await;
    world.publish().await;
    endpoint.mend();
    world.restart(&endpoint.url()).await;
    world.publish().await;
    assert_eq!(endpoint.attempts().len(), 1, "the endpoint was called before its hour was over");
    world.unharmed().await;
}

/// 410: nothing more until somebody resumes it, and then everything, the refused item first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_is_called_again_only_when_it_is_resumed() {
    let answer = "HTTP/1.1 410 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let endpoint = Endpoint::start(How::With(answer.into())).await;
    let mut world = World::start(&endpoint.url(), ONE_AT_A_TIME).await;
    world.publish().await;
    let paused = async || callback::paused_at(&world.door, "faulty").await.unwrap().is_some();
    wait_until("the pause is kept", paused).await;
    world.publish().await;
    assert_eq!(endpoint.attempts().len(), 1, "a paused endpoint was called");
    endpoint.mend();
    assert!(callback::resume(&world.door, "faulty").await.unwrap());
    world.audit(|| endpoint.attempts()).await;
}

//! Consumer groups that somebody destroys or moves, and scripts that are forgotten.

use crate::support::{Receiver, Redis, Stack};
use crate::world::{World, builder, groups_of, logs};

/// The log's groups: that of the archive, and that of the endpoint.
const GROUPS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_are_forgotten_are_sent_again() {
    let world = World::start(&[]).await;
    for _ in 0..5 {
        world.command("SCRIPT FLUSH SYNC").await;
        world.traffic.goes_on(20).await;
    }
    world.audit(None).await;
}

/// What was read and not yet settled, and what comes, is read again from the checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_are_destroyed_go_on_at_their_checkpoints() {
    let world = World::start(&[]).await;
    for _ in 0..3 {
        for log in logs(&world.stack) {
            for group in groups_of(world.redis(), &log).await {
                world.command(&format!("XGROUP DESTROY {log} {group}")).await;
            }
        }
        world.goes_on().await;
    }
    world.audit(None).await;
}

/// `XGROUP SETID … $` passes over what was not read: its owner, who knows how far it has read, reads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_are_moved_to_the_end_under_their_owners_skip_nothing() {
    let receiver = Receiver::start().await;
    let stack = builder(&receiver).env("MILLSTREAM__GROUP__LEASE_TTL", "60s").redis(Redis::start(&[]).await);
    let world = World::with(stack.start().await, receiver).await;
    for _ in 0..2 {
        // Whoever stands still reads nothing, so that there is something to skip.
        for worker in ["archive", "callback"] {
            world.stack.process(worker).signal("STOP");
        }
        world.goes_on().await;
        move_to_the_end(&world.stack).await;
        for worker in ["archive", "callback"] {
            world.stack.process(worker).signal("CONT");
        }
        world.goes_on().await;
    }
    world.audit(None).await;
}

/// The same while the groups have no owner: the next one knows from the log how far the last had read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_are_moved_to_the_end_without_owners_skip_nothing() {
    let mut world = World::start(&[]).await;
    for _ in 0..2 {
        for worker in ["archive", "callback"] {
            world.stack.kill9(worker);
        }
        world.goes_on().await;
        move_to_the_end(&world.stack).await;
        for worker in ["archive", "callback"] {
            world.stack.start_again(worker).await;
        }
        world.goes_on().await;
    }
    world.audit(None).await;
}

/// Moves all groups to the end of their logs; there must be something that this passes over.
async fn move_to_the_end(stack: &Stack) {
    let mut skipped = 0;
    for log in logs(stack) {
        let groups = stack.redis().command(["XINFO", "GROUPS", &log]).await.list();
        assert_eq!(groups.len(), GROUPS, "groups of {log}");
        for group in groups {
            let fields = group.list();
            let (name, read_to) = (fields[1].text(), fields[7].text());
            assert_eq!(fields[6].text(), "last-delivered-id");
            let unread = stack.redis().command(["XRANGE", &log, &format!("({read_to}"), "+"]).await.list();
            skipped += unread.len();
            let moved = stack.redis().command(["XGROUP", "SETID", &log, &name, "$"]).await;
            assert!(!moved.is_error(), "{moved:?}");
        }
    }
    assert!(skipped > 0, "nothing is skipped: nothing is tested");
}

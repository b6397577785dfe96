//! A Redis that dies, hangs, or cuts its clients off.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Redis, new_dir, wait_until};
use crate::world::{PARTITIONS, World, wait_for_info};

/// Killed in the middle of writing its file anew, and right after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_killed_while_it_rewrites_its_file_loses_nothing() {
    // Each key takes its time to be written: the rewrite lasts.
    let world = World::start(&["--rdb-key-save-delay", "100000"]).await;
    world.command("BGREWRITEAOF").await;
    wait_for_info(world.redis(), "persistence", "aof_rewrite_in_progress:1").await;
    world.goes_on().await;
    assert!(world.redis().command(["INFO", "persistence"]).await.text().contains("aof_rewrite_in_progress:1"));
    world.redis().kill9();
    world.redis().start_again().await;
    world.goes_on().await;

    world.command("CONFIG SET rdb-key-save-delay 0").await;
    world.command("BGREWRITEAOF").await;
    world.goes_on().await;
    wait_for_info(world.redis(), "persistence", "aof_rewrite_in_progress:0").await;
    wait_for_info(world.redis(), "persistence", "aof_last_bgrewrite_status:ok").await;
    world.redis().kill9();
    world.redis().start_again().await;
    world.audit(None).await;
}

/// Connections stay and nothing answers; afterwards everything is executed that was sent meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_loses_and_doubles_nothing() {
    let world = World::start(&[]).await;
    let mut probe = world.probe().await;
    world.redis().freeze();
    probe.is_refused().await;
    // Longer than any lease of ours, and so than any time-out.
    for (worker, group) in [("archive", "archive"), ("replay", "replay"), ("callback", "callback:data")] {
        let lost = format!("millstream_group_leases_lost_total{{group=\"{group}\"}}");
        wait_until(&format!("{worker} has no lease any more"), async || {
            world.stack.metric(worker, &lost).await >= f64::from(PARTITIONS)
        })
        .await;
    }
    world.redis().thaw();
    probe.is_accepted().await;
    world.goes_on().await;
    world.audit(Some(probe)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_killed_again_and_again_lose_and_double_nothing() {
    let world = World::start(&[]).await;
    for _ in 0..5 {
        for kind in ["normal", "pubsub"] {
            world.command(&format!("CLIENT KILL TYPE {kind}")).await;
        }
        world.traffic.goes_on(20).await;
    }
    world.audit(None).await;
}

/// With `appendfsync always` a Redis that can't write its file ends. It is started again when there is
/// space, and everything goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_redis_and_loses_nothing() {
    let disk = SmallDisk::mount();
    let dir = disk.as_ref().map_or_else(|| new_dir("redis"), |disk| disk.dir.clone());
    let world = World::on(Redis::start_at(dir, &[]).await).await;
    let mut probe = world.probe().await;
    match &disk {
        Some(disk) => disk.fill(),
        None => limit_files(world.redis()),
    }
    wait_until("Redis has ended", async || world.redis().has_ended()).await;
    probe.is_refused().await;
    if let Some(disk) = &disk {
        disk.empty();
    }
    // Takes leave of the process that has ended.
    world.redis().kill9();
    world.redis().start_again().await;
    probe.is_accepted().await;
    world.audit(Some(probe)).await;
}

/// A file system of its own.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Nothing if we may not mount, which is said.
    fn mount() -> Option<Self> {
        let dir = new_dir("disk");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&dir).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self { dir });
        }
        eprintln!("MOUNTING IS NOT PERMITTED: the disk is not full, Redis' files are limited instead (RLIMIT_FSIZE)");
        None
    }

    fn ballast(&self) -> PathBuf {
        Path::join(&self.dir, "ballast")
    }

    fn fill(&self) {
        let written = std::fs::write(self.ballast(), vec![0; 16 << 20]);
        assert!(written.is_err(), "the disk is full");
    }

    fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

/// The server's files may not grow beyond what they are.
fn limit_files(redis: &Redis) {
    let limited = Command::new("prlimit").args(["--pid", &redis.pid().to_string(), "--fsize=4096"]).status();
    assert!(limited.unwrap().success(), "prlimit works");
}

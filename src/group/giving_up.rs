//! Giving a partition up in order: read no more, finish what is held, hand the rest back.

use std::time::Duration;

use tracing::{info, warn};

use super::Group;
use super::handling::Event as Handled;
use super::partition::{Acked, Ended, Partition, poll};
use super::settle::Flushed;
use crate::shutdown::Deadline;

/// How long after the handler's grace its last acknowledgements may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

enum Step {
    Handled(Handled),
    Flushed(Flushed, Acked),
    Over,
}

impl<G: Group> Partition<G> {
    /// Gives the partition up by `deadline`, and a little later if acknowledgements still wait.
    pub(super) async fn give_up(mut self, deadline: Deadline) -> Ended {
        let p = self.lease.partition;
        self.handling.close(deadline.remaining());
        // From here on nobody reads for us, so the next owner finds everything in its place.
        self.worker.board.leave(p).await;
        while let Ok(read) = self.reads.try_recv() {
            self.take_read(read);
        }
        let over = Deadline::after(deadline.remaining() + LAST_WORDS);
        let mut closed = false;
        loop {
            self.start_flush(true);
            if closed && self.flushing.is_none() {
                break;
            }
            let step = tokio::select! {
                event = self.handling.next(), if !closed => Step::Handled(event),
                (flushed, acked) = poll(&mut self.flushing) => Step::Flushed(flushed, acked),
                () = over.over() => Step::Over,
            };
            match step {
                Step::Handled(Handled::Outcomes(outcomes)) => self.take_outcomes(outcomes),
                Step::Handled(Handled::Panicked(_, said)) => {
                    self.take_outcomes(said);
                    closed = true;
                }
                Step::Handled(Handled::Closed | Handled::OpenFailed(_)) => closed = true,
                Step::Handled(Handled::Ready) => {}
                Step::Flushed(Flushed::NotOurs, _) => return Ended::Lost,
                Step::Flushed(Flushed::Settled, acked) => self.flushed(acked),
                Step::Over => {
                    warn!(group = self.worker.group, partition = %p, "the handler did not finish in time");
                    break;
                }
            }
        }
        self.hand_back().await;
        Ended::Released
    }

    async fn hand_back(&mut self) {
        for lane in [&self.main, &self.again] {
            for (deliveries, ids) in lane.unfinished() {
                let count = ids.len();
                for ids in ids.chunks(1_000) {
                    // Without it the next owner only counts one delivery more.
                    if let Err(error) = self.worker.redis.hand_back(&lane.stream, ids, deliveries).await {
                        warn!(group = self.worker.group, %error, "failed to hand entries back");
                        return;
                    }
                }
                info!(group = self.worker.group, partition = %self.lease.partition, entries = count,
                    "handed {count} entries back");
            }
        }
    }
}

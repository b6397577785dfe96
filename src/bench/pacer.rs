//! When to send: a plan that waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::clock::Clock;

/// Shortest sleep: below, sends are handed out together.
const TICK: Duration = Duration::from_micros(100);

/// Hands out planned times to publishers in turn. A thread of its own, because the runtime's timers count
/// milliseconds; it ends when it is dropped.
pub(super) struct Pacer(Arc<AtomicBool>);

impl Pacer {
    /// Plans `rate` sends a second over all publishers, from now on. What a publisher can't send in time waits
    /// in its channel, as an open loop wants it: for `seconds` at most.
    pub(super) fn start(
        clock: Clock,
        rate: f64,
        publishers: usize,
        seconds: f64,
    ) -> (Self, Vec<UnboundedReceiver<u64>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..publishers).map(|_| unbounded_channel()).unzip();
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        thread::spawn(move || plan(clock, rate, seconds, &senders, &stop));
        (Self(ended), receivers)
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn plan(clock: Clock, rate: f64, seconds: f64, senders: &[UnboundedSender<u64>], stop: &AtomicBool) {
    let begin = clock.now();
    let total = (rate * seconds) as u64;
    let mut planned = 0;
    let at = |planned: u64| begin + (planned as f64 * 1_000_000.0 / rate) as u64;
    while planned < total && !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        while planned < total && at(planned) <= now {
            // A publisher that is gone reports that itself.
            let _ = senders[usize::try_from(planned).unwrap_or_default() % senders.len()].send(at(planned));
            planned += 1;
        }
        thread::sleep(Duration::from_micros(at(planned).saturating_sub(clock.now())).max(TICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_publisher_gets_its_share_at_its_time() {
        let (_pacer, mut plans) = Pacer::start(Clock::start(), 1_000.0, 2, 0.02);
        let mut times = Vec::new();
        for plan in &mut plans {
            let mut mine = Vec::new();
            while let Some(at) = plan.recv().await {
                mine.push(at);
            }
            assert_eq!(mine.len(), 10);
            assert!(mine.windows(2).all(|pair| pair[1] - pair[0] == 2_000), "{mine:?}");
            times.push(mine[0]);
        }
        assert_eq!(times[1] - times[0], 1_000);
    }
}

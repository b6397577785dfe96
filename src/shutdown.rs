//! The stop signal that every task can wait for, and the deadline of what is finished afterwards.
//!
//! Stopping has three steps, and each task takes them itself: take no more (when
//! [`Shutdown::requested`] returns), finish what is held, give up at the [`Deadline`] and say so.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use millstream::shutdown::Shutdown;
//! let shutdown = Shutdown::new();
//! let part = shutdown.part();
//! shutdown.request();
//! part.requested().await; // what stops the whole stops its parts
//! # });
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::error::{Error, Result};

/// Says when to stop. Cheap to clone; all clones mean the same stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    // Listening for signals ends with the last clone.
    _signals: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Shutdown {
    /// A stop that only [`Shutdown::request`] requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stop that SIGTERM and SIGINT request as well.
    ///
    /// # Errors
    /// If the signals can't be listened for.
    pub fn on_signals() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|e| Error::internal("listen for signals").caused_by(e));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let token = CancellationToken::new();
        let task = tokio::spawn(request_on(terminate, interrupt, token.clone()));
        Ok(Self { token, _signals: Some(Arc::new(AbortOnDropHandle::new(task))) })
    }

    /// Waits for the request to stop. Dropping the future loses nothing; once requested, it
    /// returns at once for ever.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Whether stopping was requested.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Requests to stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// The stop of a part: requested with this one, or by itself without stopping the whole.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { token: self.token.child_token(), _signals: self._signals.clone() }
    }

    /// `work`'s result, or nothing if stopping is requested first. `work` is dropped then, so it
    /// must be something that may be dropped at any await.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.token.run_until_cancelled(work).await
    }

    /// Waits for `wait`, or until stopping is requested: then the answer is `false`.
    pub async fn sleep(&self, wait: Duration) -> bool {
        self.or(tokio::time::sleep(wait)).await.is_some()
    }
}

async fn request_on(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(signal = name, "stopping because of {name}");
    token.cancel();
}

/// A point in time by which something has to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `wait` from now.
    pub fn after(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }

    /// The time left; zero when it is over.
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// `work`'s result, or nothing if it was not there in time; `work` is dropped then.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.0, work).await.ok()
    }

    /// Waits until it is over.
    pub async fn over(&self) {
        tokio::time::sleep_until(self.0).await;
    }

    /// `earlier` before this one, for whoever has to report in time.
    #[must_use]
    pub fn minus(&self, earlier: Duration) -> Self {
        Self(self.0.checked_sub(earlier).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_stops_with_the_whole_and_not_the_other_way_round() {
        let whole = Shutdown::new();
        let (one, two) = (whole.part(), whole.part());
        one.request();
        assert!(one.is_requested() && !whole.is_requested() && !two.is_requested());
        whole.request();
        two.requested().await;
    }

    #[tokio::test]
    async fn sleeping_and_working_end_when_stopping_is_requested() {
        let shutdown = Shutdown::new();
        assert!(shutdown.sleep(Duration::from_millis(1)).await);
        shutdown.request();
        assert!(!shutdown.sleep(Duration::from_secs(3_600)).await);
        assert_eq!(shutdown.or(std::future::pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn a_deadline_ends_work_that_takes_longer() {
        let deadline = Deadline::after(Duration::from_millis(20));
        assert_eq!(deadline.within(async { 1 }).await, Some(1));
        assert_eq!(deadline.within(std::future::pending::<()>()).await, None);
        assert!(deadline.is_over());
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }
}

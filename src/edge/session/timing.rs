//! When a connection has to act by itself: pings, silence, stalls, the end of its token.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::Session;
use super::end::Ending;
use crate::protocol::{Opcode, control_frame};

/// How closely a stall is watched: a fraction of the time-out, at most a second.
const STALL_LOOKS: u32 = 4;

/// The moments that a connection waits for. One timer for all of them.
#[derive(Debug)]
pub(super) struct Timing {
    timer: Pin<Box<Sleep>>,
    heartbeat: Duration,
    stall_timeout: Duration,
    /// When the client was last heard.
    heard: Instant,
    next_ping: Instant,
    /// When the socket last took something, or began to have something to take.
    progress: Instant,
    written: u64,
    waiting_for_socket: bool,
    expires: Option<Instant>,
}

impl Timing {
    pub(super) fn new(heartbeat: Duration, stall_timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(tokio::time::sleep(heartbeat)),
            heartbeat,
            stall_timeout,
            heard: now,
            next_ping: now + heartbeat,
            progress: now,
            written: 0,
            waiting_for_socket: false,
            expires: None,
        }
    }

    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// The token counts no more from this time on (ms since the epoch).
    pub(super) fn expire_at(&mut self, at_ms: u64) {
        let now_ms = super::super::now_ms();
        self.expires = Instant::now().checked_add(Duration::from_millis(at_ms.saturating_sub(now_ms)));
    }

    /// Sets the timer to the earliest moment; `due` is one that the caller knows of.
    pub(super) fn arm(&mut self, waiting_for_socket: bool, due: Option<Instant>) {
        let mut earliest = self.next_ping.min(self.heard + 2 * self.heartbeat);
        if waiting_for_socket && !self.waiting_for_socket {
            self.progress = Instant::now();
        }
        self.waiting_for_socket = waiting_for_socket;
        if waiting_for_socket {
            let look = (self.stall_timeout / STALL_LOOKS).min(Duration::from_secs(1));
            earliest = earliest.min(Instant::now() + look);
        }
        for other in [self.expires, due].into_iter().flatten() {
            earliest = earliest.min(other);
        }
        let earliest = earliest.into();
        // Moving a timer costs a lock: only to an earlier moment, or when it has fired.
        if self.timer.is_elapsed() || self.timer.deadline() > earliest {
            self.timer.as_mut().reset(earliest);
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }
}

impl Session {
    /// What has to be done by now.
    pub(super) fn check_time(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        let (queued, written) = (self.wire().queued(), self.wire().written());
        let timing = &mut self.timing;
        if timing.expires.is_some_and(|expires| expires <= now) {
            return Err(Ending::token_expired());
        }
        // What was queued in this turn had no time to go out yet.
        if queued == 0 || written != timing.written || !timing.waiting_for_socket {
            timing.written = written;
            timing.progress = now;
        } else if now.duration_since(timing.progress) >= timing.stall_timeout {
            return Err(Ending::stalled());
        }
        if now.duration_since(timing.heard) >= 2 * timing.heartbeat {
            return Err(Ending::no_heartbeat());
        }
        if timing.next_ping <= now {
            timing.next_ping = now + timing.heartbeat;
            self.ws.get_mut().enqueue(control_frame(Opcode::Ping, &[]));
        }
        Ok(())
    }
}

//! Where everybody writes down what they saw, each for themselves, on one clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use millstream::verify::{Event, Fact, History, Name};

/// The history while it is being made.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Shared>);

struct Shared {
    begin: Instant,
    events: Mutex<Vec<Event>>,
    accepted: AtomicU64,
    delivered: AtomicU64,
}

/// A participant's pen.
#[derive(Clone)]
pub(crate) struct Scribe {
    who: Name,
    recorder: Recorder,
}

impl Recorder {
    /// An empty history; its clock begins now.
    pub(crate) fn new() -> Self {
        let (accepted, delivered) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Shared { begin: Instant::now(), events: Mutex::default(), accepted, delivered }))
    }

    /// The pen of a participant.
    pub(crate) fn scribe(&self, who: &str) -> Scribe {
        Scribe { who: who.into(), recorder: self.clone() }
    }

    /// Seconds since it began.
    pub(crate) fn elapsed_s(&self) -> u64 {
        self.0.begin.elapsed().as_secs()
    }

    /// Messages accepted and entries delivered so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.0.accepted.load(Ordering::Relaxed), self.0.delivered.load(Ordering::Relaxed))
    }

    /// Everything that was written down so far.
    pub(crate) fn history(&self) -> History {
        History { events: self.0.events.lock().unwrap().clone() }
    }
}

impl Scribe {
    /// Writes down a fact, stamped with this moment.
    pub(crate) fn note(&self, fact: Fact) {
        let shared = &self.recorder.0;
        match &fact {
            Fact::Accepted { duplicate: false, .. } => shared.accepted.fetch_add(1, Ordering::Relaxed),
            Fact::Delivered { .. } => shared.delivered.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        // Stamped under the lock: the list is in the order of the stamps.
        let mut events = shared.events.lock().unwrap();
        let at_us = u64::try_from(shared.begin.elapsed().as_micros()).expect("a run takes less than an age");
        events.push(Event { at_us, who: self.who.clone(), fact });
    }
}

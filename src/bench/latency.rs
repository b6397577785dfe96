//! Latencies of many tasks in one histogram.

use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Enough that tasks on all cores seldom meet.
const SHARDS: usize = 16;
/// Longest latency that is told from a longer one, in microseconds.
const MICROS_MAX: u64 = 600_000_000;

/// Records latencies; clones record into the same histogram.
#[derive(Debug, Clone)]
pub(super) struct Recorder(Arc<Vec<Mutex<Histogram<u64>>>>);

impl Recorder {
    pub(super) fn new() -> Self {
        // Three digits: within a thousandth. The bounds are right, so making one can't fail.
        let shard = || Histogram::new_with_bounds(1, MICROS_MAX, 3).ok().map(Mutex::new);
        Self(Arc::new((0..SHARDS).filter_map(|_| shard()).collect()))
    }

    /// Records a latency of `micros`; `task` spreads the tasks.
    pub(super) fn record(&self, task: usize, micros: u64) {
        if let Some(shard) = self.0.get(task % SHARDS) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros.max(1));
        }
    }

    /// What was recorded.
    pub(super) fn latency(&self) -> Latency {
        let mut all: Option<Histogram<u64>> = None;
        for shard in self.0.iter() {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut all {
                None => all = Some(shard.clone()),
                // Bounds are the same, so adding can't fail.
                Some(all) => all.add(&*shard).unwrap_or_default(),
            }
        }
        all.filter(|all| !all.is_empty()).as_ref().map(Latency::of).unwrap_or_default()
    }
}

/// A distribution of latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How many there are.
    pub count: u64,
    /// In milliseconds.
    pub mean_ms: f64,
    /// Half are below.
    pub p50_ms: f64,
    /// Nine of ten are below.
    pub p90_ms: f64,
    /// All but one of a hundred are below.
    pub p99_ms: f64,
    /// All but one of a thousand are below.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |micros: u64| micros as f64 / 1_000.0;
        let at = |quantile: f64| ms(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            mean_ms: (histogram.mean()).round() / 1_000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_all_shards() {
        let recorder = Recorder::new();
        assert_eq!(recorder.latency(), Latency::default());
        for micros in 1..=100_000u64 {
            recorder.record(usize::try_from(micros).unwrap_or_default(), micros);
        }
        let latency = recorder.latency();
        assert_eq!(latency.count, 100_000);
        assert!((latency.p50_ms - 50.0).abs() < 0.1 && (latency.p99_ms - 99.0).abs() < 0.2, "{latency:?}");
        assert!((latency.max_ms - 100.0).abs() < 0.2, "{latency:?}");
    }
}

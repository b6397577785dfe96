//! The recorder of metrics, and what keeps it small.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::names::{self, ALL, MetricKind};
use crate::error::{Error, Result};

/// Histograms keep each observation until upkeep sorts it into its bucket: at 100,000 observations
/// a second, a second of them is under a megabyte.
const UPKEEP: Duration = Duration::from_secs(1);

/// The recorder is one per process by its nature: the macros of `metrics` find it from anywhere.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Renders the metrics of this process; keeps them small for as long as it lives.
#[derive(Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
    _upkeep: AbortOnDropHandle<()>,
}

impl Metrics {
    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

/// Makes the recorder of this process, describes every metric of [`names`] and starts the upkeep.
/// A later call (several services in one process) gives another handle of the same recorder.
///
/// # Errors
/// If another recorder than ours is installed.
pub fn install_metrics() -> Result<Metrics> {
    let handle = match RECORDER.get() {
        Some(handle) => handle.clone(),
        None => install()?,
    };
    let upkeep = AbortOnDropHandle::new(tokio::spawn(keep_small(handle.clone())));
    Ok(Metrics { handle, _upkeep: upkeep })
}

fn install() -> Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    for metric in ALL {
        if let MetricKind::Histogram(buckets) = metric.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                .map_err(|e| Error::internal(format!("set the buckets of {}", metric.name)).caused_by(e))?;
        }
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    match metrics::set_global_recorder(recorder) {
        Ok(()) => {
            describe();
            Ok(RECORDER.get_or_init(|| handle).clone())
        }
        // Two threads may install at once; the later one uses the earlier one's.
        Err(_) => wait_for_other(),
    }
}

fn wait_for_other() -> Result<PrometheusHandle> {
    (0..100)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            RECORDER.get().cloned()
        })
        .ok_or_else(|| Error::internal("install the recorder of metrics: there is another one"))
}

fn describe() {
    for metric in ALL {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            MetricKind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
    metrics::gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!(names::START_TIME).set(now.as_secs_f64());
    // A counter that appears with its first event shows Prometheus no increase; a panic must be one.
    metrics::counter!(names::PANICS).increment(0);
}

async fn keep_small(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn histograms_have_buckets_and_metrics_their_help() {
        let first = install_metrics().unwrap();
        let second = install_metrics().unwrap();
        metrics::histogram!(names::PUBLISH_SECONDS).record(0.002);
        metrics::counter!(names::SENDS_ACCEPTED).increment(3);
        let text = second.render();
        assert!(text.contains("millstream_publish_seconds_bucket{le=\"0.0025\"} 1"), "{text}");
        assert!(text.contains("# TYPE millstream_sends_accepted_total counter"), "{text}");
        assert!(text.contains("# HELP millstream_sends_accepted_total Sends that"), "{text}");
        assert!(text.contains("millstream_build_info{version="), "{text}");
        drop((first, second));
    }
}

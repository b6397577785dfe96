//! What the processes say about themselves: log lines, metrics for Prometheus, readiness.
//!
//! Owns the one table of metrics ([`names`]), the log's form and the recorder. Promises that a log
//! record is one line whatever users wrote, and that every histogram has buckets. Refuses to know
//! what the numbers mean: that is the business of the modules that record them.

mod logs;
pub mod names;
mod readiness;
mod recorder;

pub use logs::{filter, init};
pub use readiness::{CHECK_INTERVAL, FRESH, Part, PartReport, Readiness, Report};
pub use recorder::{Metrics, install_metrics};

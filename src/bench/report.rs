//! What a load has to say in the end.

use super::Latency;

/// A result, as JSON by `Serialize` and for people by its parts.
pub trait Report: serde::Serialize {
    /// Its figures, in the order in which they are read.
    fn figures(&self) -> Vec<(&'static str, f64)>;

    /// Its distributions.
    fn latencies(&self) -> Vec<(&'static str, &Latency)>;

    /// Whether nothing was lost, repeated or disordered.
    fn is_right(&self) -> bool;
}

//! What the server tells about itself: its log, its metrics, and the ids that tie a request's
//! traces together.
//!
//! The log goes to standard error, one line an event, with control characters escaped so that
//! nobody else's text can forge a line. Metrics are counted through the `metrics` macros under the
//! names in [`names`] and shown by [`Metrics::render`]. Task output never enters the log.

pub mod host;
pub mod log;
mod metrics;
pub mod names;
pub mod request;

pub use log::{LevelError, LogControl};
pub use metrics::{Metrics, MetricsError};
pub use request::{RequestId, TraceParent};

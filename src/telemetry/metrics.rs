//! The metrics of this process, in the Prometheus text form.

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::names::{ALL, BUILD_INFO, Kind};

/// Upper bounds of the buckets of every distribution, in seconds: from a prompt start to a long
/// task.
const BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Metrics could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up metrics: {0}")]
pub struct MetricsError(#[from] metrics_exporter_prometheus::BuildError);

/// Shows the metrics of this process; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Makes this process count; a second call gives the same metrics.
    ///
    /// # Errors
    /// [`MetricsError`] when another recorder was installed before.
    pub fn install() -> Result<Self, MetricsError> {
        if let Some(handle) = INSTALLED.get() {
            return Ok(Self { handle: handle.clone() });
        }
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
            .install_recorder()?;
        describe_all();
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle: INSTALLED.get_or_init(|| handle).clone() })
    }

    /// All metrics in the Prometheus text form.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds recorded distributions together; call it every few seconds, or an unread server's
    /// memory grows with each sample.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn describe_all() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::names;

    #[test]
    fn names_are_unique_and_end_as_their_kind_does() {
        let unique: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(unique.len(), ALL.len());
        for metric in ALL {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{metric:?}");
            let is_histogram = metric.kind == Kind::Histogram;
            assert!(!is_histogram || metric.name.ends_with("_seconds"), "{metric:?}");
            assert!(!metric.labels.iter().any(|label| label.ends_with("id")), "{metric:?}");
        }
    }

    #[test]
    fn what_is_counted_is_shown_with_its_meaning() {
        let shown = Metrics::install().unwrap();
        metrics::counter!(names::EXECUTIONS, "task_type" => "function", "outcome" => "completed")
            .increment(2);
        metrics::histogram!(names::SCHEDULE_TICK_SKEW).record(0.002);
        Metrics::install().unwrap().run_upkeep();
        let text = shown.render();
        for line in [
            "# HELP carillon_executions_total Executions that ended, by outcome.",
            "carillon_executions_total{task_type=\"function\",outcome=\"completed\"} 2",
            "carillon_schedule_tick_skew_seconds_bucket{le=\"0.005\"} 1",
            "carillon_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}

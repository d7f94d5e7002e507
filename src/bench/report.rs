//! Figures, as a table for people and as JSON for tools.

use serde::Serialize;

use super::Plan;
use super::load::percentile;

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// The scenario.
    pub scenario: &'static str,
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this binary.
    pub version: &'static str,
    /// `sqlite` or `postgres`.
    pub store: &'static str,
    /// Processors that this process may use.
    pub processors: usize,
    /// The figures, in the order they were measured.
    pub figures: Vec<Figure>,
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            store: if plan.settings.database_url().is_some() { "postgres" } else { "sqlite" },
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            figures: Vec::new(),
        }
    }

    /// Adds a figure.
    pub fn add(
        &mut self,
        scenario: &'static str,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        self.figures.push(Figure { scenario, name: name.into(), value, unit });
    }

    /// Adds a figure in milliseconds for each percentile of `shares` (0 to 1; 1 is the longest).
    /// Sorts `values`.
    pub(super) fn add_times(
        &mut self,
        scenario: &'static str,
        name: &str,
        values: &mut [f64],
        shares: &[f64],
    ) {
        values.sort_unstable_by(f64::total_cmp);
        for share in shares {
            let word = if *share < 1.0 { format!("p{:.0}", share * 100.0) } else { "max".into() };
            self.add(scenario, format!("{name}: {word}"), percentile(values, *share), "ms");
        }
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut lines = vec![format!(
            "carillon {} on {}, {} processors",
            self.version, self.store, self.processors
        )];
        let mut scenario = "";
        for figure in &self.figures {
            if figure.scenario != scenario {
                scenario = figure.scenario;
                lines.push(format!("\n{scenario}"));
            }
            lines.push(format!(
                "  {:<46} {:>12} {}",
                figure.name,
                short(figure.value),
                figure.unit
            ));
        }
        lines.join("\n")
    }
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

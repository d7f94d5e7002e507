//! When a schedule fires, beyond its grid, and what it does with what does not fit.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::domain::cadence::{Cadence, CalendarRule, ClockChange};
use crate::domain::calendar::{CalendarUse, Coverage, OnExcluded};

/// When a schedule fires, beyond its grid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CadenceOptions {
    /// By how much a start may be moved, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<i64>,
    /// The calendars it obeys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<CalendarUse>,
    /// What becomes of an instant that they exclude.
    #[serde(skip_serializing_if = "is_default")]
    pub on_excluded: ExcludedChoice,
    /// What a clock change does.
    #[serde(skip_serializing_if = "is_default")]
    pub clock_change: ClockChoice,
    /// Under `queue`: how many may wait beside those that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_limit: Option<i32>,
    /// So many failed chains in a row pause the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_after_failures: Option<i32>,
}

/// [`OnExcluded`], `skip` when nothing was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludedChoice(pub OnExcluded);

impl Default for ExcludedChoice {
    fn default() -> Self {
        Self(OnExcluded::Skip)
    }
}

/// [`ClockChange`], `default` when nothing was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockChoice(pub ClockChange);

impl Default for ClockChoice {
    fn default() -> Self {
        Self(ClockChange::Default)
    }
}

impl CadenceOptions {
    /// Puts the calendars and the clock-change policy over a grid. `found` gives what a calendar
    /// covers; `None` when there is no calendar of that name.
    ///
    /// # Errors
    /// The names of the calendars that are missing.
    pub fn over(
        &self,
        grid: Cadence,
        found: impl Fn(&str) -> Option<Arc<Coverage>>,
    ) -> Result<Cadence, Vec<String>> {
        let mut missing = Vec::new();
        let mut rules = Vec::with_capacity(self.calendars.len());
        for CalendarUse { name, mode } in &self.calendars {
            match found(name) {
                Some(coverage) => {
                    rules.push(CalendarRule { name: name.clone(), mode: *mode, coverage });
                }
                None => missing.push(name.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(missing);
        }
        Ok(grid.with_clock_change(self.clock_change.0).under(rules, self.on_excluded.0))
    }

    /// Whether both plan the same instants: what else they say does not move any.
    #[must_use]
    pub fn plans_as(&self, other: &Self) -> bool {
        self.calendars == other.calendars
            && self.on_excluded == other.on_excluded
            && self.clock_change == other.clock_change
    }
}

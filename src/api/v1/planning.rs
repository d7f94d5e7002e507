//! Cadences with what their calendars say: one way for creating, editing, previewing and telling.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::TimeDelta;

use super::schedules::default_zone;
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::domain::cadence::{Cadence, SHIFT_DAYS, SHIFT_GRID_MAX};
use crate::domain::calendar::{Coverage, OnExcluded};
use crate::domain::fault::Fault;
use crate::domain::options::CadenceOptions;
use crate::domain::schedule::Schedule;

/// What calendars cover, by name.
pub(crate) type Coverages = HashMap<String, Arc<Coverage>>;

/// What the calendars of these options cover; nothing is asked when they name none.
pub(crate) async fn coverages<'a>(
    call: &Call,
    options: impl IntoIterator<Item = &'a CadenceOptions>,
) -> Result<Coverages, ApiError> {
    let calendars = options.into_iter().flat_map(|options| &options.calendars);
    let mut names: Vec<String> = calendars.map(|used| used.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(Coverages::new());
    }
    let found = call.state.store().calendars_named(names).await?;
    let covered = found.into_iter().map(|calendar| {
        let coverage = Arc::new(Coverage::of(&calendar.definition));
        (calendar.definition.name, coverage)
    });
    Ok(covered.collect())
}

/// The grid of a request under what its options say.
///
/// # Errors
/// 422 when it names a calendar that does not exist, or fires too often to be moved.
pub(crate) async fn ruled(
    call: &Call,
    options: &CadenceOptions,
    grid: Cadence,
) -> Result<Cadence, ApiError> {
    let covered = coverages(call, [options]).await?;
    let missing: Vec<Fault> = options
        .calendars
        .iter()
        .enumerate()
        .filter(|(_, used)| !covered.contains_key(&used.name))
        .map(|(place, used)| {
            let message = format!(
                "there is no calendar `{}`; make it first (POST /api/v2/calendars)",
                used.name
            );
            Fault::new(format!("calendars.{place}.name"), "not_found", message)
        })
        .collect();
    if !missing.is_empty() {
        return Err(missing.into());
    }
    if options.on_excluded.0 != OnExcluded::Skip {
        let now = call.state.clock().now();
        let span = TimeDelta::days(2 * SHIFT_DAYS);
        let is_dense = (0..7).any(|part| {
            let from = now + span * part;
            grid.count_between(from, from + span) > SHIFT_GRID_MAX
        });
        if is_dense {
            let message = "a schedule whose instants move to another day fires twice an hour at \
                           most; leave `onExcluded` at skip";
            return Err(ApiError::invalid_field("onExcluded", "out_of_range", message));
        }
    }
    let ruled = options.over(grid, |name| covered.get(name).cloned());
    ruled.map_err(|_| ApiError::internal("a calendar was there and is not"))
}

/// The cadence of a stored schedule; `None` when it cannot be read any more.
pub(crate) async fn stored_cadence(
    call: &Call,
    schedule: &Schedule,
) -> Result<Option<Cadence>, ApiError> {
    let covered = coverages(call, [&schedule.definition.options.cadence]).await?;
    Ok(cadence_of(schedule, &default_zone(call), &covered))
}

/// Likewise with what calendars cover at hand.
pub(crate) fn cadence_of(
    schedule: &Schedule,
    default_zone: &str,
    covered: &Coverages,
) -> Option<Cadence> {
    let grid = schedule.grid(default_zone).ok()?;
    schedule.definition.ruled(grid, |name| covered.get(name).cloned()).ok()
}

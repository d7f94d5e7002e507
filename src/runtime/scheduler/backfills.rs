//! Moves backfills on, beside the firing and never in its way.
//!
//! A look finds the backfills that are not over, plans the next instants of each, and asks the
//! store to make those that may start now. Where a backfill stands is stored with what it made, so
//! that any node may make the next step and none is made twice. A stopped scheduler stops
//! backfills too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::SchedulerParts;
use crate::clock::Timestamp;
use crate::domain::backfill::{Ahead, Backfill, STEP_MAX, ahead};
use crate::domain::cadence::Cadence;
use crate::domain::calendar::Coverage;
use crate::domain::execution::{NewExecution, Trigger};
use crate::domain::options::BackfillMark;
use crate::domain::schedule::Schedule;
use crate::runtime::meter;
use crate::store::{BackfillAdvance, StoreError};

/// Backfills looked at in one pass.
const RUNNING_MAX: i64 = 100;
/// Time between two looks while a backfill runs.
const BUSY: Duration = Duration::from_millis(100);

/// Runs for as long as the scheduler does.
pub(super) async fn run(parts: SchedulerParts) {
    loop {
        let is_busy = match pass(&parts).await {
            Ok(is_busy) => is_busy,
            Err(error) => {
                tracing::warn!(%error, "backfills wait for the store");
                false
            }
        };
        tokio::time::sleep(if is_busy { BUSY } else { parts.tick }).await;
    }
}

/// True when there is a backfill that is not over.
async fn pass(parts: &SchedulerParts) -> Result<bool, StoreError> {
    if !parts.status.is_running() || parts.launcher.is_draining() {
        return Ok(false);
    }
    let running = parts.store.backfill_list_running(RUNNING_MAX).await?;
    let left = |one: &Backfill| one.form.planned - one.made - one.left_out;
    meter::backfills(running.len(), running.iter().map(left).sum());
    if running.is_empty() {
        return Ok(false);
    }
    let now = parts.store.now().await?;
    for backfill in &running {
        // What its rate holds costs no look at the schedule.
        if backfill.next_start_at.is_none_or(|at| at <= now) {
            move_on(parts, backfill, now).await?;
        }
    }
    Ok(true)
}

async fn move_on(
    parts: &SchedulerParts,
    backfill: &Backfill,
    now: Timestamp,
) -> Result<(), StoreError> {
    let store = &parts.store;
    let form = &backfill.form;
    let schedule = match store.schedule_get(form.schedule_id).await {
        Ok(schedule) => schedule,
        Err(StoreError::NotFound { .. }) => {
            let reason = "its schedule was deleted".to_owned();
            store.backfill_stop(backfill.id, Some(reason)).await?;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let Some(cadence) = cadence_of(parts, &schedule).await? else {
        let reason = "its schedule cannot be read any more".to_owned();
        store.backfill_stop(backfill.id, Some(reason)).await?;
        return Ok(());
    };
    let range = (form.from, form.to);
    let Ahead { instants, is_last } =
        ahead(&cadence, range, form.order, backfill.position, STEP_MAX);
    let rows = instants.into_iter().map(|at| Arc::new(row(&schedule, backfill, at, now))).collect();
    let plan =
        BackfillAdvance { id: backfill.id, expected_position: backfill.position, rows, is_last };
    store.backfill_advance(plan).await?;
    Ok(())
}

async fn cadence_of(
    parts: &SchedulerParts,
    schedule: &Schedule,
) -> Result<Option<Cadence>, StoreError> {
    let Ok(grid) = schedule.grid(&parts.default_zone) else { return Ok(None) };
    let used = &schedule.definition.options.cadence.calendars;
    let mut covered: HashMap<String, Arc<Coverage>> = HashMap::new();
    if !used.is_empty() {
        let names = used.iter().map(|used| used.name.clone()).collect();
        for calendar in parts.store.calendars_named(names).await? {
            let coverage = Arc::new(Coverage::of(&calendar.definition));
            covered.insert(calendar.definition.name, coverage);
        }
    }
    Ok(schedule.definition.ruled(grid, |name| covered.get(name).cloned()).ok())
}

/// The execution of one instant. It does not wait for runs of the schedule: a backfill has a limit
/// of its own.
fn row(schedule: &Schedule, backfill: &Backfill, at: Timestamp, now: Timestamp) -> NewExecution {
    let mut task = schedule.definition.snapshot();
    task.options.admission.overlap_limit = None;
    task.options.backfill = Some(BackfillMark { id: backfill.id, again: backfill.form.again });
    NewExecution {
        schedule_id: Some(schedule.id),
        schedule_name: Some(schedule.definition.name.clone()),
        available_at: now,
        traceparent: Some(crate::telemetry::TraceParent::generate().to_string()),
        created_by: backfill.form.created_by.clone(),
        ..NewExecution::first(Trigger::Backfill, task, schedule.definition.priority, at)
    }
}

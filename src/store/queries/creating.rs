//! Executions: made, by ones and by many, and started here when there is a slot.

use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::locked;
use super::executions::{is_active, waiting_topic};
use super::{Tx, breakers, deadlines, hot, idempotency, queues};
use crate::clock::Timestamp;
use crate::domain::execution::{Execution, ExecutionStatus, NewExecution, Priority, Trigger};
use crate::domain::execution_event::ExecutionEvent;
use crate::store::models::ExecutionRow;
use crate::store::op::{OpResult, wrong_state};
use crate::store::schema::task_executions as t;
use crate::store::schema::task_schedules;
use crate::store::{ClaimHere, Creation, ExecutionCreate};

/// Makes of a row that waits one that runs here.
pub(crate) fn start(execution: &mut Execution, claim: &ClaimHere, now: Timestamp) {
    let new = &execution.new;
    execution.status = ExecutionStatus::Running;
    execution.started_at = Some(now);
    execution.lease_owner = Some(claim.claimant.boot_id);
    execution.node_id = Some(claim.claimant.node_id.clone());
    execution.lateness_ms = (new.trigger == Trigger::Schedule && new.attempt == 1).then(|| {
        let moved = new.task.options.jitter_ms.unwrap_or(0);
        ((now - new.scheduled_at).num_milliseconds() - moved).max(0)
    });
}

/// The places of the rows that start here: those that may run now, most urgent and oldest first.
pub(crate) fn places_to_start(
    rows: &[Arc<NewExecution>],
    claim: Option<&ClaimHere>,
    now: Timestamp,
) -> Vec<usize> {
    let Some(claim) = claim else { return Vec::new() };
    let mut ready: Vec<(Timestamp, usize)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.available_at <= now && !row.gates.is_gated)
        .map(|(place, row)| (row.rank_at(), place))
        .collect();
    ready.sort_unstable();
    let mut places = Vec::with_capacity(claim.slots.min(ready.len()));
    for (_, place) in ready {
        let high = rows.get(place).is_some_and(|row| row.priority == Priority::High);
        let most = if high { claim.slots } else { claim.slots.saturating_sub(claim.high_only) };
        if places.len() < most {
            places.push(place);
        }
    }
    places
}

/// Inserts rows, starts here what it may, and notes the events. A row that meets a unique index
/// (the instant already ran, the key already waits) is left out of the answer.
pub(super) async fn insert(
    tx: &mut Tx,
    rows: Vec<Arc<NewExecution>>,
    claim: Option<&ClaimHere>,
) -> OpResult<Vec<Execution>> {
    let starting = |rows: &[Arc<NewExecution>], now| {
        let places = places_to_start(rows, claim, now);
        places.into_iter().filter_map(|place| Some((place, claim?))).collect()
    };
    insert_starting(tx, rows, starting).await
}

/// The same, where `starting` names the places of the rows that start here, and for whom.
pub(crate) async fn insert_starting<'a>(
    tx: &mut Tx,
    mut rows: Vec<Arc<NewExecution>>,
    starting: impl FnOnce(&[Arc<NewExecution>], Timestamp) -> Vec<(usize, &'a ClaimHere)>,
) -> OpResult<Vec<Execution>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    breakers::set_aside(tx, &mut rows).await?;
    queues::note(tx, &rows).await?;
    let now = tx.now().await?;
    let starting = starting(&rows, now);
    let mut made: Vec<Execution> =
        rows.into_iter().map(|row| Execution::waiting(row, now)).collect();
    for (place, claim) in starting {
        if let Some(execution) = made.get_mut(place) {
            start(execution, claim, now);
        }
    }
    let made = hot::insert_executions(tx.conn(), made).await?;
    deadlines::note(tx, &made).await?;
    for execution in &made {
        tx.event(ExecutionEvent::created(execution));
        if execution.status == ExecutionStatus::Running {
            tx.event(ExecutionEvent::of(execution));
        } else {
            tx.changed(waiting_topic(execution));
        }
    }
    Ok(made)
}

pub(crate) async fn execution_create(
    tx: &mut Tx,
    request: &ExecutionCreate,
) -> OpResult<Creation<Execution>> {
    let kept = request.idempotency.as_ref();
    if let Some(answer) = idempotency::find(tx, kept).await? {
        return Ok(Creation::Replayed(answer));
    }
    if let (Some(limit), Some(schedule)) = (request.limit, request.row.schedule_id) {
        // The schedule's lock keeps a firing from counting at the same time.
        let _held: Option<i64> = locked!(
            task_schedules::table
                .filter(task_schedules::id.eq(schedule))
                .select(task_schedules::id)
        )
        .get_result(tx.conn())
        .await
        .optional()?;
        let active = hot::count_active(tx.conn(), vec![schedule]).await?;
        let active = active.get(&schedule).copied().unwrap_or(0);
        if active >= i64::from(limit) {
            return Err(wrong_state(
                "already_running",
                format!("{active} executions of this schedule wait or run; its limit is {limit}"),
            ));
        }
    }
    let existing = find_by_dedup_key(tx, &request.row).await?;
    if let Some(existing) = existing {
        idempotency::save(tx, kept, (&existing, true)).await?;
        return Ok(Creation::Existing(existing));
    }
    let made = insert(tx, vec![Arc::new(request.row.clone())], request.claim.as_ref()).await?;
    let Some(execution) = made.into_iter().next() else {
        // Another transaction made a row with the same key between the look and the insert.
        return match find_by_dedup_key(tx, &request.row).await? {
            Some(existing) => {
                idempotency::save(tx, kept, (&existing, true)).await?;
                Ok(Creation::Existing(existing))
            }
            None => Err(wrong_state("wrong_state", "this instant of the schedule ran already")),
        };
    };
    idempotency::save(tx, kept, (&execution, false)).await?;
    Ok(Creation::New(execution))
}

async fn find_by_dedup_key(tx: &mut Tx, row: &NewExecution) -> OpResult<Option<Execution>> {
    let Some(key) = &row.dedup_key else { return Ok(None) };
    let found: Option<ExecutionRow> = t::table
        .filter(t::dedup_key.is_not_null())
        .filter(t::dedup_key.eq(key))
        .filter(is_active())
        .select(ExecutionRow::as_select())
        .first(tx.conn())
        .await
        .optional()?;
    found.map(Execution::try_from).transpose()
}

pub(crate) async fn execution_create_batch(
    tx: &mut Tx,
    rows: &[Arc<NewExecution>],
    claim: &Option<ClaimHere>,
) -> OpResult<Vec<Execution>> {
    insert(tx, rows.to_vec(), claim.as_ref()).await
}

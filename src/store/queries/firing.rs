//! Firing: a batch of schedules in one transaction.
//!
//! Each schedule is locked and compared with what its plan was made from; what changed meanwhile is
//! stale and left alone. Then, for all of them at once: rows, ledger, the schedules' next instants.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::documents::{LedgerDocument, document};
use super::hot::At;
use super::{Tx, creating, executions, hot};
use crate::clock::Timestamp;
use crate::domain::event::schedule_event;
use crate::domain::execution::{Execution, NewExecution, Trigger};
use crate::domain::overlap::{self, OverlapRules};
use crate::domain::schedule::{LedgerRange, LedgerReason};
use crate::store::models::{ScheduleRow, Standing};
use crate::store::op::OpResult;
use crate::store::schema::{task_executions, task_schedules as t};
use crate::store::sql_types::Instant;
use crate::store::types::Advance;
use crate::store::{ClaimHere, Firing, FiringResult, Topic};

pub(crate) async fn schedule_fire(
    tx: &mut Tx,
    firings: &[Firing],
    claim: &Option<ClaimHere>,
) -> OpResult<FiringResult> {
    let mut schedules = lock_all(tx, firings).await?;
    let active = count_active(tx, firings).await?;
    let now = tx.now().await?;
    let mut room: Vec<(i64, i64)> = Vec::new();
    let mut result = FiringResult::default();
    let mut fired: Vec<(&Firing, Standing, After)> = Vec::with_capacity(firings.len());
    let mut rows: Vec<Arc<NewExecution>> = Vec::new();
    let mut ledger: Vec<LedgerDocument> = Vec::new();
    for firing in firings {
        let current = schedules.remove(&firing.schedule_id).filter(|schedule| {
            schedule.next_run_at.map(|at| at.0) == firing.expected_next
                && schedule.version == firing.expected_version
        });
        let Some(schedule) = current else {
            result.stale.push(firing.schedule_id);
            continue;
        };
        let running = active.get(&firing.schedule_id).copied().unwrap_or(0);
        let split = split_by_limit(firing, running);
        rows.extend(split.run.iter().cloned());
        if split.to_cancel > 0 {
            room.push((firing.schedule_id, split.to_cancel));
        }
        let skipped = overlap_range(split.over);
        result.overlapped += u64::try_from(split.over.len()).unwrap_or(u64::MAX);
        for range in firing.ledger.iter().chain(skipped.as_ref()) {
            ledger.push(LedgerDocument::of(firing.schedule_id, range, At(now)));
        }
        if split.held.is_some() {
            result.held.push(firing.schedule_id);
        }
        let after = After { held: split.held, gave_way: !split.over.is_empty() };
        fired.push((firing, schedule, after));
    }
    for (schedule_id, count) in room {
        executions::cancel_oldest(tx, schedule_id, count).await?;
    }
    result.executions = creating::insert(tx, rows, claim.as_ref()).await?;
    if !ledger.is_empty() {
        hot::insert_ledger(tx.conn(), document(&ledger)?).await?;
    }
    advance(tx, fired, &result.executions, now).await?;
    Ok(result)
}

async fn lock_all(tx: &mut Tx, firings: &[Firing]) -> OpResult<HashMap<i64, Standing>> {
    let ids: Vec<i64> = firings.iter().map(|firing| firing.schedule_id).collect();
    let rows = hot::lock_schedules(tx.conn(), &ids).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Pending and running rows of the schedules that have a limit.
async fn count_active(tx: &mut Tx, firings: &[Firing]) -> OpResult<HashMap<i64, i64>> {
    let limited: Vec<i64> = firings
        .iter()
        .filter(|firing| firing.overlap_limit.is_some() && !firing.executions.is_empty())
        .map(|firing| firing.schedule_id)
        .collect();
    if limited.is_empty() {
        return Ok(HashMap::new());
    }
    let mut active = hot::count_active(tx.conn(), limited).await?;
    without_backfills(tx, firings, &mut active).await?;
    Ok(active)
}

/// Takes the rows of backfills from the counts, which have a limit of their own. Asked only where a
/// limit would be met: that is seldom, and the others need no second look.
async fn without_backfills(
    tx: &mut Tx,
    firings: &[Firing],
    active: &mut HashMap<i64, i64>,
) -> OpResult<()> {
    let full: Vec<i64> = firings
        .iter()
        .filter(|firing| {
            let waiting = i64::try_from(firing.executions.len()).unwrap_or(i64::MAX);
            let active = active.get(&firing.schedule_id).copied().unwrap_or(0);
            let limit = firing.overlap_limit.map_or(i64::MAX, i64::from);
            active > 0 && active.saturating_add(waiting) > limit
        })
        .map(|firing| firing.schedule_id)
        .collect();
    if full.is_empty() {
        return Ok(());
    }
    let counts: Vec<(Option<i64>, i64)> = task_executions::table
        .filter(task_executions::schedule_id.eq_any(full))
        .filter(executions::is_active())
        .filter(task_executions::trigger.eq(Trigger::Backfill.as_str()))
        .group_by(task_executions::schedule_id)
        .select((task_executions::schedule_id, count_star()))
        .load(tx.conn())
        .await?;
    for (id, count) in counts {
        if let Some(active) = id.and_then(|id| active.get_mut(&id)) {
            *active -= count;
        }
    }
    Ok(())
}

/// What becomes of a firing's instants under the overlap limit.
struct Split<'a> {
    run: &'a [Arc<NewExecution>],
    /// These go to the ledger.
    over: &'a [Arc<NewExecution>],
    /// The first instant to catch up on that must wait; it and all after it stay planned.
    held: Option<Timestamp>,
    /// So many of the rows that wait or run are cancelled, the oldest first.
    to_cancel: i64,
}

/// What a firing leaves to its schedule.
struct After {
    held: Option<Timestamp>,
    /// An instant went to the ledger because of earlier runs.
    gave_way: bool,
}

fn split_by_limit(firing: &Firing, active: i64) -> Split<'_> {
    let all = firing.executions.as_slice();
    let rules = OverlapRules { limit: firing.overlap_limit, makes_room: firing.makes_room };
    let places = overlap::split(rules, all.len(), firing.catch_up, active);
    Split {
        run: all.get(places.run).unwrap_or_default(),
        over: all.get(places.over).unwrap_or_default(),
        held: places.held.and_then(|place| all.get(place)).map(|row| row.scheduled_at),
        to_cancel: places.to_cancel,
    }
}

/// When the next run that is caught up on may start, after those that this firing made.
fn next_catch_up(firing: &Firing, held: Option<Timestamp>) -> Option<Timestamp> {
    let spacing = firing.catch_up_spacing?;
    let caught_up = firing.executions.get(..firing.catch_up)?;
    let made = caught_up.iter().take_while(|row| held.is_none_or(|held| row.scheduled_at < held));
    made.last().map(|row| row.available_at + spacing)
}

fn overlap_range(over: &[Arc<NewExecution>]) -> Option<LedgerRange> {
    let (first, last) = (over.first()?, over.last()?);
    Some(LedgerRange {
        from: first.scheduled_at,
        to: last.scheduled_at,
        count: i64::try_from(over.len()).unwrap_or(i64::MAX),
        reason: LedgerReason::Overlap,
    })
}

/// Moves the schedules on; those that fired for the last time become paused.
async fn advance(
    tx: &mut Tx,
    fired: Vec<(&Firing, Standing, After)>,
    made: &[Execution],
    now: Timestamp,
) -> OpResult<()> {
    if fired.is_empty() {
        return Ok(());
    }
    let mut instants: HashMap<i64, (i64, Timestamp)> = HashMap::new();
    for execution in made {
        let Some(schedule) = execution.new.schedule_id else { continue };
        let at = execution.new.scheduled_at;
        let entry = instants.entry(schedule).or_insert((0, at));
        entry.0 += 1;
        entry.1 = entry.1.max(at);
    }
    let mut advances = Vec::with_capacity(fired.len());
    let mut exhausted = Vec::new();
    let mut settled = Vec::new();
    for (firing, mut schedule, After { held, gave_way }) in fired {
        settled.extend(firing.settled_at.map(|at| (firing.schedule_id, at)));
        // What gave way was not run, so that the last of `maxExecutions` is still to come.
        let goes_on = firing.next_if_left.filter(|_| gave_way && held.is_none());
        if let Some((count, last)) = instants.get(&schedule.id) {
            schedule.fired += count;
            schedule.last_run_at = schedule.last_run_at.max(Some(Instant(*last)));
        }
        schedule.next_run_at = held.or(firing.next_run_at).or(goes_on).map(Instant);
        schedule.catch_up_at = next_catch_up(firing, held).map(Instant).or(schedule.catch_up_at);
        let is_over = firing.exhausted && held.is_none() && goes_on.is_none();
        if is_over && schedule.enabled {
            schedule.enabled = false;
            schedule.paused_at = Some(Instant(now));
            exhausted.push(schedule.id);
        }
        advances.push(Advance {
            id: schedule.id,
            next_run_at: schedule.next_run_at.map(|at| at.0),
            last_run_at: schedule.last_run_at.map(|at| at.0),
            fired: schedule.fired,
            enabled: schedule.enabled,
            paused_at: schedule.paused_at.map(|at| at.0),
            catch_up_at: schedule.catch_up_at.map(|at| at.0),
        });
    }
    hot::advance_schedules(tx.conn(), advances).await?;
    for (id, at) in settled {
        diesel::update(t::table.filter(t::id.eq(id)))
            .set(t::settled_at.eq(Some(Instant(at))))
            .execute(tx.conn())
            .await?;
    }
    if exhausted.is_empty() {
        return Ok(());
    }
    tx.changed(Topic::Schedules);
    let rows: Vec<ScheduleRow> = t::table
        .filter(t::id.eq_any(exhausted))
        .order(t::id.asc())
        .select(ScheduleRow::as_select())
        .load(tx.conn())
        .await?;
    for row in rows {
        tx.event(schedule_event(&row.try_into()?, "schedule_paused"));
    }
    Ok(())
}

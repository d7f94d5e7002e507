//! Firing: a batch of schedules in one transaction.
//!
//! Each schedule is locked and compared with what its plan was made from; what changed meanwhile is
//! stale and left alone. Then, for all of them at once: rows, ledger, the schedules' next instants.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::locked;
use super::documents::{LedgerDocument, document};
use super::hot::At;
use super::{Tx, executions, hot};
use crate::clock::Timestamp;
use crate::domain::event::schedule_event;
use crate::domain::execution::{Execution, NewExecution};
use crate::domain::schedule::{LedgerRange, LedgerReason};
use crate::store::models::ScheduleRow;
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
    let mut result = FiringResult::default();
    let mut fired: Vec<(&Firing, Standing, Option<Timestamp>)> = Vec::with_capacity(firings.len());
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
        let skipped = overlap_range(split.over);
        result.overlapped += u64::try_from(split.over.len()).unwrap_or(u64::MAX);
        for range in firing.ledger.iter().chain(skipped.as_ref()) {
            ledger.push(LedgerDocument::of(firing.schedule_id, range, At(now)));
        }
        if split.held.is_some() {
            result.held.push(firing.schedule_id);
        }
        fired.push((firing, schedule, split.held));
    }
    result.executions = executions::insert(tx, rows, claim.as_ref()).await?;
    if !ledger.is_empty() {
        hot::insert_ledger(tx.conn(), document(&ledger)?).await?;
    }
    advance(tx, fired, &result.executions, now).await?;
    Ok(result)
}

/// What a firing compares and moves of a schedule: its definition is with the plan already.
#[derive(Queryable)]
struct Standing {
    id: i64,
    version: i64,
    next_run_at: Option<Instant>,
    last_run_at: Option<Instant>,
    fired: i64,
    enabled: bool,
    paused_at: Option<Instant>,
    catch_up_at: Option<Instant>,
}

async fn lock_all(tx: &mut Tx, firings: &[Firing]) -> OpResult<HashMap<i64, Standing>> {
    let ids: Vec<i64> = firings.iter().map(|firing| firing.schedule_id).collect();
    let rows: Vec<Standing> =
        locked!(t::table.filter(t::id.eq_any(ids)).order(t::id.asc()).select((
            t::id,
            t::version,
            t::next_run_at,
            t::last_run_at,
            t::fired,
            t::enabled,
            t::paused_at,
            t::catch_up_at,
        )))
        .load(tx.conn())
        .await?;
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
    let counts: Vec<(Option<i64>, i64)> = task_executions::table
        .filter(task_executions::schedule_id.eq_any(limited))
        .filter(task_executions::status.eq_any(executions::ACTIVE))
        .group_by(task_executions::schedule_id)
        .select((task_executions::schedule_id, count_star()))
        .load(tx.conn())
        .await?;
    Ok(counts.into_iter().filter_map(|(id, count)| id.map(|id| (id, count))).collect())
}

/// What becomes of a firing's instants under the overlap limit.
struct Split<'a> {
    run: &'a [Arc<NewExecution>],
    /// These go to the ledger.
    over: &'a [Arc<NewExecution>],
    /// The first instant to catch up on that must wait; it and all after it stay planned.
    held: Option<Timestamp>,
}

fn split_by_limit(firing: &Firing, active: i64) -> Split<'_> {
    let all = firing.executions.as_slice();
    let free = firing.overlap_limit.map_or(all.len(), |limit| {
        usize::try_from((i64::from(limit) - active).max(0)).unwrap_or(0)
    });
    let (run, rest) = all.split_at(free.min(all.len()));
    match rest.first() {
        Some(first) if run.len() < firing.catch_up => {
            Split { run, over: &[], held: Some(first.scheduled_at) }
        }
        _ => Split { run, over: rest, held: None },
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
    fired: Vec<(&Firing, Standing, Option<Timestamp>)>,
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
    for (firing, mut schedule, held) in fired {
        if let Some((count, last)) = instants.get(&schedule.id) {
            schedule.fired += count;
            schedule.last_run_at = schedule.last_run_at.max(Some(Instant(*last)));
        }
        schedule.next_run_at = held.or(firing.next_run_at).map(Instant);
        schedule.catch_up_at = next_catch_up(firing, held).map(Instant).or(schedule.catch_up_at);
        if firing.exhausted && held.is_none() && schedule.enabled {
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

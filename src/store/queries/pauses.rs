//! Pauses of schedules: by hand, until an instant, after failures in a row; and skipping ahead.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::super::locked;
use super::{Tx, schedules};
use crate::clock::Timestamp;
use crate::domain::event::{instant_text, schedule_event};
use crate::domain::schedule::Schedule;
use crate::store::models::ScheduleRow;
use crate::store::op::OpResult;
use crate::store::schema::task_schedules as t;
use crate::store::sql_types::Instant;
use crate::store::{Finish, Pause, SkipAhead, Topic};

/// How the reason of a pause ends that came of failures.
pub(super) const FAILED_FOR_GOOD: &str = "failed for good";
/// Resumed in one transaction at most; more follow with the next.
const RESUMES_MAX: i64 = 500;

/// Writes what a pause or a resume changes, and its event.
async fn save(tx: &mut Tx, schedule: &Schedule, event: &'static str) -> OpResult<()> {
    diesel::update(t::table.filter(t::id.eq(schedule.id)))
        .set((
            t::enabled.eq(schedule.definition.enabled),
            t::paused_at.eq(schedule.paused_at.map(Instant)),
            t::resumed_at.eq(schedule.resumed_at.map(Instant)),
            t::paused_until.eq(schedule.paused_until.map(Instant)),
            t::pause_reason.eq(schedule.pause_reason.as_deref()),
            t::failure_streak.eq(schedule.failure_streak),
            t::updated_at.eq(Instant(schedule.updated_at)),
            t::version.eq(schedule.version),
        ))
        .execute(tx.conn())
        .await?;
    tx.event(schedule_event(schedule, event));
    tx.changed(Topic::Schedules);
    Ok(())
}

fn paused(schedule: &mut Schedule, pause: &Pause, now: Timestamp) {
    if schedule.definition.enabled {
        schedule.definition.enabled = false;
        schedule.paused_at = Some(now);
    }
    schedule.paused_until = pause.until;
    schedule.pause_reason.clone_from(&pause.reason);
    schedule.updated_at = now;
    schedule.version += 1;
}

fn resumed(schedule: &mut Schedule, at: Timestamp, now: Timestamp) {
    schedule.definition.enabled = true;
    schedule.resumed_at = Some(at);
    schedule.paused_until = None;
    schedule.pause_reason = None;
    schedule.failure_streak = 0;
    schedule.updated_at = now;
    schedule.version += 1;
}

pub(crate) async fn schedule_pause(tx: &mut Tx, id: &i64, pause: &Pause) -> OpResult<Schedule> {
    let mut schedule = schedules::lock(tx, *id).await?;
    let is_same = schedule.paused_until == pause.until && schedule.pause_reason == pause.reason;
    if !schedule.definition.enabled && is_same {
        return Ok(schedule);
    }
    let was = schedule.definition.enabled;
    tx.audit_change(|| {
        let after = json!({
            "enabled": false,
            "pausedUntil": pause.until.map(instant_text),
            "pauseReason": pause.reason,
        });
        (json!({ "enabled": was }), after)
    });
    let now = tx.now().await?;
    paused(&mut schedule, pause, now);
    save(tx, &schedule, "schedule_paused").await?;
    Ok(schedule)
}

pub(crate) async fn schedule_resume(tx: &mut Tx, id: &i64) -> OpResult<Schedule> {
    let mut schedule = schedules::lock(tx, *id).await?;
    if schedule.definition.enabled {
        return Ok(schedule);
    }
    tx.audit_change(|| (json!({ "enabled": false }), json!({ "enabled": true })));
    let now = tx.now().await?;
    resumed(&mut schedule, now, now);
    save(tx, &schedule, "schedule_resumed").await?;
    Ok(schedule)
}

pub(crate) async fn schedule_next_resume(tx: &mut Tx) -> OpResult<Option<Timestamp>> {
    let next: Option<Option<Instant>> = t::table
        .filter(t::paused_until.is_not_null())
        .order((t::paused_until.asc(), t::id.asc()))
        .select(t::paused_until)
        .first(tx.conn())
        .await
        .optional()?;
    Ok(next.flatten().map(|at| at.0))
}

/// Resumes what was paused until now or before; gives how many. The pause ends at its own instant,
/// however late this comes.
pub(crate) async fn schedule_resume_due(tx: &mut Tx) -> OpResult<usize> {
    let now = tx.now().await?;
    let rows: Vec<ScheduleRow> = locked!(
        t::table
            .filter(t::paused_until.le(Instant(now)))
            .order(t::id.asc())
            .limit(RESUMES_MAX)
            .select(ScheduleRow::as_select())
    )
    .load(tx.conn())
    .await?;
    let count = rows.len();
    for row in rows {
        let mut schedule: Schedule = row.try_into()?;
        let until = schedule.paused_until.unwrap_or(now);
        resumed(&mut schedule, until, now);
        save(tx, &schedule, "schedule_resumed").await?;
    }
    Ok(count)
}

pub(crate) async fn schedule_skip(tx: &mut Tx, skip: &SkipAhead) -> OpResult<Schedule> {
    let mut schedule = schedules::lock(tx, skip.id).await?;
    schedules::unmoved(&schedule, Some(skip.expected_next))?;
    schedules::same_version(&schedule, skip.expected_version)?;
    let now = tx.now().await?;
    schedules::insert_ranges(tx, skip.id, std::slice::from_ref(&skip.range), now).await?;
    let (was, next) = (Some(skip.expected_next), skip.next_run_at);
    tx.audit_change(|| {
        let at = |at: Option<Timestamp>| json!({ "nextRunAt": at.map(instant_text) });
        (at(was), at(next))
    });
    schedule.next_run_at = skip.next_run_at;
    schedule.updated_at = now;
    schedule.version += 1;
    let is_over = skip.next_run_at.is_none() && schedule.definition.enabled;
    if is_over {
        schedule.definition.enabled = false;
        schedule.paused_at = Some(now);
    }
    diesel::update(t::table.filter(t::id.eq(skip.id)))
        .set((
            t::next_run_at.eq(schedule.next_run_at.map(Instant)),
            t::enabled.eq(schedule.definition.enabled),
            t::paused_at.eq(schedule.paused_at.map(Instant)),
            t::updated_at.eq(Instant(now)),
            t::version.eq(schedule.version),
        ))
        .execute(tx.conn())
        .await?;
    tx.event(schedule_event(&schedule, "schedule_updated"));
    if is_over {
        tx.event(schedule_event(&schedule, "schedule_paused"));
    }
    tx.changed(Topic::Schedules);
    Ok(schedule)
}

/// Locks the schedules that count their failures, before the rows of the batch: schedules come
/// first. Nothing is asked when none of them counts.
pub(super) async fn lock_counting(tx: &mut Tx, batch: &[Finish]) -> OpResult<()> {
    let ids: BTreeSet<i64> = batch
        .iter()
        .filter(|finish| finish.row.new.task.options.pause_after_failures.is_some())
        .filter_map(|finish| finish.row.new.schedule_id)
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let _held: Vec<i64> =
        locked!(t::table.filter(t::id.eq_any(ids)).order(t::id.asc()).select(t::id))
            .load(tx.conn())
            .await?;
    Ok(())
}

/// Counts the end of a chain; `limit` failed ones in a row pause the schedule.
pub(super) async fn count_end(
    tx: &mut Tx,
    schedule_id: Option<i64>,
    limit: Option<i32>,
    has_failed: bool,
) -> OpResult<()> {
    let (Some(id), Some(limit)) = (schedule_id, limit) else { return Ok(()) };
    if !has_failed {
        diesel::update(t::table.filter(t::id.eq(id)).filter(t::failure_streak.ne(0)))
            .set(t::failure_streak.eq(0))
            .execute(tx.conn())
            .await?;
        return Ok(());
    }
    let row: Option<ScheduleRow> = diesel::update(t::table.filter(t::id.eq(id)))
        .set(t::failure_streak.eq(t::failure_streak + 1))
        .returning(ScheduleRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else { return Ok(()) };
    let mut schedule: Schedule = row.try_into()?;
    if schedule.failure_streak < i64::from(limit) || !schedule.definition.enabled {
        return Ok(());
    }
    let now = tx.now().await?;
    let reason = match schedule.failure_streak {
        1 => format!("1 run {FAILED_FOR_GOOD}"),
        count => format!("{count} runs in a row {FAILED_FOR_GOOD}"),
    };
    paused(&mut schedule, &Pause { until: None, reason: Some(reason) }, now);
    save(tx, &schedule, "schedule_paused").await
}

//! Backfills: made, moved on step by step, stopped, listed.
//!
//! A step locks the backfill, and its schedule before it, so that two backfills of one schedule do
//! not run the same instant. What was made and how far it went are one transaction.

use std::collections::HashSet;

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::super::{Db, locked};
use super::{Tx, creating, executions, hot, idempotency, schedules};
use crate::clock::Timestamp;
use crate::domain::backfill::{
    Ahead, Backfill, BackfillForm, BackfillStatus, allowance, next_start, step,
};
use crate::domain::event::{NewEvent, Room, plain_event};
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::store::models::{BackfillRow, ExecutionRow};
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::backfills as t;
use crate::store::schema::{task_executions, task_schedules};
use crate::store::sql_types::{Instant, sql};
use crate::store::{
    BackfillAdvance, BackfillCreate, BackfillProgress, Creation, KeysetPage, KeysetRequest,
};

/// Backfills of one schedule that may run at once.
const RUNNING_MAX: i64 = 10;

pub(crate) async fn backfill_create(
    tx: &mut Tx,
    request: &BackfillCreate,
) -> OpResult<Creation<Backfill>> {
    let kept = request.idempotency.as_ref();
    if let Some(answer) = idempotency::find(tx, kept).await? {
        return Ok(Creation::Replayed(answer));
    }
    let form = &request.form;
    // Its schedule is locked, so that requests at the same time are counted.
    schedules::lock(tx, form.schedule_id).await?;
    let running = count_running(tx, form.schedule_id).await?;
    if running >= RUNNING_MAX {
        let detail = format!("{running} backfills of this schedule run; stop one or wait");
        return Err(wrong_state("too_many_backfills", detail));
    }
    let now = Instant(tx.now().await?);
    let row: BackfillRow = diesel::insert_into(t::table)
        .values((
            (t::schedule_id.eq(form.schedule_id), t::schedule_name.eq(&form.schedule_name)),
            (t::from_at.eq(Instant(form.from)), t::to_at.eq(Instant(form.to))),
            (t::run_order.eq(form.order.as_str()), t::again.eq(form.again)),
            (t::per_minute.eq(form.per_minute), t::max_concurrent.eq(form.max_concurrent)),
            (t::status.eq(BackfillStatus::Running.as_str()), t::planned.eq(form.planned)),
            t::created_by.eq(form.created_by.as_deref()),
            (t::created_at.eq(now), t::updated_at.eq(now)),
        ))
        .returning(BackfillRow::as_select())
        .get_result(tx.conn())
        .await?;
    let backfill = row.try_into()?;
    idempotency::save(tx, kept, (&backfill, false)).await?;
    tx.event(backfill_event("backfill_started", &backfill));
    Ok(Creation::New(backfill))
}

pub(crate) async fn backfill_get(tx: &mut Tx, id: &i64) -> OpResult<Backfill> {
    let row: Option<BackfillRow> = t::table
        .filter(t::id.eq(*id))
        .select(BackfillRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("backfill", id))?.try_into()
}

pub(crate) async fn backfill_list(
    tx: &mut Tx,
    schedule_id: &Option<i64>,
    request: &KeysetRequest,
) -> OpResult<KeysetPage<Backfill>> {
    let mut query = t::table.into_boxed::<Db>();
    if let Some(schedule) = schedule_id {
        query = query.filter(t::schedule_id.eq(*schedule));
    }
    if let Some(below) = request.below {
        query = query.filter(t::id.lt(below));
    }
    let rows: Vec<BackfillRow> = query
        .order(t::id.desc())
        .limit(request.limit.saturating_add(1))
        .select(BackfillRow::as_select())
        .load(tx.conn())
        .await?;
    let rows = rows.into_iter().map(Backfill::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*request, rows, |backfill| backfill.id))
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

pub(crate) async fn backfill_list_running(tx: &mut Tx, limit: &i64) -> OpResult<Vec<Backfill>> {
    // The status stands in the text: an index over a part of the table serves no parameter.
    let ids: Vec<IdRow> =
        diesel::sql_query("SELECT id FROM backfills WHERE status = 'running' ORDER BY id LIMIT $1")
            .bind::<BigInt, _>(*limit)
            .load(tx.conn())
            .await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<BackfillRow> = t::table
        .filter(t::id.eq_any(ids.into_iter().map(|row| row.id)))
        .order(t::id.asc())
        .select(BackfillRow::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(Backfill::try_from).collect()
}

async fn lock(tx: &mut Tx, id: i64) -> OpResult<Backfill> {
    let row: Option<BackfillRow> =
        locked!(t::table.filter(t::id.eq(id)).select(BackfillRow::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    row.ok_or_else(|| not_found("backfill", id))?.try_into()
}

#[derive(QueryableByName)]
struct TakenRow {
    #[diesel(sql_type = sql::Instant)]
    scheduled_at: Instant,
}

/// Which instants of a schedule have run, by plan or by a backfill.
pub(crate) async fn backfill_taken(
    tx: &mut Tx,
    schedule_id: &i64,
    instants: &[Timestamp],
) -> OpResult<HashSet<Timestamp>> {
    let (Some(first), Some(last)) = (instants.iter().min(), instants.iter().max()) else {
        return Ok(HashSet::new());
    };
    let rows: Vec<TakenRow> = diesel::sql_query(
        "SELECT scheduled_at FROM task_executions WHERE schedule_id = $1 \
         AND \"trigger\" = 'schedule' AND scheduled_at >= $2 AND scheduled_at <= $3 UNION ALL \
         SELECT scheduled_at FROM task_executions WHERE schedule_id = $1 \
         AND \"trigger\" = 'backfill' AND attempt = 1 AND scheduled_at >= $2 AND scheduled_at <= $3",
    )
    .bind::<BigInt, _>(*schedule_id)
    .bind::<sql::Instant, _>(Instant(*first))
    .bind::<sql::Instant, _>(Instant(*last))
    .load(tx.conn())
    .await?;
    Ok(rows.into_iter().map(|row| row.scheduled_at.0).collect())
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    matching: i64,
}

/// Rows of a backfill that wait or run, retries included.
async fn count_active(tx: &mut Tx, form: &BackfillForm, id: i64) -> OpResult<usize> {
    let row: CountRow = diesel::sql_query(format!(
        "SELECT count(*) AS matching FROM task_executions WHERE schedule_id = $1 \
         AND status IN ('pending', 'running') AND {} = $2",
        hot::BACKFILL_OF
    ))
    .bind::<BigInt, _>(form.schedule_id)
    .bind::<BigInt, _>(id)
    .get_result(tx.conn())
    .await?;
    Ok(usize::try_from(row.matching).unwrap_or(0))
}

pub(crate) async fn backfill_advance(tx: &mut Tx, plan: &BackfillAdvance) -> OpResult<bool> {
    let known = backfill_get(tx, &plan.id).await?;
    let schedule: Option<i64> = locked!(
        task_schedules::table
            .filter(task_schedules::id.eq(known.form.schedule_id))
            .select(task_schedules::id)
    )
    .get_result(tx.conn())
    .await
    .optional()?;
    let mut backfill = lock(tx, plan.id).await?;
    if backfill.status != BackfillStatus::Running || backfill.position != plan.expected_position {
        return Ok(false);
    }
    let now = tx.now().await?;
    if schedule.is_none() {
        backfill.status = BackfillStatus::Stopped;
        backfill.reason = Some("its schedule was deleted".to_owned());
        return save(tx, backfill, now).await.map(|()| true);
    }
    let instants: Vec<Timestamp> = plan.rows.iter().map(|row| row.scheduled_at).collect();
    let taken = if backfill.form.again {
        HashSet::new()
    } else {
        backfill_taken(tx, &backfill.form.schedule_id, &instants).await?
    };
    let active = count_active(tx, &backfill.form, plan.id).await?;
    let most = usize::try_from(backfill.form.max_concurrent).unwrap_or(0);
    let rate = backfill.form.per_minute;
    let free = most.saturating_sub(active).min(allowance(rate, backfill.next_start_at, now));
    let done = step(&Ahead { instants, is_last: plan.is_last }, &taken, free);
    let rows = done.made.iter().filter_map(|place| plan.rows.get(*place)).cloned().collect();
    let made = creating::insert(tx, rows, None).await?;
    if done.position.is_none() && !done.is_done {
        return Ok(false);
    }
    let left_out = done.left_out + done.made.len().saturating_sub(made.len());
    backfill.next_start_at = next_start(rate, backfill.next_start_at, now, made.len());
    backfill.made += i64::try_from(made.len()).unwrap_or(0);
    backfill.left_out += i64::try_from(left_out).unwrap_or(0);
    backfill.position = done.position.or(backfill.position);
    if done.is_done {
        backfill.status = BackfillStatus::Completed;
    }
    save(tx, backfill, now).await.map(|()| true)
}

/// `backfill_started`, `_completed` (every instant is decided), `_stopped`.
fn backfill_event(event_type: &'static str, backfill: &Backfill) -> NewEvent {
    let form = &backfill.form;
    let payload = json!({
        "id": backfill.id,
        "scheduleId": form.schedule_id,
        "scheduleName": form.schedule_name,
        "status": backfill.status,
        "planned": form.planned,
        "made": backfill.made,
        "leftOut": backfill.left_out,
        "reason": backfill.reason,
    });
    let event = plain_event(event_type, Room::Tasks, payload);
    NewEvent { schedule_id: Some(form.schedule_id), ..event }
}

async fn save(tx: &mut Tx, backfill: Backfill, now: Timestamp) -> OpResult<()> {
    match backfill.status {
        BackfillStatus::Running => {}
        BackfillStatus::Completed => tx.event(backfill_event("backfill_completed", &backfill)),
        BackfillStatus::Stopped => tx.event(backfill_event("backfill_stopped", &backfill)),
    }
    let ended_at = (backfill.status != BackfillStatus::Running).then_some(Instant(now));
    diesel::update(t::table.filter(t::id.eq(backfill.id)))
        .set((
            t::status.eq(backfill.status.as_str()),
            t::position.eq(backfill.position.map(Instant)),
            t::made.eq(backfill.made),
            t::left_out.eq(backfill.left_out),
            t::next_start_at.eq(backfill.next_start_at.map(Instant)),
            t::updated_at.eq(Instant(now)),
            t::ended_at.eq(ended_at),
            t::reason.eq(backfill.reason),
        ))
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn backfill_stop(
    tx: &mut Tx,
    id: &i64,
    reason: &Option<String>,
) -> OpResult<Backfill> {
    let mut backfill = lock(tx, *id).await?;
    if backfill.status != BackfillStatus::Running {
        return Ok(backfill);
    }
    let now = tx.now().await?;
    backfill.status = BackfillStatus::Stopped;
    backfill.reason.clone_from(reason);
    backfill.updated_at = now;
    backfill.ended_at = Some(now);
    save(tx, backfill.clone(), now).await?;
    let ids: Vec<IdRow> = diesel::sql_query(format!(
        "SELECT id FROM task_executions WHERE schedule_id = $1 AND status = 'pending' AND {} = $2",
        hot::BACKFILL_OF
    ))
    .bind::<BigInt, _>(backfill.form.schedule_id)
    .bind::<BigInt, _>(*id)
    .load(tx.conn())
    .await?;
    let waiting = task_executions::table
        .filter(task_executions::id.eq_any(ids.into_iter().map(|row| row.id)))
        .filter(executions::is_pending())
        .order(task_executions::id.asc());
    let rows: Vec<ExecutionRow> =
        locked!(waiting.select(ExecutionRow::as_select())).load(tx.conn()).await?;
    let rows = rows.into_iter().map(Execution::try_from).collect::<OpResult<Vec<_>>>()?;
    if !rows.is_empty() {
        executions::cancel_pending(tx, rows).await?;
    }
    Ok(backfill)
}

#[derive(QueryableByName)]
struct StatusRow {
    #[diesel(sql_type = diesel::sql_types::Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    matching: i64,
}

pub(crate) async fn backfill_progress(
    tx: &mut Tx,
    backfill: &Backfill,
) -> OpResult<BackfillProgress> {
    let rows: Vec<StatusRow> = diesel::sql_query(format!(
        "SELECT status, count(*) AS matching FROM task_executions WHERE schedule_id = $1 \
         AND \"trigger\" = 'backfill' AND attempt = 1 AND scheduled_at >= $2 \
         AND scheduled_at <= $3 AND {} = $4 GROUP BY status",
        hot::BACKFILL_OF
    ))
    .bind::<BigInt, _>(backfill.form.schedule_id)
    .bind::<sql::Instant, _>(Instant(backfill.form.from))
    .bind::<sql::Instant, _>(Instant(backfill.form.to))
    .bind::<BigInt, _>(backfill.id)
    .load(tx.conn())
    .await?;
    let mut progress = BackfillProgress::default();
    for row in rows {
        match ExecutionStatus::parse(&row.status) {
            Some(ExecutionStatus::Pending) => progress.pending += row.matching,
            Some(ExecutionStatus::Running) => progress.running += row.matching,
            Some(ExecutionStatus::Completed) => progress.completed += row.matching,
            Some(ExecutionStatus::Failed | ExecutionStatus::Timeout) => {
                progress.failed += row.matching;
            }
            Some(ExecutionStatus::Cancelled | ExecutionStatus::Skipped) | None => {
                progress.cancelled += row.matching;
            }
        }
    }
    Ok(progress)
}

/// How many backfills of a schedule run.
async fn count_running(tx: &mut Tx, schedule_id: i64) -> OpResult<i64> {
    Ok(t::table
        .filter(t::schedule_id.eq(schedule_id))
        .filter(t::status.eq(BackfillStatus::Running.as_str()))
        .select(count_star())
        .get_result(tx.conn())
        .await?)
}

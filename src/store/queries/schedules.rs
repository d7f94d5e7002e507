//! Schedules: made, edited, paused, listed, deleted. Firing is in `firing.rs`.

use std::collections::HashMap;

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DatabaseError};
use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::super::{Db, locked};
use super::documents::{LedgerDocument, document};
use super::hot::At;
use super::{Tx, calendars, errors, executions, hot, idempotency, page_of, pauses, triggers};
use crate::clock::Timestamp;
use crate::domain::error_record::{ErrorRecord, RecoveryStatus};
use crate::domain::event::schedule_event;
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::domain::schedule::{
    LedgerRange, Schedule, ScheduleDefinition, ScheduleStats, ScheduleType,
};
use crate::store::models::{ErrorRow, ExecutionRow, ScheduleRow, ScheduleValues};
use crate::store::op::{OpError, OpResult, not_found, wrong_state};
use crate::store::schema::{error_records, task_executions, task_schedules as t};
use crate::store::sql_types::Instant;
use crate::store::{
    Creation, DueSchedules, Idempotency, MOVED_MEANWHILE, Page, PageRequest, Pause, ScheduleChange,
    ScheduleCounts, ScheduleFilter, ScheduleProgress, ScheduleRemoval, StoreError, Topic,
};

fn duplicate(name: &str) -> OpError {
    OpError::Rule(StoreError::Duplicate { what: "name", value: name.to_owned() })
}

/// A schedule by id, locked.
pub(super) async fn lock(tx: &mut Tx, id: i64) -> OpResult<Schedule> {
    let row: Option<ScheduleRow> =
        locked!(t::table.filter(t::id.eq(id)).select(ScheduleRow::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    row.ok_or_else(|| not_found("schedule", id))?.try_into()
}

pub(crate) async fn schedule_create(
    tx: &mut Tx,
    definition: &ScheduleDefinition,
    next_run_at: &Option<Timestamp>,
    kept: &Option<Idempotency<Schedule>>,
) -> OpResult<Creation<Schedule>> {
    if let Some(answer) = idempotency::find(tx, kept.as_ref()).await? {
        return Ok(Creation::Replayed(answer));
    }
    let now = Instant(tx.now().await?);
    let paused_at = (!definition.enabled).then_some(now);
    let row: Option<ScheduleRow> = diesel::insert_into(t::table)
        .values((
            ScheduleValues::of(definition),
            t::next_run_at.eq(next_run_at.map(Instant)),
            t::paused_at.eq(paused_at),
            t::settled_at.eq(Some(now)),
            t::created_at.eq(now),
            t::updated_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .returning(ScheduleRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let schedule: Schedule = row.ok_or_else(|| duplicate(&definition.name))?.try_into()?;
    calendars::link(tx, schedule.id, definition, false).await?;
    triggers::listen(tx, schedule.id, definition).await?;
    tx.event(schedule_event(&schedule, "schedule_created"));
    tx.changed(Topic::Schedules);
    idempotency::save(tx, kept.as_ref(), (&schedule, false)).await?;
    Ok(Creation::New(schedule))
}

pub(crate) async fn schedule_get(tx: &mut Tx, id: &i64) -> OpResult<Schedule> {
    let row: Option<ScheduleRow> = t::table
        .filter(t::id.eq(*id))
        .select(ScheduleRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("schedule", id))?.try_into()
}

pub(crate) async fn schedule_find_by_name(tx: &mut Tx, name: &str) -> OpResult<Option<Schedule>> {
    let row: Option<ScheduleRow> = t::table
        .filter(t::name.eq(name))
        .select(ScheduleRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.map(Schedule::try_from).transpose()
}

/// A `LIKE` pattern that finds `text` anywhere, its own wildcards taken literally.
pub(super) fn pattern_of(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

fn filtered(filter: &ScheduleFilter) -> t::BoxedQuery<'static, Db> {
    let mut query = t::table.into_boxed::<Db>();
    if let Some(enabled) = filter.enabled {
        query = query.filter(t::enabled.eq(enabled));
    }
    if let Some(task_type) = &filter.task_type {
        query = query.filter(t::task_type.eq(task_type.clone()));
    }
    if let Some(tag) = &filter.tag {
        let [before, after] = hot::HAS_TAG;
        query = query.filter(sql::<Bool>(before).bind::<Text, _>(tag.clone()).sql(after));
    }
    if let Some(text) = &filter.text {
        let [before, between, after] = hot::CONTAINS;
        let pattern = pattern_of(text);
        query = query.filter(
            sql::<Bool>(before)
                .bind::<Text, _>(pattern.clone())
                .sql(between)
                .bind::<Text, _>(pattern)
                .sql(after),
        );
    }
    query
}

pub(crate) async fn schedule_list(
    tx: &mut Tx,
    filter: &ScheduleFilter,
    page: &PageRequest,
) -> OpResult<Page<Schedule>> {
    page_of!(tx, *page, filtered(filter), t::id, ScheduleRow)
}

/// Refuses a change that was planned before the schedule fired.
pub(super) fn unmoved(current: &Schedule, expected_next: Option<Timestamp>) -> OpResult<()> {
    if current.next_run_at == expected_next {
        return Ok(());
    }
    Err(wrong_state(MOVED_MEANWHILE, "the schedule fired meanwhile; try again"))
}

pub(super) async fn insert_ranges(
    tx: &mut Tx,
    schedule_id: i64,
    ranges: &[LedgerRange],
    now: Timestamp,
) -> OpResult<()> {
    if ranges.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> =
        ranges.iter().map(|range| LedgerDocument::of(schedule_id, range, At(now))).collect();
    hot::insert_ledger(tx.conn(), document(&rows)?).await
}

/// Refuses a change that was made from another version.
pub(super) fn same_version(current: &Schedule, expected: i64) -> OpResult<()> {
    let actual = current.version;
    if actual == expected {
        return Ok(());
    }
    Err(OpError::Rule(StoreError::VersionConflict { expected, actual }))
}

pub(crate) async fn schedule_update(tx: &mut Tx, change: &ScheduleChange) -> OpResult<Schedule> {
    let current = lock(tx, change.id).await?;
    same_version(&current, change.expected_version)?;
    if change.next_run_at.is_some() {
        unmoved(&current, change.expected_next)?;
    }
    let now = tx.now().await?;
    let enabled = change.definition.enabled;
    let turned = enabled != current.definition.enabled;
    let paused_at = if turned && !enabled { Some(now) } else { current.paused_at };
    let resumed_at = if turned && enabled { Some(now) } else { current.resumed_at };
    // A pause that somebody ends or begins with an edit has no end and no reason of its own.
    let pause_reason = current.pause_reason.filter(|_| !turned);
    let paused_until = current.paused_until.filter(|_| !turned);
    let streak = if turned && enabled { 0 } else { current.failure_streak };
    let row: Result<ScheduleRow, _> = diesel::update(t::table.filter(t::id.eq(change.id)))
        .set((
            ScheduleValues::of(&change.definition),
            t::next_run_at.eq(change.next_run_at.unwrap_or(current.next_run_at).map(Instant)),
            t::paused_at.eq(paused_at.map(Instant)),
            t::resumed_at.eq(resumed_at.map(Instant)),
            t::settled_at.eq(change.settled_at.or(current.settled_at).map(Instant)),
            (t::paused_until.eq(paused_until.map(Instant)), t::pause_reason.eq(pause_reason)),
            t::failure_streak.eq(streak),
            t::updated_at.eq(Instant(now)),
            t::version.eq(current.version + 1),
        ))
        .returning(ScheduleRow::as_select())
        .get_result(tx.conn())
        .await;
    let schedule: Schedule = match row {
        Ok(row) => row.try_into()?,
        Err(DatabaseError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            return Err(duplicate(&change.definition.name));
        }
        Err(error) => return Err(error.into()),
    };
    insert_ranges(tx, change.id, &change.ledger, now).await?;
    let had = !current.definition.options.cadence.calendars.is_empty();
    calendars::link(tx, change.id, &change.definition, had).await?;
    if current.definition.schedule_type == ScheduleType::Event {
        triggers::forget(tx, change.id).await?;
    }
    triggers::listen(tx, change.id, &change.definition).await?;
    tx.event(schedule_event(&schedule, "schedule_updated"));
    if turned {
        let event = if enabled { "schedule_resumed" } else { "schedule_paused" };
        tx.event(schedule_event(&schedule, event));
    }
    tx.changed(Topic::Schedules);
    Ok(schedule)
}

pub(crate) async fn schedule_set_enabled(
    tx: &mut Tx,
    id: &i64,
    enabled: &bool,
) -> OpResult<Schedule> {
    if *enabled {
        return pauses::schedule_resume(tx, id).await;
    }
    let schedule = lock(tx, *id).await?;
    // A pause that is there stays as it is.
    if schedule.definition.enabled {
        return pauses::schedule_pause(tx, id, &Pause::default()).await;
    }
    Ok(schedule)
}

pub(crate) async fn schedule_delete(
    tx: &mut Tx,
    id: &i64,
    removal: &Option<ScheduleRemoval>,
) -> OpResult<Schedule> {
    let schedule = lock(tx, *id).await?;
    if let Some(removal) = removal {
        unmoved(&schedule, removal.expected_next)?;
        let now = tx.now().await?;
        insert_ranges(tx, *id, &removal.ledger, now).await?;
    }
    let waiting: Vec<ExecutionRow> = locked!(
        task_executions::table
            .filter(task_executions::schedule_id.eq(*id))
            .filter(executions::is_pending())
            .order(task_executions::id.asc())
            .select(ExecutionRow::as_select())
    )
    .load(tx.conn())
    .await?;
    if !waiting.is_empty() {
        let waiting = waiting.into_iter().map(Execution::try_from).collect::<OpResult<Vec<_>>>()?;
        executions::cancel_pending(tx, waiting).await?;
    }
    let open = [
        RecoveryStatus::RetryScheduled.as_str(),
        RecoveryStatus::Retrying.as_str(),
        RecoveryStatus::Escalated.as_str(),
    ];
    let open: Vec<ErrorRow> = locked!(
        error_records::table
            .filter(error_records::schedule_id.eq(*id))
            .filter(error_records::recovery_status.eq_any(open))
            .order(error_records::id.asc())
            .select(ErrorRow::as_select())
    )
    .load(tx.conn())
    .await?;
    for row in open {
        let mut record = ErrorRecord::try_from(row)?;
        record.recovery_status = RecoveryStatus::Unresolved;
        record.next_retry_at = None;
        record.updated_at = tx.now().await?;
        errors::save(tx, record).await?;
        tx.changed(Topic::Retries);
    }
    if !schedule.definition.options.cadence.calendars.is_empty() {
        calendars::unlink(tx, *id).await?;
    }
    if schedule.definition.schedule_type == ScheduleType::Event {
        triggers::abandon(tx, *id).await?;
    }
    diesel::delete(t::table.filter(t::id.eq(*id))).execute(tx.conn()).await?;
    tx.event(schedule_event(&schedule, "schedule_deleted"));
    tx.changed(Topic::Schedules);
    Ok(schedule)
}

#[derive(Queryable)]
struct ProgressRow {
    id: i64,
    version: i64,
    next_run_at: Option<Instant>,
    last_run_at: Option<Instant>,
    fired: i64,
    catch_up_at: Option<Instant>,
    settled_at: Option<Instant>,
}

impl From<ProgressRow> for ScheduleProgress {
    fn from(row: ProgressRow) -> Self {
        Self {
            id: row.id,
            version: row.version,
            next_run_at: row.next_run_at.map(|at| at.0),
            last_run_at: row.last_run_at.map(|at| at.0),
            fired: row.fired,
            catch_up_at: row.catch_up_at.map(|at| at.0),
            settled_at: row.settled_at.map(|at| at.0),
        }
    }
}

/// Whole schedules are read this many at a time: a statement has a limited number of parameters.
const WHOLE_AT_ONCE: usize = 1_000;

pub(crate) async fn schedule_list_due(
    tx: &mut Tx,
    until: &Timestamp,
    limit: &i64,
    known: &HashMap<i64, i64>,
) -> OpResult<DueSchedules> {
    let rows: Vec<ProgressRow> = t::table
        .filter(t::enabled)
        .filter(t::next_run_at.is_not_null())
        .filter(t::next_run_at.le(Instant(*until)))
        .order((t::next_run_at.asc(), t::id.asc()))
        .limit(*limit)
        .select((
            t::id,
            t::version,
            t::next_run_at,
            t::last_run_at,
            t::fired,
            t::catch_up_at,
            t::settled_at,
        ))
        .load(tx.conn())
        .await?;
    let is_unknown = |row: &&ProgressRow| known.get(&row.id) != Some(&row.version);
    let ids: Vec<i64> = rows.iter().filter(is_unknown).map(|row| row.id).collect();
    let mut unknown = Vec::with_capacity(ids.len());
    for some in ids.chunks(WHOLE_AT_ONCE) {
        let whole: Vec<ScheduleRow> = t::table
            .filter(t::id.eq_any(some))
            .filter(t::enabled)
            .select(ScheduleRow::as_select())
            .load(tx.conn())
            .await?;
        for row in whole {
            unknown.push(Schedule::try_from(row)?);
        }
    }
    let progress = rows.into_iter().map(ScheduleProgress::from).collect();
    Ok(DueSchedules { progress, unknown })
}

pub(crate) async fn schedule_next_due(tx: &mut Tx) -> OpResult<Option<(i64, Timestamp)>> {
    let next: Option<(i64, Option<Instant>)> = t::table
        .filter(t::enabled)
        .filter(t::next_run_at.is_not_null())
        .order((t::next_run_at.asc(), t::id.asc()))
        .select((t::id, t::next_run_at))
        .first(tx.conn())
        .await
        .optional()?;
    Ok(next.and_then(|(id, at)| at.map(|at| (id, at.0))))
}

#[derive(QueryableByName)]
struct StatsRow {
    #[diesel(sql_type = BigInt)]
    schedule_id: i64,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    executions: i64,
    #[diesel(sql_type = Nullable<Double>)]
    mean: Option<f64>,
}

pub(crate) async fn schedule_stats(
    tx: &mut Tx,
    ids: &[i64],
) -> OpResult<HashMap<i64, ScheduleStats>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    // Numbers of ours, not text of others: they may stand in the statement.
    let list = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let rows: Vec<StatsRow> = diesel::sql_query(format!(
        "SELECT schedule_id, status, count(*) AS executions, \
         avg(CAST(duration_ms AS double precision)) AS mean \
         FROM task_executions WHERE schedule_id IN ({list}) GROUP BY schedule_id, status"
    ))
    .load(tx.conn())
    .await?;
    let mut stats: HashMap<i64, ScheduleStats> =
        ids.iter().map(|id| (*id, ScheduleStats::default())).collect();
    for row in rows {
        let entry = stats.entry(row.schedule_id).or_default();
        entry.total += row.executions;
        match ExecutionStatus::parse(&row.status) {
            Some(ExecutionStatus::Pending | ExecutionStatus::Running) => {
                entry.active += row.executions;
            }
            Some(ExecutionStatus::Completed) => {
                entry.completed += row.executions;
                entry.mean_duration_ms = row.mean;
            }
            Some(ExecutionStatus::Failed | ExecutionStatus::Timeout) => {
                entry.failed += row.executions;
            }
            Some(ExecutionStatus::Cancelled | ExecutionStatus::Skipped) | None => {}
        }
    }
    Ok(stats)
}

pub(crate) async fn schedule_counts(tx: &mut Tx) -> OpResult<ScheduleCounts> {
    let counts: Vec<(bool, i64)> =
        t::table.group_by(t::enabled).select((t::enabled, count_star())).load(tx.conn()).await?;
    let of = |enabled| counts.iter().find(|(is, _)| *is == enabled).map_or(0, |(_, count)| *count);
    Ok(ScheduleCounts { enabled: of(true), paused: of(false) })
}

//! Deadlines of chains: kept apart from executions, so that those without one cost nothing.
//!
//! A chain with a deadline has a row here from its making until it succeeds in time, is cancelled,
//! or the deadline passes. Whoever deletes the row tells of it, so that it is told once.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::super::Db;
use super::Tx;
use crate::clock::Timestamp;
use crate::domain::event::{NewEvent, Room, instant_text, plain_event};
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::domain::sla::{SAMPLES_MAX, expected_ms, latest_start};
use crate::store::DeadlineNews;
use crate::store::op::OpResult;
use crate::store::schema::chain_deadlines as t;
use crate::store::schema::task_executions;
use crate::store::sql_types::{Instant, Uid};

/// Deadlines told of in one transaction.
const SWEEP_MAX: i64 = 500;

#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = t)]
#[diesel(check_for_backend(Db))]
struct Raw {
    chain_id: Uid,
    schedule_id: Option<i64>,
    schedule_name: Option<String>,
    execution_id: i64,
    deadline_at: Instant,
    risk_at: Option<Instant>,
    expected_ms: Option<i64>,
}

/// Notes the deadlines of new chains.
pub(super) async fn note(tx: &mut Tx, made: &[Execution]) -> OpResult<()> {
    let mut expected: HashMap<i64, Option<i64>> = HashMap::new();
    for execution in made.iter().filter(|execution| execution.new.attempt == 1) {
        let Some(sla) = execution.new.task.options.admission.sla_ms else { continue };
        let deadline = execution.new.scheduled_at + chrono::TimeDelta::milliseconds(sla);
        let expected = match execution.new.schedule_id {
            None => None,
            Some(schedule) => match expected.get(&schedule) {
                Some(known) => *known,
                None => {
                    let found = expected_of(tx, schedule).await?;
                    expected.insert(schedule, found);
                    found
                }
            },
        };
        let row = Raw {
            chain_id: Uid(execution.new.chain_id),
            schedule_id: execution.new.schedule_id,
            schedule_name: execution.new.schedule_name.clone(),
            execution_id: execution.id,
            deadline_at: Instant(deadline),
            risk_at: expected.map(|ms| Instant(latest_start(deadline, ms))),
            expected_ms: expected,
        };
        diesel::insert_into(t::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Duration {
    #[diesel(sql_type = Nullable<BigInt>)]
    duration_ms: Option<i64>,
}

/// What the last runs of a schedule say of the next.
async fn expected_of(tx: &mut Tx, schedule: i64) -> OpResult<Option<i64>> {
    let rows: Vec<Duration> = diesel::sql_query(format!(
        "SELECT duration_ms FROM task_executions WHERE schedule_id = $1 AND status = 'completed' \
         ORDER BY id DESC LIMIT {SAMPLES_MAX}"
    ))
    .bind::<BigInt, _>(schedule)
    .load(tx.conn())
    .await?;
    let durations: Vec<i64> = rows.into_iter().filter_map(|row| row.duration_ms).collect();
    Ok(expected_ms(&durations))
}

/// A chain succeeded: its deadline is met, unless it has passed.
pub(super) async fn meet(tx: &mut Tx, execution: &Execution, at: Timestamp) -> OpResult<()> {
    if execution.new.task.options.admission.sla_ms.is_none() {
        return Ok(());
    }
    diesel::delete(
        t::table
            .filter(t::chain_id.eq(Uid(execution.new.chain_id)))
            .filter(t::deadline_at.ge(Instant(at))),
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A person ended a chain: nobody waits for it any more.
pub(super) async fn waive(tx: &mut Tx, execution: &Execution) -> OpResult<()> {
    if execution.new.task.options.admission.sla_ms.is_none() {
        return Ok(());
    }
    diesel::delete(t::table.filter(t::chain_id.eq(Uid(execution.new.chain_id))))
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn deadline_due(tx: &mut Tx) -> OpResult<bool> {
    let now = Instant(tx.now().await?);
    let passed: Option<i64> = t::table
        .filter(t::deadline_at.lt(now))
        .select(t::execution_id)
        .first(tx.conn())
        .await
        .optional()?;
    if passed.is_some() {
        return Ok(true);
    }
    let doubtful: Option<i64> = t::table
        .filter(t::risk_at.le(now))
        .select(t::execution_id)
        .first(tx.conn())
        .await
        .optional()?;
    Ok(doubtful.is_some())
}

pub(crate) async fn deadline_sweep(tx: &mut Tx) -> OpResult<DeadlineNews> {
    let now = tx.now().await?;
    let missed: Vec<Raw> = t::table
        .filter(t::deadline_at.lt(Instant(now)))
        .order(t::deadline_at.asc())
        .limit(SWEEP_MAX)
        .select(Raw::as_select())
        .load(tx.conn())
        .await?;
    let mut news = DeadlineNews::default();
    for row in missed {
        let deleted = diesel::delete(t::table.filter(t::chain_id.eq(row.chain_id)))
            .execute(tx.conn())
            .await?;
        if deleted > 0 {
            news.missed += 1;
            tx.event(deadline_event("sla_missed", &row, now));
        }
    }
    let doubtful: Vec<Raw> = t::table
        .filter(t::risk_at.le(Instant(now)))
        .order(t::risk_at.asc())
        .limit(SWEEP_MAX)
        .select(Raw::as_select())
        .load(tx.conn())
        .await?;
    for row in doubtful {
        let told = diesel::update(
            t::table.filter(t::chain_id.eq(row.chain_id)).filter(t::risk_at.is_not_null()),
        )
        .set(t::risk_at.eq(None::<Instant>))
        .execute(tx.conn())
        .await?;
        if told > 0 && !runs_in_time(tx, &row).await? {
            news.at_risk += 1;
            tx.event(deadline_event("sla_at_risk", &row, now));
        }
    }
    Ok(news)
}

/// True when the first attempt started early enough and still runs.
async fn runs_in_time(tx: &mut Tx, row: &Raw) -> OpResult<bool> {
    let found: Option<(String, Option<Instant>)> = task_executions::table
        .filter(task_executions::id.eq(row.execution_id))
        .select((task_executions::status, task_executions::started_at))
        .get_result(tx.conn())
        .await
        .optional()?;
    Ok(found.is_some_and(|(status, started)| {
        status == ExecutionStatus::Running.as_str() && started <= row.risk_at
    }))
}

fn deadline_event(event_type: &'static str, row: &Raw, now: Timestamp) -> NewEvent {
    let payload: Value = json!({
        "executionId": row.execution_id,
        "chainId": row.chain_id.0,
        "scheduleId": row.schedule_id,
        "scheduleName": row.schedule_name,
        "deadlineAt": instant_text(row.deadline_at.0),
        "expectedMs": row.expected_ms,
        "at": instant_text(now),
    });
    NewEvent {
        schedule_id: row.schedule_id,
        execution_id: Some(row.execution_id),
        ..plain_event(event_type, Room::Tasks, payload)
    }
}

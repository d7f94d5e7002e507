//! The statements by hand: set-based over one JSON parameter.

use std::collections::HashMap;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::Conn;
use super::queries::documents::{EventDocument, document};
use crate::clock::{Clock, Timestamp};
use crate::domain::event::NewEvent;
use crate::store::ClaimHere;
use crate::store::models::ExecutionRow;
use crate::store::op::OpResult;
use crate::store::sql_types::{Instant, Uid, sql};

/// An instant inside a JSON parameter: microseconds.
#[derive(Clone, Copy)]
pub(crate) struct At(pub(crate) Timestamp);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0.timestamp_micros())
    }
}

/// Around a tag: true for schedules that carry it.
pub(crate) const HAS_TAG: [&str; 2] =
    ["EXISTS (SELECT 1 FROM json_each(task_schedules.tags) WHERE value = ", ")"];

/// Around a pattern, twice: true for schedules whose name or description matches.
pub(crate) const CONTAINS: [&str; 3] =
    ["(name LIKE ", " ESCAPE '\\' OR coalesce(description, '') LIKE ", " ESCAPE '\\')"];

/// Leases of earlier boots end this long after a start: the file has one process.
pub(crate) const EARLIER_BOOTS_END_AFTER: Option<Duration> = Some(Duration::from_secs(2));

/// SQLite believes that few rows have any one status and would sort them all; it is told better.
pub(crate) const BY_AVAILABLE: &str = "INDEXED BY task_executions_available";

const INSERT_EXECUTIONS: &str = "INSERT INTO task_executions (execution_id, chain_id, \
    schedule_id, schedule_name, \"trigger\", task_type, task_config, timeout_ms, retry_policy, \
    severity, cost_per_hour, tags, owner, priority_rank, attempt, retry_of, scheduled_at, \
    available_at, failures_before, crashes_before, dead_letter_id, dedup_key, traceparent, \
    created_by, status, created_at, started_at, lateness_ms, node_id, lease_owner) \
    SELECT value ->> 'execution_id', value ->> 'chain_id', value ->> 'schedule_id', \
    value ->> 'schedule_name', value ->> 'trigger', value ->> 'task_type', \
    value ->> 'task_config', value ->> 'timeout_ms', value ->> 'retry_policy', \
    value ->> 'severity', value ->> 'cost_per_hour', value ->> 'tags', value ->> 'owner', \
    value ->> 'priority_rank', value ->> 'attempt', value ->> 'retry_of', \
    value ->> 'scheduled_at', value ->> 'available_at', value ->> 'failures_before', \
    value ->> 'crashes_before', value ->> 'dead_letter_id', value ->> 'dedup_key', \
    value ->> 'traceparent', value ->> 'created_by', value ->> 'status', \
    value ->> 'created_at', value ->> 'started_at', value ->> 'lateness_ms', \
    value ->> 'node_id', value ->> 'lease_owner' \
    FROM json_each($1) WHERE true ON CONFLICT DO NOTHING RETURNING id, execution_id";

/// Most urgent first, then oldest; the claim index gives that order without sorting.
pub(crate) const CLAIM_EXECUTIONS: &str = "UPDATE task_executions SET status = 'running', \
    started_at = $1, lease_owner = $2, node_id = $3, lateness_ms = CASE \
    WHEN \"trigger\" = 'schedule' AND attempt = 1 THEN max(0, ($1 - scheduled_at) / 1000) END \
    WHERE id IN (SELECT id FROM task_executions INDEXED BY task_executions_claim \
    WHERE status = 'pending' AND available_at <= $1 ORDER BY priority_rank, available_at, id LIMIT $4) RETURNING *";

const FINISH_EXECUTIONS: &str = "UPDATE task_executions SET \
    status = v.value ->> 'status', completed_at = v.value ->> 'completed_at', \
    duration_ms = v.value ->> 'duration_ms', result = v.value ->> 'result', \
    error = v.value ->> 'error', conductor_thread_id = v.value ->> 'conductor_thread_id', \
    conductor_status = v.value ->> 'conductor_status', cost = v.value ->> 'cost' \
    FROM json_each($1) AS v WHERE task_executions.id = v.value ->> 'id'";

const ADVANCE_SCHEDULES: &str = "UPDATE task_schedules SET \
    next_run_at = v.value ->> 'next_run_at', last_run_at = v.value ->> 'last_run_at', \
    fired = v.value ->> 'fired', enabled = v.value ->> 'enabled', \
    paused_at = v.value ->> 'paused_at' \
    FROM json_each($1) AS v WHERE task_schedules.id = v.value ->> 'id'";

const INSERT_LEDGER: &str = "INSERT INTO schedule_ledger \
    (schedule_id, from_at, to_at, instants, reason, created_at) \
    SELECT value ->> 'schedule_id', value ->> 'from_at', value ->> 'to_at', \
    value ->> 'instants', value ->> 'reason', value ->> 'created_at' FROM json_each($1)";

const INSERT_LOGS: &str = "INSERT INTO execution_logs (execution_id, line, at, stream, \"text\") \
    SELECT value ->> 'execution_id', value ->> 'line', value ->> 'at', value ->> 'stream', \
    value ->> 'text' FROM json_each($1) WHERE true ON CONFLICT DO NOTHING";

const INSERT_EVENTS: &str = "INSERT INTO events (seq, at, event_type, room, schedule_id, \
    execution_id, severity, tags, owner, payload) \
    SELECT value ->> 'seq', value ->> 'at', value ->> 'event_type', value ->> 'room', \
    value ->> 'schedule_id', value ->> 'execution_id', value ->> 'severity', value ->> 'tags', \
    value ->> 'owner', value ->> 'payload' FROM json_each($1)";

#[derive(QueryableByName)]
struct MadeRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = sql::Uid)]
    execution_id: Uid,
}

#[derive(QueryableByName)]
struct LastRow {
    #[diesel(sql_type = BigInt)]
    last: i64,
}

/// The injected clock's instant: one process owns the file.
#[expect(clippy::unused_async, reason = "the other back end asks its database")]
pub(crate) async fn now(_conn: &mut Conn, clock: &Clock) -> OpResult<Timestamp> {
    Ok(clock.now())
}

/// Nothing to lock: there is one writer.
#[expect(clippy::unused_async, reason = "the other back end asks its database")]
pub(crate) async fn lock_key(_conn: &mut Conn, _key: &str) -> OpResult<()> {
    Ok(())
}

/// Inserts rows and gives their ids; rows that meet a unique index are left out.
pub(crate) async fn insert_executions(
    conn: &mut Conn,
    rows: String,
) -> OpResult<HashMap<Uuid, i64>> {
    let made: Vec<MadeRow> =
        diesel::sql_query(INSERT_EXECUTIONS).bind::<Text, _>(rows).load(conn).await?;
    Ok(made.into_iter().map(|row| (row.execution_id.0, row.id)).collect())
}

/// Claims rows that may run now.
pub(crate) async fn claim_executions(
    conn: &mut Conn,
    claim: &ClaimHere,
    now: Timestamp,
) -> OpResult<Vec<ExecutionRow>> {
    Ok(diesel::sql_query(CLAIM_EXECUTIONS)
        .bind::<sql::Instant, _>(Instant(now))
        .bind::<sql::Uid, _>(Uid(claim.claimant.boot_id))
        .bind::<Text, _>(claim.claimant.node_id.clone())
        .bind::<BigInt, _>(i64::try_from(claim.slots).unwrap_or(i64::MAX))
        .load(conn)
        .await?)
}

async fn execute(conn: &mut Conn, statement: &'static str, rows: String) -> OpResult<()> {
    diesel::sql_query(statement).bind::<Text, _>(rows).execute(conn).await?;
    Ok(())
}

/// Writes the ends of rows that the caller has read in this transaction.
pub(crate) async fn finish_executions(conn: &mut Conn, rows: String) -> OpResult<()> {
    execute(conn, FINISH_EXECUTIONS, rows).await
}

/// Moves schedules on.
pub(crate) async fn advance_schedules(conn: &mut Conn, rows: String) -> OpResult<()> {
    execute(conn, ADVANCE_SCHEDULES, rows).await
}

/// Adds ledger rows.
pub(crate) async fn insert_ledger(conn: &mut Conn, rows: String) -> OpResult<()> {
    execute(conn, INSERT_LEDGER, rows).await
}

/// Adds log lines; one that exists stays as it is.
pub(crate) async fn insert_logs(conn: &mut Conn, rows: String) -> OpResult<()> {
    execute(conn, INSERT_LOGS, rows).await
}

/// Numbers events and appends them.
pub(crate) async fn append_events(
    conn: &mut Conn,
    now: Timestamp,
    events: &[NewEvent],
) -> OpResult<()> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let row: LastRow =
        diesel::sql_query("UPDATE event_counter SET last = last + $1 RETURNING last")
            .bind::<BigInt, _>(count)
            .get_result(conn)
            .await?;
    let documents: Vec<_> = (row.last - count + 1..)
        .zip(events)
        .map(|(seq, event)| EventDocument::of(seq, At(now), event))
        .collect();
    execute(conn, INSERT_EVENTS, document(&documents)?).await
}

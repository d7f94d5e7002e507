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

/// An instant inside a JSON parameter: RFC 3339 with microseconds.
#[derive(Clone, Copy)]
pub(crate) struct At(pub(crate) Timestamp);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

/// Around a tag: true for schedules that carry it.
pub(crate) const HAS_TAG: [&str; 2] = ["task_schedules.tags @> jsonb_build_array(", "::text)"];

/// Around a pattern, twice: true for schedules whose name or description matches.
pub(crate) const CONTAINS: [&str; 3] =
    ["(name ILIKE ", " OR coalesce(description, '') ILIKE ", ")"];

/// Other nodes share the database: a start says nothing about their leases.
pub(crate) const EARLIER_BOOTS_END_AFTER: Option<Duration> = None;

/// The planner knows how many rows wait, and needs no word about it.
pub(crate) const BY_AVAILABLE: &str = "";

const INSERT_EXECUTIONS: &str = "INSERT INTO task_executions (execution_id, chain_id, schedule_id, schedule_name, \
    \"trigger\", task_type, task_config, timeout_ms, retry_policy, severity, cost_per_hour, \
    tags, owner, priority_rank, attempt, retry_of, scheduled_at, available_at, failures_before, \
    crashes_before, dead_letter_id, dedup_key, traceparent, created_by, status, created_at, \
    started_at, lateness_ms, node_id, lease_owner) SELECT r.execution_id, r.chain_id, \
    r.schedule_id, r.schedule_name, r.\"trigger\", r.task_type, r.task_config::jsonb, \
    r.timeout_ms, r.retry_policy::jsonb, r.severity, r.cost_per_hour, r.tags::jsonb, r.owner, \
    r.priority_rank, r.attempt, r.retry_of, r.scheduled_at, r.available_at, r.failures_before, \
    r.crashes_before, r.dead_letter_id, r.dedup_key, r.traceparent, r.created_by, r.status, \
    r.created_at, r.started_at, r.lateness_ms, r.node_id, r.lease_owner FROM \
    json_to_recordset($1::text::json) AS r(execution_id uuid, chain_id uuid, schedule_id bigint, \
    schedule_name text, \"trigger\" text, task_type text, task_config text, timeout_ms bigint, \
    retry_policy text, severity text, cost_per_hour double precision, tags text, owner text, \
    priority_rank smallint, attempt integer, retry_of bigint, scheduled_at timestamptz, \
    available_at timestamptz, failures_before integer, crashes_before integer, dead_letter_id \
    bigint, dedup_key text, traceparent text, created_by text, status text, created_at \
    timestamptz, started_at timestamptz, lateness_ms bigint, node_id text, lease_owner uuid) ON \
    CONFLICT DO NOTHING RETURNING id, execution_id";

/// Most urgent first, then oldest; rows that another node is claiming are passed over. The array
/// keeps the planner on the primary key whatever it believes about `status`.
pub(crate) const CLAIM_EXECUTIONS: &str = "WITH picked AS MATERIALIZED (SELECT id FROM task_executions WHERE status = 'pending' AND \
    available_at <= $1 ORDER BY priority_rank, available_at, id LIMIT $4 FOR UPDATE SKIP LOCKED) \
    UPDATE task_executions SET status = 'running', started_at = $1, lease_owner = $2, node_id = \
    $3, lateness_ms = CASE WHEN \"trigger\" = 'schedule' AND attempt = 1 THEN greatest(0, \
    floor(extract(epoch FROM $1 - scheduled_at) * 1000))::bigint END WHERE id = ANY(ARRAY(SELECT \
    id FROM picked)) RETURNING *";

/// The rows are locked and known to be running: a fence on `status` here would only lead the
/// planner astray.
const FINISH_EXECUTIONS: &str = "UPDATE task_executions AS t SET status = r.status, completed_at = r.completed_at, \
    duration_ms = r.duration_ms, result = r.result::jsonb, error = r.error::jsonb, \
    conductor_thread_id = r.conductor_thread_id, conductor_status = r.conductor_status, cost = \
    r.cost FROM json_to_recordset($1::text::json) AS r(id bigint, status text, completed_at \
    timestamptz, duration_ms bigint, result text, error text, conductor_thread_id text, \
    conductor_status text, cost double precision) WHERE t.id = r.id";

const ADVANCE_SCHEDULES: &str = "UPDATE task_schedules AS t SET next_run_at = r.next_run_at, last_run_at = r.last_run_at, \
    fired = r.fired, enabled = r.enabled, paused_at = r.paused_at FROM \
    json_to_recordset($1::text::json) AS r(id bigint, next_run_at timestamptz, last_run_at \
    timestamptz, fired bigint, enabled boolean, paused_at timestamptz) WHERE t.id = r.id";

const INSERT_LEDGER: &str = "INSERT INTO schedule_ledger (schedule_id, from_at, to_at, instants, reason, created_at) \
    SELECT r.schedule_id, r.from_at, r.to_at, r.instants, r.reason, r.created_at FROM \
    json_to_recordset($1::text::json) AS r(schedule_id bigint, from_at timestamptz, to_at \
    timestamptz, instants bigint, reason text, created_at timestamptz)";

const INSERT_LOGS: &str = "INSERT INTO execution_logs (execution_id, line, at, stream, \"text\") SELECT r.execution_id, \
    r.line, r.at, r.stream, r.\"text\" FROM json_to_recordset($1::text::json) AS r(execution_id \
    bigint, line bigint, at timestamptz, stream text, \"text\" text) ON CONFLICT DO NOTHING";

/// Takes the numbers and writes the events in one round trip: the counter is locked no longer than
/// it must be.
const APPEND_EVENTS: &str = "WITH c AS (UPDATE event_counter SET last = last + $2 RETURNING last) INSERT INTO events \
    (seq, at, event_type, room, schedule_id, execution_id, severity, tags, owner, payload) \
    SELECT c.last - $2 + r.seq, r.at, r.event_type, r.room, r.schedule_id, r.execution_id, \
    r.severity, r.tags::jsonb, r.owner, r.payload FROM c, json_to_recordset($1::text::json) AS \
    r(seq bigint, at timestamptz, event_type text, room text, schedule_id bigint, execution_id \
    bigint, severity text, tags text, owner text, payload text)";

#[derive(QueryableByName)]
struct MadeRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = sql::Uid)]
    execution_id: Uid,
}

/// The database's instant, which all nodes share; a manual clock's, as tests move it.
pub(crate) async fn now(conn: &mut Conn, clock: &Clock) -> OpResult<Timestamp> {
    if clock.is_manual() {
        return Ok(clock.now());
    }
    let now = diesel::dsl::sql::<sql::Instant>("clock_timestamp()");
    let now: Instant = diesel::select(now).get_result(conn).await?;
    Ok(now.0)
}

/// Makes transactions with the same key take turns; held to the end of the transaction.
pub(crate) async fn lock_key(conn: &mut Conn, key: &str) -> OpResult<()> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(key)
        .execute(conn)
        .await?;
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
    let documents: Vec<_> =
        (1..).zip(events).map(|(place, event)| EventDocument::of(place, At(now), event)).collect();
    diesel::sql_query(APPEND_EVENTS)
        .bind::<Text, _>(document(&documents)?)
        .bind::<BigInt, _>(count)
        .execute(conn)
        .await?;
    Ok(())
}

//! Retention: one small batch of each kind a call, so that nothing waits long for a lock.
//!
//! Executions of a chain whose retry waits or runs stay, however old: the retry needs them.

use chrono::Duration;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::Tx;
use super::idempotency::KEPT_HOURS;
use crate::clock::Timestamp;
use crate::domain::execution::ExecutionStatus;
use crate::store::Retention;
use crate::store::op::OpResult;
use crate::store::sql_types::{Instant, sql};

/// Closed sessions and stopped nodes are kept this long.
const GONE_DAYS: i64 = 1;
/// Events that set schedules off, what became of them, and requests of webhooks are kept this long.
const INBOX_DAYS: i64 = 7;

/// A retry budget looks back this long at most, and a day more.
const BUDGET_DAYS: i64 = 8;

/// `$1` is the instant before which rows go, `$2` how many at most.
const SWEEPS: [(&str, &str, &str); 14] = [
    ("execution_logs", "(execution_id, line)", "at < $1"),
    (
        "error_records",
        "id",
        "updated_at < $1 AND recovery_status NOT IN ('retry_scheduled', 'retrying')",
    ),
    ("dead_letters", "id", "created_at < $1"),
    ("schedule_ledger", "id", "created_at < $1"),
    ("websocket_sessions", "session_id", "closed_at < $1"),
    ("idempotency_keys", "\"key\"", "created_at < $1"),
    ("error_groups", "id", "last_seen_at < $1"),
    ("retry_budgets", "\"key\"", "updated_at < $1"),
    ("breaker_history", "id", "at < $1"),
    (
        "breakers",
        "id",
        "updated_at < $1 AND state = 'closed' AND forced IS NULL AND NOT EXISTS \
         (SELECT 1 FROM breaker_history h WHERE h.breaker_id = breakers.id)",
    ),
    ("audit_log", "id", "at < $1"),
    (
        "event_inbox",
        "id",
        "created_at < $1 AND handled_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM \
         event_deliveries d WHERE d.event_id = event_inbox.id AND d.outcome = 'held')",
    ),
    ("event_deliveries", "id", "at < $1 AND outcome <> 'held'"),
    ("inbound_requests", "id", "at < $1"),
];

/// Alerts that are over and their messages, kept as long as failed executions.
const ALERT_SWEEPS: [(&str, &str, &str); 3] = [
    ("alerts", "id", "cleared_at < $1 AND next_at IS NULL"),
    ("alert_messages", "id", "ended_at < $1"),
    ("alert_deliveries", "id", "started_at < $1"),
];

/// What alerts follow and is gone is over: they clear when they would be told again.
const FOLLOWED: [(&str, &str); 2] = [("letter:", "dead_letters"), ("error:", "error_records")];

const EXECUTIONS_ENDED: &str = "completed_at < $1 AND status IN ";
const CHAIN_RESTS: &str = " AND NOT EXISTS (SELECT 1 FROM error_records r \
    WHERE r.chain_id = task_executions.chain_id \
    AND r.recovery_status IN ('retry_scheduled', 'retrying'))";

fn before(now: Timestamp, age: std::time::Duration) -> Timestamp {
    chrono::Duration::from_std(age)
        .ok()
        .and_then(|age| now.checked_sub_signed(age))
        .unwrap_or(Timestamp::MIN_UTC)
}

async fn delete(
    tx: &mut Tx,
    (table, key, rule): (&str, &str, &str),
    oldest: Timestamp,
    batch: i64,
) -> OpResult<bool> {
    // A range of an age that reaches before the epoch deletes nothing.
    if oldest.timestamp() < 0 {
        return Ok(false);
    }
    let columns = key.trim_matches(|c| c == '(' || c == ')');
    let deleted = diesel::sql_query(format!(
        "DELETE FROM {table} WHERE {key} IN (SELECT {columns} FROM {table} WHERE {rule} LIMIT $2)"
    ))
    .bind::<sql::Instant, _>(Instant(oldest))
    .bind::<BigInt, _>(batch)
    .execute(tx.conn())
    .await?;
    Ok(i64::try_from(deleted).unwrap_or(i64::MAX) >= batch)
}

pub(crate) async fn retention_sweep(tx: &mut Tx, retention: &Retention) -> OpResult<bool> {
    let now = tx.now().await?;
    let batch = retention.batch.max(1);
    let ages = [
        before(now, retention.logs),
        before(now, retention.failed),
        before(now, retention.dead_letters),
        // The ledger and the executions together tell what became of every instant.
        before(now, retention.completed.max(retention.failed)),
        now - Duration::days(GONE_DAYS),
        now - Duration::hours(KEPT_HOURS),
        before(now, retention.failed),
        now - Duration::days(BUDGET_DAYS),
        before(now, retention.failed),
        before(now, retention.failed),
        before(now, retention.audit),
        now - Duration::days(INBOX_DAYS),
        now - Duration::days(INBOX_DAYS),
        now - Duration::days(INBOX_DAYS),
    ];
    let mut more = false;
    let calm = format!("{EXECUTIONS_ENDED}('completed', 'cancelled', 'skipped'){CHAIN_RESTS}");
    let failed = format!("{EXECUTIONS_ENDED}('failed', 'timeout'){CHAIN_RESTS}");
    for (rule, age) in [(calm, retention.completed), (failed, retention.failed)] {
        more |= delete_executions(tx, &rule, before(now, age), batch).await?.1;
    }
    for (sweep, oldest) in SWEEPS.into_iter().zip(ages) {
        more |= delete(tx, sweep, oldest, batch).await?;
    }
    for sweep in ALERT_SWEEPS {
        more |= delete(tx, sweep, before(now, retention.failed), batch).await?;
    }
    forget_followed(tx).await?;
    let stopped = (
        "nodes",
        "boot_id",
        "(stopped_at < $1 OR lease_until < $1) AND NOT EXISTS (SELECT 1 FROM task_executions e \
         WHERE e.lease_owner = nodes.boot_id AND e.status = 'running')",
    );
    // By the clock of leases: a stepped wall clock must not take a live node's row away.
    let gone = tx.lease_now().await? - Duration::days(GONE_DAYS);
    more |= delete(tx, stopped, gone, batch).await?;
    more |= delete_events(tx, retention, before(now, retention.events), batch).await?;
    Ok(more)
}

async fn forget_followed(tx: &mut Tx) -> OpResult<()> {
    for (word, table) in FOLLOWED {
        let number = word.len() + 1;
        // The cast is of such subjects alone, in whatever order the conditions are judged.
        diesel::sql_query(format!(
            "DELETE FROM alert_subjects WHERE subject LIKE '{word}%' AND NOT EXISTS \
             (SELECT 1 FROM {table} f WHERE f.id = CASE WHEN subject LIKE '{word}%' \
             THEN CAST(substr(subject, {number}) AS BIGINT) END)"
        ))
        .execute(tx.conn())
        .await?;
    }
    Ok(())
}

/// Executions go with their lines, `batch` of each at most: those whose lines are not all gone yet
/// wait for the next call. Gives how many executions went, and whether there may be more to do.
async fn delete_executions(
    tx: &mut Tx,
    rule: &str,
    oldest: Timestamp,
    batch: i64,
) -> OpResult<(i64, bool)> {
    if oldest.timestamp() < 0 {
        return Ok((0, false));
    }
    let ids: Vec<IdRow> =
        diesel::sql_query(format!("SELECT id FROM task_executions WHERE {rule} LIMIT $2"))
            .bind::<sql::Instant, _>(Instant(oldest))
            .bind::<BigInt, _>(batch)
            .load(tx.conn())
            .await?;
    if ids.is_empty() {
        return Ok((0, false));
    }
    // Numbers of ours, not text of others: they may stand in the statement.
    let list = ids.iter().map(|row| row.id.to_string()).collect::<Vec<_>>().join(", ");
    let lines = diesel::sql_query(format!(
        "DELETE FROM execution_logs WHERE (execution_id, line) IN (SELECT execution_id, line \
         FROM execution_logs WHERE execution_id IN ({list}) LIMIT $1)"
    ))
    .bind::<BigInt, _>(batch)
    .execute(tx.conn())
    .await?;
    let gone = diesel::sql_query(format!(
        "DELETE FROM task_executions WHERE id IN ({list}) AND NOT EXISTS \
         (SELECT 1 FROM execution_logs l WHERE l.execution_id = task_executions.id)"
    ))
    .execute(tx.conn())
    .await?;
    diesel::sql_query(format!(
        "DELETE FROM execution_acts WHERE execution_id IN ({list}) AND NOT EXISTS \
         (SELECT 1 FROM task_executions e WHERE e.id = execution_acts.execution_id)"
    ))
    .execute(tx.conn())
    .await?;
    let at_limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX) >= batch;
    Ok((i64::try_from(gone).unwrap_or(i64::MAX), at_limit(lines) || at_limit(gone)))
}

pub(crate) async fn execution_delete_ended(
    tx: &mut Tx,
    before: &Timestamp,
    statuses: &[ExecutionStatus],
    limit: &i64,
) -> OpResult<(u64, bool)> {
    // Words of ours, not text of others: they may stand in the statement.
    let list = statuses.iter().map(|status| format!("'{status}'")).collect::<Vec<_>>().join(", ");
    if list.is_empty() {
        return Ok((0, false));
    }
    let rule = format!("{EXECUTIONS_ENDED}({list}){CHAIN_RESTS}");
    let (deleted, more) = delete_executions(tx, &rule, *before, *limit).await?;
    Ok((u64::try_from(deleted).unwrap_or(0), more))
}

#[derive(diesel::QueryableByName)]
struct IdRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Events go oldest first and without holes, whole chunks, and never below the number that is
/// always kept.
async fn delete_events(
    tx: &mut Tx,
    retention: &Retention,
    oldest: Timestamp,
    batch: i64,
) -> OpResult<bool> {
    if oldest.timestamp() < 0 {
        return Ok(false);
    }
    let deleted = diesel::sql_query(
        "DELETE FROM event_chunks WHERE last_seq IN (SELECT last_seq FROM event_chunks \
         WHERE at < $1 AND last_seq <= (SELECT last FROM event_counter) - $2 \
         ORDER BY last_seq LIMIT $3)",
    )
    .bind::<sql::Instant, _>(Instant(oldest))
    .bind::<BigInt, _>(retention.events_min)
    .bind::<BigInt, _>(batch)
    .execute(tx.conn())
    .await?;
    Ok(i64::try_from(deleted).unwrap_or(i64::MAX) >= batch)
}

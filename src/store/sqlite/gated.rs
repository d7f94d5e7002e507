//! The statements by hand for rows that are admitted one by one: a statement a row, as the
//! connection runs in place. They are run where limits and queues are used, not on the hot path.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::Conn;
use super::queries::admission::{CANDIDATE, CandidateRow, GATED};
use crate::clock::Timestamp;
use crate::domain::admission::Hold;
use crate::store::ClaimHere;
use crate::store::models::ExecutionRow;
use crate::store::op::OpResult;
use crate::store::sql_types::{Instant, Uid, sql};
use crate::store::statement::execution_row;

/// The index of gated rows by lane: SQLite believes that few rows have any one status.
pub(crate) const BY_GATE: &str = "INDEXED BY task_executions_gated";
/// That of those who wait longest for several gates.
pub(crate) const BY_AGE: &str = "INDEXED BY task_executions_elders";
/// `$1`, later by `$2` microseconds a place.
pub(crate) const LATER: &str = "$1 + r.place * $2";
/// That of what is urgent.
pub(crate) const BY_URGENCY: &str = "INDEXED BY task_executions_urgent";
/// That of claims.
pub(crate) const BY_RANK: &str = "INDEXED BY task_executions_claim";
/// That of gated rows by instant.
pub(crate) const BY_GATED_AVAILABLE: &str = "INDEXED BY task_executions_gated_available";

/// Nothing to lock: there is one writer.
#[expect(clippy::unused_async, reason = "the other back end asks its database")]
pub(crate) async fn lock_key(_conn: &mut Conn, _key: &str) -> OpResult<()> {
    Ok(())
}

/// The lanes after `$1` in order, `most` of them: one look at the index a lane.
pub(crate) fn lanes(most: i64) -> String {
    let next = |after: &str| {
        format!(
            "(SELECT held_by FROM task_executions {BY_GATE} WHERE {GATED} AND held_by > {after} \
             ORDER BY held_by LIMIT 1)"
        )
    };
    format!(
        "WITH RECURSIVE lanes(lane) AS (SELECT {} UNION ALL SELECT {} FROM lanes \
         WHERE lanes.lane IS NOT NULL LIMIT {most} + 1) SELECT lane FROM lanes \
         WHERE lane IS NOT NULL LIMIT {most}",
        next("$1"),
        next("lanes.lane")
    )
}

/// The first rows of each lane.
pub(crate) async fn lane_heads(
    conn: &mut Conn,
    lanes: Vec<String>,
    heads: usize,
) -> OpResult<Vec<CandidateRow>> {
    let found = conn.spawn_blocking(move |conn| {
        let mut rows = Vec::new();
        for lane in lanes {
            let first: Vec<CandidateRow> = diesel::sql_query(format!(
                "SELECT {CANDIDATE} FROM task_executions {BY_GATE} WHERE {GATED} \
                 AND held_by = $1 ORDER BY rank_at, id LIMIT {heads}"
            ))
            .bind::<Text, _>(lane)
            .load(conn)?;
            rows.extend(first);
        }
        Ok(rows)
    });
    Ok(found.await?)
}

/// Writes what holds rows.
pub(crate) async fn hold_executions(conn: &mut Conn, holds: &[Hold]) -> OpResult<()> {
    let holds = holds.to_vec();
    let held = conn.spawn_blocking(move |conn| {
        for hold in holds {
            diesel::sql_query(
                "UPDATE task_executions SET held_by = $1, held_reason = $2 WHERE id = $3 \
                 AND status = 'pending'",
            )
            .bind::<Text, _>(hold.lane)
            .bind::<Text, _>(hold.reason)
            .bind::<BigInt, _>(hold.id)
            .execute(conn)?;
        }
        Ok(())
    });
    Ok(held.await?)
}

/// Starts rows that still wait.
pub(crate) async fn start_executions(
    conn: &mut Conn,
    claim: &ClaimHere,
    ids: Vec<i64>,
    now: Timestamp,
) -> OpResult<Vec<ExecutionRow>> {
    let claimant = claim.claimant.clone();
    let now = Instant(now);
    let started = conn.spawn_blocking(move |conn| {
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            let started: Vec<ExecutionRow> = diesel::sql_query(concat!(
                "UPDATE task_executions SET status = 'running', started_at = $1, lease_owner = $2, \
                 node_id = $3, held_by = '', held_reason = NULL, lateness_ms = CASE WHEN \
                 \"trigger\" = 'schedule' AND attempt = 1 THEN max(0, ($1 - scheduled_at) / 1000 \
                 - coalesce(options ->> 'jitterMs', 0)) END WHERE id = $4 AND status = 'pending' RETURNING ",
                execution_row!()
            ))
            .bind::<sql::Instant, _>(now)
            .bind::<sql::Uid, _>(Uid(claimant.boot_id))
            .bind::<Text, _>(claimant.node_id.clone())
            .bind::<BigInt, _>(id)
            .load(conn)?;
            rows.extend(started);
        }
        Ok(rows)
    });
    Ok(started.await?)
}

//! The statements by hand for rows that are admitted one by one: set-based. They are run where
//! limits and queues are used, not on the hot path.

use diesel::sql_types::{Array, BigInt, Integer, Text};
use diesel_async::RunQueryDsl;

use super::Conn;
use super::queries::admission::{CANDIDATE, CandidateRow, GATED};
use crate::clock::Timestamp;
use crate::domain::admission::Hold;
use crate::store::ClaimHere;
use crate::store::models::ExecutionRow;
use crate::store::op::OpResult;
use crate::store::sql_types::{Instant, Uid, sql};
use crate::store::statement::execution_row;

/// `$1`, later by `$2` microseconds a place.
pub(crate) const LATER: &str = "$1 + (r.place * $2) * interval '1 microsecond'";
/// The planner knows its indexes, and needs no word about those of gated rows.
pub(crate) const BY_GATE: &str = "";
/// Likewise.
pub(crate) const BY_AGE: &str = "";
/// Likewise.
pub(crate) const BY_URGENCY: &str = "";
/// Likewise.
pub(crate) const BY_RANK: &str = "";
/// Likewise.
pub(crate) const BY_GATED_AVAILABLE: &str = "";

/// Takes a key for this transaction, to its end; waits for whoever has it.
pub(crate) async fn lock_key(conn: &mut Conn, key: &str) -> OpResult<()> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(key)
        .execute(conn)
        .await?;
    Ok(())
}

/// The lanes after `$1` in order, `most` of them: one look at the index a lane.
pub(crate) fn lanes(most: i64) -> String {
    let next = |after: &str| {
        format!(
            "(SELECT held_by FROM task_executions WHERE {GATED} AND held_by > {after} \
             ORDER BY held_by LIMIT 1)"
        )
    };
    format!(
        "WITH RECURSIVE lanes(lane) AS (SELECT {} UNION ALL SELECT {} FROM lanes \
         WHERE lanes.lane IS NOT NULL) SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT {most}",
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
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let query = diesel::sql_query(format!(
        "SELECT e.* FROM unnest($1) AS l(lane) CROSS JOIN LATERAL (SELECT {CANDIDATE} \
         FROM task_executions WHERE {GATED} AND held_by = l.lane ORDER BY rank_at, id LIMIT $2) e"
    ));
    let query = query.bind::<Array<Text>, _>(lanes);
    let heads = i32::try_from(heads).unwrap_or(i32::MAX);
    Ok(query.bind::<Integer, _>(heads).load(conn).await?)
}

/// Writes what holds rows.
pub(crate) async fn hold_executions(conn: &mut Conn, holds: &[Hold]) -> OpResult<()> {
    if holds.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = holds.iter().map(|hold| hold.id).collect();
    let lanes: Vec<&str> = holds.iter().map(|hold| hold.lane.as_str()).collect();
    let reasons: Vec<&str> = holds.iter().map(|hold| hold.reason.as_str()).collect();
    diesel::sql_query(
        "UPDATE task_executions AS t SET held_by = r.lane, held_reason = r.reason \
         FROM unnest($1, $2, $3) AS r(id, lane, reason) WHERE t.id = ANY(ARRAY[r.id]) \
         AND t.status || '' = 'pending'",
    )
    .bind::<Array<BigInt>, _>(ids)
    .bind::<Array<Text>, _>(lanes)
    .bind::<Array<Text>, _>(reasons)
    .execute(conn)
    .await?;
    Ok(())
}

/// Starts rows that still wait.
pub(crate) async fn start_executions(
    conn: &mut Conn,
    claim: &ClaimHere,
    ids: Vec<i64>,
    now: Timestamp,
) -> OpResult<Vec<ExecutionRow>> {
    let now = Instant(now);
    let query = diesel::sql_query(concat!(
        "UPDATE task_executions SET status = 'running', started_at = $1, lease_owner = $2, \
         node_id = $3, held_by = '', held_reason = NULL, lateness_ms = CASE WHEN \"trigger\" = \
         'schedule' AND attempt = 1 THEN greatest(0, floor(extract(epoch FROM $1 - scheduled_at) \
         * 1000)::bigint - coalesce((options ->> 'jitterMs')::bigint, 0)) END WHERE id = ANY($4) AND status = 'pending' RETURNING ",
        execution_row!()
    ));
    Ok(query
        .bind::<sql::Instant, _>(now)
        .bind::<sql::Uid, _>(Uid(claim.claimant.boot_id))
        .bind::<Text, _>(&claim.claimant.node_id)
        .bind::<Array<BigInt>, _>(ids)
        .load(conn)
        .await?)
}

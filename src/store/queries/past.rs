//! What ran in the past, for advice: the last runs of a schedule, and the load beside it.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};
use diesel_async::RunQueryDsl;

use super::Tx;
use crate::domain::advice::{PastLoad, PastRun};
use crate::store::op::OpResult;
use crate::store::sql_types::{Instant, JsonDoc, sql};

/// Runs of the schedule.
const RUNS_MAX: i64 = 200;
/// Runs of all others, the newest.
const LOAD_MAX: i64 = 20_000;

#[derive(QueryableByName)]
struct RunRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    duration_ms: Option<i64>,
    #[diesel(sql_type = Nullable<sql::JsonDoc>)]
    usage: Option<JsonDoc>,
}

#[derive(QueryableByName)]
struct LoadRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    schedule_id: Option<i64>,
    #[diesel(sql_type = Nullable<sql::Instant>)]
    started_at: Option<Instant>,
    #[diesel(sql_type = Nullable<BigInt>)]
    duration_ms: Option<i64>,
}

pub(crate) async fn execution_past(
    tx: &mut Tx,
    schedule: &i64,
) -> OpResult<(Vec<PastRun>, Vec<PastLoad>)> {
    let runs: Vec<RunRow> = diesel::sql_query(format!(
        "SELECT duration_ms, usage FROM task_executions WHERE schedule_id = $1 \
         AND status = 'completed' ORDER BY id DESC LIMIT {RUNS_MAX}"
    ))
    .bind::<BigInt, _>(*schedule)
    .load(tx.conn())
    .await?;
    let runs = runs.into_iter().filter_map(|row| {
        let usage = row.usage.and_then(|document| serde_json::from_value(document.0).ok());
        row.duration_ms.map(|duration_ms| PastRun { duration_ms, usage })
    });
    let load: Vec<LoadRow> = diesel::sql_query(format!(
        "SELECT schedule_id, started_at, duration_ms FROM task_executions \
         WHERE completed_at IS NOT NULL ORDER BY completed_at DESC LIMIT {LOAD_MAX}"
    ))
    .load(tx.conn())
    .await?;
    let load = load.into_iter().filter(|row| row.schedule_id != Some(*schedule));
    let load = load.filter_map(|row| {
        let started_at = row.started_at?.0;
        row.duration_ms.map(|duration_ms| PastLoad { started_at, duration_ms })
    });
    Ok((runs.collect(), load.collect()))
}

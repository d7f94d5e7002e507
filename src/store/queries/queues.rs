//! Named queues: their limits, whether they are paused, and what stands in them.
//!
//! A queue exists as soon as somebody names it; a row here says what differs from a queue without
//! limits. What stands in it is counted from the executions.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::super::{Db, locked};
use super::Tx;
use crate::domain::admission::QueueRules;
use crate::domain::event::{NewEvent, Room, plain_event};
use crate::domain::execution::{ExecutionStatus, NewExecution};
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::task_queues as t;
use crate::store::sql_types::Instant;
use crate::store::{KeysetPage, KeysetRequest, QueueChange, QueueCounts, QueueRow, Topic};

/// A queue's name, its limits, and since when it is paused.
type RulesRow = (String, Option<i32>, Option<i32>, Option<Instant>);

/// The rules of those of `names` that have any.
pub(super) async fn rules_of(
    tx: &mut Tx,
    names: &[String],
) -> OpResult<HashMap<String, QueueRules>> {
    let rows: Vec<RulesRow> = t::table
        .filter(t::name.eq_any(names))
        .select((t::name, t::max_concurrent, t::rate_per_minute, t::paused_at))
        .load(tx.conn())
        .await?;
    let rules = rows.into_iter().map(|(name, max_concurrent, rate_per_minute, paused_at)| {
        (name, QueueRules { max_concurrent, rate_per_minute, is_paused: paused_at.is_some() })
    });
    Ok(rules.collect())
}

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = t)]
#[diesel(check_for_backend(Db))]
struct Raw {
    id: i64,
    name: String,
    max_concurrent: Option<i32>,
    rate_per_minute: Option<i32>,
    paused_at: Option<Instant>,
    pause_reason: Option<String>,
    paused_by: Option<String>,
    created_at: Instant,
    updated_at: Instant,
}

impl Raw {
    fn row(self, counts: &HashMap<String, QueueCounts>) -> QueueRow {
        QueueRow {
            id: self.id,
            counts: counts.get(&self.name).copied().unwrap_or_default(),
            name: self.name,
            max_concurrent: self.max_concurrent,
            rate_per_minute: self.rate_per_minute,
            paused_at: self.paused_at.map(|at| at.0),
            pause_reason: self.pause_reason,
            paused_by: self.paused_by,
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
        }
    }
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = BigInt)]
    held: i64,
}

/// What stands in the queues of a page; the index of waiting and running rows has no others.
async fn counts_of(tx: &mut Tx, names: &[String]) -> OpResult<HashMap<String, QueueCounts>> {
    let mut counts: HashMap<String, QueueCounts> = HashMap::new();
    for name in names {
        let rows: Vec<CountRow> = diesel::sql_query(
            "SELECT queue, status, count(*) AS count, count(CASE WHEN held_by <> '' THEN 1 END) \
             AS held FROM task_executions WHERE queue IS NOT NULL AND status IN \
             ('pending', 'running') AND queue = $1 GROUP BY queue, status",
        )
        .bind::<Text, _>(name)
        .load(tx.conn())
        .await?;
        for row in rows {
            let entry = counts.entry(row.queue.unwrap_or_default()).or_default();
            if row.status == ExecutionStatus::Running.as_str() {
                entry.running = row.count;
            } else {
                entry.waiting = row.count;
                entry.held = row.held;
            }
        }
    }
    Ok(counts)
}

/// Makes the rows of queues that are named for the first time.
pub(super) async fn note(tx: &mut Tx, rows: &[Arc<NewExecution>]) -> OpResult<()> {
    let mut names: Vec<String> = rows.iter().filter_map(|row| row.gates.queue.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    names.sort_unstable();
    names.dedup();
    let known: Vec<String> =
        t::table.filter(t::name.eq_any(&names)).select(t::name).load(tx.conn()).await?;
    for name in names.iter().filter(|name| !known.contains(name)) {
        make(tx, name).await?;
    }
    Ok(())
}

async fn make(tx: &mut Tx, name: &str) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    diesel::insert_into(t::table)
        .values((t::name.eq(name), t::created_at.eq(now), t::updated_at.eq(now)))
        .on_conflict_do_nothing()
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn queue_list(
    tx: &mut Tx,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<QueueRow>> {
    let mut query = t::table.select(Raw::as_select()).into_boxed::<Db>();
    if let Some(below) = page.below {
        query = query.filter(t::id.lt(below));
    }
    let rows: Vec<Raw> = query.order(t::id.desc()).limit(page.limit + 1).load(tx.conn()).await?;
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    let counts = counts_of(tx, &names).await?;
    let rows = rows.into_iter().map(|row| row.row(&counts)).collect();
    Ok(KeysetPage::of(*page, rows, |row| row.id))
}

pub(crate) async fn queue_get(tx: &mut Tx, name: &str) -> OpResult<QueueRow> {
    let row: Option<Raw> = t::table
        .filter(t::name.eq(name))
        .select(Raw::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let row = row.ok_or_else(|| not_found("queue", name))?;
    let counts = counts_of(tx, &[name.to_owned()]).await?;
    Ok(row.row(&counts))
}

pub(crate) async fn queue_put(tx: &mut Tx, name: &str, change: &QueueChange) -> OpResult<QueueRow> {
    make(tx, name).await?;
    let now = tx.now().await?;
    let standing = locked!(t::table.filter(t::name.eq(name)).select(Raw::as_select()));
    let mut row: Raw = standing.get_result(tx.conn()).await?;
    let before = (row.max_concurrent, row.rate_per_minute);
    row.max_concurrent = change.max_concurrent.unwrap_or(row.max_concurrent);
    row.rate_per_minute = change.rate_per_minute.unwrap_or(row.rate_per_minute);
    let was_paused = row.paused_at.is_some();
    if let Some(paused) = change.paused.filter(|paused| *paused != was_paused) {
        row.paused_at = paused.then_some(Instant(now));
        row.pause_reason = change.reason.clone().filter(|_| paused);
        row.paused_by = change.by.clone().filter(|_| paused);
    }
    row.updated_at = Instant(now);
    diesel::update(t::table.filter(t::id.eq(row.id)))
        .set((
            t::max_concurrent.eq(row.max_concurrent),
            t::rate_per_minute.eq(row.rate_per_minute),
            t::paused_at.eq(row.paused_at),
            t::pause_reason.eq(&row.pause_reason),
            t::paused_by.eq(&row.paused_by),
            t::updated_at.eq(row.updated_at),
        ))
        .execute(tx.conn())
        .await?;
    let is_paused = row.paused_at.is_some();
    let limits_moved = before != (row.max_concurrent, row.rate_per_minute);
    let counts = counts_of(tx, &[name.to_owned()]).await?;
    let row = row.row(&counts);
    if limits_moved {
        tx.event(queue_event("queue_updated", &row, change));
    }
    match (was_paused, is_paused) {
        (false, true) => tx.event(queue_event("queue_paused", &row, change)),
        (true, false) => tx.event(queue_event("queue_resumed", &row, change)),
        (false, false) | (true, true) => {}
    }
    tx.changed(Topic::Gated);
    Ok(row)
}

pub(crate) async fn queue_delete(tx: &mut Tx, name: &str) -> OpResult<()> {
    let row = queue_get(tx, name).await?;
    let QueueCounts { waiting, running, .. } = row.counts;
    if waiting + running > 0 {
        let detail = format!(
            "{waiting} executions wait and {running} run in queue \"{name}\"; a queue is deleted \
             when nothing is in it"
        );
        return Err(wrong_state("queue_not_empty", detail));
    }
    diesel::delete(t::table.filter(t::name.eq(name))).execute(tx.conn()).await?;
    Ok(())
}

fn queue_event(event_type: &'static str, row: &QueueRow, change: &QueueChange) -> NewEvent {
    let payload = json!({
        "queue": row.name,
        "maxConcurrent": row.max_concurrent,
        "ratePerMinute": row.rate_per_minute,
        "paused": row.paused_at.is_some(),
        "reason": change.reason,
        "by": change.by,
    });
    plain_event(event_type, Room::Tasks, payload)
}

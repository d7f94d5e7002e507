//! Executions: claimed, listed, cancelled. They are made in `creating.rs`, end in `finishing.rs`.

use std::marker::PhantomData;
use std::time::Duration;

use diesel::dsl::{count_star, exists, not, sql as raw};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::super::{Db, locked};
use super::{Tx, acts, admission, finishing, hot, inbox, page_of};
use crate::clock::Timestamp;
use crate::domain::execution::{Execution, ExecutionStatus, Trigger};
use crate::domain::execution_event::ExecutionEvent;
use crate::store::models::ExecutionRow;
use crate::store::op::{OpResult, not_found};
use crate::store::schema::nodes;
use crate::store::schema::task_executions as t;
use crate::store::sql_types::{Instant, Uid, sql};
use crate::store::statement::{execution_row, statement};
use crate::store::{
    CancelResult, ClaimHere, ExecutionCounts, ExecutionFilter, ExecutionKey, ExecutionShown, Page,
    PageRequest, Topic,
};

// What waits, runs or ended otherwise than well is little beside what was completed, and it alone
// is found by status. An index over a part of the table serves no parameter, so that these words
// stand in the text, and SQLite wants them as its index has them.
const NOT_SHORT: [ExecutionStatus; 3] =
    [ExecutionStatus::Completed, ExecutionStatus::Pending, ExecutionStatus::Running];

/// True for rows that wait.
pub(super) fn is_pending() -> SqlLiteral<Bool> {
    raw("task_executions.status = 'pending'")
}

/// True for rows that run.
pub(super) fn is_running() -> SqlLiteral<Bool> {
    raw("task_executions.status = 'running'")
}

/// True for rows that wait or run.
pub(super) fn is_active() -> SqlLiteral<Bool> {
    raw("task_executions.status IN ('pending', 'running')")
}

/// Who looks for a row that waits.
pub(super) fn waiting_topic(execution: &Execution) -> Topic {
    if execution.new.gates.is_gated { Topic::Gated } else { Topic::Pending }
}

pub(crate) async fn execution_claim(tx: &mut Tx, claim: &ClaimHere) -> OpResult<Vec<Execution>> {
    if claim.slots == 0 {
        return Ok(Vec::new());
    }
    let now = tx.now().await?;
    let open = claim.slots.saturating_sub(claim.high_only);
    let mut claimed = Vec::new();
    if open > 0 {
        claimed = hot::claim_executions(tx.conn(), claim, open, now).await?;
    }
    if claimed.len() == open && claim.high_only > 0 {
        let urgent = admission::claim_urgent(tx, claim, now).await?;
        for row in urgent {
            claimed.push(row.try_into()?);
        }
    }
    claimed.sort_by_key(|row| (row.new.rank_at(), row.id));
    for execution in &claimed {
        tx.event(ExecutionEvent::of(execution));
    }
    Ok(claimed)
}

pub(crate) async fn execution_next_available(tx: &mut Tx) -> OpResult<Option<Timestamp>> {
    hot::next_available(tx.conn()).await
}

pub(crate) async fn execution_get(tx: &mut Tx, key: &ExecutionKey) -> OpResult<Execution> {
    let query = t::table.select(ExecutionRow::as_select()).into_boxed::<Db>();
    let (query, id) = match key {
        ExecutionKey::Id(id) => (query.filter(t::id.eq(*id)), id.to_string()),
        ExecutionKey::Uuid(id) => (query.filter(t::execution_id.eq(Uid(*id))), id.to_string()),
    };
    let row = query.get_result(tx.conn()).await.optional()?;
    row.ok_or_else(|| not_found("execution", id))?.try_into()
}

statement! {
    /// The attempts of a chain: the first bears the chain's id as its own.
    ChainRows<'a> => <diesel::dsl::AsSelect<ExecutionRow, Db> as Expression>::SqlType {
        concat!("SELECT ", execution_row!(), " FROM task_executions WHERE execution_id = "),
            first: Uid as sql::Uid;
        concat!(
            " UNION ALL SELECT ", execution_row!(),
            " FROM task_executions WHERE attempt > 1 AND chain_id = "
        ), chain: Uid as sql::Uid;
        => " ORDER BY id"
    }
}

/// True for the attempts of a chain: the first bears the chain's id as its own, and only the others
/// are in the chain's index.
fn in_chain(chain: Uuid) -> Box<dyn BoxableExpression<t::table, Db, SqlType = Bool>> {
    Box::new(
        raw::<Bool>(
            "task_executions.id IN (SELECT e.id FROM task_executions e WHERE e.execution_id = ",
        )
        .bind::<sql::Uid, _>(Uid(chain))
        .sql(" UNION SELECT e.id FROM task_executions e WHERE e.attempt > 1 AND e.chain_id = ")
        .bind::<sql::Uid, _>(Uid(chain))
        .sql(")"),
    )
}

fn filtered(filter: &ExecutionFilter) -> t::BoxedQuery<'static, Db> {
    let mut query = t::table.into_boxed::<Db>();
    if let Some(schedule) = filter.schedule_id {
        query = query.filter(t::schedule_id.eq(schedule));
    }
    if let Some(chain) = filter.chain_id {
        query = query.filter(in_chain(chain));
    }
    match filter.statuses.as_slice() {
        [] => query,
        // A schedule's rows have an index by status of their own.
        [one] if filter.schedule_id.is_some() => query.filter(t::status.eq(one.as_str())),
        [one] => query.filter(raw::<Bool>(&rows_in(*one, "task_executions"))),
        several
            if filter.schedule_id.is_some() || several.contains(&ExecutionStatus::Completed) =>
        {
            query.filter(t::status.eq_any(several.iter().map(|status| status.as_str())))
        }
        several => {
            let each = several.iter().map(|status| {
                format!("SELECT e.id FROM task_executions e WHERE {}", rows_in(*status, "e"))
            });
            let each = each.collect::<Vec<_>>().join(" UNION ALL ");
            query.filter(raw::<Bool>(&format!("task_executions.id IN ({each})")))
        }
    }
}

/// The rule that finds rows in one state by an index, if the state has one.
fn rows_in(status: ExecutionStatus, table: &'static str) -> String {
    let mut rule = format!("{table}.status = '{status}'");
    if !NOT_SHORT.contains(&status) {
        for other in NOT_SHORT {
            rule.push_str(&format!(" AND {table}.status <> '{other}'"));
        }
    }
    rule
}

pub(crate) async fn execution_list(
    tx: &mut Tx,
    filter: &ExecutionFilter,
    page: &PageRequest,
) -> OpResult<Page<Execution>> {
    page_of!(tx, *page, filtered(filter), t::id, ExecutionRow)
}

/// All attempts of a chain, oldest first.
pub(super) async fn chain_of(tx: &mut Tx, chain_id: Uuid) -> OpResult<Vec<Execution>> {
    let (first, chain) = (Uid(chain_id), Uid(chain_id));
    let rows: Vec<ExecutionRow> =
        ChainRows { first, chain, of: PhantomData }.load(tx.conn()).await?;
    rows.into_iter().map(Execution::try_from).collect()
}

/// An execution with all that a page about it shows, in one look.
pub(crate) async fn execution_show(tx: &mut Tx, key: &ExecutionKey) -> OpResult<ExecutionShown> {
    let execution = execution_get(tx, key).await?;
    let chain = chain_of(tx, execution.new.chain_id).await?;
    let acts = acts::acts_of(tx, execution.id).await?;
    Ok(ExecutionShown { execution, chain, acts })
}

pub(crate) async fn execution_cancel(tx: &mut Tx, key: &ExecutionKey) -> OpResult<CancelResult> {
    let found = execution_get(tx, key).await?;
    tx.audit_subject(found.id);
    let row: Option<ExecutionRow> =
        locked!(t::table.filter(t::id.eq(found.id)).select(ExecutionRow::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    let mut execution: Execution =
        row.ok_or_else(|| not_found("execution", found.id))?.try_into()?;
    match execution.status {
        ExecutionStatus::Pending => {
            let cancelled = cancel_pending(tx, vec![execution]).await?;
            let first = cancelled.into_iter().next();
            first.map(CancelResult::Cancelled).ok_or_else(|| not_found("execution", found.id))
        }
        ExecutionStatus::Running => {
            if execution.cancel_requested_at.is_none() {
                let now = tx.now().await?;
                execution.cancel_requested_at = Some(now);
                diesel::update(t::table.filter(t::id.eq(execution.id)))
                    .set(t::cancel_requested_at.eq(Some(Instant(now))))
                    .execute(tx.conn())
                    .await?;
            }
            tx.changed(Topic::Cancels);
            Ok(CancelResult::Requested(execution))
        }
        ExecutionStatus::Completed
        | ExecutionStatus::Failed
        | ExecutionStatus::Timeout
        | ExecutionStatus::Cancelled
        | ExecutionStatus::Skipped => Ok(CancelResult::AlreadyFinished(execution)),
    }
}

/// Cancels the oldest rows of a schedule that wait or run, `count` of them: those that wait at
/// once, those that run are asked to end. Rows that were asked before count; backfills are left
/// alone.
pub(super) async fn cancel_oldest(tx: &mut Tx, schedule_id: i64, count: i64) -> OpResult<()> {
    let rows: Vec<ExecutionRow> = locked!(
        t::table
            .filter(t::schedule_id.eq(schedule_id))
            .filter(is_active())
            .filter(t::trigger.ne(Trigger::Backfill.as_str()))
            .order(t::id.asc())
            .limit(count)
            .select(ExecutionRow::as_select())
    )
    .load(tx.conn())
    .await?;
    let rows = rows.into_iter().map(Execution::try_from).collect::<OpResult<Vec<_>>>()?;
    let (waiting, running): (Vec<Execution>, Vec<Execution>) =
        rows.into_iter().partition(|row| row.status == ExecutionStatus::Pending);
    if !waiting.is_empty() {
        cancel_pending(tx, waiting).await?;
    }
    let asked: Vec<i64> =
        running.iter().filter(|row| row.cancel_requested_at.is_none()).map(|row| row.id).collect();
    if !asked.is_empty() {
        let now = tx.now().await?;
        diesel::update(t::table.filter(t::id.eq_any(asked)))
            .set(t::cancel_requested_at.eq(Some(Instant(now))))
            .execute(tx.conn())
            .await?;
        tx.changed(Topic::Cancels);
    }
    Ok(())
}

/// Cancels rows that wait (locked by the caller), with their events and their chains' errors.
pub(super) async fn cancel_pending(tx: &mut Tx, rows: Vec<Execution>) -> OpResult<Vec<Execution>> {
    end_pending(tx, rows, ExecutionStatus::Cancelled).await
}

/// Ends rows that wait (locked by the caller) as `cancelled` or `skipped`, with their events and
/// their chains' errors.
pub(super) async fn end_pending(
    tx: &mut Tx,
    mut rows: Vec<Execution>,
    status: ExecutionStatus,
) -> OpResult<Vec<Execution>> {
    let now = tx.now().await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    diesel::update(t::table.filter(t::id.eq_any(ids)))
        .set((t::status.eq(status.as_str()), t::completed_at.eq(Some(Instant(now)))))
        .execute(tx.conn())
        .await?;
    for execution in &mut rows {
        execution.status = status;
        execution.completed_at = Some(now);
        tx.event(ExecutionEvent::of(execution));
        finishing::settle_cancelled(tx, execution).await?;
    }
    if inbox::is_listened(tx).await? {
        let note = |row| inbox::EndNote {
            row,
            status: ExecutionStatus::Cancelled,
            completed_at: now,
            finish: None,
        };
        let notes: Vec<inbox::EndNote<'_>> = rows.iter().map(note).collect();
        inbox::note_ends(tx, &notes).await?;
    }
    Ok(rows)
}

pub(crate) async fn execution_list_cancel_requested(
    tx: &mut Tx,
    boot_id: &Uuid,
) -> OpResult<Vec<i64>> {
    Ok(t::table
        .filter(is_running())
        .filter(t::lease_owner.eq(Uid(*boot_id)))
        .filter(t::cancel_requested_at.is_not_null())
        .order(t::id.asc())
        .select(t::id)
        .load(tx.conn())
        .await?)
}

pub(crate) async fn execution_list_running(
    tx: &mut Tx,
    boot_id: &Uuid,
) -> OpResult<Vec<Execution>> {
    let rows: Vec<ExecutionRow> = t::table
        .filter(is_running())
        .filter(t::lease_owner.eq(Uid(*boot_id)))
        .order(t::id.asc())
        .select(ExecutionRow::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(Execution::try_from).collect()
}

/// An execution's lease is the lease of the node that runs it.
pub(crate) async fn execution_list_expired(
    tx: &mut Tx,
    grace: &Duration,
    limit: &i64,
) -> OpResult<Vec<Execution>> {
    let grace = chrono::Duration::from_std(*grace).unwrap_or(chrono::Duration::days(1));
    let oldest = Instant(tx.lease_now().await? - grace);
    let holder = nodes::table
        .filter(nodes::boot_id.nullable().eq(t::lease_owner))
        .filter(nodes::stopped_at.is_null())
        .filter(nodes::lease_until.ge(oldest));
    let rows: Vec<ExecutionRow> = t::table
        .filter(is_running())
        .filter(not(exists(holder)))
        .order(t::id.asc())
        .limit(*limit)
        .select(ExecutionRow::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(Execution::try_from).collect()
}

pub(crate) async fn execution_counts(tx: &mut Tx) -> OpResult<ExecutionCounts> {
    let now = Instant(tx.now().await?);
    let waiting = t::table.filter(is_pending());
    let ready: i64 = waiting
        .clone()
        .filter(t::available_at.le(now))
        .select(count_star())
        .get_result(tx.conn())
        .await?;
    let later: i64 =
        waiting.filter(t::available_at.gt(now)).select(count_star()).get_result(tx.conn()).await?;
    let running: i64 =
        t::table.filter(is_running()).select(count_star()).get_result(tx.conn()).await?;
    Ok(ExecutionCounts { ready, later, running })
}

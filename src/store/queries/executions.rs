//! Executions: made, claimed, listed, cancelled. Their ends are in `finishing.rs`.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use diesel::dsl::{count_star, exists, not, sql as raw};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::super::{Db, locked};
use super::{
    Tx, acts, admission, breakers, deadlines, finishing, hot, idempotency, inbox, page_of, queues,
};
use crate::clock::Timestamp;
use crate::domain::event::{ExecutionMoment, NewEvent, execution_event};
use crate::domain::execution::{Execution, ExecutionStatus, NewExecution, Priority, Trigger};
use crate::store::models::ExecutionRow;
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::task_executions as t;
use crate::store::schema::{nodes, task_schedules};
use crate::store::sql_types::{Instant, Uid, sql};
use crate::store::statement::{execution_row, statement};
use crate::store::{
    CancelResult, ClaimHere, Creation, ExecutionCounts, ExecutionCreate, ExecutionFilter,
    ExecutionKey, ExecutionShown, Page, PageRequest, Topic,
};

// What waits, runs or ended otherwise than well is little beside what was completed, and it alone
// is found by status. An index over a part of the table serves no parameter, so that these words
// stand in the text, and SQLite wants them as its index has them.
const FELL_SHORT: &str = "status IN ('failed', 'timeout', 'cancelled', 'skipped')";

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

/// The event that tells where the row stands now.
pub(super) fn event_of(execution: &Execution) -> NewEvent {
    execution_event(execution.id, &execution.new, ExecutionMoment::of(execution))
}

fn pending(new: Arc<NewExecution>, now: Timestamp) -> Execution {
    Execution {
        id: 0,
        new,
        status: ExecutionStatus::Pending,
        created_at: now,
        started_at: None,
        completed_at: None,
        duration_ms: None,
        lateness_ms: None,
        result: None,
        error: None,
        node_id: None,
        lease_owner: None,
        cancel_requested_at: None,
        conductor_thread_id: None,
        conductor_status: None,
        cost: None,
        usage: None,
        held_reason: None,
    }
}

fn start(execution: &mut Execution, claim: &ClaimHere, now: Timestamp) {
    let new = &execution.new;
    execution.status = ExecutionStatus::Running;
    execution.started_at = Some(now);
    execution.lease_owner = Some(claim.claimant.boot_id);
    execution.node_id = Some(claim.claimant.node_id.clone());
    execution.lateness_ms = (new.trigger == Trigger::Schedule && new.attempt == 1).then(|| {
        let moved = new.task.options.jitter_ms.unwrap_or(0);
        ((now - new.scheduled_at).num_milliseconds() - moved).max(0)
    });
}

/// The places of the rows that start here: those that may run now, most urgent and oldest first.
fn places_to_start(
    rows: &[Arc<NewExecution>],
    claim: Option<&ClaimHere>,
    now: Timestamp,
) -> Vec<usize> {
    let Some(claim) = claim else { return Vec::new() };
    let mut ready: Vec<(Timestamp, usize)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.available_at <= now && !row.gates.is_gated)
        .map(|(place, row)| (row.rank_at(), place))
        .collect();
    ready.sort_unstable();
    let mut places = Vec::with_capacity(claim.slots.min(ready.len()));
    for (_, place) in ready {
        let high = rows.get(place).is_some_and(|row| row.priority == Priority::High);
        let most = if high { claim.slots } else { claim.slots.saturating_sub(claim.high_only) };
        if places.len() < most {
            places.push(place);
        }
    }
    places
}

/// Who looks for a row that waits.
pub(super) fn waiting_topic(execution: &Execution) -> Topic {
    if execution.new.gates.is_gated { Topic::Gated } else { Topic::Pending }
}

/// Inserts rows, starts here what it may, and notes the events. A row that meets a unique index
/// (the instant already ran, the key already waits) is left out of the answer.
pub(super) async fn insert(
    tx: &mut Tx,
    mut rows: Vec<Arc<NewExecution>>,
    claim: Option<&ClaimHere>,
) -> OpResult<Vec<Execution>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    breakers::set_aside(tx, &mut rows).await?;
    queues::note(tx, &rows).await?;
    let now = tx.now().await?;
    let starting = places_to_start(&rows, claim, now);
    let mut made: Vec<Execution> = rows.into_iter().map(|row| pending(row, now)).collect();
    if let Some(claim) = claim {
        for place in starting {
            if let Some(execution) = made.get_mut(place) {
                start(execution, claim, now);
            }
        }
    }
    let made = hot::insert_executions(tx.conn(), made).await?;
    deadlines::note(tx, &made).await?;
    for execution in &made {
        tx.event(execution_event(execution.id, &execution.new, ExecutionMoment::CREATED));
        if execution.status == ExecutionStatus::Running {
            tx.event(event_of(execution));
        } else {
            tx.changed(waiting_topic(execution));
        }
    }
    Ok(made)
}

pub(crate) async fn execution_create(
    tx: &mut Tx,
    request: &ExecutionCreate,
) -> OpResult<Creation<Execution>> {
    let kept = request.idempotency.as_ref();
    if let Some(answer) = idempotency::find(tx, kept).await? {
        return Ok(Creation::Replayed(answer));
    }
    if let (Some(limit), Some(schedule)) = (request.limit, request.row.schedule_id) {
        // The schedule's lock keeps a firing from counting at the same time.
        let _held: Option<i64> = locked!(
            task_schedules::table
                .filter(task_schedules::id.eq(schedule))
                .select(task_schedules::id)
        )
        .get_result(tx.conn())
        .await
        .optional()?;
        let active = hot::count_active(tx.conn(), vec![schedule]).await?;
        let active = active.get(&schedule).copied().unwrap_or(0);
        if active >= i64::from(limit) {
            return Err(wrong_state(
                "already_running",
                format!("{active} executions of this schedule wait or run; its limit is {limit}"),
            ));
        }
    }
    let existing = find_by_dedup_key(tx, &request.row).await?;
    if let Some(existing) = existing {
        idempotency::save(tx, kept, (&existing, true)).await?;
        return Ok(Creation::Existing(existing));
    }
    let made = insert(tx, vec![Arc::new(request.row.clone())], request.claim.as_ref()).await?;
    let Some(execution) = made.into_iter().next() else {
        // Another transaction made a row with the same key between the look and the insert.
        return match find_by_dedup_key(tx, &request.row).await? {
            Some(existing) => {
                idempotency::save(tx, kept, (&existing, true)).await?;
                Ok(Creation::Existing(existing))
            }
            None => Err(wrong_state("wrong_state", "this instant of the schedule ran already")),
        };
    };
    idempotency::save(tx, kept, (&execution, false)).await?;
    Ok(Creation::New(execution))
}

async fn find_by_dedup_key(tx: &mut Tx, row: &NewExecution) -> OpResult<Option<Execution>> {
    let Some(key) = &row.dedup_key else { return Ok(None) };
    let found: Option<ExecutionRow> = t::table
        .filter(t::dedup_key.is_not_null())
        .filter(t::dedup_key.eq(key))
        .filter(is_active())
        .select(ExecutionRow::as_select())
        .first(tx.conn())
        .await
        .optional()?;
    found.map(Execution::try_from).transpose()
}

pub(crate) async fn execution_create_batch(
    tx: &mut Tx,
    rows: &[Arc<NewExecution>],
    claim: &Option<ClaimHere>,
) -> OpResult<Vec<Execution>> {
    insert(tx, rows.to_vec(), claim.as_ref()).await
}

pub(crate) async fn execution_claim(tx: &mut Tx, claim: &ClaimHere) -> OpResult<Vec<Execution>> {
    if claim.slots == 0 {
        return Ok(Vec::new());
    }
    let now = tx.now().await?;
    let open = claim.slots.saturating_sub(claim.high_only);
    let mut rows = Vec::new();
    if open > 0 {
        rows = hot::claim_executions(tx.conn(), claim, open, now).await?;
    }
    if rows.len() == open && claim.high_only > 0 {
        rows.extend(admission::claim_urgent(tx, claim, now).await?);
    }
    let mut claimed =
        rows.into_iter().map(Execution::try_from).collect::<OpResult<Vec<Execution>>>()?;
    claimed.sort_by_key(|row| (row.new.rank_at(), row.id));
    for execution in &claimed {
        tx.event(event_of(execution));
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
    match status {
        ExecutionStatus::Pending | ExecutionStatus::Running | ExecutionStatus::Completed => {
            format!("{table}.status = '{status}'")
        }
        ExecutionStatus::Failed
        | ExecutionStatus::Timeout
        | ExecutionStatus::Cancelled
        | ExecutionStatus::Skipped => {
            format!("{table}.{FELL_SHORT} AND {table}.status = '{status}'")
        }
    }
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
        tx.event(event_of(execution));
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

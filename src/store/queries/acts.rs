//! What people do to executions and errors beside cancelling and retrying: skip what waits, pause
//! and resume what runs, set an outcome by hand, give an error to somebody.
//!
//! The status of a row that ended never changes: an outcome set by hand stands beside it. Pauses
//! are marks that the node that runs the row obeys; they live as long as the processes do.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::{Db, locked};
use super::{Tx, dead_letters, errors, executions};
use crate::clock::Timestamp;
use crate::domain::error_record::{DeadLetterStatus, ErrorRecord, RecoveryStatus};
use crate::domain::event::{error_event, instant_text};
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::domain::execution_event::execution_act_event;
use crate::store::models::{ErrorRow, ExecutionActsRow, ExecutionRow};
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::execution_acts::{self as t, dsl};
use crate::store::schema::{error_records, task_executions};
use crate::store::sql_types::{Instant, JsonDoc, Uid};
use crate::store::{
    ActedExecution, ErrorPageFilter, ErrorVerdict, ExecutionActs, ExecutionKey, KeysetPage,
    KeysetRequest, OutcomeSetting, OverrideOutcome, Topic,
};

/// The type of tasks that have processes to be stopped.
const PAUSABLE: &str = "shell_command";

async fn lock(tx: &mut Tx, key: &ExecutionKey) -> OpResult<Execution> {
    let found = executions::execution_get(tx, key).await?;
    let row: Option<ExecutionRow> = locked!(
        task_executions::table
            .filter(task_executions::id.eq(found.id))
            .select(ExecutionRow::as_select())
    )
    .get_result(tx.conn())
    .await
    .optional()?;
    tx.audit_subject(found.id);
    row.ok_or_else(|| not_found("execution", found.id))?.try_into()
}

pub(super) async fn acts_of(tx: &mut Tx, execution_id: i64) -> OpResult<ExecutionActs> {
    let row: Option<ExecutionActsRow> = dsl::execution_acts
        .filter(t::execution_id.eq(execution_id))
        .select(ExecutionActsRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.map(ExecutionActs::try_from).transpose().map(Option::unwrap_or_default)
}

async fn acted(tx: &mut Tx, execution: Execution) -> OpResult<ActedExecution> {
    let acts = acts_of(tx, execution.id).await?;
    Ok(ActedExecution { execution, acts })
}

/// What people did to these executions; those to which nobody did anything are left out.
pub(crate) async fn execution_acts_of(
    tx: &mut Tx,
    ids: &[i64],
) -> OpResult<HashMap<i64, ExecutionActs>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<ExecutionActsRow> = dsl::execution_acts
        .filter(t::execution_id.eq_any(ids.to_vec()))
        .select(ExecutionActsRow::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(|row| Ok((row.execution_id, row.try_into()?))).collect()
}

/// Ends a waiting row as `skipped`; its chain ends with it.
pub(crate) async fn execution_skip(tx: &mut Tx, key: &ExecutionKey) -> OpResult<ActedExecution> {
    let execution = lock(tx, key).await?;
    if execution.status != ExecutionStatus::Pending {
        let cure = match execution.status {
            ExecutionStatus::Running => "; cancel it instead",
            _ => "",
        };
        let detail = format!("execution {} is {}{cure}", execution.id, execution.status);
        return Err(wrong_state("not_waiting", detail));
    }
    let id = execution.id;
    let ended = executions::end_pending(tx, vec![execution], ExecutionStatus::Skipped).await?;
    tx.audit_change(|| (json!({ "status": "pending" }), json!({ "status": "skipped" })));
    let ended = ended.into_iter().next().ok_or_else(|| not_found("execution", id))?;
    acted(tx, ended).await
}

/// Marks a running row as paused, for its node to obey.
pub(crate) async fn execution_pause(
    tx: &mut Tx,
    key: &ExecutionKey,
    reason: &Option<String>,
) -> OpResult<ActedExecution> {
    let execution = lock(tx, key).await?;
    may_pause(&execution)?;
    let acts = acts_of(tx, execution.id).await?;
    if acts.paused_at.is_some() {
        return Ok(ActedExecution { execution, acts });
    }
    let (now, by) = (tx.now().await?, tx.actor());
    diesel::insert_into(dsl::execution_acts)
        .values((
            t::execution_id.eq(execution.id),
            t::paused_at.eq(Some(Instant(now))),
            t::paused_by.eq(by.as_deref()),
            t::pause_reason.eq(reason.as_deref()),
        ))
        .on_conflict(t::execution_id)
        .do_update()
        .set((
            t::paused_at.eq(excluded(t::paused_at)),
            t::paused_by.eq(excluded(t::paused_by)),
            t::pause_reason.eq(excluded(t::pause_reason)),
        ))
        .execute(tx.conn())
        .await?;
    let more = json!({ "pausedAt": instant_text(now), "by": by, "reason": reason });
    tx.event(execution_act_event(&execution, "execution_paused", object(more)));
    tx.audit_change(|| (json!({ "isPaused": false }), json!({ "isPaused": true })));
    tx.changed(Topic::Cancels);
    acted(tx, execution).await
}

fn may_pause(execution: &Execution) -> OpResult<()> {
    let id = execution.id;
    if execution.status != ExecutionStatus::Running {
        let cure = match execution.status {
            ExecutionStatus::Pending => "; it waits, so skip it or pause what holds it",
            _ => "",
        };
        let detail = format!("execution {id} is {}{cure}", execution.status);
        return Err(wrong_state("not_running", detail));
    }
    if execution.new.task.task_type != PAUSABLE {
        let kind = &execution.new.task.task_type;
        let detail = format!(
            "execution {id} is a {kind}: only {PAUSABLE} has processes to stop; cancel it, or let \
             it end and pause its schedule"
        );
        return Err(wrong_state("not_pausable", detail));
    }
    if execution.cancel_requested_at.is_some() {
        let detail = format!("execution {id} is being cancelled");
        return Err(wrong_state("being_cancelled", detail));
    }
    Ok(())
}

/// Takes the mark of a pause away.
pub(crate) async fn execution_resume(
    tx: &mut Tx,
    key: &ExecutionKey,
    reason: &Option<String>,
) -> OpResult<ActedExecution> {
    let execution = lock(tx, key).await?;
    let acts = acts_of(tx, execution.id).await?;
    if execution.status != ExecutionStatus::Running || acts.paused_at.is_none() {
        let detail = format!("execution {} is {} and not paused", execution.id, execution.status);
        return Err(wrong_state("not_paused", detail));
    }
    diesel::update(dsl::execution_acts.filter(t::execution_id.eq(execution.id)))
        .set((
            t::paused_at.eq(None::<Instant>),
            t::paused_by.eq(None::<String>),
            t::pause_reason.eq(None::<String>),
        ))
        .execute(tx.conn())
        .await?;
    let more = json!({
        "pausedAt": acts.paused_at.map(instant_text), "by": tx.actor(), "reason": reason,
    });
    tx.event(execution_act_event(&execution, "execution_resumed", object(more)));
    tx.audit_change(|| (json!({ "isPaused": true }), json!({ "isPaused": false })));
    tx.changed(Topic::Cancels);
    acted(tx, execution).await
}

/// The running rows of a boot that are to stand still, with the instant since when.
pub(crate) async fn execution_list_paused(
    tx: &mut Tx,
    boot_id: &Uuid,
) -> OpResult<Vec<(i64, Timestamp)>> {
    let rows: Vec<(i64, Option<Instant>)> = dsl::execution_acts
        .inner_join(task_executions::table.on(task_executions::id.eq(t::execution_id)))
        .filter(t::paused_at.is_not_null())
        .filter(executions::is_running())
        .filter(task_executions::lease_owner.eq(Uid(*boot_id)))
        .select((t::execution_id, t::paused_at))
        .load(tx.conn())
        .await?;
    Ok(rows.into_iter().filter_map(|(id, at)| Some((id, at?.0))).collect())
}

/// Sets the outcome of a chain by a person's word. What waits of it is skipped, a planned retry is
/// withdrawn, its error is settled and its letter leaves the queue.
pub(crate) async fn execution_override(
    tx: &mut Tx,
    key: &ExecutionKey,
    setting: &OutcomeSetting,
) -> OpResult<ActedExecution> {
    let named = executions::execution_get(tx, key).await?;
    let chain = executions::chain_of(tx, named.new.chain_id).await?;
    let newest = chain.last().map_or(named.id, |execution| execution.id);
    let mut execution = lock(tx, &ExecutionKey::Id(newest)).await?;
    let was = execution.status;
    match was {
        ExecutionStatus::Pending => {
            let ended = executions::end_pending(tx, vec![execution], ExecutionStatus::Skipped);
            let ended = ended.await?.into_iter().next();
            execution = ended.ok_or_else(|| not_found("execution", newest))?;
        }
        ExecutionStatus::Failed | ExecutionStatus::Timeout => {}
        ExecutionStatus::Running => {
            let detail = format!("execution {newest} runs; cancel it or wait for its end first");
            return Err(wrong_state("still_running", detail));
        }
        ExecutionStatus::Completed | ExecutionStatus::Cancelled | ExecutionStatus::Skipped => {
            let detail = format!(
                "execution {newest} is {was}; only a chain that failed or waits is given an \
                 outcome by hand; run it again if its work is to be done"
            );
            return Err(wrong_state("wrong_state", detail));
        }
    }
    let now = tx.now().await?;
    save_outcome(tx, newest, setting, now).await?;
    let more = json!({
        "outcomeOverride": {
            "outcome": setting.outcome, "by": setting.by, "at": instant_text(now),
            "reason": setting.reason,
        },
    });
    tx.event(execution_act_event(&execution, "execution_overridden", object(more.clone())));
    tx.audit_change(|| (json!({ "status": was }), more));
    settle_chain(tx, &execution, setting, now).await?;
    acted(tx, execution).await
}

async fn save_outcome(
    tx: &mut Tx,
    execution_id: i64,
    setting: &OutcomeSetting,
    now: Timestamp,
) -> OpResult<()> {
    diesel::insert_into(dsl::execution_acts)
        .values((
            t::execution_id.eq(execution_id),
            t::outcome.eq(Some(setting.outcome.as_str())),
            t::outcome_by.eq(setting.by.as_deref()),
            t::outcome_at.eq(Some(Instant(now))),
            t::outcome_reason.eq(setting.reason.as_deref()),
            t::outcome_result.eq(setting.result.clone().map(JsonDoc)),
        ))
        .on_conflict(t::execution_id)
        .do_update()
        .set((
            t::outcome.eq(excluded(t::outcome)),
            t::outcome_by.eq(excluded(t::outcome_by)),
            t::outcome_at.eq(excluded(t::outcome_at)),
            t::outcome_reason.eq(excluded(t::outcome_reason)),
            t::outcome_result.eq(excluded(t::outcome_result)),
        ))
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// What an outcome set by hand means for the error and the letter of the chain.
async fn settle_chain(
    tx: &mut Tx,
    execution: &Execution,
    setting: &OutcomeSetting,
    now: Timestamp,
) -> OpResult<()> {
    let by = setting.by.as_deref().unwrap_or("an operator");
    let notes =
        setting.reason.clone().unwrap_or_else(|| format!("marked as {} by {by}", setting.outcome));
    if let Some(mut record) = errors::lock_by_chain(tx, execution.new.chain_id).await? {
        if record.recovery_status == RecoveryStatus::Retrying {
            // Its next attempt was made after the chain was read.
            let detail = format!("a retry of execution {} runs; cancel it first", execution.id);
            return Err(wrong_state("still_running", detail));
        }
        if record.next_retry_at.is_some() {
            tx.changed(Topic::Retries);
        }
        let (status, event) = match setting.outcome {
            OverrideOutcome::Succeeded => (RecoveryStatus::Resolved, "error_resolved"),
            OverrideOutcome::Failed => (RecoveryStatus::Ignored, "error_ignored"),
        };
        record.recovery_status = status;
        record.next_retry_at = None;
        record.resolved_at = Some(now);
        record.resolution_notes = Some(notes.clone());
        record.updated_at = now;
        let record = errors::save(tx, record).await?;
        tx.event(error_event(&record, event));
    }
    for mut stored in dead_letters::lock_open(tx, execution).await? {
        let status = match setting.outcome {
            OverrideOutcome::Succeeded => DeadLetterStatus::Recovered,
            OverrideOutcome::Failed => {
                stored.letter.discard_reason = Some(notes.clone());
                DeadLetterStatus::Discarded
            }
        };
        dead_letters::set_status(tx, stored, status, None).await?;
    }
    Ok(())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// Gives an error to somebody, or (without an assignee) takes it from whoever has it.
pub(crate) async fn error_assign(
    tx: &mut Tx,
    id: &i64,
    assignee: &Option<String>,
) -> OpResult<ErrorRecord> {
    let mut record = errors::lock(tx, *id).await?.ok_or_else(|| not_found("error", id))?;
    let was = std::mem::replace(&mut record.assignee, assignee.clone());
    tx.audit_change(|| (json!({ "assignee": was }), json!({ "assignee": assignee })));
    if was == *assignee {
        return Ok(record);
    }
    record.updated_at = tx.now().await?;
    let record = errors::save(tx, record).await?;
    tx.event(error_event(&record, "error_assigned"));
    Ok(record)
}

/// Asks for help with an error, of somebody when one is named.
pub(crate) async fn error_escalate(
    tx: &mut Tx,
    id: &i64,
    assignee: &Option<String>,
    notes: &Option<String>,
) -> OpResult<ErrorRecord> {
    if assignee.is_some() {
        error_assign(tx, id, assignee).await?;
    }
    let verdict = ErrorVerdict::Escalate { notes: notes.clone() };
    errors::error_decide(tx, id, &verdict).await
}

/// A page of records, newest id first.
pub(crate) async fn error_page(
    tx: &mut Tx,
    filter: &ErrorPageFilter,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<ErrorRecord>> {
    let mut query = error_records::table.into_boxed::<Db>();
    if let Some(schedule) = filter.schedule_id {
        query = query.filter(error_records::schedule_id.eq(schedule));
    }
    if let Some(assignee) = &filter.assignee {
        query = query.filter(error_records::assignee.eq(assignee.clone()));
    }
    if !filter.recovery_statuses.is_empty() {
        let words: Vec<&'static str> =
            filter.recovery_statuses.iter().map(|status| status.as_str()).collect();
        query = query.filter(error_records::recovery_status.eq_any(words));
    }
    if !filter.severities.is_empty() {
        let words: Vec<&'static str> = filter.severities.iter().map(|one| one.as_str()).collect();
        query = query.filter(error_records::severity.eq_any(words));
    }
    if let Some(below) = page.below {
        query = query.filter(error_records::id.lt(below));
    }
    let rows: Vec<ErrorRow> = query
        .order(error_records::id.desc())
        .limit(page.limit + 1)
        .select(ErrorRow::as_select())
        .load(tx.conn())
        .await?;
    let records = rows.into_iter().map(ErrorRecord::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, records, |record| record.id))
}

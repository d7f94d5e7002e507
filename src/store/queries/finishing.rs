//! The end of running executions and what it means for their chains: error records, dead letters,
//! resolved errors, all in the transaction that writes the end.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::locked;
use super::documents::{EndDocument, document};
use super::{Tx, dead_letters, errors, hot};
use crate::clock::Timestamp;
use crate::domain::error_record::{
    DeadLetterStatus, ErrorRecord, FailureEntry, RecoveryDecision, RecoveryStatus,
};
use crate::domain::event::{error_event, execution_event};
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::store::models::ExecutionRow;
use crate::store::op::OpResult;
use crate::store::schema::task_executions as t;
use crate::store::{Finish, FinishResult, Topic};

const MS_PER_HOUR: f64 = 3_600_000.0;

pub(crate) async fn execution_finish(tx: &mut Tx, batch: &[Finish]) -> OpResult<Vec<FinishResult>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = batch.iter().map(|finish| finish.id).collect();
    let rows: Vec<ExecutionRow> = locked!(
        t::table
            .filter(t::id.eq_any(ids))
            .filter(t::status.eq(ExecutionStatus::Running.as_str()))
            .order(t::id.asc())
            .select(ExecutionRow::as_select())
    )
    .load(tx.conn())
    .await?;
    let mut running: HashMap<i64, Execution> = HashMap::with_capacity(rows.len());
    for row in rows {
        running.insert(row.id, row.try_into()?);
    }
    // After the locks: an end is never before a start that another transaction just wrote.
    let now = tx.now().await?;
    let mut ended: Vec<(Execution, Option<&FailureEntry>)> = Vec::with_capacity(batch.len());
    let mut results = Vec::with_capacity(batch.len());
    for finish in batch {
        let held = running
            .get(&finish.id)
            .is_some_and(|execution| execution.lease_owner == Some(finish.lease_owner));
        match held.then(|| running.remove(&finish.id)).flatten() {
            Some(execution) => {
                let execution = end(execution, finish, now);
                results.push(FinishResult::Done(Box::new(execution.clone())));
                ended.push((execution, finish.failure.as_ref()));
            }
            None => results.push(FinishResult::Superseded(finish.id)),
        }
    }
    if ended.is_empty() {
        return Ok(results);
    }
    let documents: Vec<_> = ended.iter().map(|(execution, _)| EndDocument::of(execution)).collect();
    hot::finish_executions(tx.conn(), document(&documents)?).await?;
    // By id: two batches that meet in one chain take their locks in the same order.
    ended.sort_by_key(|(execution, _)| execution.id);
    for (execution, failure) in &ended {
        tx.event(execution_event(execution, execution.status));
        settle(tx, execution, *failure).await?;
    }
    Ok(results)
}

fn end(mut execution: Execution, finish: &Finish, now: Timestamp) -> Execution {
    let started = execution.started_at.unwrap_or(now);
    let duration_ms = (now - started).num_milliseconds().max(0);
    #[expect(clippy::cast_precision_loss, reason = "a duration is far below 2^52 milliseconds")]
    let hours = duration_ms as f64 / MS_PER_HOUR;
    execution.status = finish.status;
    execution.completed_at = Some(now);
    execution.duration_ms = Some(duration_ms);
    execution.result.clone_from(&finish.result);
    execution.error.clone_from(&finish.error);
    execution.conductor_thread_id.clone_from(&finish.conductor_thread_id);
    execution.conductor_status.clone_from(&finish.conductor_status);
    execution.cost = execution.new.task.cost_per_hour.map(|cost| cost * hours);
    execution
}

async fn settle(
    tx: &mut Tx,
    execution: &Execution,
    failure: Option<&FailureEntry>,
) -> OpResult<()> {
    if let Some(failure) = failure {
        return settle_failed(tx, execution, failure).await;
    }
    match execution.status {
        ExecutionStatus::Completed => settle_completed(tx, execution).await,
        ExecutionStatus::Cancelled => settle_cancelled(tx, execution).await,
        ExecutionStatus::Pending
        | ExecutionStatus::Running
        | ExecutionStatus::Failed
        | ExecutionStatus::Timeout
        | ExecutionStatus::Skipped => Ok(()),
    }
}

/// True when the chain can have an error record or a dead letter.
const fn has_past(execution: &Execution) -> bool {
    execution.new.attempt > 1 || execution.new.dead_letter_id.is_some()
}

fn first_record(execution: &Execution, failure: &FailureEntry, now: Timestamp) -> ErrorRecord {
    ErrorRecord {
        id: 0,
        chain_id: execution.new.chain_id,
        error_type: failure.error_type,
        severity: failure.severity,
        recovery_status: RecoveryStatus::Unresolved,
        execution_id: execution.id,
        schedule_id: execution.new.schedule_id,
        schedule_name: execution.new.schedule_name.clone(),
        kind: String::new(),
        message: String::new(),
        fingerprint: String::new(),
        recovery_attempts: 0,
        max_retry_attempts: failure.max_retry_attempts,
        next_retry_at: None,
        resolved_at: None,
        resolution_notes: None,
        created_at: now,
        updated_at: now,
    }
}

async fn settle_failed(tx: &mut Tx, execution: &Execution, failure: &FailureEntry) -> OpResult<()> {
    let now = tx.now().await?;
    let found = errors::lock_by_chain(tx, execution.new.chain_id).await?;
    let is_first = found.is_none();
    let mut record = found.unwrap_or_else(|| first_record(execution, failure, now));
    record.severity = failure.severity;
    record.execution_id = execution.id;
    if let Some(error) = &execution.error {
        record.kind.clone_from(&error.kind);
        record.message.clone_from(&error.message);
    } else {
        execution.status.as_str().clone_into(&mut record.kind);
    }
    record.fingerprint.clone_from(&failure.fingerprint);
    record.max_retry_attempts = failure.max_retry_attempts;
    // A person's verdict while the retry ran is overtaken by its failure.
    record.resolved_at = None;
    record.resolution_notes = None;
    record.updated_at = now;
    match failure.decision {
        RecoveryDecision::RetryAt(at) => {
            record.recovery_status = RecoveryStatus::RetryScheduled;
            record.next_retry_at = Some(at);
        }
        RecoveryDecision::GiveUp { status, .. } => {
            record.recovery_status = status;
            record.next_retry_at = None;
        }
    }
    let record = errors::save(tx, record).await?;
    if is_first {
        tx.event(error_event(&record, "error_recorded"));
    }
    match failure.decision {
        RecoveryDecision::RetryAt(_) => {
            tx.event(error_event(&record, "retry_scheduled"));
            tx.changed(Topic::Retries);
        }
        RecoveryDecision::GiveUp { status, cause } => {
            if status == RecoveryStatus::Escalated {
                tx.event(error_event(&record, "error_escalated"));
            }
            dead_letters::add(tx, &record, execution, cause).await?;
        }
    }
    Ok(())
}

async fn settle_completed(tx: &mut Tx, execution: &Execution) -> OpResult<()> {
    if !has_past(execution) {
        return Ok(());
    }
    let notes = format!("attempt {} succeeded", execution.new.attempt);
    if let Some(record) = errors::lock_by_chain(tx, execution.new.chain_id).await? {
        errors::resolve(tx, record, &notes).await?;
    }
    let letters = dead_letters::lock_open(tx, execution).await?;
    for letter in letters {
        let error_id = letter.letter.error_id;
        dead_letters::set_status(tx, letter, DeadLetterStatus::Recovered, None).await?;
        if let Some(record) = errors::lock(tx, error_id).await? {
            errors::resolve(tx, record, &notes).await?;
        }
    }
    Ok(())
}

/// A chain that a person ended: its error needs a person again, its letter is back in the queue.
pub(super) async fn settle_cancelled(tx: &mut Tx, execution: &Execution) -> OpResult<()> {
    if !has_past(execution) {
        return Ok(());
    }
    if let Some(mut record) = errors::lock_by_chain(tx, execution.new.chain_id).await?
        && !matches!(
            record.recovery_status,
            RecoveryStatus::Resolved | RecoveryStatus::Ignored | RecoveryStatus::Unresolved
        )
    {
        record.recovery_status = RecoveryStatus::Unresolved;
        record.next_retry_at = None;
        record.updated_at = tx.now().await?;
        errors::save(tx, record).await?;
        tx.changed(Topic::Retries);
    }
    for letter in dead_letters::lock_open(tx, execution).await? {
        if letter.letter.status == DeadLetterStatus::Resubmitted {
            dead_letters::set_status(tx, letter, DeadLetterStatus::Pending, None).await?;
        }
    }
    Ok(())
}

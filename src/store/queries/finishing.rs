//! The end of running executions and what it means for their chains: error records, dead letters,
//! resolved errors, all in the transaction that writes the end.

use std::collections::HashSet;
use std::sync::Arc;

use super::{
    Tx, admission, breakers, budgets, dead_letters, deadlines, error_groups, errors, hot, inbox,
    pauses,
};
use crate::clock::Timestamp;
use crate::domain::error_record::{
    DeadLetterStatus, ErrorRecord, FailureEntry, RecoveryDecision, RecoveryStatus,
};
use crate::domain::event::error_event;
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::domain::execution_event::{ExecutionEvent, ExecutionMoment};
use crate::store::conversions::without_raw_nul;
use crate::store::op::OpResult;
use crate::store::sql_types::{json_text, without_nul};
use crate::store::types::End;
use crate::store::{Finish, FinishResult, Topic};

const MS_PER_HOUR: f64 = 3_600_000.0;

pub(crate) async fn execution_finish(tx: &mut Tx, batch: &[Finish]) -> OpResult<Vec<FinishResult>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    pauses::lock_counting(tx, batch).await?;
    let now = tx.now().await?;
    let mut seen = HashSet::with_capacity(batch.len());
    let mut ends: Vec<End> = batch
        .iter()
        .enumerate()
        .filter(|(_, finish)| seen.insert(finish.row.id))
        .map(|(place, finish)| end_of(place, finish, now))
        .collect();
    // By id: two batches that meet take their locks in the same order.
    ends.sort_unstable_by_key(|end| end.id);
    let (ends, written, is_listened) = hot::finish_executions(tx.conn(), ends).await?;
    let mut results: Vec<FinishResult> =
        batch.iter().map(|finish| FinishResult::Superseded(finish.row.id)).collect();
    let ended: Vec<(&Finish, &End)> = ends
        .iter()
        .filter(|end| written.contains(&end.id))
        .filter_map(|end| Some((batch.get(end.place)?, end)))
        .collect();
    let finishes: Vec<&Finish> = ended.iter().map(|(finish, _)| *finish).collect();
    let probes = breakers::failed_probes(tx, &finishes).await?;
    for (finish, end) in ended {
        if let Some(result) = results.get_mut(end.place) {
            *result = FinishResult::Done(end.status);
        }
        tx.event(event_of_end(finish, end));
        admission::note_end(tx, &finish.row);
        settle(tx, finish, end, probes.contains(&end.id)).await?;
    }
    if is_listened {
        let ended = ends.iter().filter(|end| written.contains(&end.id));
        let notes: Vec<inbox::EndNote<'_>> = ended
            .filter_map(|end| {
                let finish = batch.get(end.place)?;
                let (status, completed_at) = (end.status, end.completed_at);
                Some(inbox::EndNote {
                    row: &finish.row,
                    status,
                    completed_at,
                    finish: Some(finish),
                })
            })
            .collect();
        inbox::note_ends(tx, &notes).await?;
    }
    error_groups::count(tx, &finishes).await?;
    breakers::record(tx, &finishes).await?;
    Ok(results)
}

fn end_of(place: usize, finish: &Finish, now: Timestamp) -> End {
    let row = &finish.row;
    // Never before its start, which another transaction may have written a moment ago.
    let started = row.started_at.unwrap_or(now);
    let now = now.max(started);
    let duration_ms = (now - started).num_milliseconds();
    #[expect(clippy::cast_precision_loss, reason = "a duration is far below 2^52 milliseconds")]
    let hours = duration_ms as f64 / MS_PER_HOUR;
    End {
        place,
        id: row.id,
        lease_owner: finish.lease_owner,
        status: finish.status,
        completed_at: now,
        duration_ms,
        result: finish.result.as_deref().map(json_text),
        error: finish
            .error
            .as_ref()
            .and_then(|error| serde_json::to_string(error).ok())
            .map(without_nul),
        conductor_thread_id: finish.conductor_thread_id.clone().map(without_raw_nul),
        conductor_status: finish.conductor_status.clone().map(without_raw_nul),
        cost: row.new.task.cost_per_hour.map(|cost| cost * hours),
        usage: finish.usage.as_ref().and_then(|usage| serde_json::to_string(usage).ok()),
    }
}

fn event_of_end(finish: &Finish, end: &End) -> ExecutionEvent {
    let row = &finish.row;
    let moment = ExecutionMoment {
        status: end.status,
        completed_at: Some(end.completed_at),
        duration_ms: Some(end.duration_ms),
        error: finish.error.clone(),
        usage: finish.usage,
        ..ExecutionMoment::of(row)
    };
    ExecutionEvent { id: row.id, new: Arc::clone(&row.new), moment }
}

/// The row as the end leaves it, without its result: that may be large, and nothing asks for it.
fn ended_row(finish: &Finish, end: &End) -> Execution {
    let mut execution = Execution::clone(&finish.row);
    execution.status = end.status;
    execution.completed_at = Some(end.completed_at);
    execution.duration_ms = Some(end.duration_ms);
    execution.error.clone_from(&finish.error);
    execution.conductor_thread_id.clone_from(&finish.conductor_thread_id);
    execution.conductor_status.clone_from(&finish.conductor_status);
    execution.cost = end.cost;
    execution.usage = finish.usage;
    execution
}

async fn settle(tx: &mut Tx, finish: &Finish, end: &End, is_probe: bool) -> OpResult<()> {
    if let Some(failure) = &finish.failure {
        let row = ended_row(finish, end);
        let decision = if is_probe {
            breakers::uncharged(&failure.decision, end.completed_at)
        } else {
            budgets::within(tx, &row, &failure.decision).await?
        };
        return settle_failed(tx, &row, failure, decision).await;
    }
    match end.status {
        ExecutionStatus::Completed => {
            deadlines::meet(tx, &finish.row, end.completed_at).await?;
            settle_completed(tx, &finish.row).await
        }
        ExecutionStatus::Cancelled => settle_cancelled(tx, &finish.row).await,
        ExecutionStatus::Failed | ExecutionStatus::Timeout => settle_ignored(tx, &finish.row).await,
        ExecutionStatus::Pending | ExecutionStatus::Running | ExecutionStatus::Skipped => Ok(()),
    }
}

/// True when the chain can have an error record or a dead letter.
fn has_past(execution: &Execution) -> bool {
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
        assignee: None,
    }
}

async fn settle_failed(
    tx: &mut Tx,
    execution: &Execution,
    failure: &FailureEntry,
    decision: RecoveryDecision,
) -> OpResult<()> {
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
    match decision {
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
    match decision {
        RecoveryDecision::RetryAt(_) => {
            tx.event(error_event(&record, "retry_scheduled"));
            tx.changed(Topic::Retries);
        }
        RecoveryDecision::GiveUp { status, cause } => {
            if status == RecoveryStatus::Escalated {
                tx.event(error_event(&record, "error_escalated"));
            }
            dead_letters::add(tx, &record, execution, cause).await?;
            count_chain(tx, execution, true).await?;
        }
    }
    Ok(())
}

/// Counts the end of a chain for a schedule that asks for that.
async fn count_chain(tx: &mut Tx, execution: &Execution, has_failed: bool) -> OpResult<()> {
    let limit = execution.new.task.options.pause_after_failures;
    pauses::count_end(tx, execution.new.schedule_id, limit, has_failed).await
}

async fn settle_completed(tx: &mut Tx, execution: &Execution) -> OpResult<()> {
    count_chain(tx, execution, false).await?;
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

/// A failure that a rule of the user's says to leave: nothing more is tried, and nobody is asked.
async fn settle_ignored(tx: &mut Tx, execution: &Execution) -> OpResult<()> {
    if !has_past(execution) {
        return Ok(());
    }
    if let Some(mut record) = errors::lock_by_chain(tx, execution.new.chain_id).await?
        && record.recovery_status != RecoveryStatus::Resolved
    {
        let now = tx.now().await?;
        record.recovery_status = RecoveryStatus::Ignored;
        record.next_retry_at = None;
        record.resolved_at = Some(now);
        record.resolution_notes =
            Some(format!("a rule ignores the failure of attempt {}", execution.new.attempt));
        record.updated_at = now;
        let record = errors::save(tx, record).await?;
        tx.event(error_event(&record, "error_ignored"));
    }
    for letter in dead_letters::lock_open(tx, execution).await? {
        dead_letters::set_status(tx, letter, DeadLetterStatus::Recovered, None).await?;
    }
    Ok(())
}

/// A chain that a person ended: its error needs a person again, its letter is back in the queue.
pub(super) async fn settle_cancelled(tx: &mut Tx, execution: &Execution) -> OpResult<()> {
    deadlines::waive(tx, execution).await?;
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

//! Retries: which are due, and their start.
//!
//! A record has `next_retry_at` while it is `retry_scheduled` and at no other time, so the instant
//! alone finds what is due.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Tx, creating, dead_letters, errors, idempotency};
use crate::clock::Timestamp;
use crate::domain::error_record::{DeadLetterStatus, ErrorRecord, RecoveryStatus};
use crate::domain::execution::Execution;
use crate::store::models::{ErrorRow, ExecutionRow};
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::{error_records as t, task_executions};
use crate::store::sql_types::Instant;
use crate::store::{ClaimHere, Creation, Idempotency, RetryStart, Topic};

pub(crate) async fn error_list_due(
    tx: &mut Tx,
    until: &Timestamp,
    limit: &i64,
) -> OpResult<Vec<(ErrorRecord, Execution)>> {
    let rows: Vec<ErrorRow> = t::table
        .filter(t::next_retry_at.le(Instant(*until)))
        .order((t::next_retry_at.asc(), t::id.asc()))
        .limit(*limit)
        .select(ErrorRow::as_select())
        .load(tx.conn())
        .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.execution_id).collect();
    let failed: Vec<ExecutionRow> = task_executions::table
        .filter(task_executions::id.eq_any(ids))
        .select(ExecutionRow::as_select())
        .load(tx.conn())
        .await?;
    let mut by_id: HashMap<i64, ExecutionRow> =
        failed.into_iter().map(|row| (row.id, row)).collect();
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(execution) = by_id.remove(&row.execution_id) {
            due.push((row.try_into()?, execution.try_into()?));
        }
    }
    Ok(due)
}

pub(crate) async fn error_next_due(tx: &mut Tx) -> OpResult<Option<Timestamp>> {
    let next: Option<Option<Instant>> = t::table
        .filter(t::next_retry_at.is_not_null())
        .order(t::next_retry_at.asc())
        .select(t::next_retry_at)
        .first(tx.conn())
        .await
        .optional()?;
    Ok(next.flatten().map(|at| at.0))
}

/// True when the start is still wanted; an operator's start that is not allowed is an error.
fn may_start(record: &ErrorRecord, start: &RetryStart) -> OpResult<bool> {
    match start.expected_next_retry_at {
        Some(expected) => Ok(record.recovery_status == RecoveryStatus::RetryScheduled
            && record.next_retry_at == Some(expected)),
        None => match record.recovery_status {
            RecoveryStatus::Resolved | RecoveryStatus::Retrying => {
                Err(wrong_state("wrong_state", format!("the error is {}", record.recovery_status)))
            }
            RecoveryStatus::Unresolved
            | RecoveryStatus::RetryScheduled
            | RecoveryStatus::Ignored
            | RecoveryStatus::Escalated => Ok(true),
        },
    }
}

/// An operator's retry of one record, at most once for a key.
pub(crate) async fn error_retry(
    tx: &mut Tx,
    start: &RetryStart,
    claim: &Option<ClaimHere>,
    kept: &Option<Idempotency<(ErrorRecord, Execution)>>,
) -> OpResult<Creation<(ErrorRecord, Execution)>> {
    if let Some(answer) = idempotency::find(tx, kept.as_ref()).await? {
        return Ok(Creation::Replayed(answer));
    }
    let started = error_start_retries(tx, std::slice::from_ref(start), claim).await?;
    let started = started
        .into_iter()
        .next()
        .ok_or_else(|| wrong_state("wrong_state", "the error does not wait for this retry"))?;
    idempotency::save(tx, kept.as_ref(), (&started, false)).await?;
    Ok(Creation::New(started))
}

pub(crate) async fn error_start_retries(
    tx: &mut Tx,
    batch: &[RetryStart],
    claim: &Option<ClaimHere>,
) -> OpResult<Vec<(ErrorRecord, Execution)>> {
    let mut ordered: Vec<&RetryStart> = batch.iter().collect();
    ordered.sort_by_key(|start| start.error_id);
    let mut records = Vec::with_capacity(batch.len());
    let mut rows = Vec::with_capacity(batch.len());
    for start in ordered {
        let Some(mut record) = errors::lock(tx, start.error_id).await? else {
            if start.expected_next_retry_at.is_some() {
                continue;
            }
            return Err(not_found("error", start.error_id));
        };
        if !may_start(&record, start)? {
            continue;
        }
        record.recovery_status = RecoveryStatus::Retrying;
        record.recovery_attempts += 1;
        record.next_retry_at = None;
        record.resolved_at = None;
        record.resolution_notes = None;
        record.updated_at = tx.now().await?;
        let record = errors::save(tx, record).await?;
        let mut row = start.execution.clone();
        for letter in dead_letters::lock_of_chain(tx, record.chain_id).await? {
            row.dead_letter_id.get_or_insert(letter.letter.id);
            if letter.letter.status == DeadLetterStatus::Pending {
                let chain = Some(record.chain_id);
                dead_letters::set_status(tx, letter, DeadLetterStatus::Resubmitted, chain).await?;
            }
        }
        records.push((record, row.execution_id));
        rows.push(Arc::new(row));
    }
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let made = creating::insert(tx, rows, claim.as_ref()).await?;
    tx.changed(Topic::Retries);
    let mut by_id: HashMap<_, Execution> =
        made.into_iter().map(|execution| (execution.new.execution_id, execution)).collect();
    let mut started = Vec::with_capacity(records.len());
    for (record, execution_id) in records {
        // Left out by a unique key of its own: the whole start is refused, so that no record says
        // `retrying` without an attempt.
        let execution = by_id.remove(&execution_id).ok_or_else(|| {
            wrong_state("already_running", "an execution with the same key waits or runs")
        })?;
        started.push((record, execution));
    }
    Ok(started)
}

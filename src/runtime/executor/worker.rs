//! One running task: from the claimed row to its end in the store.
//!
//! The end is written once, in one transaction with its error record and events, and only while
//! this node's lease holds. While the database is away the end waits here and is tried again: the
//! task's work is not lost because of an outage shorter than the lease.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use uuid::Uuid;

use crate::domain::execution::{Execution, ExecutionStatus};
use crate::domain::recovery::NODE_LOST;
use crate::domain::task::{Task, TaskError};
use crate::runtime::executor::launcher::Launcher;
use crate::runtime::executor::logs::ExecutionLog;
use crate::runtime::executor::plan::{FinishFacts, plan_finish, plan_timeout, without_result};
use crate::runtime::executor::rush::ENDS_WAIT;
use crate::runtime::meter;
use crate::store::{Finish, FinishResult, StoreError, StoreResult};
use crate::tasks::{Outcome, OutcomeExtra, TaskContext, TaskControl};

/// How long an end waits for its log lines to be stored.
const LOG_WAIT: Duration = Duration::from_secs(5);
/// First wait before an end is tried again; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// Longest wait before an end is tried again.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Runs one claimed row to its end.
pub(super) async fn run(launcher: Launcher, row: Execution, control: TaskControl) {
    let inner = &launcher.inner;
    let row = Arc::new(row);
    let owner = row.lease_owner.unwrap_or_default();
    let log = ExecutionLog::new(
        (row.id, row.new.execution_id),
        inner.clock.clone(),
        inner.logs.clone(),
        inner.live.clone(),
        inner.log_lines_max,
    );
    let started = tokio::time::Instant::now();
    let mut timeout = Duration::ZERO;
    let outcome = match Task::parse(&row.new.task.task_type, &row.new.task.task_config) {
        Ok(task) => {
            timeout = plan_timeout(&task, &row);
            let context = context_of(&row, timeout);
            let running = inner.environment.run(&task, context, control, log.clone());
            AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(panicked)
        }
        Err(faults) => {
            let first =
                faults.first().map_or_else(String::new, |f| format!("{}: {}", f.field, f.message));
            failed(TaskError::new("invalid_config", first))
        }
    };
    log.close(LOG_WAIT).await;
    // A large result has its share of memory until it is stored.
    let _held = outcome.extra().held.clone();
    let facts = FinishFacts {
        lease_owner: owner,
        limits: inner.limits,
        now: inner.clock.now(),
        random: rand::random::<f64>(),
    };
    let finish = plan_finish(row.clone(), outcome, timeout, facts);
    meter::execution_ended(&row.new.task.task_type, finish.status.as_str(), started.elapsed());
    write(&launcher, finish, owner).await;
    inner.running.end(row.id);
}

fn context_of(row: &Execution, timeout: Duration) -> TaskContext {
    TaskContext {
        execution_id: row.new.execution_id,
        chain_id: row.new.chain_id,
        attempt: u32::try_from(row.new.attempt).unwrap_or(1),
        schedule_id: row.new.schedule_id,
        scheduled_at: row.new.scheduled_at,
        fencing_token: row.id,
        traceparent: row.new.traceparent.clone(),
        event: row.new.task.options.event.clone().map(Arc::new),
        timeout,
    }
}

fn failed(error: TaskError) -> Outcome {
    Outcome::Failed { error, result: None, extra: OutcomeExtra::default() }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature `unwrap_or_else` asks for")]
fn panicked(payload: Box<dyn std::any::Any + Send>) -> Outcome {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    failed(TaskError::new("panic", message))
}

/// Writes the end until it is written, refused for good, or the lease is lost.
async fn write(launcher: &Launcher, mut finish: Finish, owner: Uuid) {
    let inner = &launcher.inner;
    let id = finish.row.id;
    let mut wait = RETRY_FIRST;
    loop {
        match submit(launcher, finish.clone()).await {
            Ok(FinishResult::Done(status)) => return count(launcher, status),
            Ok(FinishResult::Superseded(_)) => {
                inner.counters.superseded.fetch_add(1, Ordering::Relaxed);
                meter::superseded();
                tracing::warn!(execution.id = id, "the lease was lost, the result is dropped");
                return;
            }
            Err(StoreError::Unavailable(reason) | StoreError::Unwritable(reason)) => {
                tracing::warn!(
                    execution.id = id,
                    reason,
                    "the end of a task waits for the database"
                );
            }
            Err(error) => {
                tracing::error!(execution.id = id, %error, "the end of a task could not be stored");
                finish = without_result(finish);
            }
        }
        let lost = finish.error.as_ref().is_some_and(|error| error.kind == NODE_LOST);
        if lost || inner.lease.claimant().boot_id != owner {
            // Another node ends this row once the lease has run out; nothing of ours may run on.
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

async fn submit(launcher: &Launcher, finish: Finish) -> StoreResult<FinishResult> {
    let inner = &launcher.inner;
    if inner.running.free() > 0 {
        inner.rush.over(ENDS_WAIT).await;
    }
    // What was admitted one by one may be what the next of its key or queue waits for.
    let is_awaited = finish.row.new.gates.is_gated;
    let is_time = async |here| {
        inner.pace.turn(here, || is_awaited || inner.running.is_short()).await;
    };
    let answer = inner
        .finishes
        .submit(finish, is_time, async |batch| {
            let count = batch.len();
            match inner.store.execution_finish(batch.clone()).await {
                Ok(results) => results.into_iter().map(Ok).collect(),
                Err(error @ (StoreError::Unavailable(_) | StoreError::Unwritable(_))) => {
                    (0..count).map(|_| Err(error.repeated())).collect()
                }
                // One bad row must not hold the others back: each goes alone.
                Err(_) if count > 1 => {
                    let mut results = Vec::with_capacity(count);
                    for one in batch {
                        results.push(alone(launcher, one).await);
                    }
                    results
                }
                Err(error) => vec![Err(error)],
            }
        })
        .await;
    answer.unwrap_or_else(|abandoned| Err(StoreError::Unavailable(abandoned.to_string())))
}

async fn alone(launcher: &Launcher, finish: Finish) -> StoreResult<FinishResult> {
    let id = finish.row.id;
    let results = launcher.inner.store.execution_finish(vec![finish]).await?;
    Ok(results.into_iter().next().unwrap_or(FinishResult::Superseded(id)))
}

fn count(launcher: &Launcher, status: ExecutionStatus) {
    let counters = &launcher.inner.counters;
    match status {
        ExecutionStatus::Completed => counters.completed.fetch_add(1, Ordering::Relaxed),
        ExecutionStatus::Failed | ExecutionStatus::Timeout => {
            counters.failed.fetch_add(1, Ordering::Relaxed)
        }
        ExecutionStatus::Pending
        | ExecutionStatus::Running
        | ExecutionStatus::Cancelled
        | ExecutionStatus::Skipped => 0,
    };
}

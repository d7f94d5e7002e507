//! What to write when a task ended: pure.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::classification::Failure;
use crate::domain::execution::{Execution, ExecutionError, ExecutionStatus, ExecutionUsage};
use crate::domain::recovery::{RecoveryLimits, TIMEOUT, plan_failure};
use crate::domain::task::Task;
use crate::store::Finish;
use crate::tasks::Outcome;

/// The task type whose result has an HTTP status.
const HTTP_TASK: &str = "http_request";

/// The timeout that applies: the task's own, else the schedule's, else the type's default.
#[must_use]
pub fn plan_timeout(task: &Task, row: &Execution) -> Duration {
    let schedule = row.new.task.timeout_ms.and_then(|ms| u64::try_from(ms).ok());
    task.timeout_ms().or(schedule).map_or_else(|| task.default_timeout(), Duration::from_millis)
}

/// The facts a [`Finish`] is planned from beside the row and the outcome.
#[derive(Clone, Copy, Debug)]
pub struct FinishFacts {
    /// The boot id that holds the lease.
    pub lease_owner: Uuid,
    /// Limits of recovery.
    pub limits: RecoveryLimits,
    /// When it ended.
    pub now: DateTime<Utc>,
    /// Spreads the retry's delay, `0.0..1.0`.
    pub random: f64,
}

/// The end of a running row, with what recovery does next.
#[must_use]
pub fn plan_finish(
    row: Arc<Execution>,
    outcome: Outcome,
    timeout: Duration,
    facts: FinishFacts,
) -> Finish {
    let (status, error, result, extra) = match outcome {
        Outcome::Completed { result, extra } => {
            (ExecutionStatus::Completed, None, Some(result), extra)
        }
        Outcome::Failed { error, result, extra } => {
            (ExecutionStatus::Failed, Some(error), result, extra)
        }
        Outcome::Timeout { result, extra } => {
            let message =
                format!("the task ran longer than its timeout of {} ms", timeout.as_millis());
            (ExecutionStatus::Timeout, Some(ExecutionError::new(TIMEOUT, message)), result, extra)
        }
        Outcome::Cancelled { result, extra } => (ExecutionStatus::Cancelled, None, result, extra),
    };
    let failure = error.as_ref().and_then(|error| {
        let number =
            |name| result.as_ref().and_then(|result| result.get(name)).and_then(Value::as_i64);
        let is_http = row.new.task.task_type == HTTP_TASK;
        let failure = Failure {
            error,
            exit_code: number("exitCode").filter(|_| !is_http),
            http_status: number("status").filter(|_| is_http).and_then(|s| u16::try_from(s).ok()),
            retry_after: extra.retry_after,
        };
        plan_failure(&row, &failure, facts.limits, facts.now, facts.random)
    });
    let usage = extra.usage.map(|usage| ExecutionUsage {
        processes_killed: extra.killed,
        peak_memory_bytes: usage.peak_memory_bytes,
        cpu_ms: usage.cpu_ms,
    });
    Finish {
        row,
        lease_owner: facts.lease_owner,
        status,
        result: result.map(Arc::new),
        error,
        conductor_thread_id: extra.conductor_thread_id,
        conductor_status: extra.conductor_status,
        usage,
        failure,
    }
}

/// The same end without the result, for a result that the store refuses.
#[must_use]
pub fn without_result(mut finish: Finish) -> Finish {
    finish.result = None;
    if let Some(error) = &mut finish.error {
        error.message = format!("{} (the message could not be stored)", error.kind);
    }
    finish
}

//! The views of the v1 contract: what answers look like.

use serde_json::{Map, Value, json};

use super::definition::body_of;
use super::options;
use crate::clock::Timestamp;
use crate::domain::error_record::{DeadLetter, ErrorRecord};
use crate::domain::event::instant_text;
use crate::domain::execution::{Execution, ExecutionStatus, TaskSnapshot};
use crate::domain::retry::RetryPolicy;
use crate::domain::schedule::{Schedule, ScheduleStats};
use crate::store::{ApiKeyRow, DeadLetterStats, Dropped, LogRow, Page, PageRequest};
use crate::telemetry::TraceParent;

/// An instant or null.
pub(crate) fn instant(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| Value::String(instant_text(at)))
}

/// A page of a list.
pub(crate) fn page<T>(page: &Page<T>, request: PageRequest, view: impl Fn(&T) -> Value) -> Value {
    let mut body = json!({
        "items": page.items.iter().map(view).collect::<Vec<_>>(),
        "total": page.total,
        "limit": request.limit,
        "offset": request.offset,
    });
    if page.total_capped
        && let Value::Object(object) = &mut body
    {
        object.insert("totalCapped".to_owned(), Value::Bool(true));
    }
    body
}

/// A schedule with its statistics.
pub(crate) fn schedule(schedule: &Schedule, stats: ScheduleStats) -> Value {
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(schedule.id));
    body.extend(body_of(&schedule.definition));
    body.insert("retryPolicy".to_owned(), retry_policy(&schedule.definition.retry_policy));
    let rest = [
        ("nextRunAt", instant(schedule.next_run_at)),
        ("lastRunAt", instant(schedule.last_run_at)),
        ("pausedAt", instant(schedule.paused_at.filter(|_| !schedule.definition.enabled))),
        ("pausedUntil", instant(schedule.paused_until)),
        ("pauseReason", json!(schedule.pause_reason)),
        ("createdAt", instant(Some(schedule.created_at))),
        ("updatedAt", instant(Some(schedule.updated_at))),
        ("version", json!(schedule.version)),
        ("stats", stats_view(stats)),
    ];
    body.extend(rest.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(body)
}

/// A schedule as a job of the scheduler.
pub(crate) fn job(schedule: &Schedule, stats: ScheduleStats, next_runs: &[Timestamp]) -> Value {
    let definition = &schedule.definition;
    json!({
        "id": schedule.id,
        "scheduleId": schedule.id,
        "name": definition.name,
        "enabled": definition.enabled,
        "taskType": definition.task_type,
        "scheduleType": definition.schedule_type,
        "priority": definition.priority,
        "nextRunAt": instant(schedule.next_run_at),
        "lastRunAt": instant(schedule.last_run_at),
        "nextRuns": next_runs.iter().copied().map(instant_text).collect::<Vec<_>>(),
        "stats": stats_view(stats),
    })
}

fn stats_view(stats: ScheduleStats) -> Value {
    json!({
        "total": stats.total,
        "completed": stats.completed,
        "failed": stats.failed,
        "active": stats.active,
        "meanDurationMs": stats.mean_duration_ms,
    })
}

/// The policy in force: what was stored, the defaults filled in.
fn retry_policy(stored: &Value) -> Value {
    RetryPolicy::from_stored(stored).to_json()
}

/// An execution; lists and single reads share it.
pub(crate) fn execution(execution: &Execution) -> Value {
    Value::Object(execution_object(execution))
}

fn execution_object(execution: &Execution) -> Map<String, Value> {
    let new = &execution.new;
    let trace = new.traceparent.as_deref().and_then(TraceParent::parse);
    let body = json!({
        "id": execution.id,
        "executionId": new.execution_id,
        "chainId": new.chain_id,
        "scheduleId": new.schedule_id,
        "scheduleName": new.schedule_name,
        "trigger": new.trigger,
        "taskType": new.task.task_type,
        "taskConfig": new.task.task_config,
        "status": execution.status,
        "priority": new.priority,
        "attempt": new.attempt,
        "retryOf": new.retry_of,
        "retryPolicy": retry_policy(&new.task.retry_policy),
        "timeoutMs": new.task.timeout_ms,
        "tags": new.task.tags,
        "owner": new.task.owner,
        "dedupKey": new.dedup_key,
        "createdBy": new.created_by,
        "scheduledAt": instant_text(new.scheduled_at),
        "createdAt": instant_text(execution.created_at),
        "startedAt": instant(execution.started_at),
        "completedAt": instant(execution.completed_at),
        "cancelRequestedAt": instant(execution.cancel_requested_at),
        "durationMs": execution.duration_ms,
        "latenessMs": execution.lateness_ms,
        "jitterMs": new.task.options.jitter_ms,
        "backfillId": new.task.options.backfill.map(|mark| mark.id),
        "result": execution.result,
        "error": execution.error,
        "nodeId": execution.node_id,
        "cost": execution.cost,
        "processesKilled": execution.usage.map(|usage| usage.processes_killed),
        "usage": execution.usage.map(|usage| json!({
            "peakMemoryBytes": usage.peak_memory_bytes,
            "cpuMs": usage.cpu_ms,
        })),
        "traceId": trace.map(TraceParent::trace_id),
        "conductorThreadId": execution.conductor_thread_id,
        "conductorStatus": execution.conductor_status,
    });
    let mut body = match body {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    options::write_task(&new.task.options, &mut body);
    let waits = execution.status == ExecutionStatus::Pending;
    let held = execution.held_reason.as_ref().filter(|_| waits);
    body.insert("heldReason".to_owned(), json!(held));
    body
}

/// An execution with its chain's attempts and where to read on.
pub(crate) fn execution_with_links(found: &Execution, chain: &[Execution]) -> Value {
    let mut body = execution_object(found);
    let id = found.id;
    let attempts: Vec<Value> = chain.iter().map(attempt).collect();
    let links = json!({
        "self": execution_path(id),
        "logs": format!("{}/logs", execution_path(id)),
        "schedule": found.new.schedule_id.map(schedule_path),
        "retryOf": found.new.retry_of.map(execution_path),
    });
    body.insert("attempts".to_owned(), Value::Array(attempts));
    body.insert("links".to_owned(), links);
    Value::Object(body)
}

fn attempt(execution: &Execution) -> Value {
    json!({
        "id": execution.id,
        "executionId": execution.new.execution_id,
        "attempt": execution.new.attempt,
        "status": execution.status,
        "scheduledAt": instant_text(execution.new.scheduled_at),
        "startedAt": instant(execution.started_at),
        "completedAt": instant(execution.completed_at),
        "durationMs": execution.duration_ms,
        "error": execution.error,
    })
}

/// Where an execution is read.
pub(crate) fn execution_path(id: i64) -> String {
    format!("/api/v1/execution/executions/{id}")
}

/// Where a schedule is read.
pub(crate) fn schedule_path(id: i64) -> String {
    format!("/api/v1/scheduler/schedules/{id}")
}

/// What an accepted run answers.
pub(crate) fn accepted(execution: &Execution) -> Value {
    json!({
        "id": execution.id,
        "executionId": execution.new.execution_id,
        "chainId": execution.new.chain_id,
        "status": execution.status,
        "scheduledAt": instant_text(execution.new.scheduled_at),
    })
}

/// The short status for polling.
pub(crate) fn brief(execution: &Execution) -> Value {
    json!({
        "id": execution.id,
        "executionId": execution.new.execution_id,
        "status": execution.status,
        "attempt": execution.new.attempt,
        "startedAt": instant(execution.started_at),
        "completedAt": instant(execution.completed_at),
        "durationMs": execution.duration_ms,
        "result": execution.result,
        "error": execution.error,
    })
}

/// A line of a task's output.
pub(crate) fn log_line(row: &LogRow) -> Value {
    json!({
        "line": row.line,
        "at": instant_text(row.at),
        "stream": row.stream,
        "text": row.dropped.map_or_else(|| row.text.clone(), describe_gap),
        "continues": row.continues,
        "dropped": row.dropped.map(|gap| json!({ "lines": gap.lines, "bytes": gap.bytes })),
    })
}

/// A gap in a log for a person.
pub(crate) fn describe_gap(gap: Dropped) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people, to one decimal")]
    let bytes = gap.bytes as f64;
    let size = match gap.bytes {
        ..1_000 => format!("{} bytes", gap.bytes),
        1_000..1_000_000 => format!("{:.1} kB", bytes / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    };
    let lines = if gap.lines == 1 { "1 line".to_owned() } else { format!("{} lines", gap.lines) };
    format!("{size} ({lines}) not kept")
}

/// An error record.
pub(crate) fn error(record: &ErrorRecord) -> Value {
    json!({
        "id": record.id,
        "errorType": record.error_type,
        "severity": record.severity,
        "recoveryStatus": record.recovery_status,
        "executionId": record.execution_id,
        "chainId": record.chain_id,
        "scheduleId": record.schedule_id,
        "scheduleName": record.schedule_name,
        "kind": record.kind,
        "message": record.message,
        "fingerprint": record.fingerprint,
        "recoveryAttempts": record.recovery_attempts,
        "maxRetryAttempts": record.max_retry_attempts,
        "nextRetryAt": instant(record.next_retry_at),
        "resolvedAt": instant(record.resolved_at),
        "resolutionNotes": record.resolution_notes,
        "assignee": record.assignee,
        "createdAt": instant_text(record.created_at),
        "updatedAt": instant_text(record.updated_at),
    })
}

/// A dead letter.
pub(crate) fn dead_letter(letter: &DeadLetter) -> Value {
    let TaskSnapshot { task_type, task_config, severity, tags, owner, .. } = &letter.task;
    json!({
        "id": letter.id,
        "errorId": letter.error_id,
        "chainId": letter.chain_id,
        "scheduleId": letter.schedule_id,
        "scheduleName": letter.schedule_name,
        "taskType": task_type,
        "taskConfig": task_config,
        "severity": severity,
        "tags": tags,
        "owner": owner,
        "cause": letter.cause,
        "fingerprint": letter.fingerprint,
        "attempts": letter.attempts,
        "status": letter.status,
        "resubmittedChainId": letter.resubmitted_chain_id,
        "discardReason": letter.discard_reason,
        "createdAt": instant_text(letter.created_at),
        "updatedAt": instant_text(letter.updated_at),
    })
}

/// The numbers of the dead letters.
pub(crate) fn dead_letter_stats(stats: &DeadLetterStats) -> Value {
    let by_cause: Map<String, Value> =
        stats.by_cause.iter().map(|(cause, count)| (cause.clone(), json!(count))).collect();
    json!({
        "pending": stats.pending,
        "byCause": by_cause,
        "oldestAt": instant(stats.oldest_at),
        "addedLastDay": stats.added_last_day,
        "resubmittedLastDay": stats.resubmitted_last_day,
    })
}

/// An API key without its secret.
pub(crate) fn key(row: &ApiKeyRow) -> Value {
    json!({
        "id": row.id,
        "prefix": row.prefix,
        "name": row.name,
        "role": row.role,
        "createdAt": instant_text(row.created_at),
        "expiresAt": instant(row.expires_at),
        "lastUsedAt": instant(row.last_used_at),
        "revokedAt": instant(row.revoked_at),
    })
}

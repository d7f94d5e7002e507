//! Rows as JSON: the one parameter of a set-based statement.
//!
//! JSON columns travel as text inside the JSON, so that both back ends store exactly what was
//! given. Instants take the form their back end reads fastest (`hot::At`).

use serde::Serialize;
use uuid::Uuid;

use super::hot::At;
use crate::domain::event::NewEvent;
use crate::domain::execution::Execution;
use crate::domain::schedule::LedgerRange;
use crate::store::LogRow;
use crate::store::op::{OpResult, corrupt};
use crate::store::sql_types::{json_text, without_nul};

/// The text of a list of documents.
pub(crate) fn document<T: Serialize>(rows: &[T]) -> OpResult<String> {
    serde_json::to_string(rows)
        .map(without_nul)
        .map_err(|error| corrupt("document", &error.to_string()))
}

fn tags_text(tags: &[String]) -> String {
    serde_json::to_string(tags).unwrap_or_else(|_| "[]".to_owned())
}

/// A row of `task_executions` to be inserted.
#[derive(Serialize)]
pub(crate) struct ExecutionDocument<'a> {
    execution_id: Uuid,
    chain_id: Uuid,
    schedule_id: Option<i64>,
    schedule_name: Option<&'a str>,
    trigger: &'static str,
    task_type: &'a str,
    task_config: String,
    timeout_ms: Option<i64>,
    retry_policy: String,
    severity: &'static str,
    cost_per_hour: Option<f64>,
    tags: String,
    owner: Option<&'a str>,
    priority_rank: i16,
    attempt: i32,
    retry_of: Option<i64>,
    scheduled_at: At,
    available_at: At,
    failures_before: i32,
    crashes_before: i32,
    dead_letter_id: Option<i64>,
    dedup_key: Option<&'a str>,
    traceparent: Option<&'a str>,
    created_by: Option<&'a str>,
    status: &'static str,
    created_at: At,
    started_at: Option<At>,
    lateness_ms: Option<i64>,
    node_id: Option<&'a str>,
    lease_owner: Option<Uuid>,
}

impl<'a> ExecutionDocument<'a> {
    pub(crate) fn of(execution: &'a Execution) -> Self {
        let new = &execution.new;
        let task = &new.task;
        Self {
            execution_id: new.execution_id,
            chain_id: new.chain_id,
            schedule_id: new.schedule_id,
            schedule_name: new.schedule_name.as_deref(),
            trigger: new.trigger.as_str(),
            task_type: &task.task_type,
            task_config: json_text(&task.task_config),
            timeout_ms: task.timeout_ms,
            retry_policy: json_text(&task.retry_policy),
            severity: task.severity.as_str(),
            cost_per_hour: task.cost_per_hour,
            tags: tags_text(&task.tags),
            owner: task.owner.as_deref(),
            priority_rank: new.priority.rank(),
            attempt: new.attempt,
            retry_of: new.retry_of,
            scheduled_at: At(new.scheduled_at),
            available_at: At(new.available_at),
            failures_before: new.failures_before,
            crashes_before: new.crashes_before,
            dead_letter_id: new.dead_letter_id,
            dedup_key: new.dedup_key.as_deref(),
            traceparent: new.traceparent.as_deref(),
            created_by: new.created_by.as_deref(),
            status: execution.status.as_str(),
            created_at: At(execution.created_at),
            started_at: execution.started_at.map(At),
            lateness_ms: execution.lateness_ms,
            node_id: execution.node_id.as_deref(),
            lease_owner: execution.lease_owner,
        }
    }
}

/// The columns of `task_executions` that an end writes.
#[derive(Serialize)]
pub(crate) struct EndDocument<'a> {
    id: i64,
    status: &'static str,
    completed_at: Option<At>,
    duration_ms: Option<i64>,
    result: Option<String>,
    error: Option<String>,
    conductor_thread_id: Option<&'a str>,
    conductor_status: Option<&'a str>,
    cost: Option<f64>,
}

impl<'a> EndDocument<'a> {
    pub(crate) fn of(execution: &'a Execution) -> Self {
        Self {
            id: execution.id,
            status: execution.status.as_str(),
            completed_at: execution.completed_at.map(At),
            duration_ms: execution.duration_ms,
            result: execution.result.as_ref().map(json_text),
            error: execution.error.as_ref().and_then(|error| serde_json::to_string(error).ok()),
            conductor_thread_id: execution.conductor_thread_id.as_deref(),
            conductor_status: execution.conductor_status.as_deref(),
            cost: execution.cost,
        }
    }
}

/// A row of `events` but its number, which the statement computes from the place in the list.
#[derive(Serialize)]
pub(crate) struct EventDocument<'a> {
    seq: i64,
    at: At,
    event_type: &'static str,
    room: &'static str,
    schedule_id: Option<i64>,
    execution_id: Option<i64>,
    severity: Option<&'static str>,
    tags: String,
    owner: Option<&'a str>,
    payload: String,
}

impl<'a> EventDocument<'a> {
    /// `seq` is the event's number, or its place from 1 where the statement adds the rest.
    pub(crate) fn of(seq: i64, at: At, event: &'a NewEvent) -> Self {
        Self {
            seq,
            at,
            event_type: event.event_type,
            room: event.room.as_str(),
            schedule_id: event.schedule_id,
            execution_id: event.execution_id,
            severity: event.severity.map(|severity| severity.as_str()),
            tags: tags_text(&event.tags),
            owner: event.owner.as_deref(),
            payload: event.payload.to_string(),
        }
    }
}

/// A row of `schedule_ledger` to be inserted.
#[derive(Serialize)]
pub(crate) struct LedgerDocument {
    schedule_id: i64,
    from_at: At,
    to_at: At,
    instants: i64,
    reason: &'static str,
    created_at: At,
}

impl LedgerDocument {
    pub(crate) const fn of(schedule_id: i64, range: &LedgerRange, created_at: At) -> Self {
        Self {
            schedule_id,
            from_at: At(range.from),
            to_at: At(range.to),
            instants: range.count,
            reason: range.reason.as_str(),
            created_at,
        }
    }
}

/// What a firing writes to its schedule.
#[derive(Serialize)]
pub(crate) struct AdvanceDocument {
    pub(crate) id: i64,
    pub(crate) next_run_at: Option<At>,
    pub(crate) last_run_at: Option<At>,
    pub(crate) fired: i64,
    pub(crate) enabled: bool,
    pub(crate) paused_at: Option<At>,
}

/// A row of `execution_logs` to be inserted.
#[derive(Serialize)]
pub(crate) struct LogDocument<'a> {
    execution_id: i64,
    line: i64,
    at: At,
    stream: &'a str,
    text: &'a str,
}

impl<'a> LogDocument<'a> {
    pub(crate) fn of(row: &'a LogRow) -> Self {
        Self {
            execution_id: row.execution_id,
            line: row.line,
            at: At(row.at),
            stream: &row.stream,
            text: &row.text,
        }
    }
}

//! From rows to the domain's values and back.
//!
//! A stored word that no code of ours wrote is an error (`Internal`), never a guess.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::act::{Act, AuditEntry};
use crate::domain::backfill::{Backfill, BackfillForm, BackfillOrder, BackfillStatus};
use crate::domain::calendar::{Calendar, CalendarDefinition};
use crate::domain::error_record::{
    DeadLetter, DeadLetterStatus, ErrorRecord, ErrorType, RecoveryStatus,
};
use crate::domain::execution::{
    Execution, ExecutionError, ExecutionStatus, Gates, NewExecution, Priority, Severity,
    TaskSnapshot, Trigger,
};
use crate::domain::options::TaskOptions;
use crate::domain::schedule::{
    LedgerRange, LedgerReason, MisfirePolicy, OverlapPolicy, Schedule, ScheduleDefinition,
    ScheduleType,
};
use crate::store::models::{
    AuditRow, BackfillRow, CalendarRow, DeadLetterRow, DeadLetterValues, ErrorRow, ErrorValues,
    ExecutionActsRow, ExecutionRow, KeyRowRaw, LedgerRowRaw, LogRowRaw, NodeRowRaw, ScheduleRow,
    ScheduleValues,
};
use crate::store::op::{OpError, OpResult, corrupt};
use crate::store::sql_types::{Instant, JsonDoc, Uid};
use crate::store::{
    ApiKeyRow, Dropped, ExecutionActs, LedgerRow, LogRow, NodeRow, OutcomeOverride, OverrideOutcome,
};

macro_rules! parsed {
    ($kind:ty, $what:literal, $text:expr) => {{
        let text = $text;
        <$kind>::parse(&text).ok_or_else(|| corrupt($what, &text))?
    }};
}

pub(crate) fn priority_of_rank(rank: i16) -> OpResult<Priority> {
    Priority::ALL
        .iter()
        .copied()
        .find(|priority| priority.rank() == rank)
        .ok_or_else(|| corrupt("priority rank", &rank.to_string()))
}

fn tags_of(document: JsonDoc) -> Vec<String> {
    serde_json::from_value(document.0).unwrap_or_default()
}

/// A document of policies; one that no code of ours wrote is an error.
pub(crate) fn options_of<T: DeserializeOwned>(document: JsonDoc) -> OpResult<T> {
    serde_json::from_value(document.0).map_err(|error| corrupt("options", &error.to_string()))
}

/// Labels as they are stored.
pub(crate) fn tags_document(tags: &[String]) -> JsonDoc {
    JsonDoc(Value::from(tags.to_vec()))
}

impl ScheduleValues {
    pub(crate) fn of(definition: &ScheduleDefinition) -> Self {
        let d = definition.clone();
        Self {
            name: d.name,
            description: d.description,
            task_type: d.task_type,
            task_config: JsonDoc(d.task_config),
            schedule_type: d.schedule_type.as_str().to_owned(),
            schedule_config: JsonDoc(d.schedule_config),
            enabled: d.enabled,
            priority_rank: d.priority.rank(),
            timeout_ms: d.timeout_ms,
            max_concurrent: d.max_concurrent,
            overlap_policy: d.overlap_policy.as_str().to_owned(),
            misfire_policy: d.misfire_policy.as_str().to_owned(),
            misfire_grace_ms: d.misfire_grace_ms,
            catchup_window_ms: d.catchup_window_ms,
            catchup_max: d.catchup_max,
            catchup_per_minute: d.catchup_per_minute,
            retry_policy: JsonDoc(d.retry_policy),
            severity: d.severity.as_str().to_owned(),
            cost_per_hour: d.cost_per_hour,
            start_at: d.start_at.map(Instant),
            end_at: d.end_at.map(Instant),
            max_executions: d.max_executions,
            tags: tags_document(&d.tags),
            owner: d.owner,
            options: JsonDoc(serde_json::to_value(d.options).unwrap_or_default()),
        }
    }
}

impl TryFrom<ScheduleRow> for Schedule {
    type Error = OpError;

    fn try_from(row: ScheduleRow) -> OpResult<Self> {
        let definition = ScheduleDefinition {
            name: row.name,
            description: row.description,
            task_type: row.task_type,
            task_config: row.task_config.0,
            schedule_type: parsed!(ScheduleType, "schedule type", row.schedule_type),
            schedule_config: row.schedule_config.0,
            enabled: row.enabled,
            priority: priority_of_rank(row.priority_rank)?,
            timeout_ms: row.timeout_ms,
            max_concurrent: row.max_concurrent,
            overlap_policy: parsed!(OverlapPolicy, "overlap policy", row.overlap_policy),
            misfire_policy: parsed!(MisfirePolicy, "misfire policy", row.misfire_policy),
            misfire_grace_ms: row.misfire_grace_ms,
            catchup_window_ms: row.catchup_window_ms,
            catchup_max: row.catchup_max,
            catchup_per_minute: row.catchup_per_minute,
            retry_policy: row.retry_policy.0,
            severity: parsed!(Severity, "severity", row.severity),
            cost_per_hour: row.cost_per_hour,
            start_at: row.start_at.map(|at| at.0),
            end_at: row.end_at.map(|at| at.0),
            max_executions: row.max_executions,
            tags: tags_of(row.tags),
            owner: row.owner,
            options: options_of(row.options)?,
        };
        Ok(Self {
            id: row.id,
            definition,
            next_run_at: row.next_run_at.map(|at| at.0),
            last_run_at: row.last_run_at.map(|at| at.0),
            fired: row.fired,
            paused_at: row.paused_at.map(|at| at.0),
            resumed_at: row.resumed_at.map(|at| at.0),
            catch_up_at: row.catch_up_at.map(|at| at.0),
            settled_at: row.settled_at.map(|at| at.0),
            paused_until: row.paused_until.map(|at| at.0),
            pause_reason: row.pause_reason,
            failure_streak: row.failure_streak,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            version: row.version,
        })
    }
}

impl CalendarRow {
    /// What a calendar covers, as it is stored.
    pub(crate) fn entries_of(definition: &CalendarDefinition) -> JsonDoc {
        JsonDoc(serde_json::to_value(&definition.entries).unwrap_or_default())
    }
}

impl TryFrom<CalendarRow> for Calendar {
    type Error = OpError;

    fn try_from(row: CalendarRow) -> OpResult<Self> {
        let definition = CalendarDefinition {
            name: row.name,
            description: row.description,
            timezone: row.timezone,
            entries: options_of(row.entries)?,
        };
        Ok(Self {
            id: row.id,
            definition,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            version: row.version,
        })
    }
}

impl TryFrom<BackfillRow> for Backfill {
    type Error = OpError;

    fn try_from(row: BackfillRow) -> OpResult<Self> {
        let form = BackfillForm {
            schedule_id: row.schedule_id,
            schedule_name: row.schedule_name,
            from: row.from_at.0,
            to: row.to_at.0,
            order: parsed!(BackfillOrder, "backfill order", row.run_order),
            again: row.again,
            per_minute: row.per_minute,
            max_concurrent: row.max_concurrent,
            planned: row.planned,
            created_by: row.created_by,
        };
        Ok(Self {
            id: row.id,
            form,
            status: parsed!(BackfillStatus, "backfill status", row.status),
            position: row.position.map(|at| at.0),
            made: row.made,
            left_out: row.left_out,
            next_start_at: row.next_start_at.map(|at| at.0),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            ended_at: row.ended_at.map(|at| at.0),
            reason: row.reason,
        })
    }
}

impl TryFrom<ExecutionRow> for Execution {
    type Error = OpError;

    fn try_from(row: ExecutionRow) -> OpResult<Self> {
        let task = TaskSnapshot {
            task_type: row.task_type,
            task_config: row.task_config.0,
            timeout_ms: row.timeout_ms,
            retry_policy: row.retry_policy.0,
            severity: parsed!(Severity, "severity", row.severity),
            cost_per_hour: row.cost_per_hour,
            tags: tags_of(row.tags),
            owner: row.owner,
            options: row.options.map(options_of).transpose()?.unwrap_or_default(),
        };
        let new = NewExecution {
            execution_id: row.execution_id.0,
            chain_id: row.chain_id.0,
            schedule_id: row.schedule_id,
            schedule_name: row.schedule_name,
            trigger: parsed!(Trigger, "trigger", row.trigger),
            task,
            priority: priority_of_rank(row.priority_rank)?,
            attempt: row.attempt,
            retry_of: row.retry_of,
            scheduled_at: row.scheduled_at.0,
            available_at: row.available_at.0,
            failures_before: row.failures_before,
            crashes_before: row.crashes_before,
            dead_letter_id: row.dead_letter_id,
            dedup_key: row.dedup_key,
            traceparent: row.traceparent,
            created_by: row.created_by,
            gates: Gates {
                queue: row.queue,
                concurrency_key: row.concurrency_key,
                target: row.target,
                is_gated: row.gated,
            },
        };
        Ok(Self {
            id: row.id,
            new: Arc::new(new),
            status: parsed!(ExecutionStatus, "execution status", row.status),
            created_at: row.created_at.0,
            started_at: row.started_at.map(|at| at.0),
            completed_at: row.completed_at.map(|at| at.0),
            duration_ms: row.duration_ms,
            lateness_ms: row.lateness_ms,
            result: row.result.map(|document| document.0),
            error: row.error.and_then(|document| serde_json::from_value(document.0).ok()),
            node_id: row.node_id,
            lease_owner: row.lease_owner.map(|owner| owner.0),
            cancel_requested_at: row.cancel_requested_at.map(|at| at.0),
            conductor_thread_id: row.conductor_thread_id,
            conductor_status: row.conductor_status,
            cost: row.cost,
            usage: row.usage.and_then(|document| serde_json::from_value(document.0).ok()),
            held_reason: row.held_reason,
        })
    }
}

impl ErrorValues {
    pub(crate) fn of(record: &ErrorRecord) -> Self {
        let r = record.clone();
        Self {
            chain_id: Uid(r.chain_id),
            error_type: r.error_type.as_str().to_owned(),
            severity: r.severity.as_str().to_owned(),
            recovery_status: r.recovery_status.as_str().to_owned(),
            execution_id: r.execution_id,
            schedule_id: r.schedule_id,
            schedule_name: r.schedule_name,
            kind: without_raw_nul(r.kind),
            message: without_raw_nul(r.message),
            fingerprint: without_raw_nul(r.fingerprint),
            recovery_attempts: r.recovery_attempts,
            max_retry_attempts: r.max_retry_attempts,
            next_retry_at: r.next_retry_at.map(Instant),
            resolved_at: r.resolved_at.map(Instant),
            resolution_notes: r.resolution_notes,
            created_at: Instant(r.created_at),
            updated_at: Instant(r.updated_at),
            assignee: r.assignee,
        }
    }
}

impl TryFrom<ErrorRow> for ErrorRecord {
    type Error = OpError;

    fn try_from(row: ErrorRow) -> OpResult<Self> {
        Ok(Self {
            id: row.id,
            chain_id: row.chain_id.0,
            error_type: parsed!(ErrorType, "error type", row.error_type),
            severity: parsed!(Severity, "severity", row.severity),
            recovery_status: parsed!(RecoveryStatus, "recovery status", row.recovery_status),
            execution_id: row.execution_id,
            schedule_id: row.schedule_id,
            schedule_name: row.schedule_name,
            kind: row.kind,
            message: row.message,
            fingerprint: row.fingerprint,
            recovery_attempts: row.recovery_attempts,
            max_retry_attempts: row.max_retry_attempts,
            next_retry_at: row.next_retry_at.map(|at| at.0),
            resolved_at: row.resolved_at.map(|at| at.0),
            resolution_notes: row.resolution_notes,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            assignee: row.assignee,
        })
    }
}

/// A task as it is kept in a dead letter.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskDocument {
    task_type: String,
    task_config: Value,
    timeout_ms: Option<i64>,
    retry_policy: Value,
    severity: Severity,
    cost_per_hour: Option<f64>,
    tags: Vec<String>,
    owner: Option<String>,
    #[serde(default)]
    options: TaskOptions,
}

impl DeadLetterValues {
    /// `resubmitted_at` is no part of the domain's letter and is given apart.
    pub(crate) fn of(letter: &DeadLetter, resubmitted_at: Option<Instant>) -> Self {
        let l = letter.clone();
        let task = TaskDocument {
            task_type: l.task.task_type,
            task_config: l.task.task_config,
            timeout_ms: l.task.timeout_ms,
            retry_policy: l.task.retry_policy,
            severity: l.task.severity,
            cost_per_hour: l.task.cost_per_hour,
            tags: l.task.tags,
            owner: l.task.owner,
            options: l.task.options,
        };
        Self {
            error_id: l.error_id,
            chain_id: Uid(l.chain_id),
            schedule_id: l.schedule_id,
            schedule_name: l.schedule_name,
            task: JsonDoc(serde_json::to_value(task).unwrap_or_default()),
            cause: l.cause,
            attempts: JsonDoc(l.attempts),
            status: l.status.as_str().to_owned(),
            resubmitted_chain_id: l.resubmitted_chain_id.map(Uid),
            resubmitted_at,
            discard_reason: l.discard_reason,
            created_at: Instant(l.created_at),
            updated_at: Instant(l.updated_at),
            fingerprint: l.fingerprint,
        }
    }
}

impl TryFrom<DeadLetterRow> for DeadLetter {
    type Error = OpError;

    fn try_from(row: DeadLetterRow) -> OpResult<Self> {
        let task: TaskDocument = serde_json::from_value(row.task.0)
            .map_err(|error| corrupt("task document", &error.to_string()))?;
        Ok(Self {
            id: row.id,
            error_id: row.error_id,
            chain_id: row.chain_id.0,
            schedule_id: row.schedule_id,
            schedule_name: row.schedule_name,
            task: TaskSnapshot {
                task_type: task.task_type,
                task_config: task.task_config,
                timeout_ms: task.timeout_ms,
                retry_policy: task.retry_policy,
                severity: task.severity,
                cost_per_hour: task.cost_per_hour,
                tags: task.tags,
                owner: task.owner,
                options: task.options,
            },
            cause: row.cause,
            attempts: row.attempts.0,
            status: parsed!(DeadLetterStatus, "dead letter status", row.status),
            resubmitted_chain_id: row.resubmitted_chain_id.map(|id| id.0),
            discard_reason: row.discard_reason,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            fingerprint: row.fingerprint,
        })
    }
}

impl TryFrom<LedgerRowRaw> for LedgerRow {
    type Error = OpError;

    fn try_from(row: LedgerRowRaw) -> OpResult<Self> {
        Ok(Self {
            id: row.id,
            schedule_id: row.schedule_id,
            range: LedgerRange {
                from: row.from_at.0,
                to: row.to_at.0,
                count: row.instants,
                reason: parsed!(LedgerReason, "ledger reason", row.reason),
            },
            created_at: row.created_at.0,
        })
    }
}

impl From<LogRowRaw> for LogRow {
    fn from(row: LogRowRaw) -> Self {
        Self {
            execution_id: row.execution_id,
            line: row.line,
            at: row.at.0,
            stream: row.stream,
            text: row.text,
            continues: row.continues,
            dropped: row
                .dropped_lines
                .zip(row.dropped_bytes)
                .map(|(lines, bytes)| Dropped { lines, bytes }),
        }
    }
}

impl From<NodeRowRaw> for NodeRow {
    fn from(row: NodeRowRaw) -> Self {
        Self {
            boot_id: row.boot_id.0,
            node_id: row.node_id,
            started_at: row.started_at.0,
            lease_until: row.lease_until.0,
            stopped_at: row.stopped_at.map(|at| at.0),
        }
    }
}

impl From<KeyRowRaw> for ApiKeyRow {
    fn from(row: KeyRowRaw) -> Self {
        Self {
            id: row.id,
            prefix: row.prefix,
            secret_hash: row.secret_hash,
            name: row.name,
            role: row.role,
            created_at: row.created_at.0,
            expires_at: row.expires_at.map(|at| at.0),
            last_used_at: row.last_used_at.map(|at| at.0),
            revoked_at: row.revoked_at.map(|at| at.0),
        }
    }
}

/// Text without NUL, which PostgreSQL cannot hold.
pub(crate) fn without_raw_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// What a failed attempt left, as it is kept in a dead letter.
pub(crate) fn error_document(error: Option<&ExecutionError>) -> Value {
    error.map_or(Value::Null, |error| serde_json::to_value(error).unwrap_or_default())
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at.0,
            act: Act {
                who: row.who,
                key_id: row.key_id,
                role: row.role,
                action: row.action,
                subject_kind: row.subject_kind,
                subject_id: row.subject_id,
                reason: row.reason,
                request_id: row.request_id,
            },
            before: row.before.map(|document| document.0),
            after: row.after.map(|document| document.0),
        }
    }
}

impl TryFrom<ExecutionActsRow> for ExecutionActs {
    type Error = OpError;

    fn try_from(row: ExecutionActsRow) -> OpResult<Self> {
        let outcome = row.outcome.zip(row.outcome_at);
        let outcome_override = match outcome {
            None => None,
            Some((word, at)) => Some(OutcomeOverride {
                outcome: parsed!(OverrideOutcome, "outcome", word),
                by: row.outcome_by,
                at: at.0,
                reason: row.outcome_reason,
                result: row.outcome_result.map(|document| document.0),
            }),
        };
        Ok(Self {
            paused_at: row.paused_at.map(|at| at.0),
            paused_by: row.paused_by,
            pause_reason: row.pause_reason,
            outcome_override,
        })
    }
}

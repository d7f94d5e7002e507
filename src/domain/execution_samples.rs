//! An execution for tests to make theirs of.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::domain::execution::{
    Execution, ExecutionStatus, Gates, NewExecution, Priority, Severity, TaskSnapshot, Trigger,
};
use crate::domain::options::TaskOptions;

/// A shell command of a schedule that was due, made and started at one instant.
pub(crate) fn running(at: Timestamp) -> Execution {
    let id = Uuid::nil();
    Execution {
        id: 7,
        new: Arc::new(NewExecution {
            execution_id: id,
            chain_id: id,
            schedule_id: Some(1),
            schedule_name: Some("nightly".to_owned()),
            trigger: Trigger::Schedule,
            task: TaskSnapshot {
                task_type: "shell_command".to_owned(),
                task_config: json!({"command": "false"}),
                timeout_ms: None,
                retry_policy: Value::Null,
                severity: Severity::Low,
                cost_per_hour: None,
                tags: Vec::new(),
                owner: None,
                options: TaskOptions::default(),
            },
            priority: Priority::Medium,
            attempt: 1,
            retry_of: None,
            scheduled_at: at,
            available_at: at,
            failures_before: 0,
            crashes_before: 0,
            dead_letter_id: None,
            dedup_key: Some("k".to_owned()),
            traceparent: None,
            created_by: None,
            gates: Gates::default(),
        }),
        status: ExecutionStatus::Running,
        created_at: at,
        started_at: Some(at),
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

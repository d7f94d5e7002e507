//! An execution for tests to make theirs of.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::domain::execution::{
    Execution, ExecutionStatus, NewExecution, Priority, Severity, TaskSnapshot, Trigger,
};

/// A shell command of a schedule that was due, made and started at one instant.
pub(crate) fn running(at: Timestamp) -> Execution {
    let id = Uuid::nil();
    let task = TaskSnapshot {
        severity: Severity::Low,
        ..TaskSnapshot::new("shell_command", json!({"command": "false"}))
    };
    let new = NewExecution {
        execution_id: id,
        chain_id: id,
        schedule_id: Some(1),
        schedule_name: Some("nightly".to_owned()),
        dedup_key: Some("k".to_owned()),
        ..NewExecution::first(Trigger::Schedule, task, Priority::Medium, at)
    };
    Execution {
        id: 7,
        status: ExecutionStatus::Running,
        started_at: Some(at),
        ..Execution::waiting(Arc::new(new), at)
    }
}

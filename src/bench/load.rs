//! What the scenarios load the system with.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::execution::{NewExecution, Priority, Severity, TaskSnapshot, Trigger};

/// An ad-hoc execution of the function that does nothing.
pub(super) fn no_op(now: Timestamp) -> NewExecution {
    let execution_id = Uuid::now_v7();
    NewExecution {
        execution_id,
        chain_id: execution_id,
        schedule_id: None,
        schedule_name: None,
        trigger: Trigger::Api,
        task: TaskSnapshot {
            task_type: "function".to_owned(),
            task_config: json!({ "name": "noop" }),
            timeout_ms: None,
            retry_policy: Value::Null,
            severity: Severity::High,
            cost_per_hour: None,
            tags: Vec::new(),
            owner: None,
        },
        priority: Priority::Medium,
        attempt: 1,
        retry_of: None,
        scheduled_at: now,
        available_at: now,
        failures_before: 0,
        crashes_before: 0,
        dead_letter_id: None,
        dedup_key: None,
        traceparent: None,
        created_by: None,
    }
}

/// The processor time this process has used, in seconds.
pub(super) fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which ends with the last bracket: the 12th and 13th field are user and
    // system time in hundredths of a second.
    let fields = text.rsplit(')').next().unwrap_or_default();
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

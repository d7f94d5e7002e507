//! What people did: to executions, and as rows of the audit log.

use serde_json::{Value, json};

use super::views::{execution, instant};
use crate::domain::act::AuditEntry;
use crate::domain::event::instant_text;
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::store::{ActedExecution, ExecutionActs, OutcomeOverride};

/// Adds to an execution what people did to it.
pub(crate) fn add_acts(body: &mut Value, execution: &Execution, acts: &ExecutionActs) {
    // A pause ends with the processes that stand still.
    let paused_at = acts.paused_at.filter(|_| execution.status == ExecutionStatus::Running);
    let Value::Object(object) = body else { return };
    object.insert("isPaused".to_owned(), paused_at.is_some().into());
    object.insert("pausedAt".to_owned(), instant(paused_at));
    object.insert(
        "pausedBy".to_owned(),
        json!(acts.paused_by.as_ref().filter(|_| paused_at.is_some())),
    );
    let outcome = acts.outcome_override.as_ref().map_or(Value::Null, outcome_override);
    object.insert("outcomeOverride".to_owned(), outcome);
}

/// An execution after an act.
pub(crate) fn acted(acted: &ActedExecution) -> Value {
    let mut body = execution(&acted.execution);
    add_acts(&mut body, &acted.execution, &acted.acts);
    body
}

/// An outcome that a person set.
pub(crate) fn outcome_override(set: &OutcomeOverride) -> Value {
    json!({
        "outcome": set.outcome,
        "by": set.by,
        "at": instant_text(set.at),
        "reason": set.reason,
        "result": set.result,
    })
}

/// A row of the audit log.
pub(crate) fn audit_entry(entry: &AuditEntry) -> Value {
    let act = &entry.act;
    json!({
        "id": entry.id,
        "at": instant_text(entry.at),
        "who": act.who,
        "keyId": act.key_id,
        "role": act.role,
        "action": act.action,
        "subject": { "kind": act.subject_kind, "id": act.subject_id },
        "reason": act.reason,
        "before": entry.before,
        "after": entry.after,
        "requestId": act.request_id,
    })
}

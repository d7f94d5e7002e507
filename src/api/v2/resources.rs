//! The machine of this node, and advice for a schedule from what its runs used.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::call::{Call, ok};
use crate::api::error::Answer;
use crate::domain::advice::advise;

/// `GET /resources`: what this node has, what its running tasks declared, and whether it is short.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let mut body = call.state.handles().resources();
    let boot = body.get("bootId").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
    let running = match boot {
        Some(boot) => call.state.store().execution_list_running(boot).await?,
        None => Vec::new(),
    };
    let needs = running.iter().filter_map(|row| row.new.task.options.admission.resources);
    let (mut cpu, mut memory_mb, mut count) = (0.0, 0_i64, 0_usize);
    for needs in needs {
        cpu += needs.cpu.unwrap_or(0.0);
        memory_mb = memory_mb.saturating_add(needs.memory_mb.unwrap_or(0));
        count += 1;
    }
    if let Value::Object(object) = &mut body {
        let reserved = json!({ "executions": count, "cpu": cpu, "memoryMb": memory_mb });
        object.insert("reserved".to_owned(), reserved);
    }
    ok(&body)
}

/// `GET /schedules/{id}/recommendations`.
pub(crate) async fn recommend(call: Call) -> Answer {
    call.no_query()?;
    let schedule = call.state.store().schedule_get(call.id()?).await?;
    let (runs, load) = call.state.store().execution_past(schedule.id).await?;
    let advice = advise(&runs, &load);
    let admission = &schedule.definition.options.task.admission;
    ok(&json!({
        "scheduleId": schedule.id,
        "runs": advice.runs,
        "p95Ms": advice.p95_ms,
        "resources": { "cpu": advice.cpu, "memoryMb": advice.memory_mb },
        "timeoutMs": advice.timeout_ms,
        "bestHour": advice.best_hour,
        "loadMsByHour": advice.load_ms_by_hour,
        "note": advice.note,
        "current": {
            "resources": admission.resources,
            "timeoutMs": schedule.definition.timeout_ms,
        },
    }))
}

//! Executions: run without a schedule, list, read, follow, cancel, run again.

use serde_json::json;

use super::launch::{self, Order};
use crate::api::call::{Call, accepted, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::execution::{AdHoc, Overrides};
use crate::api::wire::query::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::api::wire::{interventions, views};
use crate::domain::execution::Trigger;
use crate::store::{CancelResult, ExecutionFilter, ExecutionShown, LogFilter};

/// Where lines of output come from.
const STREAMS: [&str; 3] = ["stdout", "stderr", "system"];

/// `POST /execution/executions`.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let wanted = body.get("taskType").and_then(serde_json::Value::as_str).unwrap_or_default();
    launch::check_shell(call.principal()?, wanted, true)?;
    let request = AdHoc::parse(&body, &call.state.task_maxima())?;
    let due = request.run_at.unwrap_or_else(|| call.state.clock().now());
    let order = Order {
        task: request.task,
        trigger: Trigger::Api,
        priority: request.priority,
        due,
        schedule: None,
    };
    let mut row = launch::new_chain(&call, order);
    row.dedup_key = request.dedup_key;
    launch::create(&call, row, None).await
}

/// `GET /execution/executions`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["scheduleId", "status", "limit", "offset"]);
    let filter = ExecutionFilter {
        schedule_id: query.id("scheduleId"),
        statuses: query.words("status"),
        chain_id: None,
    };
    let page = query.page();
    query.finish()?;
    let found = call.state.store().execution_list(filter, page).await?;
    ok(&views::page(&found, page, views::execution))
}

/// `GET /execution/executions/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let shown = call.state.store().execution_show(call.execution_key()?).await?;
    let ExecutionShown { execution, chain, acts } = shown;
    let mut body = views::execution_with_links(&execution, &chain);
    interventions::add_acts(&mut body, &execution, &acts);
    ok(&body)
}

/// `GET /tasks/{id}`.
pub(crate) async fn brief(call: Call) -> Answer {
    call.no_query()?;
    let execution = call.state.store().execution_get(call.execution_key()?).await?;
    ok(&views::brief(&execution))
}

/// `GET /execution/executions/{id}/logs?after=&limit=&q=&stream=`.
pub(crate) async fn logs(call: Call) -> Answer {
    let mut query = call.query(&["after", "limit", "q", "stream"]);
    let after = query.integer("after", 0, i64::MAX).unwrap_or(0);
    let limit = query.integer("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
    let filter = LogFilter { text: query.text("q"), stream: query.text("stream") };
    if filter.stream.as_ref().is_some_and(|stream| !STREAMS.contains(&stream.as_str())) {
        let message = format!("`stream` is one of {}", STREAMS.join(", "));
        query.fault("stream", "invalid_value", message);
    }
    query.finish()?;
    // The state is read before the lines: if it had ended by then, no line comes after these.
    let execution = call.state.store().execution_get(call.execution_key()?).await?;
    let rows = call.state.store().log_search(execution.id, after, limit, filter).await?;
    let is_short = i64::try_from(rows.len()).is_ok_and(|count| count < limit);
    ok(&json!({
        "items": rows.iter().map(views::log_line).collect::<Vec<_>>(),
        "nextAfter": rows.last().map_or(after, |row| row.line),
        "done": execution.status.is_terminal() && is_short,
    }))
}

/// `POST /execution/executions/{id}/cancel`.
pub(crate) async fn cancel(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    match call.state.store().execution_cancel(call.execution_key()?).await? {
        CancelResult::Cancelled(execution) => ok(&views::execution(&execution)),
        CancelResult::Requested(execution) => {
            call.state.handles().cancel_requested(execution.id);
            accepted(&views::execution(&execution))
        }
        CancelResult::AlreadyFinished(execution) => {
            let detail = format!("execution {} is {} already", execution.id, execution.status);
            Err(ApiError::conflict("already_finished", detail))
        }
    }
}

/// `POST /execution/executions/{id}/retry`: a new chain from a finished execution.
pub(crate) async fn retry(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let found = call.state.store().execution_get(call.execution_key()?).await?;
    let mut task = found.new.task.clone();
    let supplies = body.get("taskConfig").is_some_and(|config| !config.is_null());
    launch::check_shell(call.principal()?, &task.task_type, supplies)?;
    let overrides = Overrides::parse_retry(&body, &task.task_type, &call.state.task_maxima())?;
    if !found.status.is_terminal() {
        let detail = format!("execution {} is still {}", found.id, found.status);
        return Err(ApiError::conflict("not_finished", detail));
    }
    task.task_config = overrides.over(task.task_config);
    let order = Order {
        task,
        trigger: Trigger::Manual,
        priority: found.new.priority,
        due: call.state.clock().now(),
        schedule: found.new.schedule_id.map(|id| (id, found.new.schedule_name.clone())),
    };
    let mut row = launch::new_chain(&call, order);
    row.retry_of = Some(found.id);
    // The history of a deleted schedule keeps its name.
    row.schedule_name.clone_from(&found.new.schedule_name);
    launch::create(&call, row, None).await
}

/// Refuses a body with fields on a verb that takes none but the reason, which the audit log gets.
pub(crate) fn nothing_in(call: &Call) -> Result<(), ApiError> {
    let body = call.optional_json()?;
    crate::api::wire::body::Fields::of(&body, &["reason"], &[])?.finish()
}

//! The functions that every server has.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{FunctionContext, FunctionRegistry, FunctionSpec};
use crate::domain::task::TaskError;

/// The longest text of a notice, in bytes.
const NOTICE_LIMIT: usize = 64 * 1024;
/// How long the deletion of old executions may take.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Nothing, strictly: `{}` or left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What `cleanup:old_executions` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Cleanup {
    older_than_days: u32,
    status: Option<String>,
}

/// What `notify:send` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Notice {
    message: String,
    title: Option<String>,
    url: Option<String>,
}

pub(super) fn register(registry: &mut FunctionRegistry) {
    registry.register_inline(
        FunctionSpec::new("noop", "Does nothing and answers null, for measuring."),
        |_: Value| Ok(Value::Null),
    );
    registry.register(
        FunctionSpec::new("health:check", "Checks the server as GET /api/health does.")
            .payload_schema(schema(json!({}), &[])),
        async |_: Nothing, context: FunctionContext| context.services()?.health_check().await,
    );
    registry.register(
        FunctionSpec::new("metrics:collect", "Answers the server's metrics.")
            .payload_schema(schema(json!({}), &[])),
        async |_: Nothing, context: FunctionContext| context.services()?.collect_metrics().await,
    );
    let properties = json!({
        "olderThanDays": {"type": "integer", "minimum": 1},
        "status": {"enum": ["completed", "failed", "timeout", "cancelled", "skipped"]},
    });
    registry.register(
        FunctionSpec::new("cleanup:old_executions", "Deletes finished executions of an age.")
            .payload_schema(schema(properties, &["olderThanDays"]))
            .timeout(CLEANUP_TIMEOUT),
        delete_old_executions,
    );
    let properties = json!({
        "message": {"type": "string", "maxLength": NOTICE_LIMIT},
        "title": {"type": "string"},
        "url": {"type": "string", "format": "uri"},
    });
    registry.register(
        FunctionSpec::new("notify:send", "Logs a notice, and posts it as JSON to `url` if given.")
            .payload_schema(schema(properties, &["message"])),
        send_notice,
    );
}

fn schema(properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

async fn delete_old_executions(
    payload: Cleanup,
    context: FunctionContext,
) -> Result<Value, TaskError> {
    const STATUSES: [&str; 5] = ["completed", "failed", "timeout", "cancelled", "skipped"];
    if payload.older_than_days == 0 {
        return Err(TaskError::new("invalid_config", "`olderThanDays` must be at least 1"));
    }
    if payload.status.as_deref().is_some_and(|status| !STATUSES.contains(&status)) {
        let message = format!("`status` must be one of {}", STATUSES.join(", "));
        return Err(TaskError::new("invalid_config", message));
    }
    let services = context.services()?;
    let deleted = services.delete_old_executions(payload.older_than_days, payload.status).await?;
    context.log(format!("deleted {deleted} executions"));
    Ok(json!({"deleted": deleted}))
}

async fn send_notice(payload: Notice, context: FunctionContext) -> Result<Value, TaskError> {
    if payload.message.len() > NOTICE_LIMIT {
        let message = format!("`message` may have at most {NOTICE_LIMIT} bytes");
        return Err(TaskError::new("invalid_config", message));
    }
    let title = payload.title.as_deref().unwrap_or("Notice");
    context.log(format!("{title}: {}", payload.message));
    tracing::info!(
        execution_id = %context.task.execution_id, title, message = payload.message, "notice"
    );
    let Some(url) = payload.url else { return Ok(json!({"logged": true})) };
    let body = json!({
        "title": title,
        "message": payload.message,
        "executionId": context.task.execution_id,
    });
    let status = context.outbound().post_json(&url, &body, &context.task).await?;
    Ok(json!({"logged": true, "status": status}))
}

//! The server itself: facts, log level, drain.

use serde_json::{Value, json};

use crate::api::call::{Call, accepted, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::executions::nothing_in;
use crate::api::wire::body::Fields;

/// Longest log filter.
const LEVEL_MAX: usize = 1_000;

/// `GET /log-level`.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn log_level(call: Call) -> Answer {
    call.no_query()?;
    ok(&json!({ "level": call.state.handles().log_level() }))
}

/// `PUT /log-level {level}`.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn set_log_level(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["level"], &[])?;
    let level = fields.needed_text("level", LEVEL_MAX);
    let level = fields.finish_with(level)?;
    let handles = call.state.handles();
    handles
        .set_log_level(&level)
        .map_err(|message| ApiError::invalid_field("level", "invalid_value", message))?;
    ok(&json!({ "level": handles.log_level() }))
}

/// `POST /drain`: finish what runs, take nothing new.
pub(crate) async fn drain(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    call.state.handles().drain().await;
    accepted(&json!({ "phase": call.state.handles().phase().as_str() }))
}

/// `GET /system`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let (handles, store) = (call.state.handles(), call.state.store());
    let executions = store.execution_counts().await?;
    let schedules = store.schedule_counts().await?;
    let mut body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": handles.phase().as_str(),
        "uptimeMs": u64::try_from(handles.uptime().as_millis()).unwrap_or(u64::MAX),
        "database": { "backend": store.backend_name() },
        "executions": {
            "ready": executions.ready,
            "later": executions.later,
            "running": executions.running,
        },
        "schedules": { "enabled": schedules.enabled, "paused": schedules.paused },
    });
    if let (Value::Object(body), Value::Object(facts)) = (&mut body, handles.system()) {
        for (name, value) in facts {
            body.entry(name).or_insert(value);
        }
    }
    ok(&body)
}

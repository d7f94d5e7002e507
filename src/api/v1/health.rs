//! Is it alive, is it ready, how does each part fare, and the metrics.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::api::call::{Call, ok};
use crate::api::error::{Answer, ApiError};
use crate::runtime::handles::{HealthState, HealthStatus, Phase};

/// `GET /livez`: the process answers. The database is not asked: a restart would not cure it.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn live(_call: Call) -> Answer {
    ok(&json!({ "status": "ok" }))
}

/// `GET /readyz`: whether traffic should be sent here.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn ready(call: Call) -> Answer {
    let handles = call.state.handles();
    let readiness = handles.readiness();
    if readiness.ready && handles.phase() == Phase::Running {
        return ok(&json!({ "status": "ready" }));
    }
    let reason =
        readiness.reason.unwrap_or_else(|| format!("the server is {}", handles.phase().as_str()));
    Err(ApiError::unavailable("not_ready", reason))
}

/// `GET /metrics`.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn metrics(call: Call) -> Answer {
    let text = call.state.handles().metrics_text();
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// `GET /health`.
pub(crate) async fn report(call: Call) -> Answer {
    call.no_query()?;
    let handles = call.state.handles();
    let mut parts = handles.health();
    // The store is asked just now, whatever its guard saw last.
    if call.state.store().ping().await.is_err() {
        let detail = Some("the database does not answer".to_owned());
        parts.retain(|(name, _)| name != "database");
        parts.push(("database".to_owned(), HealthState { status: HealthStatus::Down, detail }));
    } else if !parts.iter().any(|(name, _)| name == "database") {
        let state = HealthState { status: HealthStatus::Ok, detail: None };
        parts.push(("database".to_owned(), state));
    }
    let worst = parts.iter().map(|(_, state)| state.status).max().unwrap_or(HealthStatus::Ok);
    let checks: Map<String, Value> = parts
        .into_iter()
        .map(|(name, state)| {
            let view = json!({ "status": state.status.as_str(), "detail": state.detail });
            (name, view)
        })
        .collect();
    let body = json!({
        "status": worst.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeMs": u64::try_from(handles.uptime().as_millis()).unwrap_or(u64::MAX),
        "checks": checks,
    });
    let status = match worst {
        HealthStatus::Ok | HealthStatus::Degraded => StatusCode::OK,
        HealthStatus::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok(HttpResponse::build(status).content_type("application/json").body(body.to_string()))
}

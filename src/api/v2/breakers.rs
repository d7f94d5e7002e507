//! Circuit breakers: list, read with history, probe, force, reset; v1's two routes too.

use serde_json::{Value, json};

use crate::api::call::{Call, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::breakers::{breaker, change, is_key, parse_force};
use crate::api::wire::execution::parse_note;
use crate::api::wire::query::{LIMIT_MAX, keyset_page};
use crate::runtime::handles::Wake;
use crate::store::{BreakerAct, BreakerOrder, KeysetRequest};

/// `GET /api/v2/breakers`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["limit", "cursor"]);
    let page = query.keyset();
    query.finish()?;
    let now = call.state.clock().now();
    let found = call.state.store().breaker_list(page).await?;
    ok(&keyset_page(&found, |row| breaker(row, now)))
}

/// `GET /api/v2/breakers/{key}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let now = call.state.clock().now();
    let (row, changes) = call.state.store().breaker_get(call.param("key").to_owned()).await?;
    let mut body = breaker(&row, now);
    if let Some(object) = body.as_object_mut() {
        object.insert("history".to_owned(), changes.iter().map(change).collect());
    }
    ok(&body)
}

/// `GET /api/circuitbreaker/status`: the newest 500 and how many are not closed.
pub(crate) async fn status(call: Call) -> Answer {
    call.no_query()?;
    let now = call.state.clock().now();
    let store = call.state.store();
    let counts = store.breaker_counts().await?;
    let page = store.breaker_list(KeysetRequest { limit: LIMIT_MAX, below: None }).await?;
    ok(&json!({
        "open": counts.open,
        "halfOpen": counts.half_open,
        "breakers": page.items.iter().map(|row| breaker(row, now)).collect::<Vec<_>>(),
    }))
}

/// `POST /api/v2/breakers/{key}/probe`: what waits may try it now, one of it.
pub(crate) async fn probe(call: Call) -> Answer {
    call.no_query()?;
    let reason = parse_note(&call.optional_json()?, "reason")?;
    act(&call, BreakerAct::Probe, reason).await
}

/// `POST /api/v2/breakers/{key}/reset`, and v1's.
pub(crate) async fn reset(call: Call) -> Answer {
    call.no_query()?;
    let reason = parse_note(&call.optional_json()?, "reason")?;
    act(&call, BreakerAct::Reset, reason).await
}

/// `POST /api/v2/breakers/{key}/force-open`: nothing passes.
pub(crate) async fn force_open(call: Call) -> Answer {
    call.no_query()?;
    let word = parse_force(&force_body(&call)?, call.state.clock().now())?;
    act(&call, BreakerAct::ForceOpen(word.until), word.reason).await
}

/// `POST /api/v2/breakers/{key}/force-close`: everything passes.
pub(crate) async fn force_close(call: Call) -> Answer {
    call.no_query()?;
    let word = parse_force(&force_body(&call)?, call.state.clock().now())?;
    act(&call, BreakerAct::ForceClosed(word.until), word.reason).await
}

/// The body; a force makes a breaker that is not there, so that its key must be one.
fn force_body(call: &Call) -> Result<Value, ApiError> {
    if !is_key(call.param("key")) {
        let detail = "a breaker's key is `http:<host>[:port]`, `conductor` or `key:<name>`";
        return Err(ApiError::not_found(detail));
    }
    call.optional_json()
}

async fn act(call: &Call, act: BreakerAct, reason: Option<String>) -> Answer {
    let by = call.principal()?.name.clone();
    let order = BreakerOrder { key: call.param("key").to_owned(), act, by, reason };
    let row = call.state.store().breaker_act(order).await?;
    call.state.handles().wake(Wake::Executor);
    ok(&breaker(&row, call.state.clock().now()))
}

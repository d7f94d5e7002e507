//! Named queues: list, read, limit, pause, resume, forget.
//!
//! A queue is there from the moment that it is first named, by an execution or here.

use serde_json::{Value, json};

use crate::api::call::{Call, no_content, ok};
use crate::api::error::Answer;
use crate::api::wire::body::Fields;
use crate::api::wire::options::admission::{CONCURRENT_MAX, queue_name};
use crate::api::wire::query::keyset_page;
use crate::api::wire::views::instant;
use crate::domain::event::instant_text;
use crate::store::{QueueChange, QueueRow};

/// Bytes of a reason.
const REASON_MAX: usize = 1_000;
/// Starts a minute.
const RATE_MAX: i64 = 10_000;

/// `GET /queues`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["limit", "cursor"]);
    let page = query.keyset();
    query.finish()?;
    let found = call.state.store().queue_list(page).await?;
    ok(&keyset_page(&found, view))
}

/// `GET /queues/{name}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let name = queue_name(call.param("name"))?;
    ok(&view(&call.state.store().queue_get(name).await?))
}

/// `PUT /queues/{name} {maxConcurrent?, ratePerMinute?, paused?, reason?}`: what is left out stays,
/// null takes a limit away.
pub(crate) async fn put(call: Call) -> Answer {
    call.no_query()?;
    let name = queue_name(call.param("name"))?;
    let body = call.json()?;
    let known = ["maxConcurrent", "ratePerMinute", "paused", "reason"];
    let mut fields = Fields::of(&body, &known, &[])?;
    let given = |field: &str| body.get(field).is_some();
    let number = |value: Option<i64>| value.and_then(|number| i32::try_from(number).ok());
    let most = number(fields.integer("maxConcurrent", 1..=CONCURRENT_MAX));
    let rate = number(fields.integer("ratePerMinute", 1..=RATE_MAX));
    let change = QueueChange {
        max_concurrent: given("maxConcurrent").then_some(most),
        rate_per_minute: given("ratePerMinute").then_some(rate),
        paused: fields.flag("paused"),
        reason: fields.text("reason", REASON_MAX),
        by: who(&call),
    };
    fields.finish()?;
    ok(&view(&call.state.store().queue_put(name, change).await?))
}

/// `POST /queues/{name}/pause {reason?}`: what waits in it is held; what runs goes on.
pub(crate) async fn pause(call: Call) -> Answer {
    set_paused(call, true).await
}

/// `POST /queues/{name}/resume {reason?}`.
pub(crate) async fn resume(call: Call) -> Answer {
    set_paused(call, false).await
}

async fn set_paused(call: Call, paused: bool) -> Answer {
    call.no_query()?;
    let name = queue_name(call.param("name"))?;
    let body = call.optional_json()?;
    let mut fields = Fields::of(&body, &["reason"], &[])?;
    let reason = fields.text("reason", REASON_MAX);
    fields.finish()?;
    if !paused {
        // There is nothing to resume in a queue that nobody ever named.
        call.state.store().queue_get(name.clone()).await?;
    }
    let change =
        QueueChange { paused: Some(paused), reason, by: who(&call), ..QueueChange::default() };
    ok(&view(&call.state.store().queue_put(name, change).await?))
}

/// `DELETE /queues/{name}`: only when nothing waits or runs in it.
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    let name = queue_name(call.param("name"))?;
    call.state.store().queue_delete(name).await?;
    no_content()
}

/// The name of whoever asks, for events.
pub(crate) fn who(call: &Call) -> Option<String> {
    call.principal.as_ref().map(|principal| principal.name.clone())
}

fn view(row: &QueueRow) -> Value {
    json!({
        "name": row.name,
        "maxConcurrent": row.max_concurrent,
        "ratePerMinute": row.rate_per_minute,
        "paused": row.paused_at.is_some(),
        "pausedAt": instant(row.paused_at),
        "pauseReason": row.pause_reason,
        "pausedBy": row.paused_by,
        "waiting": row.counts.waiting,
        "running": row.counts.running,
        "held": row.counts.held,
        "createdAt": instant_text(row.created_at),
        "updatedAt": instant_text(row.updated_at),
    })
}

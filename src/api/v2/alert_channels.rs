//! Alert channels: list, make, change, delete, try. An admin's alone: they carry secrets and reach
//! out. No answer ever holds a secret.

use serde_json::{Value, json};

use crate::api::call::{Call, accepted, created, no_content, ok, replayed_with, versioned};
use crate::api::error::Answer;
use crate::api::v1::executions::nothing_in;
use crate::api::wire::alert_channel::{parse, view};
use crate::domain::alert::channel::AlertChannel;
use crate::store::{Creation, StoreError, StoredAnswer};

fn path(name: &str) -> String {
    format!("/api/v2/alert-channels/{name}")
}

/// `GET /alert-channels`: all of them; there are few.
pub(crate) async fn list(call: Call) -> Answer {
    call.no_query()?;
    let channels = call.state.store().alert_channel_list().await?;
    let items: Vec<Value> = channels.iter().map(view).collect();
    ok(&json!({ "items": items, "nextCursor": null }))
}

/// `POST /alert-channels`.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let channel = parse(&call.json()?, None)?;
    let idempotency = call.idempotency(|made: &AlertChannel, _| StoredAnswer {
        status: 201,
        body: view(made).to_string(),
    })?;
    match call.state.store().alert_channel_create(channel, idempotency).await? {
        Creation::New(made) | Creation::Existing(made) => created(&view(&made), path(&made.name)),
        Creation::Replayed(answer) => {
            replayed_with(answer, |body| body.get("name").and_then(Value::as_str).map(path))
        }
    }
}

/// `GET /alert-channels/{name}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let name = call.param("name").to_owned();
    let channel = call.state.store().alert_channel_get(name).await?;
    versioned(&view(&channel), channel.version)
}

/// `PUT /alert-channels/{name}`: a partial body; secrets that are left out stay.
pub(crate) async fn update(call: Call) -> Answer {
    call.no_query()?;
    let (body, if_match) = (call.json()?, call.if_match()?);
    let store = call.state.store();
    let before = store.alert_channel_get(call.param("name").to_owned()).await?;
    let actual = before.version;
    if let Some(expected) = if_match.filter(|expected| *expected != actual) {
        return Err(StoreError::VersionConflict { expected, actual }.into());
    }
    let changed = parse(&body, Some(&before))?;
    let channel = store.alert_channel_update(before.name, actual, changed.spec).await?;
    versioned(&view(&channel), channel.version)
}

/// `DELETE /alert-channels/{name}`: 409 `in_use` while a rule names it.
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    call.state.store().alert_channel_delete(call.param("name").to_owned()).await?;
    no_content()
}

/// `POST /alert-channels/{name}/test`: sends a message; the delivery log tells how it went.
pub(crate) async fn test(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let name = call.param("name").to_owned();
    let (id, webhook_id) = call.state.store().alert_channel_test(name).await?;
    accepted(&json!({
        "messageId": id,
        "webhookId": webhook_id,
        "deliveries": format!("/api/v2/alert-deliveries?messageId={id}"),
    }))
}

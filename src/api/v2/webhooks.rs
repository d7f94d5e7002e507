//! Webhooks that come in: made (the secret is shown once), changed, listed with their log.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::api::call::{Call, created, no_content, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::executions::nothing_in;
use crate::api::wire::body::Fields;
use crate::api::wire::query::keyset_page;
use crate::api::wire::views::instant;
use crate::domain::event::instant_text;
use crate::domain::trigger::is_event_name;
use crate::domain::webhook::{SECRET_BYTES, Scheme, check_secret, make_secret, stored_form};
use crate::store::{InboundRow, NewWebhook, WebhookChange, WebhookRow};

const NAME_MAX: usize = 100;
const SECRET_TEXT_MAX: usize = 1_024;
const DAY_MS: i64 = 86_400_000;

fn view(row: &WebhookRow) -> Value {
    let secrets = row.secrets.iter().map(|secret| {
        json!({
            "createdAt": instant_text(secret.created_at),
            "expiresAt": instant(secret.expires_at),
        })
    });
    json!({
        "id": row.id,
        "name": row.name,
        "scheme": row.scheme,
        "path": format!("/api/v2/hooks/{}", row.hook_id),
        "eventName": format!("webhook.{}", row.name),
        "enabled": row.enabled,
        "secrets": secrets.collect::<Vec<_>>(),
        "createdAt": instant_text(row.created_at),
        "updatedAt": instant_text(row.updated_at),
    })
}

fn with_secret(row: &WebhookRow, secret: String) -> Value {
    let mut body = view(row);
    if let Some(object) = body.as_object_mut() {
        object.insert("secret".to_owned(), Value::String(secret));
    }
    body
}

/// The secret that was given, or a new one.
fn read_secret(fields: &mut Fields<'_>, scheme: Scheme) -> Result<String, ApiError> {
    if let Some(secret) = fields.text("secret", SECRET_TEXT_MAX) {
        if let Err(message) = check_secret(scheme, &secret) {
            fields.fault("secret", "invalid_value", message);
        }
        return Ok(secret);
    }
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random).map_err(ApiError::internal)?;
    Ok(make_secret(scheme, &random))
}

/// An answer with a secret is not kept.
fn no_key(call: &Call) -> Result<(), ApiError> {
    if call.headers.contains_key("idempotency-key") {
        let message = "a secret is shown once, so no answer with one is kept; leave the header out";
        return Err(ApiError::invalid_field("Idempotency-Key", "not_supported_yet", message));
    }
    Ok(())
}

/// `POST /webhooks {name, scheme, secret?}`: the only answer that holds the secret.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    no_key(&call)?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["name", "scheme", "secret"], &[])?;
    let name = fields.needed_text("name", NAME_MAX);
    if name.as_deref().is_some_and(|name| !is_event_name(name)) {
        fields.fault("name", "invalid_value", "a name has letters, digits and `._-:/`");
    }
    fields.needed("scheme");
    let scheme = fields.word::<Scheme>("scheme");
    let secret = scheme.map(|scheme| read_secret(&mut fields, scheme)).transpose()?;
    let (name, (scheme, secret)) = fields.finish_with(name.zip(scheme.zip(secret)))?;
    let new = NewWebhook { name, scheme, secret: stored_form(scheme, &secret) };
    let row = call.state.store().webhook_create(new).await?;
    created(&with_secret(&row, secret), format!("/api/v2/webhooks/{}", row.id))
}

/// `GET /webhooks`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["limit", "cursor"]);
    let page = query.keyset();
    query.finish()?;
    ok(&keyset_page(&call.state.store().webhook_list(page).await?, view))
}

/// `GET /webhooks/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    ok(&view(&call.state.store().webhook_get(call.id()?).await?))
}

/// `POST /webhooks/{id}/rotate {secret?, overlapMs?}`: the old secrets work for a day, or as long
/// as is said.
pub(crate) async fn rotate(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let before = call.state.store().webhook_get(call.id()?).await?;
    let mut fields = Fields::of(&body, &["secret", "overlapMs"], &[])?;
    let secret = read_secret(&mut fields, before.scheme)?;
    let overlap = fields.integer("overlapMs", 0..=7 * DAY_MS).unwrap_or(DAY_MS);
    let secret = fields.finish_with(Some(secret))?;
    let old_until = call.state.store().now().await? + TimeDelta::milliseconds(overlap);
    let change = WebhookChange::Rotate { secret: stored_form(before.scheme, &secret), old_until };
    let row = call.state.store().webhook_change(before.id, change).await?;
    ok(&with_secret(&row, secret))
}

/// `POST /webhooks/{id}/enable`.
pub(crate) async fn enable(call: Call) -> Answer {
    set_enabled(call, true).await
}

/// `POST /webhooks/{id}/disable`: what comes is refused, also when it is signed well.
pub(crate) async fn disable(call: Call) -> Answer {
    set_enabled(call, false).await
}

async fn set_enabled(call: Call, enabled: bool) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let change = WebhookChange::SetEnabled(enabled);
    ok(&view(&call.state.store().webhook_change(call.id()?, change).await?))
}

/// `DELETE /webhooks/{id}`.
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    call.state.store().webhook_delete(call.id()?).await?;
    no_content()
}

/// `GET /webhooks/{id}/deliveries`: what came in, with what was wrong.
pub(crate) async fn deliveries(call: Call) -> Answer {
    let mut query = call.query(&["limit", "cursor"]);
    let page = query.keyset();
    query.finish()?;
    let webhook = call.state.store().webhook_get(call.id()?).await?;
    let found = call.state.store().webhook_requests(webhook.id, page).await?;
    ok(&keyset_page(&found, request))
}

fn request(row: &InboundRow) -> Value {
    json!({
        "id": row.id,
        "messageId": row.message_id,
        "outcome": row.outcome,
        "eventId": row.event_id,
        "bytes": row.size,
        "at": instant_text(row.at),
    })
}

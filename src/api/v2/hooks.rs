//! `POST /hooks/{id}`: where webhooks come in. It needs no key; the signature is the credential.
//!
//! A stranger learns nothing: an address that does not exist, a signature that does not fit and a
//! time that is past all get the same 401. What was wrong is in the webhook's log, a few lines a
//! minute at most, so that a stranger cannot fill it either.

use actix_web::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::events::begin;
use crate::api::call::{Call, accepted};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::body::find_nul;
use crate::domain::trigger::{EventKind, PAYLOAD_MAX};
use crate::domain::webhook::{SignedRequest, verify};
use crate::store::{InboundRequest, NewInboxEvent, Received, WebhookRow};

/// Rows that one request may claim here.
const CLAIM: usize = 16;
/// Header by which an event's kind is told, GitHub's way.
const GITHUB_EVENT: &str = "x-github-event";

/// The one refusal that strangers see.
fn unknown() -> ApiError {
    ApiError::unauthorized("unauthorized", "the request could not be verified")
}

/// `POST /hooks/{id}`.
pub(crate) async fn receive(call: Call) -> Answer {
    let hook_id = Uuid::parse_str(call.param("id")).map_err(|_| unknown())?;
    if call.body.len() > PAYLOAD_MAX {
        let detail = format!("a webhook's body may have {PAYLOAD_MAX} bytes");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail));
    }
    let store = call.state.store();
    let Some(webhook) = store.webhook_find(hook_id).await? else { return Err(unknown()) };
    if let Some(wait) = call.state.hook_limits().take(webhook.id) {
        return Err(ApiError::too_many_requests(wait.as_secs().max(1)));
    }
    let header = |name: &str| Some(call.headers.get(name)?.to_str().ok()?.to_owned());
    let request = SignedRequest { header: &header, body: &call.body };
    let now = store.now().await?;
    let message_id = match verify(webhook.scheme, &webhook.secrets, request, now) {
        Ok(message_id) => message_id,
        Err(refusal) => {
            refuse(&call, &webhook, refusal.as_str()).await?;
            return Err(unknown());
        }
    };
    if !webhook.enabled {
        refuse(&call, &webhook, "disabled").await?;
        return Err(ApiError::forbidden("webhook_disabled", "this webhook is disabled"));
    }
    let payload: Value = if call.body.is_empty() { Value::Null } else { call.json()? };
    if let Some(fault) = find_nul(&payload) {
        return Err(ApiError::invalid(vec![fault]));
    }
    let ticket = call.state.handles().claim_here(CLAIM);
    let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
    let payload = match header(GITHUB_EVENT) {
        // GitHub tells in a header what happened; conditions can only look at the payload.
        Some(kind) => with_kind(payload, &kind),
        None => payload,
    };
    let request = request_of(&call, &webhook, Parts { message_id, payload, claim, refused: None });
    match call.state.store().webhook_receive(request).await? {
        Received::Accepted(posted) => {
            let id = posted.event.id;
            begin(&call, posted.executions, ticket);
            accepted(&json!({ "accepted": true, "duplicate": false, "eventId": id }))
        }
        Received::Duplicate(id) => {
            accepted(&json!({ "accepted": true, "duplicate": true, "eventId": id }))
        }
        Received::Refused => Err(unknown()),
    }
}

fn with_kind(mut payload: Value, kind: &str) -> Value {
    if let Some(object) = payload.as_object_mut() {
        object.entry("githubEvent").or_insert_with(|| Value::String(kind.to_owned()));
    }
    payload
}

struct Parts {
    message_id: Option<String>,
    payload: Value,
    claim: Option<crate::store::ClaimHere>,
    refused: Option<&'static str>,
}

fn request_of(call: &Call, webhook: &WebhookRow, parts: Parts) -> InboundRequest {
    InboundRequest {
        webhook_id: webhook.id,
        message_id: parts.message_id,
        size: i64::try_from(call.body.len()).unwrap_or(i64::MAX),
        refused: parts.refused,
        event: NewInboxEvent {
            kind: EventKind::Webhook,
            name: format!("webhook.{}", webhook.name),
            payload: parts.payload,
            dedup_key: None,
            occurred_at: None,
            traceparent: Some(call.context.traceparent.to_string()),
            created_by: Some(format!("webhook {}", webhook.name)),
        },
        claim: parts.claim,
    }
}

/// Notes a refusal, unless there were many of late.
async fn refuse(call: &Call, webhook: &WebhookRow, why: &'static str) -> Result<(), ApiError> {
    if !call.state.hook_limits().may_note(webhook.id) {
        return Ok(());
    }
    let parts = Parts { message_id: None, payload: Value::Null, claim: None, refused: Some(why) };
    call.state.store().webhook_receive(request_of(call, webhook, parts)).await?;
    Ok(())
}

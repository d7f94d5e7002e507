//! Named events: posted, listed, given to a schedule again.

use serde_json::{Value, json};

use crate::api::call::{Call, accepted, ok, replayed};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::body::Fields;
use crate::api::wire::query::keyset_page;
use crate::api::wire::views::{execution_path, instant};
use crate::domain::event::instant_text;
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::domain::trigger::{EventKind, InboxEvent, NAME_MAX, PAYLOAD_MAX, is_event_name};
use crate::runtime::executor::launcher::ClaimTicket;
use crate::runtime::handles::Wake;
use crate::store::{
    Creation, DeliveryRow, EventPost, InboxFilter, NewInboxEvent, Posted, ReplayRequest, Replayed,
    StoredAnswer,
};

/// Rows that one request may claim here.
const CLAIM: usize = 16;
/// What names that only the server gives begin with.
const RESERVED: [&str; 2] = ["execution.", "webhook."];
const DEDUP_MAX: usize = 200;

/// Begins here what was claimed here, and wakes whoever begins the rest.
pub(super) fn begin(call: &Call, executions: Vec<Execution>, ticket: Option<ClaimTicket>) {
    let waits = executions.iter().any(|row| row.status != ExecutionStatus::Running);
    let running = executions.into_iter().filter(|row| row.status == ExecutionStatus::Running);
    call.state.handles().launched(running.collect(), ticket);
    if waits {
        call.state.handles().wake(Wake::Executor);
    }
}

fn delivery(row: &DeliveryRow) -> Value {
    json!({
        "id": row.id,
        "eventId": row.event_id,
        "scheduleId": row.schedule_id,
        "outcome": row.outcome,
        "executionId": row.execution_id,
        "execution": row.execution_id.map(execution_path),
        "replay": if row.replay.is_empty() { None } else { Some(&row.replay) },
        "at": instant_text(row.at),
    })
}

fn event(event: &InboxEvent) -> Value {
    json!({
        "id": event.id,
        "kind": event.kind,
        "name": event.name,
        "payload": event.payload,
        "dedupKey": event.dedup_key,
        "depth": event.depth,
        "createdBy": event.created_by,
        "occurredAt": instant_text(event.occurred_at),
        "createdAt": instant_text(event.created_at),
        "handledAt": instant(event.handled_at),
    })
}

fn posted(posted: &Posted) -> Value {
    json!({
        "id": posted.event.id,
        "name": posted.event.name,
        "deduplicated": posted.is_old,
        "deliveries": posted.deliveries.iter().map(delivery).collect::<Vec<_>>(),
    })
}

/// Checks the size of a payload.
pub(super) fn check_size(payload: &Value) -> Result<(), ApiError> {
    if payload.to_string().len() <= PAYLOAD_MAX {
        return Ok(());
    }
    let message = format!("an event's payload may have {PAYLOAD_MAX} bytes; send a reference");
    Err(ApiError::invalid_field("payload", "out_of_range", message))
}

/// `POST /events {name, payload?, dedupKey?, occurredAt?}`.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["name", "payload", "dedupKey", "occurredAt"], &[])?;
    let name = fields.needed_text("name", NAME_MAX);
    if let Some(name) = &name {
        if !is_event_name(name) {
            fields.fault("name", "invalid_value", "a name has letters, digits and `._-:/`");
        }
        if let Some(reserved) = RESERVED.iter().find(|start| name.starts_with(**start)) {
            let message = format!("names that begin with `{reserved}` are given by the server");
            fields.fault("name", "reserved_name", message);
        }
    }
    let payload = fields.value("payload").cloned().unwrap_or(Value::Null);
    let has_key = fields.value("dedupKey").is_some();
    let dedup_key = if has_key { fields.needed_text("dedupKey", DEDUP_MAX) } else { None };
    let occurred_at = fields.instant("occurredAt");
    let name = fields.finish_with(name)?;
    check_size(&payload)?;
    let idempotency = call.idempotency(|made: &Posted, _| StoredAnswer {
        status: 202,
        body: posted(made).to_string(),
    })?;
    let ticket = call.state.handles().claim_here(CLAIM);
    let event = NewInboxEvent {
        kind: EventKind::Event,
        name,
        payload,
        dedup_key,
        occurred_at,
        traceparent: Some(call.context.traceparent.to_string()),
        created_by: call.principal.as_ref().map(|principal| principal.name.clone()),
    };
    let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
    match call.state.store().event_post(EventPost { event, claim, idempotency }).await? {
        Creation::New(made) | Creation::Existing(made) => {
            let answer = accepted(&posted(&made));
            begin(&call, made.executions, ticket);
            answer
        }
        Creation::Replayed(answer) => replayed(answer),
    }
}

/// `GET /events`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["name", "kind", "limit", "cursor"]);
    let kind = query.words::<EventKind>("kind").into_iter().next();
    let filter = InboxFilter { name: query.text("name"), kind };
    let page = query.keyset();
    query.finish()?;
    let found = call.state.store().inbox_list(filter, page).await?;
    ok(&keyset_page(&found, event))
}

/// `GET /events/{id}`: with what became of it.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let (found, deliveries) = call.state.store().inbox_get(call.id()?).await?;
    let mut body = event(&found);
    if let Some(object) = body.as_object_mut() {
        let deliveries = deliveries.iter().map(delivery).collect();
        object.insert("deliveries".to_owned(), Value::Array(deliveries));
    }
    ok(&body)
}

/// `GET /schedules/{id}/deliveries`.
pub(crate) async fn deliveries(call: Call) -> Answer {
    let mut query = call.query(&["limit", "cursor"]);
    let page = query.keyset();
    query.finish()?;
    let schedule = call.state.store().schedule_get(call.id()?).await?;
    let found = call.state.store().delivery_list(schedule.id, page).await?;
    ok(&keyset_page(&found, delivery))
}

/// `POST /schedules/{id}/replay {from, to, name?, dryRun?}`.
pub(crate) async fn replay(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["from", "to", "name", "dryRun"], &[])?;
    for bound in ["from", "to"] {
        fields.needed(bound);
    }
    let span = fields.instant("from").zip(fields.instant("to"));
    if span.is_some_and(|(from, to)| to < from) {
        fields.fault("to", "out_of_range", "`to` lies before `from`");
    }
    let name = fields.text("name", NAME_MAX);
    let is_dry_run = fields.flag("dryRun").unwrap_or(false);
    let (from, to) = fields.finish_with(span)?;
    let ticket = if is_dry_run { None } else { call.state.handles().claim_here(CLAIM) };
    let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
    let idempotency = call.idempotency(move |done: &Replayed, _| StoredAnswer {
        status: 202,
        body: replay_answer(done, is_dry_run).to_string(),
    })?;
    let schedule_id = call.id()?;
    let request = ReplayRequest { schedule_id, from, to, name, is_dry_run, claim, idempotency };
    match call.state.store().event_replay(request).await? {
        Creation::New(done) | Creation::Existing(done) => {
            let answer = accepted(&replay_answer(&done, is_dry_run));
            begin(&call, done.executions, ticket);
            answer
        }
        Creation::Replayed(answer) => replayed(answer),
    }
}

fn replay_answer(done: &Replayed, is_dry_run: bool) -> Value {
    json!({
        "replay": if is_dry_run { None } else { Some(&done.replay) },
        "dryRun": is_dry_run,
        "events": done.events.len(),
        "eventIds": done.events.iter().map(|event| event.id).collect::<Vec<_>>(),
        "runs": done.runs,
        "overlapped": done.overlapped,
        "executions": done.executions.iter().map(|row| row.id).collect::<Vec<_>>(),
    })
}

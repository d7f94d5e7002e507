//! The inbox: facts that may set schedules off, stored in the transaction of their cause.
//!
//! The ends of executions are noted only when a schedule listens to them. What becomes of a stored
//! event is settled in `triggers.rs`: at once for what is posted, by the triggers actor for ends.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::super::Db;
use super::{Tx, idempotency, triggers};
use crate::clock::Timestamp;
use crate::domain::error_record::RecoveryDecision;
use crate::domain::event::instant_text;
use crate::domain::execution::{Execution, ExecutionError, ExecutionStatus};
use crate::domain::trigger::{
    ChainOutcome, EndOfAttempt, Ended, EventKind, InboxEvent, depth_of, keys_of_name,
    keys_of_webhook,
};
use crate::store::op::{OpError, OpResult, corrupt, not_found};
use crate::store::schema::{event_inbox as t, event_listeners};
use crate::store::sql_types::{Instant, JsonDoc};
use crate::store::{
    Creation, DeliveryRow, EventPost, Finish, InboxFilter, KeysetPage, KeysetRequest,
    NewInboxEvent, Posted, Topic,
};

/// Bytes kept of each text of a result; tasks and conditions that need more read the execution.
const RESULT_TEXT_MAX: usize = 4 * 1024;
/// Bytes kept of a whole result.
const RESULT_MAX: usize = 64 * 1024;
/// What the names of webhooks' events begin with.
pub(super) const WEBHOOK_PREFIX: &str = "webhook.";

/// A row of `event_inbox`.
#[derive(Queryable, Selectable)]
#[diesel(table_name = t)]
pub(super) struct InboxRow {
    id: i64,
    kind: String,
    name: String,
    keys: JsonDoc,
    payload: JsonDoc,
    depth: i32,
    traceparent: Option<String>,
    created_by: Option<String>,
    dedup_key: Option<String>,
    occurred_at: Instant,
    created_at: Instant,
    handled_at: Option<Instant>,
}

impl TryFrom<InboxRow> for InboxEvent {
    type Error = OpError;

    fn try_from(row: InboxRow) -> OpResult<Self> {
        let kind = EventKind::parse(&row.kind).ok_or_else(|| corrupt("event kind", &row.kind))?;
        let keys = match kind {
            EventKind::Event => keys_of_name(&row.name),
            EventKind::Webhook => {
                keys_of_webhook(row.name.strip_prefix(WEBHOOK_PREFIX).unwrap_or(&row.name))
            }
            EventKind::Execution => serde_json::from_value(row.keys.0).unwrap_or_default(),
        };
        Ok(Self {
            id: row.id,
            kind,
            name: row.name,
            keys,
            payload: row.payload.0,
            depth: row.depth,
            traceparent: row.traceparent,
            created_by: row.created_by,
            dedup_key: row.dedup_key,
            occurred_at: row.occurred_at.0,
            created_at: row.created_at.0,
            handled_at: row.handled_at.map(|at| at.0),
        })
    }
}

/// Stores an event; `None` when one of its name and key is there.
pub(super) async fn insert(tx: &mut Tx, event: &NewInboxEvent) -> OpResult<Option<InboxEvent>> {
    let now = tx.now().await?;
    let row: Option<InboxRow> = diesel::insert_into(t::table)
        .values((
            t::kind.eq(event.kind.as_str()),
            t::name.eq(&event.name),
            t::keys.eq(JsonDoc(json!([]))),
            t::payload.eq(JsonDoc(event.payload.clone())),
            t::depth.eq(1),
            t::traceparent.eq(&event.traceparent),
            t::created_by.eq(&event.created_by),
            t::dedup_key.eq(&event.dedup_key),
            t::occurred_at.eq(Instant(event.occurred_at.unwrap_or(now))),
            t::created_at.eq(Instant(now)),
        ))
        .on_conflict_do_nothing()
        .returning(InboxRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    tx.changed(Topic::Inbox);
    row.map(InboxEvent::try_from).transpose()
}

/// Stores an event and gives it to those who listen, in one transaction.
pub(super) async fn post(tx: &mut Tx, request: PostParts<'_>) -> OpResult<Posted> {
    let Some(event) = insert(tx, request.event).await? else {
        let key = request.event.dedup_key.clone().unwrap_or_default();
        let row: Option<InboxRow> = t::table
            .filter(t::name.eq(&request.event.name))
            .filter(t::dedup_key.eq(&key))
            .select(InboxRow::as_select())
            .get_result(tx.conn())
            .await
            .optional()?;
        let event: InboxEvent = row.ok_or_else(|| not_found("event", key))?.try_into()?;
        let deliveries = triggers::deliveries_of(tx, event.id).await?;
        return Ok(Posted { event, is_old: true, deliveries, executions: Vec::new() });
    };
    let done = triggers::settle(tx, vec![event.clone()], request.claim, false).await?;
    let (deliveries, executions) = (done.deliveries, done.executions);
    Ok(Posted { event, is_old: false, deliveries, executions })
}

/// What a post is made of.
pub(super) struct PostParts<'a> {
    pub(super) event: &'a NewInboxEvent,
    pub(super) claim: Option<&'a crate::store::ClaimHere>,
}

pub(crate) async fn event_post(tx: &mut Tx, request: &EventPost) -> OpResult<Creation<Posted>> {
    let kept = request.idempotency.as_ref();
    if let Some(answer) = idempotency::find(tx, kept).await? {
        return Ok(Creation::Replayed(answer));
    }
    let parts = PostParts { event: &request.event, claim: request.claim.as_ref() };
    let posted = post(tx, parts).await?;
    idempotency::save(tx, kept, (&posted, posted.is_old)).await?;
    Ok(if posted.is_old { Creation::Existing(posted) } else { Creation::New(posted) })
}

fn end_of(status: ExecutionStatus, finish: Option<&Finish>) -> Option<EndOfAttempt> {
    let outcome = match status {
        ExecutionStatus::Completed => ChainOutcome::Completed,
        ExecutionStatus::Failed => ChainOutcome::Failed,
        ExecutionStatus::Timeout => ChainOutcome::Timeout,
        ExecutionStatus::Cancelled => ChainOutcome::Cancelled,
        ExecutionStatus::Pending | ExecutionStatus::Running | ExecutionStatus::Skipped => {
            return None;
        }
    };
    let decision = finish.and_then(|finish| finish.failure.as_ref()).map(|one| &one.decision);
    let is_dead = matches!(decision, Some(RecoveryDecision::GiveUp { .. }));
    let is_final = !matches!(decision, Some(RecoveryDecision::RetryAt(_)));
    Some(EndOfAttempt { outcome, is_final, is_dead })
}

/// An end that may be told of.
pub(super) struct EndNote<'a> {
    pub(super) row: &'a Execution,
    pub(super) status: ExecutionStatus,
    pub(super) completed_at: Timestamp,
    /// Of a row that ran.
    pub(super) finish: Option<&'a Finish>,
}

/// Stores the ends that somebody listens to; called only when somebody listens to any.
pub(super) async fn note_ends(tx: &mut Tx, notes: &[EndNote<'_>]) -> OpResult<()> {
    let mut keyed: Vec<(&EndNote<'_>, EndOfAttempt, Vec<String>)> = Vec::new();
    for note in notes {
        let Some(end) = end_of(note.status, note.finish) else { continue };
        let new = &note.row.new;
        let ended = Ended {
            end,
            schedule_id: new.schedule_id,
            schedule_name: new.schedule_name.as_deref(),
            tags: &new.task.tags,
        };
        keyed.push((note, end, ended.keys()));
    }
    let asked: HashSet<&String> = keyed.iter().flat_map(|(_, _, keys)| keys).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let heard: Vec<String> = event_listeners::table
        .filter(event_listeners::source.eq_any(asked.into_iter().cloned().collect::<Vec<_>>()))
        .select(event_listeners::source)
        .distinct()
        .load(tx.conn())
        .await?;
    let heard: HashSet<String> = heard.into_iter().collect();
    let now = tx.now().await?;
    for (note, end, keys) in keyed {
        let keys: Vec<String> = keys.into_iter().filter(|key| heard.contains(key)).collect();
        if keys.is_empty() {
            continue;
        }
        let new = &note.row.new;
        diesel::insert_into(t::table)
            .values((
                t::kind.eq(EventKind::Execution.as_str()),
                t::name.eq(format!("execution.{}", note.status)),
                t::keys.eq(JsonDoc(json!(keys))),
                t::payload.eq(JsonDoc(payload_of(note, end))),
                t::depth.eq(depth_of(new.task.options.event.as_ref()).saturating_add(1)),
                t::traceparent.eq(&new.traceparent),
                t::source_execution_id.eq(note.row.id),
                t::occurred_at.eq(Instant(note.completed_at)),
                t::created_at.eq(Instant(now)),
            ))
            .on_conflict_do_nothing()
            .execute(tx.conn())
            .await?;
        tx.changed(Topic::Inbox);
    }
    Ok(())
}

/// Whether any schedule listens to the ends of executions.
pub(super) async fn is_listened(tx: &mut Tx) -> OpResult<bool> {
    let any = event_listeners::table.filter(event_listeners::of_execution);
    Ok(diesel::select(diesel::dsl::exists(any)).get_result(tx.conn()).await?)
}

fn payload_of(note: &EndNote<'_>, end: EndOfAttempt) -> Value {
    let new = &note.row.new;
    let error: Option<&ExecutionError> = note.finish.and_then(|finish| finish.error.as_ref());
    let result = note.finish.and_then(|finish| finish.result.as_deref());
    let (result, is_cut) = shortened(result);
    let duration = note.row.started_at.map(|from| (note.completed_at - from).num_milliseconds());
    json!({
        "id": note.row.id,
        "executionId": new.execution_id,
        "chainId": new.chain_id,
        "scheduleId": new.schedule_id,
        "scheduleName": new.schedule_name,
        "trigger": new.trigger,
        "taskType": new.task.task_type,
        "tags": new.task.tags,
        "attempt": new.attempt,
        "status": note.status,
        "final": end.is_final,
        "dead": end.is_dead,
        "result": result,
        "resultTruncated": is_cut,
        "error": error,
        "durationMs": duration,
        "completedAt": instant_text(note.completed_at),
    })
}

/// The result with long texts cut, or nothing of one that is too large even so.
fn shortened(result: Option<&Value>) -> (Value, bool) {
    fn cut(value: &mut Value, is_cut: &mut bool) {
        match value {
            Value::String(text) if text.len() > RESULT_TEXT_MAX => {
                text.truncate(text.floor_char_boundary(RESULT_TEXT_MAX));
                *is_cut = true;
            }
            Value::Array(items) => items.iter_mut().for_each(|item| cut(item, is_cut)),
            Value::Object(object) => object.values_mut().for_each(|item| cut(item, is_cut)),
            _ => {}
        }
    }
    let Some(result) = result else { return (Value::Null, false) };
    let (mut result, mut is_cut) = (result.clone(), false);
    cut(&mut result, &mut is_cut);
    if result.to_string().len() > RESULT_MAX { (Value::Null, true) } else { (result, is_cut) }
}

pub(crate) async fn inbox_list(
    tx: &mut Tx,
    filter: &InboxFilter,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<InboxEvent>> {
    let mut query = t::table.select(InboxRow::as_select()).into_boxed::<Db>();
    if let Some(name) = &filter.name {
        query = match name.strip_suffix('*') {
            Some(start) => {
                let escaped = start.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
                query.filter(t::name.like(format!("{escaped}%")).escape('\\'))
            }
            None => query.filter(t::name.eq(name.clone())),
        };
    }
    if let Some(kind) = filter.kind {
        query = query.filter(t::kind.eq(kind.as_str()));
    }
    if let Some(below) = page.below {
        query = query.filter(t::id.lt(below));
    }
    let rows: Vec<InboxRow> =
        query.order(t::id.desc()).limit(page.limit + 1).load(tx.conn()).await?;
    let events = rows.into_iter().map(InboxEvent::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, events, |event| event.id))
}

pub(crate) async fn inbox_get(tx: &mut Tx, id: &i64) -> OpResult<(InboxEvent, Vec<DeliveryRow>)> {
    let row: Option<InboxRow> = t::table
        .filter(t::id.eq(*id))
        .select(InboxRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let event = row.ok_or_else(|| not_found("event", id))?.try_into()?;
    Ok((event, triggers::deliveries_of(tx, *id).await?))
}

/// Events by id, oldest first.
pub(super) async fn by_ids(tx: &mut Tx, ids: Vec<i64>) -> OpResult<Vec<InboxEvent>> {
    let rows: Vec<InboxRow> = t::table
        .filter(t::id.eq_any(ids))
        .order(t::id.asc())
        .select(InboxRow::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(InboxEvent::try_from).collect()
}

/// Events stored in a span, oldest first, of one name or of all.
pub(super) async fn in_span(
    tx: &mut Tx,
    (from, to): (Timestamp, Timestamp),
    name: Option<&String>,
    limit: i64,
) -> OpResult<Vec<InboxEvent>> {
    let mut query = t::table
        .filter(t::created_at.ge(Instant(from)))
        .filter(t::created_at.le(Instant(to)))
        .select(InboxRow::as_select())
        .into_boxed::<Db>();
    if let Some(name) = name {
        query = query.filter(t::name.eq(name.clone()));
    }
    let rows: Vec<InboxRow> =
        query.order((t::created_at.asc(), t::id.asc())).limit(limit).load(tx.conn()).await?;
    rows.into_iter().map(InboxEvent::try_from).collect()
}

//! The audit log: a row an act, written as the last of the act's own changes.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::{Tx, hot};
use crate::domain::act::{Act, AuditEntry, bounded};
use crate::domain::event::NewEvent;
use crate::store::acts::BoundAct;
use crate::store::event_chunk::Noted;
use crate::store::models::{AuditRow, NewAuditRow};
use crate::store::op::OpResult;
use crate::store::schema::audit_log as t;
use crate::store::sql_types::{Instant, JsonDoc, without_nul};
use crate::store::{AuditFilter, KeysetPage, KeysetRequest};

/// What an operation tells of the act that it carries out.
#[derive(Default)]
pub(crate) struct ActNote {
    /// The subject's id, when the request did not name it as the log does.
    pub(crate) subject_id: Option<String>,
    /// What it was and what it became.
    pub(crate) change: Option<(Value, Value)>,
    /// The answer was given before: nothing was done.
    pub(crate) is_replay: bool,
}

/// Writes the row of the act that this operation belongs to, if it belongs to one and did it.
pub(crate) async fn close(tx: &mut Tx) -> OpResult<()> {
    let Some(bound) = tx.act.take() else { return Ok(()) };
    let note = std::mem::take(&mut tx.note);
    if note.is_replay {
        return Ok(());
    }
    let event = tx.effects.events.as_slice().first().map(Noted::to_event);
    let line = line_of(&bound, note, event.as_ref());
    insert(tx, vec![line]).await
}

/// The row of an act, with what its operation told of it and the event of what it did.
pub(crate) fn line_of(bound: &BoundAct, note: ActNote, event: Option<&NewEvent>) -> Line {
    let subject_id = note
        .subject_id
        .or_else(|| event_subject(&bound.act, event))
        .or(bound.act.subject_id.clone());
    let (before, after) = match note.change.or_else(|| bound.told_change()) {
        Some((before, after)) => (Some(before), Some(after)),
        None => (None, event.map(event_document)),
    };
    Line { act: Act { subject_id, ..bound.act.clone() }, before, after }
}

/// The id of what an event speaks of, when it is of the act's kind.
fn event_subject(act: &Act, event: Option<&NewEvent>) -> Option<String> {
    let event = event?;
    let id = match act.subject_kind.as_str() {
        "schedule" => event.schedule_id,
        "execution" => event.execution_id,
        // The request names it, or many.
        _ if act.subject_id.is_some() || !act.action.ends_with(".create") => None,
        _ => serde_json::from_str::<Value>(&event.payload).ok()?.get("id")?.as_i64(),
    };
    id.map(|id| id.to_string())
}

fn event_document(event: &NewEvent) -> Value {
    let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
    json!({ "event": event.event_type, "payload": payload })
}

/// A row to be written, but for its instant.
pub(crate) struct Line {
    act: Act,
    before: Option<Value>,
    after: Option<Value>,
}

/// Writes rows.
pub(crate) async fn insert(tx: &mut Tx, lines: Vec<Line>) -> OpResult<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let now = Instant(tx.now().await?);
    let rows = lines.into_iter().map(|Line { act, before, after }| NewAuditRow {
        at: now,
        who: without_nul(act.who),
        key_id: act.key_id,
        role: act.role,
        action: act.action,
        subject_kind: act.subject_kind,
        subject_id: act.subject_id,
        reason: act.reason,
        before: before.map(|value| JsonDoc(bounded(value))),
        after: after.map(|value| JsonDoc(bounded(value))),
        request_id: act.request_id,
    });
    hot::insert_audit(tx.conn(), rows.collect()).await
}

/// Writes the row of an act that changed nothing in the store.
pub(crate) async fn audit_append(tx: &mut Tx, act: &Act) -> OpResult<()> {
    // The handle carries the same act: one row is enough.
    tx.audit_replay();
    insert(tx, vec![Line { act: act.clone(), before: None, after: None }]).await
}

pub(crate) async fn audit_list(
    tx: &mut Tx,
    filter: &AuditFilter,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<AuditEntry>> {
    let mut query = t::table.into_boxed();
    if let Some(who) = &filter.who {
        query = query.filter(t::who.eq(who.clone()));
    }
    if let Some(action) = &filter.action {
        query = query.filter(t::action.eq(action.clone()));
    }
    if let Some(kind) = &filter.subject_kind {
        query = query.filter(t::subject_kind.eq(kind.clone()));
    }
    if let Some(id) = &filter.subject_id {
        query = query.filter(t::subject_id.eq(id.clone()));
    }
    if let Some(since) = filter.since {
        query = query.filter(t::at.ge(Instant(since)));
    }
    if let Some(below) = page.below {
        query = query.filter(t::id.lt(below));
    }
    let rows: Vec<AuditRow> = query
        .order(t::id.desc())
        .limit(page.limit + 1)
        .select(AuditRow::as_select())
        .load(tx.conn())
        .await?;
    let entries = rows.into_iter().map(AuditEntry::from).collect();
    Ok(KeysetPage::of(*page, entries, |entry| entry.id))
}

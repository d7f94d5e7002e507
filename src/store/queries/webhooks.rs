//! Webhooks that come in: their secrets, and the log of their requests, which is what keeps one
//! from being played again.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;
use uuid::Uuid;

use super::super::locked;
use super::Tx;
use super::inbox::{self, PostParts};
use crate::domain::webhook::{Scheme, WebhookSecret};
use crate::store::op::{OpError, OpResult, corrupt, not_found};
use crate::store::schema::{inbound_requests as r, inbound_webhooks as t};
use crate::store::sql_types::{Instant, JsonDoc, Uid};
use crate::store::{
    InboundRequest, InboundRow, KeysetPage, KeysetRequest, NewWebhook, Received, StoreError,
    WebhookChange, WebhookRow,
};

/// Secrets that one webhook may have at once.
const SECRETS_MAX: usize = 5;

/// A row of `inbound_webhooks`.
#[derive(Queryable, Selectable)]
#[diesel(table_name = t)]
struct Row {
    id: i64,
    hook_id: Uid,
    name: String,
    scheme: String,
    secrets: JsonDoc,
    enabled: bool,
    created_at: Instant,
    updated_at: Instant,
}

impl TryFrom<Row> for WebhookRow {
    type Error = OpError;

    fn try_from(row: Row) -> OpResult<Self> {
        let scheme = Scheme::parse(&row.scheme);
        let secrets = serde_json::from_value(row.secrets.0);
        Ok(Self {
            id: row.id,
            hook_id: row.hook_id.0,
            name: row.name,
            scheme: scheme.ok_or_else(|| corrupt("webhook scheme", &row.scheme))?,
            secrets: secrets.map_err(|error| corrupt("secrets", &error.to_string()))?,
            enabled: row.enabled,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

pub(crate) async fn webhook_create(tx: &mut Tx, new: &NewWebhook) -> OpResult<WebhookRow> {
    let now = tx.now().await?;
    let secret = WebhookSecret { text: new.secret.clone(), created_at: now, expires_at: None };
    let row: Option<Row> = diesel::insert_into(t::table)
        .values((
            t::hook_id.eq(Uid(Uuid::new_v4())),
            t::name.eq(&new.name),
            t::scheme.eq(new.scheme.as_str()),
            t::secrets.eq(JsonDoc(json!([secret]))),
            t::enabled.eq(true),
            t::created_at.eq(Instant(now)),
            t::updated_at.eq(Instant(now)),
        ))
        .on_conflict_do_nothing()
        .returning(Row::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let taken = || StoreError::Duplicate { what: "name", value: new.name.clone() };
    row.ok_or_else(|| OpError::Rule(taken()))?.try_into()
}

pub(crate) async fn webhook_list(
    tx: &mut Tx,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<WebhookRow>> {
    let rows: Vec<Row> = t::table
        .filter(t::id.lt(page.below.unwrap_or(i64::MAX)))
        .order(t::id.desc())
        .limit(page.limit + 1)
        .select(Row::as_select())
        .load(tx.conn())
        .await?;
    let rows = rows.into_iter().map(WebhookRow::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, rows, |row| row.id))
}

pub(crate) async fn webhook_get(tx: &mut Tx, id: &i64) -> OpResult<WebhookRow> {
    let row: Option<Row> = t::table
        .filter(t::id.eq(*id))
        .select(Row::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("webhook", id))?.try_into()
}

pub(crate) async fn webhook_find(tx: &mut Tx, hook_id: &Uuid) -> OpResult<Option<WebhookRow>> {
    let row: Option<Row> = t::table
        .filter(t::hook_id.eq(Uid(*hook_id)))
        .select(Row::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.map(WebhookRow::try_from).transpose()
}

pub(crate) async fn webhook_change(
    tx: &mut Tx,
    id: &i64,
    change: &WebhookChange,
) -> OpResult<WebhookRow> {
    let now = tx.now().await?;
    let row: Option<Row> = locked!(t::table.filter(t::id.eq(*id)).select(Row::as_select()))
        .get_result(tx.conn())
        .await
        .optional()?;
    let mut webhook: WebhookRow = row.ok_or_else(|| not_found("webhook", id))?.try_into()?;
    match change {
        WebhookChange::SetEnabled(enabled) => webhook.enabled = *enabled,
        WebhookChange::Rotate { secret, old_until } => {
            let end =
                |one: &WebhookSecret| one.expires_at.map_or(*old_until, |at| at.min(*old_until));
            for one in &mut webhook.secrets {
                one.expires_at = Some(end(one));
            }
            webhook.secrets.retain(|one| one.expires_at.is_some_and(|end| now < end));
            let fresh = WebhookSecret { text: secret.clone(), created_at: now, expires_at: None };
            webhook.secrets.insert(0, fresh);
            webhook.secrets.truncate(SECRETS_MAX);
        }
    }
    webhook.updated_at = now;
    diesel::update(t::table.filter(t::id.eq(*id)))
        .set((
            t::enabled.eq(webhook.enabled),
            t::secrets.eq(JsonDoc(json!(webhook.secrets))),
            t::updated_at.eq(Instant(now)),
        ))
        .execute(tx.conn())
        .await?;
    Ok(webhook)
}

pub(crate) async fn webhook_delete(tx: &mut Tx, id: &i64) -> OpResult<()> {
    let deleted = diesel::delete(t::table.filter(t::id.eq(*id))).execute(tx.conn()).await?;
    if deleted == 0 {
        return Err(not_found("webhook", id));
    }
    Ok(())
}

async fn note(
    tx: &mut Tx,
    request: &InboundRequest,
    outcome: &str,
    event_id: Option<i64>,
) -> OpResult<Option<i64>> {
    let now = tx.now().await?;
    Ok(diesel::insert_into(r::table)
        .values((
            r::webhook_id.eq(request.webhook_id),
            r::message_id.eq(&request.message_id),
            r::outcome.eq(outcome),
            r::event_id.eq(event_id),
            r::size.eq(request.size),
            r::at.eq(Instant(now)),
        ))
        .on_conflict_do_nothing()
        .returning(r::id)
        .get_result(tx.conn())
        .await
        .optional()?)
}

/// Takes a request: notes it, and makes its event unless its id was there before.
pub(crate) async fn webhook_receive(tx: &mut Tx, request: &InboundRequest) -> OpResult<Received> {
    if let Some(refused) = request.refused {
        note(tx, request, refused, None).await?;
        return Ok(Received::Refused);
    }
    // First the note, whose unique index holds back a second one with the same id.
    let Some(noted) = note(tx, request, "accepted", None).await? else {
        let before: Option<Option<i64>> = r::table
            .filter(r::webhook_id.eq(request.webhook_id))
            .filter(r::message_id.eq(&request.message_id))
            .filter(r::outcome.eq("accepted"))
            .select(r::event_id)
            .get_result(tx.conn())
            .await
            .optional()?;
        note(tx, request, "duplicate", before.flatten()).await?;
        return Ok(Received::Duplicate(before.flatten()));
    };
    let parts = PostParts { event: &request.event, claim: request.claim.as_ref() };
    let posted = inbox::post(tx, parts).await?;
    diesel::update(r::table.filter(r::id.eq(noted)))
        .set(r::event_id.eq(Some(posted.event.id)))
        .execute(tx.conn())
        .await?;
    Ok(Received::Accepted(Box::new(posted)))
}

pub(crate) async fn webhook_requests(
    tx: &mut Tx,
    webhook_id: &i64,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<InboundRow>> {
    type Columns = (i64, Option<String>, String, Option<i64>, i64, Instant);
    let rows: Vec<Columns> = r::table
        .filter(r::webhook_id.eq(*webhook_id))
        .filter(r::id.lt(page.below.unwrap_or(i64::MAX)))
        .order(r::id.desc())
        .limit(page.limit + 1)
        .select((r::id, r::message_id, r::outcome, r::event_id, r::size, r::at))
        .load(tx.conn())
        .await?;
    let of = |(id, message_id, outcome, event_id, size, at): Columns| InboundRow {
        id,
        message_id,
        outcome,
        event_id,
        size,
        at: at.0,
    };
    let rows = rows.into_iter().map(of).collect();
    Ok(KeysetPage::of(*page, rows, |row: &InboundRow| row.id))
}

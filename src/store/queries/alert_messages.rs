//! Messages on their way to channels, and the log of attempts.
//!
//! A claim pushes a message's next instant past the time an attempt may take: a node that dies
//! meanwhile has at most begun that one attempt, and the next one has the same name.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::super::{Db, locked};
use super::{Tx, alert_channels};
use crate::clock::Timestamp;
use crate::domain::alert::message::Notice;
use crate::store::alert_rows::{DeliveryRow, MessageRow, read, written};
use crate::store::op::{OpResult, not_found};
use crate::store::schema::{alert_deliveries as d, alert_messages as t};
use crate::store::sql_types::Instant;
use crate::store::{
    AlertDelivery, ClaimedMessage, DELIVERY_LEASE, DeliveryEnd, DeliveryFilter, KeysetPage,
    KeysetRequest, Topic,
};

/// Adds a message to the channel of that name; gives how many were added.
pub(super) async fn add(
    tx: &mut Tx,
    channel: &str,
    rule: Option<&str>,
    notice: &Notice,
) -> OpResult<u64> {
    let Some(channel) = alert_channels::find(tx, channel).await? else { return Ok(0) };
    insert(tx, (channel.id, &channel.name), rule, notice).await?;
    Ok(1)
}

async fn insert(
    tx: &mut Tx,
    (channel_id, channel): (i64, &str),
    rule: Option<&str>,
    notice: &Notice,
) -> OpResult<(i64, String)> {
    let now = Instant(tx.now().await?);
    let webhook_id = format!("msg_{}", Uuid::now_v7().simple());
    let id = diesel::insert_into(t::table)
        .values((
            t::webhook_id.eq(&webhook_id),
            t::kind.eq(notice.kind.as_str()),
            t::channel_id.eq(channel_id),
            t::channel_name.eq(channel),
            t::rule_name.eq(rule),
            t::body.eq(written(notice)?),
            t::state.eq("waiting"),
            t::attempts.eq(0),
            t::next_at.eq(Some(now)),
            t::created_at.eq(now),
        ))
        .returning(t::id)
        .get_result(tx.conn())
        .await?;
    Ok((id, webhook_id))
}

/// Adds the message of a person who tries a channel; gives its id and its name.
pub(crate) async fn alert_channel_test(tx: &mut Tx, name: &str) -> OpResult<(i64, String)> {
    let channel = alert_channels::alert_channel_get(tx, name).await?;
    let notice = Notice::test(tx.now().await?);
    tx.changed(Topic::State);
    insert(tx, (channel.id, &channel.name), None, &notice).await
}

/// The messages of a channel that is no more are not delivered.
pub(super) async fn give_up_of_channel(tx: &mut Tx, channel_id: i64) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    diesel::update(t::table.filter(t::channel_id.eq(channel_id)).filter(t::state.eq("waiting")))
        .set((t::state.eq("failed"), t::next_at.eq(None::<Instant>), t::ended_at.eq(Some(now))))
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// When a message is due next, and the store's clock.
pub(crate) async fn alert_message_next(tx: &mut Tx) -> OpResult<(Option<Timestamp>, Timestamp)> {
    let next: Option<Option<Instant>> = t::table
        .filter(t::next_at.is_not_null())
        .order(t::next_at.asc())
        .select(t::next_at)
        .first(tx.conn())
        .await
        .optional()?;
    Ok((next.flatten().map(|at| at.0), tx.now().await?))
}

/// Claims due messages, the longest due first, at most `each` less what `busy` says of a channel,
/// and at most `limit` of all.
pub(crate) async fn alert_message_claim(
    tx: &mut Tx,
    busy: &HashMap<i64, i64>,
    each: &i64,
    limit: &usize,
) -> OpResult<Vec<ClaimedMessage>> {
    let now = tx.now().await?;
    let channels: Vec<i64> = t::table
        .filter(t::next_at.le(Instant(now)))
        .select(t::channel_id)
        .distinct()
        .load(tx.conn())
        .await?;
    let mut claimed = Vec::new();
    for channel in channels {
        let free = each - busy.get(&channel).copied().unwrap_or(0);
        let left = i64::try_from(limit.saturating_sub(claimed.len())).unwrap_or(i64::MAX);
        if free.min(left) <= 0 {
            continue;
        }
        let rows: Vec<MessageRow> = locked!(
            t::table
                .filter(t::next_at.le(Instant(now)))
                .filter(t::channel_id.eq(channel))
                .order((t::next_at.asc(), t::id.asc()))
                .limit(free.min(left))
                .select(MessageRow::as_select())
        )
        .load(tx.conn())
        .await?;
        for row in rows {
            claimed.extend(begin(tx, row, now).await?);
        }
    }
    Ok(claimed)
}

async fn begin(tx: &mut Tx, row: MessageRow, now: Timestamp) -> OpResult<Option<ClaimedMessage>> {
    let lease = chrono::Duration::from_std(DELIVERY_LEASE).unwrap_or_default();
    let attempt = row.attempts + 1;
    let Some(channel) = alert_channels::by_id(tx, row.channel_id).await? else {
        give_up_of_channel(tx, row.channel_id).await?;
        return Ok(None);
    };
    diesel::update(t::table.filter(t::id.eq(row.id)))
        .set((t::attempts.eq(attempt), t::next_at.eq(Some(Instant(now + lease)))))
        .execute(tx.conn())
        .await?;
    // An attempt that never ended was its node's last.
    diesel::update(d::table.filter(d::message_id.eq(row.id)).filter(d::outcome.eq("sending")))
        .set((d::outcome.eq("interrupted"), d::next_attempt_at.eq(Some(Instant(now)))))
        .execute(tx.conn())
        .await?;
    diesel::insert_into(d::table)
        .values((
            d::message_id.eq(row.id),
            d::webhook_id.eq(&row.webhook_id),
            d::kind.eq(&row.kind),
            d::channel_name.eq(&row.channel_name),
            d::rule_name.eq(&row.rule_name),
            d::attempt.eq(attempt),
            d::outcome.eq("sending"),
            d::started_at.eq(Instant(now)),
        ))
        .execute(tx.conn())
        .await?;
    Ok(Some(ClaimedMessage {
        id: row.id,
        webhook_id: row.webhook_id,
        attempt,
        channel,
        notice: read("message", row.body.0)?,
        created_at: row.created_at.0,
    }))
}

/// Notes how an attempt ended; one that was overtaken by another changes only its own row.
pub(crate) async fn alert_message_end(tx: &mut Tx, end: &DeliveryEnd) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    let outcome = if end.delivered { "delivered" } else { "failed" };
    let retry_at = end.retry_at.map(Instant);
    diesel::update(
        d::table.filter(d::message_id.eq(end.message_id)).filter(d::attempt.eq(end.attempt)),
    )
    .set((
        d::outcome.eq(outcome),
        d::status.eq(end.status),
        d::error.eq(&end.error),
        d::duration_ms.eq(Some(end.duration_ms)),
        d::next_attempt_at.eq(retry_at),
    ))
    .execute(tx.conn())
    .await?;
    let mine = t::table.filter(t::id.eq(end.message_id)).filter(t::state.eq("waiting"));
    if end.delivered || retry_at.is_none() {
        // What was delivered is, whichever attempt is under way now.
        let latest = if end.delivered { i32::MAX } else { end.attempt };
        diesel::update(mine.filter(t::attempts.le(latest)))
            .set((t::state.eq(outcome), t::next_at.eq(None::<Instant>), t::ended_at.eq(Some(now))))
            .execute(tx.conn())
            .await?;
    } else {
        diesel::update(mine.filter(t::attempts.eq(end.attempt)))
            .set(t::next_at.eq(retry_at))
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

pub(crate) async fn alert_delivery_list(
    tx: &mut Tx,
    filter: &DeliveryFilter,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<AlertDelivery>> {
    let mut query = d::table.into_boxed::<Db>();
    if let Some(message) = filter.message_id {
        query = query.filter(d::message_id.eq(message));
    }
    if let Some(channel) = &filter.channel {
        query = query.filter(d::channel_name.eq(channel.clone()));
    }
    if let Some(outcome) = &filter.outcome {
        query = query.filter(d::outcome.eq(outcome.clone()));
    }
    let rows: Vec<DeliveryRow> = query
        .filter(d::id.lt(page.below.unwrap_or(i64::MAX)))
        .order(d::id.desc())
        .limit(page.limit + 1)
        .select(DeliveryRow::as_select())
        .load(tx.conn())
        .await?;
    let rows = rows.into_iter().map(AlertDelivery::from).collect();
    Ok(KeysetPage::of(*page, rows, |row: &AlertDelivery| row.id))
}

pub(crate) async fn alert_delivery_get(tx: &mut Tx, id: &i64) -> OpResult<AlertDelivery> {
    let row: Option<DeliveryRow> = d::table
        .filter(d::id.eq(*id))
        .select(DeliveryRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    Ok(row.ok_or_else(|| not_found("alert delivery", id))?.into())
}

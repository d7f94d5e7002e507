//! Alert channels: found by name, as rules name them.

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Tx, alert_messages, alert_rules, idempotency};
use crate::domain::alert::channel::{AlertChannel, ChannelSpec};
use crate::store::alert_rows::{ChannelRow, written};
use crate::store::op::{OpError, OpResult, not_found, wrong_state};
use crate::store::schema::alert_channels as t;
use crate::store::sql_types::Instant;
use crate::store::{ALERT_CHANNELS_MAX, Creation, Idempotency, NewAlertChannel, StoreError};

/// The channel of that name.
pub(super) async fn find(tx: &mut Tx, name: &str) -> OpResult<Option<AlertChannel>> {
    let row: Option<ChannelRow> = t::table
        .filter(t::name.eq(name))
        .select(ChannelRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.map(TryInto::try_into).transpose()
}

/// The channel with that id.
pub(super) async fn by_id(tx: &mut Tx, id: i64) -> OpResult<Option<AlertChannel>> {
    let row: Option<ChannelRow> = t::table
        .filter(t::id.eq(id))
        .select(ChannelRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.map(TryInto::try_into).transpose()
}

pub(crate) async fn alert_channel_get(tx: &mut Tx, name: &str) -> OpResult<AlertChannel> {
    find(tx, name).await?.ok_or_else(|| not_found("alert channel", name))
}

pub(crate) async fn alert_channel_list(tx: &mut Tx) -> OpResult<Vec<AlertChannel>> {
    let rows: Vec<ChannelRow> =
        t::table.order(t::id.desc()).select(ChannelRow::as_select()).load(tx.conn()).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

pub(crate) async fn alert_channel_create(
    tx: &mut Tx,
    channel: &NewAlertChannel,
    kept: &Option<Idempotency<AlertChannel>>,
) -> OpResult<Creation<AlertChannel>> {
    if let Some(answer) = idempotency::find(tx, kept.as_ref()).await? {
        return Ok(Creation::Replayed(answer));
    }
    alert_rules::lock_cursor(tx).await?;
    let count: i64 = t::table.select(count_star()).get_result(tx.conn()).await?;
    if count >= ALERT_CHANNELS_MAX {
        let detail = format!("there are {ALERT_CHANNELS_MAX} alert channels already");
        return Err(wrong_state("too_many", detail));
    }
    let now = Instant(tx.now().await?);
    let row: Option<ChannelRow> = diesel::insert_into(t::table)
        .values((
            t::name.eq(&channel.name),
            t::settings.eq(written(&channel.spec)?),
            t::version.eq(1_i64),
            t::created_at.eq(now),
            t::updated_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .returning(ChannelRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let duplicate = || StoreError::Duplicate { what: "name", value: channel.name.clone() };
    let made: AlertChannel = row.ok_or_else(|| OpError::Rule(duplicate()))?.try_into()?;
    idempotency::save(tx, kept.as_ref(), (&made, false)).await?;
    Ok(Creation::New(made))
}

pub(crate) async fn alert_channel_update(
    tx: &mut Tx,
    name: &str,
    expected: &i64,
    spec: &ChannelSpec,
) -> OpResult<AlertChannel> {
    alert_rules::lock_cursor(tx).await?;
    let before = alert_channel_get(tx, name).await?;
    if before.version != *expected {
        let (expected, actual) = (*expected, before.version);
        return Err(OpError::Rule(StoreError::VersionConflict { expected, actual }));
    }
    let now = Instant(tx.now().await?);
    diesel::update(t::table.filter(t::id.eq(before.id)))
        .set((
            t::settings.eq(written(spec)?),
            t::version.eq(before.version + 1),
            t::updated_at.eq(now),
        ))
        .execute(tx.conn())
        .await?;
    alert_channel_get(tx, name).await
}

pub(crate) async fn alert_channel_delete(tx: &mut Tx, name: &str) -> OpResult<()> {
    alert_rules::lock_cursor(tx).await?;
    let channel = alert_channel_get(tx, name).await?;
    let naming = alert_rules::naming_channel(tx, name).await?;
    if !naming.is_empty() {
        let detail = format!("rules tell this channel: {}; edit them first", naming.join(", "));
        return Err(wrong_state("in_use", detail));
    }
    alert_messages::give_up_of_channel(tx, channel.id).await?;
    diesel::delete(t::table.filter(t::id.eq(channel.id))).execute(tx.conn()).await?;
    Ok(())
}

//! WebSocket sessions.

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::Tx;
use crate::store::NewSession;
use crate::store::op::OpResult;
use crate::store::schema::{nodes, websocket_sessions as t};
use crate::store::sql_types::{Instant, JsonDoc, Uid};

pub(crate) async fn session_open(tx: &mut Tx, session: &NewSession) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    diesel::insert_into(t::table)
        .values((
            t::session_id.eq(Uid(session.session_id)),
            t::boot_id.eq(Uid(session.boot_id)),
            t::key_name.eq(session.key_name.as_deref()),
            t::client_info.eq(JsonDoc(session.client_info.clone())),
            t::connected_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn session_subscribe(
    tx: &mut Tx,
    session_id: &Uuid,
    subscriptions: &Value,
) -> OpResult<()> {
    diesel::update(t::table.filter(t::session_id.eq(Uid(*session_id))))
        .set(t::subscriptions.eq(Some(JsonDoc(subscriptions.clone()))))
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn session_close(tx: &mut Tx, session_id: &Uuid) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    diesel::update(
        t::table.filter(t::session_id.eq(Uid(*session_id))).filter(t::closed_at.is_null()),
    )
    .set(t::closed_at.eq(Some(now)))
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn session_close_stale(
    tx: &mut Tx,
    boot_id: &Uuid,
    alive: &[Uuid],
) -> OpResult<u64> {
    let (now, lease_now) = (Instant(tx.now().await?), Instant(tx.lease_now().await?));
    let alive: Vec<Uid> = alive.iter().copied().map(Uid).collect();
    // A node that came back under a new boot id takes its sessions along, also those that another
    // node has taken for orphans meanwhile.
    diesel::update(
        t::table.filter(t::boot_id.ne(Uid(*boot_id))).filter(t::session_id.eq_any(alive.clone())),
    )
    .set((t::boot_id.eq(Uid(*boot_id)), t::closed_at.eq(None::<Instant>)))
    .execute(tx.conn())
    .await?;
    let own = diesel::update(
        t::table
            .filter(t::boot_id.eq(Uid(*boot_id)))
            .filter(t::closed_at.is_null())
            .filter(t::session_id.ne_all(alive)),
    )
    .set(t::closed_at.eq(Some(now)))
    .execute(tx.conn())
    .await?;
    let holder = nodes::table
        .filter(nodes::boot_id.eq(t::boot_id))
        .filter(nodes::stopped_at.is_null())
        .filter(nodes::lease_until.ge(lease_now));
    let orphaned = diesel::update(
        t::table
            .filter(t::boot_id.ne(Uid(*boot_id)))
            .filter(t::closed_at.is_null())
            .filter(not(exists(holder))),
    )
    .set(t::closed_at.eq(Some(now)))
    .execute(tx.conn())
    .await?;
    Ok(u64::try_from(own + orphaned).unwrap_or(u64::MAX))
}

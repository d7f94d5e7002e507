//! Nodes: each boot has one lease, which covers every execution it runs.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Tx, hot};
use crate::store::models::NodeRowRaw;
use crate::store::op::OpResult;
use crate::store::schema::nodes as t;
use crate::store::sql_types::{Instant, Uid};
use crate::store::{Claimant, NodeRow};

/// A lease may be renewed this part of its length after it ran out: the grace that those who take
/// over wait for.
const GRACE_PART: i32 = 6;

fn span(lease: Duration) -> chrono::Duration {
    chrono::Duration::from_std(lease).unwrap_or(chrono::Duration::days(1))
}

pub(crate) async fn node_register(
    tx: &mut Tx,
    claimant: &Claimant,
    lease: &Duration,
) -> OpResult<NodeRow> {
    let (now, lease_now) = (tx.now().await?, tx.lease_now().await?);
    if let Some(void_after) = hot::EARLIER_BOOTS_END_AFTER {
        // The file is locked for this process: whoever held these leases is gone. The delay lets
        // the remains of its tasks end.
        let void_at = Instant(lease_now + span(void_after));
        diesel::update(
            t::table
                .filter(t::boot_id.ne(Uid(claimant.boot_id)))
                .filter(t::lease_until.gt(void_at)),
        )
        .set(t::lease_until.eq(void_at))
        .execute(tx.conn())
        .await?;
    }
    let row = NodeRowRaw {
        boot_id: Uid(claimant.boot_id),
        node_id: claimant.node_id.clone(),
        started_at: Instant(now),
        lease_until: Instant(lease_now + span(*lease)),
        stopped_at: None,
    };
    diesel::insert_into(t::table)
        .values(row.clone())
        .on_conflict(t::boot_id)
        .do_update()
        .set((t::lease_until.eq(row.lease_until), t::stopped_at.eq(None::<Instant>)))
        .execute(tx.conn())
        .await?;
    Ok(row.into())
}

pub(crate) async fn node_beat(tx: &mut Tx, boot_id: &Uuid, lease: &Duration) -> OpResult<bool> {
    let now = tx.lease_now().await?;
    let lease = span(*lease);
    let changed = diesel::update(
        t::table
            .filter(t::boot_id.eq(Uid(*boot_id)))
            .filter(t::stopped_at.is_null())
            .filter(t::lease_until.ge(Instant(now - lease / GRACE_PART))),
    )
    .set(t::lease_until.eq(Instant(now + lease)))
    .execute(tx.conn())
    .await?;
    Ok(changed > 0)
}

pub(crate) async fn node_stop(tx: &mut Tx, boot_id: &Uuid) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    diesel::update(t::table.filter(t::boot_id.eq(Uid(*boot_id))).filter(t::stopped_at.is_null()))
        .set(t::stopped_at.eq(Some(now)))
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// True when a node of another name holds a lease.
pub(super) async fn has_other(tx: &mut Tx, node_id: &str) -> OpResult<bool> {
    let now = Instant(tx.lease_now().await?);
    let others = t::table
        .filter(t::node_id.ne(node_id))
        .filter(t::stopped_at.is_null())
        .filter(t::lease_until.gt(now));
    Ok(diesel::select(diesel::dsl::exists(others)).get_result(tx.conn()).await?)
}

pub(crate) async fn node_list(tx: &mut Tx) -> OpResult<Vec<NodeRow>> {
    let rows: Vec<NodeRowRaw> = t::table
        .order((t::started_at.desc(), t::boot_id.asc()))
        .select(NodeRowRaw::as_select())
        .load(tx.conn())
        .await?;
    Ok(rows.into_iter().map(NodeRow::from).collect())
}

//! Small facts that hold for the whole system, and the round trip.

use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::Tx;
use crate::clock::Timestamp;
use crate::store::Topic;
use crate::store::op::OpResult;
use crate::store::schema::system_state::{self as t, dsl};
use crate::store::sql_types::{Instant, JsonDoc};

pub(crate) async fn ping(tx: &mut Tx) -> OpResult<()> {
    let _one: i32 = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("1"))
        .get_result(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn now(tx: &mut Tx) -> OpResult<Timestamp> {
    tx.now().await
}

pub(crate) async fn state_get(tx: &mut Tx, key: &str) -> OpResult<Option<Value>> {
    let found: Option<JsonDoc> = dsl::system_state
        .filter(t::key.eq(key))
        .select(t::value)
        .get_result(tx.conn())
        .await
        .optional()?;
    Ok(found.map(|document| document.0))
}

pub(crate) async fn state_set(tx: &mut Tx, key: &str, value: &Value) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    diesel::insert_into(dsl::system_state)
        .values((t::key.eq(key), t::value.eq(JsonDoc(value.clone())), t::updated_at.eq(now)))
        .on_conflict(t::key)
        .do_update()
        .set((t::value.eq(excluded(t::value)), t::updated_at.eq(excluded(t::updated_at))))
        .execute(tx.conn())
        .await?;
    tx.audit_change(|| (Value::Null, json!({ key: value })));
    tx.changed(Topic::State);
    Ok(())
}

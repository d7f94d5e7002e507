//! API keys.

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::Tx;
use crate::store::models::KeyRowRaw;
use crate::store::op::{OpError, OpResult, not_found};
use crate::store::schema::api_keys as t;
use crate::store::sql_types::Instant;
use crate::store::{ApiKeyRow, NewApiKey, StoreError};

pub(crate) async fn key_create(tx: &mut Tx, key: &NewApiKey) -> OpResult<ApiKeyRow> {
    let now = Instant(tx.now().await?);
    let row: Option<KeyRowRaw> = diesel::insert_into(t::table)
        .values((
            t::prefix.eq(&key.prefix),
            t::secret_hash.eq(&key.secret_hash),
            t::name.eq(&key.name),
            t::role.eq(&key.role),
            t::created_at.eq(now),
            t::expires_at.eq(key.expires_at.map(Instant)),
        ))
        .on_conflict_do_nothing()
        .returning(KeyRowRaw::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let duplicate = || StoreError::Duplicate { what: "prefix", value: key.prefix.clone() };
    let row = row.ok_or_else(|| OpError::Rule(duplicate()))?;
    tx.audit_subject(row.id);
    tx.audit_change(|| (Value::Null, json!({ "name": row.name, "role": row.role })));
    Ok(row.into())
}

pub(crate) async fn key_list(tx: &mut Tx) -> OpResult<Vec<ApiKeyRow>> {
    let rows: Vec<KeyRowRaw> =
        t::table.order(t::id.desc()).select(KeyRowRaw::as_select()).load(tx.conn()).await?;
    Ok(rows.into_iter().map(ApiKeyRow::from).collect())
}

pub(crate) async fn key_find(tx: &mut Tx, prefix: &str) -> OpResult<Option<ApiKeyRow>> {
    let row: Option<KeyRowRaw> = t::table
        .filter(t::prefix.eq(prefix))
        .select(KeyRowRaw::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    Ok(row.map(ApiKeyRow::from))
}

pub(crate) async fn key_revoke(tx: &mut Tx, id: &i64) -> OpResult<ApiKeyRow> {
    let now = Instant(tx.now().await?);
    // The first revocation's instant stays.
    diesel::update(t::table.filter(t::id.eq(*id)).filter(t::revoked_at.is_null()))
        .set(t::revoked_at.eq(Some(now)))
        .execute(tx.conn())
        .await?;
    let row: Option<KeyRowRaw> = t::table
        .filter(t::id.eq(*id))
        .select(KeyRowRaw::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    Ok(row.ok_or_else(|| not_found("key", id))?.into())
}

pub(crate) async fn key_touch(tx: &mut Tx, ids: &[i64]) -> OpResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let now = Instant(tx.now().await?);
    diesel::update(t::table.filter(t::id.eq_any(ids.to_vec())))
        .set(t::last_used_at.eq(Some(now)))
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn key_count(tx: &mut Tx) -> OpResult<i64> {
    Ok(t::table.select(count_star()).get_result(tx.conn()).await?)
}

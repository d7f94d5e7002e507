//! Answers kept for a day, written in the transaction that did the work.

use chrono::Duration;
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::{Tx, hot};
use crate::store::op::{OpError, OpResult, wrong_state};
use crate::store::schema::idempotency_keys::{self as t, dsl};
use crate::store::sql_types::Instant;
use crate::store::{Idempotency, StoreError, StoredAnswer};

/// How long an answer is kept.
pub(crate) const KEPT_HOURS: i64 = 24;

/// The answer kept for the key, if the request was done before. Holds a lock on the key until the
/// end of the transaction, so that of two equal requests the second waits and gets the answer of
/// the first.
pub(crate) async fn find<T>(
    tx: &mut Tx,
    idempotency: Option<&Idempotency<T>>,
) -> OpResult<Option<StoredAnswer>> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    if !hot::try_lock_key(tx.conn(), &idempotency.key).await? {
        let detail = "a request with this Idempotency-Key is being carried out; ask again soon";
        return Err(wrong_state("idempotency_in_progress", detail));
    }
    let answer = answer_find(tx, &idempotency.key, &idempotency.body_hash).await?;
    if answer.is_some() {
        tx.audit_replay();
    }
    Ok(answer)
}

/// The answer kept for a key, for requests that are the same again.
pub(crate) async fn answer_find(
    tx: &mut Tx,
    key: &str,
    body_hash: &str,
) -> OpResult<Option<StoredAnswer>> {
    let oldest = tx.now().await? - Duration::hours(KEPT_HOURS);
    let row: Option<(String, i32, String)> = dsl::idempotency_keys
        .filter(t::key.eq(key))
        .filter(t::created_at.gt(Instant(oldest)))
        .select((t::body_hash, t::status, t::body))
        .get_result(tx.conn())
        .await
        .optional()?;
    match row {
        None => Ok(None),
        Some((hash, _, _)) if hash != body_hash => {
            Err(OpError::Rule(StoreError::IdempotencyMismatch))
        }
        Some((_, status, body)) => {
            Ok(Some(StoredAnswer { status: u16::try_from(status).unwrap_or_default(), body }))
        }
    }
}

/// Keeps the answer; an older one under the same key is past its day and is replaced.
pub(crate) async fn save<T>(
    tx: &mut Tx,
    idempotency: Option<&Idempotency<T>>,
    (made, is_old): (&T, bool),
) -> OpResult<()> {
    let Some(idempotency) = idempotency else { return Ok(()) };
    let answer = (idempotency.render)(made, is_old);
    let now = Instant(tx.now().await?);
    diesel::insert_into(dsl::idempotency_keys)
        .values((
            t::key.eq(&idempotency.key),
            t::body_hash.eq(&idempotency.body_hash),
            t::status.eq(i32::from(answer.status)),
            t::body.eq(answer.body),
            t::created_at.eq(now),
        ))
        .on_conflict(t::key)
        .do_update()
        .set((
            t::body_hash.eq(excluded(t::body_hash)),
            t::status.eq(excluded(t::status)),
            t::body.eq(excluded(t::body)),
            t::created_at.eq(excluded(t::created_at)),
        ))
        .execute(tx.conn())
        .await?;
    Ok(())
}

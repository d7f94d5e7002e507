//! Dead letters by the many: pages by key, groups by cause, orders about all that match, and the
//! alert when they grow. One letter's life is in `dead_letters.rs`.

use std::sync::Arc;
use std::time::Duration;

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::{Tx, creating, dead_letters, hot, idempotency, state};
use crate::clock::Timestamp;
use crate::domain::error_record::{DeadLetter, DeadLetterStatus};
use crate::domain::event::{alert_event, instant_text};
use crate::domain::execution::{Execution, Severity};
use crate::store::models::DeadLetterRow;
use crate::store::op::OpResult;
use crate::store::schema::dead_letters as t;
use crate::store::sql_types::{Instant, sql};
use crate::store::{
    Chosen, Creation, DeadLetterFilter, DeadLetterGroup, Idempotency, KeysetPage, KeysetRequest,
    LetterChoice, LettersDiscard, Resubmission,
};

/// Where the last alert is noted.
const ALERT: &str = "alert:dead_letters_growing";
/// Groups that are listed at most: those with the most letters.
const GROUPS_MAX: i64 = 500;

pub(crate) async fn dead_letter_page(
    tx: &mut Tx,
    filter: &DeadLetterFilter,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<DeadLetter>> {
    let mut query = dead_letters::filtered(filter);
    if let Some(below) = page.below {
        query = query.filter(t::id.lt(below));
    }
    let rows: Vec<DeadLetterRow> = query
        .select(DeadLetterRow::as_select())
        .order(t::id.desc())
        .limit(page.limit + 1)
        .load(tx.conn())
        .await?;
    let rows = rows.into_iter().map(DeadLetter::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, rows, |letter| letter.id))
}

#[derive(QueryableByName)]
struct GroupRow {
    #[diesel(sql_type = Text)]
    cause: String,
    #[diesel(sql_type = Text)]
    fingerprint: String,
    #[diesel(sql_type = BigInt)]
    letters: i64,
    #[diesel(sql_type = BigInt)]
    first_id: i64,
    #[diesel(sql_type = sql::Instant)]
    oldest_at: Instant,
    #[diesel(sql_type = sql::Instant)]
    newest_at: Instant,
    #[diesel(sql_type = Nullable<Text>)]
    message: Option<String>,
}

pub(crate) async fn dead_letter_groups(tx: &mut Tx) -> OpResult<Vec<DeadLetterGroup>> {
    let rows: Vec<GroupRow> = diesel::sql_query(
        "SELECT d.cause, d.fingerprint, d.letters, d.first_id, d.oldest_at, d.newest_at, \
         g.message FROM (SELECT cause, fingerprint, count(*) AS letters, min(id) AS first_id, \
         min(created_at) AS oldest_at, max(created_at) AS newest_at FROM dead_letters \
         WHERE status = 'pending' GROUP BY cause, fingerprint) AS d \
         LEFT JOIN error_groups g ON g.fingerprint = d.fingerprint \
         ORDER BY d.letters DESC, d.first_id LIMIT $1",
    )
    .bind::<BigInt, _>(GROUPS_MAX)
    .load(tx.conn())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| DeadLetterGroup {
            cause: row.cause,
            fingerprint: row.fingerprint,
            count: row.letters,
            first_id: row.first_id,
            oldest_at: row.oldest_at.0,
            newest_at: row.newest_at.0,
            message: row.message,
        })
        .collect())
}

pub(crate) async fn dead_letter_choose(
    tx: &mut Tx,
    choice: &LetterChoice,
) -> OpResult<Chosen<DeadLetter>> {
    let filter =
        DeadLetterFilter { statuses: vec![DeadLetterStatus::Pending], ..choice.filter.clone() };
    let chosen = || {
        let query = dead_letters::filtered(&filter);
        if choice.ids.is_empty() { query } else { query.filter(t::id.eq_any(choice.ids.clone())) }
    };
    let total: i64 = chosen().select(count_star()).get_result(tx.conn()).await?;
    let rows: Vec<DeadLetterRow> = chosen()
        .select(DeadLetterRow::as_select())
        .order(t::id.asc())
        .limit(choice.limit)
        .load(tx.conn())
        .await?;
    let items = rows.into_iter().map(DeadLetter::try_from).collect::<OpResult<Vec<_>>>()?;
    let taken = i64::try_from(items.len()).unwrap_or(i64::MAX);
    Ok(Chosen { items, remaining: (total - taken).max(0) })
}

pub(crate) async fn dead_letters_resubmit(
    tx: &mut Tx,
    batch: &[Resubmission],
    kept: &Option<Idempotency<Vec<(i64, Execution)>>>,
) -> OpResult<Creation<Vec<(i64, Execution)>>> {
    if let Some(answer) = idempotency::find(tx, kept.as_ref()).await? {
        return Ok(Creation::Replayed(answer));
    }
    let mut ordered: Vec<&Resubmission> = batch.iter().collect();
    ordered.sort_by_key(|one| one.letter_id);
    let mut taken = Vec::with_capacity(batch.len());
    let mut rows = Vec::with_capacity(batch.len());
    for one in ordered {
        let Some(stored) = dead_letters::lock(tx, one.letter_id).await? else { continue };
        // Somebody else was quicker.
        if stored.letter.status != DeadLetterStatus::Pending {
            continue;
        }
        let mut row = one.execution.clone();
        row.dead_letter_id = Some(one.letter_id);
        taken.push((stored, row.chain_id));
        rows.push(Arc::new(row));
    }
    let made = creating::insert(tx, rows, None).await?;
    let mut answer = Vec::with_capacity(made.len());
    for (stored, chain) in taken {
        let Some(execution) = made.iter().find(|one| one.new.chain_id == chain) else { continue };
        let id = stored.letter.id;
        dead_letters::set_status(tx, stored, DeadLetterStatus::Resubmitted, Some(chain)).await?;
        answer.push((id, execution.clone()));
    }
    let pairs = || answer.iter().map(|(id, made)| json!({ "id": id, "executionId": made.id }));
    tell_many(tx, DeadLetterStatus::Resubmitted, || pairs().collect());
    idempotency::save(tx, kept.as_ref(), (&answer, false)).await?;
    Ok(Creation::New(answer))
}

pub(crate) async fn dead_letters_discard(
    tx: &mut Tx,
    order: &LettersDiscard,
) -> OpResult<Vec<DeadLetter>> {
    let mut ids = order.ids.clone();
    ids.sort_unstable();
    let mut discarded = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(mut stored) = dead_letters::lock(tx, id).await? else { continue };
        if stored.letter.status != DeadLetterStatus::Pending {
            continue;
        }
        stored.letter.discard_reason.clone_from(&order.reason);
        let status = DeadLetterStatus::Discarded;
        discarded.push(dead_letters::set_status(tx, stored, status, None).await?);
    }
    tell_many(tx, DeadLetterStatus::Discarded, || {
        discarded.iter().map(|letter| json!({ "id": letter.id })).collect()
    });
    Ok(discarded)
}

/// The audit log gets what became of which letters.
fn tell_many(tx: &mut Tx, status: DeadLetterStatus, letters: impl FnOnce() -> Vec<Value>) {
    tx.audit_change(|| {
        (
            json!({ "status": DeadLetterStatus::Pending }),
            json!({ "status": status, "letters": letters() }),
        )
    });
}

fn since(now: Timestamp, window: Duration) -> Timestamp {
    chrono::Duration::from_std(window)
        .ok()
        .and_then(|window| now.checked_sub_signed(window))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) async fn dead_letters_added(tx: &mut Tx, window: &Duration) -> OpResult<i64> {
    let since = Instant(since(tx.now().await?, *window));
    Ok(t::table.filter(t::created_at.ge(since)).select(count_star()).get_result(tx.conn()).await?)
}

/// Raises the alert unless one was raised within the window.
pub(crate) async fn dead_letters_alert(
    tx: &mut Tx,
    threshold: &i64,
    window: &Duration,
) -> OpResult<bool> {
    if !hot::try_lock_key(tx.conn(), ALERT).await? {
        return Ok(false);
    }
    let now = tx.now().await?;
    let added = dead_letters_added(tx, window).await?;
    let last = state::state_get(tx, ALERT).await?;
    let last = last.as_ref().and_then(Value::as_i64).unwrap_or(i64::MIN);
    if added < *threshold || last > since(now, *window).timestamp_millis() {
        return Ok(false);
    }
    state::state_set(tx, ALERT, &json!(now.timestamp_millis())).await?;
    let details = json!({
        "added": added,
        "threshold": threshold,
        "since": instant_text(since(now, *window)),
    });
    tx.event(alert_event("dead_letters_growing", Severity::High, &details));
    Ok(true)
}

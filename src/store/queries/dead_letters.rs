//! Dead letters: added when recovery gives up, tried again, discarded.
//!
//! A chain made from a letter that fails for good does not add a second letter: the first one goes
//! back to `pending`, with the new attempts added to its own.

use std::sync::Arc;

use chrono::Duration;
use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{Db, locked};
use super::{Tx, creating, executions, idempotency, page_of};
use crate::domain::error_record::{DeadLetter, DeadLetterStatus, ErrorRecord};
use crate::domain::event::{dead_letter_event, instant_text};
use crate::domain::execution::{Execution, NewExecution};
use crate::store::conversions::error_document;
use crate::store::models::{DeadLetterRow, DeadLetterValues};
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::dead_letters as t;
use crate::store::sql_types::{Instant, Uid};
use crate::store::{
    ClaimHere, Creation, DeadLetterFilter, DeadLetterStats, Idempotency, Page, PageRequest,
};

/// The states of letters that are in the queue.
const QUEUED: [&str; 2] =
    [DeadLetterStatus::Pending.as_str(), DeadLetterStatus::Resubmitted.as_str()];

/// A letter and the one column that is no part of it.
pub(super) struct StoredLetter {
    pub(super) letter: DeadLetter,
    resubmitted_at: Option<Instant>,
}

impl StoredLetter {
    fn of(row: DeadLetterRow) -> OpResult<Self> {
        let resubmitted_at = row.resubmitted_at;
        Ok(Self { letter: row.try_into()?, resubmitted_at })
    }
}

pub(super) async fn lock(tx: &mut Tx, id: i64) -> OpResult<Option<StoredLetter>> {
    let row: Option<DeadLetterRow> =
        locked!(t::table.filter(t::id.eq(id)).select(DeadLetterRow::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    row.map(StoredLetter::of).transpose()
}

/// The letters in the queue that belong to a chain or from which it was made, locked.
pub(super) async fn lock_of_chain(tx: &mut Tx, chain: Uuid) -> OpResult<Vec<StoredLetter>> {
    let rows: Vec<DeadLetterRow> = locked!(
        t::table
            .filter(t::chain_id.eq(Uid(chain)).or(t::resubmitted_chain_id.eq(Uid(chain))))
            .filter(t::status.eq_any(QUEUED))
            .order(t::id.asc())
            .select(DeadLetterRow::as_select())
    )
    .load(tx.conn())
    .await?;
    rows.into_iter().map(StoredLetter::of).collect()
}

/// Like [`lock_of_chain`], and the letter that the execution names.
pub(super) async fn lock_open(tx: &mut Tx, execution: &Execution) -> OpResult<Vec<StoredLetter>> {
    let mut letters = lock_of_chain(tx, execution.new.chain_id).await?;
    if let Some(id) = execution.new.dead_letter_id
        && !letters.iter().any(|stored| stored.letter.id == id)
        && let Some(named) = lock(tx, id).await?
        && QUEUED.contains(&named.letter.status.as_str())
    {
        letters.push(named);
    }
    Ok(letters)
}

async fn save(tx: &mut Tx, mut stored: StoredLetter) -> OpResult<DeadLetter> {
    let values = DeadLetterValues::of(&stored.letter, stored.resubmitted_at);
    if stored.letter.id == 0 {
        stored.letter.id = diesel::insert_into(t::table)
            .values(values)
            .returning(t::id)
            .get_result(tx.conn())
            .await?;
    } else {
        diesel::update(t::table.filter(t::id.eq(stored.letter.id)))
            .set(values)
            .execute(tx.conn())
            .await?;
    }
    Ok(stored.letter)
}

/// The story of a chain, for its letter.
async fn attempts_of(tx: &mut Tx, chain: Uuid) -> OpResult<Vec<Value>> {
    let attempts = executions::chain_of(tx, chain).await?;
    Ok(attempts
        .iter()
        .map(|execution| {
            json!({
                "id": execution.id,
                "executionId": execution.new.execution_id,
                "attempt": execution.new.attempt,
                "status": execution.status,
                "startedAt": execution.started_at.map(instant_text),
                "completedAt": execution.completed_at.map(instant_text),
                "error": error_document(execution.error.as_ref()),
            })
        })
        .collect())
}

/// Adds a letter for a chain that is given up, or puts the one it has back into the queue.
pub(super) async fn add(
    tx: &mut Tx,
    record: &ErrorRecord,
    execution: &Execution,
    cause: &str,
) -> OpResult<()> {
    let now = tx.now().await?;
    let attempts = attempts_of(tx, record.chain_id).await?;
    let mut open = lock_open(tx, execution).await?;
    let stored = if let Some(mut stored) = open.pop() {
        let letter = &mut stored.letter;
        letter.status = DeadLetterStatus::Pending;
        cause.clone_into(&mut letter.cause);
        letter.fingerprint.clone_from(&record.fingerprint);
        letter.updated_at = now;
        letter.attempts = if letter.chain_id == record.chain_id {
            Value::from(attempts)
        } else {
            let mut all = letter.attempts.as_array().cloned().unwrap_or_default();
            let known: Vec<Value> = all.iter().filter_map(|one| one.get("id").cloned()).collect();
            all.extend(
                attempts
                    .into_iter()
                    .filter(|one| !one.get("id").is_some_and(|id| known.contains(id))),
            );
            Value::from(all)
        };
        stored
    } else {
        let letter = DeadLetter {
            id: 0,
            error_id: record.id,
            chain_id: record.chain_id,
            schedule_id: record.schedule_id,
            schedule_name: record.schedule_name.clone(),
            task: execution.new.task.clone(),
            cause: cause.to_owned(),
            fingerprint: record.fingerprint.clone(),
            attempts: Value::from(attempts),
            status: DeadLetterStatus::Pending,
            resubmitted_chain_id: None,
            discard_reason: None,
            created_at: now,
            updated_at: now,
        };
        StoredLetter { letter, resubmitted_at: None }
    };
    let letter = save(tx, stored).await?;
    tx.event(dead_letter_event(&letter, "dead_letter_added"));
    Ok(())
}

/// Moves a letter, with the event that tells of it (none for going back into the queue).
pub(super) async fn set_status(
    tx: &mut Tx,
    mut stored: StoredLetter,
    status: DeadLetterStatus,
    new_chain: Option<Uuid>,
) -> OpResult<DeadLetter> {
    let now = tx.now().await?;
    stored.letter.status = status;
    stored.letter.updated_at = now;
    if let Some(chain) = new_chain {
        stored.letter.resubmitted_chain_id = Some(chain);
        stored.resubmitted_at = Some(Instant(now));
    }
    let letter = save(tx, stored).await?;
    let event = match status {
        DeadLetterStatus::Pending => return Ok(letter),
        DeadLetterStatus::Resubmitted => "dead_letter_resubmitted",
        DeadLetterStatus::Recovered => "dead_letter_recovered",
        DeadLetterStatus::Discarded => "dead_letter_discarded",
    };
    tx.event(dead_letter_event(&letter, event));
    Ok(letter)
}

pub(crate) async fn dead_letter_get(tx: &mut Tx, id: &i64) -> OpResult<DeadLetter> {
    let row: Option<DeadLetterRow> = t::table
        .filter(t::id.eq(*id))
        .select(DeadLetterRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("dead letter", id))?.try_into()
}

pub(super) fn filtered(filter: &DeadLetterFilter) -> t::BoxedQuery<'static, Db> {
    let mut query = t::table.into_boxed::<Db>();
    if let Some(schedule) = filter.schedule_id {
        query = query.filter(t::schedule_id.eq(schedule));
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query = query.filter(t::fingerprint.eq(fingerprint.clone()));
    }
    if let Some(cause) = &filter.cause {
        query = query.filter(t::cause.eq(cause.clone()));
    }
    if let Some(since) = filter.since {
        query = query.filter(t::created_at.ge(Instant(since)));
    }
    match filter.statuses.as_slice() {
        [] => query.filter(t::status.eq_any(QUEUED)),
        [one] => query.filter(t::status.eq(one.as_str())),
        several => {
            let words: Vec<&'static str> = several.iter().map(|status| status.as_str()).collect();
            query.filter(t::status.eq_any(words))
        }
    }
}

pub(crate) async fn dead_letter_list(
    tx: &mut Tx,
    filter: &DeadLetterFilter,
    page: &PageRequest,
) -> OpResult<Page<DeadLetter>> {
    page_of!(tx, *page, filtered(filter), t::id, DeadLetterRow)
}

pub(crate) async fn dead_letter_stats(tx: &mut Tx) -> OpResult<DeadLetterStats> {
    let day_ago = Instant(tx.now().await? - Duration::days(1));
    let by_cause: Vec<(String, i64)> = t::table
        .filter(t::status.eq_any(QUEUED))
        .group_by(t::cause)
        .select((t::cause, count_star()))
        .order(t::cause.asc())
        .load(tx.conn())
        .await?;
    let oldest: Option<Instant> = t::table
        .filter(t::status.eq_any(QUEUED))
        .order(t::created_at.asc())
        .select(t::created_at)
        .first(tx.conn())
        .await
        .optional()?;
    let added: i64 = t::table
        .filter(t::created_at.ge(day_ago))
        .select(count_star())
        .get_result(tx.conn())
        .await?;
    let resubmitted: i64 = t::table
        .filter(t::resubmitted_at.ge(day_ago))
        .select(count_star())
        .get_result(tx.conn())
        .await?;
    Ok(DeadLetterStats {
        pending: by_cause.iter().map(|(_, count)| count).sum(),
        by_cause,
        oldest_at: oldest.map(|at| at.0),
        added_last_day: added,
        resubmitted_last_day: resubmitted,
    })
}

pub(crate) async fn dead_letter_resubmit(
    tx: &mut Tx,
    id: &i64,
    execution: &NewExecution,
    claim: &Option<ClaimHere>,
    kept: &Option<Idempotency<(DeadLetter, Execution)>>,
) -> OpResult<Creation<(DeadLetter, Execution)>> {
    if let Some(answer) = idempotency::find(tx, kept.as_ref()).await? {
        return Ok(Creation::Replayed(answer));
    }
    let stored = lock(tx, *id).await?.ok_or_else(|| not_found("dead letter", id))?;
    if stored.letter.status != DeadLetterStatus::Pending {
        let detail = format!("the dead letter is {}", stored.letter.status);
        return Err(wrong_state("wrong_state", detail));
    }
    let mut row = execution.clone();
    row.dead_letter_id = Some(*id);
    let chain = row.chain_id;
    let made = creating::insert(tx, vec![Arc::new(row)], claim.as_ref()).await?;
    let letter = set_status(tx, stored, DeadLetterStatus::Resubmitted, Some(chain)).await?;
    let execution = made.into_iter().next().ok_or_else(|| {
        wrong_state("already_running", "an execution with the same key waits or runs")
    })?;
    let made = (letter, execution);
    idempotency::save(tx, kept.as_ref(), (&made, false)).await?;
    Ok(Creation::New(made))
}

pub(crate) async fn dead_letter_discard(
    tx: &mut Tx,
    id: &i64,
    reason: &Option<String>,
) -> OpResult<DeadLetter> {
    let mut stored = lock(tx, *id).await?.ok_or_else(|| not_found("dead letter", id))?;
    if !QUEUED.contains(&stored.letter.status.as_str()) {
        let detail = format!("the dead letter is {} already", stored.letter.status);
        return Err(wrong_state("wrong_state", detail));
    }
    stored.letter.discard_reason.clone_from(reason);
    set_status(tx, stored, DeadLetterStatus::Discarded, None).await
}

//! Error records: found, saved, decided by a person. Retries are in `recovery.rs`.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;
use uuid::Uuid;

use super::super::{Db, locked};
use super::{Tx, dead_letters, executions, page_of};
use crate::domain::error_record::{DeadLetterStatus, ErrorRecord, RecoveryStatus};
use crate::domain::event::error_event;
use crate::store::models::{ErrorRow, ErrorValues};
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::error_records as t;
use crate::store::sql_types::Uid;
use crate::store::{ErrorFilter, ErrorVerdict, ExecutionKey, Page, PageRequest, Topic};

/// Why a letter was added by a person's word.
const CAUSE_ESCALATED: &str = "escalated";

/// The record of a chain, locked.
pub(super) async fn lock_by_chain(tx: &mut Tx, chain: Uuid) -> OpResult<Option<ErrorRecord>> {
    let row: Option<ErrorRow> =
        locked!(t::table.filter(t::chain_id.eq(Uid(chain))).select(ErrorRow::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    row.map(ErrorRecord::try_from).transpose()
}

/// A record by id, locked.
pub(super) async fn lock(tx: &mut Tx, id: i64) -> OpResult<Option<ErrorRecord>> {
    let row: Option<ErrorRow> =
        locked!(t::table.filter(t::id.eq(id)).select(ErrorRow::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    row.map(ErrorRecord::try_from).transpose()
}

/// Writes a record: a new one (id 0) gets its id. One statement either way, as a chain has one.
pub(super) async fn save(tx: &mut Tx, mut record: ErrorRecord) -> OpResult<ErrorRecord> {
    let values = ErrorValues::of(&record);
    if record.id == 0 {
        record.id = diesel::insert_into(t::table)
            .values(values)
            .returning(t::id)
            .get_result(tx.conn())
            .await?;
    } else {
        diesel::update(t::table.filter(t::id.eq(record.id))).set(values).execute(tx.conn()).await?;
    }
    Ok(record)
}

/// Marks a record solved, unless it is.
pub(super) async fn resolve(tx: &mut Tx, mut record: ErrorRecord, notes: &str) -> OpResult<()> {
    if record.recovery_status == RecoveryStatus::Resolved {
        return Ok(());
    }
    let now = tx.now().await?;
    record.recovery_status = RecoveryStatus::Resolved;
    record.next_retry_at = None;
    record.resolved_at = Some(now);
    record.resolution_notes = Some(notes.to_owned());
    record.updated_at = now;
    let record = save(tx, record).await?;
    tx.event(error_event(&record, "error_resolved"));
    Ok(())
}

pub(crate) async fn error_get(tx: &mut Tx, id: &i64) -> OpResult<ErrorRecord> {
    let row: Option<ErrorRow> = t::table
        .filter(t::id.eq(*id))
        .select(ErrorRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("error", id))?.try_into()
}

fn filtered(filter: &ErrorFilter) -> t::BoxedQuery<'static, Db> {
    let mut query = t::table.into_boxed::<Db>();
    if let Some(schedule) = filter.schedule_id {
        query = query.filter(t::schedule_id.eq(schedule));
    }
    query = match filter.recovery_statuses.as_slice() {
        [] => query,
        [one] => query.filter(t::recovery_status.eq(one.as_str())),
        several => {
            let words: Vec<&'static str> = several.iter().map(|status| status.as_str()).collect();
            query.filter(t::recovery_status.eq_any(words))
        }
    };
    match filter.severities.as_slice() {
        [] => query,
        [one] => query.filter(t::severity.eq(one.as_str())),
        several => {
            let words: Vec<&'static str> = several.iter().map(|one| one.as_str()).collect();
            query.filter(t::severity.eq_any(words))
        }
    }
}

pub(crate) async fn error_list(
    tx: &mut Tx,
    filter: &ErrorFilter,
    page: &PageRequest,
) -> OpResult<Page<ErrorRecord>> {
    page_of!(tx, *page, filtered(filter), t::id, ErrorRow)
}

pub(crate) async fn error_decide(
    tx: &mut Tx,
    id: &i64,
    verdict: &ErrorVerdict,
) -> OpResult<ErrorRecord> {
    let mut record = lock(tx, *id).await?.ok_or_else(|| not_found("error", id))?;
    if record.recovery_status == RecoveryStatus::Resolved {
        return Err(wrong_state("wrong_state", "the error is resolved already"));
    }
    let now = tx.now().await?;
    let was = record.recovery_status;
    let (status, notes, event) = match verdict {
        ErrorVerdict::Resolve { notes } => (RecoveryStatus::Resolved, notes, "error_resolved"),
        ErrorVerdict::Ignore { notes } => (RecoveryStatus::Ignored, notes, "error_ignored"),
        ErrorVerdict::Escalate { notes } => (RecoveryStatus::Escalated, notes, "error_escalated"),
    };
    if record.next_retry_at.is_some() {
        tx.changed(Topic::Retries);
    }
    record.recovery_status = status;
    record.next_retry_at = None;
    record.resolved_at = (status != RecoveryStatus::Escalated).then_some(now);
    record.resolution_notes.clone_from(notes);
    record.updated_at = now;
    let record = save(tx, record).await?;
    tx.audit_change(|| {
        let after = json!({
            "recoveryStatus": status, "resolutionNotes": notes, "assignee": record.assignee,
        });
        (json!({ "recoveryStatus": was }), after)
    });
    tx.event(error_event(&record, event));
    if status == RecoveryStatus::Escalated {
        let key = ExecutionKey::Id(record.execution_id);
        let newest = executions::execution_get(tx, &key).await?;
        if dead_letters::lock_open(tx, &newest).await?.is_empty() {
            dead_letters::add(tx, &record, &newest, CAUSE_ESCALATED).await?;
        }
    } else {
        for letter in dead_letters::lock_of_chain(tx, record.chain_id).await? {
            dead_letters::set_status(tx, letter, DeadLetterStatus::Recovered, None).await?;
        }
    }
    Ok(record)
}

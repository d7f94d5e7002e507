//! Groups of errors: counted where attempts end, resolved as a whole.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::super::{Db, locked};
use super::{Tx, errors};
use crate::domain::error_record::{ErrorRecord, FailureEntry, GroupStatus, RecoveryStatus};
use crate::domain::event::{GroupFacts, error_group_event};
use crate::store::conversions::without_raw_nul;
use crate::store::op::{OpResult, not_found};
use crate::store::recovery_rows::{ErrorGroupRaw, ErrorGroupValues};
use crate::store::schema::{error_groups as t, error_records};
use crate::store::sql_types::Instant;
use crate::store::{
    Chosen, ErrorGroup, ErrorGroupFilter, ErrorVerdict, Finish, GroupResolution, KeysetPage,
    KeysetRequest,
};

async fn lock(tx: &mut Tx, fingerprint: &str) -> OpResult<Option<ErrorGroup>> {
    let row: Option<ErrorGroupRaw> =
        locked!(t::table.filter(t::fingerprint.eq(fingerprint)).select(ErrorGroupRaw::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    row.map(ErrorGroup::try_from).transpose()
}

async fn write(tx: &mut Tx, group: &ErrorGroup) -> OpResult<()> {
    diesel::update(t::table.filter(t::id.eq(group.id)))
        .set(ErrorGroupValues::of(group))
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Counts failed attempts. One that began after its group was resolved says that the cure was none.
pub(super) async fn count(tx: &mut Tx, ended: &[&Finish]) -> OpResult<()> {
    // By fingerprint: two batches that meet take their locks in the same order.
    let mut groups: BTreeMap<&str, Vec<(&Finish, &FailureEntry)>> = BTreeMap::new();
    for finish in ended {
        if let Some(failure) = &finish.failure {
            groups.entry(&failure.fingerprint).or_default().push((finish, failure));
        }
    }
    for (fingerprint, failures) in groups {
        let found = match lock(tx, fingerprint).await? {
            Some(group) => group,
            None => make(tx, &failures).await?,
        };
        add(tx, found, &failures).await?;
    }
    Ok(())
}

/// An empty group, or the one that another transaction just made.
async fn make(tx: &mut Tx, failures: &[(&Finish, &FailureEntry)]) -> OpResult<ErrorGroup> {
    let now = tx.now().await?;
    let Some((finish, failure)) = failures.first() else {
        return Err(not_found("error group", ""));
    };
    let kind = finish.error.as_ref().map_or(finish.status.as_str(), |error| error.kind.as_str());
    let group = ErrorGroup {
        id: 0,
        fingerprint: failure.fingerprint.clone(),
        error_type: failure.error_type,
        task_type: finish.row.new.task.task_type.clone(),
        kind: without_raw_nul(kind.to_owned()),
        exit_code: failure.exit_code,
        pattern: without_raw_nul(failure.pattern.clone()),
        message: String::new(),
        occurrences: 0,
        first_seen_at: now,
        last_seen_at: now,
        last_execution_id: finish.row.id,
        last_schedule_id: finish.row.new.schedule_id,
        status: GroupStatus::Open,
        resolved_at: None,
        resolved_by: None,
        resolution_notes: None,
        regressed_at: None,
        regressions: 0,
    };
    diesel::insert_into(t::table)
        .values(ErrorGroupValues::of(&group))
        .on_conflict_do_nothing()
        .execute(tx.conn())
        .await?;
    let made = lock(tx, &group.fingerprint).await?;
    made.ok_or_else(|| not_found("error group", &group.fingerprint))
}

async fn add(
    tx: &mut Tx,
    mut group: ErrorGroup,
    failures: &[(&Finish, &FailureEntry)],
) -> OpResult<()> {
    let now = tx.now().await?;
    let mut has_regressed = false;
    for (finish, _) in failures {
        group.occurrences += 1;
        group.last_seen_at = now;
        group.last_execution_id = finish.row.id;
        group.last_schedule_id = finish.row.new.schedule_id;
        if let Some(error) = &finish.error {
            group.message = without_raw_nul(error.message.clone());
        }
        let began = finish.row.started_at;
        if group.status == GroupStatus::Resolved && began > group.resolved_at {
            group.status = GroupStatus::Regressed;
            group.regressed_at = Some(now);
            group.regressions += 1;
            has_regressed = true;
        }
    }
    write(tx, &group).await?;
    if has_regressed {
        tx.event(error_group_event(&group_facts(&group), "error_regressed"));
    }
    Ok(())
}

/// What an event tells of a group.
fn group_facts(group: &ErrorGroup) -> GroupFacts<'_> {
    GroupFacts {
        id: group.id,
        fingerprint: &group.fingerprint,
        status: group.status,
        kind: &group.kind,
        message: &group.message,
        occurrences: group.occurrences,
        regressions: group.regressions,
        schedule_id: group.last_schedule_id,
        execution_id: group.last_execution_id,
        by: group.resolved_by.as_deref(),
        notes: group.resolution_notes.as_deref(),
    }
}

pub(crate) async fn error_group_list(
    tx: &mut Tx,
    filter: &ErrorGroupFilter,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<ErrorGroup>> {
    let mut query = t::table.select(ErrorGroupRaw::as_select()).into_boxed::<Db>();
    if !filter.statuses.is_empty() {
        let words: Vec<&'static str> = filter.statuses.iter().map(|one| one.as_str()).collect();
        query = query.filter(t::status.eq_any(words));
    }
    if let Some(since) = filter.since {
        query = query.filter(t::last_seen_at.ge(Instant(since)));
    }
    if let Some(below) = page.below {
        query = query.filter(t::id.lt(below));
    }
    let rows: Vec<ErrorGroupRaw> =
        query.order(t::id.desc()).limit(page.limit + 1).load(tx.conn()).await?;
    let rows = rows.into_iter().map(ErrorGroup::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, rows, |row| row.id))
}

pub(crate) async fn error_group_get(tx: &mut Tx, fingerprint: &str) -> OpResult<ErrorGroup> {
    let row: Option<ErrorGroupRaw> = t::table
        .filter(t::fingerprint.eq(fingerprint))
        .select(ErrorGroupRaw::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("error group", fingerprint))?.try_into()
}

/// Resolves a group and the records of it that are not; gives the records.
pub(crate) async fn error_group_resolve(
    tx: &mut Tx,
    order: &GroupResolution,
) -> OpResult<(ErrorGroup, Chosen<ErrorRecord>)> {
    let unsolved = || {
        error_records::table
            .filter(error_records::fingerprint.eq(&order.fingerprint))
            .filter(error_records::recovery_status.ne(RecoveryStatus::Resolved.as_str()))
    };
    let total: i64 = unsolved().count().get_result(tx.conn()).await?;
    let ids: Vec<i64> = unsolved()
        .order(error_records::id.asc())
        .limit(order.limit)
        .select(error_records::id)
        .load(tx.conn())
        .await?;
    let mut items = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(record) = errors::lock(tx, id).await? else { continue };
        if record.recovery_status != RecoveryStatus::Resolved {
            let verdict = ErrorVerdict::Resolve { notes: order.notes.clone() };
            items.push(errors::error_decide(tx, &id, &verdict).await?);
        }
    }
    let fingerprint = &order.fingerprint;
    let found = lock(tx, fingerprint).await?;
    let mut group = found.ok_or_else(|| not_found("error group", fingerprint))?;
    let was = group.status;
    group.status = GroupStatus::Resolved;
    group.resolved_at = Some(tx.now().await?);
    group.resolved_by = Some(order.by.clone());
    group.resolution_notes.clone_from(&order.notes);
    write(tx, &group).await?;
    tx.event(error_group_event(&group_facts(&group), "error_group_resolved"));
    let done = i64::try_from(items.len()).unwrap_or(i64::MAX);
    tx.audit_subject(fingerprint);
    tx.audit_change(|| {
        let after = json!({
            "status": group.status, "resolutionNotes": order.notes, "resolvedErrors": done,
        });
        (json!({ "status": was }), after)
    });
    Ok((group, Chosen { items, remaining: (total - done).max(0) }))
}

//! Alerts: loaded into a book, planned there, and saved; listed, acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use super::super::Db;
use super::{Tx, alert_rules};
use crate::domain::alert::plan::{Book, Turn};
use crate::domain::alert::rule::AlertRule;
use crate::domain::alert::{Alert, AlertState, Subject, alert_event};
use crate::store::alert_rows::{AlertRow, AlertValues, SubjectRow, written};
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::{alert_subjects as s, alerts as t};
use crate::store::sql_types::Instant;
use crate::store::{AlertFilter, AlertsDone, KeysetPage, KeysetRequest};

/// A book and what its alerts' subjects were.
pub(super) struct Loaded {
    pub(super) book: Book,
    before: HashMap<i64, BTreeMap<String, Subject>>,
}

/// The open alerts of these groups, and whatever these subjects keep open.
pub(super) async fn load_touched(
    tx: &mut Tx,
    groups: &[(i64, String)],
    subjects: Vec<String>,
) -> OpResult<Loaded> {
    // Each once: what is bound to a statement is limited.
    let rules: BTreeSet<i64> = groups.iter().map(|(rule, _)| *rule).collect();
    let keys: BTreeSet<&str> = groups.iter().map(|(_, key)| key.as_str()).collect();
    let mut rows: Vec<AlertRow> = t::table
        .filter(t::rule_id.eq_any(rules.into_iter().collect::<Vec<_>>()))
        .filter(t::group_key.eq_any(keys.into_iter().collect::<Vec<_>>()))
        .filter(sql::<Bool>("state <> 'cleared'"))
        .select(AlertRow::as_select())
        .load(tx.conn())
        .await?;
    let kept: Vec<i64> = s::table
        .filter(s::subject.eq_any(subjects))
        .select(s::alert_id)
        .distinct()
        .load(tx.conn())
        .await?;
    let missing: Vec<i64> =
        kept.into_iter().filter(|id| rows.iter().all(|row| row.id != *id)).collect();
    if !missing.is_empty() {
        let more: Vec<AlertRow> = t::table
            .filter(t::id.eq_any(missing))
            .select(AlertRow::as_select())
            .load(tx.conn())
            .await?;
        rows.extend(more);
    }
    with_subjects(tx, rows).await
}

/// The alerts that are to be looked at by `now`, at most `limit`.
pub(super) async fn load_due(tx: &mut Tx, now: Instant, limit: i64) -> OpResult<Loaded> {
    let rows: Vec<AlertRow> = t::table
        .filter(t::next_at.le(now))
        .order((t::next_at.asc(), t::id.asc()))
        .limit(limit)
        .select(AlertRow::as_select())
        .load(tx.conn())
        .await?;
    with_subjects(tx, rows).await
}

async fn with_subjects(tx: &mut Tx, rows: Vec<AlertRow>) -> OpResult<Loaded> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let found: Vec<SubjectRow> = if ids.is_empty() {
        Vec::new()
    } else {
        s::table
            .filter(s::alert_id.eq_any(ids))
            .select(SubjectRow::as_select())
            .load(tx.conn())
            .await?
    };
    let mut before: HashMap<i64, BTreeMap<String, Subject>> = HashMap::new();
    for row in found {
        let (alert, name, subject) = row.subject()?;
        before.entry(alert).or_default().insert(name, subject);
    }
    let mut alerts = Vec::with_capacity(rows.len());
    for row in rows {
        let mut alert = Alert::try_from(row)?;
        alert.subjects = before.get(&alert.id).cloned().unwrap_or_default();
        alerts.push(alert);
    }
    Ok(Loaded { book: Book::of(alerts), before })
}

/// Writes what a book changed, and the events of what became of its alerts.
pub(super) async fn save(
    tx: &mut Tx,
    loaded: &mut Loaded,
    rules: &[AlertRule],
) -> OpResult<AlertsDone> {
    let changed: Vec<usize> = loaded.book.changed.iter().copied().collect();
    // Those that are over first: a new alert of the same group may follow one that was cleared.
    let is_over = |place: &usize| {
        loaded.book.alerts.get(*place).is_some_and(|alert| alert.state == AlertState::Cleared)
    };
    let (over, open): (Vec<usize>, Vec<usize>) = changed.into_iter().partition(is_over);
    for place in over.into_iter().chain(open) {
        let Some(alert) = loaded.book.alerts.get_mut(place) else { continue };
        let rule = rules.iter().find(|rule| rule.id == alert.rule_id);
        save_one(tx, alert, rule, loaded.before.get(&alert.id)).await?;
    }
    let mut done = AlertsDone::default();
    for (place, turn) in &loaded.book.turns {
        let Some(alert) = loaded.book.alerts.get(*place) else { continue };
        match turn {
            Turn::Raised => {
                done.raised += 1;
                tx.event(alert_event(alert, "alert_raised"));
            }
            Turn::Cleared => {
                done.cleared += 1;
                tx.event(alert_event(alert, "alert_cleared"));
            }
        }
    }
    Ok(done)
}

async fn save_one(
    tx: &mut Tx,
    alert: &mut Alert,
    rule: Option<&AlertRule>,
    before: Option<&BTreeMap<String, Subject>>,
) -> OpResult<()> {
    let values = AlertValues::of(alert, alert.next_at(rule))?;
    if alert.id == 0 {
        if alert.is_void() {
            return Ok(());
        }
        alert.id = diesel::insert_into(t::table)
            .values(values)
            .returning(t::id)
            .get_result(tx.conn())
            .await?;
    } else if alert.is_void() {
        diesel::delete(t::table.filter(t::id.eq(alert.id))).execute(tx.conn()).await?;
    } else {
        diesel::update(t::table.filter(t::id.eq(alert.id))).set(values).execute(tx.conn()).await?;
    }
    let none = BTreeMap::new();
    let before = before.unwrap_or(&none);
    let gone: Vec<&String> = before
        .iter()
        .filter(|(name, was)| alert.subjects.get(*name) != Some(*was))
        .map(|(n, _)| n)
        .collect();
    if !gone.is_empty() {
        diesel::delete(s::table.filter(s::alert_id.eq(alert.id)).filter(s::subject.eq_any(gone)))
            .execute(tx.conn())
            .await?;
    }
    for (name, subject) in &alert.subjects {
        if before.get(name) == Some(subject) {
            continue;
        }
        let row = SubjectRow {
            subject: name.clone(),
            alert_id: alert.id,
            ripe_at: subject.ripe_at.map(Instant),
            severity: subject.severity.as_str().to_owned(),
            sample: written(&subject.sample)?,
        };
        diesel::insert_into(s::table).values(row).execute(tx.conn()).await?;
    }
    Ok(())
}

/// Ends what a rule has open, told or not: the rule is no more in force.
pub(super) async fn close_of_rule(tx: &mut Tx, rule_id: i64) -> OpResult<()> {
    let now = tx.now().await?;
    let rows: Vec<AlertRow> = t::table
        .filter(t::rule_id.eq(rule_id))
        .filter(sql::<Bool>("(state <> 'cleared' OR next_at IS NOT NULL)"))
        .select(AlertRow::as_select())
        .load(tx.conn())
        .await?;
    for row in rows {
        let mut alert = Alert::try_from(row)?;
        let was_shown = matches!(alert.state, AlertState::Firing | AlertState::Acknowledged);
        alert.cleared_at = alert.cleared_at.or(Some(now));
        alert.state = AlertState::Cleared;
        alert.due_at = None;
        diesel::delete(s::table.filter(s::alert_id.eq(alert.id))).execute(tx.conn()).await?;
        let mine = t::table.filter(t::id.eq(alert.id));
        if alert.is_void() {
            diesel::delete(mine).execute(tx.conn()).await?;
            continue;
        }
        diesel::update(mine).set(AlertValues::of(&alert, None)?).execute(tx.conn()).await?;
        if was_shown {
            tx.event(alert_event(&alert, "alert_cleared"));
        }
    }
    Ok(())
}

pub(crate) async fn alert_get(tx: &mut Tx, id: &i64) -> OpResult<Alert> {
    let row: Option<AlertRow> = t::table
        .filter(t::id.eq(*id))
        .filter(sql::<Bool>("state <> 'pending'"))
        .select(AlertRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("alert", id))?.try_into()
}

pub(crate) async fn alert_list(
    tx: &mut Tx,
    filter: &AlertFilter,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<Alert>> {
    let mut query = t::table.into_boxed::<Db>();
    if filter.states.is_empty() {
        query = query.filter(sql::<Bool>("state <> 'pending'"));
    } else {
        let words: Vec<&'static str> = filter.states.iter().map(|state| state.as_str()).collect();
        query = query.filter(t::state.eq_any(words));
    }
    if !filter.severities.is_empty() {
        let words: Vec<&'static str> = filter.severities.iter().map(|one| one.as_str()).collect();
        query = query.filter(t::severity.eq_any(words));
    }
    if let Some(rule) = filter.rule_id {
        query = query.filter(t::rule_id.eq(rule));
    }
    if let Some(schedule) = filter.schedule_id {
        query = query.filter(t::schedule_id.eq(schedule));
    }
    let rows: Vec<AlertRow> = query
        .filter(t::id.lt(page.below.unwrap_or(i64::MAX)))
        .order(t::id.desc())
        .limit(page.limit + 1)
        .select(AlertRow::as_select())
        .load(tx.conn())
        .await?;
    let alerts = rows.into_iter().map(TryInto::try_into).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, alerts, |alert: &Alert| alert.id))
}

pub(crate) async fn alert_acknowledge(
    tx: &mut Tx,
    id: &i64,
    by: &str,
    reason: &Option<String>,
) -> OpResult<Alert> {
    alert_rules::lock_cursor(tx).await?;
    let alert = alert_get(tx, id).await?;
    if alert.state != AlertState::Firing {
        let detail = format!("this alert is {}, so it is not acknowledged", alert.state);
        return Err(wrong_state("wrong_state", detail));
    }
    let now = Instant(tx.now().await?);
    diesel::update(t::table.filter(t::id.eq(*id)))
        .set((
            t::state.eq("acknowledged"),
            t::acknowledged_at.eq(Some(now)),
            t::acknowledged_by.eq(Some(by)),
            t::acknowledge_reason.eq(reason),
        ))
        .execute(tx.conn())
        .await?;
    let alert = alert_get(tx, id).await?;
    tx.event(alert_event(&alert, "alert_acknowledged"));
    Ok(alert)
}

//! Alert rules. Whoever changes them locks the cursor first and moves its stamp, so that events
//! are never matched with rules of two times.

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::locked;
use super::{Tx, alert_channels, alerts, idempotency};
use crate::domain::alert::rule::AlertRule;
use crate::store::alert_rows::{RuleRow, written};
use crate::store::op::{OpError, OpResult, not_found, wrong_state};
use crate::store::schema::{alert_cursor, alert_rules as t, event_counter};
use crate::store::sql_types::Instant;
use crate::store::{
    ALERT_RULES_MAX, AlertRuleChange, Creation, Idempotency, KeysetPage, KeysetRequest,
    NewAlertRule, StoreError, Topic,
};

/// Locks the cursor: the event up to which alerts were made, and the stamp of the rules.
pub(super) async fn lock_cursor(tx: &mut Tx) -> OpResult<(i64, i64)> {
    Ok(locked!(alert_cursor::table.select((alert_cursor::seq, alert_cursor::stamp)))
        .get_result(tx.conn())
        .await?)
}

async fn next_stamp(tx: &mut Tx) -> OpResult<()> {
    diesel::update(alert_cursor::table)
        .set(alert_cursor::stamp.eq(alert_cursor::stamp + 1))
        .execute(tx.conn())
        .await?;
    tx.changed(Topic::State);
    Ok(())
}

/// The rules in force, oldest first.
pub(super) async fn enabled(tx: &mut Tx) -> OpResult<Vec<AlertRule>> {
    let rows: Vec<RuleRow> = t::table
        .filter(t::enabled.eq(true))
        .order(t::id.asc())
        .select(RuleRow::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// The newest event; a rule that comes into force looks at what follows.
async fn newest(tx: &mut Tx) -> OpResult<i64> {
    Ok(event_counter::table.select(event_counter::last).get_result(tx.conn()).await?)
}

fn duplicate(name: &str) -> OpError {
    OpError::Rule(StoreError::Duplicate { what: "name", value: name.to_owned() })
}

/// Channels are named, and must be there.
async fn check_channels(tx: &mut Tx, rule: &NewAlertRule) -> OpResult<()> {
    for name in &rule.spec.channels {
        if alert_channels::find(tx, name).await?.is_none() {
            let detail = format!("there is no channel `{name}`; make it first");
            return Err(wrong_state("unknown_channel", detail));
        }
    }
    Ok(())
}

pub(crate) async fn alert_rule_create(
    tx: &mut Tx,
    rule: &NewAlertRule,
    kept: &Option<Idempotency<AlertRule>>,
) -> OpResult<Creation<AlertRule>> {
    if let Some(answer) = idempotency::find(tx, kept.as_ref()).await? {
        return Ok(Creation::Replayed(answer));
    }
    lock_cursor(tx).await?;
    check_channels(tx, rule).await?;
    let count: i64 = t::table.select(count_star()).get_result(tx.conn()).await?;
    if count >= ALERT_RULES_MAX {
        let detail = format!("there are {ALERT_RULES_MAX} alert rules already");
        return Err(wrong_state("too_many", detail));
    }
    let (now, from) = (Instant(tx.now().await?), newest(tx).await?);
    let row: Option<RuleRow> = diesel::insert_into(t::table)
        .values((
            t::name.eq(&rule.name),
            t::enabled.eq(rule.enabled),
            t::spec.eq(written(&rule.spec)?),
            t::from_seq.eq(from),
            t::version.eq(1_i64),
            t::created_at.eq(now),
            t::updated_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .returning(RuleRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let made: AlertRule = row.ok_or_else(|| duplicate(&rule.name))?.try_into()?;
    next_stamp(tx).await?;
    idempotency::save(tx, kept.as_ref(), (&made, false)).await?;
    Ok(Creation::New(made))
}

pub(crate) async fn alert_rule_get(tx: &mut Tx, id: &i64) -> OpResult<AlertRule> {
    let row: Option<RuleRow> = t::table
        .filter(t::id.eq(*id))
        .select(RuleRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("alert rule", id))?.try_into()
}

pub(crate) async fn alert_rule_list(
    tx: &mut Tx,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<AlertRule>> {
    let rows: Vec<RuleRow> = t::table
        .filter(t::id.lt(page.below.unwrap_or(i64::MAX)))
        .order(t::id.desc())
        .limit(page.limit + 1)
        .select(RuleRow::as_select())
        .load(tx.conn())
        .await?;
    let rules = rows.into_iter().map(TryInto::try_into).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, rules, |rule: &AlertRule| rule.id))
}

pub(crate) async fn alert_rule_update(
    tx: &mut Tx,
    change: &AlertRuleChange,
) -> OpResult<AlertRule> {
    lock_cursor(tx).await?;
    let before = alert_rule_get(tx, &change.id).await?;
    if before.version != change.expected_version {
        let (expected, actual) = (change.expected_version, before.version);
        return Err(OpError::Rule(StoreError::VersionConflict { expected, actual }));
    }
    let rule = &change.rule;
    check_channels(tx, rule).await?;
    let other: Option<i64> = t::table
        .filter(t::name.eq(&rule.name))
        .filter(t::id.ne(change.id))
        .select(t::id)
        .get_result(tx.conn())
        .await
        .optional()?;
    if other.is_some() {
        return Err(duplicate(&rule.name));
    }
    let from = if rule.enabled && !before.enabled { newest(tx).await? } else { before.from_seq };
    let now = Instant(tx.now().await?);
    diesel::update(t::table.filter(t::id.eq(change.id)))
        .set((
            t::name.eq(&rule.name),
            t::enabled.eq(rule.enabled),
            t::spec.eq(written(&rule.spec)?),
            t::from_seq.eq(from),
            t::version.eq(before.version + 1),
            t::updated_at.eq(now),
        ))
        .execute(tx.conn())
        .await?;
    if before.enabled && !rule.enabled {
        alerts::close_of_rule(tx, change.id).await?;
    }
    next_stamp(tx).await?;
    alert_rule_get(tx, &change.id).await
}

pub(crate) async fn alert_rule_delete(tx: &mut Tx, id: &i64) -> OpResult<()> {
    lock_cursor(tx).await?;
    alert_rule_get(tx, id).await?;
    alerts::close_of_rule(tx, *id).await?;
    diesel::delete(t::table.filter(t::id.eq(*id))).execute(tx.conn()).await?;
    next_stamp(tx).await
}

/// Names of the rules that tell a channel.
pub(super) async fn naming_channel(tx: &mut Tx, name: &str) -> OpResult<Vec<String>> {
    let rows: Vec<RuleRow> = t::table.select(RuleRow::as_select()).load(tx.conn()).await?;
    let rules = rows.into_iter().map(TryInto::try_into).collect::<OpResult<Vec<AlertRule>>>()?;
    let naming = rules.into_iter().filter(|rule| rule.spec.channels.iter().any(|one| one == name));
    Ok(naming.map(|rule| rule.name).collect())
}

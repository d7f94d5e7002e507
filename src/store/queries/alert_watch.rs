//! From events to alerts: looked at by reading, made by one transaction that moves the cursor.
//!
//! Events that mean nothing to any rule cost a read and no write. Of several nodes that look at
//! the same events one finds the cursor where it expects it; the others look again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Tx, alert_messages, alert_rules, alerts, events};
use crate::clock::Timestamp;
use crate::domain::alert::kinds::{self, Step};
use crate::domain::alert::message::Notice;
use crate::domain::alert::rule::AlertRule;
use crate::domain::event::Event;
use crate::store::alert_rows::read;
use crate::store::op::OpResult;
use crate::store::schema::{
    alert_cursor, alert_subjects, alerts as alert_table, event_chunks, task_schedules,
};
use crate::store::sql_types::{Instant, JsonDoc};
use crate::store::{AlertAdvance, AlertRules, AlertScan, AlertsDone, Topic};

/// Events looked at in one go.
const EVENTS_MAX: i64 = 2_000;
/// Alerts handled in one transaction; a digest has as many at most.
const ALERTS_MAX: i64 = 200;

/// Reads on from `after` with the rules that are known, or from the cursor when they changed.
pub(crate) async fn alert_scan(
    tx: &mut Tx,
    known: &Arc<AlertRules>,
    after: &i64,
) -> OpResult<AlertScan> {
    let (cursor, stamp): (i64, i64) = alert_cursor::table
        .select((alert_cursor::seq, alert_cursor::stamp))
        .get_result(tx.conn())
        .await?;
    let is_known = known.stamp == stamp;
    let rules = if is_known {
        Arc::clone(known)
    } else {
        Arc::new(AlertRules { stamp, rules: alert_rules::enabled(tx).await? })
    };
    let now = tx.now().await?;
    let mut scan = AlertScan {
        rules,
        cursor,
        scanned: cursor,
        steps: Vec::new(),
        has_more: false,
        next_at: None,
        now,
    };
    let Some(first) = scan.rules.rules.iter().map(|rule| rule.from_seq).min() else {
        return Ok(scan);
    };
    let start = if is_known { cursor.max(*after) } else { cursor };
    let (steps, scanned, has_more) = look(tx, &scan.rules.rules, start.max(first)).await?;
    (scan.steps, scan.scanned, scan.has_more) = (steps, scanned, has_more);
    if scan.steps.iter().all(|step| matches!(step, Step::Ended { .. })) {
        keep_known_ends(tx, &mut scan.steps).await?;
    }
    let next: Option<Option<Instant>> = alert_table::table
        .filter(alert_table::next_at.is_not_null())
        .order(alert_table::next_at.asc())
        .select(alert_table::next_at)
        .first(tx.conn())
        .await
        .optional()?;
    scan.next_at = next.flatten().map(|at| at.0);
    Ok(scan)
}

/// What the events after `after` mean to rules, the number of the last one, and whether there are
/// more.
async fn look(tx: &mut Tx, rules: &[AlertRule], after: i64) -> OpResult<(Vec<Step>, i64, bool)> {
    let mut found = events::event_list(tx, &after, &EVENTS_MAX).await?;
    let scanned = found.last().map_or(after, |event| event.seq);
    let has_more = i64::try_from(found.len()).unwrap_or(i64::MAX) >= EVENTS_MAX;
    found.retain(|event| kinds::is_of_interest(&event.event_type));
    if rules.iter().any(|rule| !rule.spec.tags.is_empty()) {
        add_tags(tx, &mut found).await?;
    }
    let steps = found.iter().flat_map(|event| kinds::steps_of(rules, event)).collect();
    Ok((steps, scanned, has_more))
}

/// Events without tags get those of their schedule.
async fn add_tags(tx: &mut Tx, found: &mut [Event]) -> OpResult<()> {
    let bare = |event: &&mut Event| event.tags.is_empty();
    let ids: BTreeSet<i64> =
        found.iter_mut().filter(bare).filter_map(|event| event.schedule_id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let rows: Vec<(i64, JsonDoc)> = task_schedules::table
        .filter(task_schedules::id.eq_any(ids.into_iter().collect::<Vec<_>>()))
        .select((task_schedules::id, task_schedules::tags))
        .load(tx.conn())
        .await?;
    let mut tags: HashMap<i64, Vec<String>> = HashMap::new();
    for (id, document) in rows {
        tags.insert(id, read("tags", document.0)?);
    }
    for event in found.iter_mut().filter(bare) {
        let known = event.schedule_id.and_then(|id| tags.get(&id));
        event.tags = known.cloned().unwrap_or_default();
    }
    Ok(())
}

/// Ends of what no alert follows need no transaction.
async fn keep_known_ends(tx: &mut Tx, steps: &mut Vec<Step>) -> OpResult<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = steps.iter().filter_map(ended).map(str::to_owned).collect();
    let known: Vec<String> = alert_subjects::table
        .filter(alert_subjects::subject.eq_any(names))
        .select(alert_subjects::subject)
        .distinct()
        .load(tx.conn())
        .await?;
    steps.retain(|step| ended(step).is_some_and(|name| known.iter().any(|one| one == name)));
    Ok(())
}

fn ended(step: &Step) -> Option<&str> {
    match step {
        Step::Ended { subject, .. } => Some(subject),
        Step::Seen(_) => None,
    }
}

/// Makes alerts of events and moves the cursor past them; `None`, and nothing done, when cursor or
/// rules are not what the events were looked at with.
pub(crate) async fn alert_advance(
    tx: &mut Tx,
    advance: &AlertAdvance,
) -> OpResult<Option<AlertsDone>> {
    let (cursor, stamp) = alert_rules::lock_cursor(tx).await?;
    if (cursor, stamp) != (advance.cursor, advance.stamp) {
        return Ok(None);
    }
    let mut done = AlertsDone::default();
    if !advance.steps.is_empty() {
        let rules = alert_rules::enabled(tx).await?;
        let mut groups = BTreeSet::new();
        let mut subjects = BTreeSet::new();
        for step in &advance.steps {
            match step {
                Step::Seen(seen) => {
                    groups.insert((seen.rule_id, seen.group_key.clone()));
                }
                Step::Ended { subject, .. } => {
                    subjects.insert(subject.clone());
                }
            }
        }
        let groups: Vec<_> = groups.into_iter().collect();
        let mut loaded = alerts::load_touched(tx, &groups, subjects.into_iter().collect()).await?;
        for step in &advance.steps {
            loaded.book.take(&rules, step);
        }
        done = alerts::save(tx, &mut loaded, &rules).await?;
    }
    diesel::update(alert_cursor::table)
        .set(alert_cursor::seq.eq(advance.to))
        .execute(tx.conn())
        .await?;
    Ok(Some(done))
}

/// Does what is due by now: counts what grew old, makes messages, ends what is over.
pub(crate) async fn alert_tick(tx: &mut Tx) -> OpResult<AlertsDone> {
    alert_rules::lock_cursor(tx).await?;
    let now = tx.now().await?;
    let rules = alert_rules::enabled(tx).await?;
    let mut loaded = alerts::load_due(tx, Instant(now), ALERTS_MAX).await?;
    let dispatches = loaded.book.tick(&rules, now);
    let mut done = alerts::save(tx, &mut loaded, &rules).await?;
    done.has_more = i64::try_from(loaded.book.alerts.len()).unwrap_or(i64::MAX) >= ALERTS_MAX;
    for dispatch in dispatches {
        let Some(rule) = rules.iter().find(|rule| rule.id == dispatch.rule_id) else { continue };
        let told: Vec<_> =
            dispatch.alerts.iter().filter_map(|place| loaded.book.alerts.get(*place)).collect();
        let notice = Notice::of(dispatch.kind, &rule.name, &told, now);
        for channel in &rule.spec.channels {
            done.messages += alert_messages::add(tx, channel, Some(&rule.name), &notice).await?;
        }
    }
    if done.messages > 0 {
        tx.changed(Topic::State);
    }
    Ok(done)
}

/// For a preview: what the events after `after` mean to a rule.
pub(crate) async fn alert_look_back(
    tx: &mut Tx,
    rule: &AlertRule,
    after: &i64,
) -> OpResult<(Vec<Step>, i64, bool)> {
    look(tx, std::slice::from_ref(rule), *after).await
}

/// The number before the first kept event that was written at or after `at`.
pub(crate) async fn alert_events_before(tx: &mut Tx, at: &Timestamp) -> OpResult<i64> {
    let first: Option<i64> = event_chunks::table
        .filter(event_chunks::at.ge(Instant(*at)))
        .order(event_chunks::last_seq.asc())
        .select(event_chunks::first_seq)
        .first(tx.conn())
        .await
        .optional()?;
    match first {
        Some(first) => Ok(first - 1),
        None => Ok(events::event_bounds(tx).await?.1),
    }
}

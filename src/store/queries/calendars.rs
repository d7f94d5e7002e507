//! Calendars: made, edited, listed, deleted, and the schedules that obey them.
//!
//! A schedule names its calendars; `schedule_calendars` says so too, so that an edit finds them. An
//! edit plans them anew in its own transaction and gives them a new version: a firing that was
//! planned under the old calendar is stale.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::super::{Db, locked};
use super::{Tx, idempotency, ledger, schedules};
use crate::domain::calendar::{Calendar, Coverage};
use crate::domain::event::{NewEvent, Room, plain_event, schedule_event};
use crate::domain::replan::replan;
use crate::domain::schedule::{Schedule, ScheduleDefinition};
use crate::store::models::{CalendarRow, ScheduleRow};
use crate::store::op::{OpError, OpResult, not_found, wrong_state};
use crate::store::schema::{calendars as t, schedule_calendars as links, task_schedules};
use crate::store::sql_types::Instant;
use crate::store::{
    CalendarChange, CalendarCreate, Creation, KeysetPage, KeysetRequest, MOVED_MEANWHILE,
    StoreError, Topic,
};

/// Schedules that one calendar may have at most: an edit plans them all anew at once.
const SCHEDULES_MAX: usize = 10_000;

pub(crate) async fn calendar_create(
    tx: &mut Tx,
    request: &CalendarCreate,
) -> OpResult<Creation<Calendar>> {
    let kept = request.idempotency.as_ref();
    if let Some(answer) = idempotency::find(tx, kept).await? {
        return Ok(Creation::Replayed(answer));
    }
    let now = Instant(tx.now().await?);
    let definition = &request.definition;
    let row: Option<CalendarRow> = diesel::insert_into(t::table)
        .values((
            t::name.eq(&definition.name),
            t::description.eq(definition.description.as_deref()),
            t::timezone.eq(&definition.timezone),
            t::entries.eq(CalendarRow::entries_of(definition)),
            t::created_at.eq(now),
            t::updated_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .returning(CalendarRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else {
        let value = definition.name.clone();
        return Err(OpError::Rule(StoreError::Duplicate { what: "name", value }));
    };
    let calendar = row.try_into()?;
    idempotency::save(tx, kept, (&calendar, false)).await?;
    tx.event(calendar_event("calendar_created", &calendar));
    Ok(Creation::New(calendar))
}

pub(crate) async fn calendar_get(tx: &mut Tx, id: &i64) -> OpResult<Calendar> {
    let row: Option<CalendarRow> = t::table
        .filter(t::id.eq(*id))
        .select(CalendarRow::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    row.ok_or_else(|| not_found("calendar", id))?.try_into()
}

pub(crate) async fn calendars_named(tx: &mut Tx, names: &[String]) -> OpResult<Vec<Calendar>> {
    let rows: Vec<CalendarRow> = t::table
        .filter(t::name.eq_any(names))
        .order(t::id.asc())
        .select(CalendarRow::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(Calendar::try_from).collect()
}

pub(crate) async fn calendar_list(
    tx: &mut Tx,
    request: &KeysetRequest,
) -> OpResult<KeysetPage<Calendar>> {
    let mut query = t::table.into_boxed::<Db>();
    if let Some(below) = request.below {
        query = query.filter(t::id.lt(below));
    }
    let rows: Vec<CalendarRow> = query
        .order(t::id.desc())
        .limit(request.limit.saturating_add(1))
        .select(CalendarRow::as_select())
        .load(tx.conn())
        .await?;
    let rows = rows.into_iter().map(Calendar::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*request, rows, |calendar| calendar.id))
}

async fn lock(tx: &mut Tx, id: i64) -> OpResult<Calendar> {
    let row: Option<CalendarRow> =
        locked!(t::table.filter(t::id.eq(id)).select(CalendarRow::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    row.ok_or_else(|| not_found("calendar", id))?.try_into()
}

/// The schedules that obey a calendar, locked.
async fn obeying(tx: &mut Tx, id: i64) -> OpResult<Vec<Schedule>> {
    let obeys = links::table
        .filter(links::calendar_id.eq(id))
        .filter(links::schedule_id.eq(task_schedules::id));
    let rows: Vec<ScheduleRow> = locked!(
        task_schedules::table
            .filter(exists(obeys))
            .order(task_schedules::id.asc())
            .select(ScheduleRow::as_select())
    )
    .load(tx.conn())
    .await?;
    rows.into_iter().map(Schedule::try_from).collect()
}

pub(crate) async fn calendar_update(tx: &mut Tx, change: &CalendarChange) -> OpResult<Calendar> {
    // Schedules are locked before calendars, as they are where a schedule is made or edited.
    let obeying = obeying(tx, change.id).await?;
    let current = lock(tx, change.id).await?;
    if current.version != change.expected_version {
        return Err(OpError::Rule(StoreError::VersionConflict {
            expected: change.expected_version,
            actual: current.version,
        }));
    }
    // One that came to obey it between the two locks would keep its old plan.
    let linked: i64 =
        links::table.filter(links::calendar_id.eq(change.id)).count().get_result(tx.conn()).await?;
    if usize::try_from(linked).ok() != Some(obeying.len()) {
        let detail = "a schedule came to use this calendar meanwhile; try again";
        return Err(wrong_state(MOVED_MEANWHILE, detail));
    }
    let now = tx.now().await?;
    let definition = &change.definition;
    let row: CalendarRow = diesel::update(t::table.filter(t::id.eq(change.id)))
        .set((
            t::description.eq(definition.description.as_deref()),
            t::timezone.eq(&definition.timezone),
            t::entries.eq(CalendarRow::entries_of(definition)),
            t::updated_at.eq(Instant(now)),
            t::version.eq(current.version + 1),
        ))
        .returning(CalendarRow::as_select())
        .get_result(tx.conn())
        .await?;
    let calendar = Calendar::try_from(row)?;
    tx.event(calendar_event("calendar_updated", &calendar));
    let moves = current.definition.entries != definition.entries
        || current.definition.timezone != definition.timezone;
    if moves {
        plan_anew(tx, &current, &calendar, obeying, &change.default_zone).await?;
    }
    Ok(calendar)
}

/// Plans the schedules under the calendar's new form.
async fn plan_anew(
    tx: &mut Tx,
    old: &Calendar,
    new: &Calendar,
    obeying: Vec<Schedule>,
    default_zone: &str,
) -> OpResult<()> {
    let mut others: Vec<String> = obeying
        .iter()
        .flat_map(|schedule| &schedule.definition.options.cadence.calendars)
        .map(|used| used.name.clone())
        .collect();
    others.sort_unstable();
    others.dedup();
    let others = calendars_named(tx, &others).await?;
    let coverages: HashMap<String, Arc<Coverage>> = others
        .iter()
        .map(|calendar| {
            let name = calendar.definition.name.clone();
            (name, Arc::new(Coverage::of(&calendar.definition)))
        })
        .collect();
    let of = |changed: &Calendar| {
        let coverage = Arc::new(Coverage::of(&changed.definition));
        let name = changed.definition.name.clone();
        let coverages = coverages.clone();
        move |wanted: &str| {
            if wanted == name {
                Some(Arc::clone(&coverage))
            } else {
                coverages.get(wanted).cloned()
            }
        }
    };
    let (before, after) = (of(old), of(new));
    let now = tx.now().await?;
    for mut schedule in obeying {
        let Ok(grid) = schedule.grid(default_zone) else { continue };
        let old = schedule.definition.ruled(grid.clone(), &before);
        let new = schedule.definition.ruled(grid, &after);
        let (Ok(old), Ok(new)) = (old, new) else { continue };
        let has_ended = !schedule.definition.enabled && schedule.next_run_at.is_none();
        if has_ended {
            continue;
        }
        let settled = ledger::ledger_last(tx, &schedule.id).await?.max(schedule.last_run_at);
        let plan = replan(&schedule, (&old, &new), now, settled);
        schedules::insert_ranges(tx, schedule.id, &plan.ledger, now).await?;
        schedule.next_run_at = plan.next_run_at;
        schedule.settled_at = Some(plan.settled_at);
        schedule.version += 1;
        diesel::update(task_schedules::table.filter(task_schedules::id.eq(schedule.id)))
            .set((
                task_schedules::next_run_at.eq(schedule.next_run_at.map(Instant)),
                task_schedules::settled_at.eq(schedule.settled_at.map(Instant)),
                task_schedules::updated_at.eq(Instant(now)),
                task_schedules::version.eq(schedule.version),
            ))
            .execute(tx.conn())
            .await?;
        tx.event(schedule_event(&schedule, "schedule_updated"));
        tx.changed(Topic::Schedules);
    }
    Ok(())
}

pub(crate) async fn calendar_delete(tx: &mut Tx, id: &i64) -> OpResult<()> {
    let calendar = lock(tx, *id).await?;
    let users: Vec<String> = task_schedules::table
        .inner_join(links::table.on(links::schedule_id.eq(task_schedules::id)))
        .filter(links::calendar_id.eq(*id))
        .order(task_schedules::id.asc())
        .limit(4)
        .select(task_schedules::name)
        .load(tx.conn())
        .await?;
    if !users.is_empty() {
        let name = &calendar.definition.name;
        let names: Vec<String> = users.iter().take(3).map(|user| format!("`{user}`")).collect();
        let more = if users.len() > 3 { " and others" } else { "" };
        let detail = format!(
            "the calendar `{name}` is used by {}{more}; take it out of them first",
            names.join(", ")
        );
        return Err(wrong_state("calendar_in_use", detail));
    }
    diesel::delete(t::table.filter(t::id.eq(*id))).execute(tx.conn()).await?;
    tx.event(calendar_event("calendar_deleted", &calendar));
    Ok(())
}

fn calendar_event(event_type: &'static str, calendar: &Calendar) -> NewEvent {
    let payload = json!({
        "id": calendar.id,
        "name": calendar.definition.name,
        "version": calendar.version,
    });
    plain_event(event_type, Room::Tasks, payload)
}

/// Notes which calendars a schedule obeys. `had` says whether it obeyed any before.
pub(super) async fn link(
    tx: &mut Tx,
    schedule_id: i64,
    definition: &ScheduleDefinition,
    had: bool,
) -> OpResult<()> {
    let used = &definition.options.cadence.calendars;
    if had {
        unlink(tx, schedule_id).await?;
    }
    if used.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = used.iter().map(|used| used.name.as_str()).collect();
    // Locked, so that none of them is deleted meanwhile.
    let found: Vec<(i64, String)> = locked!(
        t::table.filter(t::name.eq_any(&names)).order(t::id.asc()).select((t::id, t::name))
    )
    .load(tx.conn())
    .await?;
    for name in names {
        let Some((id, _)) = found.iter().find(|(_, known)| known == name) else {
            return Err(wrong_state("calendar_gone", format!("there is no calendar `{name}`")));
        };
        let count: i64 =
            links::table.filter(links::calendar_id.eq(*id)).count().get_result(tx.conn()).await?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= SCHEDULES_MAX {
            let detail = format!("the calendar `{name}` has {SCHEDULES_MAX} schedules already");
            return Err(wrong_state("calendar_full", detail));
        }
        diesel::insert_into(links::table)
            .values((links::schedule_id.eq(schedule_id), links::calendar_id.eq(*id)))
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

/// Forgets which calendars a schedule obeyed.
pub(super) async fn unlink(tx: &mut Tx, schedule_id: i64) -> OpResult<()> {
    diesel::delete(links::table.filter(links::schedule_id.eq(schedule_id)))
        .execute(tx.conn())
        .await?;
    Ok(())
}

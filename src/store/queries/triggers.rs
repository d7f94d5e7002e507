//! What becomes of stored events: executions, made in the transaction that marks them handled.
//!
//! An event is taken by one transaction (rows that another node is taking are passed over), and the
//! schedules that listen are locked in the order of their ids while it is judged, so that dedup
//! keys, places and collected events are counted by one at a time. `event_deliveries` has one row
//! for an event and a schedule: a second delivery would break its unique index, and nothing of that
//! transaction would stand. Lock order: events, schedules, executions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::TimeDelta;
use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::{locked, skip_locked};
use super::{Tx, creating, executions, inbox, state};
use crate::clock::Timestamp;
use crate::domain::event::schedule_event;
use crate::domain::execution::{Execution, NewExecution, Trigger};
use crate::domain::schedule::{OverlapPolicy, Schedule, ScheduleDefinition, ScheduleType};
use crate::domain::trigger::{
    Collected, Delivery, DeliveryOutcome, EventRule, Group, GroupDecision, InboxEvent, Listening,
    collect, dedup_hash, document_of, judge,
};
use crate::store::models::ScheduleRow;
use crate::store::op::{OpResult, corrupt};
use crate::store::schema::{
    event_deliveries as d, event_inbox, event_listeners, task_executions, task_schedules,
};
use crate::store::sql_types::Instant;
use crate::store::{ClaimHere, DeliveryRow, Dispatched, KeysetPage, KeysetRequest, Topic};
use crate::telemetry::TraceParent;

/// Where the scheduler's state is kept; while it is stopped, events wait.
const SCHEDULER_STATE: &str = "scheduler";

/// Writes under what a schedule is found, anew.
pub(super) async fn listen(tx: &mut Tx, id: i64, definition: &ScheduleDefinition) -> OpResult<()> {
    if definition.schedule_type != ScheduleType::Event {
        return Ok(());
    }
    let rule = rule_of(definition)?;
    let of_execution = rule.is_of_executions();
    for source in rule.keys() {
        diesel::insert_into(event_listeners::table)
            .values((
                event_listeners::source.eq(source),
                event_listeners::schedule_id.eq(id),
                event_listeners::of_execution.eq(of_execution),
            ))
            .on_conflict_do_nothing()
            .execute(tx.conn())
            .await?;
    }
    tx.changed(Topic::Inbox);
    Ok(())
}

/// Forgets under what a schedule is found.
pub(super) async fn forget(tx: &mut Tx, id: i64) -> OpResult<()> {
    let of_schedule = event_listeners::table.filter(event_listeners::schedule_id.eq(id));
    diesel::delete(of_schedule).execute(tx.conn()).await?;
    Ok(())
}

/// What waited for a schedule that is no more will never run.
pub(super) async fn abandon(tx: &mut Tx, id: i64) -> OpResult<()> {
    forget(tx, id).await?;
    let held = d::table.filter(d::schedule_id.eq(id)).filter(d::outcome.eq("held"));
    diesel::update(held)
        .set(d::outcome.eq(DeliveryOutcome::Deleted.as_str()))
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(super) fn rule_of(definition: &ScheduleDefinition) -> OpResult<EventRule> {
    EventRule::parse(&definition.schedule_config)
        .map_err(|faults| corrupt("event rule", &format!("{faults:?}")))
}

/// A row of `event_deliveries`.
#[derive(Queryable, Selectable)]
#[diesel(table_name = d)]
struct Row {
    id: i64,
    event_id: i64,
    schedule_id: i64,
    replay: String,
    outcome: String,
    execution_id: Option<i64>,
    at: Instant,
}

fn delivery_of(row: Row) -> OpResult<DeliveryRow> {
    let outcome = DeliveryOutcome::parse(&row.outcome);
    Ok(DeliveryRow {
        id: row.id,
        event_id: row.event_id,
        schedule_id: row.schedule_id,
        replay: row.replay,
        outcome: outcome.ok_or_else(|| corrupt("delivery outcome", &row.outcome))?,
        execution_id: row.execution_id,
        at: row.at.0,
    })
}

/// What became of an event.
pub(super) async fn deliveries_of(tx: &mut Tx, event_id: i64) -> OpResult<Vec<DeliveryRow>> {
    let rows: Vec<Row> = d::table
        .filter(d::event_id.eq(event_id))
        .order(d::id.asc())
        .limit(500)
        .select(Row::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(delivery_of).collect()
}

pub(crate) async fn delivery_list(
    tx: &mut Tx,
    schedule_id: &i64,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<DeliveryRow>> {
    let below = page.below.unwrap_or(i64::MAX);
    let rows: Vec<Row> = d::table
        .filter(d::schedule_id.eq(*schedule_id))
        .filter(d::id.lt(below))
        .order(d::id.desc())
        .limit(page.limit + 1)
        .select(Row::as_select())
        .load(tx.conn())
        .await?;
    let rows = rows.into_iter().map(delivery_of).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, rows, |row| row.id))
}

/// Whether anything waits in the inbox or to be collected.
pub(crate) async fn inbox_waits(tx: &mut Tx) -> OpResult<bool> {
    let waits = diesel::dsl::sql::<diesel::sql_types::Bool>(
        "EXISTS (SELECT 1 FROM event_inbox WHERE handled_at IS NULL) \
         OR EXISTS (SELECT 1 FROM event_deliveries WHERE outcome = 'held')",
    );
    Ok(diesel::select(waits).get_result(tx.conn()).await?)
}

/// Takes what waits in the inbox and what is collected and due.
pub(crate) async fn inbox_dispatch(
    tx: &mut Tx,
    claim: &Option<ClaimHere>,
    limit: &i64,
) -> OpResult<Dispatched> {
    let ids: Vec<i64> = skip_locked!(
        event_inbox::table
            .filter(event_inbox::handled_at.is_null())
            .order(event_inbox::id.asc())
            .limit(*limit)
            .select(event_inbox::id)
    )
    .load(tx.conn())
    .await?;
    let more = i64::try_from(ids.len()).unwrap_or(i64::MAX) >= *limit;
    let events = if ids.is_empty() { Vec::new() } else { inbox::by_ids(tx, ids).await? };
    let mut done = settle(tx, events, claim.as_ref(), true).await?;
    done.more = more;
    Ok(done)
}

/// A transaction's work on events.
pub(super) struct Pass {
    /// What is left of the claim.
    pub(super) claim: Option<ClaimHere>,
    pub(super) now: Timestamp,
    pub(super) done: Dispatched,
}

/// Judges events at every schedule that listens, and what is collected: for these schedules, or
/// with `all_held` wherever something is held.
pub(super) async fn settle(
    tx: &mut Tx,
    events: Vec<InboxEvent>,
    claim: Option<&ClaimHere>,
    all_held: bool,
) -> OpResult<Dispatched> {
    let stopped = state::state_get(tx, SCHEDULER_STATE).await?;
    let is_running = stopped.and_then(|state| state.get("running")?.as_bool()).unwrap_or(true);
    if !is_running {
        return Ok(Dispatched::default());
    }
    let mut heard = listeners(tx, &events).await?;
    if all_held {
        let held: Vec<i64> = d::table
            .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("outcome = 'held'"))
            .select(d::schedule_id)
            .distinct()
            .load(tx.conn())
            .await?;
        for id in held {
            heard.entry(id).or_default();
        }
    }
    let now = tx.now().await?;
    let mut pass = Pass { claim: claim.cloned(), now, done: Dispatched::default() };
    if !heard.is_empty() {
        let rows: Vec<ScheduleRow> = locked!(
            task_schedules::table
                .filter(task_schedules::id.eq_any(heard.keys().copied().collect::<Vec<_>>()))
                .order(task_schedules::id.asc())
                .select(ScheduleRow::as_select())
        )
        .load(tx.conn())
        .await?;
        for row in rows {
            let schedule = Schedule::try_from(row)?;
            let places = heard.remove(&schedule.id).unwrap_or_default();
            let events = places.into_iter().filter_map(|place| events.get(place)).collect();
            pass.at_schedule(tx, schedule, events).await?;
        }
    }
    let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
    if !ids.is_empty() {
        diesel::update(event_inbox::table.filter(event_inbox::id.eq_any(ids)))
            .set(event_inbox::handled_at.eq(Some(Instant(now))))
            .execute(tx.conn())
            .await?;
    }
    Ok(pass.done)
}

/// The schedules that listen, each with the places of the events it hears, oldest first.
async fn listeners(tx: &mut Tx, events: &[InboxEvent]) -> OpResult<BTreeMap<i64, BTreeSet<usize>>> {
    let mut heard: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
    let keys: HashSet<&String> = events.iter().flat_map(|event| &event.keys).collect();
    if keys.is_empty() {
        return Ok(heard);
    }
    let keys: Vec<String> = keys.into_iter().cloned().collect();
    let rows: Vec<(String, i64)> = event_listeners::table
        .filter(event_listeners::source.eq_any(keys))
        .select((event_listeners::source, event_listeners::schedule_id))
        .load(tx.conn())
        .await?;
    let mut by_key: HashMap<String, Vec<i64>> = HashMap::new();
    for (source, id) in rows {
        by_key.entry(source).or_default().push(id);
    }
    for (place, event) in events.iter().enumerate() {
        for id in event.keys.iter().filter_map(|key| by_key.get(key)).flatten() {
            heard.entry(*id).or_default().insert(place);
        }
    }
    Ok(heard)
}

/// True when older runs give way to newer ones.
fn makes_room(definition: &ScheduleDefinition) -> bool {
    definition.overlap_policy == OverlapPolicy::CancelRunning
}

/// The rows of a schedule that wait or run; those of backfills have a limit of their own.
async fn count_active(tx: &mut Tx, schedule_id: i64) -> OpResult<i64> {
    Ok(task_executions::table
        .filter(task_executions::schedule_id.eq(schedule_id))
        .filter(executions::is_active())
        .filter(task_executions::trigger.ne(Trigger::Backfill.as_str()))
        .select(count_star())
        .get_result(tx.conn())
        .await?)
}

pub(super) async fn standing<'a>(
    tx: &mut Tx,
    schedule: &'a Schedule,
    rule: &'a EventRule,
) -> OpResult<Listening<'a>> {
    let definition = &schedule.definition;
    let room = match definition.overlap_limit().filter(|_| !makes_room(definition)) {
        None => None,
        Some(limit) => Some(i64::from(limit) - count_active(tx, schedule.id).await?),
    };
    Ok(Listening {
        rule,
        options: &definition.options.events,
        is_enabled: definition.enabled,
        start_at: definition.start_at,
        end_at: definition.end_at,
        left: definition.max_executions.map(|most| most - schedule.fired),
        room,
        held: 0,
        seen: HashSet::new(),
    })
}

/// The dedup keys of these events that came within the window.
async fn seen(
    tx: &mut Tx,
    schedule: &Schedule,
    events: &[&InboxEvent],
    now: Timestamp,
) -> OpResult<HashSet<String>> {
    let options = &schedule.definition.options.events;
    let hashes: Vec<Option<String>> = events
        .iter()
        .map(|event| dedup_hash(options, &event.payload))
        .filter(Option::is_some)
        .collect();
    if hashes.is_empty() {
        return Ok(HashSet::new());
    }
    let oldest = now - TimeDelta::milliseconds(options.dedup_window_ms());
    let found: Vec<Option<String>> = d::table
        .filter(d::schedule_id.eq(schedule.id))
        .filter(d::dedup_hash.eq_any(hashes))
        .filter(d::at.gt(Instant(oldest)))
        .filter(d::outcome.eq_any(["fired", "held"]))
        .filter(d::replay.eq(""))
        .select(d::dedup_hash)
        .distinct()
        .load(tx.conn())
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// A held delivery: its id, its event, the bytes of that, when it came.
type Held = (i64, i64, i64, Instant);

async fn held_of(tx: &mut Tx, schedule_id: i64) -> OpResult<Vec<Held>> {
    Ok(d::table
        .filter(d::schedule_id.eq(schedule_id))
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("outcome = 'held'"))
        .order(d::id.asc())
        .select((d::id, d::event_id, d::size, d::at))
        .load(tx.conn())
        .await?)
}

fn group_of(held: &[Held]) -> Option<Group> {
    let (first, last) = (held.first()?, held.last()?);
    let bytes = held.iter().map(|(_, _, size, _)| usize::try_from(*size).unwrap_or(0)).sum();
    Some(Group { count: held.len(), bytes, first_at: first.3.0, last_at: last.3.0 })
}

/// The run that these events make.
pub(super) fn execution_of(
    schedule: &Schedule,
    events: &[InboxEvent],
    now: Timestamp,
) -> NewExecution {
    let definition = &schedule.definition;
    let mut task = definition.snapshot();
    task.options.event = Some(document_of(events, definition.options.events.collects()));
    let cause = events.last();
    let trace = cause.and_then(|event| TraceParent::parse(event.traceparent.as_deref()?));
    let due = cause.map_or(now, |event| event.created_at.min(now));
    NewExecution {
        schedule_id: Some(schedule.id),
        schedule_name: Some(definition.name.clone()),
        traceparent: Some(trace.unwrap_or_else(TraceParent::generate).to_string()),
        created_by: cause.and_then(|event| event.created_by.clone()),
        ..NewExecution::first(Trigger::Event, task, definition.priority, due)
    }
}

impl Pass {
    async fn at_schedule(
        &mut self,
        tx: &mut Tx,
        schedule: Schedule,
        events: Vec<&InboxEvent>,
    ) -> OpResult<()> {
        let collects = schedule.definition.options.events.collects();
        if schedule.definition.schedule_type != ScheduleType::Event {
            return Ok(());
        }
        let rule = rule_of(&schedule.definition)?;
        let mut listening = standing(tx, &schedule, &rule).await?;
        let mut held = held_of(tx, schedule.id).await?;
        listening.held = held.len();
        listening.seen = seen(tx, &schedule, &events, self.now).await?;
        let mut judged: Vec<(&InboxEvent, Delivery)> = Vec::with_capacity(events.len());
        let mut rows = Vec::new();
        for event in events {
            let delivery = judge(&mut listening, event, self.now);
            if delivery.outcome == DeliveryOutcome::Fired {
                rows.push(execution_of(&schedule, std::slice::from_ref(event), self.now));
            }
            judged.push((event, delivery));
        }
        let mut made = self.insert(tx, rows).await?;
        let mut ids = made.iter().map(|row| row.id).collect::<Vec<_>>().into_iter();
        for (event, delivery) in judged {
            if delivery.outcome == DeliveryOutcome::TooDeep {
                tracing::error!(
                    schedule.id = schedule.id,
                    event.id = event.id,
                    depth = event.depth,
                    "a chain of triggers is too long: a schedule seems to set itself off"
                );
            }
            let execution =
                if delivery.outcome == DeliveryOutcome::Fired { ids.next() } else { None };
            let place = (schedule.id, "");
            let row = self.deliver(tx, place, event, (delivery, execution)).await?;
            if row.outcome == DeliveryOutcome::Held {
                let size = i64::try_from(event.size()).unwrap_or(i64::MAX);
                held.push((row.id, event.id, size, Instant(row.at)));
            }
        }
        if collects || !held.is_empty() {
            made.extend(self.collect(tx, &schedule, &mut listening, held).await?);
        }
        drop(listening);
        if let Some(limit) = schedule.definition.overlap_limit()
            && makes_room(&schedule.definition)
            && !made.is_empty()
        {
            // What was just made waits for what gives way to be gone, so nothing of it runs yet.
            let above = count_active(tx, schedule.id).await? - i64::from(limit);
            executions::cancel_oldest(tx, schedule.id, above.max(0)).await?;
        }
        self.count(tx, schedule, made).await
    }

    /// Inserts rows; each claims what places are left.
    pub(super) async fn insert(
        &mut self,
        tx: &mut Tx,
        rows: Vec<NewExecution>,
    ) -> OpResult<Vec<Execution>> {
        let rows = rows.into_iter().map(Arc::new).collect();
        let made = creating::insert(tx, rows, self.claim.as_ref()).await?;
        if let Some(claim) = &mut self.claim {
            let started = made.iter().filter(|row| row.lease_owner.is_some()).count();
            claim.slots = claim.slots.saturating_sub(started);
        }
        Ok(made)
    }

    pub(super) async fn deliver(
        &mut self,
        tx: &mut Tx,
        (schedule_id, replay): (i64, &str),
        event: &InboxEvent,
        (delivery, execution_id): (Delivery, Option<i64>),
    ) -> OpResult<DeliveryRow> {
        let size = i64::try_from(event.size()).unwrap_or(i64::MAX);
        let row: Row = diesel::insert_into(d::table)
            .values((
                d::event_id.eq(event.id),
                d::schedule_id.eq(schedule_id),
                d::replay.eq(replay),
                d::outcome.eq(delivery.outcome.as_str()),
                d::execution_id.eq(execution_id),
                d::dedup_hash.eq(delivery.dedup_hash),
                d::size.eq(size),
                d::at.eq(Instant(self.now)),
            ))
            .returning(Row::as_select())
            .get_result(tx.conn())
            .await?;
        let row = delivery_of(row)?;
        self.done.deliveries.push(row.clone());
        Ok(row)
    }

    /// Makes the runs of what is held and due.
    async fn collect(
        &mut self,
        tx: &mut Tx,
        schedule: &Schedule,
        listening: &mut Listening<'_>,
        mut held: Vec<Held>,
    ) -> OpResult<Vec<Execution>> {
        let mut made = Vec::new();
        while let Some(group) = group_of(&held) {
            let count = match collect(listening, group, self.now) {
                GroupDecision::Wait => break,
                GroupDecision::WaitUntil(due) => {
                    let next = self.done.next_due;
                    self.done.next_due = Some(next.map_or(due, |next| next.min(due)));
                    break;
                }
                GroupDecision::Fire(count) => count,
            };
            let mut run = Collected::default();
            let taken = held
                .iter()
                .take(count)
                .take_while(|(_, _, size, _)| run.takes(usize::try_from(*size).unwrap_or(0)))
                .count();
            let taken: Vec<Held> = held.drain(..taken.max(1)).collect();
            let events =
                inbox::by_ids(tx, taken.iter().map(|(_, event, ..)| *event).collect()).await?;
            let rows = vec![execution_of(schedule, &events, self.now)];
            let rows = self.insert(tx, rows).await?;
            listening.take();
            let ids: Vec<i64> = taken.iter().map(|(id, ..)| *id).collect();
            diesel::update(d::table.filter(d::id.eq_any(&ids)))
                .set((
                    d::outcome.eq(DeliveryOutcome::Fired.as_str()),
                    d::execution_id.eq(rows.as_slice().first().map(|row| row.id)),
                ))
                .execute(tx.conn())
                .await?;
            for delivery in self.done.deliveries.iter_mut().filter(|one| ids.contains(&one.id)) {
                delivery.outcome = DeliveryOutcome::Fired;
                delivery.execution_id = rows.as_slice().first().map(|row| row.id);
            }
            made.extend(rows);
        }
        Ok(made)
    }

    /// Counts the runs made; a schedule that has had its last becomes paused.
    pub(super) async fn count(
        &mut self,
        tx: &mut Tx,
        mut schedule: Schedule,
        made: Vec<Execution>,
    ) -> OpResult<()> {
        if made.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(made.len()).unwrap_or(i64::MAX);
        self.done.executions.extend(made);
        schedule.fired = schedule.fired.saturating_add(count);
        schedule.last_run_at = Some(self.now);
        let is_over = schedule.definition.max_executions.is_some_and(|most| schedule.fired >= most);
        let of_schedule = task_schedules::table.filter(task_schedules::id.eq(schedule.id));
        diesel::update(of_schedule)
            .set((
                task_schedules::fired.eq(schedule.fired),
                task_schedules::last_run_at.eq(Some(Instant(self.now))),
            ))
            .execute(tx.conn())
            .await?;
        if is_over && schedule.definition.enabled {
            schedule.definition.enabled = false;
            schedule.paused_at = Some(self.now);
            diesel::update(of_schedule)
                .set((
                    task_schedules::enabled.eq(false),
                    task_schedules::paused_at.eq(Some(Instant(self.now))),
                ))
                .execute(tx.conn())
                .await?;
            tx.event(schedule_event(&schedule, "schedule_paused"));
            tx.changed(Topic::Schedules);
        }
        Ok(())
    }
}

//! Schedules: create, list, read, edit, delete, run now, pause, resume, preview.

use serde_json::{Value, json};

use super::executions::nothing_in;
use super::launch::{self, Order};
use super::planning::{ruled, stored_cadence};
use crate::api::call::{Call, created, no_content, ok, replayed, versioned};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::body::Fields;
use crate::api::wire::cadence::{Preview, first_run};
use crate::api::wire::definition::{self, Parsed, Surroundings};
use crate::api::wire::execution::Overrides;
use crate::api::wire::{ledger, views};
use crate::clock::Timestamp;
use crate::domain::act::differences;
use crate::domain::event::instant_text;
use crate::domain::execution::{TaskSnapshot, Trigger};
use crate::domain::schedule::{Schedule, ScheduleDefinition, ScheduleStats, ScheduleType};
use crate::runtime::handles::Wake;
use crate::runtime::meter;
use crate::runtime::scheduler::STATE_KEY;
use crate::runtime::scheduler::plan::{Settlement, settle};
use crate::runtime::scheduler::stop::StopWindow;
use crate::store::{
    Creation, MOVED_MEANWHILE, Pause, ScheduleChange, ScheduleFilter, ScheduleRemoval, StoreError,
    StoredAnswer,
};

/// How often an edit without `If-Match` is laid over a newer version before it gives up.
pub(crate) const EDIT_ATTEMPTS: usize = 5;
/// Bytes of a reason at most.
const REASON_MAX: usize = 1_000;

/// `POST /scheduler/schedules`.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let wanted = body.get("taskType").and_then(Value::as_str).unwrap_or_default();
    launch::check_shell(call.principal()?, wanted, true)?;
    let now = call.state.clock().now();
    let zone = default_zone(&call);
    let Parsed { definition, cadence } = parse(&call, &body, now, &zone)?;
    let cadence = ruled(&call, &definition.options.cadence, cadence).await?;
    let first = first_run(&definition, &cadence, now, None).map_err(|fault| vec![fault])?;
    let idempotency = call.idempotency(|schedule: &Schedule, _| StoredAnswer {
        status: 201,
        body: views::schedule(schedule, ScheduleStats::default()).to_string(),
    })?;
    let store = call.state.store();
    match store.schedule_create(definition, first, idempotency).await? {
        Creation::New(schedule) | Creation::Existing(schedule) => {
            call.state.handles().wake(Wake::Scheduler);
            let body = views::schedule(&schedule, ScheduleStats::default());
            created(&body, views::schedule_path(schedule.id))
        }
        Creation::Replayed(answer) => replayed(answer),
    }
}

/// `GET /scheduler/schedules`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(FILTERS);
    let filter = read_filter(&mut query);
    let page = query.page();
    query.finish()?;
    let store = call.state.store();
    let found = store.schedule_list(filter, page).await?;
    let stats = store.schedule_stats(found.items.iter().map(|one| one.id).collect()).await?;
    ok(&views::page(&found, page, |one| {
        views::schedule(one, stats.get(&one.id).copied().unwrap_or_default())
    }))
}

/// What lists of schedules take.
pub(super) const FILTERS: &[&str] = &["enabled", "taskType", "tag", "q", "limit", "offset"];

/// Reads what lists of schedules filter by.
pub(super) fn read_filter(query: &mut crate::api::wire::query::Query) -> ScheduleFilter {
    ScheduleFilter {
        enabled: query.flag("enabled"),
        task_type: query.text("taskType"),
        tag: query.text("tag"),
        text: query.text("q"),
    }
}

/// `GET /scheduler/schedules/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let schedule = call.state.store().schedule_get(call.id()?).await?;
    answer_with(&call, &schedule).await
}

/// `PUT /scheduler/schedules/{id}`: a partial body, laid over what is stored.
pub(crate) async fn update(call: Call) -> Answer {
    call.no_query()?;
    let schedule = edit(&call, call.id()?, &call.json()?, call.if_match()?).await?;
    answer_with(&call, &schedule).await
}

/// Lays a partial body over a stored schedule.
///
/// # Errors
/// 404, 409 `version_conflict`, 422 with every fault.
pub(crate) async fn edit(
    call: &Call,
    id: i64,
    patch: &Value,
    if_match: Option<i64>,
) -> Result<Schedule, ApiError> {
    let store = call.state.store();
    for attempt in 1.. {
        let stored = store.schedule_get(id).await?;
        if let Some(expected) = if_match.filter(|expected| *expected != stored.version) {
            return Err(StoreError::VersionConflict { expected, actual: stored.version }.into());
        }
        let stop = stop_window(call).await?;
        let missed_until = store.ledger_last(id).await?;
        let change = plan_edit(call, &stored, patch, Before { stop, missed_until }).await?;
        let ledger = change.ledger.clone();
        tell_change(call, &stored.definition, &change.definition);
        match store.schedule_update(change).await {
            Err(StoreError::WrongState { code: MOVED_MEANWHILE, .. })
                if attempt < EDIT_ATTEMPTS => {}
            // Nobody said which version was meant, so the newer one is as good.
            Err(StoreError::VersionConflict { .. })
                if if_match.is_none() && attempt < EDIT_ATTEMPTS => {}
            Err(error) => return Err(error.into()),
            Ok(schedule) => {
                meter::missed(&ledger);
                call.state.handles().wake(Wake::Scheduler);
                return Ok(schedule);
            }
        }
    }
    Err(ApiError::internal("an edit ended without an answer"))
}

/// The audit log gets what an edit changes.
fn tell_change(call: &Call, old: &ScheduleDefinition, new: &ScheduleDefinition) {
    let body = |one| Value::Object(definition::body_of(one));
    let (before, after) = differences(&body(old), &body(new));
    call.state.store().tell_change(before, after);
}

/// What an edit has to know of the time before it.
struct Before {
    /// When the scheduler did not fire.
    stop: StopWindow,
    /// The last instant in the ledger.
    missed_until: Option<Timestamp>,
}

/// The edit that `patch` makes of the stored schedule.
async fn plan_edit(
    call: &Call,
    stored: &Schedule,
    patch: &Value,
    before: Before,
) -> Result<ScheduleChange, ApiError> {
    let old = &stored.definition;
    let whole = definition::merge(old, patch)?;
    let task_type = whole.get("taskType").and_then(Value::as_str).unwrap_or_default();
    let is_same_task = definition::keeps_task(old, &whole);
    launch::check_shell(call.principal()?, task_type, !is_same_task)?;
    let zone = default_zone(call);
    let Parsed { definition, cadence } = parse(call, &whole, stored.created_at, &zone)?;
    let cadence = ruled(call, &definition.options.cadence, cadence).await?;
    let now = call.state.clock().now();
    let runs_on = stored.next_run_at.is_none() && raises_limit(old, &definition);
    let mut settlement = Settlement::default();
    let mut settled_at = None;
    let mut next_run_at = None;
    if definition::changes_cadence(old, &definition) || runs_on {
        // What the old cadence had planned and not run will not run: it gets its outcome here.
        let old_cadence = stored_cadence(call, stored).await?;
        settlement = settle(stored, old_cadence.as_ref(), now, &before.stop);
        settled_at = Some(now);
        let settled = settlement.last.max(before.missed_until);
        let first = first_run(&definition, &cadence, now, settled);
        next_run_at = Some(first.map_err(|fault| vec![fault])?);
    }
    Ok(ScheduleChange {
        id: stored.id,
        expected_version: stored.version,
        expected_next: stored.next_run_at,
        definition,
        next_run_at,
        settled_at,
        ledger: settlement.all(),
    })
}

/// Whether the scheduler fires, and when it last did not.
pub(crate) async fn stop_window(call: &Call) -> Result<StopWindow, ApiError> {
    let state = call.state.store().state_get(STATE_KEY.to_owned()).await?;
    Ok(StopWindow::from_state(state.as_ref()))
}

/// A schedule that has had all its runs goes on when it may have more.
fn raises_limit(old: &ScheduleDefinition, new: &ScheduleDefinition) -> bool {
    match (old.max_executions, new.max_executions) {
        (Some(old), Some(new)) => new > old,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// `DELETE /scheduler/schedules/{id}`.
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let (id, if_match) = (call.id()?, call.if_match()?);
    let store = call.state.store();
    for attempt in 1.. {
        let stored = store.schedule_get(id).await?;
        if let Some(expected) = if_match.filter(|expected| *expected != stored.version) {
            return Err(StoreError::VersionConflict { expected, actual: stored.version }.into());
        }
        let stop = stop_window(&call).await?;
        let cadence = stored_cadence(&call, &stored).await?;
        let ledger = settle(&stored, cadence.as_ref(), call.state.clock().now(), &stop).all();
        let removal = ScheduleRemoval { expected_next: stored.next_run_at, ledger: ledger.clone() };
        match store.schedule_delete(id, Some(removal)).await {
            Err(StoreError::WrongState { code: MOVED_MEANWHILE, .. })
                if attempt < EDIT_ATTEMPTS => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                meter::missed(&ledger);
                break;
            }
        }
    }
    for what in [Wake::Scheduler, Wake::Recovery] {
        call.state.handles().wake(what);
    }
    no_content()
}

/// `POST /scheduler/schedules/{id}/trigger`: run now; never moves `nextRunAt`, works while paused.
pub(crate) async fn trigger(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let schedule = call.state.store().schedule_get(call.id()?).await?;
    let definition = schedule.definition;
    let supplies = body.get("taskConfig").is_some_and(|config| !config.is_null());
    launch::check_shell(call.principal()?, &definition.task_type, supplies)?;
    let overrides =
        Overrides::parse_trigger(&body, &definition.task_type, &call.state.task_maxima())?;
    // Under `allow` there is a limit only when the user set one; under `queue` it waits its turn.
    let limit = definition.overlap_limit().filter(|_| !overrides.force);
    let mut task = definition.snapshot();
    if overrides.force {
        task.options.admission.overlap_limit = None;
    }
    let order = Order {
        priority: definition.priority,
        trigger: Trigger::Manual,
        due: call.state.clock().now(),
        schedule: Some((schedule.id, Some(definition.name))),
        task: TaskSnapshot { task_config: overrides.over(definition.task_config), ..task },
    };
    let row = launch::new_chain(&call, order);
    launch::create(&call, row, limit).await
}

/// `POST /scheduler/schedules/{id}/pause {until?, reason?}`.
pub(crate) async fn pause(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let mut fields = Fields::of(&body, &["until", "reason"], &[])?;
    let pause = Pause { until: fields.instant("until"), reason: fields.text("reason", REASON_MAX) };
    if pause.until.is_some_and(|until| until <= call.state.clock().now()) {
        fields.fault("until", "in_the_past", "`until` has passed; give a later instant");
    }
    fields.finish()?;
    let schedule = call.state.store().schedule_pause(call.id()?, pause).await?;
    call.state.handles().wake(Wake::Scheduler);
    answer_with(&call, &schedule).await
}

/// `POST /scheduler/schedules/{id}/resume`.
pub(crate) async fn resume(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let store = call.state.store();
    let id = call.id()?;
    let schedule = store.schedule_get(id).await?;
    let is_over = match schedule.definition.schedule_type {
        ScheduleType::Event => {
            let most = schedule.definition.max_executions;
            most.is_some_and(|most| schedule.fired >= most)
        }
        _ => schedule.next_run_at.is_none(),
    };
    if !schedule.definition.enabled && is_over {
        let detail = "this schedule has had its last run; change when it is due first";
        return Err(ApiError::conflict("schedule_exhausted", detail));
    }
    let schedule = store.schedule_set_enabled(id, true).await?;
    call.state.handles().wake(Wake::Scheduler);
    answer_with(&call, &schedule).await
}

/// `POST /scheduler/schedules/preview`: saves nothing.
pub(crate) async fn preview(call: Call) -> Answer {
    call.no_query()?;
    let now = call.state.clock().now();
    let zone = default_zone(&call);
    let preview = Preview::parse(&call.json()?, now, &zone)?;
    let Preview { grid, options, from, count } = preview;
    let jitter_ms = options.jitter_ms;
    let cadence = ruled(&call, &options, grid).await?;
    let runs = cadence.instants_between(from, Timestamp::MAX_UTC, count);
    let until = runs.last().copied().unwrap_or(from);
    let left_out: Vec<Value> = cadence.left_out(from, until).iter().map(ledger::range).collect();
    let moved = jitter_ms.map_or_else(String::new, |ms| format!(", each up to {ms} ms later"));
    let runs: Vec<String> = runs.into_iter().map(instant_text).collect();
    ok(&json!({
        "nextRuns": runs,
        "leftOut": left_out,
        "description": format!("{}{moved}", cadence.describe()),
    }))
}

pub(crate) async fn answer_with(call: &Call, schedule: &Schedule) -> Answer {
    let mut stats = call.state.store().schedule_stats(vec![schedule.id]).await?;
    let stats = stats.remove(&schedule.id).unwrap_or_default();
    versioned(&views::schedule(schedule, stats), schedule.version)
}

fn parse(
    call: &Call,
    value: &Value,
    anchor: Timestamp,
    default_zone: &str,
) -> Result<Parsed, ApiError> {
    let grace = call.state.settings().scheduler.misfire_grace_ms;
    let misfire_grace_ms = i64::try_from(grace.0).unwrap_or(i64::MAX);
    let task_maxima = call.state.task_maxima();
    let around = Surroundings { anchor, default_zone, misfire_grace_ms, task_maxima };
    definition::parse(value, &around)
}

/// The zone of schedules that name none.
pub(crate) fn default_zone(call: &Call) -> String {
    call.state.settings().scheduler.timezone.name().to_owned()
}

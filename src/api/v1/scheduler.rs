//! The scheduler as a subsystem: start, stop, status, its jobs.

use serde_json::{Value, json};

use super::executions::nothing_in;
use super::planning::{cadence_of, coverages, stored_cadence};
use super::schedules::{FILTERS, default_zone, read_filter};
use crate::api::call::{Call, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::{cadence, views};
use crate::domain::event::instant_text;
use crate::runtime::handles::Wake;
use crate::runtime::scheduler::STATE_KEY;
use crate::runtime::scheduler::stop::StopWindow;

/// How many next runs a job shows.
const NEXT_RUNS: usize = 5;

/// `POST /scheduler/start`.
pub(crate) async fn start(call: Call) -> Answer {
    switch(call, true).await
}

/// `POST /scheduler/stop`: stored, and holds for the whole cluster until started again.
pub(crate) async fn stop(call: Call) -> Answer {
    switch(call, false).await
}

async fn switch(call: Call, running: bool) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let store = call.state.store();
    let stored = store.state_get(STATE_KEY.to_owned()).await?;
    let window = StopWindow::from_state(stored.as_ref());
    let switched = window.switched(running, call.state.clock().now());
    if switched != window {
        store.state_set(STATE_KEY.to_owned(), switched.to_state()).await?;
    }
    call.state.handles().wake(Wake::Scheduler);
    ok(&report(&call).await?)
}

/// `GET /scheduler/status`.
pub(crate) async fn status(call: Call) -> Answer {
    call.no_query()?;
    ok(&report(&call).await?)
}

async fn report(call: &Call) -> Result<Value, ApiError> {
    let store = call.state.store();
    let stored = store.state_get(STATE_KEY.to_owned()).await?;
    let is_on = StopWindow::from_state(stored.as_ref()).running;
    let counts = store.schedule_counts().await?;
    let next = store.schedule_next_due().await?;
    let actor = call.state.handles().scheduler_status();
    Ok(json!({
        "running": is_on && actor.running,
        "startedAt": views::instant(actor.started_at),
        "lastTickAt": views::instant(actor.last_tick_at),
        "dispatched": actor.dispatched,
        "skipped": actor.skipped,
        "completed": actor.completed,
        "failed": actor.failed,
        "schedules": { "enabled": counts.enabled, "paused": counts.paused },
        "next": next.map(|(id, at)| json!({ "scheduleId": id, "at": instant_text(at) })),
    }))
}

/// `GET /scheduler/jobs`.
pub(crate) async fn jobs(call: Call) -> Answer {
    let mut query = call.query(FILTERS);
    let filter = read_filter(&mut query);
    let page = query.page();
    query.finish()?;
    let store = call.state.store();
    let found = store.schedule_list(filter, page).await?;
    let stats = store.schedule_stats(found.items.iter().map(|one| one.id).collect()).await?;
    let zone = default_zone(&call);
    let options = found.items.iter().map(|one| &one.definition.options.cadence);
    let covered = coverages(&call, options).await?;
    ok(&views::page(&found, page, |one| {
        let cadence = cadence_of(one, &zone, &covered);
        let runs = cadence::next_runs(one, cadence.as_ref(), None, NEXT_RUNS);
        views::job(one, stats.get(&one.id).copied().unwrap_or_default(), &runs)
    }))
}

/// `GET /scheduler/jobs/{id}`.
pub(crate) async fn job(call: Call) -> Answer {
    call.no_query()?;
    let store = call.state.store();
    let schedule = store.schedule_get(call.id()?).await?;
    let mut stats = store.schedule_stats(vec![schedule.id]).await?;
    let cadence = stored_cadence(&call, &schedule).await?;
    let runs = cadence::next_runs(&schedule, cadence.as_ref(), None, NEXT_RUNS);
    ok(&views::job(&schedule, stats.remove(&schedule.id).unwrap_or_default(), &runs))
}

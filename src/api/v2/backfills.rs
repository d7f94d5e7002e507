//! Backfills: past instants of a schedule, run on purpose; and what a catch-up would do.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::api::call::{Call, accepted, ok, replayed};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::planning::stored_cadence;
use crate::api::v1::schedules::stop_window;
use crate::api::wire::body::Fields;
use crate::api::wire::query::keyset_page;
use crate::api::wire::{ledger, views};
use crate::clock::Timestamp;
use crate::domain::backfill::{Backfill, BackfillForm, BackfillOrder, INSTANTS_MAX, ahead};
use crate::domain::cadence::Cadence;
use crate::domain::event::instant_text;
use crate::domain::schedule::Schedule;
use crate::runtime::scheduler::plan::plan_schedule;
use crate::store::{BackfillCreate, BackfillProgress, Creation, StoredAnswer};

/// Instants that a dry run lists.
const LISTED_MAX: usize = 100;
/// Instants that a dry run compares with what ran, and so counts exactly.
const COMPARED_MAX: usize = 10_000;
const RATE_MAX: i64 = 60_000;
const CONCURRENT_MAX: i64 = 1_000;
/// Days that a backfill, or the preview of a catch-up, may reach over.
const SPAN_DAYS_MAX: i64 = 3_660;
const REASON_MAX: usize = 1_000;

fn view(backfill: &Backfill, progress: Option<BackfillProgress>) -> Value {
    let form = &backfill.form;
    json!({
        "id": backfill.id,
        "scheduleId": form.schedule_id,
        "scheduleName": form.schedule_name,
        "from": instant_text(form.from),
        "to": instant_text(form.to),
        "order": form.order,
        "again": form.again,
        "ratePerMinute": form.per_minute,
        "maxConcurrent": form.max_concurrent,
        "status": backfill.status,
        "reason": backfill.reason,
        "position": views::instant(backfill.position),
        "planned": form.planned,
        "made": backfill.made,
        "leftOut": backfill.left_out,
        "executions": progress.map(|progress| json!({
            "pending": progress.pending,
            "running": progress.running,
            "completed": progress.completed,
            "failed": progress.failed,
            "cancelled": progress.cancelled,
        })),
        "createdBy": form.created_by,
        "createdAt": instant_text(backfill.created_at),
        "updatedAt": instant_text(backfill.updated_at),
        "endedAt": views::instant(backfill.ended_at),
    })
}

/// What a request asks for.
struct Asked {
    form: BackfillForm,
    is_dry: bool,
}

fn read(call: &Call, schedule: &Schedule, cadence: &Cadence) -> Result<Asked, ApiError> {
    let body = call.json()?;
    let known = ["from", "to", "dryRun", "ratePerMinute", "maxConcurrent", "order", "again"];
    let mut fields = Fields::of(&body, &known, &[])?;
    let small = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    let range = [fields.needed("from"), fields.needed("to")];
    let (from, to) = (fields.instant("from"), fields.instant("to"));
    let per_minute = fields.integer("ratePerMinute", 1..=RATE_MAX).map(small);
    let max_concurrent = fields.integer("maxConcurrent", 1..=CONCURRENT_MAX).map_or(1, small);
    let order = fields.word("order").unwrap_or(BackfillOrder::Oldest);
    let again = fields.flag("again").unwrap_or(false);
    let is_dry = fields.flag("dryRun").unwrap_or(false);
    let mut planned = 0;
    if let (Some(from), Some(to), [Some(_), Some(_)]) = (from, to, range) {
        if to < from {
            fields.fault("to", "out_of_range", "`to` lies before `from`");
        } else if to > call.state.clock().now() {
            fields.fault(
                "to",
                "out_of_range",
                "a backfill is about the past; give an earlier `to`",
            );
        } else if to - from > TimeDelta::days(SPAN_DAYS_MAX) {
            fields.fault("from", "out_of_range", too_long());
        } else if let Some(open) = schedule.next_run_at.filter(|next| *next <= to) {
            // What fires later on its own would run twice.
            let message = format!(
                "instants from {} on are not decided yet (the schedule is paused, the scheduler is \
                 stopped, or they are being caught up on); give an earlier `to`, or resume first",
                instant_text(open)
            );
            fields.fault("to", "instants_open", message);
        } else {
            let before = from - TimeDelta::microseconds(1);
            planned = cadence.count_between(before, to);
            if planned > INSTANTS_MAX {
                let message = format!(
                    "the range has {planned} planned instants, {INSTANTS_MAX} at most; give a \
                     shorter one"
                );
                fields.fault("from", "out_of_range", message);
            } else if planned == 0 {
                fields.fault("from", "out_of_range", "the schedule plans nothing in this range");
            }
        }
    }
    let form = from.zip(to).map(|(from, to)| BackfillForm {
        schedule_id: schedule.id,
        schedule_name: schedule.definition.name.clone(),
        from,
        to,
        order,
        again,
        per_minute,
        max_concurrent,
        planned: i64::try_from(planned).unwrap_or(i64::MAX),
        created_by: call.principal.as_ref().map(|principal| principal.name.clone()),
    });
    fields.finish_with(form.map(|form| Asked { form, is_dry }))
}

/// `POST /schedules/{id}/backfills {from, to, dryRun?, ratePerMinute?, maxConcurrent?, order?,
/// again?}`.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let store = call.state.store();
    let schedule = store.schedule_get(call.id()?).await?;
    let cadence = stored_cadence(&call, &schedule).await?.ok_or_else(unreadable)?;
    let Asked { form, is_dry } = read(&call, &schedule, &cadence)?;
    if is_dry {
        return dry_run(&call, &form, &cadence).await;
    }
    let idempotency = call.idempotency(|backfill: &Backfill, _| StoredAnswer {
        status: 202,
        body: view(backfill, None).to_string(),
    })?;
    match store.backfill_create(BackfillCreate { form, idempotency }).await? {
        Creation::New(backfill) | Creation::Existing(backfill) => accepted(&view(&backfill, None)),
        Creation::Replayed(answer) => replayed(answer),
    }
}

fn too_long() -> String {
    format!("the range is longer than {SPAN_DAYS_MAX} days; give a shorter one")
}

fn unreadable() -> ApiError {
    let detail = "the stored schedule cannot be read any more; edit it first";
    ApiError::conflict("schedule_unreadable", detail)
}

async fn dry_run(call: &Call, form: &BackfillForm, cadence: &Cadence) -> Answer {
    let found = ahead(cadence, (form.from, form.to), form.order, None, COMPARED_MAX);
    let taken = if form.again {
        std::collections::HashSet::new()
    } else {
        call.state.store().backfill_taken(form.schedule_id, found.instants.clone()).await?
    };
    let runs: Vec<Timestamp> =
        found.instants.iter().copied().filter(|at| !taken.contains(at)).collect();
    let left_out = found.instants.len() - runs.len();
    // A rate is the only bound that is known before anything ran.
    let count = u64::try_from(form.planned).unwrap_or(0).saturating_sub(left_out as u64);
    let least_ms = form.per_minute.map(|rate| {
        count.saturating_sub(1).saturating_mul(60_000 / u64::from(rate.unsigned_abs().max(1)))
    });
    ok(&json!({
        "dryRun": true,
        "planned": form.planned,
        "count": count,
        "leftOut": left_out,
        "isExact": found.is_last,
        "leastDurationMs": least_ms,
        "instants": runs.into_iter().take(LISTED_MAX).map(instant_text).collect::<Vec<_>>(),
    }))
}

/// `GET /backfills?scheduleId=&limit=&cursor=`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["scheduleId", "limit", "cursor"]);
    let schedule = query.id("scheduleId");
    let request = query.keyset();
    query.finish()?;
    let page = call.state.store().backfill_list(schedule, request).await?;
    ok(&keyset_page(&page, |backfill| view(backfill, None)))
}

/// `GET /backfills/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let store = call.state.store();
    let backfill = store.backfill_get(call.id()?).await?;
    let progress = store.backfill_progress(backfill.clone()).await?;
    ok(&view(&backfill, Some(progress)))
}

/// `POST /backfills/{id}/stop {reason?}`: what waits is cancelled, what runs goes on.
pub(crate) async fn stop(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let mut fields = Fields::of(&body, &["reason"], &[])?;
    let reason = fields.text("reason", REASON_MAX);
    fields.finish()?;
    let store = call.state.store();
    let backfill = store.backfill_stop(call.id()?, reason).await?;
    let progress = store.backfill_progress(backfill.clone()).await?;
    ok(&view(&backfill, Some(progress)))
}

/// `POST /schedules/{id}/catch-up-preview {from?, now?}`: what would start if the scheduler looked
/// at `now`, having fired nothing since `from`. Changes nothing; earlier runs that still wait or
/// run are not looked at.
pub(crate) async fn catch_up(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let mut fields = Fields::of(&body, &["from", "now"], &[])?;
    let (from, now) = (fields.instant("from"), fields.instant("now"));
    let now = now.unwrap_or_else(|| call.state.clock().now());
    if from.is_some_and(|from| (now - from).abs() > TimeDelta::days(SPAN_DAYS_MAX)) {
        fields.fault("from", "out_of_range", too_long());
    }
    fields.finish()?;
    let mut schedule = call.state.store().schedule_get(call.id()?).await?;
    let cadence = stored_cadence(&call, &schedule).await?.ok_or_else(unreadable)?;
    if let Some(from) = from {
        schedule.next_run_at = cadence.next_after(from - TimeDelta::microseconds(1));
        schedule.settled_at = Some(from);
    }
    let mut starts = Vec::new();
    let mut ranges = Vec::new();
    let mut next = schedule.next_run_at;
    if next.is_some_and(|at| at <= now) {
        let plan = plan_schedule(&schedule, &cadence, now, &stop_window(&call).await?);
        for (place, row) in plan.executions.iter().enumerate() {
            starts.push(json!({
                "scheduledAt": instant_text(row.scheduled_at),
                "startsAt": instant_text(row.available_at.max(now)),
                "isCatchUp": place < plan.catch_up || row.scheduled_at < now - grace(&schedule),
            }));
        }
        ranges = plan.ledger.iter().map(ledger::range).collect();
        next = plan.next_run_at;
    }
    let count = starts.len();
    starts.truncate(LISTED_MAX);
    let definition = &schedule.definition;
    ok(&json!({
        "now": instant_text(now),
        "misfirePolicy": definition.misfire_policy,
        "count": count,
        "starts": starts,
        "ledger": ranges,
        "nextRunAt": views::instant(next),
    }))
}

fn grace(schedule: &Schedule) -> TimeDelta {
    TimeDelta::milliseconds(schedule.definition.misfire_grace_ms)
}

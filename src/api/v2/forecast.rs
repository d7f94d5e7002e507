//! What the schedules will ask of the machine, and the cure where it is too much at once.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::api::call::{Call, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::planning::{cadence_of, coverages};
use crate::api::v1::schedules::{default_zone, edit};
use crate::api::wire::body::Fields;
use crate::api::wire::cadence::next_runs;
use crate::api::wire::query::{LIMIT_MAX, Query};
use crate::clock::Timestamp;
use crate::domain::event::instant_text;
use crate::domain::forecast::{Forecast, Planned, Span, forecast};
use crate::store::{PageRequest, ScheduleFilter};

/// The longest span: a week and a day.
const SPAN_MAX: TimeDelta = TimeDelta::days(8);
const SPAN_DEFAULT: TimeDelta = TimeDelta::hours(24);
/// Buckets of an answer at most.
const BUCKETS_MAX: i64 = 2_000;
const BUCKETS_DEFAULT: i64 = 96;
/// Schedules that are looked at, at most.
const SCHEDULES_MAX: i64 = 20_000;
/// Instants of one schedule that are looked at, at most.
const INSTANTS_MAX: usize = 20_000;
/// Instants of all schedules that are looked at, at most.
const ALL_INSTANTS_MAX: usize = 2_000_000;
/// Schedules that a collision names, at most.
const NAMED_MAX: usize = 20;
const WITHIN_MAX_MS: i64 = 3_600_000;
const WITHIN_DEFAULT_MS: i64 = 60_000;

/// What was looked at.
struct Ahead {
    planned: Vec<Planned>,
    span: Span,
    /// Not every schedule or instant was looked at.
    is_cut: bool,
}

/// `GET /forecast?from=&to=&bucketMs=`: planned starts and expected concurrency, and collisions.
pub(crate) async fn show(call: Call) -> Answer {
    let mut query = call.query(&["from", "to", "bucketMs"]);
    let now = call.state.clock().now();
    let from = query.instant("from").unwrap_or(now).max(now);
    let to = query.instant("to").unwrap_or(from + SPAN_DEFAULT);
    let span = read_span(&mut query, &call, from, to);
    query.finish()?;
    let ahead = look(&call, span).await?;
    let found = forecast(&ahead.planned, ahead.span);
    ok(&view(&ahead, &found))
}

fn read_span(query: &mut Query, call: &Call, from: Timestamp, to: Timestamp) -> Span {
    if to <= from || to - from > SPAN_MAX {
        let message = "`to` must lie after `from` and now, and at most 8 days after them";
        query.fault("to", "out_of_range", message);
    }
    let length = (to - from).num_milliseconds().max(1);
    let least = (length / BUCKETS_MAX).max(1_000);
    let bucket = query.integer("bucketMs", least, SPAN_MAX.num_milliseconds());
    let bucket = bucket.unwrap_or((length / BUCKETS_DEFAULT).max(least));
    let slots = call.state.settings().executor.slots;
    Span { from, to, bucket: TimeDelta::milliseconds(bucket), slots }
}

/// Every schedule's instants within the span.
async fn look(call: &Call, span: Span) -> Result<Ahead, ApiError> {
    let store = call.state.store();
    let zone = default_zone(call);
    let mut ahead = Ahead { planned: Vec::new(), span, is_cut: false };
    let mut left = ALL_INSTANTS_MAX;
    for offset in (0..SCHEDULES_MAX).step_by(usize::try_from(LIMIT_MAX).unwrap_or(1)) {
        let filter = ScheduleFilter { enabled: Some(true), ..ScheduleFilter::default() };
        let page = store.schedule_list(filter, PageRequest { limit: LIMIT_MAX, offset }).await?;
        let count = i64::try_from(page.items.len()).unwrap_or(i64::MAX);
        let ids = page.items.iter().map(|one| one.id).collect();
        let stats = store.schedule_stats(ids).await?;
        let options = page.items.iter().map(|one| &one.definition.options.cadence);
        let covered = coverages(call, options).await?;
        for schedule in page.items {
            let cadence = cadence_of(&schedule, &zone, &covered);
            let most = INSTANTS_MAX.min(left);
            let mut instants = next_runs(&schedule, cadence.as_ref(), Some(span.to), most);
            ahead.is_cut |=
                instants.len() == most && instants.last().is_some_and(|at| *at < span.to);
            instants.retain(|at| *at >= span.from && *at < span.to);
            left -= instants.len();
            let mean = stats.get(&schedule.id).and_then(|stats| stats.mean_duration_ms);
            ahead.planned.push(Planned {
                schedule_id: schedule.id,
                name: schedule.definition.name,
                instants,
                duration: mean.map(|millis| TimeDelta::milliseconds(whole(millis))),
            });
        }
        if count < LIMIT_MAX {
            return Ok(ahead);
        }
    }
    ahead.is_cut = true;
    Ok(ahead)
}

#[expect(clippy::cast_possible_truncation, reason = "a mean of durations of a week at most")]
fn whole(millis: f64) -> i64 {
    millis.round() as i64
}

fn view(ahead: &Ahead, found: &Forecast) -> Value {
    let buckets: Vec<Value> = found
        .buckets
        .iter()
        .map(|bucket| {
            json!({
                "from": instant_text(bucket.from),
                "starts": bucket.starts,
                "expectedConcurrency": (bucket.mean * 1000.0).round() / 1000.0,
                "peakConcurrency": bucket.peak,
            })
        })
        .collect();
    let unknown =
        ahead.planned.iter().filter(|one| one.duration.is_none() && !one.instants.is_empty());
    json!({
        "from": instant_text(ahead.span.from),
        "to": instant_text(ahead.span.to),
        "bucketMs": ahead.span.bucket.num_milliseconds(),
        "slots": ahead.span.slots,
        "starts": found.starts,
        "peakConcurrency": found.peak,
        "buckets": buckets,
        "collisions": collisions(ahead, found),
        "unknownDurations": unknown.count(),
        "isCut": ahead.is_cut,
    })
}

fn collisions(ahead: &Ahead, found: &Forecast) -> Vec<Value> {
    let view = |collision: &crate::domain::forecast::Collision| {
        let named = collision.schedules.iter().take(NAMED_MAX);
        let named = named.filter_map(|position| ahead.planned.get(*position));
        let named: Vec<Value> =
            named.map(|one| json!({ "id": one.schedule_id, "name": one.name })).collect();
        json!({
            "at": instant_text(collision.at),
            "until": instant_text(collision.until),
            "peakConcurrency": collision.peak,
            "scheduleCount": collision.schedules.len(),
            "schedules": named,
        })
    };
    found.collisions.iter().map(view).collect()
}

/// `POST /forecast/spread {withinMs?, from?, to?, dryRun?}`: gives the schedules that collide a
/// jitter, so that their starts are spread over `withinMs`.
pub(crate) async fn spread(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["withinMs", "from", "to", "dryRun"], &[])?;
    let now = call.state.clock().now();
    let within = fields.integer("withinMs", 1..=WITHIN_MAX_MS).unwrap_or(WITHIN_DEFAULT_MS);
    let from = fields.instant("from").unwrap_or(now).max(now);
    let to = fields.instant("to").unwrap_or(from + SPAN_DEFAULT);
    if to <= from || to - from > SPAN_MAX {
        let message = "`to` must lie after `from` and now, and at most 8 days after them";
        fields.fault("to", "out_of_range", message);
    }
    let is_dry = fields.flag("dryRun").unwrap_or(false);
    fields.finish_with(Some(()))?;
    let slots = call.state.settings().executor.slots;
    let span = Span { from, to, bucket: SPAN_MAX, slots };
    let ahead = look(&call, span).await?;
    let found = forecast(&ahead.planned, span);
    let mut chosen: Vec<usize> =
        found.collisions.iter().flat_map(|one| one.schedules.iter().copied()).collect();
    chosen.sort_unstable();
    chosen.dedup();
    let mut changed = Vec::new();
    for position in chosen {
        let Some(one) = ahead.planned.get(position) else { continue };
        if !is_dry {
            edit(&call, one.schedule_id, &json!({ "jitterMs": within }), None).await?;
        }
        changed.push(json!({ "id": one.schedule_id, "name": one.name, "jitterMs": within }));
    }
    let view =
        json!({ "dryRun": is_dry, "collisions": found.collisions.len(), "changed": changed });
    ok(&view)
}

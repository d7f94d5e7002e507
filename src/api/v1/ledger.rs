//! What became of a schedule's planned instants: why it did not run.

use chrono::TimeDelta;
use serde_json::Value;

use super::planning::stored_cadence;
use super::schedules::stop_window;
use crate::api::call::{Call, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::ledger::{self, Open};
use crate::api::wire::query::{LIMIT_DEFAULT, LIMIT_MAX, Query};
use crate::api::wire::views;
use crate::clock::Timestamp;
use crate::domain::schedule::Schedule;
use crate::runtime::scheduler::plan::settle;
use crate::store::{OutcomeSpan, PageRequest, StoreError, TOTAL_CAP};

/// How far back a request looks that does not say.
const SPAN_DEFAULT: TimeDelta = TimeDelta::days(7);
/// The longest span: a year and a day.
const SPAN_MAX: TimeDelta = TimeDelta::days(367);

/// `GET /scheduler/schedules/{id}/ledger?from=&to=&limit=&offset=`: the outcomes of the instants
/// in `[from, to]`, oldest first. A schedule that was deleted answers while its outcomes are kept.
pub(crate) async fn show(call: Call) -> Answer {
    let id = call.id()?;
    let mut query = call.query(&["from", "to", "limit", "offset"]);
    let now = call.state.clock().now();
    let (from, to) = read_span(&mut query, now);
    let page = PageRequest {
        limit: query.integer("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT),
        offset: query.integer("offset", 0, TOTAL_CAP).unwrap_or(0),
    };
    query.finish()?;
    let store = call.state.store();
    let schedule = match store.schedule_get(id).await {
        Ok(schedule) => Some(schedule),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let found = store.ledger_outcomes(OutcomeSpan { schedule_id: id, from, to }, page).await?;
    if schedule.is_none() && found.total == 0 {
        return Err(ApiError::not_found("there is no schedule with that id"));
    }
    let grace = schedule.as_ref().map_or_else(
        || i64::try_from(call.state.settings().scheduler.misfire_grace_ms.0).unwrap_or(i64::MAX),
        |schedule| schedule.definition.misfire_grace_ms,
    );
    let mut body = views::page(&found, page, |row| ledger::outcome(row, grace));
    if let Value::Object(body) = &mut body {
        body.insert("scheduleId".to_owned(), id.into());
        body.insert("from".to_owned(), views::instant(Some(from)));
        body.insert("to".to_owned(), views::instant(Some(to)));
        let open = match &schedule {
            Some(schedule) => open(&call, schedule, now).await?,
            None => Value::Null,
        };
        body.insert("open".to_owned(), open);
    }
    ok(&body)
}

/// `from` and `to`; the last seven days if the client does not say.
fn read_span(query: &mut Query, now: Timestamp) -> (Timestamp, Timestamp) {
    let (from, to) = (query.instant("from"), query.instant("to"));
    let to = to.unwrap_or_else(|| from.map_or(now, |from| now.max(from)));
    let from = from.unwrap_or_else(|| to.checked_sub_signed(SPAN_DEFAULT).unwrap_or(to));
    if from > to {
        query.fault("to", "out_of_range", "`to` lies before `from`");
    } else if to.signed_duration_since(from) > SPAN_MAX {
        let message =
            format!("a span has {} days at most; give a later `from`", SPAN_MAX.num_days());
        query.fault("from", "out_of_range", message);
    }
    (from, to)
}

/// Instants that have come and have no outcome yet: their fate is decided when the schedule fires
/// again.
async fn open(call: &Call, schedule: &Schedule, now: Timestamp) -> Result<Value, ApiError> {
    let stop = stop_window(call).await?;
    let cadence = stored_cadence(call, schedule).await?;
    let ranges = settle(schedule, cadence.as_ref(), now, &stop).ledger;
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
        return Ok(Value::Null);
    };
    let open = Open {
        from: first.from,
        to: last.to,
        count: ranges.iter().map(|range| range.count).sum(),
        is_paused: !schedule.definition.enabled,
        is_stopped: !stop.running,
        policy: schedule.definition.misfire_policy,
    };
    Ok(open.view())
}

//! Named calendars: holidays, blackouts, office hours.

use crate::api::call::{Call, created, no_content, ok, replayed_at, versioned};
use crate::api::error::Answer;
use crate::api::v1::executions::nothing_in;
use crate::api::v1::schedules::default_zone;
use crate::api::wire::calendar::{ReadCalendar, parse, view, view_imported};
use crate::api::wire::query::keyset_page;
use crate::domain::calendar::Calendar;
use crate::runtime::handles::Wake;
use crate::store::{CalendarChange, CalendarCreate, Creation, StoreError, StoredAnswer};

fn path(id: i64) -> String {
    format!("/api/v2/calendars/{id}")
}

/// `POST /calendars {name, description?, timezone?, entries?, ical?}`.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let zone = default_zone(&call);
    let now = call.state.clock().now();
    let ReadCalendar { definition, import } = parse(&call.json()?, None, (now, &zone))?;
    let report = import.clone();
    let idempotency = call.idempotency(move |calendar: &Calendar, _| StoredAnswer {
        status: 201,
        body: view_imported(calendar, report.as_ref()).to_string(),
    })?;
    let request = CalendarCreate { definition, idempotency };
    match call.state.store().calendar_create(request).await? {
        Creation::New(calendar) | Creation::Existing(calendar) => {
            created(&view_imported(&calendar, import.as_ref()), path(calendar.id))
        }
        Creation::Replayed(answer) => replayed_at(answer, path),
    }
}

/// `GET /calendars?limit=&cursor=`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["limit", "cursor"]);
    let request = query.keyset();
    query.finish()?;
    let page = call.state.store().calendar_list(request).await?;
    ok(&keyset_page(&page, view))
}

/// `GET /calendars/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let calendar = call.state.store().calendar_get(call.id()?).await?;
    versioned(&view(&calendar), calendar.version)
}

/// `PUT /calendars/{id}`: a partial body. `entries` and `ical` replace what it covers; the
/// schedules that obey it are planned anew at once.
pub(crate) async fn update(call: Call) -> Answer {
    call.no_query()?;
    let (id, if_match) = (call.id()?, call.if_match()?);
    let store = call.state.store();
    let stored = store.calendar_get(id).await?;
    if let Some(expected) = if_match.filter(|expected| *expected != stored.version) {
        return Err(StoreError::VersionConflict { expected, actual: stored.version }.into());
    }
    let default_zone = default_zone(&call);
    let now = call.state.clock().now();
    let read = parse(&call.json()?, Some(&stored.definition), (now, &default_zone))?;
    let change = CalendarChange {
        id,
        expected_version: stored.version,
        definition: read.definition,
        default_zone,
    };
    let calendar = store.calendar_update(change).await?;
    call.state.handles().wake(Wake::Scheduler);
    versioned(&view_imported(&calendar, read.import.as_ref()), calendar.version)
}

/// `DELETE /calendars/{id}`: 409 while a schedule names it.
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    call.state.store().calendar_delete(call.id()?).await?;
    no_content()
}

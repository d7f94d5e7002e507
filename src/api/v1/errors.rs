//! Error records: list, read, retry, resolve, ignore, escalate.

use serde_json::Value;

use super::launch::{self, Reservation};
use crate::api::call::{Call, accepted, ok, replayed};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::execution::{Overrides, parse_note};
use crate::api::wire::views;
use crate::domain::error_record::{ErrorRecord, RecoveryStatus};
use crate::domain::execution::{Execution, Gates, NewExecution};
use crate::domain::recovery;
use crate::runtime::handles::Wake;
use crate::store::{
    Creation, ErrorFilter, ErrorVerdict, ExecutionKey, RetryStart, StoreError, StoredAnswer,
};

/// `GET /errors/errors`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["recoveryStatus", "severity", "scheduleId", "limit", "offset"]);
    let filter = ErrorFilter {
        recovery_statuses: query.words("recoveryStatus"),
        severities: query.words("severity"),
        schedule_id: query.id("scheduleId"),
    };
    let page = query.page();
    query.finish()?;
    let found = call.state.store().error_list(filter, page).await?;
    ok(&views::page(&found, page, views::error))
}

/// `GET /errors/errors/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    ok(&views::error(&call.state.store().error_get(call.id()?).await?))
}

/// `POST /errors/errors/{id}/retry`: the chain's next attempt, now.
pub(crate) async fn retry(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let store = call.state.store();
    let record = store.error_get(call.id()?).await?;
    let last = store.execution_get(ExecutionKey::Id(record.execution_id)).await;
    let last = last.map_err(|error| match error {
        StoreError::NotFound { .. } => {
            ApiError::conflict("history_gone", "the failed execution is no longer kept")
        }
        other => other.into(),
    })?;
    let supplies = body.get("taskConfig").is_some_and(|config| !config.is_null());
    launch::check_shell(call.principal()?, &last.new.task.task_type, supplies)?;
    let overrides =
        Overrides::parse_retry(&body, &last.new.task.task_type, &call.state.task_maxima())?;
    if matches!(record.recovery_status, RecoveryStatus::Resolved | RecoveryStatus::Retrying) {
        return Err(wrong_state(record.recovery_status));
    }
    let execution = next_attempt(&call, &last, overrides);
    let reservation = Reservation::one(call.state.handles(), true);
    let start = RetryStart { error_id: record.id, expected_next_retry_at: None, execution };
    let idempotency = call.idempotency(|made: &(ErrorRecord, Execution), _| StoredAnswer {
        status: 202,
        body: retried(made).to_string(),
    })?;
    match store.error_retry(start, reservation.claim(), idempotency).await? {
        Creation::New(made) | Creation::Existing(made) => {
            reservation.launch(&made.1);
            accepted(&retried(&made))
        }
        Creation::Replayed(answer) => replayed(answer),
    }
}

/// The record with the attempt that was made.
fn retried((record, execution): &(ErrorRecord, Execution)) -> Value {
    let mut answer = views::error(record);
    if let Some(object) = answer.as_object_mut() {
        object.insert("retry".to_owned(), views::accepted(execution));
    }
    answer
}

fn wrong_state(status: RecoveryStatus) -> ApiError {
    ApiError::conflict("wrong_state", format!("this error is {status}, so it is not retried"))
}

/// The attempt after `last`, as recovery would make it, asked for by a person.
fn next_attempt(call: &Call, last: &Execution, overrides: Overrides) -> NewExecution {
    let now = call.state.clock().now();
    let mut next = recovery::next_attempt(last, uuid::Uuid::now_v7(), now);
    next.task.task_config = overrides.over(next.task.task_config);
    next.gates = Gates::of(&next.task);
    next.created_by = call.principal.as_ref().map(|principal| principal.name.clone());
    next
}

/// `POST /errors/errors/{id}/resolve`.
pub(crate) async fn resolve(call: Call) -> Answer {
    decide(call, |notes| ErrorVerdict::Resolve { notes }).await
}

/// `POST /errors/errors/{id}/ignore`.
pub(crate) async fn ignore(call: Call) -> Answer {
    decide(call, |notes| ErrorVerdict::Ignore { notes }).await
}

/// `POST /errors/errors/{id}/escalate`.
pub(crate) async fn escalate(call: Call) -> Answer {
    decide(call, |notes| ErrorVerdict::Escalate { notes }).await
}

async fn decide(call: Call, verdict: impl FnOnce(Option<String>) -> ErrorVerdict) -> Answer {
    call.no_query()?;
    let notes = notes_of(&call)?;
    let record = call.state.store().error_decide(call.id()?, verdict(notes)).await?;
    call.state.handles().wake(Wake::Recovery);
    ok(&views::error(&record))
}

/// What is noted on the record: `resolutionNotes`, else the reason of the act.
pub(crate) fn notes_of(call: &Call) -> Result<Option<String>, ApiError> {
    let body = call.optional_json()?;
    let notes = parse_note(&body, "resolutionNotes")?;
    Ok(notes.filter(|notes| !notes.is_empty()).or_else(|| call.reason()))
}

//! Dead letters: list, count, resubmit, discard.

use serde_json::Value;

use super::launch::{self, Order, Reservation};
use crate::api::call::{Call, accepted, ok, replayed};
use crate::api::error::Answer;
use crate::api::wire::execution::{Overrides, parse_note};
use crate::api::wire::views;
use crate::domain::error_record::DeadLetter;
use crate::domain::execution::{Execution, Priority, Trigger};
use crate::store::{Creation, DeadLetterFilter, StoredAnswer};

/// `GET /dlq`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["status", "scheduleId", "limit", "offset"]);
    let filter = DeadLetterFilter {
        statuses: query.words("status"),
        schedule_id: query.id("scheduleId"),
        ..DeadLetterFilter::default()
    };
    let page = query.page();
    query.finish()?;
    let found = call.state.store().dead_letter_list(filter, page).await?;
    ok(&views::page(&found, page, views::dead_letter))
}

/// `GET /dlq/stats`.
pub(crate) async fn stats(call: Call) -> Answer {
    call.no_query()?;
    ok(&views::dead_letter_stats(&call.state.store().dead_letter_stats().await?))
}

/// `POST /dlq/{id}/resubmit`: a new chain.
pub(crate) async fn resubmit(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let letter = call.state.store().dead_letter_get(call.id()?).await?;
    let mut task = letter.task.clone();
    let supplies = body.get("taskConfig").is_some_and(|config| !config.is_null());
    launch::check_shell(call.principal()?, &task.task_type, supplies)?;
    let overrides = Overrides::parse_retry(&body, &task.task_type, &call.state.task_maxima())?;
    task.task_config = overrides.over(task.task_config);
    let order = Order {
        task,
        trigger: Trigger::Manual,
        priority: Priority::Medium,
        due: call.state.clock().now(),
        schedule: letter.schedule_id.map(|id| (id, letter.schedule_name.clone())),
    };
    let mut row = launch::new_chain(&call, order);
    row.dead_letter_id = Some(letter.id);
    row.schedule_name = letter.schedule_name;
    let reservation = Reservation::one(call.state.handles(), true);
    let claim = reservation.claim();
    let idempotency = call.idempotency(|made: &(DeadLetter, Execution), _| StoredAnswer {
        status: 202,
        body: resubmitted(made).to_string(),
    })?;
    let store = call.state.store();
    match store.dead_letter_resubmit(letter.id, row, claim, idempotency).await? {
        Creation::New(made) | Creation::Existing(made) => {
            reservation.launch(&made.1);
            accepted(&resubmitted(&made))
        }
        Creation::Replayed(answer) => replayed(answer),
    }
}

/// The letter with the first execution of its new chain.
fn resubmitted((letter, execution): &(DeadLetter, Execution)) -> Value {
    let mut answer = views::dead_letter(letter);
    if let Some(object) = answer.as_object_mut() {
        object.insert("executionId".to_owned(), execution.new.execution_id.to_string().into());
        object.insert("execution".to_owned(), views::accepted(execution));
    }
    answer
}

/// `POST /dlq/{id}/discard`.
pub(crate) async fn discard(call: Call) -> Answer {
    call.no_query()?;
    let reason = parse_note(&call.optional_json()?, "reason")?;
    let letter = call.state.store().dead_letter_discard(call.id()?, reason).await?;
    ok(&views::dead_letter(&letter))
}

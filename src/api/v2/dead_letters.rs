//! Dead letters by the many: list, group, resubmit at a rate, discard.

use serde_json::{Value, json};

use crate::api::call::{Call, accepted, ok, replayed};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::launch::{self, Order};
use crate::api::wire::groups::{LetterOrder, letter_group};
use crate::api::wire::query::keyset_page;
use crate::api::wire::views;
use crate::clock::Timestamp;
use crate::domain::error_record::DeadLetter;
use crate::domain::event::instant_text;
use crate::domain::execution::{Execution, NewExecution, Priority, Trigger};
use crate::runtime::handles::Wake;
use crate::store::{Creation, DeadLetterFilter, LettersDiscard, Resubmission, StoredAnswer};

/// `GET /api/v2/dead-letters`.
pub(crate) async fn list(call: Call) -> Answer {
    let known = ["status", "scheduleId", "fingerprint", "cause", "since", "limit", "cursor"];
    let mut query = call.query(&known);
    let filter = DeadLetterFilter {
        statuses: query.words("status"),
        schedule_id: query.id("scheduleId"),
        fingerprint: query.text("fingerprint"),
        cause: query.text("cause"),
        since: query.instant("since"),
    };
    let page = query.keyset();
    query.finish()?;
    let found = call.state.store().dead_letter_page(filter, page).await?;
    ok(&keyset_page(&found, views::dead_letter))
}

/// `GET /api/v2/dead-letters/groups`: what waits, by cause.
pub(crate) async fn groups(call: Call) -> Answer {
    call.no_query()?;
    let found = call.state.store().dead_letter_groups().await?;
    ok(&json!({ "items": found.iter().map(letter_group).collect::<Vec<_>>() }))
}

/// `POST /api/v2/dead-letters/resubmit`: new chains, spread by `ratePerMinute`.
pub(crate) async fn resubmit(call: Call) -> Answer {
    call.no_query()?;
    let order = LetterOrder::parse_resubmit(&call.json()?)?;
    let store = call.state.store();
    let chosen = store.dead_letter_choose(order.choice).await?;
    let now = call.state.clock().now();
    let batch: Vec<Resubmission> = chosen
        .items
        .iter()
        .zip(0_i64..)
        .map(|(letter, place)| Resubmission {
            letter_id: letter.id,
            execution: row_of(&call, letter, starts_at(now, place, order.per_minute)),
        })
        .collect();
    let remaining = chosen.remaining;
    if order.is_dry_run {
        let items = batch.iter().map(|one| (one.letter_id, None, one.execution.available_at));
        return ok(&resubmitted(items, remaining, true));
    }
    let answer = move |made: &Vec<(i64, Execution)>| {
        let items = made.iter().map(|(id, row)| (*id, Some(row), row.new.available_at));
        resubmitted(items, remaining, false)
    };
    let idempotency = call.idempotency(move |made: &Vec<(i64, Execution)>, _| StoredAnswer {
        status: 202,
        body: answer(made).to_string(),
    })?;
    match store.dead_letters_resubmit(batch, idempotency).await? {
        Creation::New(made) | Creation::Existing(made) => {
            call.state.handles().wake(Wake::Executor);
            accepted(&answer(&made))
        }
        Creation::Replayed(answer) => replayed(answer),
    }
}

/// The `place`th start at a rate.
fn starts_at(now: Timestamp, place: i64, per_minute: Option<i64>) -> Timestamp {
    let wait = per_minute.map_or(0, |rate| place * 60_000 / rate.max(1));
    now + chrono::Duration::milliseconds(wait)
}

fn row_of(call: &Call, letter: &DeadLetter, at: Timestamp) -> NewExecution {
    let order = Order {
        task: letter.task.clone(),
        trigger: Trigger::Manual,
        priority: Priority::Medium,
        due: call.state.clock().now(),
        schedule: letter.schedule_id.map(|id| (id, letter.schedule_name.clone())),
    };
    let mut row = launch::new_chain(call, order);
    row.dead_letter_id = Some(letter.id);
    row.schedule_name.clone_from(&letter.schedule_name);
    row.available_at = at;
    row
}

fn resubmitted<'a>(
    items: impl Iterator<Item = (i64, Option<&'a Execution>, Timestamp)>,
    remaining: i64,
    is_dry_run: bool,
) -> Value {
    let items: Vec<Value> = items
        .map(|(id, row, at)| {
            json!({
                "id": id,
                "executionId": row.map(|row| row.new.execution_id),
                "availableAt": instant_text(at),
            })
        })
        .collect();
    json!({
        "dryRun": is_dry_run,
        "count": items.len(),
        "remaining": remaining,
        "items": items,
    })
}

/// `POST /api/v2/dead-letters/discard`: out of the queue, with a reason.
pub(crate) async fn discard(call: Call) -> Answer {
    call.no_query()?;
    let order = LetterOrder::parse_discard(&call.json()?)?;
    if order.reason.is_none() && !order.is_dry_run {
        let message = "say why: discarded letters are not tried again";
        return Err(ApiError::invalid_field("reason", "required", message));
    }
    let store = call.state.store();
    let chosen = store.dead_letter_choose(order.choice).await?;
    let mut ids: Vec<i64> = chosen.items.iter().map(|letter| letter.id).collect();
    if !order.is_dry_run {
        let order = LettersDiscard { ids, reason: order.reason };
        ids = store.dead_letters_discard(order).await?.iter().map(|letter| letter.id).collect();
    }
    ok(&json!({
        "dryRun": order.is_dry_run,
        "count": ids.len(),
        "remaining": chosen.remaining,
        "ids": ids,
    }))
}

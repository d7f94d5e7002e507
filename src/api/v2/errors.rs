//! Error records: pages by key, and to whom they are given. Retry, resolve and ignore are v1's.

use std::collections::HashMap;

use serde_json::Value;

use crate::api::call::{Call, ok};
use crate::api::error::Answer;
use crate::api::wire::body::Fields;
use crate::api::wire::definition::NAME_MAX;
use crate::api::wire::query::keyset_page;
use crate::api::wire::{interventions, views};
use crate::domain::error_record::ErrorRecord;
use crate::runtime::handles::Wake;
use crate::store::{ErrorPageFilter, ExecutionActs};

/// `GET /errors?status=&severity=&assignee=&scheduleId=&limit=&cursor=`.
pub(crate) async fn list(call: Call) -> Answer {
    let known = ["status", "severity", "assignee", "scheduleId", "limit", "cursor"];
    let mut query = call.query(&known);
    let filter = ErrorPageFilter {
        recovery_statuses: query.words("status"),
        severities: query.words("severity"),
        schedule_id: query.id("scheduleId"),
        assignee: query.text("assignee"),
    };
    let page = query.keyset();
    query.finish()?;
    let store = call.state.store();
    let found = store.error_page(filter, page).await?;
    let ids = found.items.iter().map(|record| record.execution_id).collect();
    let acts = store.execution_acts_of(ids).await?;
    ok(&keyset_page(&found, |record| view(record, &acts)))
}

/// `GET /errors/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let record = call.state.store().error_get(call.id()?).await?;
    answer(&call, &record).await
}

/// `POST /errors/{id}/assign {assignee, reason?}`; `assignee: null` gives it to nobody.
pub(crate) async fn assign(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["assignee", "reason"], &[])?;
    if body.get("assignee").is_none() {
        fields.fault("assignee", "required", "`assignee` is needed; null gives it to nobody");
    }
    let assignee = read_assignee(&mut fields);
    let assignee = fields.finish_with(Some(assignee))?;
    let record = call.state.store().error_assign(call.id()?, assignee).await?;
    answer(&call, &record).await
}

/// `POST /errors/{id}/escalate {assignee?, reason?, resolutionNotes?}`.
pub(crate) async fn escalate(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let mut fields = Fields::of(&body, &["assignee", "reason", "resolutionNotes"], &[])?;
    let assignee = read_assignee(&mut fields);
    let notes = fields.text("resolutionNotes", 10_000).or_else(|| call.reason());
    let (assignee, notes) = fields.finish_with(Some((assignee, notes)))?;
    let record = call.state.store().error_escalate(call.id()?, assignee, notes).await?;
    call.state.handles().wake(Wake::Recovery);
    answer(&call, &record).await
}

fn read_assignee(fields: &mut Fields<'_>) -> Option<String> {
    fields.value("assignee")?;
    fields.needed_text("assignee", NAME_MAX)
}

async fn answer(call: &Call, record: &ErrorRecord) -> Answer {
    let acts = call.state.store().execution_acts_of(vec![record.execution_id]).await?;
    ok(&view(record, &acts))
}

fn view(record: &ErrorRecord, acts: &HashMap<i64, ExecutionActs>) -> Value {
    let mut body = views::error(record);
    let set = acts.get(&record.execution_id).and_then(|acts| acts.outcome_override.as_ref());
    if let Value::Object(object) = &mut body {
        let outcome = set.map_or(Value::Null, interventions::outcome_override);
        object.insert("outcomeOverride".to_owned(), outcome);
    }
    body
}

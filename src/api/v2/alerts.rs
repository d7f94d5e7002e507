//! Alerts and the log of their deliveries: list, read, acknowledge.

use crate::api::call::{Call, ok};
use crate::api::error::Answer;
use crate::api::wire::alert_rule::{alert, delivery};
use crate::api::wire::body::Fields;
use crate::api::wire::query::keyset_page;
use crate::domain::alert::AlertState;
use crate::store::{AlertFilter, DeliveryFilter};

/// Bytes of a reason at most.
const REASON_MAX: usize = 1_000;
/// How an attempt can stand.
const OUTCOMES: &[&str] = &["sending", "delivered", "failed", "interrupted"];

/// `GET /alerts?state=&severity=&ruleId=&scheduleId=`.
pub(crate) async fn list(call: Call) -> Answer {
    let known = ["state", "severity", "ruleId", "scheduleId", "limit", "cursor"];
    let mut query = call.query(&known);
    let filter = AlertFilter {
        states: query.words("state"),
        severities: query.words("severity"),
        rule_id: query.id("ruleId"),
        schedule_id: query.id("scheduleId"),
    };
    if filter.states.contains(&AlertState::Pending) {
        query.fault("state", "invalid_value", "`state` is firing, acknowledged or cleared");
    }
    let page = query.keyset();
    query.finish()?;
    ok(&keyset_page(&call.state.store().alert_list(filter, page).await?, alert))
}

/// `GET /alerts/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    ok(&alert(&call.state.store().alert_get(call.id()?).await?))
}

/// `POST /alerts/{id}/acknowledge {reason}`: a person knows, so it is not repeated.
pub(crate) async fn acknowledge(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let mut fields = Fields::of(&body, &["reason"], &[])?;
    let reason = fields.text("reason", REASON_MAX);
    fields.finish()?;
    let by = call.principal()?.name.clone();
    ok(&alert(&call.state.store().alert_acknowledge(call.id()?, by, reason).await?))
}

/// `GET /alert-deliveries?messageId=&channel=&outcome=`: attempts, newest first.
pub(crate) async fn deliveries(call: Call) -> Answer {
    let mut query = call.query(&["messageId", "channel", "outcome", "limit", "cursor"]);
    let filter = DeliveryFilter {
        message_id: query.id("messageId"),
        channel: query.text("channel"),
        outcome: query.text("outcome"),
    };
    if filter.outcome.as_ref().is_some_and(|word| !OUTCOMES.contains(&word.as_str())) {
        let message = format!("`outcome` is one of {}", OUTCOMES.join(", "));
        query.fault("outcome", "invalid_value", message);
    }
    let page = query.keyset();
    query.finish()?;
    ok(&keyset_page(&call.state.store().alert_delivery_list(filter, page).await?, delivery))
}

/// `GET /alert-deliveries/{id}`.
pub(crate) async fn show_delivery(call: Call) -> Answer {
    call.no_query()?;
    ok(&delivery(&call.state.store().alert_delivery_get(call.id()?).await?))
}

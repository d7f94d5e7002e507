//! Alert rules: list, make, change, delete, and a look back at what one would have raised.

use serde_json::{Value, json};

use crate::api::call::{Call, created, no_content, ok, replayed_at, versioned};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::executions::nothing_in;
use crate::api::wire::alert_rule::{self, parse, view};
use crate::api::wire::body::Fields;
use crate::api::wire::query::keyset_page;
use crate::clock::Timestamp;
use crate::domain::alert::kinds::Step;
use crate::domain::alert::plan::{Book, Turn};
use crate::domain::alert::rule::AlertRule;
use crate::domain::alert::{Alert, AlertState};
use crate::domain::event::instant_text;
use crate::store::{AlertRuleChange, Creation, StoreError, StoredAnswer};

/// Looks at the store that one preview may take; each is some thousands of events.
const LOOKS_MAX: usize = 100;
/// Alerts that a preview lists.
const LISTED_MAX: usize = 200;
/// Due instants handled between two events at most.
const TICKS_MAX: usize = 1_000;

fn path(id: i64) -> String {
    format!("/api/v2/alert-rules/{id}")
}

/// `GET /alert-rules`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["limit", "cursor"]);
    let page = query.keyset();
    query.finish()?;
    ok(&keyset_page(&call.state.store().alert_rule_list(page).await?, view))
}

/// What the store says of channels that are not there belongs to the field.
fn refusal(error: StoreError) -> ApiError {
    match error {
        StoreError::WrongState { code: "unknown_channel", detail } => {
            ApiError::invalid_field("channels", "unknown_channel", detail)
        }
        other => other.into(),
    }
}

/// `POST /alert-rules`: it looks at what happens from now on.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let rule = parse(&call.json()?)?;
    let idempotency = call.idempotency(|made: &AlertRule, _| StoredAnswer {
        status: 201,
        body: view(made).to_string(),
    })?;
    match call.state.store().alert_rule_create(rule, idempotency).await.map_err(refusal)? {
        Creation::New(made) | Creation::Existing(made) => created(&view(&made), path(made.id)),
        Creation::Replayed(answer) => replayed_at(answer, path),
    }
}

/// `GET /alert-rules/{id}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let rule = call.state.store().alert_rule_get(call.id()?).await?;
    versioned(&view(&rule), rule.version)
}

/// `PUT /alert-rules/{id}`: a partial body, laid over what is stored.
pub(crate) async fn update(call: Call) -> Answer {
    call.no_query()?;
    let (body, if_match) = (call.json()?, call.if_match()?);
    let store = call.state.store();
    let before = store.alert_rule_get(call.id()?).await?;
    let actual = before.version;
    if let Some(expected) = if_match.filter(|expected| *expected != actual) {
        return Err(StoreError::VersionConflict { expected, actual }.into());
    }
    let rule = parse(&alert_rule::merge(&before, &body))?;
    let change = AlertRuleChange { id: before.id, expected_version: actual, rule };
    let rule = store.alert_rule_update(change).await.map_err(refusal)?;
    versioned(&view(&rule), rule.version)
}

/// `DELETE /alert-rules/{id}`: its alerts are over.
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    call.state.store().alert_rule_delete(call.id()?).await?;
    no_content()
}

/// `POST /alert-rules/preview {rule, from}`: which past events would have raised it.
pub(crate) async fn preview(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["rule", "from"], &[])?;
    let rule = fields.needed("rule").cloned();
    fields.needed("from");
    let from = fields.instant("from");
    let (mut rule, from) = fields.finish_with(rule.zip(from))?;
    if let Some(object) = rule.as_object_mut() {
        object.entry("name").or_insert_with(|| json!("preview"));
    }
    let rule = parse(&rule)?;
    let now = call.state.clock().now();
    let rule = AlertRule {
        id: 1,
        name: rule.name,
        enabled: true,
        spec: rule.spec,
        from_seq: 0,
        version: 1,
        created_at: from,
        updated_at: from,
    };
    ok(&look_back(&call, &rule, from, now).await?)
}

/// Lets the rule see the past as it would have.
async fn look_back(
    call: &Call,
    rule: &AlertRule,
    from: Timestamp,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let store = call.state.store();
    let mut after = store.alert_events_before(from).await?;
    let first = after + 1;
    let rules = std::slice::from_ref(rule);
    let mut past = Past { book: Book::default(), raised: Vec::new(), messages: 0, is_cut: false };
    for look in 1.. {
        let (steps, last, has_more) = store.alert_look_back(rule.clone(), after).await?;
        for step in &steps {
            let at = match step {
                Step::Seen(seen) => seen.at,
                Step::Ended { at, .. } => *at,
            };
            past.catch_up(rules, at);
            past.book.take(rules, step);
            past.collect();
        }
        after = last;
        past.is_cut |= has_more && look >= LOOKS_MAX;
        if !has_more || past.is_cut {
            break;
        }
    }
    past.catch_up(rules, now);
    past.collect();
    let alerts: Vec<Value> = past.raised.iter().rev().take(LISTED_MAX).map(summary).collect();
    Ok(json!({
        "from": instant_text(from),
        "events": { "first": first, "last": after },
        "raised": past.raised.len(),
        "messages": past.messages,
        "alerts": alerts,
        "isCut": past.is_cut || past.raised.len() > LISTED_MAX,
    }))
}

/// What a preview has seen so far.
struct Past {
    book: Book,
    raised: Vec<Alert>,
    messages: usize,
    is_cut: bool,
}

impl Past {
    /// Does what was due up to `now`, each at its own instant.
    fn catch_up(&mut self, rules: &[AlertRule], now: Timestamp) {
        for _ in 0..TICKS_MAX {
            let alerts = self.book.alerts.iter();
            let next = alerts.filter_map(|alert| alert.next_at(rules.first())).min();
            let Some(next) = next.filter(|next| *next <= now) else { return };
            self.messages += self.book.tick(rules, next).len();
            self.collect();
        }
        self.is_cut = true;
    }

    /// Keeps what is over out of the book, and what was raised for the answer.
    fn collect(&mut self) {
        for (place, turn) in std::mem::take(&mut self.book.turns) {
            if let (Turn::Raised, Some(alert)) = (turn, self.book.alerts.get(place)) {
                self.raised.push(alert.clone());
            }
        }
        self.book.changed.clear();
        self.book
            .alerts
            .retain(|alert| alert.state != AlertState::Cleared || alert.due_at.is_some());
    }
}

fn summary(alert: &Alert) -> Value {
    json!({
        "group": alert.group_key,
        "severity": alert.severity,
        "title": alert.title,
        "scheduleId": alert.schedule_id,
        "scheduleName": alert.schedule_name,
        "raisedAt": alert.raised_at.map(instant_text),
        "count": alert.count,
        "samples": alert.samples,
    })
}

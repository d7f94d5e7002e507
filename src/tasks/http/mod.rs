//! HTTP tasks: one request, its redirects, one bounded answer, under one deadline.
//!
//! The deadline counts from name lookup to the last byte of the body. A status of 400 or more is a
//! failure that keeps the answer as its result; what is transient is in the table of `TaskError`.

mod outbound;

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

pub use self::outbound::Outbound;
pub(super) use self::outbound::{Answer, Request};
use super::control::TaskControl;
use super::outcome::{Outcome, OutcomeExtra, TaskContext};
use super::race;
use crate::clock::Clock;
use crate::domain::task::{HttpTask, TaskError};

/// The longest wait that is taken from a `Retry-After`.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends the request of `task` and judges the answer.
pub(super) async fn run(
    outbound: &Outbound,
    clock: &Clock,
    task: &HttpTask,
    context: &TaskContext,
    control: &TaskControl,
) -> Outcome {
    let mut headers = task.headers.clone();
    let event = context.event.as_deref().filter(|_| task.body.is_none() && task.method.has_body());
    if event.is_some() || task.body.as_ref().is_some_and(|body| !body.is_string()) {
        add_default(&mut headers, "content-type", "application/json");
    }
    add_default(&mut headers, "idempotency-key", &context.chain_id.to_string());
    headers.extend(identity(context));
    let request = Request {
        method: task.method.name(),
        url: task.url.clone(),
        headers,
        body: event
            .map_or_else(|| task.body_bytes(), |event| event.to_string().into_bytes())
            .into(),
    };
    match race(outbound.send(request), context.timeout, control).await {
        Ok(Ok(answer)) => conclude(&answer, clock.now()),
        Ok(Err(error)) => Outcome::failed(error),
        Err(cut) => cut.outcome(None, OutcomeExtra::default()),
    }
}

fn add_default(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
    if !headers.iter().any(|(given, _)| given == name) {
        headers.push((name.to_owned(), value.to_owned()));
    }
}

/// The headers by which a receiver knows the attempt.
pub(super) fn identity(context: &TaskContext) -> Vec<(String, String)> {
    let scheduled_at = context.scheduled_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut headers = vec![
        ("x-carillon-execution-id".to_owned(), context.execution_id.to_string()),
        ("x-carillon-chain-id".to_owned(), context.chain_id.to_string()),
        ("x-carillon-attempt".to_owned(), context.attempt.to_string()),
        ("x-carillon-scheduled-at".to_owned(), scheduled_at),
        ("x-carillon-fencing-token".to_owned(), context.fencing_token.to_string()),
    ];
    let schedule =
        context.schedule_id.map(|id| ("x-carillon-schedule-id".to_owned(), id.to_string()));
    let trace = context.traceparent.clone().map(|trace| ("traceparent".to_owned(), trace));
    let event = context.event_name();
    let event = event.map(|name| ("x-carillon-event-name".to_owned(), name.to_owned()));
    headers.extend(schedule.into_iter().chain(trace).chain(event));
    headers
}

fn conclude(answer: &Answer, now: DateTime<Utc>) -> Outcome {
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in &answer.headers {
        match headers.get_mut(name) {
            Some(Value::String(earlier)) => {
                earlier.push_str(", ");
                earlier.push_str(value);
            }
            _ => {
                headers.insert(name.clone(), Value::from(value.as_str()));
            }
        }
    }
    let mut result = json!({"status": answer.status, "headers": headers, "data": data_of(answer)});
    if answer.truncated
        && let Some(result) = result.as_object_mut()
    {
        result.insert("truncated".to_owned(), Value::from(true));
    }
    let retry_after = answer.header("retry-after").and_then(|value| retry_after(value, now));
    let extra = OutcomeExtra { retry_after, ..OutcomeExtra::default() };
    if answer.status < 400 {
        return Outcome::Completed { result, extra };
    }
    Outcome::Failed { error: TaskError::http_status(answer.status), result: Some(result), extra }
}

/// The body: JSON when it says so and is, else text.
fn data_of(answer: &Answer) -> Value {
    let kind = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_json = kind == "application/json" || kind.ends_with("+json") || kind == "text/json";
    if is_json
        && !answer.truncated
        && let Ok(data) = serde_json::from_slice(&answer.body)
    {
        return data;
    }
    let mut text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.truncated {
        text.push_str("\n[... the rest of the body was not kept]");
    }
    Value::from(text)
}

/// Reads `Retry-After`, seconds or a date.
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wait = value.parse().map(Duration::from_secs).ok().or_else(|| {
        let until = DateTime::parse_from_rfc2822(value).ok()?.with_timezone(&Utc);
        Some((until - now).to_std().unwrap_or_default())
    })?;
    Some(wait.min(RETRY_AFTER_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_a_day() {
        let now = DateTime::from_timestamp(1_445_412_470, 0).unwrap();
        let table = [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999", Some(86_400)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(10)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
        ];
        for (value, seconds) in table {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn only_sound_json_is_data_and_all_else_is_text() {
        let answer = |kind: &str, body: &str| Answer {
            status: 200,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: body.as_bytes().to_vec(),
            truncated: false,
        };
        assert_eq!(data_of(&answer("application/json; charset=utf-8", "[1]")), json!([1]));
        assert_eq!(data_of(&answer("application/problem+json", "{}")), json!({}));
        assert_eq!(data_of(&answer("application/json", "{")), json!("{"));
        assert_eq!(data_of(&answer("text/plain", "1")), json!("1"));
    }
}

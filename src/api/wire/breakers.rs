//! Breakers: what answers look like, and what operators may say.

use serde_json::{Value, json};

use super::body::Fields;
use super::views::instant;
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::breaker::{BreakerState, CONDUCTOR, HTTP, NAMED, TargetGate};
use crate::domain::event::instant_text;
use crate::store::{BreakerChange, BreakerRow};

/// The longest force, in milliseconds.
const FORCE_MAX_MS: i64 = 31 * 86_400_000;
/// The longest key, in bytes: a host name, its port and what stands before.
const KEY_MAX: usize = 300;
const REASON_MAX: usize = 10_000;

/// A breaker at `now`.
pub(crate) fn breaker(row: &BreakerRow, now: Timestamp) -> Value {
    let breaker = &row.breaker;
    let force = breaker.force_in_force(now);
    let passes = match breaker.gate(now) {
        None => "all",
        Some(TargetGate::OneProbe) => "one_probe",
        Some(TargetGate::Closed) => "none",
    };
    json!({
        "id": row.id,
        "key": row.key,
        "state": breaker.state,
        "passes": passes,
        "recentRuns": breaker.recent.len(),
        "recentFailures": breaker.recent.iter().filter(|failed| **failed).count(),
        "failuresInARow": breaker.in_a_row,
        "failures": breaker.policy.failures,
        "window": breaker.policy.window,
        "openMs": breaker.policy.open_ms,
        "openedAt": instant(breaker.opened_at),
        "probeAt": instant(breaker.probe_at),
        "probeExecutionId": breaker.probe,
        "forced": force.map(|force| json!({
            "state": if force.is_open { BreakerState::Open } else { BreakerState::Closed },
            "until": instant(force.until),
            "by": force.by,
            "reason": force.reason,
        })),
        "createdAt": instant_text(row.created_at),
        "updatedAt": instant_text(row.updated_at),
    })
}

/// A change of a breaker.
pub(crate) fn change(change: &BreakerChange) -> Value {
    json!({
        "id": change.id,
        "at": instant_text(change.at),
        "from": change.from,
        "to": change.to,
        "cause": change.cause,
        "executionId": change.execution_id,
        "by": change.by,
        "reason": change.reason,
    })
}

/// Whether a key can be a target's.
pub(crate) fn is_key(key: &str) -> bool {
    let named = |start| key.strip_prefix(start).is_some_and(|rest: &str| !rest.is_empty());
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    key.len() <= KEY_MAX && is_plain && (key == CONDUCTOR || named(HTTP) || named(NAMED))
}

/// What an operator says.
pub(crate) struct Word {
    /// Until when.
    pub(crate) until: Option<Timestamp>,
    /// Why.
    pub(crate) reason: Option<String>,
}

/// Reads `{forMs?|until?, reason?}`.
///
/// # Errors
/// 422 with every fault.
pub(crate) fn parse_force(value: &Value, now: Timestamp) -> Result<Word, ApiError> {
    let mut fields = Fields::of(value, &["forMs", "until", "reason"], &[])?;
    let span = fields.integer("forMs", 1..=FORCE_MAX_MS);
    let until = fields.instant("until");
    if span.is_some() && until.is_some() {
        fields.fault("until", "invalid_value", "give `forMs` or `until`, not both");
    }
    let last = now + chrono::Duration::milliseconds(FORCE_MAX_MS);
    if until.is_some_and(|until| until <= now || until > last) {
        let message = "`until` must lie in the future, at most 31 days from now";
        fields.fault("until", "out_of_range", message);
    }
    let reason = fields.text("reason", REASON_MAX);
    let until = until.or(span.map(|ms| now + chrono::Duration::milliseconds(ms)));
    fields.finish_with(Some(Word { until, reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_force_ends_at_one_instant_in_the_future() {
        let now = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
        let parse = |value: Value| parse_force(&value, now).map(|word| word.until);
        assert_eq!(parse(json!({})).unwrap(), None);
        let minute = now + chrono::Duration::seconds(60);
        assert_eq!(parse(json!({"forMs": 60_000})).unwrap(), Some(minute));
        assert_eq!(parse(json!({"until": instant_text(minute)})).unwrap(), Some(minute));
        for value in [
            json!({"forMs": 0}),
            json!({"until": instant_text(now)}),
            json!({"until": "2126-01-01T00:00:00Z"}),
            json!({"forMs": 1, "until": instant_text(minute)}),
            json!({"for": 1}),
        ] {
            assert!(parse(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn a_key_is_a_host_the_conductor_or_a_name() {
        for key in ["http:a", "http:[::1]:80", "conductor", "key:mail"] {
            assert!(is_key(key), "{key}");
        }
        for key in ["", "http:", "key:", "a", "http:a b", "http:a/b"] {
            assert!(!is_key(key), "{key}");
        }
    }
}

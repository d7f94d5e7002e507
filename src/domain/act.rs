//! What a person or program does to the system by its own word, and the record of it.
//!
//! An act is known before it is done (who, what, why); what it changed is known when it is done.
//! The record of both is a row of the audit log, written in the transaction of the act.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// Bytes of JSON at most in each of `before` and `after`.
pub const CHANGE_BYTES_MAX: usize = 16 * 1024;

/// Characters of a reason at most.
pub const REASON_MAX: usize = 2_000;

/// Who does what to which subject, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The name of the key.
    pub who: String,
    /// The key's row id.
    pub key_id: Option<i64>,
    /// The role it has.
    pub role: String,
    /// `schedule.pause`, `execution.cancel`, ...
    pub action: String,
    /// The kind of thing it is done to: the first half of the action.
    pub subject_kind: String,
    /// That thing's id or name, as far as the request names it.
    pub subject_id: Option<String>,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// The request that asked for it.
    pub request_id: Option<String>,
}

/// An act that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Row id.
    pub id: i64,
    /// When it was done.
    pub at: DateTime<Utc>,
    /// What was done.
    pub act: Act,
    /// What the subject was before, where that is known; bounded.
    pub before: Option<Value>,
    /// What it became; bounded.
    pub after: Option<Value>,
}

/// `value` if it is no larger than a change may be, else a word that it is.
#[must_use]
pub fn bounded(value: Value) -> Value {
    let bytes = value.to_string().len();
    if bytes <= CHANGE_BYTES_MAX { value } else { json!({ "truncated": true, "bytes": bytes }) }
}

/// The fields in which two objects differ, as they were and as they are.
#[must_use]
pub fn differences(before: &Value, after: &Value) -> (Value, Value) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before.clone(), after.clone());
    };
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let (mut was, mut is) = (serde_json::Map::new(), serde_json::Map::new());
    for name in names {
        let (left, right) = (old.get(name), new.get(name));
        if left != right {
            was.insert(name.clone(), left.cloned().unwrap_or(Value::Null));
            is.insert(name.clone(), right.cloned().unwrap_or(Value::Null));
        }
    }
    (Value::Object(was), Value::Object(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_kept() {
        let before = json!({ "a": 1, "b": 2, "c": { "d": 1 } });
        let after = json!({ "a": 1, "b": 3, "e": true });
        let (was, is) = differences(&before, &after);
        assert_eq!(was, json!({ "b": 2, "c": { "d": 1 }, "e": null }));
        assert_eq!(is, json!({ "b": 3, "c": null, "e": true }));
    }

    #[test]
    fn a_large_change_is_cut_and_says_so() {
        let large = json!("x".repeat(CHANGE_BYTES_MAX));
        assert_eq!(bounded(large)["truncated"], true);
        assert_eq!(bounded(json!([1])), json!([1]));
    }
}

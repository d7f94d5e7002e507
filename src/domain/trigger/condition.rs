//! Conditions on an event's payload: a path, an operator, a value.
//!
//! A path is dotted (`result.exitCode`, `items.0.id`). What is not there satisfies nothing but
//! `ne` and `exists: false`. Numbers are compared as numbers and texts as texts; what is neither,
//! or differs in kind, is neither less nor greater.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::domain::fault::Fault;
use crate::domain::fields::Fields;
use crate::domain::text_enum;

/// Conditions of one rule at most.
pub(super) const CONDITIONS_MAX: usize = 20;
/// Bytes of a path at most.
pub const PATH_MAX: usize = 256;
/// Bytes of a pattern, and of its compiled form, at most.
const PATTERN_MAX: usize = 1_000;
const COMPILED_MAX: usize = 256 * 1024;

text_enum! {
    /// How a value is compared.
    pub enum Operator {
        /// Equal.
        Eq = "eq",
        /// Not equal, or not there.
        Ne = "ne",
        /// Greater.
        Gt = "gt",
        /// Greater or equal.
        Gte = "gte",
        /// Less.
        Lt = "lt",
        /// Less or equal.
        Lte = "lte",
        /// There (`true`, the default) or not (`false`); null is there.
        Exists = "exists",
        /// A text that contains the text, or a list that contains the value.
        Contains = "contains",
        /// A text that the regular expression finds something in.
        Matches = "matches",
    }
}

/// One condition.
#[derive(Clone, Debug)]
pub struct Condition {
    path: String,
    operator: Operator,
    value: Value,
    pattern: Option<Regex>,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.operator, &self.value) == (&other.path, other.operator, &other.value)
    }
}

impl Eq for Condition {}

/// The value at a dotted path; a part that is a number may also name a place in a list.
#[must_use]
pub fn value_at<'a>(payload: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(payload, |value, part| match value {
        Value::Object(object) => object.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Whether `path` can name anything.
#[must_use]
pub fn is_path(path: &str) -> bool {
    !path.is_empty() && path.len() <= PATH_MAX && path.split('.').all(|part| !part.is_empty())
}

impl Condition {
    /// Reads one entry of `where`; faults are named below `field`.
    ///
    /// # Errors
    /// Every fault.
    pub fn parse(value: &Value, field: &str) -> Result<Self, Vec<Fault>> {
        let Some(object) = value.as_object() else {
            let message = "a condition is an object {path, op, value}";
            return Err(vec![Fault::new(field, "invalid_type", message)]);
        };
        let mut fields = Fields::of(object, "", &["path", "op", "value"]);
        let path = fields.needed_string("path", PATH_MAX, "\"result.exitCode\"");
        if path.as_deref().is_some_and(|path| !is_path(path)) {
            fields.fault("path", "invalid_value", "a path is names between dots");
        }
        let word = fields.needed_string("op", PATH_MAX, "\"eq\"");
        let operator = word.as_deref().and_then(Operator::parse);
        if word.is_some() && operator.is_none() {
            let words: Vec<&str> = Operator::ALL.iter().map(|word| word.as_str()).collect();
            fields.fault("op", "invalid_value", format!("`op` is one of {}", words.join(", ")));
        }
        let given = object.get("value").cloned();
        let pattern = operator.and_then(|op| check_value(&mut fields, op, given.as_ref()));
        let condition = path.zip(operator).map(|(path, operator)| Self {
            path,
            operator,
            value: given.unwrap_or(Value::Bool(true)),
            pattern,
        });
        // The reader names fields below a fixed path; these have one of their own.
        fields.finish(condition).map_err(|faults| {
            let moved = |fault: Fault| Fault { field: format!("{field}{}", fault.field), ..fault };
            faults.into_iter().map(moved).collect()
        })
    }

    /// Whether the payload satisfies it.
    #[must_use]
    pub fn holds(&self, payload: &Value) -> bool {
        let found = value_at(payload, &self.path);
        match self.operator {
            Operator::Exists => found.is_some() == self.value.as_bool().unwrap_or(true),
            Operator::Ne => !found.is_some_and(|found| is_equal(found, &self.value)),
            Operator::Eq => found.is_some_and(|found| is_equal(found, &self.value)),
            Operator::Gt => self.compares(found, Ordering::is_gt),
            Operator::Gte => self.compares(found, Ordering::is_ge),
            Operator::Lt => self.compares(found, Ordering::is_lt),
            Operator::Lte => self.compares(found, Ordering::is_le),
            Operator::Contains => found.is_some_and(|found| contains(found, &self.value)),
            Operator::Matches => {
                let text = found.and_then(Value::as_str);
                text.zip(self.pattern.as_ref()).is_some_and(|(text, regex)| regex.is_match(text))
            }
        }
    }

    fn compares(&self, found: Option<&Value>, wanted: impl Fn(Ordering) -> bool) -> bool {
        found.and_then(|found| order(found, &self.value)).is_some_and(wanted)
    }
}

/// Checks that the value fits the operator; the compiled pattern, if it is one.
fn check_value(
    fields: &mut Fields<'_>,
    operator: Operator,
    value: Option<&Value>,
) -> Option<Regex> {
    let fault = match (operator, value) {
        (Operator::Exists, None | Some(Value::Bool(_))) => return None,
        (Operator::Exists, Some(_)) => "`exists` takes true or false",
        (_, None) => "`value` is needed: what the field is compared with",
        (Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte, Some(value)) => {
            if value.is_number() || value.is_string() {
                return None;
            }
            "only numbers and texts are compared by order"
        }
        (Operator::Matches, Some(Value::String(text))) if text.len() <= PATTERN_MAX => {
            match RegexBuilder::new(text).size_limit(COMPILED_MAX).build() {
                Ok(regex) => return Some(regex),
                Err(_) => "this is not a regular expression that can be used; see docs.rs/regex",
            }
        }
        (Operator::Matches, Some(_)) => {
            "`matches` takes a regular expression of 1000 bytes at most"
        }
        (Operator::Eq | Operator::Ne | Operator::Contains, Some(_)) => return None,
    };
    fields.fault("value", "invalid_value", fault);
    None
}

/// Equal; numbers by their value, however they are written.
fn is_equal(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(_), Some(_)) => order(left, right).is_some_and(Ordering::is_eq),
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return Some(left.cmp(&right));
    }
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        (Value::Array(items), wanted) => items.iter().any(|item| is_equal(item, wanted)),
        (Value::Object(object), Value::String(name)) => object.contains_key(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn holds(condition: &Value, payload: &Value) -> bool {
        Condition::parse(condition, "where.0").unwrap().holds(payload)
    }

    #[test]
    fn each_operator_follows_its_table() {
        let payload = json!({
            "result": {"exitCode": 0, "data": {"status": "shipped", "tags": ["a", 2]}},
            "none": null, "big": 9_007_199_254_740_993_i64,
        });
        let table = [
            ("result.exitCode", "eq", json!(0), true),
            ("result.exitCode", "eq", json!(0.0), true),
            ("result.exitCode", "eq", json!("0"), false),
            ("result.exitCode", "ne", json!(1), true),
            ("result.missing", "ne", json!(1), true),
            ("result.missing", "eq", json!(null), false),
            ("none", "eq", json!(null), true),
            ("result.exitCode", "gte", json!(0), true),
            ("result.exitCode", "gt", json!(0), false),
            ("result.exitCode", "lt", json!(0.5), true),
            ("result.exitCode", "lte", json!("x"), false),
            ("big", "gt", json!(9_007_199_254_740_992_i64), true),
            ("result.data.status", "gt", json!("ship"), true),
            ("result.data.status", "contains", json!("hip"), true),
            ("result.data.tags", "contains", json!(2.0), true),
            ("result.data", "contains", json!("status"), true),
            ("result.data.tags.0", "eq", json!("a"), true),
            ("result.data.tags.7", "exists", json!(false), true),
            ("none", "exists", json!(true), true),
            ("result.data.status", "matches", json!("^ship(ped)?$"), true),
            ("result.exitCode", "matches", json!("0"), false),
        ];
        for (path, op, value, expected) in table {
            let condition = json!({"path": path, "op": op, "value": value});
            assert_eq!(holds(&condition, &payload), expected, "{condition}");
        }
        assert!(holds(&json!({"path": "none", "op": "exists"}), &payload));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let table = [
            (json!(3), "where.0"),
            (json!({"op": "eq", "value": 1}), "where.0.path"),
            (json!({"path": "a..b", "op": "eq", "value": 1}), "where.0.path"),
            (json!({"path": "a", "op": "is", "value": 1}), "where.0.op"),
            (json!({"path": "a", "op": "eq"}), "where.0.value"),
            (json!({"path": "a", "op": "gt", "value": []}), "where.0.value"),
            (json!({"path": "a", "op": "matches", "value": "("}), "where.0.value"),
            (json!({"path": "a", "op": "eq", "value": 1, "valeu": 2}), "where.0.valeu"),
        ];
        for (value, field) in table {
            let faults = Condition::parse(&value, "where.0").unwrap_err();
            assert_eq!(faults[0].field, field, "{value}: {faults:?}");
        }
    }

    proptest! {
        #[test]
        fn less_equal_and_greater_exclude_each_other(left in any::<i64>(), right in any::<i64>()) {
            let payload = json!({"n": left});
            let with = |op: &str| holds(&json!({"path": "n", "op": op, "value": right}), &payload);
            let ways = [with("lt"), with("eq"), with("gt")];
            prop_assert_eq!(ways.iter().filter(|way| **way).count(), 1);
            prop_assert_eq!(with("lte"), !with("gt"));
            prop_assert_eq!(with("gte"), !with("lt"));
            prop_assert_eq!(with("ne"), !with("eq"));
        }
    }
}

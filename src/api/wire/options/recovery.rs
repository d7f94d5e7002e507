//! What follows when an execution fails: read and written.

use serde_json::{Map, Value, json};

use crate::api::wire::body::Fields;
use crate::domain::classification::{
    Class, Condition, KINDS, LIST_MAX, PATTERN_MAX, RULES_MAX, Rule, compile,
};
use crate::domain::fault::Fault;
use crate::domain::fields::Fields as Inner;
use crate::domain::options::{BreakerOptions, RecoveryOptions, RetryBudget};

/// The fields read here.
pub(super) const FIELDS: &[&str] =
    &["breaker", "recoveryRules", "retryBudget", "retryOnAnotherNode"];

const BREAKER: &str = "breaker";
const RULES: &str = "recoveryRules";
const BUDGET: &str = "retryBudget";
const ELSEWHERE: &str = "retryOnAnotherNode";
const WHEN: &str = "recoveryRules.when";

const KEY_MAX: usize = 100;
/// The longest look back of a breaker, and the most failures in a row.
const RUNS_MAX: u64 = 100;
const OPEN_MAX_MS: u64 = 86_400_000;
const RETRIES_MAX: u64 = 1_000;
const SPAN_MAX_MS: u64 = 7 * 86_400_000;

/// Reads them.
pub(super) fn read(fields: &mut Fields<'_>) -> RecoveryOptions {
    let breaker = object(fields, BREAKER).map(read_breaker);
    let breaker = breaker.and_then(|read| fields.take(read));
    let budget = object(fields, BUDGET).map(read_budget);
    let budget = budget.and_then(|read| fields.take(read));
    RecoveryOptions {
        breaker,
        rules: read_rules(fields),
        retry_budget: budget,
        retry_on_another_node: fields.flag(ELSEWHERE).unwrap_or(false),
    }
}

/// Writes them, every field there.
pub(super) fn write(options: &RecoveryOptions, body: &mut Map<String, Value>) {
    body.insert(BREAKER.to_owned(), json!(options.breaker));
    body.insert(RULES.to_owned(), json!(options.rules));
    body.insert(BUDGET.to_owned(), json!(options.retry_budget));
    body.insert(ELSEWHERE.to_owned(), json!(options.retry_on_another_node));
}

fn object<'a>(fields: &mut Fields<'a>, name: &'static str) -> Option<&'a Map<String, Value>> {
    let value = fields.value(name)?;
    if value.as_object().is_none() {
        fields.fault(name, "invalid_type", format!("`{name}` must be an object"));
    }
    value.as_object()
}

fn read_breaker(object: &Map<String, Value>) -> Result<BreakerOptions, Vec<Fault>> {
    let known = ["key", "failures", "window", "openMs", "enabled"];
    let mut fields = Inner::of(object, BREAKER, &known);
    let key = fields.string("key", KEY_MAX);
    let is_plain = |key: &String| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
    };
    if key.as_ref().is_some_and(|key| !is_plain(key)) {
        let message = "`key` may have letters, digits, `-`, `_`, `.` and `:` only";
        fields.fault("key", "invalid_value", message);
    }
    let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
    let options = BreakerOptions {
        key,
        failures: small(fields.integer("failures", 1, RUNS_MAX)),
        window: small(fields.integer("window", 1, RUNS_MAX)),
        open_ms: fields.integer("openMs", 1, OPEN_MAX_MS),
        enabled: flag(&mut fields, "enabled"),
    };
    fields.finish(Some(options))
}

fn flag(fields: &mut Inner<'_>, name: &str) -> Option<bool> {
    let value = fields.value(name)?;
    if value.as_bool().is_none() {
        fields.fault(name, "invalid_type", format!("`{name}` must be true or false"));
    }
    value.as_bool()
}

fn read_budget(object: &Map<String, Value>) -> Result<RetryBudget, Vec<Fault>> {
    let mut fields = Inner::of(object, BUDGET, &["maxRetries", "perMs"]);
    fields.require("maxRetries", "10");
    fields.require("perMs", "60000");
    let most = fields.integer("maxRetries", 0, RETRIES_MAX);
    let span = fields.integer("perMs", 1, SPAN_MAX_MS);
    let budget = most.zip(span).and_then(|(most, per_ms)| {
        u32::try_from(most).ok().map(|max_retries| RetryBudget { max_retries, per_ms })
    });
    fields.finish(budget)
}

fn read_rules(fields: &mut Fields<'_>) -> Vec<Rule> {
    let Some(value) = fields.value(RULES) else { return Vec::new() };
    let Value::Array(items) = value else {
        fields.fault(RULES, "invalid_type", format!("`{RULES}` must be a list of rules"));
        return Vec::new();
    };
    if items.len() > RULES_MAX {
        fields.fault(RULES, "out_of_range", format!("`{RULES}` may have {RULES_MAX} entries"));
        return Vec::new();
    }
    let mut rules = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        // The reader names fields below the list; here each gets its place in it.
        let place = |fault: Fault| {
            let below = fault.field.strip_prefix(RULES).unwrap_or_default().to_owned();
            Fault { field: format!("{RULES}.{index}{below}"), ..fault }
        };
        let rule = read_rule(item);
        let rule = rule.map_err(|faults| faults.into_iter().map(place).collect());
        rules.extend(fields.take(rule));
    }
    rules
}

fn read_rule(value: &Value) -> Result<Rule, Vec<Fault>> {
    let Value::Object(object) = value else {
        let message = "a rule is an object such as {\"when\": {\"exitCodes\": [75]}, \"then\": \
                       \"transient\"}";
        return Err(vec![Fault::new(RULES, "invalid_type", message)]);
    };
    let mut fields = Inner::of(object, RULES, &["when", "then"]);
    fields.require("when", "{\"exitCodes\": [75]}");
    let word = fields.needed_string("then", 20, "\"transient\"");
    let then = word.as_deref().and_then(Class::parse);
    if word.is_some() && then.is_none() {
        let words: Vec<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
        fields.fault("then", "invalid_value", format!("`then` is one of {}", words.join(", ")));
    }
    let when = match fields.value("when") {
        Some(Value::Object(object)) => fields.take(read_condition(object)),
        Some(_) => {
            fields.fault("when", "invalid_type", "`when` must be an object");
            None
        }
        None => None,
    };
    fields.finish(when.zip(then).map(|(when, then)| Rule { when, then }))
}

fn read_condition(object: &Map<String, Value>) -> Result<Condition, Vec<Fault>> {
    let mut fields = Inner::of(object, WHEN, &["exitCodes", "httpStatus", "kinds", "message"]);
    let exit_codes = numbers(&mut fields, "exitCodes", 1..=255);
    let statuses = numbers(&mut fields, "httpStatus", 400..=599);
    let kinds = fields.strings("kinds", LIST_MAX, 40).unwrap_or_default();
    for (index, kind) in
        kinds.iter().enumerate().filter(|(_, kind)| !KINDS.contains(&kind.as_str()))
    {
        let message = format!("`{kind}` is not one of {}", KINDS.join(", "));
        fields.fault(&format!("kinds.{index}"), "invalid_value", message);
    }
    let message = fields.string("message", PATTERN_MAX);
    if let Some(Err(error)) = message.as_deref().map(compile) {
        fields.fault("message", "invalid_value", format!("`message` is no pattern: {error}"));
    }
    let condition = Condition {
        exit_codes,
        http_status: statuses.into_iter().filter_map(|s| u16::try_from(s).ok()).collect(),
        kinds,
        message,
    };
    if object.values().all(Value::is_null) {
        let message = "`when` must say something; a rule that fits every failure lists the kinds";
        return Err(vec![Fault::new(WHEN, "required", message)]);
    }
    fields.finish(Some(condition))
}

fn numbers(fields: &mut Inner<'_>, name: &str, range: std::ops::RangeInclusive<i64>) -> Vec<i64> {
    let Some(value) = fields.value(name) else { return Vec::new() };
    let items = value.as_array().filter(|items| !items.is_empty() && items.len() <= LIST_MAX);
    let numbers = items.and_then(|items| {
        let number = |item: &Value| item.as_i64().filter(|number| range.contains(number));
        items.iter().map(number).collect::<Option<Vec<i64>>>()
    });
    numbers.unwrap_or_else(|| {
        let (low, high) = (range.start(), range.end());
        let message =
            format!("`{name}` is a list of 1 to {LIST_MAX} whole numbers from {low} to {high}");
        fields.fault(name, "out_of_range", message);
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(value: &Value) -> Vec<(String, &'static str)> {
        let mut fields = Fields::of(value, FIELDS, &[]).unwrap();
        read(&mut fields);
        let mut faults: Vec<_> =
            fields.into_faults().into_iter().map(|fault| (fault.field, fault.code)).collect();
        faults.sort_unstable();
        faults
    }

    #[test]
    fn what_was_read_is_written_back() {
        let value = json!({
            "breaker": {"key": "mail", "failures": 3, "window": 20, "openMs": 60_000},
            "recoveryRules": [
                {"when": {"exitCodes": [75], "message": "(?i)busy"}, "then": "transient"},
                {"when": {"httpStatus": [404], "kinds": ["http_4xx"]}, "then": "ignore"},
            ],
            "retryBudget": {"maxRetries": 10, "perMs": 60_000},
            "retryOnAnotherNode": true,
        });
        let mut fields = Fields::of(&value, FIELDS, &[]).unwrap();
        let options = read(&mut fields);
        assert!(fields.finish().is_ok());
        let mut body = Map::new();
        write(&options, &mut body);
        assert_eq!(Value::Object(body), value);
    }

    #[test]
    fn every_fault_is_named_where_it_is() {
        let value = json!({
            "breaker": {"key": "a b", "failures": 0, "enabled": 1, "open": 1},
            "recoveryRules": [
                {"when": {}, "then": "transient"},
                {"when": {"exitCodes": [], "kinds": ["exit"], "message": "("}, "then": "maybe"},
                7,
            ],
            "retryBudget": {"maxRetries": 1},
        });
        let expected = [
            ("breaker.enabled", "invalid_type"),
            ("breaker.failures", "out_of_range"),
            ("breaker.key", "invalid_value"),
            ("breaker.open", "unknown_field"),
            ("recoveryRules.0.when", "required"),
            ("recoveryRules.1.then", "invalid_value"),
            ("recoveryRules.1.when.exitCodes", "out_of_range"),
            ("recoveryRules.1.when.kinds.0", "invalid_value"),
            ("recoveryRules.1.when.message", "invalid_value"),
            ("recoveryRules.2", "invalid_type"),
            ("retryBudget.perMs", "required"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(field, code)| ((*field).to_owned(), *code)).collect();
        assert_eq!(faults_of(&value), expected);
    }
}

//! `scheduleConfig` of a schedule of type `event`, with every fault at once.

use serde_json::{Map, Value};

use super::ChainOutcome;
use super::condition::{CONDITIONS_MAX, Condition};
use crate::domain::fault::Fault;
use crate::domain::fields::Fields;

/// Bytes of an event's name at most.
pub const NAME_MAX: usize = 200;
/// Schedules or tags that one rule may listen to.
pub const SOURCES_MAX: usize = 100;

const PATH: &str = "scheduleConfig";

/// What a schedule listens to, and under which conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRule {
    /// What it listens to.
    pub source: EventSource,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
}

/// What a schedule listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// The ends of executions.
    Execution {
        /// Whose.
        of: Selector,
        /// How they ended.
        outcomes: Vec<ChainOutcome>,
        /// Every attempt, not only the chain's end.
        attempts: bool,
    },
    /// Named events: the name, or its beginning when it ends in `*`.
    Named(String),
    /// A webhook by name.
    Webhook(String),
}

/// Whose executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Of the schedule of that name.
    Name(String),
    /// Of one of these schedules.
    Ids(Vec<i64>),
    /// That carry one of these labels.
    Tags(Vec<String>),
}

/// Whether an event may have that name.
#[must_use]
pub fn is_event_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:/".contains(c);
    !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(is_plain)
}

impl EventRule {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Every fault, with dotted paths below `scheduleConfig`.
    pub fn parse(config: &Value) -> Result<Self, Vec<Fault>> {
        let Some(object) = config.as_object() else {
            return Err(vec![Fault::new(PATH, "invalid_type", "`scheduleConfig` is an object")]);
        };
        let known: &[&str] = match object.get("on").and_then(Value::as_str) {
            Some("execution") => {
                &["on", "schedule", "scheduleIds", "tags", "outcome", "attempts", "where"]
            }
            Some("event") => &["on", "name", "where"],
            Some("webhook") => &["on", "webhook", "where"],
            _ => {
                let code = if object.contains_key("on") { "invalid_value" } else { "required" };
                let message = "`on` says what fires the schedule: execution, event or webhook";
                return Err(vec![Fault::new(format!("{PATH}.on"), code, message)]);
            }
        };
        let mut fields = Fields::of(object, PATH, known);
        let source = match object.get("on").and_then(Value::as_str) {
            Some("execution") => read_execution(&mut fields, object),
            Some("event") => read_named(&mut fields),
            _ => fields
                .needed_string("webhook", NAME_MAX, "the webhook's name")
                .map(EventSource::Webhook),
        };
        let conditions = read_conditions(&mut fields);
        fields
            .finish(source.zip(conditions).map(|(source, conditions)| Self { source, conditions }))
    }

    /// The keys under which it is found, and whether it listens to executions.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        match &self.source {
            EventSource::Named(name) => match name.strip_suffix('*') {
                Some(start) => vec![format!("e*:{start}")],
                None => vec![format!("e:{name}")],
            },
            EventSource::Webhook(name) => vec![format!("w:{name}")],
            EventSource::Execution { of, outcomes, attempts } => {
                let whose: Vec<String> = match of {
                    Selector::Name(name) => vec![format!("name:{name}")],
                    Selector::Ids(ids) => ids.iter().map(|id| format!("id:{id}")).collect(),
                    Selector::Tags(tags) => tags.iter().map(|tag| format!("tag:{tag}")).collect(),
                };
                let words = outcomes.iter().map(|outcome| match (outcome, attempts) {
                    (ChainOutcome::Failed, true) => "attempt-failed",
                    (ChainOutcome::Timeout, true) => "attempt-timeout",
                    (outcome, _) => outcome.as_str(),
                });
                words
                    .flat_map(|word| whose.iter().map(move |of| format!("x:{word}:{of}")))
                    .collect()
            }
        }
    }

    /// Whether it listens to executions.
    #[must_use]
    pub const fn is_of_executions(&self) -> bool {
        matches!(self.source, EventSource::Execution { .. })
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn admits(&self, payload: &Value) -> bool {
        self.conditions.iter().all(|condition| condition.holds(payload))
    }

    /// The rule in plain English.
    #[must_use]
    pub fn describe(&self) -> String {
        let what = match &self.source {
            EventSource::Named(name) => format!("On the event {name}"),
            EventSource::Webhook(name) => format!("On the webhook {name}"),
            EventSource::Execution { of, outcomes, attempts } => {
                let of = match of {
                    Selector::Name(name) => format!("schedule {name}"),
                    Selector::Ids(ids) => {
                        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
                        format!("schedule {}", ids.join(" or "))
                    }
                    Selector::Tags(tags) => format!("what is tagged {}", tags.join(" or ")),
                };
                let words: Vec<&str> = outcomes.iter().map(|word| word.as_str()).collect();
                let each = if *attempts { "each attempt" } else { "a run" };
                format!("When {each} of {of} ends {}", words.join(" or "))
            }
        };
        match self.conditions.len() {
            0 => format!("{what}; it has no planned instants"),
            1 => format!("{what}, if 1 condition holds; it has no planned instants"),
            n => format!("{what}, if {n} conditions hold; it has no planned instants"),
        }
    }
}

fn read_named(fields: &mut Fields<'_>) -> Option<EventSource> {
    let name = fields.needed_string("name", NAME_MAX, "\"orders.created\" or \"orders.*\"")?;
    let plain = name.strip_suffix('*').unwrap_or(&name);
    if name != "*" && !is_event_name(plain) {
        let message = "a name has letters, digits and `._-:/`; a `*` may stand at its end";
        fields.fault("name", "invalid_value", message);
    }
    Some(EventSource::Named(name))
}

fn read_execution(fields: &mut Fields<'_>, object: &Map<String, Value>) -> Option<EventSource> {
    let given = ["schedule", "scheduleIds", "tags"];
    let given = given.into_iter().filter(|name| fields.value(name).is_some()).count();
    if given != 1 {
        let message = "say whose executions: one of `schedule`, `scheduleIds` and `tags`";
        let code = if given == 0 { "required" } else { "invalid_value" };
        fields.fault("schedule", code, message);
    }
    let name = fields.string("schedule", NAME_MAX).map(Selector::Name);
    let ids = read_ids(fields);
    let tags = fields.strings("tags", SOURCES_MAX, NAME_MAX).map(Selector::Tags);
    let outcomes = read_outcomes(fields, object);
    let attempts = fields.value("attempts");
    if attempts.is_some_and(|value| !value.is_boolean()) {
        fields.fault("attempts", "invalid_type", "`attempts` must be true or false");
    }
    let attempts = attempts.and_then(Value::as_bool).unwrap_or(false);
    Some(EventSource::Execution { of: name.or(ids).or(tags)?, outcomes, attempts })
}

fn read_ids(fields: &mut Fields<'_>) -> Option<Selector> {
    let value = fields.value("scheduleIds")?;
    let ids: Option<Vec<i64>> = value
        .as_array()
        .filter(|items| (1..=SOURCES_MAX).contains(&items.len()))
        .and_then(|items| items.iter().map(|id| id.as_i64().filter(|id| *id > 0)).collect());
    if ids.is_none() {
        let message = format!("`scheduleIds` is a list of 1 to {SOURCES_MAX} ids of schedules");
        fields.fault("scheduleIds", "invalid_value", message);
    }
    ids.map(Selector::Ids)
}

fn read_outcomes(fields: &mut Fields<'_>, object: &Map<String, Value>) -> Vec<ChainOutcome> {
    let words: Vec<Value> = match object.get("outcome") {
        None | Some(Value::Null) => return vec![ChainOutcome::Completed],
        Some(Value::Array(words)) if !words.is_empty() => words.clone(),
        Some(word) => vec![word.clone()],
    };
    let mut outcomes = Vec::new();
    for word in &words {
        match word.as_str().and_then(ChainOutcome::parse) {
            Some(outcome) if !outcomes.contains(&outcome) => outcomes.push(outcome),
            Some(_) => {}
            None => {
                let message =
                    format!("{word} is not one of completed, failed, timeout, cancelled, dead");
                fields.fault("outcome", "invalid_value", message);
            }
        }
    }
    outcomes
}

fn read_conditions(fields: &mut Fields<'_>) -> Option<Vec<Condition>> {
    let items = match fields.value("where") {
        None => return Some(Vec::new()),
        Some(Value::Array(items)) if items.len() <= CONDITIONS_MAX => items,
        Some(_) => {
            let message = format!("`where` is a list of at most {CONDITIONS_MAX} conditions");
            fields.fault("where", "invalid_value", message);
            return None;
        }
    };
    let parsed = items
        .iter()
        .enumerate()
        .map(|(index, item)| fields.take(Condition::parse(item, &format!("{PATH}.where.{index}"))));
    parsed.collect::<Vec<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::trigger::{EndOfAttempt, Ended, keys_of_name, keys_of_webhook};

    fn rule(config: &Value) -> EventRule {
        EventRule::parse(config).unwrap_or_else(|faults| panic!("{config}: {faults:?}"))
    }

    fn meets(rule: &EventRule, keys: &[String]) -> bool {
        rule.keys().iter().any(|key| keys.contains(key))
    }

    #[test]
    fn a_name_is_met_whole_or_by_its_beginning() {
        let table = [
            ("orders.created", "orders.created", true),
            ("orders.*", "orders.created", true),
            ("orders.created*", "orders.created", true),
            ("*", "orders.created", true),
            ("orders.", "orders.created", false),
            ("order", "orders.created", false),
            ("orders.*", "orders", false),
        ];
        for (wanted, name, expected) in table {
            let rule = rule(&json!({"on": "event", "name": wanted}));
            assert_eq!(meets(&rule, &keys_of_name(name)), expected, "{wanted} {name}");
        }
        let hook = rule(&json!({"on": "webhook", "webhook": "github"}));
        assert!(meets(&hook, &keys_of_webhook("github")));
        assert!(!meets(&hook, &keys_of_name("webhook.github")), "a posted name is no webhook");
    }

    #[test]
    fn an_end_is_met_by_outcome_and_by_whose_it_is() {
        let tags = ["etl".to_owned()];
        let ended = |outcome, is_final, is_dead| {
            let end = EndOfAttempt { outcome, is_final, is_dead };
            Ended { end, schedule_id: Some(7), schedule_name: Some("load"), tags: &tags }.keys()
        };
        let completed = ended(ChainOutcome::Completed, true, false);
        let attempt = ended(ChainOutcome::Failed, false, false);
        let spent = ended(ChainOutcome::Failed, true, true);
        let slow = ended(ChainOutcome::Timeout, true, true);
        let table = [
            (json!({"schedule": "load"}), [true, false, false, false]),
            (json!({"scheduleIds": [6, 7]}), [true, false, false, false]),
            (json!({"tags": ["etl"]}), [true, false, false, false]),
            (json!({"schedule": "unload"}), [false; 4]),
            (json!({"schedule": "load", "outcome": "failed"}), [false, false, true, false]),
            (json!({"schedule": "load", "outcome": ["dead"]}), [false, false, true, true]),
            (
                json!({"schedule": "load", "outcome": ["failed", "timeout"], "attempts": true}),
                [false, true, true, true],
            ),
        ];
        for (mut config, expected) in table {
            config["on"] = json!("execution");
            let rule = rule(&config);
            let met = [&completed, &attempt, &spent, &slow].map(|keys| meets(&rule, keys));
            assert_eq!(met, expected, "{config}");
        }
    }

    #[test]
    fn every_fault_of_a_rule_is_named() {
        let table = [
            (json!({}), "scheduleConfig.on"),
            (json!({"on": "moon"}), "scheduleConfig.on"),
            (json!({"on": "event"}), "scheduleConfig.name"),
            (json!({"on": "event", "name": "a b"}), "scheduleConfig.name"),
            (json!({"on": "event", "name": "a", "schedule": "b"}), "scheduleConfig.schedule"),
            (json!({"on": "execution"}), "scheduleConfig.schedule"),
            (json!({"on": "execution", "schedule": "a", "tags": ["b"]}), "scheduleConfig.schedule"),
            (json!({"on": "execution", "scheduleIds": []}), "scheduleConfig.scheduleIds"),
            (
                json!({"on": "execution", "schedule": "a", "outcome": "won"}),
                "scheduleConfig.outcome",
            ),
            (json!({"on": "webhook"}), "scheduleConfig.webhook"),
            (json!({"on": "event", "name": "a", "where": [{}]}), "scheduleConfig.where.0.path"),
            (json!({"on": "event", "name": "a", "where": 1}), "scheduleConfig.where"),
        ];
        for (config, field) in table {
            let faults = EventRule::parse(&config).unwrap_err();
            assert!(faults.iter().any(|fault| fault.field == field), "{config}: {faults:?}");
        }
    }
}

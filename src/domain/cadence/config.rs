//! `scheduleType` and `scheduleConfig` to a [`Cadence`], with every fault at once.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use serde_json::{Map, Value};

use super::cron::CronCadence;
use super::expression::{self, Expression};
use super::interval::{INTERVAL_MAX_MS, INTERVAL_MIN_MS, IntervalCadence};
use super::plain;
use super::zone::Zone;
use super::{Cadence, ClockChange, OneTimeCadence};
use crate::domain::Timestamp;
use crate::domain::fault::Fault;
use crate::domain::spread::stable_hash;
use crate::domain::trigger::EventRule;

const CONFIG: &str = "scheduleConfig";
const CRON_FIELDS: &[&str] = &["cron", "timezone", "every", "at", "on", "hashKey"];
const INTERVAL_FIELDS: &[&str] = &["intervalMs", "anchor", "spread", "hashKey"];
/// Bytes of a `hashKey` at most.
const HASH_KEY_MAX: usize = 200;

/// What a configuration leaves to its surroundings.
#[derive(Clone, Debug)]
pub struct ParseContext {
    /// When the schedule was created: the anchor of an interval that names none.
    pub created_at: Timestamp,
    /// IANA name of the zone of a cron schedule that names none (`scheduler.timezone`).
    pub default_zone: String,
}

/// True when a configuration has an `H` or is spread, and so needs a key.
pub(super) fn needs_key(config: &Value) -> bool {
    let is_spread = config.get("spread").and_then(Value::as_bool) == Some(true);
    is_spread || config.get("cron").and_then(Value::as_str).is_some_and(expression::needs_key)
}

/// A JSON object that is being read, and the faults found so far.
pub(super) struct Reader<'a> {
    object: &'a Map<String, Value>,
    pub(super) faults: Vec<Fault>,
}

pub(super) fn parse(
    schedule_type: &str,
    config: &Value,
    context: &ParseContext,
) -> Result<Cadence, Vec<Fault>> {
    let read: fn(&mut Reader<'_>, &ParseContext) -> Option<Cadence> = match schedule_type {
        "cron" => read_cron,
        "interval" => read_interval,
        "one_time" => read_one_time,
        "event" => return EventRule::parse(config).map(Cadence::Event),
        other => {
            let message = format!(
                "\"{other}\" is not a schedule type; use cron, interval, one_time or event"
            );
            return Err(vec![Fault::new("scheduleType", "invalid_value", message)]);
        }
    };
    let Some(object) = config.as_object() else {
        return Err(vec![Fault::new(CONFIG, "invalid_type", "`scheduleConfig` is an object")]);
    };
    let mut reader = Reader { object, faults: Vec::new() };
    match read(&mut reader, context) {
        Some(cadence) if reader.faults.is_empty() => Ok(cadence),
        _ => Err(reader.faults),
    }
}

fn read_cron(reader: &mut Reader<'_>, context: &ParseContext) -> Option<Cadence> {
    reader.refuse_others(CRON_FIELDS);
    let zone = read_zone(reader, context);
    let key = reader.hash_key();
    let plain_form = reader.object.contains_key("every");
    let expression = if plain_form {
        if reader.object.contains_key("cron") {
            reader.fault("every", "invalid_value", "give either `cron` or `every`, not both");
        }
        plain::read(reader).and_then(|text| parse_expression(reader, "every", &text, key))
    } else {
        for field in ["at", "on"] {
            if reader.object.contains_key(field) {
                let message =
                    format!("`{field}` goes with `every`; a `cron` expression has its own");
                reader.fault(field, "invalid_value", message);
            }
        }
        let text = reader.required_text("cron", "a cron expression such as \"0 2 * * *\"");
        text.and_then(|text| parse_expression(reader, "cron", text, key))
    };
    Some(Cadence::Cron(CronCadence {
        expression: Arc::new(expression?),
        zone: Zone(zone?),
        clock_change: ClockChange::Default,
    }))
}

fn parse_expression(
    reader: &mut Reader<'_>,
    field: &str,
    text: &str,
    key: Option<&str>,
) -> Option<Expression> {
    match Expression::parse(text, key) {
        Ok(expression) => Some(expression),
        Err(messages) => {
            for message in messages {
                reader.fault(field, "invalid_cron", message);
            }
            None
        }
    }
}

fn read_zone(reader: &mut Reader<'_>, context: &ParseContext) -> Option<Tz> {
    let name = match reader.object.get("timezone") {
        None => context.default_zone.as_str(),
        Some(_) => reader.required_text("timezone", "an IANA name such as \"Europe/Berlin\"")?,
    };
    if let Ok(zone) = name.parse() {
        return Some(zone);
    }
    let near = TZ_VARIANTS
        .iter()
        .map(|zone| {
            (strsim::damerau_levenshtein(&zone.name().to_lowercase(), &name.to_lowercase()), zone)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 3 && name.len() <= 64);
    let hint = match near {
        Some((_, zone)) => format!("did you mean \"{zone}\"?"),
        None => "use one such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
    };
    reader.fault(
        "timezone",
        "invalid_value",
        format!("\"{name}\" is not an IANA time zone; {hint}"),
    );
    None
}

fn read_interval(reader: &mut Reader<'_>, context: &ParseContext) -> Option<Cadence> {
    reader.refuse_others(INTERVAL_FIELDS);
    let anchor = match reader.object.get("anchor") {
        None => Some(context.created_at),
        Some(_) => reader.required_instant("anchor"),
    };
    let interval = reader.required_interval();
    let phase = reader.phase();
    let interval_ms = interval?;
    let anchor_ms = anchor?.timestamp_millis();
    let anchor_ms = match phase {
        // A place in (anchor, anchor + interval], and the grid from there.
        Some(hash) => {
            let place = i64::try_from(hash % interval_ms.unsigned_abs()).unwrap_or(0) + 1;
            anchor_ms + place - interval_ms
        }
        None => anchor_ms,
    };
    Some(Cadence::Interval(IntervalCadence { interval_ms, anchor_ms }))
}

fn read_one_time(reader: &mut Reader<'_>, _: &ParseContext) -> Option<Cadence> {
    reader.refuse_others(&["runAt"]);
    let run_at = reader.required_instant("runAt")?;
    Some(Cadence::OneTime(OneTimeCadence { run_at: run_at.trunc_subsecs(3) }))
}

impl<'a> Reader<'a> {
    pub(super) fn fault(&mut self, field: &str, code: &'static str, message: impl Into<String>) {
        self.faults.push(Fault::new(format!("{CONFIG}.{field}"), code, message));
    }

    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field)
    }

    fn refuse_others(&mut self, known: &[&str]) {
        for field in self.object.keys().filter(|field| !known.contains(&field.as_str())) {
            let near = known
                .iter()
                .map(|name| (strsim::damerau_levenshtein(name, field), name))
                .min_by_key(|(distance, _)| *distance)
                .filter(|(distance, name)| *distance <= 3.min(name.len() / 2));
            let hint = match near {
                Some((_, name)) => format!("did you mean `{name}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            let message = format!("unknown field `{field}`; {hint}");
            self.faults.push(Fault::new(format!("{CONFIG}.{field}"), "unknown_field", message));
        }
    }

    pub(super) fn required_text(&mut self, field: &str, what: &str) -> Option<&'a str> {
        match self.object.get(field) {
            None => self.fault(field, "required", format!("`{field}` is required: {what}")),
            Some(Value::String(text)) => return Some(text),
            Some(_) => self.fault(field, "invalid_type", format!("`{field}` is a string: {what}")),
        }
        None
    }

    fn required_instant(&mut self, field: &str) -> Option<Timestamp> {
        let what = "an RFC 3339 instant such as \"2026-11-21T02:00:00.000Z\"";
        let text = self.required_text(field, what)?;
        match DateTime::parse_from_rfc3339(text) {
            Ok(instant) => Some(instant.with_timezone(&Utc)),
            Err(_) => {
                self.fault(
                    field,
                    "invalid_value",
                    format!("\"{text}\" is not {what}, with its zone"),
                );
                None
            }
        }
    }

    /// What picks the places of `H` and `spread`.
    fn hash_key(&mut self) -> Option<&'a str> {
        match self.object.get("hashKey") {
            None | Some(Value::Null) => {}
            Some(Value::String(key)) if !key.is_empty() && key.len() <= HASH_KEY_MAX => {
                return Some(key);
            }
            Some(_) => {
                let message = format!("`hashKey` is a text of 1 to {HASH_KEY_MAX} bytes");
                self.fault("hashKey", "invalid_value", message);
            }
        }
        None
    }

    /// The hash that places a spread interval; `None` when it is not spread.
    fn phase(&mut self) -> Option<u64> {
        let key = self.hash_key();
        let is_spread = match self.object.get("spread") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(spread)) => *spread,
            Some(_) => {
                self.fault("spread", "invalid_type", "`spread` is true or false");
                false
            }
        };
        if is_spread && key.is_none() {
            let message = "`spread` needs a key to pick its place by: give `hashKey` (a schedule's \
                           name is taken when it is left out)";
            self.fault("hashKey", "required", message);
        }
        key.filter(|_| is_spread).map(|key| stable_hash(&[key.as_bytes(), b"interval"]))
    }

    fn required_interval(&mut self) -> Option<i64> {
        let field = "intervalMs";
        let Some(value) = self.object.get(field) else {
            self.fault(
                field,
                "required",
                "`intervalMs` is required: a whole number of milliseconds",
            );
            return None;
        };
        if !value.is_i64() && !value.is_u64() {
            self.fault(field, "invalid_type", "`intervalMs` is a whole number of milliseconds");
            return None;
        }
        match value.as_u64().filter(|ms| (INTERVAL_MIN_MS..=INTERVAL_MAX_MS).contains(ms)) {
            Some(ms) => i64::try_from(ms).ok(),
            None => {
                let message = format!(
                    "`intervalMs` is {INTERVAL_MIN_MS} to {INTERVAL_MAX_MS} milliseconds, not {value}"
                );
                self.fault(field, "out_of_range", message);
                None
            }
        }
    }
}

//! Reads a JSON object field by field and collects every fault.
//!
//! Each reader answers `None` both for a field that is absent (or null, which is the same) and for
//! one that is wrong; what is wrong is filed. A parser therefore reads all of its fields, and only
//! then asks [`Fields::finish`] whether the input was sound.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::instant::parse_instant;
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::fault::Fault;

/// How alike (Jaro-Winkler) a known name must be before it is suggested for an unknown one.
const SUGGESTION_LIKENESS: f64 = 0.8;

/// Labels at most, and bytes of one.
const TAGS_MAX: usize = 50;
const TAG_BYTES_MAX: usize = 100;

/// The entry of `known` that a person most likely meant by `name`.
pub(crate) fn suggest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= SUGGESTION_LIKENESS)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// The fault of a name that does not exist.
pub(crate) fn unknown(name: &str, known: &[&str]) -> Fault {
    let hint = match suggest(name, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "none is taken here".to_owned(),
        None => format!("known: {}", known.join(", ")),
    };
    Fault::new(name, "unknown_field", format!("there is no field `{name}` here; {hint}"))
}

/// A word of a closed set.
pub(crate) trait Word: Sized + Copy + 'static {
    /// Every value.
    fn all() -> &'static [Self];
    /// The word for it.
    fn word(self) -> &'static str;
}

macro_rules! words {
    ($($kind:ty),+) => { $(impl Word for $kind {
        fn all() -> &'static [Self] { Self::ALL }
        fn word(self) -> &'static str { self.as_str() }
    })+ };
}
words!(
    crate::domain::backfill::BackfillOrder,
    crate::domain::cadence::ClockChange,
    crate::domain::calendar::CalendarMode,
    crate::domain::calendar::OnExcluded,
    crate::domain::calendar::WeekDay,
    crate::domain::alert::AlertState,
    crate::domain::alert::channel::SmtpTls,
    crate::domain::alert::quiet::Day,
    crate::domain::alert::rule::GroupBy,
    crate::domain::error_record::DeadLetterStatus,
    crate::domain::error_record::GroupStatus,
    crate::domain::error_record::RecoveryStatus,
    crate::domain::execution::ExecutionStatus,
    crate::domain::execution::Priority,
    crate::domain::execution::Severity,
    crate::domain::key::Role,
    crate::domain::schedule::MisfirePolicy,
    crate::domain::schedule::OverlapPolicy,
    crate::domain::schedule::ScheduleType,
    crate::domain::trigger::EventKind,
    crate::domain::webhook::Scheme
);

/// Reads a word of a closed set, or says which words there are.
pub(crate) fn parse_word<T: Word>(field: &str, text: &str) -> Result<T, Fault> {
    let found = T::all().iter().copied().find(|value| value.word() == text);
    found.ok_or_else(|| {
        let words: Vec<&str> = T::all().iter().map(|value| value.word()).collect();
        let message = format!("`{text}` is not one of {}", words.join(", "));
        Fault::new(field, "invalid_value", message)
    })
}

/// A JSON object being read, and the faults found so far.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Starts reading `value`; fields that are neither in `known` nor in `planned` are faults at
    /// once, those in `planned` are `not_supported_yet` when they have a value.
    ///
    /// # Errors
    /// 422 when it is not an object.
    pub(crate) fn of(value: &'a Value, known: &[&str], planned: &[&str]) -> Result<Self, ApiError> {
        let Value::Object(object) = value else {
            return Err(ApiError::invalid_field("", "invalid_type", "send a JSON object"));
        };
        let mut faults = Vec::new();
        for (name, value) in object {
            if planned.contains(&name.as_str()) {
                if !value.is_null() {
                    faults.push(not_supported(name, &format!("`{name}`")));
                }
            } else if !known.contains(&name.as_str()) {
                faults.push(unknown(name, known));
            }
        }
        Ok(Self { object, faults })
    }

    /// Files a fault.
    pub(crate) fn file(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Files a fault of `field`.
    pub(crate) fn fault(&mut self, field: &str, code: &'static str, message: impl Into<String>) {
        self.faults.push(Fault::new(field, code, message));
    }

    /// Takes the value of a result or files its faults.
    pub(crate) fn take<T>(&mut self, result: Result<T, Vec<Fault>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(faults) => {
                self.faults.extend(faults);
                None
            }
        }
    }

    /// The field's value; `None` if absent or null.
    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// The field's value, which must be there.
    pub(crate) fn needed(&mut self, name: &str) -> Option<&'a Value> {
        let value = self.value(name);
        if value.is_none() {
            self.fault(name, "required", format!("`{name}` is needed"));
        }
        value
    }

    /// A string of at most `most` bytes.
    pub(crate) fn text(&mut self, name: &str, most: usize) -> Option<String> {
        match self.value(name)? {
            Value::String(text) if text.len() <= most => Some(text.clone()),
            Value::String(_) => {
                self.fault(name, "out_of_range", format!("`{name}` may have {most} bytes at most"));
                None
            }
            _ => {
                self.fault(name, "invalid_type", format!("`{name}` must be a string"));
                None
            }
        }
    }

    /// A string that must be there and must not be blank.
    pub(crate) fn needed_text(&mut self, name: &str, most: usize) -> Option<String> {
        self.needed(name)?;
        let text = self.text(name, most)?;
        if text.trim().is_empty() {
            self.fault(name, "required", format!("`{name}` must not be empty"));
            return None;
        }
        Some(text)
    }

    /// True or false.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.value(name)?;
        if value.as_bool().is_none() {
            self.fault(name, "invalid_type", format!("`{name}` must be true or false"));
        }
        value.as_bool()
    }

    /// A whole number of a range.
    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(name)?;
        let (least, most) = (range.start(), range.end());
        if !value.is_number() {
            self.fault(name, "invalid_type", format!("`{name}` must be a whole number"));
            return None;
        }
        let found = value.as_i64().filter(|number| range.contains(number));
        if found.is_none() {
            let message = format!("`{name}` must be a whole number from {least} to {most}");
            self.fault(name, "out_of_range", message);
        }
        found
    }

    /// A number of a range.
    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.value(name)?;
        let Some(number) = value.as_f64() else {
            self.fault(name, "invalid_type", format!("`{name}` must be a number"));
            return None;
        };
        if !range.contains(&number) {
            let message = format!("`{name}` must be from {} to {}", range.start(), range.end());
            self.fault(name, "out_of_range", message);
            return None;
        }
        Some(number)
    }

    /// A word of a closed set.
    pub(crate) fn word<T: Word>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name, usize::MAX)?;
        match parse_word(name, &text) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.file(fault);
                None
            }
        }
    }

    /// An instant.
    pub(crate) fn instant(&mut self, name: &str) -> Option<Timestamp> {
        let text = self.text(name, usize::MAX)?;
        let instant = parse_instant(&text);
        if instant.is_none() {
            let message = format!("`{name}` must be an instant such as 2026-11-21T02:00:00Z");
            self.fault(name, "invalid_value", message);
        }
        instant
    }

    /// Labels: not blank, each once, in the order given.
    pub(crate) fn tags(&mut self, name: &str) -> Vec<String> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Value::Array(items) = value else {
            self.fault(name, "invalid_type", format!("`{name}` must be a list of strings"));
            return Vec::new();
        };
        if items.len() > TAGS_MAX {
            self.fault(name, "out_of_range", format!("`{name}` may have {TAGS_MAX} entries"));
            return Vec::new();
        }
        let mut tags: Vec<String> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let field = format!("{name}.{index}");
            match item.as_str() {
                None => self.fault(&field, "invalid_type", "a label must be a string"),
                Some(text) if text.trim().is_empty() || text.len() > TAG_BYTES_MAX => {
                    let message = format!("a label has 1 to {TAG_BYTES_MAX} bytes");
                    self.fault(&field, "out_of_range", message);
                }
                Some(text) if tags.iter().any(|known| known == text) => {}
                Some(text) => tags.push(text.to_owned()),
            }
        }
        tags
    }

    /// What was wrong so far, for a reader around this one.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// 422 with every fault, if there is one.
    ///
    /// # Errors
    /// 422.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.faults)) }
    }

    /// The value, if nothing was wrong.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn finish_with<T>(self, value: Option<T>) -> Result<T, ApiError> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(ApiError::invalid(self.faults)),
        }
    }
}

/// Reads the object in field `name`; its faults are named by their path.
pub(crate) fn inside<T>(
    fields: &mut Fields<'_>,
    name: &str,
    known: &[&str],
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Option<T> {
    let Some(Value::Object(object)) = fields.value(name) else {
        if fields.value(name).is_some() {
            let message = format!("`{name}` must be an object with {}", known.join(", "));
            fields.fault(name, "invalid_type", message);
        }
        return None;
    };
    let mut faults = Vec::new();
    for field in object.keys().filter(|field| !known.contains(&field.as_str())) {
        faults.push(unknown(field, known));
    }
    let mut inner = Fields { object, faults };
    let value = read(&mut inner);
    for fault in inner.faults {
        fields.file(Fault { field: format!("{name}.{}", fault.field), ..fault });
    }
    value
}

/// The fault of what is planned and not built yet.
pub(crate) fn not_supported(field: &str, what: &str) -> Fault {
    Fault::new(field, "not_supported_yet", format!("{what} is not supported yet"))
}

/// The first string or name in `value` that holds U+0000.
pub(crate) fn find_nul(value: &Value) -> Option<Fault> {
    fn search(value: &Value, path: &str) -> Option<String> {
        let below = |name: &str| {
            if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
        };
        match value {
            Value::String(text) => text.contains('\0').then(|| path.to_owned()),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, item)| search(item, &below(&index.to_string()))),
            Value::Object(object) => object.iter().find_map(|(name, item)| {
                if name.contains('\0') {
                    return Some(path.to_owned());
                }
                search(item, &below(name))
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }
    let field = search(value, "")?;
    Some(Fault::new(field, "invalid_value", "text may not contain U+0000"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::execution::Priority;

    #[test]
    fn every_fault_is_found_at_once() {
        let value = json!({
            "nmae": 1, "count": 0, "flag": "yes", "at": "noon", "priority": "urgent",
            "tags": ["a", 1, "a"], "later": {},
        });
        let known = ["name", "count", "flag", "at", "priority", "tags"];
        let mut fields = Fields::of(&value, &known, &["later"]).unwrap();
        fields.needed_text("name", 10);
        fields.integer("count", 1..=5);
        fields.flag("flag");
        fields.instant("at");
        fields.word::<Priority>("priority");
        assert_eq!(fields.tags("tags"), ["a"]);
        let mut found: Vec<(&str, &str)> =
            fields.faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
        found.sort_unstable();
        let mut expected = vec![
            ("nmae", "unknown_field"),
            ("later", "not_supported_yet"),
            ("name", "required"),
            ("count", "out_of_range"),
            ("flag", "invalid_type"),
            ("at", "invalid_value"),
            ("priority", "invalid_value"),
            ("tags.1", "invalid_type"),
        ];
        expected.sort_unstable();
        assert_eq!(found, expected);
        let nmae = fields.faults.iter().find(|fault| fault.field == "nmae").unwrap();
        assert!(nmae.message.contains("did you mean `name`?"), "{}", nmae.message);
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let value = json!({"later": null, "count": null});
        let mut fields = Fields::of(&value, &["count"], &["later"]).unwrap();
        assert_eq!(fields.integer("count", 1..=5), None);
        assert!(fields.finish().is_ok());
    }

    #[test]
    fn whole_numbers_are_whole() {
        for (value, good) in [(json!(3), true), (json!(3.5), false), (json!(1e30), false)] {
            let value = json!({ "count": value });
            let mut fields = Fields::of(&value, &["count"], &[]).unwrap();
            assert_eq!(fields.integer("count", 1..=5).is_some(), good);
        }
    }

    #[test]
    fn a_nul_is_found_wherever_it_hides() {
        assert!(find_nul(&json!({"a": [1, {"b": "fine"}]})).is_none());
        assert_eq!(find_nul(&json!({"a": [1, {"b": "x\0"}]})).unwrap().field, "a.1.b");
        assert_eq!(find_nul(&json!({"a": {"b\0": 1}})).unwrap().field, "a");
    }
}

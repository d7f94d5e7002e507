//! Reads a JSON object field by field and collects every fault.
//!
//! Each reader answers `None` both for a field that is absent and for one that is wrong; what is
//! wrong is filed as a [`Fault`]. A parser therefore reads all of its fields, and only then asks
//! [`Fields::finish`] whether the input was sound.

use serde_json::{Map, Value};

use crate::domain::fault::Fault;

/// How alike (Jaro-Winkler, 0 to 1) a known name must be before it is suggested for an unknown one.
const SUGGESTION_LIKENESS: f64 = 0.8;

/// Names the entry of `known` that a person most likely meant by `name`.
pub(crate) fn suggest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= SUGGESTION_LIKENESS)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// A JSON object being read, and the faults found so far.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'static str,
    faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Starts reading `object`, whose fields are named `path.name` in faults; fields that are not
    /// in `known` are faults at once.
    pub(crate) fn of(
        object: &'a Map<String, Value>,
        path: &'static str,
        known: &[&'static str],
    ) -> Self {
        let faults = object
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| {
                let hint = suggest(name, known).map_or_else(
                    || format!("known fields: {}", known.join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                let message = format!("there is no field `{name}` here; {hint}");
                Fault::new(format!("{path}.{name}"), "unknown_field", message)
            })
            .collect();
        Self { object, path, faults }
    }

    /// Files a fault of the field `name` (a dotted path below the object).
    pub(crate) fn fault(&mut self, name: &str, code: &'static str, message: impl Into<String>) {
        self.faults.push(Fault::new(format!("{}.{name}", self.path), code, message));
    }

    /// Takes the faults of a part that was read elsewhere; its value if it was sound.
    pub(crate) fn take<T>(&mut self, part: Result<T, Vec<Fault>>) -> Option<T> {
        part.map_err(|faults| self.faults.extend(faults)).ok()
    }

    /// The field's value, `None` if absent or null.
    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Files `required` if the field is absent or null; says whether it is there.
    pub(crate) fn require(&mut self, name: &str, example: &str) -> bool {
        let there = self.value(name).is_some();
        if !there {
            self.fault(name, "required", format!("`{name}` is needed, such as {example}"));
        }
        there
    }

    /// A string of at most `limit` bytes without NUL.
    pub(crate) fn string(&mut self, name: &str, limit: usize) -> Option<String> {
        let value = self.value(name)?;
        self.as_string(name, value, limit)
    }

    /// A string that must be there and must not be blank.
    pub(crate) fn needed_string(
        &mut self,
        name: &str,
        limit: usize,
        example: &str,
    ) -> Option<String> {
        if !self.require(name, example) {
            return None;
        }
        let text = self.string(name, limit)?;
        if text.trim().is_empty() {
            self.fault(name, "required", format!("`{name}` is empty; give one such as {example}"));
            return None;
        }
        Some(text)
    }

    /// An integer between `low` and `high`, both allowed.
    pub(crate) fn integer(&mut self, name: &str, low: u64, high: u64) -> Option<u64> {
        let value = self.value(name)?;
        match value.as_u64() {
            Some(number) if (low..=high).contains(&number) => Some(number),
            None if !value.is_number() => {
                self.fault(name, "invalid_type", format!("`{name}` must be an integer"));
                None
            }
            _ => {
                let message = format!("`{name}` must be a whole number from {low} to {high}");
                self.fault(name, "out_of_range", message);
                None
            }
        }
    }

    /// A list of strings, at most `most` of at most `limit` bytes each.
    pub(crate) fn strings(&mut self, name: &str, most: usize, limit: usize) -> Option<Vec<String>> {
        let Value::Array(items) = self.value(name)? else {
            self.fault(name, "invalid_type", format!("`{name}` must be a list of strings"));
            return None;
        };
        if items.len() > most {
            self.fault(name, "out_of_range", format!("`{name}` may have at most {most} entries"));
            return None;
        }
        items
            .iter()
            .enumerate()
            .map(|(index, item)| self.as_string(&format!("{name}.{index}"), item, limit))
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }

    /// An object whose values are strings (numbers and booleans are taken as their text), at most
    /// `most` entries of at most `limit` bytes each, in the order of the names.
    pub(crate) fn pairs(&mut self, name: &str, most: usize, limit: usize) -> Vec<(String, String)> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Value::Object(entries) = value else {
            self.fault(name, "invalid_type", format!("`{name}` must be an object of strings"));
            return Vec::new();
        };
        if entries.len() > most {
            self.fault(name, "out_of_range", format!("`{name}` may have at most {most} entries"));
            return Vec::new();
        }
        let mut pairs = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let field = format!("{name}.{key}");
            let text = match value {
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(flag) => Some(flag.to_string()),
                other => self.as_string(&field, other, limit),
            };
            pairs.extend(text.map(|text| (key.clone(), text)));
        }
        pairs
    }

    fn as_string(&mut self, name: &str, value: &Value, limit: usize) -> Option<String> {
        let Value::String(text) = value else {
            self.fault(name, "invalid_type", format!("`{name}` must be a string"));
            return None;
        };
        if text.len() > limit {
            self.fault(name, "out_of_range", format!("`{name}` may have at most {limit} bytes"));
            return None;
        }
        if text.contains('\0') {
            self.fault(name, "invalid_value", format!("`{name}` must not contain a NUL byte"));
            return None;
        }
        Some(text.clone())
    }

    /// `value` if nothing was wrong, else every fault.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(self.faults),
        }
    }
}

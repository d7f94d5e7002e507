//! What is wrong with an input, by field.
//!
//! Validation parses to a value and collects every fault, not just the first, so that a user
//! mends a request once. A fault names the field by its dotted path in the request
//! (`taskConfig.command`) and says how to cure it.

use serde::Serialize;

/// One thing wrong with one field of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Dotted path of the field in the request, such as `scheduleConfig.cron`.
    pub field: String,
    /// Stable machine-readable reason, `snake_case`: `required`, `unknown_field`, `invalid_type`,
    /// `out_of_range`, `invalid_value`, `invalid_cron`, `not_supported_yet`, ...
    pub code: &'static str,
    /// A sentence for a person: what is wrong and what would be right.
    pub message: String,
}

impl Fault {
    /// A fault of `field` with a stable `code` and a message for people.
    pub fn new(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { field: field.into(), code, message: message.into() }
    }
}

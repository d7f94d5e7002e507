//! What follows when an execution fails: read and written.

use serde_json::{Map, Value};

use crate::api::wire::body::Fields;
use crate::domain::options::RecoveryOptions;

/// The fields read here.
pub(super) const FIELDS: &[&str] = &[];

/// Reads them.
pub(super) fn read(_fields: &mut Fields<'_>) -> RecoveryOptions {
    RecoveryOptions::default()
}

/// Writes them, every field there.
pub(super) fn write(_options: &RecoveryOptions, _body: &mut Map<String, Value>) {}

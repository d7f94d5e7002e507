//! What makes a schedule fire beside the clock: read and written.

use serde_json::{Map, Value};

use crate::api::wire::body::Fields;
use crate::domain::options::EventOptions;

/// The fields read here.
pub(super) const FIELDS: &[&str] = &[];

/// Reads them.
pub(super) fn read(_fields: &mut Fields<'_>) -> EventOptions {
    EventOptions::default()
}

/// Writes them, every field there.
pub(super) fn write(_options: &EventOptions, _body: &mut Map<String, Value>) {}

//! When an execution may start, beside a free slot: read and written.

use serde_json::{Map, Value};

use crate::api::wire::body::Fields;
use crate::domain::options::AdmissionOptions;

/// The fields read here.
pub(super) const FIELDS: &[&str] = &[];

/// Reads them.
pub(super) fn read(_fields: &mut Fields<'_>) -> AdmissionOptions {
    AdmissionOptions::default()
}

/// Writes them, every field there.
pub(super) fn write(_options: &AdmissionOptions, _body: &mut Map<String, Value>) {}

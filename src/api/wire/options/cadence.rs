//! When a schedule fires, beyond its grid: read and written.

use serde_json::{Map, Value};

use crate::api::wire::body::Fields;
use crate::domain::options::CadenceOptions;

/// The fields read here.
pub(super) const FIELDS: &[&str] = &[];

/// Reads them.
pub(super) fn read(_fields: &mut Fields<'_>) -> CadenceOptions {
    CadenceOptions::default()
}

/// Writes them, every field there.
pub(super) fn write(_options: &CadenceOptions, _body: &mut Map<String, Value>) {}

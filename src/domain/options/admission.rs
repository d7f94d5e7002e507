//! When an execution may start, beside a free slot.

use serde::{Deserialize, Serialize};

/// When an execution may start, beside a free slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdmissionOptions {}

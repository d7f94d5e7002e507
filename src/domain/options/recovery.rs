//! What follows when an execution fails.

use serde::{Deserialize, Serialize};

/// What follows when an execution fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecoveryOptions {}

//! What makes a schedule fire beside the clock.

use serde::{Deserialize, Serialize};

/// What makes a schedule fire beside the clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventOptions {}

//! When a schedule fires, beyond its grid.

use serde::{Deserialize, Serialize};

/// When a schedule fires, beyond its grid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CadenceOptions {}

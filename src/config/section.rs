//! The small vocabulary in which the settings are written down.
//!
//! [`section!`](super) turns a list of documented keys with their defaults into a struct, so that
//! a key, its type, its meaning and its default stand in one place. [`Millis`] and [`Secret`] are
//! the two value types that TOML lacks.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Declares one section of the settings: a struct with a default for each key; unknown keys are
/// refused.
macro_rules! section {
    ($(#[$about:meta])* $name:ident {
        $($(#[$doc:meta])* $key:ident: $kind:ty = $default:expr,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* pub $key: $kind,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }
    };
}
pub(super) use section;

/// A whole number of milliseconds, as it stands in a setting whose name ends in `_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The same span as a [`Duration`].
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Self {
        millis.duration()
    }
}

/// A string that must not reach a log: `Debug` and `Display` show `***` (nothing when it is empty).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself; for the one place that uses it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether nothing is set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}

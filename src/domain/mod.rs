//! Values and decisions: no async, no I/O, no clock.

pub mod act;
pub mod admission;
pub mod advice;
pub mod alert;
pub mod attention;
pub mod backfill;
pub mod breaker;
pub mod cadence;
pub mod calendar;
pub mod carry;
pub mod classification;
pub mod error_record;
pub mod event;
pub mod execution;
pub mod execution_event;
#[cfg(test)]
pub(crate) mod execution_samples;
pub mod fault;
pub(crate) mod fields;
pub mod fingerprint;
pub mod forecast;
pub mod key;
pub mod misfire;
pub mod options;
pub mod overlap;
pub mod pressure;
pub mod recovery;
pub mod replan;
pub mod retry;
pub mod schedule;
pub mod sla;
pub mod spread;
pub mod task;
pub mod trigger;
pub mod webhook;

/// An instant on the wall clock, UTC.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// Defines an enum whose values have one text each: the word in the tables, in JSON and in the UI.
macro_rules! text_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value of a word, if there is one.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use text_enum;

//! The house rules that no compiler checks.

mod files;
mod rooms;
pub(crate) mod sources;

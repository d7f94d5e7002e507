//! The house rules that no compiler checks.

mod files;
mod rooms;
mod sources;

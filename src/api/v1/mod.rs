//! The handlers of v1, one file a resource.

pub(super) mod dead_letters;
pub(super) mod errors;
pub(super) mod executions;
pub(super) mod health;
pub(super) mod launch;
pub(super) mod ledger;
pub(super) mod parts;
pub(super) mod planning;
pub(super) mod scheduler;
pub(in crate::api) mod schedules;
pub(super) mod session;

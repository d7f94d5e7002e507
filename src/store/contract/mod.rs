//! The operations of the store, as its callers see them. What each does is in `queries/`.

mod admission;
mod executions;
mod recovery;
mod schedules;
mod system;

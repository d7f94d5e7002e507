//! The operations of the store, as its callers see them. What each does is in `queries/`.

mod acts;
mod admission;
mod breakers;
mod calendars;
mod alerts;
mod executions;
mod groups;
mod inbox;
mod recovery;
mod schedules;
mod system;

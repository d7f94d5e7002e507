//! The operations of the store, as its callers see them. What each does is in `queries/`.

mod acts;
mod admission;
mod alerts;
mod breakers;
mod calendars;
mod executions;
mod groups;
mod inbox;
mod recovery;
mod schedules;
mod system;

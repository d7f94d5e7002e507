//! The HTTP API over a real listener and a real store.

mod access;
mod alerts;
mod breakers;
mod events;
mod executions;
mod failures;
mod forecast;
mod interventions;
mod keys;
mod once;
mod policies;
mod protocol;
mod queues;
mod schedules;
mod server;

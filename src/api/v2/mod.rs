//! The handlers of v2, one file a resource. Lists answer `{"items", "nextCursor"}`: pages by key,
//! which stay whole while rows are inserted.

pub(super) mod alert_channels;
pub(super) mod alert_rules;
pub(super) mod alerts;
pub(super) mod attention;
pub(super) mod audit;
pub(super) mod backfills;
pub(super) mod breakers;
pub(super) mod calendars;
pub(super) mod dead_letters;
pub(super) mod error_groups;
pub(super) mod errors;
pub(crate) mod events;
pub(super) mod executions;
pub(super) mod forecast;
pub(crate) mod hooks;
pub(crate) mod priority;
pub(crate) mod queues;
pub(crate) mod resources;
pub(super) mod schedules;
pub(crate) mod webhooks;

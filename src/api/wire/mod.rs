//! How requests are read and answers are written.
//!
//! Reading parses to values and collects every fault, each under its dotted path; writing makes
//! the views of the v1 contract. Neither knows the store's or the server's state.

pub(crate) mod alert_channel;
pub(crate) mod alert_rule;
pub(crate) mod body;
pub(crate) mod breakers;
pub(crate) mod cadence;
pub(crate) mod calendar;
pub(crate) mod definition;
pub(crate) mod execution;
pub(crate) mod groups;
pub(crate) mod instant;
pub(crate) mod interventions;
pub(crate) mod ledger;
pub(crate) mod options;
pub(crate) mod query;
pub(crate) mod views;

#[cfg(test)]
mod definition_tests;

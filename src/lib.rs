//! Carillon: a self-hosted task runtime in one binary.
//!
//! This file is the map; `docs/ARCHITECTURE.md` is the guide. Rooms in the order in which they may
//! know each other: a room may use those above it, never those below.

pub mod domain;

pub mod clock;
pub mod config;
pub mod telemetry;

pub mod store;
pub mod supervision;

pub mod tasks;

pub mod runtime;

pub mod api;

pub mod app;
pub mod bench;

pub mod cli;

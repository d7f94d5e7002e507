//! Our actors, one folder each, and what they share.
//!
//! Every actor reads the store, plans, and applies the plan; what it is told is a hint to look
//! now instead of at its next interval. Actors do not know each other.

pub mod alerts;
pub mod batch;
pub mod conductor;
pub mod events;
pub mod executor;
pub mod guard;
pub mod handles;
pub mod janitor;
pub mod meter;
pub mod nodes;
pub mod recovery;
pub mod scheduler;
pub mod services;
pub mod sessions;
pub mod system;
pub mod tree;
pub mod triggers;
pub mod wake;

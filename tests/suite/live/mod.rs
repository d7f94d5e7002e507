//! The live side, over a real socket and an event log in memory.

mod conformance;
mod delivery;
mod manners;
mod real;
mod stalled;
mod support;

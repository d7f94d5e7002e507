//! Real actors under real supervisors: each test is a law of `carillon::supervision`.
//!
//! No test waits for time to pass; all wait for conditions, with a deadline that is never met.

mod crashes;
mod escalation;
mod hangs;
mod lifecycle;
mod operators;
mod probe;

//! What several rooms of the suite need.

pub(crate) mod postgres;

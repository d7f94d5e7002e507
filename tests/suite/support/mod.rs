//! What several rooms of the suite need.

pub(crate) mod postgres;
pub(crate) mod proxy;

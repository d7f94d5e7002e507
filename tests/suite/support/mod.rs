//! What several rooms of the suite need.

pub(crate) mod checker;
pub(crate) mod deaths;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod receivers;

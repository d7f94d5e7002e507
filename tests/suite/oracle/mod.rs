//! Our cron against independent implementations.

mod cases;
mod croner;
mod cronsim;

//! The server's side of the shim, the process between it and one command (crate `carillon-shim`).
//!
//! [`Shimmed`] is a started shim whose command runs, [`Reserve`] the shims that wait for one,
//! `program` where the shim's program comes from. [`adopt_orphans`] and [`hide_from_tasks`] are for
//! the server's start.
//!
//! A task runs as the server's user unless `runAs` says otherwise, and can end its own shim; then
//! what the shim left is hunted down here (`stray`).

mod process;
mod program;
mod reserve;
mod stray;

use std::io;

pub(crate) use carillon_shim::protocol;
pub use carillon_shim::{LOST_GRACE, main};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

pub(crate) use self::process::{Pipes, Shimmed};
pub(crate) use self::program::Program;
pub(crate) use self::reserve::Reserve;
pub use self::stray::adopt_orphans;

/// Keeps tasks from reading this process's memory and environment, those of other users also from
/// reading the files that it makes from now on.
///
/// # Errors
/// When the kernel refuses.
pub fn hide_from_tasks() -> io::Result<()> {
    umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

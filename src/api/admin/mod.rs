//! The handlers of the admin plane: the supervision tree, the server, the keys.

pub(super) mod actors;
pub(super) mod keys;
pub(super) mod system;

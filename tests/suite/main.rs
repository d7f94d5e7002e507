//! The integration suite: one binary, one module a room.

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod supervision;

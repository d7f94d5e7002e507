//! The integration suite: one binary, one module a room.

#[cfg(test)]
mod api;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod e2e;
#[cfg(test)]
mod live;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod store;
#[cfg(test)]
mod supervision;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod tidy;

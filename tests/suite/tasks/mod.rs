//! Tasks as they really run: processes, sockets, threads.

mod conductor;
mod function;
mod http;
mod limits;
mod pauses;
mod peer;
mod shell;
mod support;

//! The outside: HTTP, JSON, status codes. The only room that knows actix-web.
//!
//! `routes.rs` lists every route and the role it needs; `serve.rs` is the way of a request; `v1/`
//! and `admin/` hold the handlers, one file a resource; `wire/` reads requests and writes answers;
//! `auth/` says who may come in; `error.rs` is every refusal.
//!
//! A handler validates, does one store operation, wakes whoever waits for it, and answers. It
//! never waits for an actor to do durable work, and reads come from the store.

pub mod acts;
mod admin;
pub mod auth;
mod call;
pub mod error;
mod hook_limits;
mod once;
pub mod routes;
mod serve;
mod socket;
mod starting;
mod state;
mod v1;
mod v2;
mod wire;
pub mod ws;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};

pub use self::starting::serve_starting;
pub use self::state::ApiState;
use crate::config::Settings;
use crate::runtime::sessions::LiveState;

/// Longest wait for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Longest wait for a client to close its side.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections at most of each worker.
const CONNECTIONS_MAX: usize = 10_000;

/// Connections the system queues before they are accepted.
const BACKLOG: u32 = 1_024;

/// Seconds that requests in flight get when the server closes.
const SHUTDOWN_SECONDS: u64 = 5;

/// Binds the address of the settings; port 0 picks a free one, [`local_address`] tells which.
///
/// # Errors
/// What the system says, such as that the address is in use.
pub fn bind(settings: &Settings) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(settings.server.listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Where a listener listens.
///
/// # Errors
/// What the system says.
pub fn local_address(listener: &TcpListener) -> io::Result<SocketAddr> {
    listener.local_addr()
}

/// Starts the server on a bound listener; await the answer to run it, and stop it through its
/// handle. Live sessions follow `live`.
///
/// # Errors
/// What the system says of the listener.
pub fn serve(listener: TcpListener, state: ApiState, live: Arc<LiveState>) -> io::Result<Server> {
    let workers = state.settings().server.workers;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(state.clone()))
            .wrap(from_fn(serve::around))
            .configure(serve::register)
            .configure(|config| socket::register(config, &state, &live))
            .default_service(web::to(serve::no_route))
    })
    .workers(workers)
    .backlog(BACKLOG)
    .max_connections(CONNECTIONS_MAX)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEAD_TIMEOUT)
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .on_connect(|connection, _| ws::limit_stall(connection, socket::STALL_LIMIT))
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

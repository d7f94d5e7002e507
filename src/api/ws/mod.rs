//! The live socket, `/ws`: events as they are committed.
//!
//! Each connection is an actor ([`session`]) on its HTTP worker. It pulls events from the shared
//! feed at the pace its client confirms, so that a slow client costs nobody anything and a crash of
//! any other actor costs it no event. This module is the only one that names `actix-web-actors`,
//! which its maintainers have given up; of it we use the actor's context and the outgoing frames,
//! while incoming ones go through [`frames`].
//!
//! Who hears what: a client that filters nothing sees numbers without holes. What its role hides
//! reaches it as `{"type":"restricted","seq","timestamp","payload":null}`; a client that filters
//! gets no such stubs. `heartbeat.seq` is the number up to which this session has been served, so
//! a client that filters can resume from it.
//!
//! Not here: who may connect. Key, `Origin` and `Host` are checked before [`connect`] is called.

mod deliver;
mod echo;
mod filter;
mod frames;
mod messages;
mod session;
mod utf8;
mod window;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use actix::AsyncContext;
use actix_web::http::header::USER_AGENT;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, CloseReason, WebsocketContext};
use futures_util::stream;
use serde_json::json;
use uuid::Uuid;

pub use echo::echo;

use crate::domain::key::Role;
use crate::runtime::sessions::LiveState;
use crate::store::NewSession;
use frames::ClientFrames;
use session::{Session, signals};

/// Characters of a client's name that are kept.
const USER_AGENT_MAX: usize = 200;

/// What actix's own reader would yield; it is given nothing to read.
type Unused = Result<ws::Message, ws::ProtocolError>;

/// Who connects, as the middleware established it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The key's name.
    pub key_name: Option<String>,
    /// What it may hear.
    pub role: Role,
}

/// Why a connection was not upgraded.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The request is no WebSocket upgrade; it knows its own status (400, 405, 426 and so on).
    #[error("not a WebSocket upgrade: {0}")]
    Handshake(#[source] ws::HandshakeError),
    /// The end of the event log is not known yet, or the server is stopping: 503.
    #[error("the live side is not ready")]
    NotReady,
    /// The node has as many sessions as it may: 503.
    #[error("there are too many live sessions")]
    TooManySessions,
}

fn close_frame(code: u16, reason: &str) -> CloseReason {
    let description = (!reason.is_empty()).then(|| reason.to_owned());
    CloseReason { code: code.into(), description }
}

/// Upgrades to a live session of `identity`.
///
/// # Errors
/// See [`ConnectError`].
pub fn connect(
    request: &HttpRequest,
    payload: Payload,
    identity: Identity,
    live: &Arc<LiveState>,
) -> Result<HttpResponse, ConnectError> {
    let mut response = ws::handshake(request).map_err(ConnectError::Handshake)?;
    if !live.feed.is_loaded() || live.closing().is_some() {
        return Err(ConnectError::NotReady);
    }
    let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    let user_agent: Option<String> =
        user_agent.map(|text| text.chars().take(USER_AGENT_MAX).collect());
    let ip = request.peer_addr().map(|address| address.ip().to_string());
    let row = NewSession {
        session_id: Uuid::new_v4(),
        boot_id: live.boot_id(),
        key_name: identity.key_name,
        client_info: json!({"userAgent": user_agent, "ip": ip}),
    };
    let guard = live
        .table
        .enter(row, identity.role, live.settings.sessions_max)
        .ok_or(ConnectError::TooManySessions)?;
    let session = Session::new(Arc::clone(live), guard, identity.role);
    let bytes_max = live.settings.message_bytes_max;
    let signal = live.feed.signal();
    let body = WebsocketContext::with_factory(stream::pending(), move |context| {
        context.add_stream(ClientFrames::new(payload, bytes_max));
        context.add_stream(signals(signal));
        session
    });
    Ok(response.streaming(body))
}

/// For `HttpServer::on_connect`: lets the kernel drop a connection whose client has taken nothing
/// for `wait`. A session whose client stopped reading is not even polled, so it cannot close
/// itself.
pub fn limit_stall(connection: &dyn Any, wait: Duration) {
    if let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() {
        let millis = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, millis) {
            tracing::debug!(error = %error, "a connection's stall cannot be limited");
        }
    }
}

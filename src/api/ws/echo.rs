//! Says back what it hears: the conformance suite's counterpart over the session's frame layer.
//!
//! Mounted only where faults may be injected. Its message limit is the suite's, not a session's.

use actix::{Actor, ActorContext, AsyncContext, StreamHandler};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, WebsocketContext};
use futures_util::stream;

use super::frames::{ClientFrames, Incoming, Violation};
use super::{ConnectError, Unused, close_frame};

/// The largest message the conformance cases send is 16 MiB.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

struct Echo;

impl Actor for Echo {
    type Context = WebsocketContext<Self>;
}

impl StreamHandler<Unused> for Echo {
    fn handle(&mut self, _item: Unused, _context: &mut Self::Context) {}
}

impl StreamHandler<Result<Incoming, Violation>> for Echo {
    fn handle(&mut self, item: Result<Incoming, Violation>, context: &mut Self::Context) {
        match item {
            Ok(Incoming::Text(text)) => context.text(text),
            Ok(Incoming::Binary(bytes)) => context.binary(bytes),
            Ok(Incoming::Ping(bytes)) => context.pong(&bytes),
            Ok(Incoming::Pong(_)) => {}
            Ok(Incoming::Close(reason)) => {
                context.close(reason.map(|(code, _)| close_frame(code, "")));
                context.stop();
            }
            Err(violation) => {
                context.close(Some(close_frame(violation.code, violation.reason)));
                context.stop();
            }
        }
    }
}

/// Upgrades to a socket that says back what it hears.
///
/// # Errors
/// `Handshake` when the request is no WebSocket upgrade.
pub fn echo(request: &HttpRequest, payload: Payload) -> Result<HttpResponse, ConnectError> {
    let mut response = ws::handshake(request).map_err(ConnectError::Handshake)?;
    let body = WebsocketContext::with_factory(stream::pending(), |context| {
        context.add_stream(ClientFrames::new(payload, MESSAGE_BYTES_MAX));
        Echo
    });
    Ok(response.streaming(body))
}

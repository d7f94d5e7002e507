//! The stand-in that answers while the store is being opened: `/livez`, and 503 for all else.

use std::io;
use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};

use crate::api::error::ApiError;
use crate::telemetry::RequestId;

/// Starts the stand-in on a listener that the server proper takes over later. Connections are not
/// kept, so that none is left on it when it stops.
///
/// # Errors
/// What the system says of the listener.
pub fn serve_starting(listener: TcpListener) -> io::Result<Server> {
    let server = HttpServer::new(|| {
        App::new()
            .service(web::resource("/livez").route(web::get().to(alive)))
            .default_service(web::to(not_yet))
    })
    .workers(1)
    .keep_alive(actix_web::http::KeepAlive::Disabled)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))
}

async fn not_yet() -> HttpResponse {
    ApiError::unavailable("starting", "the server is starting")
        .into_response(RequestId::generate().as_str())
}

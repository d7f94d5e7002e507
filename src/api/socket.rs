//! `/ws` as a route: who may come in, then the live side.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};

use crate::api::call::RequestContext;
use crate::api::error::ApiError;
use crate::api::state::ApiState;
use crate::api::ws::{self, ConnectError, Identity};
use crate::runtime::sessions::LiveState;

/// A client that has taken nothing for so long is cut off by the kernel.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Mounts the live sessions; under fault injection also the echo that conformance suites talk to.
pub(super) fn register(config: &mut web::ServiceConfig, state: &ApiState, live: &Arc<LiveState>) {
    let live = web::Data::from(live.clone());
    config.app_data(live).service(web::resource("/ws").route(web::get().to(open)));
    if state.settings().admin.fault_injection {
        config.service(web::resource("/ws-echo").route(web::get().to(echo)));
    }
}

async fn open(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<ApiState>,
    live: web::Data<LiveState>,
) -> HttpResponse {
    let id = request
        .extensions()
        .get::<RequestContext>()
        .map(|context| context.request_id.to_string())
        .unwrap_or_default();
    match enter(&request, payload, &state, &live.into_inner()).await {
        Ok(response) => response,
        Err(error) => error.into_response(&id),
    }
}

async fn enter(
    request: &HttpRequest,
    payload: web::Payload,
    state: &ApiState,
    live: &Arc<LiveState>,
) -> Result<HttpResponse, ApiError> {
    let principal = state.authority().authenticate(request).await?;
    let has_key = request.headers().contains_key(actix_web::http::header::AUTHORIZATION);
    if !has_key && !request.headers().contains_key(actix_web::http::header::ORIGIN) {
        let detail = "a cookie opens a socket only from a page of this server (`Origin`)";
        return Err(ApiError::forbidden("origin_required", detail));
    }
    let identity = Identity { key_name: Some(principal.name), role: principal.role };
    if !live.feed.is_watched()
        && let Err(error) = live.feed.skip_to_end().await
    {
        // `connected` then names an older event, and what followed it is sent: nothing is lost.
        tracing::debug!(%error, "where the log ends is not known to the event");
    }
    ws::connect(request, payload, identity, live).map_err(refusal)
}

fn refusal(error: ConnectError) -> ApiError {
    match error {
        ConnectError::Handshake(error) => {
            ApiError::malformed("not_a_websocket", format!("this is a WebSocket: {error}"))
        }
        ConnectError::NotReady => ApiError::unavailable("starting", "the live side is not ready"),
        ConnectError::TooManySessions => {
            ApiError::unavailable("too_many_sessions", "this node has as many sessions as it may")
        }
    }
}

async fn echo(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    ws::echo(&request, payload).unwrap_or_else(|error| refusal(error).into_response(""))
}

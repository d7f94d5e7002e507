//! The way of a request: checks that hold for all, then the route's own, then its handler.
//!
//! [`around`] wraps every answer of the server, the live sessions' too: ids, `Host`, `Origin`,
//! start-up, headers, log. [`dispatch`] is what each path of the route table runs: method, key,
//! role, drain, body, `Idempotency-Key`, handler. A handler runs to its end even when the client
//! hangs up: what was begun (a claimed slot, a commit) is never left half done, and a panic becomes
//! a 500.

use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::Instant;
use tracing::Instrument;

use crate::api::acts;
use crate::api::auth::{Principal, check_host, check_origin};
use crate::api::call::{Call, RequestContext, replayed_on};
use crate::api::error::{Answer, ApiError};
use crate::api::once::OnceKey;
use crate::api::routes::{Access, Base, Effect, ROUTES, Route};
use crate::api::state::ApiState;
use crate::domain::key::Role;
use crate::runtime::handles::Phase;
use crate::telemetry::{RequestId, TraceParent, names};

/// Longest wait for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers of every answer; a handler may set its own value first.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What holds for every request, whatever answers it.
pub(crate) async fn around(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let context = RequestContext {
        request_id: RequestId::take_over(header("x-request-id")),
        traceparent: TraceParent::take_over(header("traceparent")),
    };
    let method = request.method().clone();
    let path = request.path().to_owned();
    let span = tracing::info_span!(
        "request",
        request.id = %context.request_id,
        trace.id = %context.traceparent.trace_id(),
    );
    request.extensions_mut().insert(context.clone());
    let refusal = request
        .app_data::<web::Data<ApiState>>()
        .map_or(Ok(()), |state| check_all(&request, state));
    let mut response = match refusal {
        Err(error) => {
            let response = error.into_response(context.request_id.as_str());
            request.into_response(response)
        }
        Ok(()) => next.call(request).instrument(span.clone()).await?.map_into_boxed_body(),
    };
    let status = response.status().as_u16();
    decorate(response.headers_mut(), &path, &context);
    let seconds = started.elapsed().as_secs_f64();
    let label = known_method(method.as_str());
    metrics::counter!(names::HTTP_REQUESTS, "method" => label, "status" => status.to_string())
        .increment(1);
    metrics::histogram!(names::HTTP_DURATION, "method" => label).record(seconds);
    span.in_scope(|| {
        tracing::event!(
            target: "carillon::access",
            tracing::Level::INFO,
            http.method = %method,
            http.path = %path,
            http.status = status,
            http.duration_ms = seconds * 1_000.0,
            "http request"
        );
    });
    Ok(response)
}

/// Keeps the label of metrics bounded: a client may send any word as its method.
fn known_method(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// Name, origin and start-up: what comes before any route.
fn check_all(request: &ServiceRequest, state: &ApiState) -> Result<(), ApiError> {
    let hosts = &state.settings().server.hosts;
    let listen = request.app_config().local_addr();
    check_host(request.headers(), hosts, listen)?;
    check_origin(request.headers(), hosts, listen)?;
    if state.handles().phase() == Phase::Starting && request.path() != "/livez" {
        return Err(ApiError::unavailable("starting", "the server is starting"));
    }
    Ok(())
}

fn decorate(headers: &mut HeaderMap, path: &str, context: &RequestContext) {
    for (name, value) in SECURITY_HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    let is_dynamic = path.starts_with("/api") || !headers.contains_key(header::CACHE_CONTROL);
    if is_dynamic {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let ids = [
        ("x-request-id", context.request_id.to_string()),
        ("traceparent", context.traceparent.to_string()),
    ];
    for (name, value) in ids {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Registers every path of the route table.
pub(crate) fn register(config: &mut web::ServiceConfig) {
    let mut paths: Vec<(String, Vec<&'static Route>)> = Vec::new();
    for route in ROUTES {
        for path in route.full_paths() {
            match paths.iter_mut().find(|(known, _)| *known == path) {
                Some((_, routes)) => routes.push(route),
                None => paths.push((path, vec![route])),
            }
        }
    }
    for (path, routes) in paths {
        let answer = move |request: HttpRequest, payload: web::Payload| {
            let routes = routes.clone();
            async move {
                let id = request_id(&request);
                dispatch(routes, request, payload)
                    .await
                    .unwrap_or_else(|error| error.into_response(&id))
            }
        };
        config.service(web::resource(path).to(answer));
    }
}

/// Answers where there is no route: whoever has no key learns nothing about the API's paths.
pub(crate) async fn no_route(request: HttpRequest, state: web::Data<ApiState>) -> HttpResponse {
    let id = request_id(&request);
    if request.path().starts_with("/api")
        && let Err(error) = state.authority().authenticate(&request).await
    {
        return error.into_response(&id);
    }
    ApiError::not_found("there is no such route").into_response(&id)
}

fn request_id(request: &HttpRequest) -> String {
    let extensions = request.extensions();
    let context = extensions.get::<RequestContext>();
    context.map(|context| context.request_id.to_string()).unwrap_or_default()
}

async fn dispatch(
    routes: Vec<&'static Route>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let Some(state) = request.app_data::<web::Data<ApiState>>().cloned() else {
        return Err(ApiError::internal("the server was put together without its state"));
    };
    let method = if request.method() == "HEAD" { "GET" } else { request.method().as_str() };
    let Some(route) = routes.iter().copied().find(|route| route.method == method) else {
        if !routes.iter().any(|route| route.access == Access::Public) {
            state.authority().authenticate(&request).await?;
        }
        return Err(ApiError::method_not_allowed(&allowed(&routes)));
    };
    check_version(route, &request)?;
    let principal = authorize(route, &request, &state).await?;
    check_phase(route.effect, state.handles().phase())?;
    let body = read_body(&request, payload, state.settings().server.body_bytes_max).await?;
    let context = request.extensions().get::<RequestContext>().cloned();
    let context = context.ok_or_else(|| ApiError::internal("the request has no context"))?;
    let mut call = Call {
        state: state.get_ref().clone(),
        principal,
        context,
        route: format!("{} {}", route.method, route.path),
        params: request
            .match_info()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        query: request.query_string().to_owned(),
        headers: request.headers().clone(),
        body,
        request,
    };
    if let Some(act) = acts::act_of(route, &call)? {
        call.state = call.state.acting(act);
    }
    let turn = match once_key(route, &call)? {
        None => None,
        Some(key) => {
            let turn = state.under_way().enter(&key)?;
            if let Some(answer) = state.store().answer_find(key.key, key.body_hash).await? {
                return replayed_on(route, answer);
            }
            Some(turn)
        }
    };
    let store = call.state.store().clone();
    let handler = (route.handler)(call);
    let work = async move {
        let answer = handler.await;
        if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
            acts::settle(&store).await;
        }
        drop(turn);
        answer
    };
    let work = actix_web::rt::spawn(work.in_current_span());
    work.await.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

/// The `Idempotency-Key`, on routes that create.
fn once_key(route: &Route, call: &Call) -> Result<Option<OnceKey>, ApiError> {
    match route.effect {
        Effect::Make | Effect::Work => OnceKey::of(call),
        Effect::Read | Effect::Write => Ok(None),
    }
}

fn allowed(routes: &[&Route]) -> String {
    let mut methods: Vec<&str> = routes.iter().map(|route| route.method).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.join(", ")
}

/// Without a version in the path, `X-Api-Version` may pick one; only 1 exists for these routes.
fn check_version(route: &Route, request: &HttpRequest) -> Result<(), ApiError> {
    let wanted = request.headers().get("x-api-version").map(HeaderValue::as_bytes);
    let is_open = route.base == Base::V1 && !request.path().starts_with("/api/v1/");
    if is_open && wanted.is_some_and(|wanted| wanted != b"1") {
        let detail = "this path does not exist in the version that X-Api-Version asks for";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_version_route", detail));
    }
    Ok(())
}

async fn authorize(
    route: &Route,
    request: &HttpRequest,
    state: &ApiState,
) -> Result<Option<Principal>, ApiError> {
    let needed = match route.access {
        Access::Public => return Ok(None),
        Access::Metrics if state.settings().server.metrics_public => return Ok(None),
        Access::Metrics => Role::Viewer,
        Access::Key(role) => role,
    };
    let principal = state.authority().authenticate(request).await?;
    principal.require(needed)?;
    Ok(Some(principal))
}

fn check_phase(effect: Effect, phase: Phase) -> Result<(), ApiError> {
    match (effect, phase) {
        (Effect::Work, Phase::Draining) => {
            Err(ApiError::unavailable("draining", "the server takes no new work"))
        }
        (Effect::Work | Effect::Make | Effect::Write, Phase::Stopping) => {
            Err(ApiError::unavailable("stopping", "the server is stopping"))
        }
        _ => Ok(()),
    }
}

/// The whole body, if its kind and its size are right.
async fn read_body(
    request: &HttpRequest,
    mut payload: web::Payload,
    most: usize,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        let detail = format!("the body has more than {most} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > u64::try_from(most).unwrap_or(u64::MAX)) {
        return Err(too_large());
    }
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        let detail = "send the body without Content-Encoding";
        return Err(unsupported(detail));
    }
    let read = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                ApiError::malformed("malformed_body", format!("the body cannot be read: {error}"))
            })?;
            if body.len() + chunk.len() > most {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let body = tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or_else(|_| {
        let detail = "the body did not come in time";
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail))
    })?;
    if !body.is_empty() && !is_json(request) {
        return Err(unsupported("send the body as Content-Type: application/json"));
    }
    Ok(body)
}

fn unsupported(detail: &str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

fn is_json(request: &HttpRequest) -> bool {
    let kind = request.content_type().trim();
    kind.eq_ignore_ascii_case("application/json")
}

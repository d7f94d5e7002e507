//! A request on its way to its handler, checked and read, and the small helpers handlers share.
//!
//! A handler is `async fn(Call) -> Answer`: it sees who asks, the path's parameters, the query, a
//! few headers and the body, and nothing of actix-web but the response it builds.

use std::collections::HashMap;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderMap, LOCATION};
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::api::auth::Principal;
use crate::api::error::{Answer, ApiError};
use crate::api::once::OnceKey;
use crate::api::routes::{Base, Route};
use crate::api::state::ApiState;
use crate::api::wire::body::find_nul;
use crate::api::wire::query::Query;
use crate::api::wire::views;
use crate::store::{ExecutionKey, Idempotency, StoredAnswer};
use crate::telemetry::{RequestId, TraceParent};

/// The route whose things are found by name.
const ALERT_CHANNELS: &str = "/alert-channels";

/// The ids that follow a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    /// `X-Request-Id`.
    pub(crate) request_id: RequestId,
    /// The trace it belongs to.
    pub(crate) traceparent: TraceParent,
}

/// A request that may be carried out.
pub(crate) struct Call {
    /// What handlers may use.
    pub(crate) state: ApiState,
    /// Who asks; `None` on the few routes that need no key.
    pub(crate) principal: Option<Principal>,
    /// The ids that follow it.
    pub(crate) context: RequestContext,
    /// The route's own name: method and pattern, the same for both ways to write a path.
    pub(crate) route: String,
    /// Path parameters by name.
    pub(crate) params: HashMap<String, String>,
    /// The query string as it came.
    pub(crate) query: String,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body, whole.
    pub(crate) body: Bytes,
    /// The request itself, for credentials that are checked late (opening a session).
    pub(crate) request: actix_web::HttpRequest,
}

impl Call {
    /// Who asks.
    pub(crate) fn principal(&self) -> Result<&Principal, ApiError> {
        self.principal
            .as_ref()
            .ok_or_else(|| ApiError::unauthorized("unauthorized", "this needs an API key"))
    }

    /// Why the act is done, as the audit log has it.
    pub(crate) fn reason(&self) -> Option<String> {
        self.state.store().unsettled_act().and_then(|act| act.reason)
    }

    /// The path parameter `name`, empty if the route has none.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// The row id in the path; anything else names nothing.
    pub(crate) fn id(&self) -> Result<i64, ApiError> {
        let text = self.param("id");
        text.parse()
            .ok()
            .filter(|id| *id > 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| ApiError::not_found("there is nothing with that id"))
    }

    /// An execution's id in the path, in either form.
    pub(crate) fn execution_key(&self) -> Result<ExecutionKey, ApiError> {
        if let Ok(id) = self.id() {
            return Ok(ExecutionKey::Id(id));
        }
        // Only the usual hyphenated form: one name, one spelling.
        let text = self.param("id");
        let uuid = (text.len() == 36).then(|| Uuid::parse_str(text).ok()).flatten();
        uuid.map(ExecutionKey::Uuid)
            .ok_or_else(|| ApiError::not_found("there is no execution with that id"))
    }

    /// The query's parameters; those not in `known` are faults.
    pub(crate) fn query(&self, known: &[&str]) -> Query {
        Query::parse(&self.query, known)
    }

    /// Refuses a query on a route that takes none.
    pub(crate) fn no_query(&self) -> Result<(), ApiError> {
        self.query(&[]).finish()
    }

    /// The body as JSON; an empty one is malformed.
    pub(crate) fn json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            let detail = "the body is empty; send a JSON object";
            return Err(ApiError::malformed("malformed_json", detail));
        }
        let value: Value = serde_json::from_slice(&self.body).map_err(|error| {
            ApiError::malformed("malformed_json", format!("the body is not JSON: {error}"))
        })?;
        // PostgreSQL cannot keep U+0000, and no field has a use for it.
        match find_nul(&value) {
            Some(fault) => Err(ApiError::invalid(vec![fault])),
            None => Ok(value),
        }
    }

    /// The body as JSON, or an empty object when there is none.
    pub(crate) fn optional_json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() { Ok(Value::Object(serde_json::Map::new())) } else { self.json() }
    }

    /// The version of `If-Match`, if the request has one that names a version.
    pub(crate) fn if_match(&self) -> Result<Option<i64>, ApiError> {
        let Some(header) = self.headers.get("if-match") else { return Ok(None) };
        let text = header.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(None);
        }
        let bare = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        bare.parse().map(Some).map_err(|_| {
            ApiError::malformed("malformed_header", "If-Match takes one ETag, such as \"3\"")
        })
    }

    /// What makes this creating request happen at most once, if the client gave a key. `render`
    /// makes the answer to keep; true when the thing was there before.
    pub(crate) fn idempotency<T>(
        &self,
        render: impl Fn(&T, bool) -> StoredAnswer + Send + Sync + 'static,
    ) -> Result<Option<Idempotency<T>>, ApiError> {
        let once = OnceKey::of(self)?;
        Ok(once.map(|OnceKey { key, body_hash }| Idempotency {
            key,
            body_hash,
            render: Box::new(render),
        }))
    }
}

/// 200 with a JSON body.
pub(crate) fn ok(body: &Value) -> Answer {
    Ok(json_response(StatusCode::OK, body))
}

/// 202 with a JSON body.
pub(crate) fn accepted(body: &Value) -> Answer {
    Ok(json_response(StatusCode::ACCEPTED, body))
}

/// 201 with a JSON body and where the new thing is.
pub(crate) fn created(body: &Value, location: String) -> Answer {
    let mut builder = HttpResponse::Created();
    builder.insert_header((LOCATION, location));
    if let Some(version) = body.get("version").and_then(Value::as_i64) {
        builder.insert_header((ETAG, etag(version)));
    }
    Ok(builder.content_type("application/json").body(body.to_string()))
}

/// 204.
pub(crate) fn no_content() -> Answer {
    Ok(HttpResponse::NoContent().finish())
}

/// 200 with a body and the version it has.
pub(crate) fn versioned(body: &Value, version: i64) -> Answer {
    Ok(HttpResponse::Ok()
        .insert_header((ETAG, etag(version)))
        .content_type("application/json")
        .body(body.to_string()))
}

/// The first answer of an idempotency key, again. What was created has a path of its own.
pub(crate) fn replayed(answer: StoredAnswer) -> Answer {
    replayed_at(answer, views::schedule_path)
}

/// Likewise for something else than a schedule: `path` gives the path of what was created.
pub(crate) fn replayed_at(answer: StoredAnswer, path: impl Fn(i64) -> String) -> Answer {
    replayed_with(answer, |body| body.get("id").and_then(Value::as_i64).map(path))
}

/// Likewise for whatever a route creates: beneath the route's own path, by name or by number.
pub(crate) fn replayed_on(route: &Route, answer: StoredAnswer) -> Answer {
    if route.base != Base::V2 {
        return replayed(answer);
    }
    let base = format!("/api/v2{}", route.path);
    replayed_with(answer, |body| {
        let named = route.path == ALERT_CHANNELS;
        let id = body.get("id").and_then(Value::as_i64).map(|id| id.to_string());
        let name = body.get("name").and_then(Value::as_str).map(str::to_owned);
        Some(format!("{base}/{}", if named { name } else { id }?))
    })
}

/// Likewise for what has its path from something else than its number.
pub(crate) fn replayed_with(
    answer: StoredAnswer,
    location: impl FnOnce(&Value) -> Option<String>,
) -> Answer {
    let status = StatusCode::from_u16(answer.status).map_err(ApiError::internal)?;
    let mut builder = HttpResponse::build(status);
    builder.insert_header(("Idempotency-Replayed", "true")).content_type("application/json");
    if status == StatusCode::CREATED {
        let body: Value = serde_json::from_str(&answer.body).map_err(ApiError::internal)?;
        if let Some(location) = location(&body) {
            builder.insert_header((LOCATION, location));
        }
        if let Some(version) = body.get("version").and_then(Value::as_i64) {
            builder.insert_header((ETAG, etag(version)));
        }
    }
    Ok(builder.body(answer.body))
}

fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

fn json_response(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(body.to_string())
}

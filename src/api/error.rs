//! Every refusal, as `application/problem+json` (RFC 9457).
//!
//! One type for all handlers: a status, a stable code, a title and a sentence. The request's id is
//! added when the answer is made. What the store or the system says is mapped here and nowhere
//! else; SQL texts, stack traces and secrets never leave (they go to the log).

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde_json::{Value, json};

use crate::domain::fault::Fault;
use crate::runtime::handles::ControlError;
use crate::store::StoreError;

/// Seconds after which a client may try again when something is away for a moment.
const RETRY_SOON_SECONDS: u64 = 1;

/// A refusal on its way to the client.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<Fault>,
    headers: Vec<(HeaderName, String)>,
}

/// What every handler answers.
pub type Answer = Result<HttpResponse, ApiError>;

impl ApiError {
    /// A refusal with a stable `code` and a sentence for a person.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// 400: the request cannot be read.
    pub fn malformed(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: who asks is not known.
    pub fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
            .with_header(WWW_AUTHENTICATE, "Bearer realm=\"carillon\"")
    }

    /// 403: who asks may not.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 405: the path exists, the method does not.
    pub fn method_not_allowed(allow: &str) -> Self {
        let detail = format!("this path answers {allow}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            .with_header(ALLOW, allow)
    }

    /// 409: the state does not allow it.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422 with every fault.
    #[must_use]
    pub fn invalid(errors: Vec<Fault>) -> Self {
        let code = match errors.as_slice() {
            [first, rest @ ..] if rest.iter().all(|fault| fault.code == first.code) => first.code,
            _ => "",
        };
        // What is not built yet is its own answer, so that clients can tell it from a mistake.
        let code = if code == "not_supported_yet" { code } else { "validation_failed" };
        let detail = match errors.as_slice() {
            [] => "the request is not valid".to_owned(),
            [only] => format!("{}: {}", only.field, only.message),
            [first, ..] => {
                format!("{} fields are not valid; {}: {}", errors.len(), first.field, first.message)
            }
        };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail) }
    }

    /// 422 about one field.
    pub fn invalid_field(
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::invalid(vec![Fault::new(field, code, message)])
    }

    /// 429: too many failed attempts.
    #[must_use]
    pub fn too_many_attempts(retry_after_seconds: u64) -> Self {
        let detail = "too many failed attempts from this address; try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", detail)
            .with_header(RETRY_AFTER, retry_after_seconds.to_string())
    }

    /// 429: too many requests.
    #[must_use]
    pub fn too_many_requests(retry_after_seconds: u64) -> Self {
        let detail = "too many requests; try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
            .with_header(RETRY_AFTER, retry_after_seconds.to_string())
    }

    /// 503 that passes within a moment.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .with_header(RETRY_AFTER, RETRY_SOON_SECONDS.to_string())
    }

    /// 500; the cause goes to the log alone.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request failed inside the server");
        let detail = "something went wrong inside the server; its log has the request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong with the request's fields.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.errors
    }

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The answer, with the request's id in its body.
    #[must_use]
    pub fn into_response(self, request_id: &str) -> HttpResponse {
        let mut body = json!({
            "type": format!("urn:carillon:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "requestId": request_id,
        });
        if !self.errors.is_empty()
            && let Value::Object(object) = &mut body
        {
            object.insert("errors".to_owned(), json!(self.errors));
        }
        let mut builder = HttpResponseBuilder::new(self.status);
        for (name, value) in self.headers {
            builder.insert_header((name, value));
        }
        builder.insert_header((CONTENT_TYPE, "application/problem+json")).body(body.to_string())
    }
}

impl From<Vec<Fault>> for ApiError {
    fn from(faults: Vec<Fault>) -> Self {
        Self::invalid(faults)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what, id } => {
                Self::not_found(format!("there is no {what} {id}"))
            }
            StoreError::Duplicate { what, value } => {
                let message = format!("{what} `{value}` is taken");
                let fault = Fault::new(what, "duplicate", message.clone());
                Self { errors: vec![fault], ..Self::conflict("duplicate", message) }
            }
            StoreError::VersionConflict { expected, actual } => Self::conflict(
                "version_conflict",
                format!("version {expected} was expected, but {actual} is current; read it again"),
            ),
            StoreError::WrongState { code, detail } => Self::conflict(code, detail),
            StoreError::IdempotencyMismatch => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this Idempotency-Key was used with another body; use a new key",
            ),
            StoreError::Unavailable(cause) => {
                tracing::warn!(error = %cause, "the database is not available");
                Self::unavailable("database_unavailable", "the database is not available just now")
            }
            StoreError::Unwritable(cause) => {
                tracing::warn!(error = %cause, "a request could not be stored");
                let detail = format!(
                    "nothing can be stored just now ({cause}); make room where the data directory \
                     lies, no restart is needed; what is stored can be read"
                );
                Self::unavailable("storage_unwritable", detail)
            }
            StoreError::Internal(cause) => Self::internal(cause),
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotFound(path) => Self::not_found(format!("there is no actor `{path}`")),
            ControlError::WrongState(detail) => Self::conflict("wrong_state", detail),
            ControlError::Unavailable(detail) => Self::unavailable("tree_unavailable", detail),
        }
    }
}

//! A client of the HTTP API, for one command.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use awc::http::{Method, StatusCode, header};
use serde_json::Value;

use super::output::cell;
use super::{Connection, FAILED, MISUSED, UNREACHABLE};
use crate::telemetry::log::escape_line;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest live message that is read, in bytes.
const LIVE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a client command has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Misused(String),
    /// Nobody answered.
    #[error("no server reached at {url}: {reason}\nIs it running? Start it with: carillon serve")]
    Unreachable { url: String, reason: String },
    /// The server said no.
    #[error("{0}")]
    Refused(String),
}

impl ClientError {
    /// The exit status of the command.
    pub(super) const fn status(&self) -> u8 {
        match self {
            Self::Misused(_) => MISUSED,
            Self::Unreachable { .. } => UNREACHABLE,
            Self::Refused(_) => FAILED,
        }
    }
}

/// A connection to one server, as one key.
pub(super) struct Client {
    http: awc::Client,
    base: String,
    token: Option<String>,
    /// Whether answers are shown as JSON.
    pub(super) json: bool,
}

impl Client {
    /// A client for `connection`; nothing is sent yet.
    pub(super) fn new(connection: Connection) -> Result<Self, ClientError> {
        let base = connection.url.trim_end_matches('/').to_owned();
        let url = url::Url::parse(&base)
            .map_err(|error| ClientError::Misused(format!("--url {base}: {error}")))?;
        let builder = awc::Client::builder().timeout(TIMEOUT).disable_redirects();
        let http = match url.scheme() {
            "http" => builder.finish(),
            "https" => builder.connector(awc::Connector::new().rustls_0_23(tls())).finish(),
            other => {
                let message = format!("--url must start with http:// or https://, not {other}:");
                return Err(ClientError::Misused(message));
            }
        };
        let token = connection.token.or_else(|| read_token(&connection.data_dir));
        Ok(Self { http, base, token, json: connection.json })
    }

    /// A request for a live socket; connect it.
    pub(super) fn live(&self) -> awc::ws::WebsocketsRequest {
        let request = self.http.ws(format!("{}/ws", self.base)).max_frame_size(LIVE_BYTES_MAX);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Result<Value, ClientError> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> Result<Value, ClientError> {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::DELETE, path, None).await
    }

    /// Sends one request; an empty answer is `null`.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, ClientError> {
        let url = format!("{}{path}", self.base);
        let unreachable =
            |reason: String| ClientError::Unreachable { url: self.base.clone(), reason };
        let mut request = self.http.request(method, &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let sent = match body {
            Some(body) => request.send_json(&body).await,
            None => request.send().await,
        };
        let mut response = sent.map_err(|error| unreachable(error.to_string()))?;
        let bytes = response.body().limit(ANSWER_BYTES_MAX).await;
        let bytes = bytes.map_err(|error| unreachable(error.to_string()))?;
        let status = response.status();
        let answer = match bytes.is_empty() {
            true => Some(Value::Null),
            false => serde_json::from_slice(&bytes).ok(),
        };
        match answer {
            Some(answer) if status.is_success() => Ok(answer),
            Some(problem) => Err(ClientError::Refused(describe_problem(status, &problem))),
            None => {
                let kind = response.headers().get(header::CONTENT_TYPE);
                let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("nothing");
                Err(ClientError::Refused(format!(
                    "{status}: {} answered with {}, not with JSON; is --url right?",
                    self.base,
                    escape_line(kind)
                )))
            }
        }
    }
}

/// A refusal for people: what, each fault on a line, and the cure when it is plain.
pub(super) fn describe_problem(status: StatusCode, problem: &Value) -> String {
    let reason = ["detail", "title"].map(|name| cell(problem, name));
    let reason = reason.into_iter().find(|text| text != "-").unwrap_or_default();
    let mut text = format!("{status}: {reason}");
    for fault in problem.get("errors").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("\n  {}: {}", cell(fault, "field"), cell(fault, "message")));
    }
    let cure = match status {
        StatusCode::UNAUTHORIZED => {
            "\nGive a key with --token or CARILLON_TOKEN, or point --data-dir at the server's \
             data directory."
        }
        StatusCode::FORBIDDEN => "\nThis key's role does not allow it.",
        _ => "",
    };
    text.push_str(cure);
    let request_id = cell(problem, "requestId");
    if status.is_server_error() && request_id != "-" {
        text.push_str(&format!("\nRequest {request_id} in the server's log."));
    }
    text
}

/// The key that the server left for its first user.
fn read_token(data_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join("admin.token")).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The machine's certificate authorities, or the usual ones where it has none.
fn tls() -> Arc<rustls::ClientConfig> {
    // A second installation is refused and harmless.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A path with the query parameters that were given.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let pairs: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", segment(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

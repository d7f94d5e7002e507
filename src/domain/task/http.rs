//! The config of an HTTP task.
//!
//! What can be judged without the network is judged here: method, URL shape, header syntax. Whether
//! the address may be reached is the egress policy's affair, at run time.

use serde_json::{Map, Value};
use url::Url;

use super::{PATH, parse_timeout};
use crate::domain::fault::Fault;
use crate::domain::fields::{Fields, suggest};

/// The longest URL, in bytes.
const URL_LIMIT: usize = 8 * 1024;
/// The most headers that a config may set.
const HEADERS_LIMIT: usize = 100;
/// The longest header value, in bytes.
const HEADER_LIMIT: usize = 8 * 1024;
/// The largest request body, in bytes.
const BODY_LIMIT: usize = 1024 * 1024;

/// Headers that belong to the connection or to Carillon.
const RESERVED_HEADERS: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy-connection",
    "accept-encoding",
    "traceparent",
];

/// The methods of an HTTP task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the methods of RFC 9110")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl HttpMethod {
    const NAMES: [&'static str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

    /// The method's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Whether a request of this method may carry a body that nobody asked for.
    #[must_use]
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options]
            .into_iter()
            .find(|method| method.name().eq_ignore_ascii_case(name))
    }
}

/// One HTTP request.
///
/// Not `Debug` by derive: headers and body may hold secrets.
#[derive(Clone, PartialEq)]
pub struct HttpTask {
    /// The method.
    pub method: HttpMethod,
    /// `http` or `https`, with a host, without credentials.
    pub url: Url,
    /// Extra headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body: a string is sent as it is, any other JSON as `application/json`.
    pub body: Option<Value>,
    /// The longest run (connect, headers and body together), in milliseconds.
    pub timeout_ms: Option<u64>,
}

impl std::fmt::Debug for HttpTask {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HttpTask")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

impl HttpTask {
    pub(super) fn parse(object: &Map<String, Value>) -> Result<Self, Vec<Fault>> {
        let known = ["method", "url", "headers", "body", "timeoutMs", "timeout"];
        let mut fields = Fields::of(object, PATH, &known);
        let method = parse_method(&mut fields);
        let url = fields
            .needed_string("url", URL_LIMIT, "\"https://example.com/hook\"")
            .and_then(|text| parse_url(&mut fields, &text));
        let headers = parse_headers(&mut fields);
        let body = fields.value("body").cloned();
        if body.as_ref().is_some_and(|body| body_bytes(body).len() > BODY_LIMIT) {
            let message = format!("`body` may have at most {BODY_LIMIT} bytes");
            fields.fault("body", "out_of_range", message);
        }
        if body.is_some() && matches!(method, Some(HttpMethod::Head)) {
            fields.fault("body", "invalid_value", "a HEAD request has no body");
        }
        let timeout_ms = parse_timeout(&mut fields);
        let task =
            method.zip(url).map(|(method, url)| Self { method, url, headers, body, timeout_ms });
        fields.finish(task)
    }

    /// The body as it goes over the wire; empty without one.
    #[must_use]
    pub fn body_bytes(&self) -> Vec<u8> {
        self.body.as_ref().map(body_bytes).unwrap_or_default()
    }
}

fn body_bytes(body: &Value) -> Vec<u8> {
    match body {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

fn parse_method(fields: &mut Fields<'_>) -> Option<HttpMethod> {
    let name = fields.needed_string("method", 16, "\"GET\"")?;
    let method = HttpMethod::named(&name);
    if method.is_none() {
        let hint = suggest(&name.to_ascii_uppercase(), &HttpMethod::NAMES).map_or_else(
            || format!("use one of {}", HttpMethod::NAMES.join(", ")),
            |meant| format!("did you mean `{meant}`?"),
        );
        fields.fault("method", "invalid_value", format!("there is no method `{name}`; {hint}"));
    }
    method
}

fn parse_url(fields: &mut Fields<'_>, text: &str) -> Option<Url> {
    let fault = match Url::parse(text) {
        Err(error) => format!("not a URL: {error}; write it like \"https://example.com/hook\""),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("scheme `{}` is not http or https", url.scheme())
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "credentials do not belong in a URL; use an `authorization` header".to_owned()
        }
        Ok(mut url) => {
            url.set_fragment(None);
            return Some(url);
        }
    };
    fields.fault("url", "invalid_value", fault);
    None
}

fn parse_headers(fields: &mut Fields<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in fields.pairs("headers", HEADERS_LIMIT, HEADER_LIMIT) {
        let field = format!("headers.{name}");
        let lower = name.to_ascii_lowercase();
        if !is_token(&lower) {
            fields.fault(&field, "invalid_value", "this is not a header's name");
        } else if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with("x-carillon-") {
            fields.fault(&field, "reserved_name", format!("`{name}` is set by Carillon itself"));
        } else if !value.bytes().all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte)) {
            let message = "a header's value must be printable ASCII on one line";
            fields.fault(&field, "invalid_value", message);
        } else if headers.iter().any(|(other, _)| *other == lower) {
            fields.fault(&field, "invalid_value", "this header is given twice");
        } else {
            headers.push((lower, value));
        }
    }
    headers
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

//! The one HTTP client: every hop is judged by the egress policy before it is made.
//!
//! A name is resolved once; its addresses are judged; the connection goes to exactly the address
//! that was judged (`Host` and TLS name stay those of the URL). Redirects are followed here and
//! not by the library, so that each of them is judged too. Connections are not kept: one that was
//! opened for a name must not serve a later request whose address would be judged anew.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use awc::error::SendRequestError;
use awc::{Client, Connector};
use bytes::Bytes;
use futures_util::StreamExt;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use url::{Host, Origin, Url};

use super::identity;
use crate::domain::task::TaskError;
use crate::tasks::TaskContext;
use crate::tasks::egress::{EgressPolicy, OWN_OPEN_PATH, Refusal, is_own_listener};

/// The most redirects that are followed.
const REDIRECTS_LIMIT: usize = 5;
/// The most addresses of a name that are tried.
const ADDRESSES_LIMIT: usize = 4;
/// How long one address may take to connect, and again for TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// What must not follow a redirect to another origin.
const PRIVATE_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// A request to send.
#[derive(Clone)]
pub(in crate::tasks) struct Request {
    pub(in crate::tasks) method: &'static str,
    pub(in crate::tasks) url: Url,
    /// Names in lower case.
    pub(in crate::tasks) headers: Vec<(String, String)>,
    pub(in crate::tasks) body: Bytes,
}

/// What came back.
pub(in crate::tasks) struct Answer {
    pub(in crate::tasks) status: u16,
    /// Names in lower case, in the order of arrival.
    pub(in crate::tasks) headers: Vec<(String, String)>,
    pub(in crate::tasks) body: Vec<u8>,
    /// Whether the body was longer than what is kept.
    pub(in crate::tasks) truncated: bool,
}

impl Answer {
    pub(in crate::tasks) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// The HTTP client of tasks and functions; cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    shared: Arc<Shared>,
    /// Whether the egress policy is passed over: for addresses from the server's configuration.
    trusting: bool,
}

struct Shared {
    policy: EgressPolicy,
    own_listeners: Arc<ArcSwap<Vec<SocketAddr>>>,
    body_limit: usize,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Outbound {
    pub(in crate::tasks) fn new(
        policy: EgressPolicy,
        own_listeners: Arc<ArcSwap<Vec<SocketAddr>>>,
        body_limit: usize,
    ) -> Self {
        let shared = Shared { policy, own_listeners, body_limit, tls: OnceLock::new() };
        Self { shared: Arc::new(shared), trusting: false }
    }

    /// The same client for addresses that the operator configured.
    pub(in crate::tasks) fn trusting(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), trusting: true }
    }

    /// Posts `body` as JSON for a function, with the headers that name the attempt; answers the
    /// status.
    ///
    /// # Errors
    /// As an HTTP task fails, statuses of 400 and more included.
    pub async fn post_json(
        &self,
        url: &str,
        body: &Value,
        context: &TaskContext,
    ) -> Result<u16, TaskError> {
        let url = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| TaskError::new("invalid_config", "`url` is not an http(s) URL"))?;
        let mut headers = identity(context);
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        headers.push(("idempotency-key".to_owned(), context.chain_id.to_string()));
        let body = body.to_string().into();
        let answer = self.send(Request { method: "POST", url, headers, body }).await?;
        if answer.status >= 400 {
            Err(TaskError::http_status(answer.status))
        } else {
            Ok(answer.status)
        }
    }

    /// Sends `request` and follows its redirects. Has no deadline of its own.
    pub(in crate::tasks) async fn send(&self, mut request: Request) -> Result<Answer, TaskError> {
        for _ in 0..=REDIRECTS_LIMIT {
            let answer = self.send_once(&request).await?;
            let Some(next) = redirect(&request, &answer)? else { return Ok(answer) };
            request = next;
        }
        let message = format!("more than {REDIRECTS_LIMIT} redirects");
        Err(TaskError::new("http_redirect", message))
    }

    /// Sends `request` and follows no redirect. Has no deadline of its own.
    pub(in crate::tasks) async fn send_once(&self, request: &Request) -> Result<Answer, TaskError> {
        let addresses = self.judged_addresses(request).await?;
        let client = self.client(request.url.scheme() == "https").await?;
        let mut failure = None;
        for address in addresses {
            match exchange(&client, request, address, self.shared.body_limit).await {
                Err(SendRequestError::Connect(error)) => {
                    failure = Some(connection(&request.url, &error));
                }
                Err(SendRequestError::Url(_)) => {
                    return Err(TaskError::new("invalid_config", "the URL cannot be requested"));
                }
                Err(error) => return Err(connection(&request.url, &error)),
                Ok(answer) => return Ok(answer),
            }
        }
        Err(failure.unwrap_or_else(|| connection(&request.url, &"the name has no address")))
    }

    /// The addresses of a host that may be reached, for what is not HTTP.
    pub(in crate::tasks) async fn judged(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, TaskError> {
        let bare = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = Url::parse(&format!("http://{bare}:{port}/"))
            .map_err(|_| TaskError::new("invalid_config", "the host's name is not sound"))?;
        let request = Request { method: "CONNECT", url, headers: Vec::new(), body: Bytes::new() };
        self.judged_addresses(&request).await
    }

    /// Resolves the URL's host, once, and keeps the addresses that may be reached.
    async fn judged_addresses(&self, request: &Request) -> Result<Vec<SocketAddr>, TaskError> {
        let url = &request.url;
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(TaskError::new("invalid_config", "the URL has no host"));
        };
        let name = host.to_string();
        if !self.trusting {
            self.shared.policy.check_host(&name).map_err(|reason| refused(&name, reason))?;
        }
        let found: Vec<SocketAddr> = match host {
            Host::Ipv4(ip) => vec![(ip, port).into()],
            Host::Ipv6(ip) => vec![(ip, port).into()],
            Host::Domain(domain) => tokio::net::lookup_host((domain, port))
                .await
                .map_err(|error| connection(url, &error))?
                .collect(),
        };
        if self.trusting {
            return Ok(found);
        }
        let mut refusal = None;
        let mut allowed: Vec<SocketAddr> = Vec::new();
        for address in found {
            match self.judge(&name, address, request) {
                Ok(()) => allowed.push(address),
                Err(reason) => refusal = Some(reason),
            }
        }
        allowed.truncate(ADDRESSES_LIMIT);
        match refusal {
            Some(reason) if allowed.is_empty() => Err(refused(&name, reason)),
            _ => Ok(allowed),
        }
    }

    fn judge(&self, host: &str, address: SocketAddr, request: &Request) -> Result<(), Refusal> {
        let listeners = self.shared.own_listeners.load();
        let open = request.url.path() == OWN_OPEN_PATH && matches!(request.method, "GET" | "HEAD");
        if !open && is_own_listener(&listeners, address, is_local) {
            return Err(Refusal::OwnListener);
        }
        self.shared.policy.check_address(host, address.ip())
    }

    async fn client(&self, tls: bool) -> Result<Client, TaskError> {
        let connector = Connector::new().timeout(CONNECT_LIMIT).handshake_timeout(CONNECT_LIMIT);
        let connector = if tls { connector.rustls_0_23(self.tls().await?) } else { connector };
        Ok(Client::builder()
            .connector(connector)
            .disable_redirects()
            .disable_timeout()
            .no_default_headers()
            .finish())
    }

    /// The TLS settings, made at the first use and kept: reading the roots takes a while.
    async fn tls(&self) -> Result<Arc<ClientConfig>, TaskError> {
        if let Some(tls) = self.shared.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let made = tokio::task::spawn_blocking(tls_settings)
            .await
            .map_err(|error| error.to_string())
            .and_then(|made| made.map_err(|error| error.to_string()))
            .map_err(|error| TaskError::new("internal", format!("no TLS: {error}")))?;
        Ok(Arc::clone(self.shared.tls.get_or_init(|| Arc::new(made))))
    }
}

/// Trusts what the machine trusts, and what browsers trust on a machine that says nothing.
fn tls_settings() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(settings)
}

/// Whether `ip` is one of this host's: only then can a socket be bound to it.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

fn refused(host: &str, reason: Refusal) -> TaskError {
    TaskError::new("refused_by_policy", format!("`{host}` may not be reached: {reason}"))
}

fn connection(url: &Url, error: &dyn std::fmt::Display) -> TaskError {
    let host = url.host_str().unwrap_or_default();
    TaskError::new("connection", format!("no answer from `{host}`: {error}"))
}

/// One request to one address, and the bounded body of its answer.
async fn exchange(
    client: &Client,
    request: &Request,
    address: SocketAddr,
    body_limit: usize,
) -> Result<Answer, SendRequestError> {
    let method = awc::http::Method::from_bytes(request.method.as_bytes()).unwrap_or_default();
    let mut building = client.request(method, request.url.as_str()).address(address).force_close();
    for (name, value) in &request.headers {
        building = building.insert_header((name.as_str(), value.as_str()));
    }
    building = building
        .insert_header_if_none(("user-agent", concat!("carillon/", env!("CARGO_PKG_VERSION"))))
        .insert_header_if_none(("accept", "*/*"));
    let sending = if request.body.is_empty() {
        building.send()
    } else {
        building.send_body(request.body.clone())
    };
    let mut response = sending.await?;
    let status = response.status().as_u16();
    let headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let mut body = Vec::new();
    let mut truncated = false;
    while let Some(chunk) = response.next().await {
        let chunk = chunk.map_err(|error| {
            SendRequestError::Custom(Box::new(error), Box::new("the body broke off"))
        })?;
        let room = body_limit.saturating_sub(body.len()).min(chunk.len());
        body.extend_from_slice(chunk.get(..room).unwrap_or_default());
        if room < chunk.len() {
            truncated = true;
            break;
        }
    }
    let answer = Answer { status, headers, body, truncated };
    if status < 200 {
        // The library takes an interim answer (103 and its kin) for the final one.
        let error = std::io::Error::other(format!("an interim answer, status {status}"));
        return Err(SendRequestError::Send(error));
    }
    if is_short(request, &answer) {
        let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        return Err(SendRequestError::Send(error));
    }
    Ok(answer)
}

/// Whether the body broke off before the length that was announced, which the library does not
/// tell. (Nor does it tell of chunks that break off; that cannot be seen from here.)
fn is_short(request: &Request, answer: &Answer) -> bool {
    let without_body = request.method == "HEAD" || matches!(answer.status, 204 | 304);
    let announced = answer.header("content-length").and_then(|value| value.parse::<usize>().ok());
    !without_body && !answer.truncated && announced.is_some_and(|length| answer.body.len() < length)
}

/// The request that a redirect asks for; `None` when `answer` is not a redirect.
fn redirect(request: &Request, answer: &Answer) -> Result<Option<Request>, TaskError> {
    let fault = |message: String| TaskError::new("http_redirect", message);
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = answer.header("location") else {
        return Err(fault(format!("status {} without a location", answer.status)));
    };
    let mut url = request
        .url
        .join(location)
        .map_err(|error| fault(format!("the location of a redirect is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fault(format!("a redirect to scheme `{}`", url.scheme())));
    }
    // Neither can fail: http URLs may have credentials.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_fragment(None);
    let mut next = request.clone();
    let becomes_get = match answer.status {
        303 => request.method != "HEAD",
        301 | 302 => request.method == "POST",
        _ => false,
    };
    if becomes_get {
        next.method = "GET";
        next.body = Bytes::new();
        next.headers.retain(|(name, _)| !name.starts_with("content-"));
    }
    let other = url.origin() != request.url.origin() || matches!(url.origin(), Origin::Opaque(_));
    if other {
        next.headers.retain(|(name, _)| !PRIVATE_HEADERS.contains(&name.as_str()));
    }
    next.url = url;
    Ok(Some(next))
}

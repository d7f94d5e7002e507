//! Who may come in: keys, sessions, roles, `Host` and `Origin`.
//!
//! A request carries a bearer key or, from the dashboard, a session cookie. Either way the key's
//! row decides, read from the store at most `auth.key_cache_ms` ago, so a revoked or expired key
//! stops working everywhere within that time. Failed attempts are limited by address, and only the
//! failing ones: whoever has a good key is never kept out by somebody else's guesses.
//!
//! Deliberately not here: which role a route needs (`routes.rs`) and what a shell may run (the
//! handlers, which know the resulting task).

mod bootstrap;
mod cache;
mod limiter;
mod origin;
mod sessions;

use std::net::IpAddr;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, ORIGIN};

pub use bootstrap::{BootstrapError, ensure_admin_key};
pub(crate) use origin::{check_host, check_origin};
pub use sessions::SESSION_COOKIE;

use self::cache::KeyCache;
use self::limiter::FailureLimiter;
use self::sessions::Sessions;
use crate::api::error::ApiError;
use crate::clock::{Clock, Timestamp};
use crate::config::Settings;
use crate::domain::key::{ApiKey, RANDOM_BYTES, Role};
use crate::store::{ApiKeyRow, Store};
use crate::telemetry::names;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Row id of the key.
    pub key_id: i64,
    /// The key's public first part.
    pub prefix: String,
    /// The key's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

impl Principal {
    /// Refuses whoever's role does not reach `needed`.
    ///
    /// # Errors
    /// 403 `forbidden`.
    pub fn require(&self, needed: Role) -> Result<(), ApiError> {
        if self.role.allows(needed) {
            return Ok(());
        }
        let detail = format!("this needs the role {needed}; this key has {}", self.role);
        Err(ApiError::forbidden("forbidden", detail))
    }
}

/// Checks credentials and keeps sessions; one for all HTTP workers.
pub struct Authority {
    store: Store,
    clock: Clock,
    cache: KeyCache,
    sessions: Sessions,
    limiter: FailureLimiter,
    session_length: Duration,
    behind_proxy: bool,
}

/// A session that was just opened.
pub(crate) struct OpenedSession {
    /// The opaque id, which goes into the cookie.
    pub(crate) id: String,
    /// Who it is.
    pub(crate) principal: Principal,
    /// When it ends.
    pub(crate) expires_at: Timestamp,
    /// How long it lasts.
    pub(crate) length: Duration,
}

impl Authority {
    pub(crate) fn new(store: Store, clock: Clock, settings: &Settings) -> Self {
        let auth = &settings.auth;
        Self {
            store,
            clock,
            cache: KeyCache::new(auth.key_cache_ms.duration()),
            sessions: Sessions::default(),
            limiter: FailureLimiter::new(auth.failures_max, auth.failure_window_ms.duration()),
            session_length: auth.session_ms.duration(),
            behind_proxy: settings.server.behind_proxy,
        }
    }

    /// Who sent `request`.
    ///
    /// # Errors
    /// 401 without or with a bad credential, 429 after too many bad ones, 403 when a cookie comes
    /// without our `Origin` on a request that changes something, 503 without a database.
    pub async fn authenticate(&self, request: &HttpRequest) -> Result<Principal, ApiError> {
        if let Some(header) = request.headers().get(AUTHORIZATION) {
            let text = header.to_str().unwrap_or_default();
            let token = match text.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
                _ => return Err(self.fail(request, "malformed")),
            };
            return self.check_token(request, token).await;
        }
        let Some(cookie) = request.cookie(SESSION_COOKIE) else {
            let detail = "send an API key: Authorization: Bearer car_...";
            return Err(ApiError::unauthorized("unauthorized", detail));
        };
        let principal = self.check_session(cookie.value()).await?;
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        if !is_reading && request.headers().get(ORIGIN).is_none() {
            let detail = "a session may change things only from a page of this server";
            return Err(ApiError::forbidden("origin_required", detail));
        }
        Ok(principal)
    }

    /// Whose key `token` is; a bad one counts against the caller's address.
    pub(crate) async fn check_token(
        &self,
        request: &HttpRequest,
        token: &str,
    ) -> Result<Principal, ApiError> {
        let Ok(key) = ApiKey::parse(token) else { return Err(self.fail(request, "malformed")) };
        let row = self.find(key.prefix()).await?;
        match row.filter(|row| key.matches(&row.secret_hash)) {
            None => Err(self.fail(request, "unknown")),
            Some(row) => match self.admit(&row) {
                None => Err(self.fail(request, "expired")),
                Some(principal) => Ok(principal),
            },
        }
    }

    /// Opens a session for a good key.
    pub(crate) async fn open_session(
        &self,
        request: &HttpRequest,
        token: &str,
    ) -> Result<OpenedSession, ApiError> {
        let principal = self.check_token(request, token).await?;
        let now = self.clock.now();
        let expires_at = chrono::Duration::from_std(self.session_length)
            .ok()
            .and_then(|length| now.checked_add_signed(length))
            .unwrap_or(Timestamp::MAX_UTC);
        let id = random_text()?;
        self.sessions.open(&id, &principal, expires_at, now);
        Ok(OpenedSession { id, principal, expires_at, length: self.session_length })
    }

    /// Ends the session of a cookie, if there is one.
    pub(crate) fn close_session(&self, id: &str) {
        self.sessions.close(id);
    }

    /// Forgets a key that was revoked, and ends its sessions.
    pub(crate) fn forget(&self, key_id: i64) {
        self.cache.forget(key_id);
        self.sessions.close_all_of(key_id);
    }

    /// Whether the client's connection is encrypted for all we know.
    pub(crate) const fn is_secure(&self) -> bool {
        self.behind_proxy
    }

    async fn check_session(&self, id: &str) -> Result<Principal, ApiError> {
        let over = || ApiError::unauthorized("session_expired", "this session is over; log in");
        let prefix = self.sessions.find(id, self.clock.now()).ok_or_else(over)?;
        let row = self.find(&prefix).await?;
        row.and_then(|row| self.admit(&row)).ok_or_else(over)
    }

    async fn find(&self, prefix: &str) -> Result<Option<ApiKeyRow>, ApiError> {
        if let Some(row) = self.cache.get(prefix) {
            return Ok(Some(row));
        }
        let row = self.store.key_find(prefix.to_owned()).await?;
        if let Some(row) = &row {
            self.cache.put(row.clone());
        }
        Ok(row)
    }

    /// The principal of a key that is neither revoked nor past its time.
    fn admit(&self, row: &ApiKeyRow) -> Option<Principal> {
        let is_over = row.expires_at.is_some_and(|end| end <= self.clock.now());
        if row.revoked_at.is_some() || is_over {
            return None;
        }
        let role = Role::parse(&row.role)?;
        if self.cache.is_to_be_touched(row.id) {
            let store = self.store.clone();
            let id = row.id;
            // Nobody waits for a last-used time, and losing one harms nobody.
            actix_web::rt::spawn(async move { drop(store.key_touch(vec![id]).await) });
        }
        let (prefix, name) = (row.prefix.clone(), row.name.clone());
        Some(Principal { key_id: row.id, prefix, name, role })
    }

    fn fail(&self, request: &HttpRequest, reason: &'static str) -> ApiError {
        metrics::counter!(names::AUTH_FAILURES, "reason" => reason).increment(1);
        match self.limiter.record(self.address(request)) {
            None => {
                let detail = "this key is not valid; it may be revoked, past its time or mistyped";
                ApiError::unauthorized("invalid_key", detail)
            }
            Some(wait) => {
                metrics::counter!(names::RATE_LIMITED).increment(1);
                ApiError::too_many_attempts(wait.as_secs().max(1))
            }
        }
    }

    /// The client's address: behind a proxy what the proxy appended, else the peer's.
    fn address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr().map(|peer| peer.ip());
        if !self.behind_proxy {
            return peer;
        }
        let forwarded = request.headers().get_all("x-forwarded-for").last();
        let newest = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        newest.and_then(|text| text.trim().parse().ok()).or(peer)
    }
}

/// A new key from the operating system's random source.
///
/// # Errors
/// 500 when there is no randomness.
pub(crate) fn make_key() -> Result<ApiKey, ApiError> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(ApiError::internal)?;
    Ok(ApiKey::from_random(&bytes))
}

/// 256 random bits as text.
fn random_text() -> Result<String, ApiError> {
    use base64::Engine;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(ApiError::internal)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

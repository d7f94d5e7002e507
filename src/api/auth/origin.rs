//! `Host` and `Origin`: under which names this server answers, and to whose pages.
//!
//! A page anywhere can send requests to loopback, and a name it controls can be made to point
//! there (DNS rebinding). So `Host` must be `localhost`, a loopback address, the address we listen
//! on or a configured name, compared whole, never by suffix; and `Origin`, when a browser sends
//! one, must be this very server.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap, ORIGIN};

use crate::api::error::ApiError;

/// Refuses a request under a name that is not ours.
///
/// # Errors
/// 421 `misdirected_request`.
pub(crate) fn check_host(
    headers: &HeaderMap,
    hosts: &[String],
    listen: SocketAddr,
) -> Result<(), ApiError> {
    let mut values = headers.get_all(HOST);
    let first = values.next().and_then(|value| value.to_str().ok());
    let name = first.filter(|_| values.next().is_none()).and_then(name_of);
    if name.is_some_and(|name| is_ours(name, hosts, listen)) {
        return Ok(());
    }
    let detail = "this server does not answer under that name; see the setting server.hosts";
    Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", detail))
}

/// Refuses a request that a page of somebody else sent. `Host` was checked before.
///
/// # Errors
/// 403 `foreign_origin`.
pub(crate) fn check_origin(
    headers: &HeaderMap,
    hosts: &[String],
    listen: SocketAddr,
) -> Result<(), ApiError> {
    let mut values = headers.get_all(ORIGIN);
    let Some(origin) = values.next() else { return Ok(()) };
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_ours = values.next().is_none()
        && origin.to_str().is_ok_and(|origin| is_own_origin(origin, host, hosts, listen));
    if is_ours {
        return Ok(());
    }
    let detail = "requests from pages of other origins are refused";
    Err(ApiError::forbidden("foreign_origin", detail))
}

fn is_own_origin(origin: &str, host: &str, hosts: &[String], listen: SocketAddr) -> bool {
    let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let Some(authority) = rest else { return false };
    if authority.eq_ignore_ascii_case(host) {
        return true;
    }
    // A proxy may have put its own `Host`; the names it serves us under are configured.
    let Some(name) = name_of(authority) else { return false };
    let port = authority.get(name_length(authority)..).unwrap_or_default();
    let is_configured = hosts.iter().any(|own| own.eq_ignore_ascii_case(name));
    is_configured && (port.is_empty() || port == format!(":{}", listen.port()))
}

fn is_ours(name: &str, hosts: &[String], listen: SocketAddr) -> bool {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>()
        && (address.is_loopback() || (address == listen.ip() && !address.is_unspecified()))
    {
        return true;
    }
    name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(name) || own == bare)
}

/// Where the name ends in `name[:port]`.
fn name_length(authority: &str) -> usize {
    if authority.starts_with('[') {
        return authority.find(']').map_or(authority.len(), |end| end + 1);
    }
    authority.find(':').unwrap_or(authority.len())
}

/// The name in `name[:port]`, if the whole is well formed.
fn name_of(authority: &str) -> Option<&str> {
    let (name, port) = authority.split_at_checked(name_length(authority))?;
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn listen() -> SocketAddr {
        "192.0.2.7:7411".parse().unwrap()
    }

    fn hosts() -> Vec<String> {
        vec!["tasks.example.org".to_owned()]
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let cases = [
            ("localhost", true),
            ("LOCALHOST:7411", true),
            ("127.0.0.1:7411", true),
            ("127.8.8.8", true),
            ("[::1]:7411", true),
            ("192.0.2.7:1", true),
            ("tasks.example.org", true),
            ("Tasks.Example.Org:443", true),
            ("192.0.2.8", false),
            ("localhost.localdomain", false),
            ("localhost.", false),
            ("evil.localhost", false),
            ("a.tasks.example.org", false),
            ("127.0.0.1.evil.example", false),
            ("127.1", false),
            ("0.0.0.0", false),
            ("localhost:7411x", false),
            ("localhost:", false),
            ("evil@localhost", false),
            ("", false),
        ];
        for (host, expected) in cases {
            let checked = check_host(&headers(&[(HOST, host)]), &hosts(), listen());
            assert_eq!(checked.is_ok(), expected, "{host}");
        }
        assert!(check_host(&headers(&[]), &hosts(), listen()).is_err());
        let two = headers(&[(HOST, "localhost"), (HOST, "localhost")]);
        assert!(check_host(&two, &hosts(), listen()).is_err());
    }

    #[test]
    fn only_pages_of_this_server_are_answered() {
        let cases = [
            ("http://127.0.0.1:7411", true),
            ("https://tasks.example.org", true),
            ("http://tasks.example.org:7411", true),
            ("https://tasks.example.org:8443", false),
            ("http://127.0.0.1:3000", false),
            ("http://127.0.0.1", false),
            ("http://localhost:7411", false),
            ("https://evil.example", false),
            ("https://tasks.example.org.evil.example", false),
            ("null", false),
            ("ftp://127.0.0.1:7411", false),
        ];
        for (origin, expected) in cases {
            let sent = headers(&[(HOST, "127.0.0.1:7411"), (ORIGIN, origin)]);
            assert_eq!(check_origin(&sent, &hosts(), listen()).is_ok(), expected, "{origin}");
        }
        assert!(check_origin(&headers(&[(HOST, "localhost")]), &[], listen()).is_ok());
    }
}

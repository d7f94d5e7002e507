//! Which addresses the server may reach on behalf of a task.
//!
//! A task's URL is a request that somebody makes the server send, so it must not open what only
//! the server can reach: cloud metadata, link-local devices, our own API. Pure decisions; the
//! caller resolves a name once, asks about every address, connects to exactly an address that was
//! allowed, and asks again on every redirect.
//!
//! | address | `internal-ok` | `strict` | by the allow list |
//! | --- | --- | --- | --- |
//! | public | yes | yes | yes |
//! | loopback, private, shared, reserved for tests | yes | no | yes |
//! | link-local, metadata, unspecified, multicast, class E | no | no | yes |
//! | our own listener (but `/livez`) | no | no | no |
//!
//! IPv6 forms that carry an IPv4 address (mapped, compatible, 6to4, NAT64) are judged as both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The one path of our own listener that tasks may request.
pub const OWN_OPEN_PATH: &str = "/livez";

/// Names under which clouds serve machine credentials.
const METADATA_HOSTS: [&str; 4] =
    ["metadata", "metadata.google.internal", "metadata.goog", "instance-data"];

/// How far the server may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EgressMode {
    /// Loopback and private networks are allowed; that is why people run this at home.
    #[default]
    InternalOk,
    /// Only public addresses are allowed.
    Strict,
}

impl FromStr for EgressMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "internal-ok" => Ok(Self::InternalOk),
            "strict" => Ok(Self::Strict),
            other => Err(format!("`{other}` is not an egress mode; use internal-ok or strict")),
        }
    }
}

/// A network that is allowed whatever the mode: a host's exact name, an address, or a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowRule {
    /// An exact host name, in lower case; no suffix matches.
    Host(String),
    /// A range of addresses.
    Network {
        /// The first address of the range.
        address: IpAddr,
        /// How many leading bits count.
        prefix: u8,
    },
}

impl FromStr for AllowRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            let host = plain_host(text);
            let sound = !host.is_empty()
                && host.chars().all(|char| char.is_ascii_alphanumeric() || "-._".contains(char));
            return if sound {
                Ok(Self::Host(host))
            } else {
                Err(format!("`{text}` is neither a host name nor a network like 10.0.0.0/8"))
            };
        };
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => widest,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= widest)
                .ok_or_else(|| format!("`{text}`: the prefix must be 0 to {widest}"))?,
        };
        Ok(Self::Network { address, prefix })
    }
}

impl AllowRule {
    fn allows(&self, host: &str, ip: IpAddr) -> bool {
        match self {
            Self::Host(name) => name == host,
            Self::Network { address, prefix } => match (address, ip) {
                (IpAddr::V4(network), IpAddr::V4(ip)) => {
                    let shift = 32 - u32::from(*prefix);
                    let cut = |ip: Ipv4Addr| ip.to_bits().checked_shr(shift).unwrap_or(0);
                    cut(*network) == cut(ip)
                }
                (IpAddr::V6(network), IpAddr::V6(ip)) => {
                    let shift = 128 - u32::from(*prefix);
                    let cut = |ip: Ipv6Addr| ip.to_bits().checked_shr(shift).unwrap_or(0);
                    cut(*network) == cut(ip)
                }
                _ => false,
            },
        }
    }
}

/// Why an address may not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It serves credentials of the machine.
    Metadata,
    /// It is link-local.
    LinkLocal,
    /// It names no host: unspecified, multicast, broadcast or class E.
    NoHost,
    /// It is not public, and the mode is strict.
    NotPublic,
    /// It is this server.
    OwnListener,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Metadata => "it is a cloud metadata address",
            Self::LinkLocal => "it is link-local",
            Self::NoHost => "it is not the address of a host",
            Self::NotPublic => "it is not public and egress.mode is strict",
            Self::OwnListener => "it is this server's own listener",
        })
    }
}

/// The mode and what is allowed besides.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// How far the server may reach.
    pub mode: EgressMode,
    /// What is allowed whatever the mode.
    pub allow: Vec<AllowRule>,
}

impl EgressPolicy {
    /// Judges a host's name before it is resolved.
    ///
    /// # Errors
    /// The reason when the name alone is enough to refuse.
    pub fn check_host(&self, host: &str) -> Result<(), Refusal> {
        let host = plain_host(host);
        let named =
            self.allow.iter().any(|rule| matches!(rule, AllowRule::Host(name) if *name == host));
        if METADATA_HOSTS.contains(&host.as_str()) && !named {
            return Err(Refusal::Metadata);
        }
        Ok(())
    }

    /// Judges an address to which `host` was resolved.
    ///
    /// # Errors
    /// The reason when it may not be reached.
    pub fn check_address(&self, host: &str, ip: IpAddr) -> Result<(), Refusal> {
        let host = plain_host(host);
        let plain = ip.to_canonical();
        if self.allow.iter().any(|rule| rule.allows(&host, ip) || rule.allows(&host, plain)) {
            return Ok(());
        }
        match (classify(plain), self.mode) {
            (Class::Refused(refusal), _) => Err(refusal),
            (Class::Internal, EgressMode::Strict) => Err(Refusal::NotPublic),
            _ => Ok(()),
        }
    }
}

/// Whether `target` is one of our own `listeners`. `is_local` tells whether an address is one of
/// this host's; it is asked only about listeners on every address (`0.0.0.0`, `::`).
pub fn is_own_listener(
    listeners: &[SocketAddr],
    target: SocketAddr,
    is_local: impl Fn(IpAddr) -> bool,
) -> bool {
    let ip = target.ip().to_canonical();
    listeners.iter().filter(|listener| listener.port() == target.port()).any(|listener| {
        let own = listener.ip().to_canonical();
        own == ip
            || ip.is_unspecified()
            || (own.is_unspecified() && (ip.is_loopback() || is_local(ip)))
    })
}

/// A host's name as it is compared: lower case, without brackets and the trailing dot.
fn plain_host(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Public,
    Internal,
    Refused(Refusal),
}

fn classify(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => {
            let own = classify_v6(ip);
            match (own, embedded_v4(ip).map(classify_v4)) {
                (Class::Public, Some(inner)) => inner,
                (Class::Internal, Some(Class::Refused(refusal))) => Class::Refused(refusal),
                _ => own,
            }
        }
    }
}

fn classify_v4(ip: Ipv4Addr) -> Class {
    const METADATA: [[u8; 4]; 3] = [[100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];
    let octets = ip.octets();
    if ip == Ipv4Addr::new(169, 254, 169, 254) || METADATA.contains(&octets) {
        return Class::Refused(Refusal::Metadata);
    }
    if ip.is_link_local() {
        return Class::Refused(Refusal::LinkLocal);
    }
    match octets {
        [0 | 224.., ..] => Class::Refused(Refusal::NoHost),
        [10 | 127, ..]
        | [100, 64..=127, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Class::Internal,
        _ => Class::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> Class {
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const GCP_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    if ip == AWS_METADATA || ip == GCP_METADATA {
        return Class::Refused(Refusal::Metadata);
    }
    if ip.is_unspecified() || ip.is_multicast() {
        return Class::Refused(Refusal::NoHost);
    }
    if ip.is_unicast_link_local() {
        return Class::Refused(Refusal::LinkLocal);
    }
    match ip.segments() {
        // 6to4 and NAT64 are as public as the address they carry.
        [0x2002, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Class::Public,
        // Teredo, benchmarking and other protocol assignments; documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, ..=0x0fff, ..] => Class::Internal,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Internal,
    }
}

/// The IPv4 address that an IPv6 address carries, if its form carries one.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0x2002, high, low, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0, 0xffff, high, low] => Some(join(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;

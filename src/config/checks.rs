//! Which values make sense.
//!
//! Every number has a range here (a test sees to it), checked on the merged table before it
//! becomes [`Settings`]; rules between keys are checked afterwards. A range is wide: it refuses
//! what cannot work, `config/default.toml` says what is wise.

use std::net::IpAddr;

use toml::{Table, Value};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::settings::Settings;

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
const MEBIBYTE: i64 = 1_048_576;

/// The range of each number: dotted key, least, most.
pub const RANGES: &[(&str, i64, i64)] = &[
    ("server.workers", 1, 256),
    ("server.body_bytes_max", 1_024, 256 * MEBIBYTE),
    ("database.pool_max", 2, 1_000),
    ("database.acquire_ms", 10, 60 * SECOND),
    ("database.reconnect_max_ms", 100, 300 * SECOND),
    ("scheduler.tick_ms", 50, 60 * SECOND),
    ("scheduler.batch_max", 1, 10_000),
    ("scheduler.misfire_grace_ms", 100, DAY),
    ("executor.slots", 1, 10_000),
    ("executor.lease_ms", 1_000, 600 * SECOND),
    ("executor.drain_ms", 0, 24 * HOUR),
    ("executor.grace_ms", 0, 600 * SECOND),
    ("executor.claim_batch_max", 1, 10_000),
    ("executor.output_bytes_max", 1_024, 64 * MEBIBYTE),
    ("executor.log_line_bytes_max", 256, MEBIBYTE),
    ("executor.log_lines_max", 1, 10_000_000),
    ("executor.reserved_high", 0, 10_000),
    ("executor.memory_reserve_percent", 0, 90),
    ("executor.disk_reserve_percent", 0, 90),
    ("limits.memory_mb", 0, 1 << 24),
    ("limits.memory_mb_max", 0, 1 << 24),
    ("limits.cpu_ms", 0, 30 * DAY),
    ("limits.cpu_ms_max", 0, 30 * DAY),
    ("limits.processes", 0, 1_000_000),
    ("limits.processes_max", 0, 1_000_000),
    ("limits.open_files", 0, 1_000_000),
    ("limits.open_files_max", 0, 1_000_000),
    ("limits.output_bytes", 0, 1 << 50),
    ("limits.output_bytes_max", 0, 1 << 50),
    ("recovery.tick_ms", 50, 60 * SECOND),
    ("recovery.batch_max", 1, 10_000),
    ("recovery.max_crash_attempts", 1, 1_000),
    ("recovery.dead_letter_alert", 0, 1_000_000),
    ("recovery.dead_letter_alert_ms", 60_000, 86_400_000),
    ("recovery.dead_letter_days", 1, 36_500),
    ("events.keep_days", 1, 36_500),
    ("events.keep_min", 1_000, 1_000_000_000),
    ("events.tail_ms", 50, 60 * SECOND),
    ("events.batch_max", 1, 10_000),
    ("retention.completed_days", 1, 36_500),
    ("retention.failed_days", 1, 36_500),
    ("retention.audit_days", 1, 36_500),
    ("retention.logs_days", 1, 36_500),
    ("retention.sweep_ms", 1_000, DAY),
    ("retention.batch_max", 1, 100_000),
    ("websocket.heartbeat_ms", 100, HOUR),
    ("websocket.ping_ms", 100, HOUR),
    ("websocket.idle_ms", 200, DAY),
    ("websocket.window_messages", 1, 1_000_000),
    ("websocket.window_bytes", 1_024, 256 * MEBIBYTE),
    ("websocket.message_bytes_max", 128, 16 * MEBIBYTE),
    ("websocket.grace_ms", 0, 60 * SECOND),
    ("websocket.sessions_max", 1, 1_000_000),
    ("auth.session_ms", 60 * SECOND, 90 * DAY),
    ("auth.key_cache_ms", 0, 5 * SECOND),
    ("auth.failures_max", 1, 1_000_000),
    ("auth.failure_window_ms", 1_000, DAY),
    ("conductor.health_ms", 100, HOUR),
    ("conductor.request_ms", 100, HOUR),
];

/// A key and what is wrong with its value.
pub(super) type Complaint = (&'static str, String);

/// The first number outside its range.
pub(super) fn find_out_of_range(table: &Table) -> Option<Complaint> {
    RANGES.iter().find_map(|&(key, least, most)| {
        let (section, name) = key.split_once('.')?;
        let value = table.get(section)?.get(name).and_then(Value::as_integer)?;
        let outside = !(least..=most).contains(&value);
        outside.then(|| (key, format!("{value} is out of range; use {least} to {most}")))
    })
}

/// The first rule between keys that the settings break.
pub(super) fn find_broken_rule(settings: &Settings) -> Option<Complaint> {
    server(settings)
        .or_else(|| database(settings))
        .or_else(|| partners(settings))
        .or_else(|| sessions(settings))
        .or_else(|| faults(settings))
        .or_else(|| Some(("log.level", parse_log_level(&settings.log.level).err()?)))
}

/// Reads what `log.level` may hold. A bare word that is no level is refused: it would be taken
/// for a module's name and silence everything else.
///
/// # Errors
/// What is wrong and what would be right, for a person.
pub fn parse_log_level(text: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| word.trim().parse::<LevelFilter>().is_ok();
    let bare = text.split(',').find(|word| !word.contains(['=', '[']) && !is_level(word));
    let reason = match (bare, EnvFilter::try_new(text)) {
        (Some(word), _) => format!("'{word}' is not a level"),
        (None, Err(error)) => error.to_string(),
        (None, Ok(filter)) => return Ok(filter),
    };
    let cure = "use error, warn, info, debug, trace, or directives such as \
                info,carillon::store=debug";
    Err(format!("{reason}; {cure}"))
}

fn server(settings: &Settings) -> Option<Complaint> {
    let server = &settings.server;
    if server.data_dir.as_os_str().is_empty() {
        return Some(("server.data_dir", "must name a directory, such as ./data".to_owned()));
    }
    if let Some(host) = server.hosts.iter().find(|host| !is_host_name(host)) {
        let message = format!(
            "'{host}' is not a plain host name; write it without scheme, port, path or wildcard"
        );
        return Some(("server.hosts", message));
    }
    if !server.listen.ip().is_loopback() && !server.behind_proxy {
        let message = format!(
            "{} is reachable from other machines without TLS; put a TLS proxy in front and set \
             server.behind_proxy = true, or listen on 127.0.0.1",
            server.listen
        );
        return Some(("server.listen", message));
    }
    None
}

fn is_host_name(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !part.is_empty() && part.bytes().all(is_plain)
    };
    text.parse::<IpAddr>().is_ok() || text.split('.').all(is_part)
}

fn database(settings: &Settings) -> Option<Complaint> {
    let text = settings.database_url()?;
    // Not parsed as a URL: PostgreSQL's own form may leave the host out (`@/name?host=/run`).
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let is_postgres = matches!(scheme, "postgres" | "postgresql") && !rest.is_empty();
    // The value may hold a password, so it is not repeated.
    let message = "is not a PostgreSQL URL; write postgres://user:password@host:5432/name, \
                   or leave it empty for SQLite";
    (!is_postgres).then(|| ("database.url", message.to_owned()))
}

fn partners(settings: &Settings) -> Option<Complaint> {
    let conductor = &settings.conductor;
    let is_http =
        |text: &str| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !conductor.url.is_empty() && !is_http(&conductor.url) {
        let message = format!("'{}' is not an http or https address", conductor.url);
        return Some(("conductor.url", message));
    }
    if !conductor.command.is_empty() && conductor.url.is_empty() {
        let message = "is needed to reach the program that conductor.command starts".to_owned();
        return Some(("conductor.url", message));
    }
    let is_known = |entry: &String| is_host_name(entry) || is_network(entry);
    let entry = settings.egress.allow.iter().find(|entry| !is_known(entry))?;
    let message =
        format!("'{entry}' is neither a host name nor an address nor a network such as 10.0.0.0/8");
    Some(("egress.allow", message))
}

fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    match (address.parse(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
        _ => false,
    }
}

fn faults(settings: &Settings) -> Option<Complaint> {
    let admin = &settings.admin;
    let message = "works with admin.fault_injection = true alone; leave it empty".to_owned();
    (!admin.kill_at.is_empty() && !admin.fault_injection).then_some(("admin.kill_at", message))
}

fn sessions(settings: &Settings) -> Option<Complaint> {
    let socket = &settings.websocket;
    (socket.idle_ms <= socket.ping_ms).then(|| {
        let message = format!(
            "{} is not longer than websocket.ping_ms ({}), so every quiet session would be closed",
            socket.idle_ms.0, socket.ping_ms.0
        );
        ("websocket.idle_ms", message)
    })
}

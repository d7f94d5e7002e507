//! Values as people write them on a command line.

use chrono::{DateTime, SecondsFormat, Utc};

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a span such as `250ms`, `30s`, `1h30m` or `7d`, in milliseconds.
pub(super) fn parse_span(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a span; write 250ms, 30s, 5m, 1h30m or 7d");
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.checked_mul(*factor).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if total == 0 { Err(wrong()) } else { Ok(total) }
}

/// Reads an instant in RFC 3339 and gives it in the API's form.
pub(super) fn parse_instant(text: &str) -> Result<String, String> {
    let instant = DateTime::parse_from_rfc3339(text)
        .map_err(|_| format!("'{text}' is not an instant; write 2026-11-21T02:00:00Z"))?;
    Ok(format_instant(instant.with_timezone(&Utc)))
}

/// An instant in the API's form: UTC with milliseconds.
pub(super) fn format_instant(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Reads JSON.
pub(super) fn parse_json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

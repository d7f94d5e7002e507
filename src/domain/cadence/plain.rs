//! The plain form of a cron schedule: `{every, at?, on?}`, translated to an expression.
//!
//! | `every` | `at` (default) | `on` (default) |
//! | --- | --- | --- |
//! | `hour` | `":MM"` (`":00"`) | not allowed |
//! | `day` | `"HH:MM"` (`"00:00"`) | not allowed |
//! | `week` | `"HH:MM"` (`"00:00"`) | weekdays: `"monday"`, `"mon"`, 0 to 7 (`"monday"`) |
//! | `month` | `"HH:MM"` (`"00:00"`) | days: 1 to 31, `"last"` (1) |
//!
//! `on` is one day or a list of days. `"HH:MM:SS"` (and `":MM:SS"`) gives six fields. A month
//! that lacks the day is left out.

use serde_json::Value;

use super::config::Reader;

const WEEK_DAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// Reads `every`, `at` and `on` into a cron expression; faults go to the reader.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<String> {
    let every = reader.required_text("every", "hour, day, week or month")?;
    let time = read_time(reader, every == "hour");
    let days = match every {
        "hour" | "day" => {
            if reader.get("on").is_some() {
                reader.fault("on", "invalid_value", "`on` goes with every week or month");
            }
            Some("* * *".to_owned())
        }
        "week" => read_days(reader, "monday", week_day).map(|days| format!("* * {days}")),
        "month" => read_days(reader, "1", month_day).map(|days| format!("{days} * *")),
        other => {
            let message = format!("\"{other}\" is not a period; use hour, day, week or month");
            reader.fault("every", "invalid_value", message);
            None
        }
    };
    Some(format!("{} {}", time?, days?))
}

/// The second (if any), minute and hour fields.
fn read_time(reader: &mut Reader<'_>, hourly: bool) -> Option<String> {
    let what = if hourly { "a minute such as \":15\"" } else { "a time such as \"02:00\"" };
    let text = match reader.get("at") {
        None if hourly => ":00",
        None => "00:00",
        Some(_) => reader.required_text("at", what)?,
    };
    let fields = parse_time(text, hourly);
    if fields.is_none() {
        reader.fault("at", "invalid_value", format!("\"{text}\" is not {what}"));
    }
    fields
}

fn parse_time(text: &str, hourly: bool) -> Option<String> {
    let mut parts = text.split(':');
    let hour = match (hourly, parts.next()?) {
        (true, "") => "*".to_owned(),
        (true, _) => return None,
        (false, hour) => two_digits(hour, 23)?.to_string(),
    };
    let minute = two_digits(parts.next()?, 59)?;
    let second = match parts.next() {
        None => String::new(),
        Some(second) => format!("{} ", two_digits(second, 59)?),
    };
    parts.next().is_none().then(|| format!("{second}{minute} {hour}"))
}

fn two_digits(text: &str, max: u32) -> Option<u32> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|value| digits && *value <= max)
}

/// `on`, one day or a list of them, each translated by `day`.
fn read_days(
    reader: &mut Reader<'_>,
    default: &str,
    day: fn(&Value) -> Result<String, String>,
) -> Option<String> {
    let default = Value::from(default);
    let given = reader.get("on").unwrap_or(&default);
    let list = match given {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if list.is_empty() || list.len() > 31 {
        reader.fault("on", "out_of_range", "`on` lists 1 to 31 days");
        return None;
    }
    match list.iter().map(day).collect::<Result<Vec<String>, String>>() {
        Ok(days) => Some(days.join(",")),
        Err(message) => {
            reader.fault("on", "invalid_value", message);
            None
        }
    }
}

fn week_day(value: &Value) -> Result<String, String> {
    let number = match value {
        Value::Number(number) => number.as_u64().filter(|number| *number <= 7),
        Value::String(name) => {
            let name = name.to_lowercase();
            let matches = |day: &str| day == name || (name.len() == 3 && day.starts_with(&name));
            WEEK_DAYS.iter().position(|day| matches(day)).and_then(|day| u64::try_from(day).ok())
        }
        _ => None,
    };
    match number {
        Some(number) => Ok((number % 7).to_string()),
        None => Err(format!("{value} is not a weekday; use \"monday\" to \"sunday\" or 0 to 7")),
    }
}

fn month_day(value: &Value) -> Result<String, String> {
    if value == "last" {
        return Ok("L".to_owned());
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match two_digits(&text, 31) {
        Some(day) if day >= 1 => Ok(day.to_string()),
        _ => Err(format!("{value} is not a day of the month; use 1 to 31 or \"last\"")),
    }
}

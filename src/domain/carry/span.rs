//! Spans of time and calendar expressions, as systemd writes them.

const UNITS: &[(&[&str], u64)] = &[
    (&["ms", "msec"], 1),
    (&["", "s", "sec", "second", "seconds"], 1_000),
    (&["m", "min", "minute", "minutes"], 60_000),
    (&["h", "hr", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "week", "weeks"], 604_800_000),
];

const WORDS: &[(&str, &str)] = &[
    ("minutely", "0 * * * * *"),
    ("hourly", "0 0 * * * *"),
    ("daily", "0 0 0 * * *"),
    ("monthly", "0 0 0 1 * *"),
    ("weekly", "0 0 0 * * 1"),
    ("yearly", "0 0 0 1 1 *"),
    ("annually", "0 0 0 1 1 *"),
    ("quarterly", "0 0 0 1 1,4,7,10 *"),
    ("semiannually", "0 0 0 1 1,7 *"),
];

/// A span such as `5min 30s`, in milliseconds; months and years have no length of their own.
pub(super) fn parse_span(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().ok()?;
        let (_, factor) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = tail.trim_start();
    }
    Some(total)
}

/// A calendar expression as a cron expression of six fields, and its zone if it names one.
///
/// # Errors
/// Why cron cannot say it.
pub(super) fn parse_calendar(text: &str) -> Result<(String, Option<String>), String> {
    let mut parts: Vec<&str> = text.split_whitespace().collect();
    let is_zone = |part: &&&str| part.parse::<chrono_tz::Tz>().is_ok();
    let zone = parts.last().filter(is_zone).map(|zone| (*zone).to_owned());
    if zone.is_some() {
        parts.pop();
    }
    if let [word] = parts.as_slice()
        && let Some((_, cron)) = WORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name))
    {
        return Ok(((*cron).to_owned(), zone));
    }
    let mut days = "*".to_owned();
    if let Some(first) = parts.first().filter(|part| part.starts_with(char::is_alphabetic)) {
        days = week_days(first)?;
        parts.remove(0);
    }
    let (date, time) = match parts.as_slice() {
        [] => ("*-*-*", "00:00:00"),
        [time] if time.contains(':') => ("*-*-*", *time),
        [date] => (*date, "00:00:00"),
        [date, time] => (*date, *time),
        _ => return Err(format!("`{text}` has more than a weekday, a date and a time")),
    };
    let (month, day) = date_fields(date)?;
    if days != "*" && day != "*" {
        return Err(
            "it asks for a weekday and a day of the month at once, and cron takes either; \
                    give the schedule a calendar that includes the one of them"
                .to_owned(),
        );
    }
    let (second, minute, hour) = time_fields(time)?;
    Ok((format!("{second} {minute} {hour} {day} {month} {days}"), zone))
}

/// `Mon..Fri,Sun` as cron writes it.
fn week_days(text: &str) -> Result<String, String> {
    let mut fields = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let names: Vec<&str> = part.split("..").collect();
        let short: Option<Vec<String>> = names
            .iter()
            .map(|name| name.get(..3).filter(|name| name.is_ascii()).map(str::to_ascii_uppercase))
            .collect();
        let is_day = |name: &String| {
            ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"].contains(&name.as_str())
        };
        match short {
            Some(days) if days.len() <= 2 && days.iter().all(is_day) => {
                // Sunday ends a week there; as 7 it ends one here too.
                fields.push(days.join("-").replace("-SUN", "-7"));
            }
            _ => return Err(format!("`{part}` is no weekday")),
        }
    }
    Ok(fields.join(","))
}

fn date_fields(date: &str) -> Result<(String, String), String> {
    if date.contains('~') {
        return Err("it counts days from the end of the month; write `L` for the last one".into());
    }
    let fields: Vec<&str> = date.split('-').collect();
    let (month, day) = match fields.as_slice() {
        ["*", month, day] | [month, day] => (month, day),
        [_, _, _] => return Err("it names years, and cron knows none; give `endAt`".to_owned()),
        _ => return Err(format!("`{date}` is no date")),
    };
    Ok((field(month, 12)?, field(day, 31)?))
}

fn time_fields(time: &str) -> Result<(String, String, String), String> {
    let fields: Vec<&str> = time.split(':').collect();
    let (hour, minute, second) = match fields.as_slice() {
        [hour, minute] => (hour, minute, &"0"),
        [hour, minute, second] => (hour, minute, second),
        _ => return Err(format!("`{time}` is no time of day")),
    };
    if second.contains('.') {
        return Err("it names parts of a second".to_owned());
    }
    Ok((field(second, 59)?, field(minute, 59)?, field(hour, 23)?))
}

/// A component: `*`, numbers, ranges and steps between commas.
fn field(text: &str, most: u32) -> Result<String, String> {
    let mut terms = Vec::new();
    for part in text.split(',') {
        let (base, step) = match part.split_once('/') {
            Some((base, step)) => (base, Some(number(step)?)),
            None => (part, None),
        };
        let term = match (base.split_once(".."), step) {
            (None, None) if base == "*" => "*".to_owned(),
            (None, Some(step)) if base == "*" => format!("*/{step}"),
            (None, None) => number(base)?.to_string(),
            (None, Some(step)) => format!("{}-{most}/{step}", number(base)?),
            (Some((from, to)), None) => format!("{}-{}", number(from)?, number(to)?),
            (Some((from, to)), Some(step)) => {
                format!("{}-{}/{step}", number(from)?, number(to)?)
            }
        };
        terms.push(term);
    }
    Ok(terms.join(","))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars_are_those_of_systemds_manual() {
        for (text, cron, zone) in [
            ("daily", "0 0 0 * * *", None),
            ("Mon..Fri 22:30", "0 30 22 * * MON-FRI", None),
            ("Mon,Sun 12-*-* 2,1:23", "", None),
            ("Sat,Thu,Mon..Wed", "0 0 0 * * SAT,THU,MON-WED", None),
            ("Wed..Sun *-*-* 8:05:40", "40 5 8 * * WED-7", None),
            ("*-*-1,15 04:00 Europe/Berlin", "0 0 4 1,15 * *", Some("Europe/Berlin")),
            ("*:0/15", "0 0-59/15 * * * *", None),
            ("08..18:30 UTC", "0 30 8-18 * * *", Some("UTC")),
            ("10-15", "0 0 0 15 10 *", None),
            ("quarterly", "0 0 0 1 1,4,7,10 *", None),
        ] {
            match parse_calendar(text) {
                Ok(found) => {
                    assert_eq!(found, (cron.to_owned(), zone.map(str::to_owned)), "{text}");
                }
                Err(reason) => assert_eq!(cron, "", "{text}: {reason}"),
            }
        }
        for text in ["Mon *-*-13", "2026-01-01", "*-*~1", "*:*:0.5", "Foo", "1 2 3"] {
            assert!(parse_calendar(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_add_up() {
        for (text, span) in [
            ("90", Some(90_000)),
            ("5min 30s", Some(330_000)),
            ("1h30min", Some(5_400_000)),
            ("2 days", Some(172_800_000)),
            ("1month", None),
            ("", None),
        ] {
            assert_eq!(parse_span(text), span, "{text}");
        }
    }
}

//! A cadence in plain English.
//!
//! Made from the expression's fields as they were written, so that it says what the user meant;
//! what has no short phrase is said field by field rather than wrongly.

use chrono::SecondsFormat;

use super::Cadence;
use super::expression::Expression;
use super::term::{FieldKind, Term, parse_terms};

const WEEK_DAYS: [&str; 8] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 13] = [
    "",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const ORDINALS: [&str; 6] = ["", "first", "second", "third", "fourth", "fifth"];
/// More times of day than this are not listed one by one.
const TIMES_LISTED: usize = 6;

pub(super) fn describe(cadence: &Cadence) -> String {
    match cadence {
        Cadence::Cron(cron) => {
            let words = describe_cron(&cron.expression);
            // What an `H` stands for is in the words; that it was picked is not.
            let picked = if super::expression::needs_key(&cron.expression.text) {
                format!(", {} picked by its key", cron.expression.text)
            } else {
                String::new()
            };
            format!("{words} ({}){picked}", cron.zone.0.name())
        }
        Cadence::Interval(interval) => format!("Every {}", duration(interval.interval_ms())),
        Cadence::Event(rule) => rule.describe(),
        Cadence::OneTime(one) => {
            format!("Once at {}", one.run_at.to_rfc3339_opts(SecondsFormat::Millis, true))
        }
        Cadence::Ruled(ruled) => ruled.describe(),
    }
}

/// Milliseconds as `1 day 2 hours`, `250 ms`; singular without its number when it is all.
fn duration(ms: u64) -> String {
    let units = [("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000)];
    let mut rest = ms;
    let mut words = Vec::new();
    for (unit, length) in units {
        let count = rest / length;
        rest %= length;
        match count {
            0 => {}
            1 if rest == 0 && words.is_empty() => return unit.to_owned(),
            _ => words.push(plural(count, unit)),
        }
    }
    if rest > 0 {
        words.push(format!("{rest} ms"));
    }
    words.join(" ")
}

fn plural(count: u64, unit: &str) -> String {
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

fn describe_cron(expression: &Expression) -> String {
    let [_, _, _, month_day, month, week_day] = &expression.parts;
    let days = day_phrase(month_day, week_day);
    let months = month_phrase(month);
    match clock_times(expression) {
        Some(times) => {
            let head = days.unwrap_or_else(|| "every day".to_owned());
            capitalised(&format!("{head}{months} at {times}"))
        }
        None => {
            let days = days.map(|days| format!(", {days}")).unwrap_or_default();
            let months =
                if days.is_empty() && !months.is_empty() { format!(",{months}") } else { months };
            capitalised(&format!("{}{days}{months}", rhythm_phrase(expression)))
        }
    }
}

/// `02:00 and 14:00` when second, minute and hour are few single values.
fn clock_times(expression: &Expression) -> Option<String> {
    let [second, minute, hour, ..] = &expression.parts;
    let seconds = singles(FieldKind::Second, second)?;
    let minutes = singles(FieldKind::Minute, minute)?;
    let hours = singles(FieldKind::Hour, hour)?;
    if seconds.len() * minutes.len() * hours.len() > TIMES_LISTED {
        return None;
    }
    let mut times = Vec::new();
    for hour in &hours {
        for minute in &minutes {
            for second in &seconds {
                let tail = if seconds == [0] { String::new() } else { format!(":{second:02}") };
                times.push(format!("{hour:02}:{minute:02}{tail}"));
            }
        }
    }
    Some(and(&times))
}

/// The values of a field that lists single values, in order.
fn singles(kind: FieldKind, text: &str) -> Option<Vec<u32>> {
    let mut values = Vec::new();
    for term in parse_terms(kind, text).ok()? {
        match term {
            Term::Plain(span) if span.first == span.last => values.push(span.first),
            _ => return None,
        }
    }
    values.sort_unstable();
    values.dedup();
    Some(values)
}

fn rhythm_phrase(expression: &Expression) -> String {
    let [second, minute, hour, ..] = &expression.parts;
    let hours = match hour.as_str() {
        "*" => String::new(),
        _ => format!(", {}", unit_phrase(FieldKind::Hour, hour)),
    };
    let seconds = match second.as_str() {
        "0" => String::new(),
        _ => unit_phrase(FieldKind::Second, second),
    };
    let minutes = match (minute.as_str(), seconds.is_empty()) {
        ("*", true) => "every minute".to_owned(),
        ("*", false) => String::new(),
        ("0", true) if hour == "*" => return "every hour".to_owned(),
        ("0", true) if hour.starts_with("*/") => return unit_phrase(FieldKind::Hour, hour),
        _ => match singles(FieldKind::Minute, minute) {
            Some(list) if hour == "*" && seconds.is_empty() => {
                let list: Vec<String> = list.iter().map(|minute| format!(":{minute:02}")).collect();
                return format!("every hour at {}", and(&list));
            }
            _ => unit_phrase(FieldKind::Minute, minute),
        },
    };
    let join = if seconds.is_empty() || minutes.is_empty() { "" } else { ", " };
    format!("{seconds}{join}{minutes}{hours}")
}

/// A second, minute or hour field in words: `every 5 minutes`, `in hours 9 to 17`.
fn unit_phrase(kind: FieldKind, text: &str) -> String {
    let unit = kind.name();
    let last = if kind == FieldKind::Hour { 23 } else { 59 };
    let Ok(terms) = parse_terms(kind, text) else { return format!("{unit} {text}") };
    if let [Term::Plain(span)] = terms.as_slice()
        && (span.first, span.last) == (0, last)
    {
        return match span.step {
            1 => format!("every {unit}"),
            step if (last + 1) % step == 0 => format!("every {step} {unit}s"),
            step => format!("every {step}th {unit} from 0"),
        };
    }
    let list: Vec<String> = terms.iter().map(|term| term_phrase(term, u32::to_string)).collect();
    let several =
        terms.len() > 1 || matches!(terms.first(), Some(Term::Plain(s)) if s.first != s.last);
    format!(
        "{} {unit}{} {}",
        if kind == FieldKind::Hour { "in" } else { "at" },
        if several { "s" } else { "" },
        and(&list)
    )
}

fn term_phrase(term: &Term, name: impl Fn(&u32) -> String) -> String {
    match term {
        Term::Plain(span) if span.first == span.last => name(&span.first),
        Term::Plain(span) => {
            let range = format!("{} to {}", name(&span.first), name(&span.last));
            if span.step == 1 { range } else { format!("{range} in steps of {}", span.step) }
        }
        Term::LastDay => "the last day".to_owned(),
        Term::LastWeekday => "the last weekday".to_owned(),
        Term::NearestWeekday(day) => format!("the weekday nearest to day {day}"),
        Term::LastOf(day) => format!("the last {}", name(day)),
        Term::NthOf(day, nth) => format!("the {} {}", word(&ORDINALS, *nth), name(day)),
    }
}

/// `None` when every day matches.
fn day_phrase(month_day: &str, week_day: &str) -> Option<String> {
    match (month_day, week_day) {
        ("*", "*") => None,
        (_, "*") => Some(month_day_phrase(month_day)),
        ("*", _) => Some(week_day_phrase(week_day)),
        _ => {
            let both = month_day.starts_with('*') || week_day.starts_with('*');
            let join = if both { "if it is" } else { "and" };
            Some(format!("{} {join} {}", month_day_phrase(month_day), week_day_phrase(week_day)))
        }
    }
}

fn month_day_phrase(text: &str) -> String {
    let Ok(terms) = parse_terms(FieldKind::MonthDay, text) else { return text.to_owned() };
    if let Some(step) = text.strip_prefix("*/") {
        return format!("every {step} days from the first of the month");
    }
    let day = |day: &u32| day.to_string();
    let plain = terms.iter().all(Term::is_plain);
    let list: Vec<String> = terms
        .iter()
        .map(|term| match term {
            Term::Plain(_) if !plain => format!("day {}", term_phrase(term, day)),
            _ => term_phrase(term, day),
        })
        .collect();
    let several = terms.len() > 1 || text.contains('-') || text.contains('/');
    match (plain, several) {
        (true, true) => format!("on days {} of the month", and(&list)),
        (true, false) => format!("on day {} of the month", and(&list)),
        _ => format!("on {} of the month", and(&list)),
    }
}

fn week_day_phrase(text: &str) -> String {
    let Ok(terms) = parse_terms(FieldKind::WeekDay, text) else { return text.to_owned() };
    let name = |day: &u32| word(&WEEK_DAYS, *day).to_owned();
    if text.starts_with("*/") || text.contains('/') {
        let mut days: Vec<u32> = Vec::new();
        for term in &terms {
            if let Term::Plain(span) = term {
                days.extend(
                    (span.first..=span.last)
                        .filter(|day| (day - span.first) % span.step == 0)
                        .map(|day| day % 7),
                );
            }
        }
        days.sort_unstable();
        days.dedup();
        if terms.iter().all(Term::is_plain) {
            return format!("every {}", and(&days.iter().map(name).collect::<Vec<String>>()));
        }
    }
    let list: Vec<String> = terms.iter().map(|term| term_phrase(term, name)).collect();
    if terms.iter().all(Term::is_plain) {
        format!("every {}", and(&list))
    } else {
        format!("on {} of the month", and(&list))
    }
}

fn month_phrase(text: &str) -> String {
    if text == "*" {
        return String::new();
    }
    let Ok(terms) = parse_terms(FieldKind::Month, text) else { return format!(" in {text}") };
    let name = |month: &u32| word(&MONTHS, *month).to_owned();
    let list: Vec<String> = terms.iter().map(|term| term_phrase(term, name)).collect();
    format!(" in {}", and(&list))
}

fn word<'a>(words: &'a [&'a str], index: u32) -> &'a str {
    usize::try_from(index).ok().and_then(|index| words.get(index)).copied().unwrap_or("")
}

fn and(list: &[String]) -> String {
    match list {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

//! iCalendar text (RFC 5545) to the entries of a calendar.
//!
//! Each `VEVENT` becomes what says the same: a day, a range of days, a span of instants. A plain
//! yearly day and a plain weekly window stay rules; every other recurrence is written out from a
//! year back to ten years ahead, since a calendar's entries are for people to read. What could not
//! be carried over is told with its reason, never dropped in silence.
//!
//! Not here: `VTIMEZONE` (zones go by their IANA names), `RECURRENCE-ID` (a moved occurrence is
//! told of), `RDATE`.

use std::fmt::Write as _;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use icalendar::parser::{Component, read_calendar, unfold};
use rrule::RRuleSet;

use super::{CalendarEntry, DAY, ENTRIES_MAX, NOTE_MAX, WeekDay};
use crate::domain::Timestamp;

/// How far recurrences are written out: ten years of 365 days, and one year back.
const AHEAD: TimeDelta = TimeDelta::days(3_650);
const BACK: TimeDelta = TimeDelta::days(366);
/// Components within components; calendars have three, and the parser calls itself for each.
const DEPTH_MAX: usize = 8;
/// Events that could not be carried over and are told one by one.
const LEFT_OUT_MAX: usize = 100;
/// Occurrences of one event at most.
const OCCURRENCES_MAX: u16 = 4_000;
const WEEK_CODES: [&str; 7] = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];

/// An event that was not carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The event's own title.
    pub summary: String,
    /// Why.
    pub reason: String,
}

/// What came of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The entries.
    pub entries: Vec<CalendarEntry>,
    /// What could not be carried over, the first 100.
    pub left_out: Vec<LeftOut>,
    /// Until when recurrences that are no plain rule were written out; `None` when none was.
    pub expanded_until: Option<Timestamp>,
}

/// Why a text cannot be taken at all; a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError(pub String);

/// When an event begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Day(NaiveDate),
    Local(NaiveDateTime, Tz),
}

/// One event, taken apart.
struct Event {
    start: Moment,
    end: Moment,
    rule: Option<String>,
    except: Vec<Moment>,
    note: Option<String>,
}

/// Reads the text; `zone` is the calendar's, for times that name none.
///
/// # Errors
/// A text that is no calendar, or has more than the calendar can take.
pub fn import(text: &str, zone: Tz, now: Timestamp) -> Result<Import, ImportError> {
    if depth(text) > DEPTH_MAX {
        return Err(ImportError(format!(
            "components are nested more than {DEPTH_MAX} deep; this is no calendar"
        )));
    }
    let unfolded = unfold(text);
    let calendar = read_calendar(&unfolded).map_err(|error| {
        let first = error.lines().take(2).collect::<Vec<_>>().join(" ");
        ImportError(format!("this is not iCalendar text: {first}"))
    })?;
    let events: Vec<&Component<'_>> =
        calendar.components.iter().filter(|part| part.name == "VEVENT").collect();
    if events.is_empty() {
        return Err(ImportError("there is no VEVENT in the text".to_owned()));
    }
    let mut import = Import::default();
    for component in events {
        let summary = text_of(component, "SUMMARY").unwrap_or_default();
        let carried = read_event(component, zone).and_then(|event| {
            let until = carry(&event, zone, now, &mut import.entries)?;
            import.expanded_until = import.expanded_until.max(until);
            Ok(())
        });
        if let Err(reason) = carried
            && import.left_out.len() < LEFT_OUT_MAX
        {
            import.left_out.push(LeftOut { summary, reason });
        }
        if import.entries.len() > ENTRIES_MAX {
            return Err(ImportError(format!(
                "the text makes more than {ENTRIES_MAX} entries; import a shorter one"
            )));
        }
    }
    Ok(import)
}

fn depth(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for line in text.lines().map(str::trim_start) {
        let head = line.get(..6).unwrap_or(line).to_ascii_uppercase();
        if head.starts_with("BEGIN:") {
            depth += 1;
            most = most.max(depth);
        } else if head.starts_with("END:") {
            depth = depth.saturating_sub(1);
        }
    }
    most
}

fn text_of(component: &Component<'_>, name: &str) -> Option<String> {
    let text = component.find_prop(name)?.val.as_str().replace("\\,", ",").replace("\\n", " ");
    let mut end = text.len().min(NOTE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).map(str::to_owned).filter(|text| !text.trim().is_empty())
}

fn read_event(component: &Component<'_>, zone: Tz) -> Result<Event, String> {
    if component.find_prop("RECURRENCE-ID").is_some() {
        return Err("it moves one occurrence of another event".to_owned());
    }
    if component.find_prop("RDATE").is_some() {
        return Err("it lists further dates (RDATE)".to_owned());
    }
    let is_cancelled = component.find_prop("STATUS").is_some_and(|p| p.val.as_str() == "CANCELLED");
    if is_cancelled {
        return Err("it is cancelled".to_owned());
    }
    let start = moments(component, "DTSTART", zone)?.into_iter().next();
    let start = start.ok_or("it has no DTSTART")?;
    let end = match moments(component, "DTEND", zone)?.into_iter().next() {
        Some(end) => end,
        None => match (start, component.find_prop("DURATION")) {
            (start, Some(duration)) => later(start, duration.val.as_str())?,
            (Moment::Day(day), None) => Moment::Day(day + Days::new(1)),
            (Moment::Local(..), None) => return Err("it has no end and no duration".to_owned()),
        },
    };
    Ok(Event {
        start,
        end,
        rule: component.find_prop("RRULE").map(|rule| rule.val.as_str().to_ascii_uppercase()),
        except: moments(component, "EXDATE", zone)?,
        note: text_of(component, "SUMMARY"),
    })
}

/// Every moment of the properties of that name.
fn moments(component: &Component<'_>, name: &str, zone: Tz) -> Result<Vec<Moment>, String> {
    let mut found = Vec::new();
    for property in component.properties.iter().filter(|property| property.name == name) {
        let named = property.params.iter().find(|param| param.key == "TZID");
        let zone = match named.and_then(|param| param.val.as_ref()) {
            None => zone,
            Some(name) => {
                let name = name.as_str().trim_matches('"');
                name.parse().map_err(|_| format!("\"{name}\" is no IANA time zone"))?
            }
        };
        for text in property.val.as_str().split(',') {
            found.push(moment(text.trim(), zone).ok_or_else(|| format!("{name} \"{text}\"?"))?);
        }
    }
    Ok(found)
}

fn moment(text: &str, zone: Tz) -> Option<Moment> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y%m%d") {
        return Some(Moment::Day(day));
    }
    let (text, zone) = text.strip_suffix('Z').map_or((text, zone), |text| (text, Tz::UTC));
    NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").ok().map(|at| Moment::Local(at, zone))
}

/// `P1D`, `PT1H30M`, `P1W` after a moment.
fn later(start: Moment, text: &str) -> Result<Moment, String> {
    let wrong = || format!("its duration \"{text}\" cannot be read");
    let mut seconds: i64 = 0;
    let mut number = String::new();
    for letter in text.strip_prefix('P').ok_or_else(wrong)?.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            'T' => continue,
            'W' => 7 * DAY,
            'D' => DAY,
            'H' => 3_600,
            'M' => 60,
            'S' => 1,
            _ => return Err(wrong()),
        };
        let count: i64 = number.parse().ok().filter(|count| *count < 100_000).ok_or_else(wrong)?;
        seconds += count * unit;
        number.clear();
    }
    match start {
        Moment::Day(day) => Ok(Moment::Day(day + Days::new((seconds / DAY).unsigned_abs()))),
        Moment::Local(at, zone) => Ok(Moment::Local(at + TimeDelta::seconds(seconds), zone)),
    }
}

/// The instant of a wall clock's time; one in a gap is the first after it.
fn instant(at: NaiveDateTime, zone: Tz) -> Option<Timestamp> {
    let found = zone.from_local_datetime(&at).earliest();
    let found = found.or_else(|| zone.from_local_datetime(&(at + TimeDelta::hours(1))).earliest());
    found.map(|at| at.with_timezone(&Utc))
}

/// Adds the event's entries; gives until when it was written out, if it had to be.
fn carry(
    event: &Event,
    zone: Tz,
    now: Timestamp,
    entries: &mut Vec<CalendarEntry>,
) -> Result<Option<Timestamp>, String> {
    let Some(rule) = &event.rule else {
        entries.push(entry(event.start, event.end, event.note.clone())?);
        return Ok(None);
    };
    if let Some(plain) = plain_rule(event, rule, zone) {
        entries.push(plain);
        return Ok(None);
    }
    let until = now + AHEAD;
    for start in occurrences(event, rule, (now - BACK, until))? {
        let end = match (event.start, event.end, start) {
            (Moment::Day(first), Moment::Day(last), Moment::Day(day)) => {
                let days = (last - first).num_days().max(0).unsigned_abs();
                Moment::Day(day + Days::new(days))
            }
            (Moment::Local(first, _), Moment::Local(last, _), Moment::Local(at, zone)) => {
                Moment::Local(at + (last - first), zone)
            }
            _ => return Err("it starts on a day and ends at a time, or the reverse".to_owned()),
        };
        entries.push(entry(start, end, event.note.clone())?);
    }
    Ok(Some(until))
}

fn entry(start: Moment, end: Moment, note: Option<String>) -> Result<CalendarEntry, String> {
    match (start, end) {
        (Moment::Day(from), Moment::Day(end)) if from < end => {
            let to = end - Days::new(1);
            Ok(if to == from {
                CalendarEntry::Date { date: from, yearly: false, note }
            } else {
                CalendarEntry::Range { from, to, note }
            })
        }
        (Moment::Local(from, zone), Moment::Local(to, end_zone)) => {
            let span =
                instant(from, zone).zip(instant(to, end_zone)).filter(|(from, to)| from < to);
            let (from, to) = span.ok_or("it does not end after its start")?;
            Ok(CalendarEntry::Span { from, to, note })
        }
        _ => Err("it does not end after its start".to_owned()),
    }
}

/// The rule as an entry that says the same for ever, if there is one.
fn plain_rule(event: &Event, rule: &str, zone: Tz) -> Option<CalendarEntry> {
    if !event.except.is_empty() {
        return None;
    }
    let parts: Vec<(&str, &str)> =
        rule.split(';').filter_map(|part| part.split_once('=')).collect();
    let of = |name: &str| parts.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let only = |names: &[&str]| parts.iter().all(|(key, _)| names.contains(key));
    if of("INTERVAL").is_some_and(|every| every != "1") {
        return None;
    }
    match (of("FREQ")?, event.start, event.end) {
        ("YEARLY", Moment::Day(date), Moment::Day(end)) => {
            let is_day = end == date + Days::new(1);
            let plain = is_day && only(&["FREQ", "INTERVAL", "WKST"]);
            plain.then(|| CalendarEntry::Date { date, yearly: true, note: event.note.clone() })
        }
        ("WEEKLY", start, end) if only(&["FREQ", "INTERVAL", "WKST", "BYDAY"]) => {
            let (first, from, to) = match (start, end) {
                (Moment::Day(day), Moment::Day(end)) if end == day + Days::new(1) => (day, 0, DAY),
                (Moment::Local(from, own), Moment::Local(to, _)) if own == zone => {
                    let of_day = |at: NaiveDateTime| at.and_utc().timestamp().rem_euclid(DAY);
                    let length = (to - from).num_seconds();
                    let first = of_day(from);
                    (length > 0 && first + length <= DAY)
                        .then(|| (from.date(), first, first + length))?
                }
                _ => return None,
            };
            let code = |place: usize| WEEK_CODES.get(place).copied().unwrap_or_default();
            let own = code(week_day_of(first));
            let wanted: Vec<&str> = of("BYDAY").unwrap_or(own).split(',').collect();
            let named = WeekDay::ALL.iter().zip(WEEK_CODES);
            let days: Vec<WeekDay> =
                named.filter(|(_, code)| wanted.contains(code)).map(|(day, _)| *day).collect();
            let note = event.note.clone();
            let (from, to) = (u32::try_from(from).ok()?, u32::try_from(to).ok()?);
            (days.len() == wanted.len()).then_some(CalendarEntry::Weekly { days, from, to, note })
        }
        _ => None,
    }
}

/// 0 for Sunday.
fn week_day_of(date: NaiveDate) -> usize {
    use chrono::Datelike;
    usize::try_from(date.weekday().num_days_from_sunday()).unwrap_or(0)
}

/// The starts of the event's occurrences within a span, on its own wall clock.
fn occurrences(
    event: &Event,
    rule: &str,
    (from, until): (Timestamp, Timestamp),
) -> Result<Vec<Moment>, String> {
    let known = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY"];
    if !known.iter().any(|word| rule.contains(&format!("FREQ={word}"))) {
        return Err(format!("recurrences are {}", known.join(", ").to_lowercase()));
    }
    let line = |name: &str, moment: Moment| match moment {
        Moment::Day(day) => format!("{name}:{}T000000Z", day.format("%Y%m%d")),
        Moment::Local(at, Tz::UTC) => format!("{name}:{}Z", at.format("%Y%m%dT%H%M%S")),
        Moment::Local(at, zone) => format!("{name};TZID={zone}:{}", at.format("%Y%m%dT%H%M%S")),
    };
    let mut text = format!("{}\nRRULE:{}", line("DTSTART", event.start), with_instant(rule));
    for moment in &event.except {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}", line("EXDATE", *moment));
    }
    let set: RRuleSet =
        text.parse().map_err(|error| format!("its recurrence cannot be read: {error}"))?;
    let (after, before) =
        (from.with_timezone(&rrule::Tz::UTC), until.with_timezone(&rrule::Tz::UTC));
    let found = set.after(after).before(before).all(OCCURRENCES_MAX);
    if found.limited {
        return Err(format!("it comes more than {OCCURRENCES_MAX} times in ten years"));
    }
    let dates = found.dates.iter();
    Ok(match event.start {
        Moment::Day(_) => dates.map(|at| Moment::Day(at.naive_utc().date())).collect(),
        Moment::Local(_, zone) => dates
            .map(|at| Moment::Local(DateTime::with_timezone(at, &zone).naive_local(), zone))
            .collect(),
    })
}

/// The rule with `UNTIL` as an instant, which is how it is read.
fn with_instant(rule: &str) -> String {
    let parts = rule.split(';').map(|part| match part.strip_prefix("UNTIL=") {
        Some(until) if until.len() == 8 => format!("{part}T235959Z"),
        Some(until) if !until.ends_with('Z') => format!("{part}Z"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<String>>().join(";")
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;

//! Calendars: read from a request, written back. Every fault is named by its entry and field.

use chrono::{NaiveDate, NaiveTime, Timelike};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::body::Fields;
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::calendar::{
    Calendar, CalendarDefinition, CalendarEntry, ENTRIES_MAX, Import, NOTE_MAX, WeekDay, import,
};
use crate::domain::event::instant_text;
use crate::domain::fault::Fault;

const NAME_MAX: usize = 100;
const DESCRIPTION_MAX: usize = 10_000;
const ZONE_MAX: usize = 64;
/// Bytes of iCalendar text at most; a request's body has a limit of its own.
const TEXT_MAX: usize = 1 << 20;

/// A calendar that was read, and what came of iCalendar text in it.
#[derive(Debug)]
pub(crate) struct ReadCalendar {
    /// To be stored.
    pub(crate) definition: CalendarDefinition,
    /// The import, if there was any.
    pub(crate) import: Option<Import>,
}

/// Reads a whole calendar; `stored` is what an edit is laid over.
///
/// # Errors
/// 422 with every fault.
pub(crate) fn parse(
    value: &Value,
    stored: Option<&CalendarDefinition>,
    (now, default_zone): (Timestamp, &str),
) -> Result<ReadCalendar, ApiError> {
    let known = ["name", "description", "timezone", "entries", "ical"];
    let mut fields = Fields::of(value, &known, &[])?;
    let name = match stored {
        None => fields.needed_text("name", NAME_MAX),
        Some(stored) => {
            let given = fields.text("name", NAME_MAX);
            if given.is_some_and(|given| given != stored.name) {
                let message = "schedules know a calendar by its name, which never changes";
                fields.fault("name", "read_only", message);
            }
            Some(stored.name.clone())
        }
    };
    let description = match (value.get("description"), stored) {
        (None, Some(stored)) => stored.description.clone(),
        _ => fields.text("description", DESCRIPTION_MAX),
    };
    let zone = fields.text("timezone", ZONE_MAX);
    let zone = zone.or_else(|| stored.map(|stored| stored.timezone.clone()));
    let timezone = zone.unwrap_or_else(|| default_zone.to_owned());
    let zone: Option<Tz> = timezone.parse().ok();
    if zone.is_none() {
        let message = format!("\"{timezone}\" is not an IANA time zone such as \"Europe/Berlin\"");
        fields.fault("timezone", "invalid_value", message);
    }
    let text = fields.text("ical", TEXT_MAX);
    let mut entries = match (fields.value("entries"), stored) {
        (None, Some(stored)) if text.is_none() => stored.entries.clone(),
        (None, _) => Vec::new(),
        (Some(entries), _) => read_entries(&mut fields, entries),
    };
    let mut imported = None;
    if let (Some(text), Some(zone)) = (text, zone) {
        match import(&text, zone, now) {
            Ok(mut found) => {
                entries.append(&mut found.entries);
                imported = Some(found);
            }
            Err(error) => fields.fault("ical", "invalid_value", error.0),
        }
    }
    if entries.len() > ENTRIES_MAX {
        let message = format!("a calendar has {ENTRIES_MAX} entries at most");
        fields.fault("entries", "out_of_range", message);
    }
    let definition = name.map(|name| CalendarDefinition { name, description, timezone, entries });
    fields.finish_with(definition.map(|definition| ReadCalendar { definition, import: imported }))
}

fn read_entries(fields: &mut Fields<'_>, value: &Value) -> Vec<CalendarEntry> {
    let Value::Array(items) = value else {
        fields.fault("entries", "invalid_type", "`entries` is a list");
        return Vec::new();
    };
    if items.len() > ENTRIES_MAX {
        return items.iter().take(ENTRIES_MAX + 1).filter_map(|item| entry(item).ok()).collect();
    }
    let mut entries = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        match entry(item) {
            Ok(entry) => entries.push(entry),
            Err(faults) => {
                for Fault { field, code, message } in faults {
                    let dot = if field.is_empty() { "" } else { "." };
                    fields.fault(&format!("entries.{place}{dot}{field}"), code, message);
                }
            }
        }
    }
    entries
}

/// One entry, read like a request of its own.
struct Entry<'a> {
    object: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl Entry<'_> {
    fn fault(&mut self, field: &str, code: &'static str, message: impl Into<String>) {
        self.faults.push(Fault::new(field, code, message));
    }

    fn text(&mut self, field: &str, what: &str) -> Option<String> {
        let text = self.object.get(field).and_then(Value::as_str).map(str::to_owned);
        if text.is_none() {
            self.fault(field, "required", format!("`{field}` is {what}"));
        }
        text
    }

    fn date(&mut self, field: &str) -> Option<NaiveDate> {
        let what = "a day such as \"2026-12-25\"";
        let text = self.text(field, what)?;
        let date = text.parse().ok();
        if date.is_none() {
            self.fault(field, "invalid_value", format!("`{field}` is {what}"));
        }
        date
    }

    fn instant(&mut self, field: &str) -> Option<Timestamp> {
        let what = "an instant such as \"2026-12-24T12:00:00Z\"";
        let text = self.text(field, what)?;
        let instant = super::instant::parse_instant(&text);
        if instant.is_none() {
            self.fault(field, "invalid_value", format!("`{field}` is {what}"));
        }
        instant
    }

    /// A time of day in seconds; `24:00` is the end of the day.
    fn time(&mut self, field: &str, default: u32) -> Option<u32> {
        if self.object.get(field).is_none_or(Value::is_null) {
            return Some(default);
        }
        let what = "a time of day such as \"18:00\"; the end of the day is \"24:00\"";
        let text = self.text(field, what)?;
        let time = ["%H:%M", "%H:%M:%S"]
            .iter()
            .find_map(|form| NaiveTime::parse_from_str(&text, form).ok())
            .map(|time| time.num_seconds_from_midnight());
        let time = if text == "24:00" { Some(86_400) } else { time };
        if time.is_none() {
            self.fault(field, "invalid_value", format!("`{field}` is {what}"));
        }
        time
    }

    fn days(&mut self) -> Option<Vec<WeekDay>> {
        let words = self.object.get("days").and_then(Value::as_array);
        let days: Option<Vec<WeekDay>> = words.and_then(|words| {
            words.iter().map(|word| word.as_str().and_then(WeekDay::parse)).collect()
        });
        let days = days.filter(|days| !days.is_empty() && days.len() <= 7);
        if days.is_none() {
            let message = "`days` lists weekdays such as [\"saturday\", \"sunday\"]";
            self.fault("days", "invalid_value", message);
        }
        days
    }

    fn note(&mut self) -> Option<String> {
        let note = self.object.get("note").filter(|note| !note.is_null())?;
        let text = note.as_str().filter(|text| text.len() <= NOTE_MAX).map(str::to_owned);
        if text.is_none() {
            let message = format!("`note` is a text of {NOTE_MAX} bytes at most");
            self.fault("note", "invalid_value", message);
        }
        text
    }

    fn ordered(&mut self, is_ordered: bool, cure: &str) {
        if !is_ordered {
            self.fault("to", "out_of_range", cure);
        }
    }
}

fn entry(value: &Value) -> Result<CalendarEntry, Vec<Fault>> {
    let Value::Object(object) = value else {
        return Err(vec![Fault::new("", "invalid_type", "an entry is an object with a `kind`")]);
    };
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let known: &[&str] = match kind {
        "date" => &["kind", "date", "yearly", "note"],
        "range" | "span" => &["kind", "from", "to", "note"],
        "weekly" => &["kind", "days", "from", "to", "note"],
        _ => {
            let message = "`kind` is date, range, weekly or span";
            return Err(vec![Fault::new("kind", "invalid_value", message)]);
        }
    };
    let mut entry = Entry { object, faults: Vec::new() };
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        entry.faults.push(super::body::unknown(name, known));
    }
    let note = entry.note();
    let read = match kind {
        "date" => {
            let yearly = object.get("yearly").filter(|yearly| !yearly.is_null());
            if yearly.is_some_and(|yearly| !yearly.is_boolean()) {
                entry.fault("yearly", "invalid_type", "`yearly` is true or false");
            }
            let yearly = yearly.and_then(Value::as_bool).unwrap_or(false);
            entry.date("date").map(|date| CalendarEntry::Date { date, yearly, note })
        }
        "range" => {
            let range = entry.date("from").zip(entry.date("to"));
            entry.ordered(range.is_none_or(|(from, to)| from <= to), "`to` lies before `from`");
            range.map(|(from, to)| CalendarEntry::Range { from, to, note })
        }
        "weekly" => {
            let window = entry.time("from", 0).zip(entry.time("to", 86_400));
            let cure = "`to` comes after `from`; write a window over midnight as two";
            entry.ordered(window.is_none_or(|(from, to)| from < to), cure);
            let days = entry.days();
            days.zip(window).map(|(days, (from, to))| CalendarEntry::Weekly {
                days,
                from,
                to,
                note,
            })
        }
        _ => {
            let span = entry.instant("from").zip(entry.instant("to"));
            entry.ordered(span.is_none_or(|(from, to)| from < to), "`to` comes after `from`");
            span.map(|(from, to)| CalendarEntry::Span { from, to, note })
        }
    };
    match read {
        Some(read) if entry.faults.is_empty() => Ok(read),
        _ => Err(entry.faults),
    }
}

fn time_text(seconds: u32) -> String {
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if rest == 0 {
        format!("{hours:02}:{minutes:02}")
    } else {
        format!("{hours:02}:{minutes:02}:{rest:02}")
    }
}

fn entry_view(entry: &CalendarEntry) -> Value {
    match entry {
        CalendarEntry::Date { date, yearly, note } => {
            json!({ "kind": "date", "date": date, "yearly": yearly, "note": note })
        }
        CalendarEntry::Range { from, to, note } => {
            json!({ "kind": "range", "from": from, "to": to, "note": note })
        }
        CalendarEntry::Weekly { days, from, to, note } => json!({
            "kind": "weekly",
            "days": days,
            "from": time_text(*from),
            "to": time_text(*to),
            "note": note,
        }),
        CalendarEntry::Span { from, to, note } => json!({
            "kind": "span",
            "from": instant_text(*from),
            "to": instant_text(*to),
            "note": note,
        }),
    }
}

/// A calendar as the API tells it.
pub(crate) fn view(calendar: &Calendar) -> Value {
    let definition = &calendar.definition;
    json!({
        "id": calendar.id,
        "name": definition.name,
        "description": definition.description,
        "timezone": definition.timezone,
        "entries": definition.entries.iter().map(entry_view).collect::<Vec<_>>(),
        "createdAt": instant_text(calendar.created_at),
        "updatedAt": instant_text(calendar.updated_at),
        "version": calendar.version,
    })
}

/// A calendar after an import: what could not be carried over is told.
pub(crate) fn view_imported(calendar: &Calendar, imported: Option<&Import>) -> Value {
    let mut body = view(calendar);
    if let (Some(object), Some(imported)) = (body.as_object_mut(), imported) {
        let left_out: Vec<Value> = imported
            .left_out
            .iter()
            .map(|event| json!({ "summary": event.summary, "reason": event.reason }))
            .collect();
        let report = json!({
            "leftOut": left_out,
            "expandedUntil": imported.expanded_until.map(instant_text),
        });
        object.insert("import".to_owned(), report);
    }
    body
}

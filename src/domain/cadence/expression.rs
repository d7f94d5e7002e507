//! The text of a cron expression, parsed.
//!
//! Five fields (minute, hour, day of month, month, day of week), six with leading seconds, names,
//! lists, ranges, steps, `H`, `@daily` and its kin, and in the day fields `L`, `LW`, `15W`, `5L`,
//! `1#2`.
//! Each term is vetted here, so that a message can name the field and the cure; the plain sets are
//! then expanded by the `cron` crate (its weekdays count from 1, ours from 0, hence the mapping).
//!
//! Deliberately not here: `?`, `L-3`, ranges that wrap, years. They are refused with what to write
//! instead. An expression that no calendar can satisfy is refused too.

use std::str::FromStr;

use cron::{Schedule, TimeUnitSpec};

use super::days::DayFilter;
use super::fields::Fields;
use super::hashed;
use super::term::{FieldKind, Span, Term, parse_terms};

/// The longest expression that is looked at, in bytes; room for every list a person writes.
pub(super) const EXPRESSION_MAX: usize = 512;

/// The fields in their order, and their places.
const KINDS: [(FieldKind, usize); 6] = [
    (FieldKind::Second, 0),
    (FieldKind::Minute, 1),
    (FieldKind::Hour, 2),
    (FieldKind::MonthDay, 3),
    (FieldKind::Month, 4),
    (FieldKind::WeekDay, 5),
];

const NICKNAMES: [(&str, &str); 7] = [
    ("@YEARLY", "0 0 1 1 *"),
    ("@ANNUALLY", "0 0 1 1 *"),
    ("@MONTHLY", "0 0 1 * *"),
    ("@WEEKLY", "0 0 * * 0"),
    ("@DAILY", "0 0 * * *"),
    ("@MIDNIGHT", "0 0 * * *"),
    ("@HOURLY", "0 * * * *"),
];

/// A cron expression: its text and what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    /// As given, outer blanks removed.
    pub(super) text: String,
    /// Six fields in upper case, seconds first, each `H` replaced.
    pub(super) parts: [String; 6],
    pub(super) fields: Fields,
}

impl Expression {
    /// Parses an expression; every fault found is one sentence for people. `key` picks what each
    /// `H` stands for.
    pub(super) fn parse(text: &str, key: Option<&str>) -> Result<Self, Vec<String>> {
        let text = text.trim();
        let parts = resolved(split(text).map_err(|message| vec![message])?, key)?;
        let [second, minute, hour, month_day, month, week_day] = &parts;
        let mut faults = Vec::new();
        let mut take = |kind: FieldKind, text: &str| {
            parse_terms(kind, text).unwrap_or_else(|message| {
                faults.push(message);
                Vec::new()
            })
        };
        let terms = Terms {
            seconds: take(FieldKind::Second, second),
            minutes: take(FieldKind::Minute, minute),
            hours: take(FieldKind::Hour, hour),
            month_days: take(FieldKind::MonthDay, month_day),
            months: take(FieldKind::Month, month),
            week_days: take(FieldKind::WeekDay, week_day),
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let both = month_day.starts_with('*') || week_day.starts_with('*');
        let real_minutes = minute.starts_with('*') || hour.starts_with('*');
        let fields = terms.expand(both, real_minutes).map_err(|message| vec![message])?;
        if !fields.days.ever_in(fields.months) {
            return Err(vec![format!(
                "\"{text}\" can never run: no year has a day {month_day} of month {month} with \
                 day of week {week_day}; choose a day that the month has"
            )]);
        }
        Ok(Self { text: text.to_owned(), parts, fields })
    }
}

/// The parts with each `H` replaced by what it stands for.
fn resolved(parts: [String; 6], key: Option<&str>) -> Result<[String; 6], Vec<String>> {
    let mut faults = Vec::new();
    let parts = KINDS.map(|(kind, place)| {
        let part = parts.get(place).map_or("", String::as_str);
        hashed::resolve(kind, part, key).unwrap_or_else(|message| {
            faults.push(message);
            String::new()
        })
    });
    if faults.is_empty() { Ok(parts) } else { Err(faults) }
}

/// True when an expression has an `H`, and so needs a key.
pub(super) fn needs_key(text: &str) -> bool {
    split(text.trim()).is_ok_and(|parts| parts.iter().any(|part| hashed::has_hash(part)))
}

fn split(text: &str) -> Result<[String; 6], String> {
    if text.len() > EXPRESSION_MAX {
        return Err(format!("an expression has at most {EXPRESSION_MAX} characters"));
    }
    let upper = text.to_ascii_uppercase();
    let upper = if upper.starts_with('@') { nickname(&upper)?.to_owned() } else { upper };
    if upper.starts_with("TZ=") || upper.starts_with("CRON_TZ=") {
        return Err("write the zone into the field `timezone`, not into the expression".to_owned());
    }
    let mut parts: Vec<String> = upper.split_ascii_whitespace().map(str::to_owned).collect();
    let found = parts.len();
    if found == 5 {
        parts.insert(0, "0".to_owned());
    }
    parts.try_into().map_err(|_| {
        let cure = match found {
            0 => "the expression is empty; \"0 2 * * *\" is every day at 02:00",
            7 => "there is no year field; bound a schedule with `startAt` and `endAt`",
            _ => "write minute, hour, day of month, month, day of week, such as \"0 2 * * *\"",
        };
        format!("expected 5 fields, or 6 with leading seconds, but found {found}: {cure}")
    })
}

fn nickname(text: &str) -> Result<&'static str, String> {
    if let Some((_, expression)) = NICKNAMES.iter().find(|(name, _)| *name == text) {
        return Ok(expression);
    }
    if text == "@REBOOT" {
        return Err(
            "\"@reboot\" is not a time; run a task once with `scheduleType` `one_time`, or \
                    let the system's service manager start it"
                .to_owned(),
        );
    }
    if text.starts_with("@EVERY") {
        return Err(
            "\"@every\" is not cron; use `scheduleType` `interval` with `intervalMs`".to_owned()
        );
    }
    let known = NICKNAMES.map(|(name, _)| name.to_ascii_lowercase()).join(", ");
    Err(format!("unknown shorthand \"{}\"; known are {known}", text.to_ascii_lowercase()))
}

struct Terms {
    seconds: Vec<Term>,
    minutes: Vec<Term>,
    hours: Vec<Term>,
    month_days: Vec<Term>,
    months: Vec<Term>,
    week_days: Vec<Term>,
}

impl Terms {
    fn expand(&self, both: bool, real_minutes: bool) -> Result<Fields, String> {
        // An empty list cannot be written in cron; a field of specials alone stands as `*` and
        // its set is then dropped.
        let text = format!(
            "{} {} {} {} {} {}",
            plain_list(&self.seconds),
            plain_list(&self.minutes),
            plain_list(&self.hours),
            plain_list(&self.month_days),
            plain_list(&self.months),
            plain_weekdays(&self.week_days),
        );
        let sets = Schedule::from_str(&text).map_err(|error| error.to_string())?;
        let mut days = DayFilter { both, ..DayFilter::default() };
        if self.month_days.iter().any(Term::is_plain) {
            days.month_days = narrow(mask(sets.days_of_month()));
        }
        if self.week_days.iter().any(Term::is_plain) {
            days.week_days = narrow(mask(sets.days_of_week()) >> 1);
        }
        for term in self.month_days.iter().chain(&self.week_days) {
            add_special(&mut days, term);
        }
        Ok(Fields {
            seconds: mask(sets.seconds()),
            minutes: mask(sets.minutes()),
            hours: narrow(mask(sets.hours())),
            months: narrow(mask(sets.months())),
            days,
            real_minutes,
        })
    }
}

fn add_special(days: &mut DayFilter, term: &Term) {
    match *term {
        Term::Plain(_) => {}
        Term::LastDay => days.last_day = true,
        Term::LastWeekday => days.last_weekday = true,
        Term::NearestWeekday(day) => days.nearest_weekday |= 1 << day,
        Term::LastOf(week_day) => days.last_week_days |= 1 << (week_day % 7),
        Term::NthOf(week_day, nth) => {
            let nth = usize::try_from(nth).unwrap_or(0).wrapping_sub(1);
            if let Some(days) = days.nth_week_days.get_mut(nth) {
                *days |= 1 << (week_day % 7);
            }
        }
    }
}

fn spans(terms: &[Term]) -> impl Iterator<Item = Span> {
    terms.iter().filter_map(|term| if let Term::Plain(span) = term { Some(*span) } else { None })
}

fn plain_list(terms: &[Term]) -> String {
    let list: Vec<String> = spans(terms)
        .map(|Span { first, last, step }| {
            // The crate refuses a step longer than the field, which means the first value alone.
            if step > last - first { first.to_string() } else { format!("{first}-{last}/{step}") }
        })
        .collect();
    if list.is_empty() { "*".to_owned() } else { list.join(",") }
}

/// Weekdays one by one: Sunday is 0 and 7 here, 1 in the crate.
fn plain_weekdays(terms: &[Term]) -> String {
    let list: Vec<String> = spans(terms)
        .flat_map(|span| {
            (span.first..=span.last).step_by(span.step.try_into().unwrap_or(usize::MAX))
        })
        .map(|week_day| (week_day % 7 + 1).to_string())
        .collect();
    if list.is_empty() { "*".to_owned() } else { list.join(",") }
}

fn mask(set: &impl TimeUnitSpec) -> u64 {
    set.iter().fold(0, |mask, value| mask | 1 << value)
}

/// A mask whose bits are known to fit.
fn narrow<T: TryFrom<u64> + Default>(mask: u64) -> T {
    T::try_from(mask).unwrap_or_default()
}

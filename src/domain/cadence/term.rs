//! One field of a cron expression, taken apart and vetted.
//!
//! A field is a list of terms. What is wrong is said with the field's name and with what to write
//! instead; nothing here knows what the terms will match.

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEK_DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The six fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    Second,
    Minute,
    Hour,
    MonthDay,
    Month,
    WeekDay,
}

/// Every `step`-th value from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) step: u32,
}

/// One term of a field's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term {
    Plain(Span),
    /// `L` in the day of month.
    LastDay,
    /// `LW`.
    LastWeekday,
    /// `15W`.
    NearestWeekday(u32),
    /// `5L`: the last such weekday.
    LastOf(u32),
    /// `1#2`: weekday and its number in the month, 1 to 5.
    NthOf(u32, u32),
}

impl Term {
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

impl FieldKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::MonthDay => "day-of-month",
            Self::Month => "month",
            Self::WeekDay => "day-of-week",
        }
    }

    pub(super) const fn range(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::MonthDay => (1, 31),
            Self::Month => (1, 12),
            Self::WeekDay => (0, 7),
        }
    }

    /// Names and the value of the first of them.
    const fn names(self) -> (&'static [&'static str], u32) {
        match self {
            Self::Month => (&MONTHS, 1),
            Self::WeekDay => (&WEEK_DAYS, 0),
            _ => (&[], 0),
        }
    }
}

/// Parses a field in upper case.
pub(super) fn parse_terms(kind: FieldKind, text: &str) -> Result<Vec<Term>, String> {
    text.split(',')
        .map(|term| {
            parse_term(kind, term).map_err(|cure| {
                let name = kind.name();
                if term == text {
                    format!("the {name} field \"{text}\" is wrong: {cure}")
                } else {
                    format!("the {name} field \"{text}\" is wrong at \"{term}\": {cure}")
                }
            })
        })
        .collect()
}

fn parse_term(kind: FieldKind, term: &str) -> Result<Term, String> {
    if term.is_empty() {
        return Err("a list needs a value on each side of a comma".to_owned());
    }
    if term.contains('?') {
        return Err("write `*` instead of `?`".to_owned());
    }
    let special = match kind {
        FieldKind::MonthDay => month_day_special(term)?,
        FieldKind::WeekDay => week_day_special(term)?,
        _ => None,
    };
    match special {
        Some(special) => Ok(special),
        None => span(kind, term).map(Term::Plain),
    }
}

fn month_day_special(term: &str) -> Result<Option<Term>, String> {
    match term {
        "L" => return Ok(Some(Term::LastDay)),
        "LW" => return Ok(Some(Term::LastWeekday)),
        "W" => return Err("`W` needs a day, such as `15W`, or is `LW`".to_owned()),
        _ => {}
    }
    if let Some(day) = term.strip_suffix('W') {
        return value(FieldKind::MonthDay, day).map(|day| Some(Term::NearestWeekday(day)));
    }
    if term.contains('#') {
        return Err("`#` belongs into the day-of-week field".to_owned());
    }
    if term.contains('L') {
        return Err("`L` stands alone or as `LW` here; the last Friday is `5L` in the \
                    day-of-week field"
            .to_owned());
    }
    Ok(None)
}

fn week_day_special(term: &str) -> Result<Option<Term>, String> {
    if let Some((day, nth)) = term.split_once('#') {
        let day = value(FieldKind::WeekDay, day)?;
        return match nth.parse() {
            Ok(nth @ 1..=5) if nth.to_string().len() == 1 => Ok(Some(Term::NthOf(day, nth))),
            _ => Err(format!("after `#` comes 1 to 5, such as `1#2`, not \"{nth}\"")),
        };
    }
    if term == "L" {
        return Err("`L` needs a weekday, such as `5L` for the last Friday of the month; for \
                    Saturdays write 6"
            .to_owned());
    }
    if let Some(day) = term.strip_suffix('L') {
        return value(FieldKind::WeekDay, day).map(|day| Some(Term::LastOf(day)));
    }
    if term == "W" || term == "LW" {
        return Err("`W` belongs into the day-of-month field; Monday to Friday is `1-5`".to_owned());
    }
    Ok(None)
}

fn span(kind: FieldKind, term: &str) -> Result<Span, String> {
    let (min, max) = kind.range();
    let (base, step) = match term.split_once('/') {
        Some((base, step)) => (base, Some(parse_step(step)?)),
        None => (term, None),
    };
    let (first, last) = if base == "*" {
        (min, max)
    } else if let Some((first, last)) = base.split_once('-') {
        range(kind, first, last)?
    } else {
        let first = value(kind, base)?;
        // `5/15` is `5-59/15`.
        (first, if step.is_some() { max } else { first })
    };
    Ok(Span { first, last, step: step.unwrap_or(1) })
}

fn range(kind: FieldKind, first: &str, last: &str) -> Result<(u32, u32), String> {
    let (first, last) = (value(kind, first)?, value(kind, last)?);
    if first <= last {
        return Ok((first, last));
    }
    let (min, max) = kind.range();
    let cure = if kind == FieldKind::WeekDay && last == 0 {
        format!("{first}-7")
    } else {
        format!(
            "{first}-{},{min}-{last}",
            max.min(if kind == FieldKind::WeekDay { 6 } else { max })
        )
    };
    Err(format!("a range does not wrap; write {cure}"))
}

fn parse_step(step: &str) -> Result<u32, String> {
    match number(step) {
        Some(0) => Err("a step is at least 1".to_owned()),
        Some(step) => Ok(step),
        None => Err(format!("after `/` comes a step of at least 1, such as `*/5`, not \"{step}\"")),
    }
}

fn value(kind: FieldKind, text: &str) -> Result<u32, String> {
    let (min, max) = kind.range();
    if let Some(value) = number(text) {
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        return Err(format!("{value} is outside {min}-{max}"));
    }
    let (names, first) = kind.names();
    if let Some(position) = names.iter().position(|name| *name == text) {
        return Ok(first + u32::try_from(position).unwrap_or(0));
    }
    let near = names.iter().find(|name| {
        text.starts_with(**name)
            || (text.len() == 3 && strsim::damerau_levenshtein(name, text) == 1)
    });
    Err(match near {
        Some(name) => format!("\"{text}\" is not known; did you mean {name}?"),
        None if names.is_empty() => format!("\"{text}\" is not a number of {min}-{max}"),
        None => format!(
            "\"{text}\" is neither a number of {min}-{max} nor a name ({})",
            names.join(", ")
        ),
    })
}

/// Digits alone: no sign, no blanks. A number too long for u32 counts as the largest.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

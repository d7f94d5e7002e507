//! `H` in a cron field: a value that the schedule's key picks.
//!
//! `H` is one value of the field, `H/15` every fifteenth from a picked start, `H(0-29)` one value
//! of a range, `H(0-29)/10` every tenth of it. Each field has a hash of its own, so that minute and
//! hour do not move together. A bare `H` in the day of the month is 1 to 28, so that every month
//! has it.
//!
//! An `H` is replaced by what it stands for before the expression is read: everything after, the
//! description too, sees plain numbers.

use crate::domain::spread::stable_hash;

use super::term::FieldKind;

/// True when a field, in upper case, has an `H` to be replaced. `THU` and `MARCH` have none.
pub(super) fn has_hash(text: &str) -> bool {
    text.split(',').any(is_hashed)
}

fn is_hashed(term: &str) -> bool {
    term.strip_prefix('H').is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '(']))
}

/// The field with each `H` replaced; faults are sentences for people.
pub(super) fn resolve(kind: FieldKind, text: &str, key: Option<&str>) -> Result<String, String> {
    if !has_hash(text) {
        return Ok(text.to_owned());
    }
    let Some(key) = key else {
        return Err("`H` needs a key to pick its value by: give `hashKey` (a schedule's name is \
                    taken when it is left out)"
            .to_owned());
    };
    let hash = stable_hash(&[key.as_bytes(), kind.name().as_bytes()]);
    let terms = text.split(',').map(|term| {
        if is_hashed(term) { resolve_term(kind, term, hash) } else { Ok(term.to_owned()) }
    });
    let terms: Vec<String> = terms.collect::<Result<_, String>>()?;
    Ok(terms.join(","))
}

fn resolve_term(kind: FieldKind, term: &str, hash: u64) -> Result<String, String> {
    let wrong = |cure: String| {
        let name = kind.name();
        Err(format!("the {name} field is wrong at \"{term}\": {cure}"))
    };
    let rest = term.strip_prefix('H').unwrap_or(term);
    let (range, step) = match rest.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (rest, None),
    };
    let (first, last) = match range_of(kind, range, step.is_some()) {
        Ok(range) => range,
        Err(cure) => return wrong(cure),
    };
    let length = last - first + 1;
    let pick = |places: u32| u32::try_from(hash % u64::from(places.max(1))).unwrap_or(0);
    let Some(step) = step else { return Ok((first + pick(length)).to_string()) };
    match step.parse::<u32>() {
        Ok(step) if step >= 1 && step <= length && step.to_string().len() <= 4 => {
            Ok(format!("{}-{last}/{step}", first + pick(step)))
        }
        _ => wrong(format!("after `/` comes a step of 1 to {length}, such as `H/5`")),
    }
}

/// The values that an `H` may take: those in its parentheses, or all of the field's.
fn range_of(kind: FieldKind, text: &str, has_step: bool) -> Result<(u32, u32), String> {
    let (min, max) = match kind {
        // Sunday once, and with a step no gap at the month's end that a shorter one would not have.
        FieldKind::WeekDay => (0, 6),
        FieldKind::MonthDay if !has_step => (1, 28),
        _ => kind.range(),
    };
    if text.is_empty() {
        return Ok((min, max));
    }
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let ends = inner.and_then(|inner| inner.split_once('-'));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let range = ends.and_then(|(first, last)| number(first).zip(number(last)));
    let (least, most) = kind.range();
    match range {
        Some((first, last)) if first <= last && first >= least && last <= most => Ok((first, last)),
        _ => Err(format!("write a range within {least}-{most}, such as `H({least}-{most})`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_h_of_its_own_is_replaced() {
        for text in ["THU", "MARCH", "5", "*/5", "1-5"] {
            assert!(!has_hash(text), "{text}");
            assert_eq!(resolve(FieldKind::WeekDay, text, None).unwrap(), text);
        }
        assert!(resolve(FieldKind::Minute, "H", None).unwrap_err().contains("hashKey"));
    }

    #[test]
    fn every_form_stays_within_its_range() {
        let all = [
            (FieldKind::Minute, "H", 0, 59),
            (FieldKind::Hour, "H(1-5)", 1, 5),
            (FieldKind::MonthDay, "H", 1, 28),
            (FieldKind::WeekDay, "H", 0, 6),
            (FieldKind::Month, "H", 1, 12),
        ];
        for (kind, text, first, last) in all {
            let mut seen = std::collections::BTreeSet::new();
            for key in 0..3_000 {
                let value = resolve(kind, text, Some(&format!("job-{key}"))).unwrap();
                seen.insert(value.parse::<u32>().unwrap());
            }
            let wanted: std::collections::BTreeSet<u32> = (first..=last).collect();
            assert_eq!(seen, wanted, "{text}");
        }
    }

    #[test]
    fn a_step_starts_at_a_picked_place_within_the_step() {
        for key in 0..200 {
            let key = format!("job-{key}");
            let text = resolve(FieldKind::Minute, "H/15", Some(&key)).unwrap();
            let (first, rest) = text.split_once('-').unwrap();
            assert!(first.parse::<u32>().unwrap() < 15);
            assert_eq!(rest, "59/15");
            let text = resolve(FieldKind::Minute, "H(0-29)/10", Some(&key)).unwrap();
            assert!(text.ends_with("-29/10"), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_cure() {
        for text in ["H(5-1)", "H(0-60)", "H(a-b)", "H(1)", "H/0", "H/61", "H/x", "H(0-9)/11"] {
            let fault = resolve(FieldKind::Minute, text, Some("job")).unwrap_err();
            assert!(fault.contains("minute"), "{fault}");
        }
    }
}

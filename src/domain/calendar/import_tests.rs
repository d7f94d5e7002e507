use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn berlin(events: &str) -> Result<Import, ImportError> {
    let events = events.replace('\n', "\r\n");
    let text = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\n{events}\r\nEND:VCALENDAR\r\n"
    );
    import(&text, Tz::Europe__Berlin, now())
}

fn event(lines: &str) -> String {
    format!("BEGIN:VEVENT\nUID:1\nDTSTAMP:20260101T000000Z\nSUMMARY:Off\n{lines}\nEND:VEVENT")
}

fn one(lines: &str) -> CalendarEntry {
    let found = berlin(&event(lines)).unwrap();
    assert_eq!((found.entries.len(), &found.left_out), (1, &Vec::new()), "{lines}");
    found.entries.into_iter().next().unwrap()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

#[test]
fn an_event_becomes_the_entry_that_says_the_same() {
    let note = || Some("Off".to_owned());
    assert_eq!(
        one("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261226"),
        CalendarEntry::Date { date: day("2026-12-25"), yearly: false, note: note() }
    );
    assert_eq!(
        one("DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20270102"),
        CalendarEntry::Range { from: day("2026-12-24"), to: day("2027-01-01"), note: note() }
    );
    assert_eq!(
        one("DTSTART;VALUE=DATE:20201225\nRRULE:FREQ=YEARLY"),
        CalendarEntry::Date { date: day("2020-12-25"), yearly: true, note: note() }
    );
    assert_eq!(
        one(
            "DTSTART;TZID=Europe/Berlin:20261123T090000\nDURATION:PT1H30M\nRRULE:FREQ=WEEKLY;BYDAY=MO,FR"
        ),
        CalendarEntry::Weekly {
            days: vec![WeekDay::Monday, WeekDay::Friday],
            from: 32_400,
            to: 37_800,
            note: note()
        }
    );
    let span = |from: &str, to: &str| CalendarEntry::Span {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        note: note(),
    };
    for lines in [
        "DTSTART:20261124T090000Z\nDTEND:20261124T103000Z",
        "DTSTART;TZID=Europe/Berlin:20261124T100000\nDTEND;TZID=Europe/Berlin:20261124T113000",
        "DTSTART:20261124T100000\nDURATION:PT90M",
    ] {
        assert_eq!(one(lines), span("2026-11-24T09:00:00Z", "2026-11-24T10:30:00Z"), "{lines}");
    }
}

#[test]
fn a_rule_that_is_not_plain_is_written_out() {
    let thanksgiving = event("DTSTART;VALUE=DATE:20201126\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH");
    let found = berlin(&thanksgiving).unwrap();
    let days: Vec<NaiveDate> = found
        .entries
        .iter()
        .map(|entry| match entry {
            CalendarEntry::Date { date, yearly: false, .. } => *date,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(days[..3], [day("2025-11-27"), day("2026-11-26"), day("2027-11-25")]);
    assert_eq!(days.len(), 11);
    assert_eq!(found.expanded_until, Some(now() + AHEAD));
}

#[test]
fn exceptions_counts_and_ends_are_kept() {
    let lines = "DTSTART;VALUE=DATE:20261201\nRRULE:FREQ=DAILY;COUNT=4\nEXDATE;VALUE=DATE:20261203";
    assert_eq!(berlin(&event(lines)).unwrap().entries.len(), 3);
    let lines = "DTSTART;TZID=Europe/Berlin:20261201T080000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;UNTIL=20261220";
    assert_eq!(berlin(&event(lines)).unwrap().entries.len(), 3);
}

#[test]
fn what_cannot_be_carried_over_is_told() {
    for lines in [
        "DTSTART;TZID=Nowhere:20261201T080000\nDURATION:PT1H",
        "DTSTART:20261201T080000Z",
        "DTSTART:20261201T080000Z\nDTEND:20261201T070000Z",
        "DTSTART:20261201T080000Z\nDURATION:PT1H\nRRULE:FREQ=SECONDLY",
        "DTSTART:20261201T080000Z\nDURATION:PT1H\nSTATUS:CANCELLED",
    ] {
        let found = berlin(&event(lines)).unwrap();
        assert_eq!((found.entries.len(), found.left_out.len()), (0, 1), "{lines}");
        assert_eq!(found.left_out[0].summary, "Off");
    }
    assert!(berlin("").is_err());
    assert!(import("hello", Tz::UTC, now()).is_err());
    let deep = "BEGIN:VEVENT\r\n".repeat(50_000);
    assert!(import(&deep, Tz::UTC, now()).unwrap_err().0.contains("deep"));
}

proptest! {
    #[test]
    fn no_text_brings_it_down(
        lines in prop::collection::vec("(DTSTART|DTEND|RRULE|EXDATE|DURATION|SUMMARY)[;:=A-Z0-9,TZ-]{0,40}", 0..8),
        junk in "\\PC{0,80}",
    ) {
        let _ = berlin(&event(&lines.join("\n")));
        let _ = import(&junk, Tz::UTC, now());
    }
}

use chrono::Timelike;
use proptest::prelude::*;

use super::*;
use crate::domain::Timestamp;

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn calendar(timezone: &str, entries: Vec<CalendarEntry>) -> CalendarDefinition {
    CalendarDefinition {
        name: "c".to_owned(),
        description: None,
        timezone: timezone.to_owned(),
        entries,
    }
}

fn date(text: &str, yearly: bool) -> CalendarEntry {
    CalendarEntry::Date { date: text.parse().unwrap(), yearly, note: None }
}

/// The answer without any cleverness.
fn model(definition: &CalendarDefinition, at: i64) -> bool {
    let zone: Tz = definition.timezone.parse().unwrap();
    let utc = DateTime::from_timestamp(at, 0).unwrap();
    let local = utc.with_timezone(&zone);
    let day = local.date_naive();
    let second = local.num_seconds_from_midnight();
    let week_day = WeekDay::ALL[usize::try_from(local.weekday().num_days_from_sunday()).unwrap()];
    definition.entries.iter().any(|entry| match entry {
        CalendarEntry::Date { date, yearly: false, .. } => *date == day,
        CalendarEntry::Date { date, .. } => {
            date.month() == day.month() && date.day() == day.day() && date.year() <= day.year()
        }
        CalendarEntry::Range { from, to, .. } => *from <= day && day <= *to,
        CalendarEntry::Weekly { days, from, to, .. } => {
            days.contains(&week_day) && *from <= second && second < *to
        }
        CalendarEntry::Span { from, to, .. } => *from <= utc && utc < *to,
    })
}

#[test]
fn cases_of_coverage() {
    let entries = vec![
        date("2026-12-25", true),
        date("2027-01-06", false),
        CalendarEntry::Range {
            from: "2026-08-03".parse().unwrap(),
            to: "2026-08-21".parse().unwrap(),
            note: None,
        },
        CalendarEntry::Weekly {
            days: vec![WeekDay::Saturday, WeekDay::Sunday],
            from: 0,
            to: 86_400,
            note: None,
        },
        CalendarEntry::Span {
            from: instant("2026-11-24T10:00:00Z"),
            to: instant("2026-11-24T10:30:00Z"),
            note: None,
        },
    ];
    let definition = calendar("Europe/Berlin", entries);
    let coverage = Coverage::of(&definition);
    for (at, covers) in [
        ("2026-12-24T22:59:59Z", false),
        ("2026-12-24T23:00:00Z", true),
        ("2031-12-25T12:00:00Z", true),
        ("2025-12-25T12:00:00Z", false),
        ("2027-01-06T12:00:00Z", true),
        ("2028-01-06T12:00:00Z", false),
        ("2026-08-21T21:59:59Z", true),
        ("2026-08-24T00:00:00Z", false),
        ("2026-11-20T22:59:59Z", false),
        ("2026-11-20T23:00:00Z", true),
        ("2026-11-24T10:29:59Z", true),
        ("2026-11-24T10:30:00Z", false),
    ] {
        assert_eq!(coverage.piece_at(instant(at).timestamp()).covers, covers, "{at}");
        assert_eq!(model(&definition, instant(at).timestamp()), covers, "{at}");
    }
}

fn entries() -> impl Strategy<Value = Vec<CalendarEntry>> {
    let day = || {
        (0_i64..800)
            .prop_map(|day| NaiveDate::default() + chrono::Days::new(20_400 + day.unsigned_abs()))
    };
    let entry = prop_oneof![
        (day(), any::<bool>()).prop_map(|(date, yearly)| CalendarEntry::Date {
            date,
            yearly,
            note: None
        }),
        (day(), 0_u64..20).prop_map(|(from, days)| CalendarEntry::Range {
            from,
            to: from + chrono::Days::new(days),
            note: None
        }),
        (prop::sample::subsequence(WeekDay::ALL.to_vec(), 1..4), 0_u32..86_400, 1_u32..40_000)
            .prop_map(|(days, from, length)| CalendarEntry::Weekly {
                days,
                from,
                to: (from + length).min(86_400),
                note: None
            }),
        (0_i64..70_000_000, 1_i64..200_000).prop_map(|(from, length)| CalendarEntry::Span {
            from: DateTime::from_timestamp(1_762_560_000 + from, 0).unwrap(),
            to: DateTime::from_timestamp(1_762_560_000 + from + length, 0).unwrap(),
            note: None
        }),
    ];
    prop::collection::vec(entry, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_piece_holds_for_all_of_its_seconds_and_no_answer_is_wrong(
        entries in entries(),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana"]),
        start in 1_762_560_000_i64..1_830_000_000,
        probes in prop::collection::vec(0.0_f64..1.0, 8),
    ) {
        let definition = calendar(zone, entries);
        let coverage = Coverage::of(&definition);
        let mut at = start;
        for _ in 0..12 {
            let piece = coverage.piece_at(at);
            prop_assert!(piece.from <= at && at < piece.until);
            let length = piece.until - piece.from;
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a day at most")]
            let inner = probes.iter().map(|part| piece.from + (length as f64 * part) as i64);
            for second in inner.chain([piece.from, piece.until - 1]) {
                prop_assert_eq!(model(&definition, second), piece.covers, "{} in {:?}", second, piece);
            }
            at = piece.until;
        }
    }
}

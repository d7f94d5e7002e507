use chrono::{NaiveDate, TimeDelta};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::cadence::{ClockChange, ParseContext};
use crate::domain::calendar::{CalendarDefinition, CalendarEntry, WeekDay};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(expression: &str, zone: &str) -> Cadence {
    let context = ParseContext { created_at: Timestamp::UNIX_EPOCH, default_zone: zone.to_owned() };
    Cadence::parse("cron", &json!({ "cron": expression }), &context).unwrap()
}

fn rule(mode: CalendarMode, zone: &str, entries: Vec<CalendarEntry>) -> CalendarRule {
    let definition = CalendarDefinition {
        name: "holidays".to_owned(),
        description: None,
        timezone: zone.to_owned(),
        entries,
    };
    let coverage = Arc::new(Coverage::of(&definition));
    CalendarRule { name: definition.name, mode, coverage }
}

fn weekend() -> CalendarEntry {
    let days = vec![WeekDay::Saturday, WeekDay::Sunday];
    CalendarEntry::Weekly { days, from: 0, to: 86_400, note: None }
}

fn date(text: &str) -> CalendarEntry {
    CalendarEntry::Date { date: text.parse().unwrap(), yearly: false, note: None }
}

/// Mondays to Fridays without Christmas, in Berlin.
fn business(on_excluded: OnExcluded, expression: &str) -> Cadence {
    let entries = vec![weekend(), date("2026-12-25"), date("2026-12-24")];
    let rules = vec![rule(CalendarMode::Exclude, "Europe/Berlin", entries)];
    cron(expression, "Europe/Berlin").under(rules, on_excluded)
}

#[test]
fn cases_of_excluded_days() {
    let list = |cadence: &Cadence| -> Vec<String> {
        let found = cadence.instants_between(at("2026-12-22T12:00:00Z"), Timestamp::MAX_UTC, 4);
        found.iter().map(|at| at.format("%d %H:%M").to_string()).collect()
    };
    let skip = business(OnExcluded::Skip, "0 9 * * *");
    assert_eq!(list(&skip), ["23 08:00", "28 08:00", "29 08:00", "30 08:00"]);
    let taken = skip.left_out(at("2026-12-23T08:00:00Z"), at("2026-12-28T08:00:00Z"));
    assert_eq!(taken.len(), 1);
    assert_eq!(
        (taken[0].from, taken[0].to),
        (at("2026-12-24T08:00:00Z"), at("2026-12-27T08:00:00Z"))
    );
    assert_eq!((taken[0].count, taken[0].reason), (4, LedgerReason::Calendar));
    // The 24th to the 27th move to the 28th, which runs once.
    let next = business(OnExcluded::NextBusinessDay, "0 9 * * *");
    assert_eq!(list(&next), ["23 08:00", "28 08:00", "29 08:00", "30 08:00"]);
    assert!(next.left_out(at("2026-12-01T08:00:00Z"), at("2026-12-31T08:00:00Z")).is_empty());
    // A monthly one moves and keeps its local time.
    let monthly = business(OnExcluded::NextBusinessDay, "30 17 25 * *");
    assert_eq!(list(&monthly)[..2], ["28 16:30", "25 16:30"]);
    let monthly = business(OnExcluded::PreviousBusinessDay, "30 17 26 * *");
    assert_eq!(list(&monthly)[..2], ["23 16:30", "26 16:30"]);
}

#[test]
fn only_what_is_included_runs() {
    let office = CalendarEntry::Weekly {
        days: vec![WeekDay::Monday],
        from: 9 * 3_600,
        to: 10 * 3_600,
        note: None,
    };
    let rules = vec![
        rule(CalendarMode::Include, "UTC", vec![office]),
        rule(CalendarMode::Exclude, "UTC", vec![date("2026-11-23")]),
    ];
    let cadence = cron("*/20 * * * *", "UTC").under(rules, OnExcluded::Skip);
    let found = cadence.instants_between(at("2026-11-21T00:00:00Z"), Timestamp::MAX_UTC, 4);
    let found: Vec<String> = found.iter().map(|at| at.format("%m-%d %H:%M").to_string()).collect();
    assert_eq!(found, ["11-30 09:00", "11-30 09:20", "11-30 09:40", "12-07 09:00"]);
}

#[test]
fn what_is_always_excluded_is_never_due_and_that_is_found_quickly() {
    let always =
        CalendarEntry::Weekly { days: WeekDay::ALL.to_vec(), from: 0, to: 86_400, note: None };
    let rules = vec![rule(CalendarMode::Exclude, "Europe/Berlin", vec![always])];
    for on_excluded in OnExcluded::ALL {
        let cadence = cron("0 0 * * *", "UTC").under(rules.clone(), *on_excluded);
        assert_eq!(cadence.next_after(at("2026-11-21T00:00:00Z")), None);
    }
}

#[test]
fn a_year_of_excluded_seconds_is_counted_by_pieces() {
    let cadence = business(OnExcluded::Skip, "* * * * * *");
    let (from, to) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    let taken: i64 = cadence.left_out(from, to).iter().map(|range| range.count).sum();
    let kept = i64::try_from(cadence.count_between(from, to)).unwrap();
    assert_eq!(taken + kept, 365 * 86_400);
    assert_eq!(
        cadence.last_at_or_before(at("2026-11-22T20:00:00Z"), from),
        Some(at("2026-11-20T22:59:59Z"))
    );
}

/// What runs, from a walk over the grid.
fn model(cadence: &Cadence, after: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
    let Cadence::Ruled(ruled) = cadence else { panic!("no calendar") };
    let reach = TimeDelta::days(40);
    let grid = ruled.grid.instants_between(after - reach, until + reach, usize::MAX);
    let moved = grid.into_iter().filter_map(|at| {
        if ruled.lets(at) {
            return Some(at);
        }
        let step = match ruled.on_excluded {
            OnExcluded::Skip => return None,
            OnExcluded::NextBusinessDay => 1,
            OnExcluded::PreviousBusinessDay => -1,
        };
        // In UTC, where local days are days.
        (1..=31).map(|days| at + TimeDelta::days(days * step)).find(|at| ruled.lets(*at))
    });
    moved.filter(|at| *at > after && *at <= until).collect()
}

fn entries() -> impl Strategy<Value = Vec<CalendarEntry>> {
    let first: NaiveDate = "2026-01-01".parse().unwrap();
    let entry = prop_oneof![
        (0_u64..120).prop_map(move |day| CalendarEntry::Date {
            date: first + chrono::Days::new(day),
            yearly: false,
            note: None
        }),
        (0_u64..120, 0_u64..12).prop_map(move |(day, days)| CalendarEntry::Range {
            from: first + chrono::Days::new(day),
            to: first + chrono::Days::new(day + days),
            note: None
        }),
        (prop::sample::subsequence(WeekDay::ALL.to_vec(), 1..3), 0_u32..80_000, 1_u32..80_000)
            .prop_map(|(days, from, length)| CalendarEntry::Weekly {
                days,
                from,
                to: (from + length).min(86_400),
                note: None
            }),
    ];
    prop::collection::vec(entry, 1..5)
}

/// Minutes after New Year 2026, most of them on the day before a clock change of the zones below.
fn starts() -> impl Strategy<Value = i64> {
    let days = prop::sample::select(vec![65_i64, 86, 93, 150, 275, 296, 303]);
    (days, 0_i64..1_440).prop_map(|(day, minute)| day * 1_440 + minute)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_answer_agrees_with_a_walk_over_the_grid(
        entries in entries(),
        mode in prop::sample::select(CalendarMode::ALL.to_vec()),
        on_excluded in prop::sample::select(OnExcluded::ALL.to_vec()),
        expression in prop::sample::select(vec!["0 9 * * *", "30 */6 * * *", "15 0 1,15 * *", "0 12 * * 1-5"]),
        from_hours in 0_i64..2_000,
        hours in 1_i64..800,
    ) {
        let rules = vec![rule(mode, "UTC", entries)];
        let cadence = cron(expression, "UTC").under(rules, on_excluded);
        let from = at("2026-01-01T00:30:00Z") + TimeDelta::hours(from_hours);
        let until = from + TimeDelta::hours(hours);
        let wanted: Vec<Timestamp> = model(&cadence, from, until).into_iter().collect();
        prop_assert_eq!(&cadence.instants_between(from, until, usize::MAX), &wanted);
        prop_assert_eq!(cadence.count_between(from, until), wanted.len() as u64);
        prop_assert_eq!(cadence.last_at_or_before(until, from + TICK), wanted.last().copied());
        let next = cadence.next_after(from).filter(|at| *at <= until);
        prop_assert_eq!(next, wanted.first().copied());
        if on_excluded == OnExcluded::Skip {
            let taken: i64 = cadence.left_out(from, until).iter().map(|range| range.count).sum();
            let grid = cadence.grid().count_between(from, until);
            prop_assert_eq!(taken + i64::try_from(wanted.len()).unwrap(), i64::try_from(grid).unwrap());
        }
    }

    /// The words of `clockChange` against a walk over the wall clock, second by second of minutes.
    #[test]
    fn clock_changes_agree_with_a_walk_over_the_wall_clock(
        zone in prop::sample::select(vec!["Europe/Berlin", "Australia/Lord_Howe", "America/Havana"]),
        expression in prop::sample::select(vec!["*/5 * * * *", "30 2 * * *", "15,45 1-3 * * *", "0 */1 * * *", "59 0 * * *"]),
        policy in prop::sample::select(vec![ClockChange::Skip, ClockChange::RunOnce]),
        start_minutes in starts(),
    ) {
        let cadence = cron(expression, zone).with_clock_change(policy);
        let from = at("2026-01-01T00:00:00Z") + TimeDelta::minutes(start_minutes);
        let until = from + TimeDelta::hours(30);
        let tz: chrono_tz::Tz = zone.parse().unwrap();
        // The wall's minutes as UTC, where no clock changes: what the expression matches.
        let utc = cron(expression, "UTC");
        let matches = |wall: Timestamp| utc.next_after(wall - TICK) == Some(wall);
        let wall = |at: Timestamp| at.with_timezone(&tz).naive_local().and_utc();
        let mut shown = from - TimeDelta::hours(3);
        let mut seen = wall(shown);
        let (mut wanted, mut twice, mut lost) = (Vec::new(), 0_i64, 0_i64);
        while shown < until {
            shown += TimeDelta::minutes(1);
            let now = wall(shown);
            let in_span = shown > from;
            if now <= seen {
                let counts = in_span && matches(now) && expression.contains('*') && (expression.starts_with('*') || expression.contains(" */"));
                twice += i64::from(counts);
                continue;
            }
            let mut reached = false;
            let mut skipped = seen + TimeDelta::minutes(1);
            while skipped < now {
                if matches(skipped) {
                    reached = true;
                    lost += i64::from(in_span);
                }
                skipped += TimeDelta::minutes(1);
            }
            seen = now;
            let runs = matches(now) || (reached && policy == ClockChange::RunOnce);
            if in_span && runs {
                wanted.push(shown);
            }
        }
        prop_assert_eq!(&cadence.instants_between(from, until, usize::MAX), &wanted);
        prop_assert_eq!(cadence.count_between(from, until), wanted.len() as u64);
        let told: i64 = cadence.left_out(from, until).iter().map(|range| range.count).sum();
        let lost = if policy == ClockChange::Skip { lost } else { 0 };
        prop_assert_eq!(told, lost + twice);
    }
}

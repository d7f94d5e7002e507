//! Fixed times against `croner` (Rust), which also knows `W` and names with `L`.
//!
//! Left out by construction: fields that start with `*` next to a restricted one in the day fields
//! (croner matches either), `5/15`, and the instants of a repeated hour, from which croner counts
//! on in another way.

use std::str::FromStr;
use std::sync::Arc;

use carillon::domain::cadence::{Cadence, CalendarRule, ParseContext};
use carillon::domain::calendar::{
    CalendarDefinition, CalendarEntry, CalendarMode, Coverage, OnExcluded, WeekDay,
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use serde_json::json;

use super::cases::{self, Random};

const CASES: usize = 3_000;
const COUNT: usize = 5;
const DAYS: [&str; 16] = [
    "* * *",
    "L * *",
    "LW * *",
    "15W * *",
    "1W * *",
    "31W * *",
    "29 2 *",
    "1-7 * *",
    "13 * FRI",
    "* * 1-5",
    "* * FRIL",
    "* * 0L",
    "* * 1#2",
    "* 10 SUN#5",
    "31 * *",
    "* 3,10 SUN",
];

#[test]
fn fixed_times_agree_with_croner() {
    let mut random = Random(7);
    let zones = cases::zones();
    let mut differences = Vec::new();
    for _ in 0..CASES {
        let (zone, changes) = random.pick(&zones);
        let (minute, hour) = (random.below(60), random.below(24));
        let days = random.pick(&DAYS);
        let expression = format!("{minute} {hour} {days}");
        let mut start = cases::start(&mut random, changes);
        while cases::is_second_pass(changes, start) {
            start = cases::start(&mut random, changes);
        }
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let (ours, theirs) = (ours(&expression, *zone, start), theirs(&expression, *zone, start));
        if ours != theirs {
            differences.push(format!("{expression} {zone} {start}\n {ours:?}\n {theirs:?}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// An `H` is read as its value, and that value is asked of the other library.
#[test]
fn what_an_h_stands_for_agrees_with_croner() {
    let mut random = Random(11);
    let zones = cases::zones();
    let forms = ["H", "H(5-40)", "H/20", "H(0-29)/10"];
    let mut differences = Vec::new();
    for case in 0..CASES {
        let (zone, changes) = random.pick(&zones);
        let minute = random.pick(&forms);
        let hour = random.pick(&["H", "H(1-5)", "H/8", "3"]);
        let days = random.pick(&["* * *", "H * *", "* * H", "L * *"]);
        let expression = format!("{minute} {hour} {days}");
        let mut start = cases::start(&mut random, changes);
        while cases::is_second_pass(changes, start) {
            start = cases::start(&mut random, changes);
        }
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let config = json!({ "cron": expression, "hashKey": format!("job-{case}") });
        let context = ParseContext { created_at: start, default_zone: zone.name().to_owned() };
        let Ok(cadence @ Cadence::Cron(_)) = Cadence::parse("cron", &config, &context) else {
            panic!("{expression}")
        };
        let Cadence::Cron(cron) = &cadence else { continue };
        let resolved = cron.resolved();
        let resolved = resolved.strip_prefix("0 ").unwrap();
        assert!(!resolved.contains('H'), "{resolved}");
        let mut ours = cadence.instants_between(start, DateTime::<Utc>::MAX_UTC, COUNT);
        let mut theirs = theirs(resolved, *zone, start);
        // A range with a step runs in both comings of a repeated hour there, and in the first here.
        theirs.retain(|due| !cases::is_second_pass(changes, due.timestamp()));
        // Such a range does not run for what the clock jumps over there, and runs after it here.
        ours.retain(|due| {
            theirs.contains(due) || changes.iter().all(|change| change.at != due.timestamp())
        });
        ours.truncate(theirs.len());
        theirs.truncate(ours.len());
        if ours != theirs {
            differences
                .push(format!("{expression} {resolved} {zone} {start}\n {ours:?}\n {theirs:?}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// A calendar that takes days of the week away, or lets them alone through, leaves what the other
/// library finds for those days. Where clocks change at midnight an instant moves to the next day,
/// which each side may judge by either day: those zones are left out.
#[test]
fn days_of_a_calendar_agree_with_the_days_of_an_expression() {
    const ALL: [WeekDay; 7] = [
        WeekDay::Sunday,
        WeekDay::Monday,
        WeekDay::Tuesday,
        WeekDay::Wednesday,
        WeekDay::Thursday,
        WeekDay::Friday,
        WeekDay::Saturday,
    ];
    let plain = [chrono_tz::Europe::Berlin, chrono_tz::America::New_York, chrono_tz::UTC];
    let mut random = Random(13);
    let zones = cases::zones();
    let zones: Vec<_> = zones.into_iter().filter(|(zone, _)| plain.contains(zone)).collect();
    assert!(zones.len() > 1, "no zone is left");
    let mut differences = Vec::new();
    for _ in 0..CASES {
        let (zone, changes) = random.pick(&zones);
        let mask = 1 + random.below(126);
        let picked: Vec<usize> = (0..7).filter(|day| mask & (1 << day) != 0).collect();
        let expression = format!("{} {} * * ", random.below(60), random.below(24));
        let mut start = cases::start(&mut random, changes);
        while cases::is_second_pass(changes, start) {
            start = cases::start(&mut random, changes);
        }
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let mode = *random.pick(&[CalendarMode::Include, CalendarMode::Exclude]);
        let covered = |day: &usize| picked.contains(day) == (mode == CalendarMode::Include);
        let days = (0..7).filter(covered).map(|day| ALL[day]).collect();
        let definition = CalendarDefinition {
            name: "days".to_owned(),
            description: None,
            timezone: zone.name().to_owned(),
            entries: vec![CalendarEntry::Weekly { days, from: 0, to: 86_400, note: None }],
        };
        let coverage = Arc::new(Coverage::of(&definition));
        let rule = CalendarRule { name: definition.name, mode, coverage };
        let context = ParseContext { created_at: start, default_zone: zone.name().to_owned() };
        let config = json!({ "cron": format!("{expression}*") });
        let grid = Cadence::parse("cron", &config, &context).unwrap();
        let ruled = grid.under(vec![rule], OnExcluded::Skip);
        let ours = ruled.instants_between(start, DateTime::<Utc>::MAX_UTC, COUNT);
        let picked: Vec<String> = picked.iter().map(usize::to_string).collect();
        let theirs = theirs(&format!("{expression}{}", picked.join(",")), *zone, start);
        if ours != theirs {
            differences
                .push(format!("{expression}{picked:?} {zone} {start}\n {ours:?}\n {theirs:?}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

fn ours(expression: &str, zone: Tz, start: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let context = ParseContext { created_at: start, default_zone: zone.name().to_owned() };
    let cadence = Cadence::parse("cron", &json!({ "cron": expression }), &context).unwrap();
    cadence.instants_between(start, DateTime::<Utc>::MAX_UTC, COUNT)
}

fn theirs(expression: &str, zone: Tz, start: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let cron = Cron::from_str(expression).unwrap();
    let start = start.with_timezone(&zone);
    cron.iter_after(start).take(COUNT).map(|due| due.with_timezone(&Utc)).collect()
}

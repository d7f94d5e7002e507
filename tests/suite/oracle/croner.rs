//! Fixed times against `croner` (Rust), which also knows `W` and names with `L`.
//!
//! Left out by construction: fields that start with `*` next to a restricted one in the day fields
//! (croner matches either), `5/15`, and the instants of a repeated hour, from which croner counts
//! on in another way.

use std::str::FromStr;

use carillon::domain::cadence::{Cadence, ParseContext};
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

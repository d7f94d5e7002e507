//! The nasty cases by name, and the laws of a cadence on random ones.

use chrono::{DateTime, TimeDelta};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::str::FromStr;

use super::*;

fn context() -> ParseContext {
    ParseContext { created_at: at("2026-11-21T00:00:00Z"), default_zone: "UTC".to_owned() }
}

fn at(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn cron(expression: &str, zone: &str) -> Cadence {
    let config = json!({ "cron": expression, "timezone": zone });
    Cadence::parse("cron", &config, &context()).unwrap()
}

fn faults(schedule_type: &str, config: &Value) -> Vec<Fault> {
    Cadence::parse(schedule_type, config, &context()).unwrap_err()
}

/// Expression, zone, start, and the instants that follow, all as the wall of the zone with its
/// offset.
const NASTY: &[(&str, &str, &str, &[&str])] = &[
    // A time in the gap: the first instant after it; several fall together.
    (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
    ),
    (
        "0,15,30 2,3 * * *",
        "Europe/Berlin",
        "2026-03-29T00:00:00+01:00",
        &[
            "2026-03-29T03:00:00+02:00",
            "2026-03-29T03:15:00+02:00",
            "2026-03-29T03:30:00+02:00",
            "2026-03-30T02:00:00+02:00",
        ],
    ),
    ("0 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", &["2026-03-29T03:00:00+02:00"]),
    // A repeated time: its first coming, also when asked from within the second pass.
    (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00+02:00",
        &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
    ),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:10:00+01:00", &["2026-10-26T02:30:00+01:00"]),
    // Real minutes: nothing in the gap, both passes of the repeated hour.
    (
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T01:30:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"],
    ),
    ("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", &["2026-03-30T02:00:00+02:00"]),
    (
        "*/30 2 * * *",
        "Europe/Berlin",
        "2026-10-25T00:00:00+02:00",
        &[
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-26T02:00:00+01:00",
        ],
    ),
    (
        "15 * * * *",
        "America/New_York",
        "2026-11-01T00:30:00-04:00",
        &["2026-11-01T01:15:00-04:00", "2026-11-01T01:15:00-05:00", "2026-11-01T02:15:00-05:00"],
    ),
    // Midnight gaps.
    (
        "@daily",
        "America/Sao_Paulo",
        "2018-11-03T12:00:00-03:00",
        &["2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"],
    ),
    (
        "30 0 * * FRI",
        "Africa/Cairo",
        "2026-04-20T00:00:00+02:00",
        &["2026-04-24T01:00:00+03:00", "2026-05-01T00:30:00+03:00"],
    ),
    (
        "*/20 0,1 * * FRI",
        "Africa/Cairo",
        "2026-04-20T00:00:00+02:00",
        &[
            "2026-04-24T01:00:00+03:00",
            "2026-04-24T01:20:00+03:00",
            "2026-04-24T01:40:00+03:00",
            "2026-05-01T00:00:00+03:00",
        ],
    ),
    ("0 0 * * *", "America/Havana", "2026-03-07T12:00:00-05:00", &["2026-03-08T01:00:00-04:00"]),
    (
        "0 23 * * *",
        "America/Sao_Paulo",
        "2018-02-17T12:00:00-02:00",
        &["2018-02-17T23:00:00-02:00", "2018-02-18T23:00:00-03:00"],
    ),
    // Half an hour.
    (
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00:00+10:30",
        &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
    ),
    (
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T12:00:00+11:00",
        &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
    ),
    (
        "*/15 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-05T00:00:00+11:00",
        &[
            "2026-04-05T01:00:00+11:00",
            "2026-04-05T01:15:00+11:00",
            "2026-04-05T01:30:00+11:00",
            "2026-04-05T01:45:00+11:00",
            "2026-04-05T01:30:00+10:30",
            "2026-04-05T01:45:00+10:30",
        ],
    ),
    (
        "*/15 5 * * *",
        "Australia/Lord_Howe",
        "2026-10-04T00:00:00+10:30",
        &["2026-10-04T05:00:00+11:00", "2026-10-04T05:15:00+11:00"],
    ),
    // A day that does not exist.
    (
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00-10:00",
        &["2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"],
    ),
    ("*/30 12 30 * *", "Pacific/Apia", "2011-12-29T00:00:00-10:00", &["2012-01-30T12:00:00+14:00"]),
    // Two hours; a month of Ramadan; standard time moved; one minute past midnight.
    (
        "30 1 * * *",
        "Antarctica/Troll",
        "2026-03-28T12:00:00+00:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T01:30:00+02:00"],
    ),
    (
        "30 2 * * *",
        "Antarctica/Troll",
        "2026-10-25T00:00:00+02:00",
        &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+00:00"],
    ),
    (
        "30 2 * * SUN",
        "Africa/Casablanca",
        "2026-02-14T12:00:00+01:00",
        &["2026-02-15T02:30:00+01:00", "2026-02-22T02:30:00+00:00"],
    ),
    (
        "30 2 22 3 *",
        "Africa/Casablanca",
        "2026-03-01T00:00:00+00:00",
        &["2026-03-22T03:00:00+01:00"],
    ),
    ("15 0 * * *", "Asia/Pyongyang", "2018-05-04T12:00:00+08:30", &["2018-05-05T00:15:00+09:00"]),
    ("30 0 * * *", "America/St_Johns", "2011-03-12T12:00:00-03:30", &["2011-03-13T01:01:00-02:30"]),
    (
        "30 23 * * *",
        "America/St_Johns",
        "2010-11-06T12:00:00-02:30",
        &["2010-11-06T23:30:00-02:30", "2010-11-07T23:30:00-03:30"],
    ),
    // Day fields.
    (
        "0 0 13 * FRI",
        "UTC",
        "2026-11-01T00:00:00Z",
        &["2026-11-06T00:00:00Z", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"],
    ),
    (
        "0 0 */13 * FRI",
        "UTC",
        "2026-11-01T00:00:00Z",
        &["2026-11-27T00:00:00Z", "2027-01-01T00:00:00Z"],
    ),
    (
        "0 0 13 * */5",
        "UTC",
        "2026-11-01T00:00:00Z",
        &["2026-11-13T00:00:00Z", "2026-12-13T00:00:00Z"],
    ),
    ("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]),
    ("0 0 29 2 */7", "UTC", "2089-01-01T00:00:00Z", &["2128-02-29T00:00:00Z"]),
    ("0 0 * * 7", "UTC", "2026-11-21T00:00:00Z", &["2026-11-22T00:00:00Z"]),
    (
        "0 0 * * 5-7",
        "UTC",
        "2026-11-19T00:00:00Z",
        &[
            "2026-11-20T00:00:00Z",
            "2026-11-21T00:00:00Z",
            "2026-11-22T00:00:00Z",
            "2026-11-27T00:00:00Z",
        ],
    ),
    ("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"]),
    ("0 0 LW * *", "UTC", "2026-05-01T00:00:00Z", &["2026-05-29T00:00:00Z"]),
    (
        "0 0 15W * *",
        "UTC",
        "2026-08-01T00:00:00Z",
        &["2026-08-14T00:00:00Z", "2026-09-15T00:00:00Z"],
    ),
    ("0 0 * * FRIL", "UTC", "2026-11-01T00:00:00Z", &["2026-11-27T00:00:00Z"]),
    ("0 0 * * 5l", "UTC", "2026-11-01T00:00:00Z", &["2026-11-27T00:00:00Z"]),
    (
        "0 0 * * MON#2,1#5",
        "UTC",
        "2026-11-01T00:00:00Z",
        &["2026-11-09T00:00:00Z", "2026-11-30T00:00:00Z"],
    ),
    // Steps, seconds, shorthands.
    (
        "5/20 0 1 1 *",
        "UTC",
        "2026-11-01T00:00:00Z",
        &[
            "2027-01-01T00:05:00Z",
            "2027-01-01T00:25:00Z",
            "2027-01-01T00:45:00Z",
            "2028-01-01T00:05:00Z",
        ],
    ),
    (
        "*/90 0 1 1 *",
        "UTC",
        "2026-11-01T00:00:00Z",
        &["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"],
    ),
    (
        "*/25 59 23 31 12 *",
        "UTC",
        "2026-12-31T23:59:25Z",
        &["2026-12-31T23:59:50Z", "2027-12-31T23:59:00Z"],
    ),
    ("@hourly", "Asia/Kathmandu", "2026-11-21T00:00:00+05:45", &["2026-11-21T01:00:00+05:45"]),
    ("@weekly", "UTC", "2026-11-21T00:00:00Z", &["2026-11-22T00:00:00Z"]),
];

#[test]
fn nasty_cases_run_when_the_rules_say() {
    for (expression, zone, start, expected) in NASTY {
        let cadence = cron(expression, zone);
        let tz = Tz::from_str(zone).unwrap();
        let due = cadence.instants_between(at(start), Timestamp::MAX_UTC, expected.len());
        let due: Vec<String> = due
            .iter()
            .map(|due| due.with_timezone(&tz).to_rfc3339().replace("+00:00", "Z"))
            .collect();
        let expected: Vec<String> =
            expected.iter().map(|text| text.replace("+00:00", "Z")).collect();
        assert_eq!(due, expected, "{expression} in {zone} after {start}");
    }
}

#[test]
fn a_broken_expression_is_answered_with_its_field_and_the_cure() {
    for (expression, field, cure) in [
        ("60 * * * *", "minute", "0-59"),
        ("* 24 * * *", "hour", "0-23"),
        ("* * 0 * *", "day-of-month", "1-31"),
        ("* * * 13 *", "month", "1-12"),
        ("* * * * 8", "day-of-week", "0-7"),
        ("61 * * * * *", "second", "0-59"),
        ("* 22-2 * * *", "hour", "22-23,0-2"),
        ("* * * * FRI-SUN", "day-of-week", "5-7"),
        ("* * * * FRI-MON", "day-of-week", "5-6,0-1"),
        ("*/0 * * * *", "minute", "at least 1"),
        ("*/x * * * *", "minute", "such as `*/5`"),
        ("1,,2 * * * *", "minute", "each side of a comma"),
        ("-5 * * * *", "minute", "not a number"),
        ("+5 * * * *", "minute", "not a number"),
        ("* * ? * *", "day-of-month", "`*`"),
        ("* * * * MONDAY", "day-of-week", "did you mean MON"),
        ("* * * * MNO", "day-of-week", "did you mean MON"),
        ("* * * 1L *", "month", "neither a number"),
        ("* * * * L", "day-of-week", "5L"),
        ("* * 5L * *", "day-of-month", "day-of-week field"),
        ("* * 1#2 * *", "day-of-month", "day-of-week"),
        ("* * W * *", "day-of-month", "15W"),
        ("* * * * 1#6", "day-of-week", "1 to 5"),
        ("* * L-3 * *", "day-of-month", "stands alone"),
        ("0 0 30 2 *", "can never run", "choose a day"),
        ("0 0 31 4,6,9,11 *", "can never run", "choose a day"),
        ("* * * *", "found 4", "minute, hour"),
        ("* * * * * * 2030", "found 7", "endAt"),
        ("", "found 0", "0 2 * * *"),
        ("@reboot", "@reboot", "one_time"),
        ("@every 5m", "@every", "intervalMs"),
        ("@sometimes", "@sometimes", "@daily"),
        ("TZ=UTC 0 0 * * *", "zone", "timezone"),
        ("99999999999999999999 * * * *", "minute", "0-59"),
        ("٣ * * * *", "minute", "not a number"),
    ] {
        let found = faults("cron", &json!({ "cron": expression }));
        assert_eq!(
            (found[0].field.as_str(), found[0].code),
            ("scheduleConfig.cron", "invalid_cron")
        );
        let message = &found[0].message;
        assert!(message.contains(field) && message.contains(cure), "{expression}: {message}");
    }
    assert_eq!(faults("cron", &json!({ "cron": "60 24 * 13 8" })).len(), 4);
}

#[test]
fn every_fault_of_a_config_is_found_at_once() {
    let codes = |schedule_type: &str, config: Value| -> Vec<(String, &'static str)> {
        faults(schedule_type, &config).into_iter().map(|f| (f.field, f.code)).collect()
    };
    let fault = |field: &str, code| (field.to_owned(), code);
    assert_eq!(
        codes("cron", json!({"cron": "61 * * * *", "timezone": "Europe/Berln", "crn": 1})),
        [
            fault("scheduleConfig.crn", "unknown_field"),
            fault("scheduleConfig.timezone", "invalid_value"),
            fault("scheduleConfig.cron", "invalid_cron"),
        ]
    );
    assert_eq!(codes("cron", json!({})), [fault("scheduleConfig.cron", "required")]);
    assert_eq!(codes("cron", json!({"cron": 5})), [fault("scheduleConfig.cron", "invalid_type")]);
    assert_eq!(codes("cron", json!("* * * * *")), [fault("scheduleConfig", "invalid_type")]);
    assert_eq!(
        codes("interval", json!({"intervalMs": 99, "anchor": "today"})),
        [
            fault("scheduleConfig.anchor", "invalid_value"),
            fault("scheduleConfig.intervalMs", "out_of_range"),
        ]
    );
    assert_eq!(codes("interval", json!({"intervalMs": 1.5}))[0].1, "invalid_type");
    assert_eq!(codes("interval", json!({"intervalMs": -5}))[0].1, "out_of_range");
    assert_eq!(codes("one_time", json!({}))[0], fault("scheduleConfig.runAt", "required"));
    assert_eq!(codes("one_time", json!({"runAt": "2026-11-21T02:00:00"}))[0].1, "invalid_value");
    assert_eq!(codes("event", json!({}))[0], fault("scheduleConfig.on", "required"));
    assert_eq!(codes("hourly", json!({}))[0], fault("scheduleType", "invalid_value"));
    let hint = &faults("cron", &json!({"cron": "* * * * *", "timezon": "UTC"}))[0].message;
    assert!(hint.contains("did you mean `timezone`"), "{hint}");
    let zone =
        &faults("cron", &json!({"cron": "* * * * *", "timezone": "europe/berlin"}))[0].message;
    assert!(zone.contains("did you mean \"Europe/Berlin\""), "{zone}");
}

#[test]
fn the_plain_form_is_cron_in_words() {
    for (config, expression) in [
        (json!({"every": "hour"}), "00 *"),
        (json!({"every": "hour", "at": ":15"}), "15 * * * *"),
        (json!({"every": "day", "at": "02:00"}), "0 2 * * *"),
        (json!({"every": "day", "at": "02:00:30"}), "30 0 2 * * *"),
        (json!({"every": "week", "at": "2:05"}), "5 2 * * 1"),
        (json!({"every": "week", "on": ["Sat", "sunday", 3]}), "0 0 * * 6,0,3"),
        (json!({"every": "month"}), "0 0 1 * *"),
        (json!({"every": "month", "on": [15, "last"], "at": "12:00"}), "0 12 15,L * *"),
    ] {
        let Cadence::Cron(cron) = Cadence::parse("cron", &config, &context()).unwrap() else {
            panic!("{config}")
        };
        let expected = expression.replace("00 *", "0 * * * *");
        assert_eq!(cron.expression(), expected, "{config}");
    }
    for (config, field) in [
        (json!({"every": "year"}), "every"),
        (json!({"every": "day", "cron": "* * * * *"}), "every"),
        (json!({"every": "day", "on": "monday"}), "on"),
        (json!({"every": "day", "at": "24:00"}), "at"),
        (json!({"every": "hour", "at": "02:15"}), "at"),
        (json!({"every": "week", "on": "someday"}), "on"),
        (json!({"every": "month", "on": 32}), "on"),
        (json!({"every": "month", "on": []}), "on"),
        (json!({"cron": "* * * * *", "at": "02:00"}), "at"),
    ] {
        assert_eq!(faults("cron", &config)[0].field, format!("scheduleConfig.{field}"), "{config}");
    }
}

#[test]
fn a_description_says_what_the_expression_does() {
    for (expression, words) in [
        ("0 2 * * *", "Every day at 02:00"),
        ("* * * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("* * * * * *", "Every second"),
        ("*/10 * * * * *", "Every 10 seconds"),
        ("0 * * * *", "Every hour"),
        ("15 * * * *", "Every hour at :15"),
        ("0 */2 * * *", "Every 2 hours"),
        ("*/15 9-17 * * 1-5", "Every 15 minutes, in hours 9 to 17, every Monday to Friday"),
        ("0 9 * * MON-FRI", "Every Monday to Friday at 09:00"),
        ("0 9,18 * * 0", "Every Sunday at 09:00 and 18:00"),
        ("30 6 1 * *", "On day 1 of the month at 06:30"),
        ("0 0 L * *", "On the last day of the month at 00:00"),
        ("0 0 LW 3,6 *", "On the last weekday of the month in March and June at 00:00"),
        ("0 0 * * 1#2", "On the second Monday of the month at 00:00"),
        ("0 0 * * 5L", "On the last Friday of the month at 00:00"),
        ("0 0 13 * 5", "On day 13 of the month and every Friday at 00:00"),
        ("0 0 15W * *", "On the weekday nearest to day 15 of the month at 00:00"),
        ("0 0 1 1 *", "On day 1 of the month in January at 00:00"),
    ] {
        assert_eq!(
            cron(expression, "Europe/Berlin").describe(),
            format!("{words} (Europe/Berlin)")
        );
    }
    let every = |ms: u64| {
        Cadence::parse("interval", &json!({ "intervalMs": ms }), &context()).unwrap().describe()
    };
    assert_eq!(every(60_000), "Every minute");
    assert_eq!(every(5_400_250), "Every 1 hour 30 minutes 250 ms");
    let once =
        Cadence::parse("one_time", &json!({"runAt": "2026-11-21T03:00:00+01:00"}), &context());
    assert_eq!(once.unwrap().describe(), "Once at 2026-11-21T02:00:00.000Z");
}

#[test]
fn an_impossible_expression_is_refused() {
    assert!(Cadence::parse("cron", &json!({"cron": "0 0 30 2 *"}), &context()).is_err());
}

#[test]
fn looking_back_over_years_is_right() {
    let cadence = cron("* * * * * *", "Europe/Berlin");
    let (from, to) = (at("2006-01-01T00:00:00Z"), at("2026-01-01T00:00:00.750Z"));
    assert_eq!(cadence.last_at_or_before(to, from), Some(at("2026-01-01T00:00:00Z")));
    assert_eq!(cadence.count_between(from, to), (to - from).num_seconds().unsigned_abs());
    let yearly = cron("0 0 29 2 *", "UTC");
    assert_eq!(yearly.last_at_or_before(to, from), Some(at("2024-02-29T00:00:00Z")));
    assert_eq!(
        yearly.last_at_or_before(at("2024-02-29T00:00:00Z"), at("2024-02-29T00:00:00Z")),
        Some(at("2024-02-29T00:00:00Z"))
    );
    assert_eq!(
        yearly.last_at_or_before(at("2023-12-31T00:00:00Z"), at("2021-01-01T00:00:00Z")),
        None
    );
}

#[test]
fn the_end_of_time_is_an_end() {
    let cadence = cron("* * * * *", "Pacific/Apia");
    assert_eq!(cadence.next_after(at("9999-12-31T23:59:59Z")), None);
    assert_eq!(cadence.next_after(Timestamp::MAX_UTC), None);
    assert!(cron("0 0 1 1 *", "UTC").next_after(Timestamp::MIN_UTC).is_some());
}

fn any_field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (min..=max).prop_map(|value| value.to_string()),
        1 => (1..=max).prop_map(|step| format!("*/{step}")),
        1 => (min..=max, 1..20_u32).prop_map(|(first, step)| format!("{first}/{step}")),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

fn any_cron() -> impl Strategy<Value = String> {
    let seconds =
        prop_oneof![2 => Just(String::new()), 1 => any_field(0, 59).prop_map(|f| f + " ")];
    let month_day = prop_oneof![
        6 => any_field(1, 31), 1 => Just("L".to_owned()), 1 => Just("LW".to_owned()), 1 => Just("15W".to_owned())];
    let week_day =
        prop_oneof![6 => any_field(0, 7), 1 => Just("5L".to_owned()), 1 => Just("1#2".to_owned())];
    (seconds, any_field(0, 59), any_field(0, 23), month_day, any_field(1, 12), week_day)
        .prop_map(|(s, m, h, d, month, w)| format!("{s}{m} {h} {d} {month} {w}"))
}

/// A cadence in any zone and a start, often near a clock change of 2000 to 2037.
fn any_case() -> impl Strategy<Value = (Cadence, Timestamp)> {
    (
        any_cron(),
        proptest::sample::select(TZ_VARIANTS.to_vec()),
        946_684_800..2_114_380_800_i64,
        any::<bool>(),
    )
        .prop_filter_map("can never run", |(expression, tz, start, near)| {
            let config = json!({ "cron": expression, "timezone": tz.name() });
            let cadence = Cadence::parse("cron", &config, &context()).ok()?;
            let zone = zone::Zone(tz);
            let change = near.then(|| {
                (0..370).find_map(|day| {
                    zone.change_between(start + day * 86_400, start + (day + 1) * 86_400)
                })
            });
            let start =
                change.flatten().map_or(start, |change| change.at - 50_000 + start % 60_000);
            Some((cadence, DateTime::from_timestamp(start, 0)?))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn instants_strictly_increase_and_lie_after_what_was_asked((cadence, start) in any_case()) {
        let mut last = start;
        for due in cadence.instants_between(start, Timestamp::MAX_UTC, 50) {
            prop_assert!(due > last);
            // Asking from anywhere in between gives the same answer.
            prop_assert_eq!(cadence.next_after(due - TimeDelta::milliseconds(1)), Some(due));
            prop_assert_eq!(cadence.next_after(last + (due - last) / 2), Some(due));
            last = due;
        }
    }

    #[test]
    fn counting_and_looking_back_agree_with_walking(
        (cadence, start) in any_case(), span in 0..200_000_000_i64,
    ) {
        let until = start + TimeDelta::milliseconds(span);
        let all = cadence.instants_between(start, until, usize::MAX);
        prop_assert_eq!(cadence.count_between(start, until), all.len() as u64);
        let from = start + TimeDelta::milliseconds(1);
        prop_assert_eq!(cadence.last_at_or_before(until, from), all.last().copied());
    }

    #[test]
    fn plain_expressions_agree_with_the_cron_crate_where_clocks_do_not_change(
        (minute, hour, month_day, month) in
            (any_field(0, 59), any_field(0, 23), any_field(1, 31), any_field(1, 12)),
        start in 946_684_800..2_114_380_800_i64,
    ) {
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let config = json!({ "cron": format!("{minute} {hour} {month_day} {month} *") });
        let theirs = ::cron::Schedule::from_str(&format!("0 {minute} {hour} {month_day} {month} *"));
        if let (Ok(ours), Ok(theirs)) = (Cadence::parse("cron", &config, &context()), theirs) {
            let theirs: Vec<Timestamp> = theirs.after(&start).take(10).collect();
            prop_assert_eq!(ours.instants_between(start, Timestamp::MAX_UTC, theirs.len()), theirs);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[-0-9*/,LW#A-Z@ ?é]{0,40}") {
        drop(Cadence::parse("cron", &json!({ "cron": text }), &context()));
    }
}

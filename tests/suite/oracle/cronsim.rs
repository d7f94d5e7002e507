//! Random cases against `cronsim` (Python), with zero differences.
//!
//! What cronsim does otherwise is left out by construction, so that no answer is ever skipped:
//!
//! - `W`, `FRIL` and `@daily` are unknown to it; `5-5/2` means `5/2` to it.
//! - It knows fixed times with five fields only, so six fields come with real minutes.
//! - Asked for a fixed time from within the second pass of a repeated hour, it answers with an
//!   instant before the start; ours are strictly after.
//! - For real minutes in certain hours it walks hour by hour from where it stands: after a change
//!   of half an hour it loses half of the first matching hour of that day (Lord Howe, Caracas,
//!   Pyongyang), and from a midnight that does not exist it adds or loses a run (Havana, Cairo).
//!   Such expressions are asked only in zones whose changes are by whole hours, on the hour, and
//!   not over midnight.
//! - It goes from minute 30 to the next minute 30 by an hour, also past a second coming half an
//!   hour later: in zones that change by half hours, real minutes come without fixed ones.
//! - It runs once for a whole day that does not exist (Samoa's 30 December 2011), and repeats
//!   itself for ever after a change at 00:01 back into the day before (St. John's until 2011):
//!   real minutes there come without day fields.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use carillon::domain::cadence::{Cadence, ParseContext};
use chrono::DateTime;
use chrono_tz::{IANA_TZDB_VERSION, Tz};
use serde_json::json;

use super::cases::{self, Case, Change, Random};

/// Cases of a run of the suite; the first seeds that were tried are part of it.
const CASES_A_SEED: usize = 1_500;
const SEEDS: [u64; 4] = [1, 2, 3, 20_260_329];
/// Instants compared a case.
const COUNT: usize = 8;
const INSTALL: &str = "python3 -m venv target/oracle && \
                       target/oracle/bin/pip install -r tests/oracle/requirements.txt";

#[test]
fn cron_agrees_with_cronsim_in_zones_with_odd_rules() {
    let zones = cases::zones();
    let cases: Vec<Case> = SEEDS
        .iter()
        .flat_map(|seed| {
            let mut random = Random(*seed);
            let zones = &zones;
            std::iter::repeat_with(move || {
                let (zone, changes) = random.pick(zones);
                any_case(&mut random, *zone, changes)
            })
            .filter(|case| parse(case).is_some())
            .take(CASES_A_SEED)
        })
        .collect();
    let mut differences = Vec::new();
    for (case, theirs) in cases.iter().zip(ask(&cases)) {
        let ours = due(case);
        if json!(ours) != theirs {
            differences.push(format!("{case:?}\n  ours {ours:?}\n  cronsim {theirs}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

fn any_case(random: &mut Random, zone: Tz, changes: &[Change]) -> Case {
    let mut minute = cases::field(random, 0, 59, false);
    let hour = cases::field(random, 0, 23, false);
    let real = minute.starts_with('*') || hour.starts_with('*');
    let every_day = changes.iter().any(|change| change.skips_a_day() || !change.is_on_the_hour());
    while real && !minute.starts_with('*') && !changes.iter().all(Change::is_by_hours) {
        minute = cases::field(random, 0, 59, false);
    }
    let hour = if real && !changes.iter().all(Change::is_ordinary) { "*".to_owned() } else { hour };
    let days = cases::days(random);
    let days = if real && every_day { "* * *".to_owned() } else { days };
    let second = match random.below(4) {
        0 if real => cases::field(random, 0, 59, false) + " ",
        _ => String::new(),
    };
    let mut start = cases::start(random, changes);
    while !real && cases::is_second_pass(changes, start) {
        start = cases::start(random, changes);
    }
    Case {
        expression: format!("{second}{minute} {hour} {days}"),
        zone,
        start: DateTime::from_timestamp(start, 0).unwrap(),
    }
}

/// `None` for the expressions that can never fire.
fn parse(case: &Case) -> Option<Cadence> {
    let context =
        ParseContext { created_at: case.start, default_zone: case.zone.name().to_owned() };
    match Cadence::parse("cron", &json!({ "cron": case.expression }), &context) {
        Ok(cadence) => Some(cadence),
        Err(faults) => {
            assert!(faults[0].message.contains("can never run"), "{case:?}: {faults:?}");
            None
        }
    }
}

fn due(case: &Case) -> Vec<i64> {
    let instants =
        parse(case).unwrap().instants_between(case.start, DateTime::<chrono::Utc>::MAX_UTC, COUNT);
    instants.iter().map(DateTime::timestamp).collect()
}

/// Cronsim's answers, in the order of the cases.
fn ask(cases: &[Case]) -> Vec<serde_json::Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = interpreter(root);
    let mut child = Command::new(&python)
        .arg(root.join("tests/oracle/cron_next.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; install: {INSTALL}", python.display()));
    let lines: String = cases
        .iter()
        .map(|case| {
            let zone = case.zone.name();
            let start = case.start.timestamp();
            let line =
                json!({ "expr": case.expression, "zone": zone, "start": start, "count": COUNT });
            format!("{line}\n")
        })
        .collect();
    let mut stdin = child.stdin.take().unwrap();
    // A thread of its own: the answers are read while the questions are written.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let written = writer.join().unwrap();
    assert!(output.status.success() && written.is_ok(), "cronsim failed; install: {INSTALL}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut answers = text.lines().map(|line| serde_json::from_str(line).unwrap());
    assert_eq!(answers.next(), Some(json!(IANA_TZDB_VERSION)), "other zones; install: {INSTALL}");
    let answers: Vec<serde_json::Value> = answers.collect();
    assert_eq!(answers.len(), cases.len());
    answers
}

fn interpreter(root: &Path) -> PathBuf {
    let python = root.join("target/oracle/bin/python");
    assert!(python.exists(), "{} is missing; install: {INSTALL}", python.display());
    python
}

use serde_json::json;

use super::*;
use crate::domain::cadence::ParseContext;
use crate::domain::execution::{Priority, Severity};
use crate::domain::schedule::ScheduleType;

pub(in crate::runtime::scheduler) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(in crate::runtime::scheduler) fn every_minute(rate: Option<i32>) -> (Schedule, Cadence) {
    let config = json!({"intervalMs": 60_000});
    let context = ParseContext { created_at: at(0), default_zone: "UTC".to_owned() };
    let cadence = Cadence::parse("interval", &config, &context).unwrap();
    let definition = ScheduleDefinition {
        name: "hourly".to_owned(),
        description: None,
        task_type: "function".to_owned(),
        task_config: json!({"name": "noop"}),
        schedule_type: ScheduleType::Interval,
        schedule_config: config,
        enabled: true,
        priority: Priority::Medium,
        timeout_ms: None,
        max_concurrent: None,
        overlap_policy: OverlapPolicy::Allow,
        misfire_policy: MisfirePolicy::RunAll,
        misfire_grace_ms: 5_000,
        catchup_window_ms: 86_400_000,
        catchup_max: 100,
        catchup_per_minute: rate,
        retry_policy: serde_json::Value::Null,
        severity: Severity::High,
        cost_per_hour: None,
        start_at: None,
        end_at: None,
        max_executions: None,
        tags: Vec::new(),
        owner: None,
        options: crate::domain::options::ScheduleOptions::default(),
    };
    let schedule = Schedule {
        id: 1,
        definition,
        next_run_at: Some(at(60)),
        last_run_at: None,
        fired: 0,
        paused_at: None,
        resumed_at: None,
        catch_up_at: None,
        settled_at: None,
        paused_until: None,
        pause_reason: None,
        failure_streak: 0,
        created_at: at(0),
        updated_at: at(0),
        version: 1,
    };
    (schedule, cadence)
}

/// When the rows of the firing at `now` may be claimed, in seconds after `now`.
fn starts(schedule: &Schedule, cadence: &Cadence, now: Timestamp) -> Vec<i64> {
    let firing = plan_schedule(schedule, cadence, now, &StopWindow::default());
    firing.executions.iter().map(|row| (row.available_at - now).num_seconds()).collect()
}

#[test]
fn runs_caught_up_on_start_at_once_when_no_rate_is_set() {
    let (schedule, cadence) = every_minute(None);
    let starts = starts(&schedule, &cadence, at(630));
    assert_eq!(starts.len(), 10);
    assert!(starts.iter().all(|start| *start <= 0));
}

#[test]
fn runs_caught_up_on_are_spread_at_the_rate_and_what_is_on_time_is_not() {
    let (schedule, cadence) = every_minute(Some(4));
    assert_eq!(
        starts(&schedule, &cadence, at(241)),
        [0, 15, 30, -1],
        "60 to 180, then 240 on time"
    );
}

#[test]
fn a_second_outage_waits_for_the_catch_up_of_the_first() {
    let (mut schedule, cadence) = every_minute(Some(2));
    schedule.catch_up_at = Some(at(700));
    assert_eq!(starts(&schedule, &cadence, at(150)), [550, 580]);
}

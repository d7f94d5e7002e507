//! Laws of definitions: what is refused, what is filled in, what an edit keeps.

use actix_web::body::to_bytes;
use chrono::DateTime;
use serde_json::{Value, json};

use super::cadence::{first_run, next_runs};
use super::definition::{
    Parsed, Surroundings, body_of, changes_cadence, keep_run_as, keeps_task, merge, parse,
};
use super::execution::{AdHoc, Overrides};
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::schedule::{OverlapPolicy, Schedule};
use crate::domain::task::TaskLimits;

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn maxima() -> TaskLimits {
    TaskLimits { memory_mb: Some(512), ..TaskLimits::default() }
}

fn read(value: &Value) -> Result<Parsed, ApiError> {
    let around = Surroundings {
        anchor: at(0),
        default_zone: "UTC",
        misfire_grace_ms: 5_000,
        task_maxima: maxima(),
    };
    parse(value, &around)
}

fn minimal() -> Value {
    json!({
        "name": "nightly",
        "taskType": "shell_command",
        "taskConfig": { "command": "true" },
        "scheduleType": "interval",
        "scheduleConfig": { "intervalMs": 60_000 },
    })
}

fn with(pairs: &[(&str, Value)]) -> Value {
    let mut body = minimal();
    for (name, value) in pairs {
        body[*name] = value.clone();
    }
    body
}

async fn faults(error: ApiError) -> Vec<(String, String)> {
    let body = to_bytes(error.into_response("id").into_body()).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let errors = body["errors"].as_array().unwrap();
    errors.iter().map(|fault| (text(&fault["field"]), text(&fault["code"]))).collect()
}

#[test]
fn defaults_are_those_of_the_contract() {
    let definition = read(&minimal()).unwrap().definition;
    let mut body = Value::Object(body_of(&definition));
    let config = body["scheduleConfig"].take();
    assert_eq!(config, json!({"intervalMs": 60_000, "anchor": "2027-01-15T08:00:00.000Z"}));
    let expected = json!({
        "enabled": true, "priority": "medium", "timeoutMs": null, "maxConcurrent": 1,
        "overlapPolicy": "skip", "misfirePolicy": "coalesce", "misfireGraceMs": 5_000,
        "catchupWindowMs": 3_600_000, "catchupMax": 100, "catchupPerMinute": null,
        "severity": "high", "tags": [], "description": null,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&body[name], value, "{name}");
    }
}

#[tokio::test]
async fn every_fault_is_named_by_its_path() {
    let body = json!({
        "nmae": "x",
        "taskType": "shell_command",
        "taskConfig": { "comand": "true" },
        "scheduleType": "interval",
        "scheduleConfig": { "intervalMs": 5 },
        "priority": "urgent",
        "preemptible": 1,
        "queueLimit": 3,
        "startAt": "2027-01-02T00:00:00Z",
        "endAt": "2027-01-01T00:00:00Z",
    });
    let found = faults(read(&body).unwrap_err()).await;
    for (field, code) in [
        ("nmae", "unknown_field"),
        ("name", "required"),
        ("taskConfig.comand", "unknown_field"),
        ("scheduleConfig.intervalMs", "out_of_range"),
        ("priority", "invalid_value"),
        ("preemptible", "invalid_type"),
        ("queueLimit", "invalid_value"),
        ("endAt", "out_of_range"),
    ] {
        assert!(found.contains(&(field.to_owned(), code.to_owned())), "{field} in {found:?}");
    }
}

/// The unit tests may run as anybody: a user is refused where this process could not become one.
#[tokio::test]
async fn a_user_to_run_as_goes_with_the_task_and_is_shown_beside_it() {
    let asked = with(&[("runAs", json!("nobody"))]);
    if !crate::tasks::may_run_as() {
        let found = faults(read(&asked).unwrap_err()).await;
        assert_eq!(found, [("runAs".to_owned(), "invalid_value".to_owned())]);
        return;
    }
    let definition = read(&asked).unwrap().definition;
    assert_eq!(definition.task_config["runAs"], "nobody");
    let body = Value::Object(body_of(&definition));
    assert_eq!((&body["runAs"], &body["taskConfig"]["runAs"]), (&json!("nobody"), &Value::Null));
    assert!(keeps_task(&definition, &merge(&definition, &json!({"tags": ["x"]})).unwrap()));
    assert!(!keeps_task(&definition, &merge(&definition, &json!({"runAs": null})).unwrap()));
    let cleared = read(&merge(&definition, &json!({"runAs": null})).unwrap()).unwrap();
    assert!(cleared.definition.task_config.get("runAs").is_none());
    let other = keep_run_as(&definition.task_config, json!({"command": "id"}));
    assert_eq!(other, json!({"command": "id", "runAs": "nobody"}));
    for (field, value) in [("runAs", json!("a b")), ("runAs", json!(7))] {
        assert!(read(&with(&[(field, value)])).is_err());
    }
}

#[tokio::test]
async fn what_is_not_built_yet_says_so() {
    let cases = [("taskType", json!("worker_task")), ("taskType", json!("workflow"))];
    for (field, value) in cases {
        let error = read(&with(&[(field, value)])).unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (422, "not_supported_yet"), "{field}");
        assert_eq!(faults(error).await[0].0, field);
    }
}

#[test]
fn how_many_may_wait_is_a_matter_of_queue_alone() {
    let queue = read(&with(&[("overlapPolicy", json!("queue"))])).unwrap().definition;
    assert_eq!((queue.running_limit(), queue.overlap_limit()), (Some(1), Some(101)));
    assert_eq!(queue.snapshot().options.admission.overlap_limit, Some(1));
    let skip = read(&merge(&queue, &json!({"overlapPolicy": "skip"})).unwrap()).unwrap().definition;
    assert_eq!((skip.options.cadence.queue_limit, skip.overlap_limit()), (None, Some(1)));
    assert_eq!(skip.snapshot().options.document(), None);
    assert!(!changes_cadence(&queue, &skip));
}

#[test]
fn what_picks_the_place_of_an_h_outlives_a_new_name() {
    let cron = [("scheduleType", json!("cron")), ("scheduleConfig", json!({"cron": "H H * * *"}))];
    let old = read(&with(&cron)).unwrap();
    assert_eq!(old.definition.schedule_config["hashKey"], "nightly");
    let patch = json!({"name": "weekly", "scheduleConfig": {"cron": "H H(0-5) * * *"}});
    let new = read(&merge(&old.definition, &patch).unwrap()).unwrap().definition;
    assert_eq!(new.schedule_config["hashKey"], "nightly");
    let renamed = json!({"name": "weekly"});
    let new = read(&merge(&old.definition, &renamed).unwrap()).unwrap();
    assert_eq!(new.cadence, old.cadence);
    let spread = json!({"intervalMs": 60_000, "spread": true});
    let spread = read(&with(&[("scheduleConfig", spread)])).unwrap();
    assert_eq!(spread.definition.schedule_config["hashKey"], "nightly");
    let first = spread.cadence.next_after(at(0)).unwrap();
    assert!(first > at(0) && first <= at(60));
}

#[test]
fn under_allow_there_is_a_limit_only_when_somebody_set_one() {
    let skip = read(&minimal()).unwrap().definition;
    let patch = json!({ "overlapPolicy": "allow" });
    let allow = read(&merge(&skip, &patch).unwrap()).unwrap().definition;
    assert_eq!((allow.overlap_policy, allow.max_concurrent), (OverlapPolicy::Allow, None));
    let patch = json!({ "overlapPolicy": "allow", "maxConcurrent": 3 });
    let limited = read(&merge(&skip, &patch).unwrap()).unwrap().definition;
    assert_eq!(limited.max_concurrent, Some(3));
    let patch = json!({ "overlapPolicy": "skip" });
    let back = read(&merge(&allow, &patch).unwrap()).unwrap().definition;
    assert_eq!(back.max_concurrent, Some(1));
}

#[test]
fn an_edit_keeps_what_it_does_not_name() {
    let old = read(&with(&[("tags", json!(["a"])), ("owner", json!("ops"))])).unwrap().definition;
    let new = read(&merge(&old, &json!({ "priority": "high" })).unwrap()).unwrap().definition;
    assert_eq!(new.tags, ["a"]);
    assert!(!changes_cadence(&old, &new));
    let cleared = read(&merge(&old, &json!({ "owner": null })).unwrap()).unwrap().definition;
    assert_eq!(cleared.owner, None);
    assert!(merge(&old, &json!({ "nextRunAt": null })).is_err());
    assert!(merge(&old, &json!([])).is_err());
}

#[test]
fn an_edited_interval_stays_on_its_own_grid() {
    let old = read(&minimal()).unwrap().definition;
    let patch = json!({ "scheduleConfig": { "intervalMs": 90_000 } });
    let whole = merge(&old, &patch).unwrap();
    let around = Surroundings {
        anchor: at(500),
        default_zone: "UTC",
        misfire_grace_ms: 0,
        task_maxima: maxima(),
    };
    let Parsed { definition, cadence } = parse(&whole, &around).unwrap();
    assert!(changes_cadence(&old, &definition));
    assert_eq!(first_run(&definition, &cadence, at(100), None).unwrap(), Some(at(180)));
}

#[test]
fn the_first_run_is_one_interval_after_creation_and_within_the_bounds() {
    let Parsed { mut definition, cadence } = read(&minimal()).unwrap();
    assert_eq!(first_run(&definition, &cadence, at(0), None).unwrap(), Some(at(60)));
    definition.start_at = Some(at(180));
    assert_eq!(first_run(&definition, &cadence, at(0), None).unwrap(), Some(at(180)));
    definition.end_at = Some(at(200));
    assert_eq!(first_run(&definition, &cadence, at(190), None).unwrap_err().field, "endAt");
}

#[test]
fn a_single_run_may_be_late_by_the_grace_and_no_more() {
    let body = with(&[
        ("scheduleType", json!("one_time")),
        ("scheduleConfig", json!({ "runAt": "2027-01-15T08:00:00Z" })),
    ]);
    let Parsed { definition, cadence } = read(&body).unwrap();
    assert_eq!(first_run(&definition, &cadence, at(4), None).unwrap(), Some(at(0)));
    let fault = first_run(&definition, &cadence, at(6), None).unwrap_err();
    assert_eq!((fault.field.as_str(), fault.code), ("scheduleConfig.runAt", "in_the_past"));
}

#[test]
fn next_runs_end_with_the_schedule() {
    let body = with(&[("maxExecutions", json!(3))]);
    let mut schedule = Schedule {
        id: 1,
        definition: read(&body).unwrap().definition,
        next_run_at: Some(at(120)),
        last_run_at: Some(at(60)),
        fired: 1,
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
    let cadence = schedule.grid("UTC").ok();
    assert_eq!(next_runs(&schedule, cadence.as_ref(), None, 5), [at(120), at(180)]);
    schedule.definition.enabled = false;
    assert!(next_runs(&schedule, cadence.as_ref(), None, 5).is_empty());
}

#[tokio::test]
async fn an_ad_hoc_run_takes_only_what_it_knows() {
    let good = json!({
        "taskType": "function", "taskConfig": { "name": "a", "payload": {} },
        "runAt": "2027-01-15T09:00:00+01:00", "dedupKey": "k", "tags": ["x"],
    });
    let read = AdHoc::parse(&good, &maxima()).unwrap();
    assert_eq!(read.run_at, Some(at(0)));
    let bad = json!({ "taskType": "function", "taskConfig": { "name": "a" }, "dedup": "k" });
    let found = faults(AdHoc::parse(&bad, &maxima()).unwrap_err()).await;
    assert!(found.contains(&("dedup".to_owned(), "unknown_field".to_owned())), "{found:?}");
}

#[test]
fn an_override_is_of_the_same_task_type() {
    let body = json!({ "taskConfig": { "command": "true" }, "force": true });
    assert!(Overrides::parse_trigger(&body, "shell_command", &maxima()).unwrap().force);
    assert!(Overrides::parse_trigger(&body, "http_request", &maxima()).is_err());
    assert!(Overrides::parse_retry(&body, "shell_command", &maxima()).is_err());
}

#[tokio::test]
async fn a_limit_above_the_servers_maximum_is_refused_wherever_a_task_comes_in() {
    let config = json!({ "command": "true", "limits": { "memoryMb": 513 } });
    let schedule = with(&[("taskConfig", config.clone())]);
    let run = json!({ "taskType": "shell_command", "taskConfig": config });
    let override_ = json!({ "taskConfig": config });
    let refusals = [
        read(&schedule).unwrap_err(),
        AdHoc::parse(&run, &maxima()).unwrap_err(),
        Overrides::parse_trigger(&override_, "shell_command", &maxima()).unwrap_err(),
        Overrides::parse_retry(&override_, "shell_command", &maxima()).unwrap_err(),
    ];
    for refusal in refusals {
        let expected = ("taskConfig.limits.memoryMb".to_owned(), "out_of_range".to_owned());
        assert_eq!(faults(refusal).await, [expected]);
    }
    assert!(AdHoc::parse(&run, &TaskLimits::default()).is_ok(), "no maximum, no refusal");
}

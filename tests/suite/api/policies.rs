//! Calendars, pauses, skipping ahead, backfills and catch-up previews over HTTP.

use carillon::clock::Clock;
use carillon::domain::key::Role;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::server::TestServer;

const SCHEDULES: &str = "/api/v1/scheduler/schedules";
const CALENDARS: &str = "/api/v2/calendars";

fn body(name: &str, more: &Value) -> Value {
    let mut body = json!({
        "name": name,
        "taskType": "function",
        "taskConfig": { "name": "health:check", "payload": {} },
        "scheduleType": "cron",
        "scheduleConfig": { "cron": "0 2 * * *", "timezone": "UTC" },
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn weekend() -> Value {
    json!({ "name": "weekend", "timezone": "UTC", "entries": [
        { "kind": "weekly", "days": ["saturday", "sunday"] },
        { "kind": "date", "date": "2026-12-25", "yearly": true, "note": "Christmas" },
    ]})
}

fn uses(name: &str) -> Value {
    json!([{ "name": name, "mode": "exclude" }])
}

fn instants(reply: &Value) -> Vec<String> {
    let runs = reply["nextRuns"].as_array().unwrap();
    runs.iter().map(|at| at.as_str().unwrap()[..16].to_owned()).collect()
}

#[actix_rt::test]
async fn a_calendar_is_made_listed_edited_and_kept_while_it_is_used() {
    let server = TestServer::start().await;
    let made = server.post(CALENDARS, weekend()).await;
    made.is(201);
    let path = format!("{CALENDARS}/{}", made.id());
    assert_eq!(made.header("location"), path);
    assert_eq!(made.body["entries"][0]["to"], "24:00");
    server.post(CALENDARS, weekend()).await.refuses(409, "duplicate");
    let listed = server.get(&format!("{CALENDARS}?limit=1")).await;
    assert_eq!(listed.is(200).body["items"][0]["name"], "weekend");
    assert_eq!(listed.body["nextCursor"], Value::Null);
    let unknown = server.post(SCHEDULES, body("a", &json!({ "calendars": uses("nowhere") }))).await;
    let faults = &unknown.refuses(422, "validation_failed").body["errors"];
    assert_eq!(faults[0]["field"], "calendars.0.name");
    let schedule =
        server.post(SCHEDULES, body("a", &json!({ "calendars": uses("weekend") }))).await;
    assert_eq!(schedule.is(201).body["calendars"], uses("weekend"));
    server.call(Role::Operator, "DELETE", &path, Value::Null).await.refuses(409, "calendar_in_use");
    let renamed = server.call(Role::Operator, "PUT", &path, json!({ "name": "other" })).await;
    renamed.refuses(422, "validation_failed");
    let always = json!({ "entries": [{ "kind": "weekly", "days": [
        "sunday", "monday", "tuesday", "wednesday", "thursday", "friday"] }] });
    let edited = server.call(Role::Operator, "PUT", &path, always).await;
    assert_eq!(edited.is(200).body["version"], 2);
    let moved = server.get(&format!("{SCHEDULES}/{}", schedule.id())).await;
    let next: DateTime<Utc> = moved.body["nextRunAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(next.format("%A %H:%M").to_string(), "Saturday 02:00");
    let gone = format!("{SCHEDULES}/{}", schedule.id());
    server.call(Role::Operator, "DELETE", &gone, Value::Null).await.is(204);
    server.call(Role::Operator, "DELETE", &path, Value::Null).await.is(204);
    server.call(Role::Viewer, "POST", CALENDARS, weekend()).await.refuses(403, "forbidden");
    server.stop().await;
}

#[actix_rt::test]
async fn every_fault_of_a_calendar_is_named() {
    let server = TestServer::start().await;
    let bad = json!({ "name": "x", "timezone": "Nowhere", "entries": [
        { "kind": "date", "date": "tomorrow" },
        { "kind": "weekly", "days": ["someday"], "from": "18:00", "to": "09:00" },
        { "kind": "range", "from": "2026-12-24", "to": "2026-12-20" },
        { "kind": "span", "from": "2026-12-24T00:00:00Z" },
        { "kind": "moon" },
    ]});
    let reply = server.post(CALENDARS, bad).await;
    let faults = reply.refuses(422, "validation_failed").body["errors"].as_array().unwrap();
    let mut fields: Vec<&str> = faults.iter().map(|f| f["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let wanted = [
        "entries.0.date",
        "entries.1.days",
        "entries.1.to",
        "entries.2.to",
        "entries.3.to",
        "entries.4.kind",
        "timezone",
    ];
    assert_eq!(fields, wanted);
    server.stop().await;
}

#[actix_rt::test]
async fn icalendar_text_becomes_entries_and_what_is_left_out_is_told() {
    let server = TestServer::start().await;
    let ical = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\n\
                DTSTAMP:20260101T000000Z\r\nSUMMARY:New Year\r\nDTSTART;VALUE=DATE:20270101\r\n\
                RRULE:FREQ=YEARLY\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nUID:2\r\n\
                DTSTAMP:20260101T000000Z\r\nSUMMARY:Odd\r\nDTSTART:20270101T100000Z\r\nEND:VEVENT\r\n\
                END:VCALENDAR\r\n";
    let made = server.post(CALENDARS, json!({ "name": "public", "ical": ical })).await;
    let entry = &made.is(201).body["entries"][0];
    assert_eq!((entry["kind"].as_str(), entry["yearly"].as_bool()), (Some("date"), Some(true)));
    assert_eq!(made.body["import"]["leftOut"][0]["summary"], "Odd");
    let broken = server.post(CALENDARS, json!({ "name": "y", "ical": "hello" })).await;
    assert_eq!(broken.refuses(422, "validation_failed").body["errors"][0]["field"], "ical");
    server.stop().await;
}

#[actix_rt::test]
async fn a_preview_shows_what_calendars_h_and_clock_changes_do() {
    let server = TestServer::start().await;
    server.post(CALENDARS, weekend()).await.is(201);
    let preview = async |more: Value| {
        let mut body = json!({
            "scheduleType": "cron",
            "scheduleConfig": { "cron": "0 9 * * *", "timezone": "UTC" },
            "from": "2026-12-24T12:00:00Z",
            "count": 2,
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        server.post(&format!("{SCHEDULES}/preview"), body).await
    };
    let skipped = preview(json!({ "calendars": uses("weekend"), "jitterMs": 60_000 })).await;
    // The 25th is Christmas, the 26th and 27th a weekend.
    assert_eq!(instants(&skipped.is(200).body), ["2026-12-28T09:00", "2026-12-29T09:00"]);
    assert_eq!(skipped.body["leftOut"][0]["reason"], "calendar");
    assert_eq!(skipped.body["leftOut"][0]["count"], 3);
    assert!(skipped.body["description"].as_str().unwrap().contains("60000 ms"));
    let hashed = json!({ "name": "backup", "scheduleConfig": { "cron": "H H(0-5) * * *" } });
    let (first, second) = (preview(hashed.clone()).await, preview(hashed).await);
    assert_eq!(first.is(200).body, second.body);
    assert!(first.body["description"].as_str().unwrap().contains("picked"));
    let keyless = preview(json!({ "scheduleConfig": { "cron": "H * * * *" } })).await;
    assert!(keyless.refuses(422, "validation_failed").text.contains("hashKey"));
    let gap = json!({
        "scheduleConfig": { "cron": "30 2 * * *", "timezone": "Europe/Berlin" },
        "from": "2026-03-28T12:00:00Z", "clockChange": "skip",
    });
    let gap = preview(gap).await;
    assert_eq!(instants(&gap.is(200).body), ["2026-03-30T00:30", "2026-03-31T00:30"]);
    assert_eq!(gap.body["leftOut"][0]["reason"], "clock_change");
    server.stop().await;
}

#[actix_rt::test]
async fn a_pause_may_have_an_end_and_a_reason() {
    let server = TestServer::start().await;
    let made = server.post(SCHEDULES, body("a", &json!({ "pauseAfterFailures": 3 }))).await;
    assert_eq!(made.is(201).body["pauseAfterFailures"], 3);
    let path = format!("/api/v2/schedules/{}", made.id());
    let late =
        server.post(&format!("{path}/pause"), json!({ "until": "2020-01-01T00:00:00Z" })).await;
    late.refuses(422, "validation_failed");
    let pause = json!({ "until": "2099-01-01T00:00:00Z", "reason": "audit" });
    let paused = server.post(&format!("{path}/pause"), pause).await;
    assert_eq!(paused.is(200).body["pausedUntil"], "2099-01-01T00:00:00.000Z");
    assert_eq!(
        (&paused.body["pauseReason"], &paused.body["enabled"]),
        (&json!("audit"), &json!(false))
    );
    let resumed = server.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!(
        (&resumed.is(200).body["pausedUntil"], &resumed.body["enabled"]),
        (&Value::Null, &json!(true))
    );
    server.stop().await;
}

#[actix_rt::test]
async fn skipping_ahead_moves_the_next_run_and_is_told_at_once() {
    let server = TestServer::start().await;
    let made = server.post(SCHEDULES, body("a", &json!({}))).await;
    let day =
        |reply: &Value| -> DateTime<Utc> { reply["nextRunAt"].as_str().unwrap().parse().unwrap() };
    let first = day(&made.is(201).body);
    let path = format!("/api/v2/schedules/{}/skip-next", made.id());
    let moved = server.post(&path, json!({ "count": 2 })).await;
    assert_eq!(day(&moved.is(200).body), first + TimeDelta::days(2));
    let ledger = format!(
        "{SCHEDULES}/{}/ledger?from={}&to={}",
        made.id(),
        first.format("%Y-%m-%dT00:00:00Z"),
        (first + TimeDelta::days(3)).format("%Y-%m-%dT00:00:00Z")
    );
    let told = server.get(&ledger).await;
    assert_eq!(told.is(200).body["items"][0]["reason"], "skipped");
    assert_eq!(told.body["items"][0]["count"], 2);
    // An edit does not plan them again.
    let edit = json!({ "scheduleConfig": { "cron": "0 3 * * *", "timezone": "UTC" } });
    let edited =
        server.call(Role::Operator, "PUT", &format!("{SCHEDULES}/{}", made.id()), edit).await;
    assert!(day(&edited.is(200).body) > first + TimeDelta::days(1));
    server.stop().await;
}

#[actix_rt::test]
async fn a_backfill_is_tried_dry_made_read_and_stopped() {
    let server = TestServer::start().await;
    let made = server.post(SCHEDULES, body("a", &json!({}))).await;
    let path = format!("/api/v2/schedules/{}/backfills", made.is(201).id());
    let range = json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-01-10T23:00:00Z" });
    let mut dry = range.clone();
    dry["dryRun"] = true.into();
    dry["ratePerMinute"] = 1.into();
    let dry = server.post(&path, dry).await;
    assert_eq!(
        (&dry.is(200).body["count"], &dry.body["leastDurationMs"]),
        (&json!(10), &json!(540_000))
    );
    assert_eq!(dry.body["instants"][0], "2026-01-01T02:00:00.000Z");
    assert!(server.get("/api/v2/backfills").await.body["items"].as_array().unwrap().is_empty());
    let backfill = server.post(&path, range).await;
    assert_eq!(
        (&backfill.is(202).body["planned"], &backfill.body["status"]),
        (&json!(10), &json!("running"))
    );
    let one = format!("/api/v2/backfills/{}", backfill.id());
    assert_eq!(server.get(&one).await.is(200).body["executions"]["pending"], 0);
    let stopped = server.post(&format!("{one}/stop"), json!({ "reason": "enough" })).await;
    assert_eq!(
        (&stopped.is(200).body["status"], &stopped.body["reason"]),
        (&json!("stopped"), &json!("enough"))
    );
    for bad in [
        json!({ "from": "2026-01-01T00:00:00Z" }),
        json!({ "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z" }),
        json!({ "from": "2026-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z" }),
        json!({ "from": "2026-01-01T03:00:00Z", "to": "2026-01-01T04:00:00Z" }),
        json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-01-05T00:00:00Z", "order": "any" }),
    ] {
        server.post(&path, bad).await.refuses(422, "validation_failed");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_backfill_leaves_what_the_schedule_may_still_run_itself() {
    let server = TestServer::start().await;
    let quick = json!({
        "scheduleType": "interval",
        "scheduleConfig": { "intervalMs": 1_000, "anchor": "2026-01-01T00:00:00Z" },
    });
    let made = server.post(SCHEDULES, body("a", &quick)).await;
    let made = made.is(201).id();
    let paused = server.post(&format!("{SCHEDULES}/{made}/pause"), json!({})).await;
    let open = paused.is(200).body["nextRunAt"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while Clock::system().now() <= open {
        assert!(std::time::Instant::now() < deadline, "the clock stands");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let path = format!("/api/v2/schedules/{made}/backfills");
    let range = |to: DateTime<Utc>| json!({ "from": open - TimeDelta::seconds(60), "to": to, "dryRun": true });
    server.post(&path, range(open)).await.refuses(422, "validation_failed");
    let before = server.post(&path, range(open - TimeDelta::seconds(1))).await;
    assert_eq!(before.is(200).body["planned"], 60);
    let long = json!({ "from": "0001-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z" });
    server.post(&path, long).await.refuses(422, "validation_failed");
    server.stop().await;
}

#[actix_rt::test]
async fn a_schedule_has_ten_backfills_at_once_at_most() {
    let server = TestServer::start().await;
    let made = server.post(SCHEDULES, body("a", &json!({}))).await;
    let path = format!("/api/v2/schedules/{}/backfills", made.is(201).id());
    // Nothing moves them on: ten stay as they are.
    let range =
        json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-01-10T23:00:00Z", "ratePerMinute": 1 });
    for _ in 0..10 {
        server.post(&path, range.clone()).await.is(202);
    }
    server.post(&path, range).await.refuses(409, "too_many_backfills");
    server.stop().await;
}

#[actix_rt::test]
async fn a_catch_up_preview_lists_what_would_start_and_starts_nothing() {
    let server = TestServer::start().await;
    let policy = json!({
        "scheduleType": "interval", "scheduleConfig": { "intervalMs": 60_000, "anchor": "2026-01-01T00:00:00Z" },
        "misfirePolicy": "run_all", "catchupMax": 3, "catchupPerMinute": 2, "catchupWindowMs": 86_400_000,
        "overlapPolicy": "allow",
    });
    let made = server.post(SCHEDULES, body("a", &policy)).await;
    let path = format!("/api/v2/schedules/{}/catch-up-preview", made.is(201).id());
    let span = json!({ "from": "2026-01-02T00:00:00Z", "now": "2026-01-02T00:10:30Z" });
    let preview = server.post(&path, span).await;
    let starts: Vec<(&str, &str)> = preview.is(200).body["starts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|start| {
            let of = |name: &str| &start[name].as_str().unwrap()[11..19];
            (of("scheduledAt"), of("startsAt"))
        })
        .collect();
    let wanted = [("00:08:00", "00:10:30"), ("00:09:00", "00:11:00"), ("00:10:00", "00:11:30")];
    assert_eq!(starts, wanted);
    assert_eq!(preview.body["ledger"][0]["count"], 8);
    assert_eq!(preview.body["nextRunAt"], "2026-01-02T00:11:00.000Z");
    let none = server.get("/api/v1/execution/executions").await;
    assert_eq!(none.is(200).body["total"], 0);
    server.stop().await;
}

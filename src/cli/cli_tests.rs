//! Laws of the command line that need no server.

use awc::http::StatusCode;
use clap::CommandFactory;
use serde_json::json;

use super::client::{describe_problem, segment, with_query};
use super::output::{grid, table};
use super::values::{parse_instant, parse_span};
use super::*;

fn parse(line: &[&str]) -> Result<Cli, String> {
    let words = std::iter::once("carillon").chain(line.iter().copied());
    Cli::try_parse_from(words).map_err(|error| error.to_string())
}

fn body_of(line: &[&str]) -> serde_json::Value {
    match parse(line).unwrap().command.unwrap() {
        Command::Schedule(schedule::Schedule { verb: schedule::Verb::Add(add), .. }) => {
            add.into_body().unwrap()
        }
        other => panic!("{other:?} adds no schedule"),
    }
}

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_shows_an_example() {
    fn visit(command: &clap::Command) {
        if command.has_subcommands() {
            command.get_subcommands().for_each(visit);
        } else {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(help.contains("carillon ") && help.contains(name), "{name} has no example");
            assert!(command.get_about().is_some(), "{name} says nothing about itself");
        }
    }
    visit(&Cli::command());
}

#[test]
fn the_server_flags_work_with_and_without_the_command() {
    for line in [&["--listen", "127.0.0.1:0"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let cli = parse(line).unwrap();
        let flags = match cli.command {
            Some(Command::Serve(flags)) => flags,
            None => cli.serve,
            other => panic!("{other:?}"),
        };
        assert_eq!(flags.listen.as_deref(), Some("127.0.0.1:0"));
    }
}

#[test]
fn a_schedule_is_sent_as_the_interface_says() {
    let one_word = ["schedule", "add", "a", "--cron", "*/5 * * * *", "--", "echo hi | cat"];
    assert_eq!(
        body_of(&one_word),
        json!({
            "name": "a", "scheduleType": "cron", "scheduleConfig": { "cron": "*/5 * * * *" },
            "taskType": "shell_command", "taskConfig": { "command": "echo hi | cat" },
        })
    );
    let words = [
        "schedule",
        "add",
        "b",
        "--every",
        "1m30s",
        "--timeout",
        "5s",
        "--attempts",
        "2",
        "--paused",
        "--env",
        "A=b=c",
        "--",
        "ls",
        "-l",
    ];
    assert_eq!(
        body_of(&words),
        json!({
            "name": "b", "scheduleType": "interval", "scheduleConfig": { "intervalMs": 90_000 },
            "taskType": "shell_command",
            "taskConfig": { "command": "ls", "args": ["-l"], "env": { "A": "b=c" } },
            "timeoutMs": 5_000, "retryPolicy": { "maxAttempts": 2 }, "enabled": false,
        })
    );
    let request = [
        "schedule",
        "add",
        "c",
        "--at",
        "2026-12-24T18:00:00+01:00",
        "--http",
        "post",
        "http://x/",
        "--header",
        "A: b",
        "--payload",
        "{\"n\":1}",
    ];
    assert_eq!(
        body_of(&request),
        json!({
            "name": "c", "scheduleType": "one_time",
            "scheduleConfig": { "runAt": "2026-12-24T17:00:00.000Z" },
            "taskType": "http_request",
            "taskConfig": {
                "method": "POST", "url": "http://x/", "headers": { "A": "b" }, "body": { "n": 1 },
            },
        })
    );
}

#[test]
fn a_schedule_needs_one_plan_and_one_task() {
    for line in [
        &["schedule", "add", "a", "--", "true"][..],
        &["schedule", "add", "a", "--every", "1s"],
        &["schedule", "add", "a", "--every", "1s", "--cron", "* * * * *", "--", "true"],
        &["schedule", "add", "a", "--every", "1s", "--function", "f", "--", "true"],
        &["schedule", "add", "a", "--every", "soon", "--", "true"],
        &["schedule", "add", "a", "--every", "1s", "--timezone", "UTC", "--", "true"],
    ] {
        assert!(parse(line).is_err(), "{line:?}");
    }
}

#[test]
fn spans_and_instants_are_read_as_people_write_them() {
    for (text, millis) in
        [("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000)]
    {
        assert_eq!(parse_span(text), Ok(millis));
    }
    for text in ["", "0s", "5", "s", "-1s", "1.5s", "5 m", "99999999999999999999d", "1w"] {
        assert!(parse_span(text).is_err(), "{text}");
    }
    assert_eq!(parse_instant("2026-11-21T03:00:00+01:00").unwrap(), "2026-11-21T02:00:00.000Z");
    assert!(parse_instant("tomorrow").is_err());
}

#[test]
fn a_refusal_names_each_fault_on_its_line() {
    let problem = json!({
        "title": "Invalid", "detail": "2 fields are wrong", "requestId": "r-1",
        "errors": [
            { "field": "name", "code": "required", "message": "must be given" },
            { "field": "taskConfig.comand", "code": "unknown_field", "message": "no\u{1b}[2J" },
        ],
    });
    assert_eq!(
        describe_problem(StatusCode::UNPROCESSABLE_ENTITY, &problem),
        "422 Unprocessable Entity: 2 fields are wrong\n  name: must be given\n  \
         taskConfig.comand: no\\u001b[2J"
    );
    let unknown = describe_problem(StatusCode::UNAUTHORIZED, &json!({ "title": "No key" }));
    assert!(unknown.contains("--token"), "{unknown}");
    let broken = describe_problem(StatusCode::INTERNAL_SERVER_ERROR, &problem);
    assert!(broken.contains("Request r-1"), "{broken}");
}

#[test]
fn a_table_lines_up_and_says_when_there_is_more() {
    let answer = json!({
        "items": [{ "id": 1, "name": "caf\u{e9}" }, { "id": 22, "name": null }], "total": 3,
    });
    assert_eq!(
        table(&answer, &[("ID", "id"), ("NAME", "name"), ("ON", "a.b")], "none"),
        "ID  NAME  ON\n1   caf\u{e9}  -\n22  -     -\n2 of 3; more with --limit and --offset"
    );
    assert_eq!(table(&json!({ "items": [] }), &[("ID", "id")], "none"), "none");
    assert_eq!(grid(&["A"], &[]), "A");
}

#[test]
fn a_name_stays_one_segment_of_the_path() {
    assert_eq!(segment("a/../b?c#d e"), "a%2F..%2Fb%3Fc%23d%20e");
    assert_eq!(with_query("/x", &[("a", None), ("b", Some("1&2".into()))]), "/x?b=1%262");
    assert_eq!(with_query("/x", &[("a", None)]), "/x");
}

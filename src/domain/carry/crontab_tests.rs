use super::*;

fn context() -> CarryContext {
    CarryContext { zone: "Europe/Berlin".to_owned(), has_users: false, prefix: String::new() }
}

fn one(text: &str) -> Value {
    let report = read_crontab(text, &context());
    assert_eq!(report.left_out, [], "{text}");
    assert_eq!(report.carried.len(), 1, "{text}");
    report.carried[0].body.clone()
}

#[test]
fn a_line_becomes_a_schedule_that_does_what_cron_did() {
    let body = one("# Every night\n17 3 * * 1-5  /usr/local/bin/backup --all >/dev/null 2>&1\n");
    assert_eq!(body["name"], "backup-all");
    assert_eq!(body["description"], "Every night");
    assert_eq!(body["taskType"], "shell_command");
    assert_eq!(body["taskConfig"]["command"], "/usr/local/bin/backup --all >/dev/null 2>&1");
    let plan = json!({"cron": "17 3 * * 1-5", "timezone": "Europe/Berlin"});
    assert_eq!(body["scheduleConfig"], plan);
    assert_eq!(body["overlapPolicy"], "allow");
    assert_eq!(body["misfirePolicy"], "skip");
    assert_eq!(body["retryPolicy"], json!({"maxAttempts": 1}));
}

#[test]
fn variables_hold_for_the_lines_below_them() {
    let text = "* * * * * first\nPATH = \"/opt/bin:/bin\"\nHOME=/srv\nSHELL=/bin/bash\n\
                CRON_TZ=UTC\nMAILTO=ops@example.com\n@hourly second && third\n";
    let report = read_crontab(text, &context());
    let [first, second] = report.carried.as_slice() else { panic!("{report:?}") };
    assert_eq!(first.body["taskConfig"], json!({"command": "first"}));
    let config = json!({
        "command": "/bin/bash", "args": ["-c", "second && third"], "cwd": "/srv",
        "env": {"PATH": "/opt/bin:/bin"},
    });
    assert_eq!(second.body["taskConfig"], config);
    assert_eq!(second.body["scheduleConfig"], json!({"cron": "@hourly", "timezone": "UTC"}));
    assert!(second.notes.iter().any(|note| note.starts_with("MAILTO")), "{:?}", second.notes);
}

#[test]
fn a_percent_sign_begins_the_input_unless_it_is_escaped() {
    let body = one(r"0 0 * * * date +\%F && mail -s x root%Hello%100\% sure");
    let command =
        "( date +%F && mail -s x root ) <<'CARILLON_INPUT'\nHello\n100% sure\nCARILLON_INPUT";
    assert_eq!(body["taskConfig"]["command"], command);
}

#[test]
fn a_system_crontab_names_users() {
    let context = CarryContext { has_users: true, ..context() };
    let report = read_crontab("17 * * * *\troot\tcd / && run-parts /etc/cron.hourly", &context);
    let body = &report.carried[0].body;
    assert_eq!(body["runAs"], "root");
    assert_eq!(body["taskConfig"]["command"], "cd / && run-parts /etc/cron.hourly");
}

#[test]
fn what_cannot_be_carried_over_is_told_with_its_line() {
    let text = "@reboot /opt/start\n\n61 * * * * late\n* * * * *\nnonsense\n0 0 31 2 * never\n";
    let report = read_crontab(text, &context());
    assert_eq!(report.carried, []);
    let places: Vec<&str> = report.left_out.iter().map(|one| one.place.as_str()).collect();
    assert_eq!(places, ["line 1", "line 3", "line 4", "line 5", "line 6"]);
    assert!(report.left_out.iter().all(|one| !one.reason.is_empty()), "{report:?}");
}

#[test]
fn names_that_meet_get_numbers() {
    let report = read_crontab("0 1 * * * sync a\n0 2 * * * sync a\n0 3 * * * sync a", &context());
    let names: Vec<_> = report.carried.iter().map(|one| one.body["name"].clone()).collect();
    assert_eq!(names, ["sync-a", "sync-a-2", "sync-a-3"]);
}

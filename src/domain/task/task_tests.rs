use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn codes(task_type: &str, config: &Value) -> Vec<(String, &'static str)> {
    Task::parse(task_type, config)
        .unwrap_err()
        .into_iter()
        .map(|fault| (fault.field, fault.code))
        .collect()
}

#[test]
fn a_shell_task_without_args_is_text_for_the_shell() {
    let task = Task::parse("shell_command", &json!({"command": "echo hi"})).unwrap();
    let Task::Shell(shell) = &task else { panic!("{task:?}") };
    assert_eq!(shell.args, None);
    assert_eq!(shell.grace_ms, None);
    assert_eq!(task.timeout_ms(), None);
    assert_eq!(task.type_name(), "shell_command");
}

#[test]
fn a_typo_is_named_by_its_path_with_what_was_meant() {
    let faults = Task::parse("shell_command", &json!({"comand": "x"})).unwrap_err();
    let typo = faults.iter().find(|fault| fault.code == "unknown_field").unwrap();
    assert_eq!(typo.field, "taskConfig.comand");
    assert!(typo.message.contains("`command`"), "{}", typo.message);
    assert!(faults.iter().any(|fault| fault.code == "required"));
}

#[test]
fn every_fault_is_told_at_once() {
    let config = json!({
        "command": 1, "args": ["a", 2], "cwd": "relative", "timeoutMs": 0, "bogus": true,
        "env": {"CARILLON_ATTEMPT": "1", "A=B": "x", "LIST": []},
    });
    let mut found = codes("shell_command", &config);
    found.sort();
    let mut expected = vec![
        ("taskConfig.args.1".to_owned(), "invalid_type"),
        ("taskConfig.bogus".to_owned(), "unknown_field"),
        ("taskConfig.command".to_owned(), "invalid_type"),
        ("taskConfig.cwd".to_owned(), "invalid_value"),
        ("taskConfig.env.A=B".to_owned(), "invalid_value"),
        ("taskConfig.env.CARILLON_ATTEMPT".to_owned(), "reserved_name"),
        ("taskConfig.env.LIST".to_owned(), "invalid_type"),
        ("taskConfig.timeoutMs".to_owned(), "out_of_range"),
    ];
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn timeout_is_another_name_of_timeout_ms() {
    let task = Task::parse("function", &json!({"name": "noop", "timeout": 5})).unwrap();
    assert_eq!(task.timeout_ms(), Some(5));
    let both = json!({"name": "noop", "timeout": 5, "timeoutMs": 6});
    assert_eq!(codes("function", &both), [("taskConfig.timeout".to_owned(), "invalid_value")]);
}

#[test]
fn types_that_are_not_built_are_refused_as_such() {
    for planned in ["worker_task", "workflow"] {
        assert_eq!(codes(planned, &json!({})), [("taskType".to_owned(), "not_supported_yet")]);
    }
    let faults = Task::parse("shell_comand", &json!({})).unwrap_err();
    assert!(faults[0].message.contains("`shell_command`"));
}

#[test]
fn a_url_that_cannot_be_meant_is_refused_when_it_is_written() {
    for (url, sound) in [
        ("https://example.com/a?b=c#d", true),
        ("http://127.1/", true),
        ("ftp://example.com/", false),
        ("file:///etc/passwd", false),
        ("//example.com", false),
        ("http://user:secret@example.com/", false),
        ("http://", false),
        ("http://exa mple.com/", false),
    ] {
        let parsed = Task::parse("http_request", &json!({"method": "GET", "url": url}));
        assert_eq!(parsed.is_ok(), sound, "{url}: {parsed:?}");
    }
}

#[test]
fn headers_of_the_connection_and_ours_are_reserved() {
    let config = json!({"method": "get", "url": "http://a/", "headers": {
        "Host": "x", "X-Carillon-Attempt": "1", "Bad Name": "x", "X-Cut": "a\r\nb: c", "X-Ok": "1",
    }});
    let mut found = codes("http_request", &config);
    found.sort();
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|(field, _)| field != "taskConfig.headers.X-Ok"));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let shell = json!({"command": "x", "env": {"TOKEN": "hunter2"}});
    let http = json!({"method": "GET", "url": "http://a/?k=hunter2", "headers": {"x": "hunter2"}});
    for (task_type, config) in [("shell_command", shell), ("http_request", http)] {
        let shown = format!("{:?}", Task::parse(task_type, &config).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_thread_id_cannot_leave_its_place_in_the_path() {
    for (id, sound) in [("t-1", true), ("..", false), ("a/b", false), ("a%2f", false)] {
        let config = json!({"message": "m", "threadId": id});
        assert_eq!(Task::parse("conductor_task", &config).is_ok(), sound, "{id}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("command".to_owned()),
        Just("url".to_owned()),
        Just("method".to_owned()),
        Just("env".to_owned()),
        Just("headers".to_owned()),
        ".{0,6}",
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_either_a_task_or_faults_with_paths(
        config in any_json(), index in 0..TYPES.len(),
    ) {
        if let Err(faults) = Task::parse(TYPES[index], &config) {
            prop_assert!(!faults.is_empty());
            prop_assert!(faults.iter().all(|fault| fault.field.starts_with("taskConfig")));
        }
    }
}

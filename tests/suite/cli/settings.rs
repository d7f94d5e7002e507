//! Commands that work with the settings.

use std::fs;

use serde_json::Value;

use super::carillon;

#[test]
fn a_wrong_setting_stops_the_start_with_one_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("c.toml"), "[executor]\nslot = 1\n").expect("written");
    let cases = [
        (&["serve"][..], ("CARILLON_EXECUTOR__LEASE_MS", "1"), "CARILLON_EXECUTOR__LEASE_MS"),
        (&["--listen", "nowhere"], ("A", "b"), "flag --listen"),
        (&["migrate", "--config", "c.toml"], ("A", "b"), "did you mean executor.slots?"),
        (&["doctor", "--config", "gone.toml"], ("A", "b"), "gone.toml"),
    ];
    for (line, variable, expected) in cases {
        let ended = carillon(directory.path(), line, &[variable]);
        assert_eq!((ended.status, ended.stdout.as_str()), (2, ""), "{line:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
}

#[test]
fn doctor_says_where_values_come_from_and_hides_secrets() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = "postgres://me:hush@/none?host=/nowhere";
    let environment = [("CARILLON_DATABASE__URL", url), ("CARILLON_EXECUTOR__SLOTS", "3")];
    let line = ["doctor", "--json", "--listen", "127.0.0.1:0", "--data-dir", "new/data"];
    let ended = carillon(directory.path(), &line, &environment);
    assert!(!ended.stdout.contains("hush") && !ended.stderr.contains("hush"), "{}", ended.stdout);
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let settings = report["settings"].as_array().expect("a list");
    let source = |key: &str| {
        let found = settings.iter().find(|setting| setting["key"] == key).expect("listed");
        (found["value"].to_string(), found["source"].to_string())
    };
    assert_eq!(source("executor.slots").1, "\"environment CARILLON_EXECUTOR__SLOTS\"");
    assert_eq!(source("server.listen").1, "\"flag --listen\"");
    assert_eq!(source("server.workers"), ("\"2\"".to_owned(), "\"default\"".to_owned()));
    let checks = report["checks"].as_array().expect("a list");
    let is_ok =
        |name: &str| checks.iter().any(|check| check["name"] == name && check["ok"] == true);
    assert!(is_ok("data directory") && is_ok("listen address"), "{checks:?}");
    assert!(!is_ok("database"), "there is no such database");
    assert_eq!(ended.status, 1);
    assert!(!directory.path().join("new").exists(), "looking changes nothing");
}

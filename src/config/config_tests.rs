//! Laws of the layering.

use std::io;
use std::path::PathBuf;

use toml::{Table, Value};

use super::*;

fn load(
    file: Option<&str>,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<Loaded, String> {
    let inputs = Inputs {
        file: file.map(|_| PathBuf::from("my.toml")),
        environment: environment
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
        flags: flags
            .iter()
            .map(|&(flag, key, text)| FlagValue { flag, key, text: text.to_owned() })
            .collect(),
    };
    Settings::load(inputs, |_| {
        file.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
    })
    .map_err(|error| error.to_string())
}

fn source_of(loaded: &Loaded, key: &str) -> (String, String) {
    let origin = loaded.origins.iter().find(|origin| origin.key == key).unwrap();
    (origin.value.clone(), origin.source.to_string())
}

#[test]
fn the_default_file_says_what_the_code_does() {
    let file: Table = DEFAULT_TOML.parse().unwrap();
    let code = Table::try_from(Settings::default()).unwrap();
    assert_eq!(file, code);
    assert_eq!(load(None, &[], &[]).unwrap().settings, Settings::default());
}

#[test]
fn every_number_has_a_range_that_holds_its_default() {
    let table: Table = DEFAULT_TOML.parse().unwrap();
    let mut numbers: Vec<(String, i64)> = Vec::new();
    for (section, values) in &table {
        for (name, value) in values.as_table().unwrap() {
            if let Value::Integer(number) = value {
                numbers.push((format!("{section}.{name}"), *number));
            }
        }
    }
    for (key, number) in &numbers {
        let range = RANGES.iter().find(|range| range.0 == key);
        let &(_, least, most) = range.unwrap_or_else(|| panic!("{key} has no range"));
        assert!((least..=most).contains(number), "{key}");
    }
    assert_eq!(numbers.len(), RANGES.len(), "a range without a key");
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 3\n[executor]\nslots = 5\n";
    let environment =
        [("CARILLON_SERVER__LISTEN", "127.0.0.1:2"), ("CARILLON_EXECUTOR__SLOTS", "6")];
    let flags = [("--listen", "server.listen", "127.0.0.1:3")];
    let loaded = load(Some(file), &environment, &flags).unwrap();
    assert_eq!(loaded.settings.server.listen.port(), 3);
    assert_eq!(loaded.settings.executor.slots, 6);
    assert_eq!(loaded.settings.server.workers, 3);
    assert_eq!(source_of(&loaded, "server.listen").1, "flag --listen");
    assert_eq!(source_of(&loaded, "executor.slots").1, "environment CARILLON_EXECUTOR__SLOTS");
    assert_eq!(source_of(&loaded, "server.workers"), ("3".to_owned(), "my.toml".to_owned()));
    assert_eq!(source_of(&loaded, "server.data_dir").1, "default");
}

#[test]
fn a_variable_is_read_as_what_its_key_holds() {
    let environment = [
        ("CARILLON_SERVER__HOSTS", "[\"a.example\", \"b.example\"]"),
        ("CARILLON_EGRESS__ALLOW", "10.0.0.0/8, db.internal"),
        ("CARILLON_ADMIN__FAULT_INJECTION", "true"),
        ("CARILLON_SERVER__DATA_DIR", "7411"),
        ("CARILLON_EXECUTOR__LEASE_MS", "2_000"),
        ("CARILLON_URL", "http://elsewhere"),
        ("CARILLON_EXECUTION_ID", "12"),
        ("PATH", "/bin"),
    ];
    let settings = load(None, &environment, &[]).unwrap().settings;
    assert_eq!(settings.server.hosts, ["a.example", "b.example"]);
    assert_eq!(settings.egress.allow, ["10.0.0.0/8", "db.internal"]);
    assert!(settings.admin.fault_injection);
    assert_eq!(settings.server.data_dir, PathBuf::from("7411"));
    assert_eq!(settings.executor.lease_ms, Millis(2_000));
}

#[test]
fn a_refusal_is_one_line_with_key_source_and_cure() {
    let file = |text: &'static str| (Some(text), "", "");
    let variable = |name: &'static str, text: &'static str| (None, name, text);
    let cases = [
        (
            file("[executor]\nslot = 5\n"),
            "unknown setting executor.slot (from my.toml); did you mean executor.slots?",
        ),
        (
            file("[excutor]\nslots = 5\n"),
            "unknown setting [excutor] (from my.toml); did you mean [executor]?",
        ),
        (file("listen = \"127.0.0.1:1\"\n"), "unknown setting [listen] (from my.toml)"),
        (file("[server]\ntimezone = \"UTC\"\n"), "did you mean scheduler.timezone?"),
        (file("[server\n"), "my.toml is not valid TOML: line 1: "),
        (variable("EXECUTOR__LEASES_MS", "1"), "did you mean CARILLON_EXECUTOR__LEASE_MS?"),
        (variable("SERVER_LISTEN", "x"), "write CARILLON_SERVER__LISTEN with two underscores"),
        (
            variable("EXECUTOR__LEASE_MS", "30s"),
            "executor.lease_ms (from environment CARILLON_EXECUTOR__LEASE_MS): \
             expected a whole number, found '30s'; write the number alone",
        ),
        (variable("EXECUTOR__LEASE_MS", "999"), "999 is out of range; use 1000 to 600000"),
        (variable("EXECUTOR__SLOTS", "-1"), "-1 is out of range; use 1 to 10000"),
        (variable("SERVER__LISTEN", "localhost"), "server.listen (from environment "),
        (variable("SERVER__LISTEN", "0.0.0.0:80"), "set server.behind_proxy = true"),
        (variable("SERVER__HOSTS", "[1]"), "server.hosts (from environment "),
        (variable("SERVER__HOSTS", "https://a.example"), "is not a plain host name"),
        (variable("SCHEDULER__TIMEZONE", "Mars/Olympus"), "scheduler.timezone (from environment "),
        (variable("EGRESS__MODE", "open"), "egress.mode (from environment "),
        (variable("EGRESS__ALLOW", "10.0.0.0/33"), "neither a host name nor"),
        (variable("DATABASE__URL", "mysql://u:secret@h/d"), "is not a PostgreSQL URL"),
        (variable("WEBSOCKET__IDLE_MS", "30000"), "is not longer than websocket.ping_ms"),
        (variable("CONDUCTOR__COMMAND", "[\"run\"]"), "conductor.url (from default): is needed"),
        (variable("LOG__LEVEL", "carillon=loud"), "log.level (from environment "),
        (variable("LOG__LEVEL", "loud"), "'loud' is not a level"),
    ];
    for ((file, name, text), expected) in cases {
        let name = format!("CARILLON_{name}");
        let line = load(file, &[(&name, text)], &[]).unwrap_err();
        assert!(line.contains(expected), "expected {expected}\n     got {line}");
        assert!(!line.contains('\n') && !line.contains("secret"), "{line}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let inputs = Inputs { file: Some("gone.toml".into()), ..Inputs::default() };
    let error = Settings::load(inputs, |_| Err(io::ErrorKind::NotFound.into())).unwrap_err();
    assert!(error.to_string().starts_with("cannot read the configuration file gone.toml"));
}

#[test]
fn secrets_are_never_shown() {
    let environment = [
        ("CARILLON_DATABASE__URL", "postgres://me:hush@db/x?host=/run&password=hush"),
        ("CARILLON_CONDUCTOR__TOKEN", "hush"),
        ("CARILLON_CONDUCTOR__URL", "http://127.0.0.1:3001/api"),
    ];
    let loaded = load(None, &environment, &[]).unwrap();
    assert_eq!(loaded.settings.database_url().unwrap(), environment[0].1);
    let shown = source_of(&loaded, "database.url").0;
    assert_eq!(shown, "\"postgres://me:***@db/x?host=/run&password=***\"");
    assert!(!format!("{loaded:?}").contains("hush"));
}

#[test]
fn a_database_url_is_shown_without_its_password() {
    let cases = [
        ("postgres://me@/x?host=/run", "postgres://me@/x?host=/run"),
        ("postgres://me:hush@/x?host=/run", "postgres://me:***@/x?host=/run"),
        ("postgres://me:hu@s/h@db:5432/x", "postgres://me:***@db:5432/x"),
        ("postgres://db/x?sslpassword=hush&a=b", "postgres://db/x?sslpassword=***&a=b"),
        ("postgres://me:hu?sh@db/x", "***"),
        ("hush", "***"),
        ("", ""),
    ];
    for (url, shown) in cases {
        assert_eq!(mask_url(url), shown);
    }
}

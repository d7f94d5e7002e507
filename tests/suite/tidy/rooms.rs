//! Who may know whom: the dependency direction of `docs/ARCHITECTURE.md`.

use std::collections::BTreeMap;

use super::sources::{Source, expect_none, rust_files};

/// Each room and the rooms it may use. The order is the direction: a room knows only rooms above
/// it, so there can be no cycle.
const RULES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &["domain"]),
    ("config", &["domain", "clock"]),
    ("telemetry", &["domain", "clock", "config"]),
    ("store", &["domain", "clock", "config", "telemetry"]),
    ("supervision", &["domain", "clock", "config", "telemetry"]),
    ("tasks", &["domain", "clock", "config", "telemetry", "store", "supervision"]),
    ("runtime", &["domain", "clock", "config", "telemetry", "store", "supervision", "tasks"]),
    (
        "api",
        &["domain", "clock", "config", "telemetry", "store", "supervision", "tasks", "runtime"],
    ),
    (
        "app",
        &[
            "domain",
            "clock",
            "config",
            "telemetry",
            "store",
            "supervision",
            "tasks",
            "runtime",
            "api",
        ],
    ),
    // Benchmarks drive a whole system from inside.
    ("bench", &["domain", "clock", "config", "store", "tasks", "runtime", "app"]),
    // The command line is a client of the HTTP interface: it knows the composition root, and of
    // the rest what its own three commands need.
    ("cli", &["domain", "clock", "config", "telemetry", "store", "tasks", "app", "bench"]),
];

/// A word, the only rooms that may use it in code, and why.
const WORDS: &[(&str, &[&str], &str)] = &[
    ("diesel", &["store"], "only the store knows the database"),
    ("rusqlite", &["store"], "only the store knows the database"),
    ("tokio_postgres", &["store"], "only the store knows the database"),
    ("actix_web::", &["api", "app"], "only api knows HTTP servers"),
    ("actix_web_actors", &["api"], "deprecated: one module uses it"),
    ("Utc::now", &["clock"], "time is asked of the injected clock"),
    ("SystemTime::now", &["clock"], "time is asked of the injected clock"),
    ("Local::now", &[], "time is UTC, asked of the injected clock"),
    ("std::time::Instant", &[], "tokio's Instant can be paused by tests"),
    ("env::var", &["config"], "only config reads the environment"),
    ("process::exit", &[], "skips the ordered stop"),
    ("do_send(", &[], "ignores a full or closed mailbox"),
    ("println!", &[], "logs go through tracing, answers through cli::output"),
];

#[test]
fn rooms_know_only_rooms_above_them() {
    let rules: BTreeMap<&str, &[&str]> = RULES.iter().copied().collect();
    let mut findings = Vec::new();
    for source in rust_files("src").iter().filter(|source| !is_outermost(source)) {
        let Some(allowed) = rules.get(source.room()) else {
            findings.push(format!("{} is in no room of the table", source.path));
            continue;
        };
        for (line, code) in source.code().filter(|_| !source.is_test()) {
            for used in rooms_named(code) {
                let is_known = rules.contains_key(used.as_str());
                if is_known && used != source.room() && !allowed.contains(&used.as_str()) {
                    findings.push(format!("{}:{line} uses {used}", source.path));
                }
            }
        }
    }
    expect_none("a room may use only the rooms above it", &findings);
}

#[test]
fn the_table_itself_goes_one_way() {
    for (index, (room, allowed)) in RULES.iter().enumerate() {
        for used in *allowed {
            let above = RULES[..index].iter().any(|(name, _)| name == used);
            assert!(above, "{room} may use {used}, which is not above it");
        }
    }
}

#[test]
fn words_stay_in_their_rooms() {
    let mut findings = Vec::new();
    for source in rust_files("src").iter().filter(|source| !source.is_test()) {
        for (line, code) in source.code() {
            for (word, rooms, reason) in WORDS {
                if code.contains(word) && !rooms.contains(&source.room()) {
                    findings.push(format!("{}:{line} says {word}: {reason}", source.path));
                }
            }
        }
    }
    expect_none("a word left its room", &findings);
}

#[test]
fn the_two_back_ends_do_not_know_each_other() {
    let mut findings = Vec::new();
    for (own, other) in [("postgres", "sqlite"), ("sqlite", "postgres")] {
        let folder = format!("src/store/{own}/");
        let files = rust_files("src/store");
        for source in files.iter().filter(|source| source.path.starts_with(&folder)) {
            for (line, code) in source.code() {
                let names = [format!("store::{other}"), format!("super::{other}")];
                if names.iter().any(|name| code.contains(name)) {
                    findings.push(format!("{}:{line} uses {other}", source.path));
                }
            }
        }
    }
    expect_none("back ends are siblings", &findings);
}

/// `lib.rs` and `main.rs` stand above every room.
fn is_outermost(source: &Source) -> bool {
    matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs")
}

/// The rooms that a line names: after `crate::`, also in a list.
fn rooms_named(code: &str) -> Vec<String> {
    let name_at = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut rooms = Vec::new();
    for (index, mark) in code.match_indices("crate::") {
        let rest = &code[index + mark.len()..];
        match rest.strip_prefix('{') {
            Some(list) => rooms.extend(list.split(',').map(|part| name_at(part.trim()))),
            None => rooms.push(name_at(rest)),
        }
    }
    rooms
}

#[test]
fn rooms_are_found_however_they_are_imported() {
    assert_eq!(rooms_named("use crate::store::Store;"), ["store"]);
    assert_eq!(rooms_named("use crate::{api::X, runtime};"), ["api", "runtime"]);
    assert_eq!(rooms_named("let a = crate::clock::Clock::system();"), ["clock"]);
}

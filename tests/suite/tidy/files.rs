//! Sizes, names and pairs of files.

use std::collections::BTreeSet;
use std::fs;

use super::sources::{expect_none, root, rust_files};

const LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 40;
const COLUMNS_MAX: usize = 100;

/// Written by a tool.
const GENERATED: &[&str] = &["schema/src/tables.rs"];

#[test]
fn files_are_short_enough_to_read() {
    let mut findings = Vec::new();
    let folders = ["src", "schema/src", "tests", "benches"];
    for source in folders.into_iter().flat_map(rust_files) {
        let most = if source.path == "src/main.rs" { MAIN_LINES_MAX } else { LINES_MAX };
        let lines = source.text.lines().count();
        if lines > most && !GENERATED.contains(&source.path.as_str()) {
            findings.push(format!("{} has {lines} lines, {most} at most", source.path));
        }
    }
    expect_none("split it", &findings);
}

#[test]
fn files_say_what_they_are_for() {
    let files: Vec<_> = ["src", "schema/src"].into_iter().flat_map(rust_files).collect();
    let silent = files.iter().filter(|source| {
        let is_exempt = source.is_test() || GENERATED.contains(&source.path.as_str());
        !source.text.starts_with("//!") && !is_exempt
    });
    let findings: Vec<String> = silent.map(|source| source.path.clone()).collect();
    expect_none("a file starts with `//!`", &findings);
}

#[test]
fn comments_fit_the_width_of_the_code() {
    let mut findings = Vec::new();
    for source in rust_files("src").iter().chain(&rust_files("shim")).chain(&rust_files("tests")) {
        for (index, line) in source.text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            if is_comment && line.chars().count() > COLUMNS_MAX && !line.contains("://") {
                findings.push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    expect_none("break the comment", &findings);
}

#[test]
fn no_test_is_switched_off() {
    // Written apart, or this file would find itself.
    let mark = ["#[", "ignore"].concat();
    let mut findings = Vec::new();
    for source in rust_files("src").iter().chain(&rust_files("shim")).chain(&rust_files("tests")) {
        for (index, line) in source.text.lines().enumerate() {
            if line.trim_start().starts_with(&mark) {
                findings.push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    expect_none("mend the test or delete it", &findings);
}

#[test]
fn both_back_ends_have_the_same_migrations() {
    let names = |back_end: &str| -> BTreeSet<String> {
        let folder = root().join("migrations").join(back_end);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let (postgres, sqlite) = (names("postgres"), names("sqlite"));
    assert_eq!(postgres, sqlite);
    for name in &postgres {
        for file in ["up.sql", "down.sql"] {
            for back_end in ["postgres", "sqlite"] {
                let path = root().join("migrations").join(back_end).join(name).join(file);
                assert!(path.exists(), "{} is missing", path.display());
            }
        }
    }
}

/// Words in backquotes that start like one of our folders name a file that exists.
#[test]
fn documents_name_files_that_exist() {
    let folders = ["src/", "tests/", "config/", "migrations/", "docs/", "scripts/", "benches/"];
    let mut documents = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    let docs = fs::read_dir(root().join("docs")).into_iter().flatten().flatten();
    documents.extend(docs.map(|entry| entry.path()));
    let mut findings = Vec::new();
    for document in documents {
        let Ok(text) = fs::read_to_string(&document) else { continue };
        for name in text.split('`').skip(1).step_by(2) {
            let is_plain = !name.contains([' ', '*', '<', '{', '\n']);
            let is_ours = is_plain && folders.iter().any(|folder| name.starts_with(folder));
            let path = name.split(':').next().unwrap_or(name);
            if is_ours && !root().join(path).exists() {
                findings.push(format!("{} names {name}", document.display()));
            }
        }
    }
    expect_none("the file is gone or was never there", &findings);
}

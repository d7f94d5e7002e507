//! Reading the project's own files.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file of the project.
pub(crate) struct Source {
    /// Its path from the root of the project, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The room it belongs to: the folder or file right under `src/`.
    pub(crate) fn room(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let room = inner.split('/').next().unwrap_or(inner);
        room.strip_suffix(".rs").unwrap_or(room)
    }

    /// Whether it holds tests alone, by its name.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("_tests.rs") || self.path.ends_with("/tests.rs")
    }

    /// The lines of code, numbered from 1: no comments, and nothing from the first inline test
    /// module on.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut in_tests = false;
        let mut after_cfg = false;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            if after_cfg && line.starts_with("mod ") && line.ends_with('{') {
                in_tests = true;
            }
            after_cfg = line.starts_with("#[cfg(test)]") || (after_cfg && line.starts_with("#["));
            let code = line.trim_start();
            (!in_tests && !code.starts_with("//")).then_some((index + 1, code))
        })
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under a folder of the project.
pub(crate) fn rust_files(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    let sources = found.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let mut sources: Vec<Source> = sources
        .map(|path| Source {
            text: fs::read_to_string(&path).expect("a source file is readable UTF-8"),
            path: path.strip_prefix(root()).expect("under the root").display().to_string(),
        })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Fails with one line a finding.
pub(crate) fn expect_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

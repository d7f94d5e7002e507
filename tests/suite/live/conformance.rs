//! The Autobahn cases against the socket's frame layer, run by `kosoku`.
//!
//! Cases 12 and 13 are about compression, which the socket does not offer.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::support::{Live, settings};

const INSTALL: &str = "python3 -m venv target/conformance && \
    target/conformance/bin/pip install -r tests/conformance/requirements.txt";
/// The suite has a command but no module to run.
const RUN: &str = "import sys; from kosoku._cli import main; sys.exit(main())";
/// The cases that send megabytes take a while in a debug build.
const SUITE_DEADLINE: Duration = Duration::from_secs(300);

fn python() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let chosen = std::env::var("CARILLON_TEST_PYTHON").ok().map(PathBuf::from);
    chosen.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/conformance/bin/python")
    })
}

#[actix_rt::test]
async fn every_conformance_case_from_1_to_10_passes() {
    let python = python();
    assert!(python.exists(), "{} is missing; install it: {INSTALL}", python.display());
    let (live, _hub) = Live::start(settings(), 0, 10).await;
    let reports = tempfile::tempdir().unwrap();
    let mut suite = tokio::process::Command::new(python);
    suite.args(["-c", RUN, "-m", "fuzzingclient", "-x", "12.*", "-x", "13.*", "-p", "4", "-o"]);
    suite.arg(reports.path()).arg(format!("ws://127.0.0.1:{}/ws-echo", live.port()));
    suite.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SUITE_DEADLINE, suite.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let index = std::fs::read(reports.path().join("index.json"))
        .unwrap_or_else(|_| panic!("no report; installed? {INSTALL}\n{said}"));
    let index: Value = serde_json::from_slice(&index).unwrap();
    let agents = index.as_object().unwrap();
    let cases: Vec<_> = agents.values().flat_map(|cases| cases.as_object().unwrap()).collect();
    assert!(cases.len() > 240, "only {} cases ran", cases.len());
    let failed: Vec<_> = cases
        .iter()
        .filter(|(_, case)| {
            let is_fine =
                |field: &str| matches!(case[field].as_str(), Some("OK" | "INFORMATIONAL"));
            !(is_fine("behavior") && is_fine("behaviorClose"))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

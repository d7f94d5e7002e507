//! Commands that stand still and go on: the whole tree of them, whatever it forks.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::support::{Bench, kind, living, marker, until};

/// Longer than a tree that runs needs to show it.
const STILL: Duration = Duration::from_millis(700);

/// A tree that forks for ever and writes down that it does; `mark` is on each command line.
fn storm(file: &str, mark: &str) -> String {
    format!(
        "(while :; do sh -c 'echo a >> {file}'; done) & \
         (while :; do (echo b >> {file}); sleep 0.01; done) & wait # {mark}"
    )
}

fn length(file: &str) -> u64 {
    std::fs::metadata(file).map_or(0, |file| file.len())
}

/// Waits until the file has not grown for a while.
async fn until_still(file: &str) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let before = length(file);
        tokio::time::sleep(STILL).await;
        if length(file) == before {
            return before;
        }
        assert!(Instant::now() < deadline, "the tree goes on");
    }
}

#[actix_rt::test]
async fn a_tree_that_forks_stands_still_while_it_is_paused() {
    let bench = Bench::new();
    let (file, mark) = (bench.path("lines"), marker());
    let running = bench.start("shell_command", json!({"command": storm(&file, &mark)}));
    until("the tree runs", || length(&file) > 20).await;
    running.control.set_paused(true);
    let still = until_still(&file).await;
    // Whoever is let go on by somebody else, and forks, is stopped again with its children.
    for raw in living(&mark) {
        let _gone = kill_process(Pid::from_raw(raw).unwrap(), Signal::CONT);
    }
    let again = until_still(&file).await;
    assert!(again >= still);
    running.control.set_paused(false);
    until("the tree goes on", || length(&file) > again + 20).await;
    // It can be cancelled while it stands still.
    running.control.set_paused(true);
    until_still(&file).await;
    running.control.cancel();
    assert_eq!(kind(&running.outcome().await), "cancelled");
    assert!(living(&mark).is_empty());
}

#[actix_rt::test]
async fn the_time_of_a_pause_does_not_count_against_the_timeout() {
    let bench = Bench::new();
    let command = "for n in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done";
    let config = json!({"command": command, "timeoutMs": 4_000});
    let running = bench.start("shell_command", config);
    running.control.set_paused(true);
    tokio::time::sleep(Duration::from_millis(5_000)).await;
    running.control.set_paused(false);
    assert_eq!(kind(&running.outcome().await), "completed");
}

#[actix_rt::test]
async fn a_process_that_stopped_itself_is_not_let_go_on() {
    let bench = Bench::new();
    let file = bench.path("woken");
    let command = format!("sh -c 'kill -STOP $$; touch {file}' & sleep 1; sleep 1; exit 0");
    let running = bench.start("shell_command", json!({"command": command}));
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.control.set_paused(true);
    tokio::time::sleep(STILL).await;
    running.control.set_paused(false);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!std::path::Path::new(&file).exists());
    assert_eq!(kind(&running.outcome().await), "completed");
}

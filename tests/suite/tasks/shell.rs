//! Shell tasks through the whole way: server side, shim, processes.

use std::time::{Duration, Instant};

use carillon::domain::task::Task;
use carillon::tasks::function::FunctionRegistry;
use carillon::tasks::{LogStream, Outcome};
use serde_json::json;

use super::support::{Bench, kind, living, marker, until, zombies};
use crate::support::deaths::Deaths;

#[actix_rt::test]
async fn a_command_completes_with_its_output() {
    let bench = Bench::new();
    let running = bench.start("shell_command", json!({"command": "echo out; echo err >&2"}));
    let heard = running.heard.clone();
    let outcome = running.outcome().await;
    let expected = json!({"exitCode": 0, "stdout": "out\n", "stderr": "err\n", "truncated": false});
    assert_eq!(outcome.result(), Some(&expected));
    assert_eq!((kind(&outcome), outcome.extra().killed), ("completed", 0));
    let lines = heard.lines.lock();
    let mut seen: Vec<_> = lines.iter().map(|line| (line.stream, line.text.as_str())).collect();
    seen.sort_by_key(|(stream, _)| stream.name());
    assert_eq!(seen, [(LogStream::Stderr, "err"), (LogStream::Stdout, "out")]);
}

#[actix_rt::test]
async fn with_args_no_shell_reads_the_command() {
    let bench = Bench::new();
    let config = json!({"command": "echo", "args": ["$HOME;", "a b", ""]});
    let outcome = bench.run("shell_command", config).await;
    assert_eq!(outcome.result().unwrap()["stdout"], "$HOME; a b \n");
}

#[actix_rt::test]
async fn exit_statuses_are_classified() {
    let bench = Bench::new();
    let script = bench.path("not-executable");
    std::fs::write(&script, "echo").unwrap();
    let table = [
        (json!({"command": "exit 3"}), "exit_code", true),
        (json!({"command": "no-such-command-here"}), "command_not_found", false),
        (json!({"command": "no-such-command-here", "args": []}), "command_not_found", false),
        (json!({"command": script}), "not_executable", false),
        (json!({"command": script, "args": []}), "not_executable", false),
        (json!({"command": "kill -9 $$"}), "signal", true),
        (json!({"command": "true", "cwd": "/no/such/folder"}), "invalid_config", false),
    ];
    for (config, expected, transient) in table {
        let Outcome::Failed { error, .. } = bench.run("shell_command", config.clone()).await else {
            panic!("{config} did not fail");
        };
        assert_eq!((error.kind.as_str(), error.transient), (expected, transient), "{config}");
    }
}

#[actix_rt::test]
async fn a_task_sees_its_own_environment_and_nothing_of_the_servers() {
    let bench = Bench::new();
    let config = json!({"command": "/usr/bin/env", "args": [], "env": {"MINE": "1", "LANG": "C"}});
    let running = bench.start("shell_command", config);
    let id = running.execution_id;
    let outcome = running.outcome().await;
    let stdout = outcome.result().unwrap()["stdout"].as_str().unwrap().to_owned();
    let mut names: Vec<&str> =
        stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let expected = [
        "CARILLON_ATTEMPT",
        "CARILLON_CHAIN_ID",
        "CARILLON_EXECUTION_ID",
        "CARILLON_FENCING_TOKEN",
        "CARILLON_PROGRESS_FILE",
        "CARILLON_SCHEDULED_AT",
        "CARILLON_SCHEDULE_ID",
        "HOME",
        "LANG",
        "MINE",
        "PATH",
        "TRACEPARENT",
        "TZ",
    ];
    assert_eq!(names, expected);
    for line in [
        format!("CARILLON_EXECUTION_ID={id}"),
        "CARILLON_ATTEMPT=2".to_owned(),
        "CARILLON_SCHEDULED_AT=2027-01-15T08:00:00.123Z".to_owned(),
        "LANG=C".to_owned(),
    ] {
        assert!(stdout.lines().any(|found| found == line), "{line} in {stdout}");
    }
}

#[actix_rt::test]
async fn a_task_gets_an_empty_input_and_no_open_files_of_the_server() {
    let bench = Bench::new();
    // Whoever started the tests may have left files open for everybody.
    let given = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
    let given = String::from_utf8(given.stdout).unwrap();
    let command = "cat; ls /proc/self/fd; umask; ulimit -c";
    let outcome = bench.run("shell_command", json!({"command": command})).await;
    assert_eq!(outcome.result().unwrap()["stdout"], format!("{given}0077\n0\n"));
}

#[actix_rt::test]
async fn progress_is_passed_on_and_its_file_is_gone_after() {
    let bench = Bench::new();
    let command = "echo '{\"percent\": 50, \"message\": \"half\"}' >> $CARILLON_PROGRESS_FILE";
    let running = bench.start("shell_command", json!({"command": command}));
    let heard = running.heard.clone();
    assert_eq!(kind(&running.outcome().await), "completed");
    let progress = heard.progress.lock();
    assert_eq!(progress.len(), 1);
    assert_eq!(progress[0].percent, Some(50.0));
    assert_eq!(std::fs::read_dir(bench.path("progress")).unwrap().count(), 0);
}

#[actix_rt::test]
async fn a_secret_reaches_neither_result_nor_log_however_it_is_read() {
    let bench = Bench::new();
    let command = "printf 'a sup3rs'; sleep 0.2; echo \"3cret b\"; echo $API_TOKEN >&2; \
                   head -c 700000 /dev/zero | tr '\\0' x; printf '%s' $API_TOKEN; \
                   head -c 700000 /dev/zero | tr '\\0' x";
    let config = json!({"command": command, "env": {"API_TOKEN": "sup3rs3cret"}});
    let running = bench.start("shell_command", config);
    let heard = running.heard.clone();
    let outcome = running.outcome().await;
    let result = outcome.result().unwrap();
    assert!(result["stdout"].as_str().unwrap().starts_with("a *** b\nxxx"));
    assert_eq!(result["stderr"], "***\n");
    assert!(heard.has_line("a *** b"));
    assert!(!result.to_string().contains("s3cret"));
    assert!(heard.lines.lock().iter().all(|line| !line.text.contains("s3cret")));
    assert_eq!(std::fs::read_dir(bench.path("output")).unwrap().count(), 0);
}

#[actix_rt::test]
async fn ten_megabytes_are_drained_and_cut_visibly() {
    let bench = Bench::new();
    let command = "echo first; head -c 10000000 /dev/zero | tr '\\0' x; echo; printf '\\377last'";
    let outcome = bench.run("shell_command", json!({"command": command})).await;
    let result = outcome.result().unwrap();
    let stdout = result["stdout"].as_str().unwrap();
    assert_eq!((kind(&outcome), result["truncated"].as_bool()), ("completed", Some(true)));
    assert!(stdout.starts_with("first\nxxx") && stdout.ends_with("\n\u{fffd}last"));
    assert!(stdout.contains("bytes not kept ..."));
    assert!(stdout.len() < 1024 * 1024 + 100, "{}", stdout.len());
}

#[actix_rt::test]
async fn a_task_past_its_timeout_is_ended_with_its_whole_tree() {
    let bench = Bench::new();
    let sleep = marker();
    let command = format!("echo started; sleep {sleep} & sleep {sleep}");
    let config = json!({"command": command, "timeoutMs": 1_000});
    let start = Instant::now();
    let running = bench.start("shell_command", config);
    until("the tree is up", || living(&format!("sleep\0{sleep}")).len() == 2).await;
    let deaths = Deaths::of(&living(&sleep));
    let outcome = running.outcome().await;
    assert_eq!((kind(&outcome), living(&sleep)), ("timeout", vec![]));
    assert!(outcome.extra().killed >= 2, "{outcome:?}");
    assert_eq!(outcome.result().unwrap()["stdout"], "started\n");
    let took = deaths.last().saturating_duration_since(start);
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
}

/// Commands that resist their end; `SLEEP` stands for a number of seconds that marks them.
const TOUGH: [(&str, &str); 6] = [
    ("own session", "setsid sleep SLEEP & wait"),
    ("double fork", "(setsid sh -c 'sleep SLEEP & exit' &) ; sleep SLEEP"),
    ("TERM ignored", "trap '' TERM HUP INT; sleep SLEEP & wait; sleep SLEEP; sleep SLEEP"),
    (
        "stopped",
        "sh -c 'kill -STOP $$; sleep SLEEP' & sh -c 'trap \"\" TERM; kill -STOP $$; sleep SLEEP' & sleep SLEEP",
    ),
    ("own group", "setsid sh -c 'trap \"\" TERM; sleep SLEEP; sleep SLEEP' & sleep SLEEP"),
    ("environment emptied", "env -i setsid sleep SLEEP & env -i sleep SLEEP"),
];

#[actix_rt::test]
async fn nothing_survives_a_cancel() {
    for (name, command) in TOUGH {
        let bench = Bench::new();
        let sleep = marker();
        let command = command.replace("SLEEP", &sleep);
        // Without a last command the shell would be replaced by its only child.
        let config = json!({"command": format!("{command}; true"), "graceMs": 200});
        let running = bench.start("shell_command", config);
        until(name, || !living(&format!("sleep\0{sleep}")).is_empty()).await;
        running.control.cancel();
        let outcome = running.outcome().await;
        assert_eq!(living(&sleep), Vec::<i32>::new(), "{name}");
        assert_eq!(kind(&outcome), "cancelled", "{name}");
    }
}

#[actix_rt::test]
async fn a_script_that_ends_its_group_does_not_end_its_shim() {
    let bench = Bench::new();
    let sleep = marker();
    let command = format!("setsid sleep {sleep} & sleep {sleep} & kill -9 0");
    let outcome = bench.run("shell_command", json!({"command": command})).await;
    assert_eq!((kind(&outcome), living(&sleep)), ("signal", vec![]));
}

#[actix_rt::test]
async fn a_task_that_heeds_term_has_its_grace() {
    let bench = Bench::new();
    let command = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let running = bench.start("shell_command", json!({"command": command}));
    until("the task is ready", || running.heard.has_line("ready")).await;
    running.control.cancel();
    let outcome = running.outcome().await;
    assert_eq!(kind(&outcome), "cancelled");
    assert_eq!(outcome.result().unwrap()["stdout"], "ready\nbye\n");
}

#[actix_rt::test]
async fn a_drain_interrupts_and_a_lost_lease_says_so() {
    let bench = Bench::new();
    let running = bench.start("shell_command", json!({"command": "echo up; sleep 60"}));
    until("the task is up", || running.heard.has_line("up")).await;
    running.control.interrupt();
    assert_eq!(kind(&running.outcome().await), "interrupted");

    let lease = tokio::time::Instant::now() + Duration::from_millis(300);
    let config = json!({"command": "sleep 60"});
    let running = bench.start_with("shell_command", config, |_| {}, Some(lease));
    running.control.lease_extended(lease + Duration::from_millis(700));
    let start = Instant::now();
    assert_eq!(kind(&running.outcome().await), "node_lost");
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
}

#[actix_rt::test]
async fn what_a_finished_command_left_behind_is_ended_and_counted() {
    let bench = Bench::new();
    let sleep = marker();
    // The child holds the pipes open; the command itself is done.
    let command = format!("setsid sleep {sleep} & echo done");
    let outcome = bench.run("shell_command", json!({"command": command})).await;
    assert_eq!((kind(&outcome), outcome.extra().killed), ("completed", 1));
    assert_eq!(living(&sleep), Vec::<i32>::new());
    // Whoever waited for the end of the output would have waited for years.
    assert_eq!(outcome.result().unwrap()["stdout"], "done\n");
}

/// Thirty processes, each of which for ever starts another like itself and dies.
fn storm(bench: &Bench, marker: &str) -> String {
    let storm = bench.path("storm.sh");
    let text = format!("trap '' TERM\n: sleep {marker}\nsetsid sh \"$0\" {marker} & exit\n");
    std::fs::write(&storm, text).unwrap();
    format!("for i in $(seq 30); do sh {storm} {marker} & done; wait; sleep {marker}")
}

#[actix_rt::test]
async fn a_storm_of_forks_that_ignores_term_is_ended() {
    carillon::tasks::shim::adopt_orphans().unwrap();
    let bench = Bench::new();
    let sleep = marker();
    let config = json!({"command": storm(&bench, &sleep), "graceMs": 300});
    let running = bench.start("shell_command", config);
    until("the storm is up", || living(&sleep).len() > 10).await;
    running.control.cancel();
    assert_eq!(kind(&running.outcome().await), "cancelled");
    assert_eq!((living(&sleep), zombies()), (vec![], vec![]));
}

#[actix_rt::test]
async fn a_storm_of_forks_that_kills_its_shim_is_ended() {
    carillon::tasks::shim::adopt_orphans().unwrap();
    let bench = Bench::new();
    let sleep = marker();
    let storm = storm(&bench, &sleep);
    let command = format!("shim=$PPID; (sleep 0.3; kill -9 $shim) & {storm}");
    let running = bench.start("shell_command", json!({"command": command}));
    assert_eq!(kind(&running.outcome().await), "internal");
    assert_eq!((living(&sleep), zombies()), (vec![], vec![]));
}

/// The shims below this process.
fn shims() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children = threads.flat_map(|thread| {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        list.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    let is_shim = |child: &String| {
        let line = std::fs::read_to_string(format!("/proc/{child}/cmdline"));
        line.is_ok_and(|line| line.contains("task-shim"))
    };
    children.filter(is_shim).collect()
}

#[actix_rt::test]
async fn a_shim_that_was_killed_while_it_waited_is_passed_over() {
    let bench = Bench::new();
    assert_eq!(shims(), Vec::<String>::new(), "none before the first task");
    let config = || json!({"command": "true", "args": []});
    assert_eq!(kind(&bench.run("shell_command", config()).await), "completed");
    until("shims wait", || shims().len() == 2).await;
    let kill = std::process::Command::new("kill").arg("-9").args(shims()).status().unwrap();
    assert!(kill.success());
    until("they are dead", || zombies().len() == 2).await;
    for _ in 0..3 {
        assert_eq!(kind(&bench.run("shell_command", config()).await), "completed");
    }
    until("others wait", || shims().len() == 2).await;
    drop(bench);
    until("they ended with whom they waited for", || shims().is_empty()).await;
}

#[actix_rt::test]
async fn a_dropped_run_leaves_nothing_alive() {
    let bench = Bench::new();
    let sleep = marker();
    let command =
        format!("trap '' TERM; echo up; setsid sleep {sleep} & sleep {sleep}; sleep {sleep}");
    let running = bench.start("shell_command", json!({"command": command}));
    until("the task is up", || running.heard.has_line("up")).await;
    until("the whole tree is up", || living(&sleep).len() == 3).await;
    let deaths = Deaths::of(&living(&sleep));
    let start = Instant::now();
    running.abandon();
    until("the tree is gone", || living(&sleep).is_empty()).await;
    let took = deaths.last().saturating_duration_since(start);
    assert!(took < Duration::from_secs(2), "the last process lived on for {took:?}");
}

#[actix_rt::test]
async fn a_task_that_kills_its_shim_is_hunted_down() {
    carillon::tasks::shim::adopt_orphans().unwrap();
    let bench = Bench::new();
    let sleep = marker();
    let command = format!(
        "env -i setsid sleep {sleep} & setsid sh -c 'trap \"\" TERM; sleep {sleep}; sleep {sleep}' \
         & sleep 0.1; kill -9 $PPID; sleep {sleep}"
    );
    let outcome = bench.run("shell_command", json!({"command": command})).await;
    assert_eq!(kind(&outcome), "internal", "{outcome:?}");
    assert!(outcome.extra().killed >= 3, "{outcome:?}");
    assert_eq!((living(&sleep), zombies()), (vec![], vec![]));
}

#[actix_rt::test]
async fn a_task_that_stops_its_shim_is_ended_all_the_same() {
    carillon::tasks::shim::adopt_orphans().unwrap();
    let bench = Bench::new();
    let sleep = marker();
    let command = format!("kill -STOP $PPID; echo stopped; sleep {sleep}");
    let running = bench.start("shell_command", json!({"command": command, "graceMs": 100}));
    until("the shim is stopped", || running.heard.has_line("stopped")).await;
    running.control.cancel();
    let outcome = running.outcome().await;
    assert_eq!((kind(&outcome), living(&sleep)), ("cancelled", vec![]));
}

#[actix_rt::test]
async fn a_shim_that_cannot_be_started_is_a_failure_that_says_so() {
    let bench = Bench::with(
        |settings| settings.shim = Some("/no/such/shim".into()),
        FunctionRegistry::with_builtin(),
    );
    let outcome = bench.run("shell_command", json!({"command": "true"})).await;
    assert_eq!(kind(&outcome), "internal");
}

#[test]
fn default_timeouts_are_those_of_the_type() {
    let bench = Bench::new();
    let shell = Task::parse("shell_command", &json!({"command": "true"})).unwrap();
    let cleanup = Task::parse("function", &json!({"name": "cleanup:old_executions"})).unwrap();
    assert_eq!(bench.environment.default_timeout(&shell), Duration::from_secs(60));
    assert_eq!(bench.environment.default_timeout(&cleanup), Duration::from_secs(600));
}

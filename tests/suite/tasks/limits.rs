//! What a command may use, as whom it runs, and what it must not see. Cases that need root pass
//! over themselves where the tests do not run as root.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use carillon::domain::task::TaskLimits;
use carillon::tasks::function::FunctionRegistry;
use carillon::tasks::{ControlGroups, Outcome};
use serde_json::{Value, json};

use super::support::{Bench, kind, living, marker, until, zombies};

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { error, .. } => &error.message,
        _ => panic!("it did not fail: {outcome:?}"),
    }
}

async fn limited(command: &str, limits: Value) -> Outcome {
    let bench = Bench::new();
    let config = json!({"command": command, "limits": limits, "timeoutMs": 20_000});
    bench.run("shell_command", config).await
}

#[actix_rt::test]
async fn a_task_over_its_memory_is_ended_and_told_so() {
    // A shell that doubles a string for ever.
    let command = "x=0123456789abcdef; while :; do x=$x$x; done";
    let outcome = limited(command, json!({"memoryMb": 48})).await;
    assert_eq!(kind(&outcome), "signal");
    assert!(message(&outcome).contains("its limit of 48 MiB (`limits.memoryMb`)"), "{outcome:?}");
    assert!(outcome.extra().usage.unwrap().peak_memory_bytes > 48 << 20);
}

#[actix_rt::test]
async fn the_memory_of_a_whole_tree_counts() {
    let hold = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 60";
    let command = format!(
        "sh -c '{}' & sh -c '{}' & wait",
        hold.replace('\'', "\""),
        hold.replace('\'', "\"")
    );
    let outcome = limited(&command, json!({"memoryMb": 30})).await;
    assert_eq!(kind(&outcome), "signal");
    assert!(message(&outcome).contains("`limits.memoryMb`"), "{outcome:?}");
}

#[actix_rt::test]
async fn a_task_over_its_processor_time_is_ended_and_told_so() {
    let spin = "while :; do :; done";
    let outcome = limited(&format!("({spin}) & ({spin}) & wait"), json!({"cpuMs": 300})).await;
    assert_eq!(kind(&outcome), "signal");
    assert!(message(&outcome).contains("its limit of 300 ms (`limits.cpuMs`)"), "{outcome:?}");
    assert!(outcome.extra().usage.unwrap().cpu_ms >= 300);
}

#[actix_rt::test]
async fn a_fork_bomb_under_a_limit_is_ended_and_told_so() {
    carillon::tasks::shim::adopt_orphans().unwrap();
    let bench = Bench::new();
    let sleep = marker();
    // A bomb with a fuse: without the limit it would reach 2^8 processes.
    let bomb = bench.path("bomb.sh");
    let text = format!(
        "trap '' TERM\n: {sleep}\n[ $1 -gt 6 ] && exec sleep 60\n\
         setsid sh \"$0\" $(($1+1)) {sleep} & setsid sh \"$0\" $(($1+1)) {sleep} & wait\n"
    );
    std::fs::write(&bomb, text).unwrap();
    let config = json!({"command": format!("sh {bomb} 0 {sleep}"), "limits": {"processes": 20}});
    let outcome = bench.run("shell_command", config).await;
    assert_eq!(kind(&outcome), "signal");
    assert!(message(&outcome).contains("its limit of 20 (`limits.processes`)"), "{outcome:?}");
    assert!(outcome.extra().killed > 20);
    assert_eq!((living(&sleep), zombies()), (vec![], vec![]));
}

#[actix_rt::test]
async fn a_task_that_writes_more_than_it_may_is_ended_and_told_so() {
    let outcome = limited("tr '\\0' x < /dev/zero", json!({"outputBytes": 1_000_000})).await;
    assert_eq!(kind(&outcome), "output_too_large");
    let expected = "its limit of 1000000 bytes (`limits.outputBytes`)";
    assert!(message(&outcome).contains(expected), "{outcome:?}");
}

#[actix_rt::test]
async fn open_files_are_limited_for_each_process() {
    let outcome = limited("ulimit -n; ulimit -Hn", json!({"openFiles": 33})).await;
    assert_eq!(outcome.result().unwrap()["stdout"], "33\n33\n");
}

#[actix_rt::test]
async fn a_task_that_asks_for_nothing_has_the_open_files_that_the_server_started_with() {
    let bench =
        Bench::with(|settings| settings.open_files = Some(100), FunctionRegistry::with_builtin());
    let outcome = bench.run("shell_command", json!({"command": "ulimit -n"})).await;
    assert_eq!(outcome.result().unwrap()["stdout"], "100\n");
    let config = json!({"command": "ulimit -n", "limits": {"openFiles": 70}});
    let outcome = bench.run("shell_command", config).await;
    assert_eq!(outcome.result().unwrap()["stdout"], "70\n");
    let more = json!({"command": "ulimit -n 101 && ulimit -n"});
    let outcome = bench.run("shell_command", more).await;
    assert_eq!(outcome.result().unwrap()["stdout"], "101\n", "it may raise it itself");
}

#[actix_rt::test]
async fn a_task_within_its_limits_completes_and_tells_what_it_used() {
    let limits = json!({"memoryMb": 200, "cpuMs": 5_000, "processes": 10, "openFiles": 64,
                        "outputBytes": 1000});
    let outcome =
        limited("echo fine; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", limits).await;
    assert_eq!(kind(&outcome), "completed");
    let usage = outcome.extra().usage.unwrap();
    assert!(usage.peak_memory_bytes > 500_000 && usage.cpu_ms >= 1, "{usage:?}");
    assert_eq!(outcome.result().unwrap()["stdout"], "fine\n");
}

#[actix_rt::test]
async fn faults_are_told_in_the_same_words_with_limits() {
    let bench = Bench::new();
    for (config, expected) in [
        (json!({"command": "no-such-command-here", "args": []}), "command_not_found"),
        (json!({"command": "/etc/passwd", "args": []}), "not_executable"),
        (json!({"command": "true", "cwd": "/no/such/folder"}), "invalid_config"),
        (json!({"command": "exit 3"}), "exit_code"),
    ] {
        let mut config = config;
        config["limits"] = json!({"openFiles": 64});
        assert_eq!(kind(&bench.run("shell_command", config).await), expected);
    }
    assert_eq!(zombies(), Vec::<i32>::new());
}

#[actix_rt::test]
async fn the_servers_maximum_is_not_exceeded_and_its_default_holds() {
    let bench = Bench::with(
        |settings| {
            settings.limits.task_maxima =
                TaskLimits { open_files: Some(50), ..TaskLimits::default() };
            settings.limits.task_defaults =
                TaskLimits { open_files: Some(40), ..TaskLimits::default() };
        },
        FunctionRegistry::with_builtin(),
    );
    let config = json!({"command": "true", "limits": {"openFiles": 51}});
    let outcome = bench.run("shell_command", config).await;
    assert_eq!(kind(&outcome), "invalid_config");
    assert!(message(&outcome).contains("allows 50 at most"), "{outcome:?}");
    let outcome = bench.run("shell_command", json!({"command": "ulimit -n"})).await;
    assert_eq!(outcome.result().unwrap()["stdout"], "40\n");
}

#[actix_rt::test]
async fn a_task_runs_as_the_user_it_names() {
    if !carillon::tasks::may_run_as() {
        return;
    }
    let bench = Bench::new();
    std::fs::set_permissions(bench.path("."), PermissionsExt::from_mode(0o700)).unwrap();
    let secret = bench.path("admin.token");
    std::fs::write(&secret, "secret").unwrap();
    let command = format!(
        "id -un; id -gn; echo $HOME $USER $LOGNAME; cat {secret}; cat /proc/$PPID/environ; \
         kill -9 $PPID; echo '{{\"percent\": 5}}' >> $CARILLON_PROGRESS_FILE"
    );
    let config = json!({"command": command, "runAs": "nobody:daemon", "env": {"LOGNAME": "mine"}});
    let running = bench.start("shell_command", config);
    let heard = running.heard.clone();
    let outcome = running.outcome().await;
    assert_eq!(kind(&outcome), "completed", "{outcome:?}");
    let stdout = outcome.result().unwrap()["stdout"].as_str().unwrap();
    assert_eq!(stdout, "nobody\ndaemon\n/nonexistent nobody mine\n");
    assert_eq!(heard.progress.lock()[0].percent, Some(5.0));
    for wrong in ["no-such-user", "nobody:no-such-group"] {
        let outcome = bench.run("shell_command", json!({"command": "id", "runAs": wrong})).await;
        assert_eq!(kind(&outcome), "invalid_config");
        assert!(message(&outcome).contains("on this host"), "{outcome:?}");
    }
}

#[actix_rt::test]
async fn a_task_of_another_user_is_ended_like_any_other() {
    if !carillon::tasks::may_run_as() {
        return;
    }
    let bench = Bench::new();
    let sleep = marker();
    let command = format!("trap '' TERM; setsid sleep {sleep} & sleep {sleep}; sleep {sleep}");
    let config = json!({"command": command, "runAs": "nobody", "graceMs": 100});
    let running = bench.start("shell_command", config);
    until("the tree is up", || living(&format!("sleep\0{sleep}")).len() == 2).await;
    running.control.cancel();
    assert_eq!(kind(&running.outcome().await), "cancelled");
    assert_eq!(living(&sleep), Vec::<i32>::new());
}

#[actix_rt::test]
async fn a_frozen_tree_ends_by_its_timeout_and_leaves_no_zombie() {
    carillon::tasks::shim::adopt_orphans().unwrap();
    let bench = Bench::new();
    let sleep = marker();
    let command =
        format!("(setsid sh -c 'kill -STOP $$; sleep {sleep}' &); kill -STOP $$; sleep {sleep}");
    let config = json!({"command": command, "timeoutMs": 500, "graceMs": 200});
    let start = Instant::now();
    assert_eq!(kind(&bench.run("shell_command", config).await), "timeout");
    assert!(start.elapsed() >= Duration::from_millis(500));
    assert_eq!((living(&sleep), zombies()), (vec![], vec![]));
}

/// A cgroup v2 folder of the test's own, where the machine has one that may be written to.
fn group_folder() -> Option<std::path::PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].into_iter().find_map(|root| {
        let root = std::path::Path::new(root);
        let path = root.join(format!("carillon-test-{}", marker()));
        let is_v2 = root.join("cgroup.controllers").exists();
        (is_v2 && std::fs::create_dir(&path).is_ok()).then_some(path)
    })
}

#[actix_rt::test]
async fn a_task_in_a_control_group_ends_with_it() {
    let Some(folder) = group_folder() else { return };
    let bench = Bench::with(
        |settings| settings.groups = ControlGroups::At(folder.clone()),
        FunctionRegistry::with_builtin(),
    );
    let sleep = marker();
    let command = format!(
        "trap '' TERM; cat /proc/self/cgroup; setsid sleep {sleep} & sleep {sleep}; sleep {sleep}"
    );
    let config = json!({"command": command, "graceMs": 100});
    let running = bench.start("shell_command", config);
    let groups =
        || std::fs::read_dir(&folder).unwrap().flatten().filter(|e| e.path().is_dir()).count();
    until("the tree is up", || living(&format!("sleep\0{sleep}")).len() == 2).await;
    assert_eq!(groups(), 1);
    running.control.cancel();
    let outcome = running.outcome().await;
    assert_eq!((kind(&outcome), living(&sleep)), ("cancelled", vec![]));
    let stdout = outcome.result().unwrap()["stdout"].as_str().unwrap();
    assert!(stdout.contains("/carillon-task-"), "{stdout}");
    assert_eq!(groups(), 0);
    drop(bench);
    std::fs::remove_dir(&folder).unwrap();
}

//! kill -9 at random moments: nothing is lost, nothing runs twice. The tasks keep a ledger outside
//! the product, and the checker compares it with what the product says.

use std::time::{Duration, Instant};

use serde_json::json;

use super::history::{Outside, Ticker, settled};
use super::on_both_stores;
use super::processes::{alive, living, marker};
use super::server::{Backend, Server};
use crate::support::checker::expect_sound;
use crate::support::deaths::Deaths;

on_both_stores! {
    kill_nine_loses_and_doubles_nothing,
    a_killed_server_leaves_no_process_behind,
    the_tasks_of_a_frozen_server_are_dead_before_its_lease_is_over,
    a_task_of_another_user_reads_nothing_of_the_server,
    an_ordered_stop_lets_tasks_finish_and_exits_with_zero,
    a_drain_past_its_deadline_interrupts_and_retries,
}

/// Rounds of the short form, which runs with every test; `CARILLON_CRASH_ROUNDS` asks for more.
const ROUNDS: u32 = 6;

fn rounds() -> u32 {
    std::env::vars()
        .find(|(key, _)| key == "CARILLON_CRASH_ROUNDS")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(ROUNDS)
}

/// From kills to the next run that began, for people.
#[derive(Default)]
struct Recoveries(Vec<Duration>);

impl Recoveries {
    /// Waits until a task begins that had not begun before.
    fn note(&mut self, server: &mut Server, outside: &Outside, before: usize, killed: Instant) {
        server.until("a task runs again", |_| outside.begun() > before);
        self.0.push(killed.elapsed());
    }

    fn share(&self, share: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * share).div_ceil(100).max(1) - 1;
        sorted.get(place).copied().unwrap_or_default()
    }
}

#[expect(clippy::print_stderr, reason = "the long form is run for its figures")]
fn kill_nine_loses_and_doubles_nothing(backend: Backend) {
    // More kills than one chain may lose nodes to: here none of them is poison.
    let mut server = Server::new(backend)
        .with("CARILLON_EXECUTOR__LEASE_MS", "2000")
        .with("CARILLON_RECOVERY__MAX_CRASH_ATTEMPTS", "1000")
        .started();
    let outside = Outside::new();
    let task = outside.task("true");
    let tickers = [("fast", 200), ("steady", 500), ("slow", 1_000)]
        .map(|(name, every)| Ticker::make(&server, name, every, &task));
    let (mut acknowledged, mut recoveries) = (Vec::new(), Recoveries::default());
    let began = Instant::now();
    for round in 0..rounds() {
        // Not a wait for something: the moment of the crash is the point, and differs each round.
        super::pause(Duration::from_millis(120 + u64::from(round * 97 % 400)));
        let (status, made) = server.call("POST", "/api/execution/executions", &task);
        if (200..300).contains(&status) {
            acknowledged.push(made["executionId"].as_str().unwrap().to_owned());
        }
        server.kill();
        let killed = Instant::now();
        // A task that was just begun may still write its line, and is no recovery.
        super::pause(Duration::from_millis(20));
        let before = outside.begun();
        server.start();
        recoveries.note(&mut server, &outside, before, killed);
    }
    let took = began.elapsed();
    let mut history = settled(&mut server, &tickers, &outside);
    assert_eq!(acknowledged.len(), rounds() as usize, "requests were refused");
    history.acknowledged = acknowledged;
    expect_sound(&history);
    let begun = outside.begun();
    eprintln!(
        "{backend:?}: {} crashes survived in {took:.0?}; {} planned instants, {} executions, {begun} \
         starts; lost 0, doubled 0, overlapping 0; kill to the next run p50 {:.2?}, p99 {:.2?}, \
         longest {:.2?}",
        rounds(),
        history.due.values().map(std::collections::BTreeSet::len).sum::<usize>(),
        history.rows.len(),
        recoveries.share(50),
        recoveries.share(99),
        recoveries.share(100),
    );
}

fn a_killed_server_leaves_no_process_behind(backend: Backend) {
    let mut server = Server::new(backend).started();
    let seconds = marker();
    // Deaf to TERM, in sessions of their own, without our environment, double-forked, stopped.
    let command = format!(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep {seconds}; sleep {seconds}' & \
         env -i setsid sleep {seconds} & (setsid sh -c 'sleep {seconds} & kill -STOP $!; wait' &); \
         sleep {seconds}; sleep {seconds}"
    );
    server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command}}),
    );
    // The shell, its two daemons, the double-forked one and its stopped child, two sleeps.
    server.until("the whole tree", |_| alive(&seconds) == 7);
    let deaths = Deaths::of(&living(&seconds));
    let killed = Instant::now();
    server.kill();
    let took = deaths.last().saturating_duration_since(killed);
    assert!(took < Duration::from_secs(2), "the last process lived on for {took:?}");
    assert_eq!(alive(&seconds), 0);
}

fn the_tasks_of_a_frozen_server_are_dead_before_its_lease_is_over(backend: Backend) {
    use rustix::process::{Signal, kill_process};
    const LEASE: Duration = Duration::from_secs(6);
    let mut server = Server::new(backend).with("CARILLON_EXECUTOR__LEASE_MS", "6000").started();
    let seconds = marker();
    let command =
        format!("trap '' TERM; setsid sleep {seconds} & sleep {seconds}; sleep {seconds}");
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command},
                "retryPolicy": {"maxAttempts": 1}}),
    );
    server.until("the whole tree", |_| alive(&seconds) == 3);
    let deaths = Deaths::of(&living(&seconds));
    // From here on no beat can be confirmed; one may have been just now.
    let frozen = Instant::now();
    kill_process(server.pid(), Signal::STOP).unwrap();
    let took = deaths.last().saturating_duration_since(frozen);
    kill_process(server.pid(), Signal::CONT).unwrap();
    assert!(took < LEASE, "the last process lived on for {took:?}");
    let path = format!("/api/execution/executions/{}", run["id"]);
    server.until("the run is known to be lost", |server| {
        server.get(&path)["error"]["kind"] == "node_lost"
    });
}

fn a_task_of_another_user_reads_nothing_of_the_server(backend: Backend) {
    if !carillon::tasks::may_run_as() {
        return;
    }
    let mut server = Server::new(backend).started();
    let (pid, data) = (server.pid().as_raw_nonzero(), server.path(""));
    let data = data.display();
    let command = format!(
        "id -un; cat /proc/{pid}/environ; head -c 1 /proc/{pid}/mem; ls /proc/{pid}/fd; \
         cat {data}/admin.token; cat {data}/carillon.db"
    );
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command},
                "runAs": "nobody", "retryPolicy": {"maxAttempts": 1}}),
    );
    let ended = server.ended(&run["id"]);
    assert_eq!(ended["result"]["stdout"], "nobody\n", "{ended}");
    assert_eq!(ended["processesKilled"], 0);
    assert!(ended["usage"]["peakMemoryBytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_task_of_the_servers_own_user_reads_neither_its_environment_nor_its_memory() {
    let mut server =
        Server::of_a_plain_user().with("NOT_FOR_TASKS", "only-the-server-knows").started();
    let pid = server.pid().as_raw_nonzero();
    let command = format!(
        "id -u | grep -qx 0 || echo plain; for it in {pid} $PPID; do \
         cat /proc/$it/environ; head -c 1 /proc/$it/mem; ls /proc/$it/fd; done; echo over"
    );
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command}}),
    );
    let ended = server.ended(&run["id"]);
    assert_eq!(ended["result"]["stdout"], "plain\nover\n", "{ended}");
    let refusals = ended["result"]["stderr"].as_str().unwrap().matches("denied").count();
    assert_eq!(refusals, 6, "{ended}");
}

fn an_ordered_stop_lets_tasks_finish_and_exits_with_zero(backend: Backend) {
    let mut server = Server::new(backend).started();
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": "sleep 1; echo done"}}),
    );
    let path = format!("/api/execution/executions/{}", run["id"]);
    server.until("it runs", |server| server.get(&path)["status"] == "running");
    assert!(server.terminate().success());
    server.start();
    assert_eq!(server.get(&path)["status"], "completed");
}

fn a_drain_past_its_deadline_interrupts_and_retries(backend: Backend) {
    let mut server = Server::new(backend).with("CARILLON_EXECUTOR__DRAIN_MS", "200").started();
    let flag = server.path("second");
    let command = format!("test -e {0} || {{ touch {0}; sleep 600; }}", flag.display());
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command},
                "retryPolicy": {"maxAttempts": 1}}),
    );
    server.until("it runs", |_| flag.exists());
    assert!(server.terminate().success());
    server.start();
    let path = format!("/api/execution/executions/{}", run["id"]);
    let first = server.get(&path);
    assert_eq!(
        (&first["status"], &first["error"]["kind"]),
        (&json!("failed"), &json!("interrupted"))
    );
    server.until("the next attempt completed", |server| {
        server.get("/api/execution/executions?status=completed")["total"] == 1
    });
}

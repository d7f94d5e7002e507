//! kill -9 at every commit boundary, before and after: the server is started so that it kills
//! itself at that commit, is led there, dies, is started again, and nothing is lost or doubled.
//! What a request was to change is there exactly when its commit was made, and the request sent
//! again with the same key is carried out once.
//!
//! The list of boundaries is the code's own ([`BOUNDARIES`]): a new one without a way that leads to
//! it fails here.

mod acts;
mod alerts;
mod failures;
mod listening;
mod planning;
mod policies;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use carillon::store::BOUNDARIES;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::history::{Outside, Ticker, settled};
use super::on_both_stores;
use super::server::{Backend, Server};
use crate::support::checker::expect_sound;

on_both_stores! {
    a_kill_before_any_commit_loses_and_doubles_nothing,
    a_kill_after_any_commit_loses_and_doubles_nothing,
}

/// Boundaries that no server has: only the benchmark calls them.
const NOT_SERVED: [&str; 1] = ["execution_create_batch"];
/// How long a server may take to come to its boundary.
const PATIENCE: Duration = Duration::from_secs(30);
const EXECUTIONS: &str = "/api/execution/executions";
const SCHEDULES: &str = "/api/scheduler/schedules";

fn a_kill_before_any_commit_loses_and_doubles_nothing(backend: Backend) {
    kill_at_every_boundary(backend, "before");
}

fn a_kill_after_any_commit_loses_and_doubles_nothing(backend: Backend) {
    kill_at_every_boundary(backend, "after");
}

/// A server, its outside ledger, and what was asked of it.
struct Trial {
    server: Server,
    outside: Outside,
    boundary: &'static str,
    /// What was made for this boundary while no crash was planned: an id.
    made: Value,
    /// Keys of runs that were asked for, each of which must become one chain.
    keys: BTreeSet<String>,
    /// Connections that are to stay open.
    sockets: Vec<TcpStream>,
}

fn kill_at_every_boundary(backend: Backend, point: &str) {
    let server = Server::new(backend)
        .with("CARILLON_EXECUTOR__LEASE_MS", "2000")
        .with("CARILLON_RECOVERY__MAX_CRASH_ATTEMPTS", "1000")
        .with("CARILLON_RETENTION__SWEEP_MS", "1000")
        .with("CARILLON_RECOVERY__DEAD_LETTER_ALERT", "1")
        .started();
    let outside = Outside::new();
    let ticker = Ticker::make(&server, "ticker", 250, &outside.task("echo hello"));
    let (boundary, made) = ("", Value::Null);
    let (keys, sockets) = (BTreeSet::new(), Vec::new());
    let mut trial = Trial { server, outside, boundary, made, keys, sockets };
    for boundary in BOUNDARIES.into_iter().filter(|name| !NOT_SERVED.contains(name)) {
        trial.boundary = boundary;
        trial.made = trial.prepare();
        trial.server.kill();
        trial.server.set("CARILLON_ADMIN__KILL_AT", &format!("{boundary} {point} 1"));
        trial.server.spawn();
        trial.lead_there();
        trial.sockets.clear();
        trial.server.set("CARILLON_ADMIN__KILL_AT", "");
        trial.server.start();
        trial.verify(point == "after");
    }
    let Trial { mut server, outside, keys, .. } = trial;
    let mut history = settled(&mut server, &[ticker], &outside);
    // Runs that fail on purpose are not for the checker.
    history.rows.retain(|row| outside.judges(&row.command));
    let chains: BTreeSet<&str> = history
        .rows
        .iter()
        .filter(|row| row.scheduled.is_none())
        .map(|row| row.chain.as_str())
        .collect();
    assert_eq!(chains.len(), keys.len(), "one chain a key: {keys:?}");
    assert!(history.due.values().all(|due| due.len() > 50), "the schedule fired all the time");
    expect_sound(&history);
}

impl Trial {
    fn key(&self) -> String {
        format!("at-{}", self.boundary)
    }

    /// Makes what the boundary needs.
    fn prepare(&mut self) -> Value {
        match self.boundary {
            "key_revoke" => self.server.post("/api/admin/keys", &viewer_key())["id"].clone(),
            "schedule_update" | "schedule_delete" => {
                let name = format!("made for {}", self.boundary);
                self.server.post(SCHEDULES, &far_away(&name))["id"].clone()
            }
            "error_retry" => self.failed("errors/errors", &self.passing_the_second_time(), true),
            "error_decide" => self.failed("errors/errors", &failing(), false),
            "dead_letter_resubmit" | "dead_letter_discard" => self.failed("dlq", &failing(), false),
            name if name.starts_with("alert_") => self.prepare_alerts(),
            other => self.prepare_acts(other),
        }
    }

    /// A run that fails for good; the id of its error or letter.
    fn failed(&mut self, list: &str, run: &Value, is_judged: bool) -> Value {
        let mut run = run.clone();
        run["retryPolicy"] = json!({"maxAttempts": 1});
        let made = self.server.post(EXECUTIONS, &run);
        if is_judged {
            self.keys.insert(format!("prepared for {}", self.boundary));
        }
        let ended = self.server.ended(&made["id"]);
        let found = self.server.get(&format!("/api/{list}?limit=500"));
        let found = found["items"].as_array().unwrap();
        let chain = &ended["chainId"];
        found.iter().find(|item| item["chainId"] == *chain).unwrap()["id"].clone()
    }

    fn passing_the_second_time(&self) -> Value {
        let mut run = self.outside.task("test $CARILLON_ATTEMPT != 1");
        // Its status is that of the work, not of the ledger's last line.
        let command = run["taskConfig"]["command"].as_str().unwrap().replace("; say end", "");
        run["taskConfig"]["command"] = json!(command);
        run
    }

    /// Leads the server to its boundary until it is dead.
    fn lead_there(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.server.has_ended() {
            assert!(Instant::now() < deadline, "nothing led to {}", self.boundary);
            if self.server.call("GET", "/readyz", &Value::Null).0 == 200 {
                self.provoke();
            }
            super::pause(Duration::from_millis(20));
        }
    }

    /// One try to get there. Whatever is answered, or not, is no matter.
    fn provoke(&mut self) {
        let id = self.made.clone();
        let server = &self.server;
        match self.boundary {
            // These come by themselves: at the start, with the schedule, with time.
            "execution_claim"
            | "execution_finish"
            | "log_roll"
            | "node_register"
            | "node_beat"
            | "session_close_stale"
            | "clock_set_back"
            | "retention_sweep"
            | "schedule_fire" => {}
            "execution_create" => self.create_once(),
            "execution_cancel" => {
                let run =
                    json!({"taskType": "shell_command", "taskConfig": {"command": "sleep 2"}});
                let (_, run) = server.call("POST", EXECUTIONS, &run);
                server.call("POST", &format!("{EXECUTIONS}/{}/cancel", run["id"]), &Value::Null);
            }
            "execution_delete_ended" => {
                let config = json!({"name": "cleanup:old_executions",
                                    "payload": {"olderThanDays": 365}});
                let run = json!({"taskType": "function", "taskConfig": config});
                server.call("POST", EXECUTIONS, &run);
            }
            "event_append" => {
                let crash = "/api/admin/actors/ground.sessions/crash";
                server.call("POST", crash, &json!({"mode": "panic"}));
                super::pause(Duration::from_millis(500));
            }
            "node_stop" => drop(kill_process(server.pid(), Signal::TERM)),
            "state_set" => drop(server.call("POST", "/api/scheduler/stop", &Value::Null)),
            "key_create" => drop(server.call("POST", "/api/admin/keys", &viewer_key())),
            "key_revoke" => {
                server.call("DELETE", &format!("/api/admin/keys/{id}"), &Value::Null);
            }
            "key_touch" => drop(server.call("GET", "/api/health", &Value::Null)),
            "session_open" | "session_subscribe" => self.connect(),
            "session_close" => {
                self.connect();
                // Its row must be there, or nothing is closed.
                super::pause(Duration::from_millis(300));
                self.sockets.clear();
            }
            "error_start_retries" => self.fail_once(),
            "error_retry" => self.retry_once(),
            "error_decide" => {
                server.call("POST", &format!("/api/errors/errors/{id}/resolve"), &Value::Null);
            }
            "dead_letter_resubmit" => self.resubmit_once(),
            "dead_letter_discard" => {
                server.call("POST", &format!("/api/dlq/{id}/discard"), &Value::Null);
            }
            "schedule_create" => self.schedule_once(),
            "schedule_update" => {
                let edit = json!({"description": "edited"});
                server.call("PUT", &format!("{SCHEDULES}/{id}"), &edit);
            }
            "schedule_delete" => {
                server.call("DELETE", &format!("{SCHEDULES}/{id}"), &Value::Null);
            }
            name if name.starts_with("alert_") => self.provoke_alerts(),
            other => self.provoke_acts(other),
        }
    }

    /// What the request was to change is there when its commit was made, and is there once after
    /// the request was sent again.
    fn verify(&mut self, is_committed: bool) {
        let (server, id) = (&self.server, &self.made);
        let schedule = format!("{SCHEDULES}/{id}");
        let shows = match self.boundary {
            "state_set" => Some(server.get("/api/scheduler/status")["running"] == false),
            "key_create" => Some(!named(&server.get("/api/admin/keys"), "boundary").is_empty()),
            "key_revoke" => {
                let keys = server.get("/api/admin/keys");
                let keys = keys["items"].as_array().unwrap();
                let key = keys.iter().find(|key| key["id"] == *id).unwrap();
                Some(!key["revokedAt"].is_null())
            }
            "error_decide" => {
                let error = server.get(&format!("/api/errors/errors/{id}"));
                Some(error["recoveryStatus"] == "resolved")
            }
            "dead_letter_discard" => {
                // The list is of letters that wait for a verdict.
                let letters = server.get("/api/dlq?limit=500");
                let mut letters = letters["items"].as_array().unwrap().iter();
                Some(!letters.any(|letter| letter["id"] == *id))
            }
            "schedule_create" => Some(!self.schedules_of(&self.key()).is_empty()),
            "schedule_update" => Some(server.get(&schedule)["description"] == "edited"),
            "schedule_delete" => Some(server.call("GET", &schedule, &Value::Null).0 == 404),
            name if name.starts_with("alert_") => self.alerts_show(),
            other => self.act_shows(other),
        };
        if let Some(shows) = shows {
            assert_eq!(shows, is_committed, "{}", self.boundary);
        }
        self.verify_audit(is_committed);
        match self.boundary {
            "execution_create" => self.create_once(),
            "error_retry" => self.retry_once(),
            "dead_letter_resubmit" => self.resubmit_once(),
            "error_start_retries" => self.fail_once(),
            "schedule_create" => {
                self.schedule_once();
                assert_eq!(self.schedules_of(&self.key()).len(), 1);
            }
            "state_set" => drop(self.server.post("/api/scheduler/start", &Value::Null)),
            name if name.starts_with("alert_") => self.verify_alerts(),
            other => self.settle_acts(other),
        }
    }

    fn create_once(&mut self) {
        let run = self.outside.task("true");
        self.keyed(EXECUTIONS, &run);
        self.keys.insert(self.key());
    }

    /// A run whose first attempt fails and whose second, moments later, passes.
    fn fail_once(&mut self) {
        let mut run = self.passing_the_second_time();
        run["retryPolicy"] = json!({"maxAttempts": 4, "baseMs": 10});
        self.keyed(EXECUTIONS, &run);
        self.keys.insert(self.key());
    }

    fn retry_once(&self) {
        self.keyed(&format!("/api/errors/errors/{}/retry", self.made), &Value::Null);
    }

    fn resubmit_once(&self) {
        self.keyed(&format!("/api/dlq/{}/resubmit", self.made), &Value::Null);
    }

    fn schedule_once(&self) {
        self.keyed(SCHEDULES, &far_away(&self.key()));
    }

    /// A request that may be sent again; once it is answered, with success.
    fn keyed(&self, path: &str, body: &Value) {
        let header = format!("Idempotency-Key: {}\r\n", self.key());
        if let Some((head, answer)) = self.server.exchange_with("POST", path, body, &header) {
            assert!(head.starts_with("http/1.1 20"), "{path}: {head} {answer}");
        }
    }

    fn schedules_of(&self, name: &str) -> Vec<Value> {
        named(&self.server.get(&format!("{SCHEDULES}?limit=500")), name)
    }

    /// Opens a WebSocket session and subscribes; it stays open while its stream is kept.
    fn connect(&mut self) {
        const SUBSCRIBE: &[u8] = br#"{"type":"subscribe","subscriptions":{"rooms":["tasks"]}}"#;
        let open = || {
            let mut socket = TcpStream::connect(self.server.address()).ok()?;
            let head = format!(
                "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Authorization: Bearer {}\r\n\r\n",
                self.server.address(),
                self.server.token()
            );
            socket.write_all(head.as_bytes()).ok()?;
            let mut answer = [0_u8; 12];
            socket.read_exact(&mut answer).ok()?;
            assert_eq!(&answer, b"HTTP/1.1 101", "the session is not let in");
            // A whole text frame; its mask of zeros leaves it as it is.
            let length = u8::try_from(SUBSCRIBE.len()).unwrap();
            let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], SUBSCRIBE].concat();
            socket.write_all(&frame).ok()?;
            Some(socket)
        };
        // A few are enough; the server is dead by then.
        if self.sockets.len() < 5
            && let Some(socket) = open()
        {
            self.sockets.push(socket);
        }
    }
}

fn viewer_key() -> Value {
    json!({"name": "boundary", "role": "viewer"})
}

/// A run that fails and is not judged.
fn failing() -> Value {
    json!({"taskType": "shell_command", "taskConfig": {"command": "false"}})
}

/// A schedule that does not fire while the test runs.
fn far_away(name: &str) -> Value {
    json!({
        "name": name, "taskType": "shell_command", "taskConfig": {"command": "true"},
        "scheduleType": "interval", "scheduleConfig": {"intervalMs": 3_600_000},
    })
}

fn named(list: &Value, name: &str) -> Vec<Value> {
    let items = list["items"].as_array().unwrap();
    items.iter().filter(|item| item["name"] == name).cloned().collect()
}

#[test]
fn what_no_server_commits_is_called_by_the_benchmark_alone() {
    for operation in NOT_SERVED {
        let call = format!(".{operation}(");
        let callers: Vec<String> = crate::tidy::sources::rust_files("src")
            .into_iter()
            .filter(|source| source.text.contains(&call))
            .map(|source| source.path)
            .collect();
        assert!(callers.iter().all(|path| path.starts_with("src/bench/")), "{callers:?}");
    }
}

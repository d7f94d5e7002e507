//! The wall clock is stepped by an hour and by a day while the server runs: nothing fires again and
//! nothing waits for the clock to come back. The machine's clock stays as it is: libfaketime shows
//! the real binary another one, which a file moves, and leaves alone the time that only passes.
//!
//! On SQLite the server's clock decides; on PostgreSQL the database's does, so that a step of the
//! server's changes nothing at all.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::history::{Outside, Ticker, settled};
use super::on_both_stores;
use super::server::{Backend, Server};
use crate::support::checker::expect_sound;

on_both_stores! {
    a_clock_stepped_by_an_hour_neither_fires_again_nor_stalls,
    a_clock_stepped_by_a_day_neither_fires_again_nor_stalls,
}

/// How soon things must go on after a step.
const SOON: Duration = Duration::from_secs(4);
const EXECUTIONS: &str = "/api/execution/executions";

fn a_clock_stepped_by_an_hour_neither_fires_again_nor_stalls(backend: Backend) {
    steps(backend, 3_600);
}

fn a_clock_stepped_by_a_day_neither_fires_again_nor_stalls(backend: Backend) {
    steps(backend, 86_400);
}

/// The library that shows another clock; Debian's package `faketime`.
fn library() -> PathBuf {
    let roots = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let found =
        roots.map(|root| root.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("libfaketime is missing; install it with: apt-get install -y faketime")
}

/// A server whose clock is moved by a file.
struct Stepped {
    server: Server,
    outside: Outside,
    ticker: Ticker,
}

impl Stepped {
    fn start(backend: Backend) -> Self {
        let outside = Outside::new();
        let file = outside.path("clock");
        std::fs::write(&file, "+0\n").unwrap();
        let server = Server::new(backend)
            .with("CARILLON_EXECUTOR__LEASE_MS", "3000")
            .with("LD_PRELOAD", library().to_str().unwrap())
            .with("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap())
            .with("FAKETIME_NO_CACHE", "1")
            .with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .with("DONT_FAKE_MONOTONIC", "1")
            .started();
        let ticker = Ticker::coalescing(&server, "ticker", 500, &outside.task("true"));
        Self { server, outside, ticker }
    }

    fn step_to(&self, seconds: i64) {
        let (path, next) = (self.outside.path("clock"), self.outside.path("clock.next"));
        std::fs::write(&next, format!("{seconds:+}\n")).unwrap();
        // At once: half a line would be another clock.
        std::fs::rename(next, path).unwrap();
    }

    /// Waits until a condition holds, which must be soon.
    fn soon(&mut self, what: &str, holds: impl FnMut(&mut Server) -> bool) {
        let asked = Instant::now();
        self.server.until(what, holds);
        assert!(asked.elapsed() < SOON, "{what} took {:?}", asked.elapsed());
    }

    fn fires(&mut self) {
        let (path, before) = (self.planned_path(), self.planned());
        self.soon("the schedule fires", |server| {
            server.get(&path)["total"].as_u64().unwrap() > before + 1
        });
    }

    /// Executions of the schedule, run or not: the executor may be stopped.
    fn planned_path(&self) -> String {
        format!("{EXECUTIONS}?scheduleId={}&limit=1", self.ticker.id)
    }

    fn planned(&self) -> u64 {
        self.server.get(&self.planned_path())["total"].as_u64().unwrap()
    }

    /// A run that was asked for completes at once.
    fn runs(&mut self) {
        let task = self.outside.task("true");
        let path = format!("{EXECUTIONS}/{}", self.server.post(EXECUTIONS, &task)["id"]);
        self.soon("a run completes", |server| server.get(&path)["status"] == "completed");
    }

    /// Something of each kind that a step could hold up or end: a task that runs, a run that waits
    /// for the executor, a retry that waits for its instant.
    fn under_way(&mut self) -> [String; 3] {
        let (flag, gate) = (self.outside.path("failed"), self.outside.path("gate"));
        drop(std::fs::remove_file(&flag));
        drop(std::fs::remove_file(&gate));
        let wait = format!("until test -e {}; do sleep 0.02; done", gate.display());
        let running = self.server.post(EXECUTIONS, &self.outside.task(&wait));
        let path = |run: &Value| format!("{EXECUTIONS}/{}", run["id"]);
        let running = path(&running);
        self.server.until("it runs", |server| server.get(&running)["status"] == "running");
        let fail = format!("test -e {0} || {{ touch {0}; exit 1; }}", flag.display());
        let mut retried = self.outside.task(&fail);
        retried["retryPolicy"] = json!({"maxAttempts": 2, "baseMs": 1500});
        let retried = self.server.post(EXECUTIONS, &retried);
        let first = path(&retried);
        self.server.until("it failed", |server| server.get(&first)["status"] == "failed");
        self.server.post("/api/admin/actors/work.executor/stop", &Value::Null);
        let waiting = self.server.post(EXECUTIONS, &self.outside.task("true"));
        assert_eq!(self.server.get(&path(&waiting))["status"], "pending");
        [running, path(&waiting), retried["chainId"].as_str().unwrap().to_owned()]
    }

    /// All of it goes on: the task in its first attempt, the others soon.
    fn goes_on(&mut self, [running, waiting, chain]: [String; 3]) {
        self.server.post("/api/admin/actors/work.executor/start", &Value::Null);
        self.soon("what waited ran", |server| server.get(&waiting)["status"] == "completed");
        let list = format!("{EXECUTIONS}?status=completed&limit=500");
        self.soon("the retry ran", |server| {
            let completed = server.get(&list);
            completed["items"].as_array().unwrap().iter().any(|row| row["chainId"] == *chain)
        });
        // Longer than the lease: it was neither lost nor prolonged by the step.
        super::pause(Duration::from_millis(3_500));
        assert_eq!(self.server.get(&running)["status"], "running");
        std::fs::write(self.outside.path("gate"), "").unwrap();
        self.soon("the task ended", |server| server.get(&running)["status"] == "completed");
    }
}

fn steps(backend: Backend, seconds: i64) {
    let mut stepped = Stepped::start(backend);
    stepped.fires();
    // Forwards: what was jumped over is missed, and firing goes on within moments.
    let work = stepped.under_way();
    stepped.step_to(seconds);
    stepped.fires();
    stepped.goes_on(work);
    stepped.runs();
    // Backwards: no instant comes a second time; all else goes on.
    let work = stepped.under_way();
    stepped.step_to(0);
    let before = stepped.planned();
    stepped.goes_on(work);
    stepped.runs();
    match backend {
        // Instants that had their outcome do not come again: it fires when the next one comes. A
        // pass of the scheduler may have been under way at the step.
        Backend::Sqlite => assert!(stepped.planned() <= before + 1, "fired again"),
        Backend::Postgres => stepped.fires(),
    }
    // And further back than it began.
    let work = stepped.under_way();
    stepped.step_to(-seconds);
    stepped.goes_on(work);
    stepped.runs();
    stepped.step_to(seconds);
    stepped.fires();
    let Stepped { mut server, outside, ticker } = stepped;
    let history = settled(&mut server, &[ticker], &outside);
    expect_sound(&history);
    if matches!(backend, Backend::Postgres) {
        assert!(history.missed.is_empty(), "{:?}", history.missed);
    }
}

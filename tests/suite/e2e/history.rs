//! Gathers what the checker judges: the rows and the ledger over the API, the lines of the tasks.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::server::Server;
use crate::support::checker::{History, Line, Missed, Row, Word};

const EXECUTIONS: &str = "/api/execution/executions";
/// Rows a page.
const PAGE: usize = 500;

/// The ledger outside the product: a file of lines, and a folder of locks, one a chain.
pub(super) struct Outside {
    folder: tempfile::TempDir,
}

impl Outside {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that keeps the ledger around `work`.
    pub(super) fn command(&self, work: &str) -> String {
        let folder = self.folder.path().display();
        format!(
            "say() {{ echo \"$1 $CARILLON_EXECUTION_ID $CARILLON_CHAIN_ID $CARILLON_ATTEMPT $$\" \
             >> {folder}/lines; }}; exec 9>> {folder}/$CARILLON_CHAIN_ID; \
             flock -n 9 || say overlap; say begin; {work}; say end"
        )
    }

    /// A shell task that keeps the ledger around `work`.
    pub(super) fn task(&self, work: &str) -> Value {
        json!({"taskType": "shell_command", "taskConfig": {"command": self.command(work)}})
    }

    /// Whether a task of that command keeps this ledger.
    pub(super) fn judges(&self, command: &str) -> bool {
        command.contains(&*self.folder.path().to_string_lossy())
    }

    /// How many attempts have begun so far.
    pub(super) fn begun(&self) -> usize {
        self.lines().iter().filter(|line| line.word == Word::Began).count()
    }

    /// Its lines so far.
    pub(super) fn lines(&self) -> Vec<Line> {
        read_lines(&self.path("lines"))
    }
}

fn read_lines(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let word = match words.next()? {
            "begin" => Word::Began,
            "end" => Word::Ended,
            "overlap" => Word::Overlapped,
            other => panic!("a line that no task writes: {other}"),
        };
        Some(Line { word, execution: words.next()?.to_owned(), chain: words.next()?.to_owned() })
    };
    // A last line without its end is still being written.
    text.split_inclusive('\n').filter(|one| one.ends_with('\n')).filter_map(line).collect()
}

/// An interval schedule and when it first fires, by its creation's own answer.
pub(super) struct Ticker {
    pub(super) id: i64,
    first: i64,
    every: i64,
}

/// An instant of the API in milliseconds.
pub(super) fn millis(at: &Value) -> i64 {
    let at = at.as_str().unwrap_or_else(|| panic!("no instant: {at}"));
    at.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_millis()
}

impl Ticker {
    /// Makes a schedule that fires every `every` milliseconds and misses nothing for good.
    pub(super) fn make(server: &Server, name: &str, every: i64, task: &Value) -> Self {
        Self::with_policy(server, (name, "run_all"), every, task)
    }

    /// One that runs the newest instant alone of those that were missed.
    pub(super) fn coalescing(server: &Server, name: &str, every: i64, task: &Value) -> Self {
        Self::with_policy(server, (name, "coalesce"), every, task)
    }

    fn with_policy(
        server: &Server,
        (name, misfire): (&str, &str),
        every: i64,
        task: &Value,
    ) -> Self {
        let made = server.post(
            "/api/scheduler/schedules",
            &json!({
                "name": name, "taskType": task["taskType"], "taskConfig": task["taskConfig"],
                "scheduleType": "interval", "scheduleConfig": {"intervalMs": every},
                "overlapPolicy": "allow", "misfirePolicy": misfire, "catchupMax": 1000,
            }),
        );
        Self { id: made["id"].as_i64().unwrap(), first: millis(&made["nextRunAt"]), every }
    }

    pub(super) fn path(&self) -> String {
        format!("/api/scheduler/schedules/{}", self.id)
    }

    /// The instants that have come and must have an outcome: all before the next one.
    fn due(&self, server: &Server) -> Vec<i64> {
        let next = millis(&server.get(&self.path())["nextRunAt"]);
        (0..).map(|place| self.first + place * self.every).take_while(|at| *at < next).collect()
    }
}

/// Pauses the schedules, waits until all that was begun is over, and gathers.
pub(super) fn settled(server: &mut Server, tickers: &[Ticker], outside: &Outside) -> History {
    for ticker in tickers {
        server.post(&format!("{}/pause", ticker.path()), &Value::Null);
    }
    server.until("everything settled", |server| {
        // In this order: what ends between the two looks shows as a waiting retry in the second.
        let retries = "/api/errors/errors?recoveryStatus=retry_scheduled,retrying";
        server.get(&format!("{EXECUTIONS}?status=pending,running"))["total"] == 0
            && server.get(retries)["total"] == 0
    });
    let mut history = History { lines: outside.lines(), has_ends: true, ..History::default() };
    for ticker in tickers {
        history.due.insert(ticker.id, ticker.due(server).into_iter().collect());
        history.missed.extend(missed(server, ticker));
    }
    history.rows = rows(server);
    history
}

fn missed(server: &Server, ticker: &Ticker) -> Vec<Missed> {
    let from = chrono::DateTime::from_timestamp_millis(ticker.first).unwrap();
    let from = from.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let mut found = Vec::new();
    loop {
        let path =
            format!("{}/ledger?from={from}&limit={PAGE}&offset={}", ticker.path(), found.len());
        let page = server.get(&path);
        let items = page["items"].as_array().unwrap();
        found.extend(items.iter().cloned());
        if items.len() < PAGE {
            break;
        }
    }
    let misses = found.iter().filter(|item| item["outcome"] == "missed");
    misses
        .map(|item| Missed {
            schedule: ticker.id,
            from: millis(&item["from"]),
            to: millis(&item["to"]),
            count: item["count"].as_i64().unwrap(),
        })
        .collect()
}

/// Every execution of a shell command.
fn rows(server: &Server) -> Vec<Row> {
    let mut found = Vec::new();
    loop {
        let page = server.get(&format!("{EXECUTIONS}?limit={PAGE}&offset={}", found.len()));
        let items = page["items"].as_array().unwrap();
        found.extend(items.iter().cloned());
        if items.len() < PAGE {
            break;
        }
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ours = found.iter().filter(|row| row["taskType"] == "shell_command");
    ours.map(|row| Row {
        execution: text(&row["executionId"]),
        chain: text(&row["chainId"]),
        attempt: row["attempt"].as_i64().unwrap(),
        status: text(&row["status"]),
        scheduled: row["scheduleId"].as_i64(),
        command: text(&row["taskConfig"]["command"]),
        // A retry keeps the instant of its chain, and is no outcome of it.
        planned: (row["trigger"] == "schedule")
            .then(|| (row["scheduleId"].as_i64().unwrap(), millis(&row["scheduledAt"]))),
    })
    .collect()
}

//! A server beside this process, as users run it, and the least of an HTTP client for it.
//!
//! The client is a few lines over a socket on purpose: it shares the machine with what it measures.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Plan;
use crate::clock::Clock;
use crate::store::{
    ExecutionFilter, PageRequest, ScheduleFilter, Store, StoreLocation, StoreOptions,
};

/// How long a server may take to be ready.
const READY_MAX: Duration = Duration::from_secs(120);
/// Longest head of an answer.
const HEAD_MAX: usize = 64 * 1024;

/// Refuses a database that holds anything that is not a benchmark's: what is measured would not be
/// the scenario, and a benchmark has no business in it.
pub(super) async fn make_room(plan: &Plan) -> Result<(), String> {
    let Some(url) = plan.settings.database_url() else { return Ok(()) };
    let options = StoreOptions {
        location: StoreLocation::Postgres(url.to_owned()),
        pool_max: 2,
        acquire: Duration::from_secs(5),
    };
    let text = |error: crate::store::StoreError| error.to_string();
    let store = Store::open(options, Clock::system()).await.map_err(text)?;
    let page = PageRequest { limit: 500, offset: 0 };
    let foreign = loop {
        let schedules = store.schedule_list(ScheduleFilter::default(), page).await.map_err(text)?;
        if schedules.items.iter().any(|schedule| !schedule.definition.name.starts_with("bench-")) {
            break true;
        }
        if schedules.items.is_empty() {
            let rows =
                store.execution_list(ExecutionFilter::default(), page).await.map_err(text)?;
            break rows.items.iter().any(|row| {
                row.new.schedule_name.is_some()
                    && !row
                        .new
                        .schedule_name
                        .as_deref()
                        .is_some_and(|name| name.starts_with("bench-"))
            });
        }
        for schedule in schedules.items {
            store.schedule_delete(schedule.id, None).await.map_err(text)?;
        }
    };
    store.close().await;
    if foreign {
        return Err("the database is in use: give one that is made for the benchmark".to_owned());
    }
    Ok(())
}

/// A running `carillon serve`.
pub(super) struct Server {
    child: Child,
    address: String,
    directory: PathBuf,
    /// How long it took from its start to ready.
    pub(super) ready_after: Duration,
}

impl Server {
    /// Starts one on a data directory of the scenario.
    pub(super) async fn start(plan: &Plan, scenario: &str) -> Result<Self, String> {
        // The first server on a database makes its one admin key: there all share a directory.
        let is_shared = plan.settings.database_url().is_some();
        let directory = plan.scratch.join(if is_shared { "server" } else { scenario });
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&directory);
        if let Some(url) = plan.settings.database_url() {
            command.args(["--database-url", url]);
        }
        command.env("CARILLON_LOG__LEVEL", "warn");
        command.env("CARILLON_WEBSOCKET__SESSIONS_MAX", "20000");
        let started = Instant::now();
        let mut child =
            command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let output = child.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        let address = line
            .trim()
            .rsplit("http://")
            .next()
            .filter(|_| line.contains("http://"))
            .ok_or_else(|| format!("the server did not start: {line}"))?
            .to_owned();
        let mut server = Self { child, address, directory, ready_after: Duration::ZERO };
        server.wait_ready(started).await?;
        server.ready_after = started.elapsed();
        Ok(server)
    }

    async fn wait_ready(&self, started: Instant) -> Result<(), String> {
        while started.elapsed() < READY_MAX {
            if let Ok(mut client) = self.connect_without_key().await
                && let Ok((200, _)) = client.call("GET", "/readyz", "").await
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err("the server was not ready in time".to_owned())
    }

    /// The process's number as text.
    pub(super) fn process(&self) -> String {
        self.child.id().to_string()
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The admin key that it made.
    pub(super) fn key(&self) -> Result<String, String> {
        let path = self.directory.join("admin.token");
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let cure = "a database that was used before has a key already: give an empty one";
            format!("{}: {error} ({cure})", path.display())
        })?;
        Ok(text.trim().to_owned())
    }

    async fn connect_without_key(&self) -> Result<Client, String> {
        Client::connect(&self.address, None).await
    }

    /// A connection with the admin key.
    pub(super) async fn connect(&self) -> Result<Client, String> {
        Client::connect(&self.address, Some(self.key()?)).await
    }

    /// Ends it as `kill -9` does.
    pub(super) async fn kill(mut self) -> Result<(), String> {
        let ended = tokio::task::spawn_blocking(move || {
            self.child.kill()?;
            self.child.wait()
        });
        ended.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Stops it and waits for its end.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM)
            .map_err(|error| error.to_string())?;
        let ended = tokio::task::spawn_blocking(move || self.child.wait());
        ended.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// One kept connection.
pub(super) struct Client {
    stream: TcpStream,
    head: String,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: &str, key: Option<String>) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut head = format!("Host: {address}\r\n");
        if let Some(key) = key {
            head.push_str(&format!("Authorization: Bearer {key}\r\n"));
        }
        Ok(Self { stream, head, buffer: Vec::new() })
    }

    /// Sends a request with a JSON body (or none) and gives status and body of the answer.
    pub(super) async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, Vec<u8>), String> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.head,
            body.len()
        );
        let text = |error: std::io::Error| error.to_string();
        self.stream.write_all(request.as_bytes()).await.map_err(text)?;
        loop {
            if let Some((end, status, length)) = head_of(&self.buffer)? {
                while self.buffer.len() < end + length {
                    self.read().await?;
                }
                let rest = self.buffer.split_off(end + length);
                let answer = std::mem::replace(&mut self.buffer, rest).split_off(end);
                return Ok((status, answer));
            }
            self.read().await?;
        }
    }

    /// Makes something by a `POST` and gives its id.
    pub(super) async fn create(&mut self, path: &str, body: &str) -> Result<i64, String> {
        let (status, body) = self.call("POST", path, body).await?;
        serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|answer| answer.get("id")?.as_i64())
            .ok_or_else(|| format!("{status}: {}", String::from_utf8_lossy(&body)))
    }

    async fn read(&mut self) -> Result<(), String> {
        let count =
            self.stream.read_buf(&mut self.buffer).await.map_err(|error| error.to_string())?;
        if count == 0 || self.buffer.len() > 16 * HEAD_MAX {
            return Err("the server hung up".to_owned());
        }
        Ok(())
    }
}

/// Where the head ends, the status and the length of the body; `None` while it is not whole.
fn head_of(bytes: &[u8]) -> Result<Option<(usize, u16, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("no answer: {head}"))?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0);
    Ok(Some((end + 4, status, length)))
}

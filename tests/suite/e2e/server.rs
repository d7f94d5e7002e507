//! The real binary, driven from outside as a user would: over HTTP, with signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::postgres::{self, Cluster, Database};

/// How long anything may take before a test says that it did not happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The user `nobody` and its group.
const NOBODY: u32 = 65_534;
const PAUSE: Duration = Duration::from_millis(10);

/// Which store a server runs on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backend {
    Sqlite,
    Postgres,
}

/// A server and its data, which outlive its process.
pub(super) struct Server {
    directory: tempfile::TempDir,
    /// Removed with this value.
    _database: Option<Database>,
    database_url: Option<String>,
    settings: Vec<(&'static str, String)>,
    program: PathBuf,
    /// The id of the user and the group that it runs as, if not as ours.
    user: Option<u32>,
    process: Option<Child>,
    port: u16,
    token: String,
}

impl Server {
    pub(super) fn new(backend: Backend) -> Self {
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(postgres::database()),
        };
        Self {
            directory: tempfile::tempdir().unwrap(),
            database_url: database.as_ref().map(|database| database.url.clone()),
            _database: database,
            settings: vec![("CARILLON_ADMIN__FAULT_INJECTION", "true".to_owned())],
            program: PathBuf::from(env!("CARGO_BIN_EXE_carillon")),
            user: None,
            process: None,
            port: free_port(),
            token: String::new(),
        }
    }

    /// A server on SQLite that does not run as root, whoever runs the tests.
    pub(super) fn of_a_plain_user() -> Self {
        let mut server = Self::new(Backend::Sqlite);
        if rustix::process::geteuid().is_root() {
            // The folder that the program is built in may be closed to others.
            let program = server.path("carillon");
            std::fs::copy(&server.program, &program).unwrap();
            server.program = program;
            chown(server.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
            server.user = Some(NOBODY);
        }
        server
    }

    /// A server on a cluster of the test's own.
    pub(super) fn on(cluster: &Cluster) -> Self {
        Self::at(cluster.url("postgres"))
    }

    /// A server on the database of that URL.
    pub(super) fn at(url: String) -> Self {
        let mut server = Self::new(Backend::Sqlite);
        server.database_url = Some(url);
        server
    }

    /// Another node on the same PostgreSQL, not started.
    pub(super) fn neighbour(&self) -> Self {
        self.neighbour_at(self.database_url.clone().unwrap())
    }

    /// Another node that reaches the same PostgreSQL by another way, not started.
    pub(super) fn neighbour_at(&self, url: String) -> Self {
        let server = Self::at(url);
        // The first start made the key; only its node has the file.
        std::fs::copy(self.path("admin.token"), server.path("admin.token")).unwrap();
        server
    }

    pub(super) fn with(mut self, key: &'static str, value: &str) -> Self {
        self.settings.push((key, value.to_owned()));
        self
    }

    /// Changes a setting for the next start; an empty value takes it back.
    pub(super) fn set(&mut self, key: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != key);
        if !value.is_empty() {
            self.settings.push((key, value.to_owned()));
        }
    }

    pub(super) fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Starts the process and waits until it is ready.
    pub(super) fn start(&mut self) {
        self.spawn();
        self.ready();
    }

    /// Starts the process and waits for nothing.
    pub(super) fn spawn(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.path().join("server.log"))
            .unwrap();
        let mut command = Command::new(&self.program);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--data-dir"])
            .arg(self.directory.path())
            .envs(self.settings.iter().map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(url) = &self.database_url {
            command.args(["--database-url", url]);
        }
        self.process = Some(command.spawn().unwrap());
    }

    pub(super) fn ready(&mut self) {
        self.until("the server is ready", |server| server.status("GET", "/readyz") == Some(200));
        self.token = std::fs::read_to_string(self.directory.path().join("admin.token"))
            .unwrap()
            .trim()
            .to_owned();
    }

    /// Bytes of memory that the process holds.
    pub(super) fn resident(&self) -> u64 {
        let pid = self.process.as_ref().unwrap().id();
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// The admin key.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whether the process has ended by itself; takes note of it.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = self.process.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        if ended {
            self.process = None;
        }
        ended
    }

    /// A path in the server's directory that tests may use for their own ledger.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// The process, while there is one.
    pub(super) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.process.as_ref().unwrap())
    }

    /// SIGTERM; gives the exit status.
    pub(super) fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        process.wait().unwrap()
    }

    pub(super) fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, &Value::Null);
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// POSTs and insists on success.
    pub(super) fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call("POST", path, body);
        assert!((200..300).contains(&status), "POST {path} {body}: {status} {answer}");
        answer
    }

    /// Any request; status 0 when there was no answer.
    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.try_call(method, path, body).unwrap_or((0, Value::Null))
    }

    fn status(&self, method: &str, path: &str) -> Option<u16> {
        self.try_call(method, path, &Value::Null).map(|(status, _)| status)
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let (head, body) = self.exchange(method, path, body)?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    /// Any request: the head and the body of its answer.
    pub(super) fn exchange(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Option<(String, String)> {
        self.exchange_with(method, path, body, "")
    }

    /// The same with more header lines, each with its end.
    pub(super) fn exchange_with(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &str,
    ) -> Option<(String, String)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             {headers}Content-Length: {}\r\n\r\n",
            self.port,
            self.token,
            body.len()
        );
        socket.write_all(head.as_bytes()).ok()?;
        socket.write_all(body.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_ascii_lowercase(), body.to_owned()))
    }

    /// Waits for a condition.
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds(self) {
            let ended = self.process.as_mut().is_some_and(|p| p.try_wait().unwrap().is_some());
            if ended || tokio::time::Instant::now() > deadline {
                let log = std::fs::read_to_string(self.path("server.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                panic!(
                    "not seen: {what}\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            super::pause(PAUSE);
        }
    }

    /// Waits until an execution has ended; gives it.
    pub(super) fn ended(&mut self, id: &Value) -> Value {
        let path = format!("/api/execution/executions/{id}");
        let mut seen = Value::Null;
        self.until("the execution ended", |server| {
            seen = server.get(&path);
            !matches!(seen["status"].as_str(), Some("pending" | "running"))
        });
        seen
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago; the server keeps it over its restarts.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

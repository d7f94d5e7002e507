//! Every setting: its key, type, unit and default.
//!
//! The unit is the suffix of the name (`_ms`, `_bytes`, `_days`). What too high and too low do is
//! said in `config/default.toml`, which lists the same keys; a test compares the two. The ranges
//! are in `checks.rs`. Nothing here reads files or the environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::section::{Millis, Secret, section};
use crate::domain::task;

/// All settings of a server. The default is what runs when nobody sets anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The HTTP server and its files.
    pub server: Server,
    /// Where state is kept.
    pub database: Database,
    /// When schedules fire.
    pub scheduler: Scheduler,
    /// How tasks run.
    pub executor: Executor,
    /// What shell tasks may use.
    pub limits: TaskLimits,
    /// How failures are mended.
    pub recovery: Recovery,
    /// The event log.
    pub events: Events,
    /// How long history is kept.
    pub retention: Retention,
    /// Live sessions.
    pub websocket: WebSocket,
    /// Who may come in, and for how long.
    pub auth: Auth,
    /// What tasks and webhooks may reach.
    pub egress: Egress,
    /// The conductor partner.
    pub conductor: Conductor,
    /// The admin plane.
    pub admin: Admin,
    /// The server's own log.
    pub log: Log,
}

section! {
    /// The HTTP server and its files.
    Server {
        /// Address and port to listen on; port 0 picks a free one and prints it.
        listen: SocketAddr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7411),
        /// Directory of the server's own files: SQLite database, `admin.token`, spool.
        data_dir: PathBuf = PathBuf::from("./data"),
        /// Further names by which clients may call the server (`Host` and `Origin`), besides
        /// `localhost` and loopback addresses. Exact names, no wildcards.
        hosts: Vec<String> = Vec::new(),
        /// HTTP worker threads.
        workers: usize = 2,
        /// Largest request body, in bytes; larger ones get 413.
        body_bytes_max: usize = 1_048_576,
        /// Whether `/metrics` answers without a key.
        metrics_public: bool = false,
        /// Whether a proxy with TLS stands in front; needed to listen beyond loopback.
        behind_proxy: bool = false,
    }
}

section! {
    /// Where state is kept.
    Database {
        /// `postgres://user:password@host:port/name`; empty means SQLite in the data directory.
        url: Secret = Secret::default(),
        /// PostgreSQL connections at most.
        pool_max: usize = 8,
        /// Longest wait for a free connection before a request gets 503.
        acquire_ms: Millis = Millis(500),
        /// Longest pause between attempts to reach a lost database.
        reconnect_max_ms: Millis = Millis(5_000),
    }
}

section! {
    /// When schedules fire.
    Scheduler {
        /// Time zone of schedules that name none (IANA name).
        timezone: Tz = Tz::UTC,
        /// How often the store is read again as a safety net.
        tick_ms: Millis = Millis(1_000),
        /// Most schedules fired in one transaction.
        batch_max: usize = 500,
        /// How late a firing may be before the misfire policy decides about it.
        misfire_grace_ms: Millis = Millis(5_000),
    }
}

section! {
    /// How tasks run.
    Executor {
        /// Tasks that may run at once on this node.
        slots: usize = 64,
        /// How long a node's right to run an execution lasts without a heartbeat.
        lease_ms: Millis = Millis(30_000),
        /// How long a stopping server waits for running tasks.
        drain_ms: Millis = Millis(30_000),
        /// Time between the polite and the forced end of a task's processes.
        grace_ms: Millis = Millis(5_000),
        /// Most executions claimed in one transaction.
        claim_batch_max: usize = 512,
        /// Output kept of each stream of a task, in its result and in its log, in bytes; the
        /// middle of longer output is cut.
        output_bytes_max: usize = 1_048_576,
        /// Longest log line, in bytes; a longer one becomes several, which say so.
        log_line_bytes_max: usize = 16_384,
        /// Log lines kept of each stream of an execution, half of them the newest; the others
        /// are counted where they were.
        log_lines_max: usize = 10_000,
        /// Free slots that only executions of high priority take.
        reserved_high: usize = 0,
        /// Percent of the memory (of the control group's, where it has less) below which only work
        /// of high priority starts; below two fifths of it nothing does. 0 never waits.
        memory_reserve_percent: u32 = 5,
        /// The same of the disk that the data directory is on.
        disk_reserve_percent: u32 = 2,
    }
}

section! {
    /// What shell tasks may use: of each a default for tasks that say nothing in
    /// `taskConfig.limits`, and a maximum for those that do. 0 is no limit.
    TaskLimits {
        /// Memory of a task's processes together, in MiB.
        memory_mb: u64 = 0,
        /// Most memory that a task may ask for, in MiB.
        memory_mb_max: u64 = 0,
        /// Processor time of a task's processes together, in ms.
        cpu_ms: u64 = 0,
        /// Most processor time that a task may ask for, in ms.
        cpu_ms_max: u64 = 0,
        /// Processes of a task at the same time.
        processes: u64 = 0,
        /// Most processes that a task may ask for.
        processes_max: u64 = 0,
        /// Open files of each process of a task.
        open_files: u64 = 0,
        /// Most open files that a task may ask for.
        open_files_max: u64 = 0,
        /// Bytes that a task may write, both streams together; it is ended past them.
        output_bytes: u64 = 0,
        /// Most bytes that a task may ask to write.
        output_bytes_max: u64 = 0,
        /// A delegated cgroup v2 folder under which each shell task gets a group; `auto`: the
        /// server's own, if it was delegated; empty: none.
        cgroup: String = String::new(),
    }
}

impl TaskLimits {
    /// What a task gets that asks for nothing.
    #[must_use]
    pub fn defaults(&self) -> task::TaskLimits {
        task::TaskLimits {
            memory_mb: limit(self.memory_mb),
            cpu_ms: limit(self.cpu_ms),
            processes: limit(self.processes),
            open_files: limit(self.open_files),
            output_bytes: limit(self.output_bytes),
        }
    }

    /// What a task may ask for at most.
    #[must_use]
    pub fn maxima(&self) -> task::TaskLimits {
        task::TaskLimits {
            memory_mb: limit(self.memory_mb_max),
            cpu_ms: limit(self.cpu_ms_max),
            processes: limit(self.processes_max),
            open_files: limit(self.open_files_max),
            output_bytes: limit(self.output_bytes_max),
        }
    }
}

/// 0 stands for no limit.
fn limit(value: u64) -> Option<u64> {
    (value > 0).then_some(value)
}

section! {
    /// How failures are mended.
    Recovery {
        /// How often the store is read again as a safety net.
        tick_ms: Millis = Millis(1_000),
        /// Most failures handled in one transaction.
        batch_max: usize = 200,
        /// Lost nodes that one chain survives before it counts as poison.
        max_crash_attempts: u32 = 3,
        /// Days that a dead letter is kept.
        dead_letter_days: u32 = 30,
        /// Dead letters added within `dead_letter_alert_ms` that raise an alert; 0 raises none.
        dead_letter_alert: u32 = 100,
        /// How far back they are counted; an alert is raised once in so long.
        dead_letter_alert_ms: Millis = Millis(3_600_000),
    }
}

section! {
    /// The event log. An event is kept while either limit asks for it.
    Events {
        /// Days that events are kept.
        keep_days: u32 = 7,
        /// Newest events that are kept whatever their age.
        keep_min: u64 = 1_000_000,
        /// How often the log is read again as a safety net.
        tail_ms: Millis = Millis(1_000),
        /// Most events read at once.
        batch_max: usize = 1_000,
    }
}

section! {
    /// How long history is kept.
    Retention {
        /// Days that completed executions are kept.
        completed_days: u32 = 30,
        /// Days that all other finished executions are kept.
        failed_days: u32 = 90,
        /// Days that task logs are kept.
        logs_days: u32 = 30,
        /// Days that the audit log is kept.
        audit_days: u32 = 365,
        /// Time between two sweeps.
        sweep_ms: Millis = Millis(600_000),
        /// Most rows deleted in one transaction.
        batch_max: usize = 1_000,
    }
}

section! {
    /// Live sessions.
    WebSocket {
        /// Time between two `heartbeat` messages.
        heartbeat_ms: Millis = Millis(10_000),
        /// Time between two pings.
        ping_ms: Millis = Millis(30_000),
        /// Silence after which a session is closed.
        idle_ms: Millis = Millis(60_000),
        /// Messages on their way to one client that it has not confirmed.
        window_messages: usize = 1_000,
        /// Bytes on their way to one client that it has not confirmed.
        window_bytes: usize = 1_048_576,
        /// Largest message from a client, in bytes.
        message_bytes_max: usize = 65_536,
        /// How long a fresh session may send its subscription before it gets every event.
        grace_ms: Millis = Millis(500),
        /// Sessions at most on this node.
        sessions_max: usize = 10_000,
    }
}

section! {
    /// Who may come in, and for how long.
    Auth {
        /// How long a dashboard session lasts.
        session_ms: Millis = Millis(43_200_000),
        /// How long a checked key is trusted without asking the store; a revoked key works so
        /// long at most.
        key_cache_ms: Millis = Millis(5_000),
        /// Failed attempts that one address may make within the window.
        failures_max: u32 = 20,
        /// Length of that window.
        failure_window_ms: Millis = Millis(60_000),
    }
}

/// How far outgoing requests may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressMode {
    /// Loopback and private networks too; never link-local, metadata or this server.
    InternalOk,
    /// Public addresses alone, and what `egress.allow` lists.
    Strict,
}

section! {
    /// What tasks and webhooks may reach.
    Egress {
        /// `internal-ok` or `strict`.
        mode: EgressMode = EgressMode::InternalOk,
        /// Host names, addresses and networks (`10.0.0.0/8`) allowed whatever the mode.
        allow: Vec<String> = Vec::new(),
    }
}

section! {
    /// The conductor partner. Not configured while `url` and `command` are both empty.
    Conductor {
        /// Base address of the conductor's API, such as `http://127.0.0.1:3001/api`.
        url: String = String::new(),
        /// Bearer token for it; empty sends none.
        token: Secret = Secret::default(),
        /// Program and arguments of a conductor to run as a subprocess; empty runs none.
        command: Vec<String> = Vec::new(),
        /// Whether the subprocess is started again when it ends.
        restart: bool = true,
        /// Time between two health checks.
        health_ms: Millis = Millis(10_000),
        /// Longest wait for one answer.
        request_ms: Millis = Millis(10_000),
    }
}

section! {
    /// The admin plane.
    Admin {
        /// Whether `POST /api/admin/actors/{path}/crash` exists; for tests alone.
        fault_injection: bool = false,
        /// With fault injection: the commit at which the process kills itself, such as
        /// `schedule_fire before 3`; empty for none.
        kill_at: String = String::new(),
    }
}

/// The form of the server's log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

section! {
    /// The server's own log, on standard error.
    Log {
        /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives such as
        /// `info,carillon::store=debug`.
        level: String = "info".to_owned(),
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text,
    }
}

impl Settings {
    /// The PostgreSQL URL, or nothing when state lives in SQLite.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        Some(self.database.url.reveal()).filter(|url| !url.is_empty())
    }

    /// Where the SQLite database lives when there is no PostgreSQL URL.
    #[must_use]
    pub fn sqlite_path(&self) -> PathBuf {
        self.server.data_dir.join("carillon.db")
    }

    /// The file that holds the first admin key.
    #[must_use]
    pub fn admin_token_path(&self) -> PathBuf {
        self.server.data_dir.join("admin.token")
    }

    /// Whether there is a conductor to talk to.
    #[must_use]
    pub fn has_conductor(&self) -> bool {
        !self.conductor.url.is_empty() || !self.conductor.command.is_empty()
    }
}

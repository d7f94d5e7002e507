//! An environment for tasks, a sink that keeps what it hears, and waits that have a deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use carillon::clock::Clock;
use carillon::domain::task::Task;
use carillon::tasks::function::FunctionRegistry;
use carillon::tasks::{
    LogLine, Outcome, Progress, TaskContext, TaskControl, TaskEnvironment, TaskSettings, TaskSink,
};
use chrono::DateTime;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

/// Keeps everything that a task tells.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) lines: Mutex<Vec<LogLine>>,
    pub(super) progress: Mutex<Vec<Progress>>,
}

impl TaskSink for Heard {
    fn log(&self, line: LogLine) {
        self.lines.lock().push(line);
    }

    fn progress(&self, progress: Progress) {
        self.progress.lock().push(progress);
    }
}

impl Heard {
    pub(super) fn has_line(&self, text: &str) -> bool {
        self.lines.lock().iter().any(|line| line.text == text)
    }
}

/// An environment with a folder of its own.
pub(super) struct Bench {
    pub(super) environment: Arc<TaskEnvironment>,
    pub(super) directory: TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {}, FunctionRegistry::with_builtin())
    }

    pub(super) fn with(
        change: impl FnOnce(&mut TaskSettings),
        functions: FunctionRegistry,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = TaskSettings::new(directory.path().to_owned());
        change(&mut settings);
        let environment = TaskEnvironment::new(settings, functions, Clock::system()).unwrap();
        Self { environment: Arc::new(environment), directory }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Starts a task on the current arbiter.
    pub(super) fn start(&self, task_type: &str, config: Value) -> Running {
        self.start_with(task_type, config, |_| {}, None)
    }

    pub(super) fn start_with(
        &self,
        task_type: &str,
        config: Value,
        change: impl FnOnce(&mut TaskContext),
        lease: Option<tokio::time::Instant>,
    ) -> Running {
        let task = Task::parse(task_type, &config).unwrap();
        let mut context = context();
        context.timeout = task
            .timeout_ms()
            .map_or_else(|| self.environment.default_timeout(&task), Duration::from_millis);
        change(&mut context);
        let execution_id = context.execution_id;
        let control = TaskControl::new(lease);
        let heard = Arc::new(Heard::default());
        let (environment, steered) = (Arc::clone(&self.environment), control.clone());
        let sink: Arc<dyn TaskSink> = heard.clone();
        let handle =
            actix_rt::spawn(async move { environment.run(&task, context, steered, sink).await });
        Running { handle, control, heard, execution_id }
    }

    /// Runs a task to its end.
    pub(super) async fn run(&self, task_type: &str, config: Value) -> Outcome {
        self.start(task_type, config).outcome().await
    }
}

pub(super) fn context() -> TaskContext {
    TaskContext {
        execution_id: Uuid::now_v7(),
        chain_id: Uuid::now_v7(),
        attempt: 2,
        schedule_id: Some(7),
        scheduled_at: DateTime::from_timestamp_millis(1_800_000_000_123).unwrap(),
        fencing_token: 99,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        event: None,
        timeout: Duration::from_secs(60),
    }
}

/// A task that was started.
pub(super) struct Running {
    handle: actix_rt::task::JoinHandle<Outcome>,
    pub(super) control: TaskControl,
    pub(super) heard: Arc<Heard>,
    pub(super) execution_id: Uuid,
}

impl Running {
    pub(super) async fn outcome(self) -> Outcome {
        tokio::time::timeout(Duration::from_secs(30), self.handle).await.unwrap().unwrap()
    }

    /// Drops the run, as the end of its arbiter would.
    pub(super) fn abandon(self) {
        self.handle.abort();
    }
}

/// The kind of a failure.
pub(super) fn kind(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { error, .. } => &error.kind,
        Outcome::Completed { .. } => "completed",
        Outcome::Timeout { .. } => "timeout",
        Outcome::Cancelled { .. } => "cancelled",
    }
}

/// Waits until `condition` holds; fails the test after ten seconds.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The living processes whose command line contains `marker`.
pub(super) fn living(marker: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(marker)
        })
        .collect()
}

/// A number of seconds that no other test sleeps: `sleep MARKER` is found by it.
pub(super) fn marker() -> String {
    format!("3{}", Uuid::new_v4().as_u128() % 1_000_000_000)
}

/// The children of this process that have ended and were not reaped.
pub(super) fn zombies() -> Vec<i32> {
    let parent = format!("PPid:\t{}", std::process::id());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("State:\tZ") && status.lines().any(|line| line == parent)
        })
        .collect()
}

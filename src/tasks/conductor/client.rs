//! The conductor's thread API.
//!
//! `POST /api/threads/{id}/messages {message, timeout}` answers `{status, result?, error?}`, at
//! once or when the thread is done; a thread that is still at work is asked for with
//! `GET /api/threads/{id}`; `POST /api/threads/{id}/cancel` ends it.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::domain::task::TaskError;
use crate::tasks::http::{Answer, Outbound, Request};

/// The first wait before a thread at work is asked for; it doubles.
const POLL_FIRST: Duration = Duration::from_millis(250);
/// The longest wait before a thread at work is asked for again.
const POLL_LIMIT: Duration = Duration::from_secs(5);

/// Statuses of a thread that is at work.
const AT_WORK: [&str; 8] =
    ["accepted", "queued", "pending", "started", "running", "active", "processing", "in_progress"];
/// Statuses of a thread that did not do what it was to do.
const FAILED: [&str; 6] = ["failed", "error", "errored", "cancelled", "canceled", "timeout"];

/// What the conductor says of a thread. Its answers may hold more; that is its own affair.
#[derive(Clone, Debug, Deserialize)]
pub struct Reply {
    /// The thread's status; `completed` if the conductor does not say.
    #[serde(default = "completed")]
    pub status: String,
    /// What came of it.
    #[serde(default)]
    pub result: Value,
    /// What went wrong.
    #[serde(default)]
    pub error: Value,
}

fn completed() -> String {
    "completed".to_owned()
}

impl Reply {
    fn is_at_work(&self) -> bool {
        self.error.is_null() && AT_WORK.contains(&self.status.to_ascii_lowercase().as_str())
    }

    /// What went wrong, in a sentence; `None` when nothing did.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.error {
            Value::Null => {}
            Value::String(text) => return Some(text.clone()),
            other => {
                let message = other.get("message").and_then(Value::as_str);
                return Some(message.map_or_else(|| other.to_string(), str::to_owned));
            }
        }
        let failed = FAILED.contains(&self.status.to_ascii_lowercase().as_str());
        failed.then(|| format!("the thread ended with status `{}`", self.status))
    }
}

/// Where the conductor is.
#[derive(Clone)]
pub struct ConductorSettings {
    /// The base address, with or without a last `/api`.
    pub url: Url,
    /// The bearer token to send, if any.
    pub token: Option<String>,
    /// How long one answer may take, but for the answer to a message, which takes as long as the
    /// task may.
    pub request_timeout: Duration,
}

impl std::fmt::Debug for ConductorSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ConductorSettings")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// A client of one conductor. Every error's kind is `conductor`.
pub struct ConductorClient {
    settings: ConductorSettings,
    outbound: Outbound,
}

impl ConductorClient {
    pub(in crate::tasks) fn new(mut settings: ConductorSettings, outbound: Outbound) -> Self {
        // Every path below starts with `api`, but for the health check.
        let path = settings.url.path().trim_end_matches('/');
        let base = path.strip_suffix("/api").unwrap_or(path).to_owned();
        settings.url.set_path(&base);
        Self { settings, outbound }
    }

    /// Whether the conductor answers `GET /health`: any status below 500 will do.
    ///
    /// # Errors
    /// When it does not.
    pub async fn health(&self) -> Result<(), TaskError> {
        let answer = self.ask("GET", &["health"], None).await?;
        if answer.status < 500 { Ok(()) } else { Err(status_error(&answer)) }
    }

    /// Says `message` to a thread and waits until the thread is done. `timeout` is told to the
    /// conductor; the caller enforces it.
    ///
    /// # Errors
    /// When the conductor cannot be reached, refuses, or answers what cannot be understood.
    pub async fn execute(
        &self,
        thread_id: &str,
        message: &str,
        timeout: Duration,
    ) -> Result<Reply, TaskError> {
        let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let body = json!({"message": message, "timeout": timeout});
        let path = ["api", "threads", thread_id, "messages"];
        let mut reply = read(&self.call("POST", &path, Some(body)).await?)?;
        let mut wait = POLL_FIRST;
        while reply.is_at_work() {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(POLL_LIMIT);
            reply = self.thread(thread_id).await?;
        }
        Ok(reply)
    }

    /// What the conductor says of a thread now.
    ///
    /// # Errors
    /// As [`ConductorClient::execute`].
    pub async fn thread(&self, thread_id: &str) -> Result<Reply, TaskError> {
        read(&self.ask("GET", &["api", "threads", thread_id], None).await?)
    }

    /// Cancels a thread.
    ///
    /// # Errors
    /// When the conductor cannot be reached or refuses.
    pub async fn cancel(&self, thread_id: &str) -> Result<(), TaskError> {
        let path = ["api", "threads", thread_id, "cancel"];
        let answer = self.ask("POST", &path, Some(json!({}))).await?;
        if answer.status < 400 { Ok(()) } else { Err(status_error(&answer)) }
    }

    /// A call that must not take long.
    async fn ask(
        &self,
        method: &'static str,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Answer, TaskError> {
        let called = self.call(method, path, body);
        tokio::time::timeout(self.settings.request_timeout, called)
            .await
            .unwrap_or_else(|_| Err(TaskError::new("conductor", "the conductor does not answer")))
    }

    async fn call(
        &self,
        method: &'static str,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Answer, TaskError> {
        let mut url = self.settings.url.clone();
        url.path_segments_mut()
            .map_err(|()| TaskError::new("conductor", "the conductor's URL has no path"))?
            .pop_if_empty()
            .extend(path);
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        if let Some(token) = &self.settings.token {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = Request { method, url, headers, body };
        let sent = self.outbound.send(request).await;
        sent.map_err(|error| TaskError::new("conductor", error.message))
    }
}

fn read(answer: &Answer) -> Result<Reply, TaskError> {
    if answer.status >= 400 {
        return Err(status_error(answer));
    }
    if answer.truncated {
        let message = "the conductor's answer is over the limit of a body";
        return Err(TaskError::new("output_too_large", message));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        TaskError::new("conductor", format!("the conductor's answer is not understood: {error}"))
    })
}

fn status_error(answer: &Answer) -> TaskError {
    let detail = serde_json::from_slice::<Reply>(&answer.body)
        .ok()
        .and_then(|reply| reply.failure())
        .map(|failure| format!(": {failure}"))
        .unwrap_or_default();
    let message = format!("the conductor answered with status {}{detail}", answer.status);
    TaskError::new("conductor", message)
}

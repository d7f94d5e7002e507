//! Conductor tasks: a message to a thread of a conductor, and what comes of it.
//!
//! A thread whose task is cut off (timeout, cancel, drain, lost lease) is cancelled at the
//! conductor too, so that it does not work on for nobody. The conductor's address comes from the
//! operator, so the egress policy does not judge it.

mod client;
mod process;

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

pub use self::client::{ConductorClient, ConductorSettings, Reply};
pub use self::process::{ConductorCommand, ConductorExit, ConductorProcess};
use super::control::TaskControl;
use super::outcome::{Outcome, OutcomeExtra, TaskContext};
use super::race;
use crate::domain::task::{ConductorTask, TaskError};

/// How long the cancel of a thread may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// Says the message to the thread and waits for what comes of it.
pub(super) async fn run(
    client: Option<&ConductorClient>,
    task: &ConductorTask,
    context: &TaskContext,
    control: &TaskControl,
) -> Outcome {
    let Some(client) = client else {
        let error = TaskError::new("conductor", "no conductor is configured");
        return Outcome::failed(error.with_transient(false));
    };
    let thread_id = task.thread_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let mut extra =
        OutcomeExtra { conductor_thread_id: Some(thread_id.clone()), ..OutcomeExtra::default() };
    let message = match context.event.as_deref() {
        Some(event) => format!("{}\n\nEvent: {event}", task.message),
        None => task.message.clone(),
    };
    let work = client.execute(&thread_id, &message, context.timeout);
    match race(work, context.timeout, control).await {
        Ok(Ok(reply)) => {
            extra.conductor_status = Some(reply.status.clone());
            conclude(thread_id, reply, extra)
        }
        Ok(Err(error)) => Outcome::Failed { error, result: None, extra },
        Err(cut) => {
            match tokio::time::timeout(CANCEL_LIMIT, client.cancel(&thread_id)).await {
                Ok(Ok(())) => extra.conductor_status = Some("cancelled".to_owned()),
                Ok(Err(error)) => {
                    tracing::warn!(thread_id, error = error.message, "a thread was not cancelled");
                }
                Err(_) => tracing::warn!(thread_id, "the cancel of a thread was not answered"),
            }
            cut.outcome(None, extra)
        }
    }
}

fn conclude(thread_id: String, reply: Reply, extra: OutcomeExtra) -> Outcome {
    let failure = reply.failure();
    let result = json!({"threadId": thread_id, "status": reply.status, "result": reply.result});
    match failure {
        None => Outcome::Completed { result, extra },
        Some(message) => Outcome::Failed {
            error: TaskError::new("conductor", message),
            result: Some(result),
            extra,
        },
    }
}

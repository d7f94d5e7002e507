//! Functions: named handlers in this binary, with typed payloads.
//!
//! To add one, write an async function of a payload and a [`FunctionContext`], and register it:
//!
//! ```
//! use carillon::tasks::function::{FunctionContext, FunctionRegistry, FunctionSpec};
//! use carillon::domain::task::TaskError;
//! use serde::Deserialize;
//! use serde_json::json;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Greet { name: String }
//!
//! async fn greet(payload: Greet, context: FunctionContext) -> Result<String, TaskError> {
//!     context.log("greeting");
//!     Ok(format!("hello {}", payload.name))
//! }
//!
//! let mut registry = FunctionRegistry::with_builtin();
//! let spec = FunctionSpec::new("greet:person", "Greets somebody.")
//!     .payload_schema(json!({"type": "object", "properties": {"name": {"type": "string"}}}));
//! registry.register(spec, greet);
//! ```
//!
//! A handler runs on a thread of its own, so it may block without freezing anything else. A cancel
//! or timeout stops waiting for it and drops it at its next `await`; a thread that blocks cannot
//! be ended and runs on, its result dropped. A handler's panic is its own failure. It chooses
//! whether a failure is worth another attempt: [`failed`] is, [`refused`] is not.

mod builtin;
mod pool;
mod registry;

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::oneshot;

pub(super) use self::pool::FunctionPool;
use self::registry::Handler;
pub use self::registry::{FunctionInfo, FunctionRegistry, FunctionSpec};
use super::control::TaskControl;
use super::environment::TaskEnvironment;
use super::http::Outbound;
use super::outcome::{LogLine, LogStream, Outcome, OutcomeExtra, Progress, TaskContext, TaskSink};
use super::race;
use crate::clock::Clock;
use crate::domain::task::{FunctionTask, TaskError};

/// What the built-in functions ask of the runtime.
#[async_trait]
pub trait FunctionServices: Send + Sync {
    /// The server's health, as `GET /api/health` tells it.
    async fn health_check(&self) -> Result<Value, TaskError>;
    /// The server's metrics as JSON.
    async fn collect_metrics(&self) -> Result<Value, TaskError>;
    /// Deletes finished executions older than so many days, of one status or of all; answers how
    /// many.
    async fn delete_old_executions(
        &self,
        older_than_days: u32,
        status: Option<String>,
    ) -> Result<u64, TaskError>;
}

/// An error that another attempt may cure.
pub fn failed(message: impl Into<String>) -> TaskError {
    TaskError::new("function_failed", message)
}

/// An error that another attempt cannot cure.
pub fn refused(message: impl Into<String>) -> TaskError {
    failed(message).with_transient(false)
}

/// What a handler has besides its payload.
#[derive(Clone)]
pub struct FunctionContext {
    /// The attempt that runs.
    pub task: TaskContext,
    services: Option<Arc<dyn FunctionServices>>,
    outbound: Outbound,
    sink: Arc<dyn TaskSink>,
    clock: Clock,
}

impl FunctionContext {
    /// The services of the runtime.
    ///
    /// # Errors
    /// A transient error while the server starts.
    pub fn services(&self) -> Result<&dyn FunctionServices, TaskError> {
        self.services.as_deref().ok_or_else(|| failed("the server is still starting"))
    }

    /// The HTTP client that keeps to the egress policy.
    #[must_use]
    pub const fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Writes a line to the execution's log.
    pub fn log(&self, text: impl Into<String>) {
        let (stream, at) = (LogStream::System, self.clock.now());
        self.sink.log(LogLine { stream, at, text: text.into(), continues: false });
    }

    /// Reports progress.
    pub fn progress(&self, progress: Progress) {
        self.sink.progress(progress);
    }
}

/// Runs the handler that `task` names.
pub(super) async fn run(
    environment: &TaskEnvironment,
    task: &FunctionTask,
    context: &TaskContext,
    control: &TaskControl,
    sink: Arc<dyn TaskSink>,
) -> Outcome {
    let Some(handler) = environment.functions().handler(&task.name) else {
        let message = format!("there is no function `{}`", task.name);
        return Outcome::failed(TaskError::new("unknown_function", message));
    };
    let payload = with_event(&task.payload, context.event.as_deref());
    let call = match handler {
        Handler::Inline(function) => return conclude(pool::guarded(|| function(&payload))),
        Handler::Threaded(function) => {
            let context = FunctionContext {
                task: context.clone(),
                services: environment.services(),
                outbound: environment.outbound().clone(),
                sink,
                clock: environment.clock().clone(),
            };
            let function = Arc::clone(function);
            let payload = payload.into_owned();
            move || function(payload, context)
        }
    };
    // Dropped when we stop waiting, which the handler's thread notices at its next `await`.
    let (_wanted, unwanted) = oneshot::channel::<()>();
    let answer = environment.pool().call(call, unwanted);
    match race(answer, context.timeout, control).await {
        Ok(answer) => conclude(answer),
        Err(cut) => cut.outcome(None, OutcomeExtra::default()),
    }
}

/// The payload with the event that set the task off in place of every `{"$event": true}`; null
/// where no event did. A handler may also read it from its context.
fn with_event<'a>(payload: &'a Value, event: Option<&Value>) -> Cow<'a, Value> {
    fn is_place(value: &Value) -> bool {
        value.as_object().is_some_and(|object| {
            object.len() == 1 && object.get("$event") == Some(&Value::Bool(true))
        })
    }
    fn has_place(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(has_place),
            Value::Object(object) => is_place(value) || object.values().any(has_place),
            _ => false,
        }
    }
    fn fill(value: &mut Value, event: &Value) {
        if is_place(value) {
            value.clone_from(event);
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| fill(item, event)),
            Value::Object(object) => object.values_mut().for_each(|item| fill(item, event)),
            _ => {}
        }
    }
    if !has_place(payload) {
        return Cow::Borrowed(payload);
    }
    let mut payload = payload.clone();
    fill(&mut payload, event.unwrap_or(&Value::Null));
    Cow::Owned(payload)
}

fn conclude(answer: Result<Value, TaskError>) -> Outcome {
    match answer {
        Ok(result) => Outcome::Completed { result, extra: OutcomeExtra::default() },
        Err(error) => Outcome::failed(error),
    }
}

/// The error of a panic, with its message.
pub(super) fn panic_error(panic: &(dyn Any + Send)) -> TaskError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    TaskError::new("panic", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_event_stands_where_the_payload_asks_for_it() {
        let payload = json!({"order": {"$event": true}, "list": [{"$event": true}, 1]});
        let event = json!({"name": "orders.created", "payload": {"$event": true}});
        let filled = with_event(&payload, Some(&event));
        assert_eq!(filled["order"], event);
        assert_eq!(filled["list"], json!([event, 1]));
        assert_eq!(with_event(&payload, None)["order"], Value::Null);
        let plain = json!({"$event": true, "more": 1});
        assert!(matches!(with_event(&plain, Some(&event)), Cow::Borrowed(_)));
    }
}

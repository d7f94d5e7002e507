//! Which functions there are, and how they are called.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::pool::Work;
use super::{FunctionContext, builtin, refused};
use crate::domain::task::TaskError;

/// A function that takes no time.
type Inline = dyn Fn(&Value) -> Result<Value, TaskError> + Send + Sync;
/// A function that makes the work for its thread.
type Threaded = dyn Fn(Value, FunctionContext) -> Work + Send + Sync;

/// A handler behind its types.
pub(super) enum Handler {
    /// Runs where it is called; for what takes no time.
    Inline(Arc<Inline>),
    /// Runs on a thread of its own.
    Threaded(Arc<Threaded>),
}

/// What people are told about a function.
#[derive(Clone, Debug)]
pub struct FunctionSpec {
    name: String,
    description: String,
    payload_schema: Value,
    timeout: Duration,
}

impl FunctionSpec {
    /// A function that takes any payload and may run for 60 s.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            payload_schema: json!({}),
            timeout: Duration::from_secs(60),
        }
    }

    /// Describes the payload, in the manner of JSON Schema. For people and forms: what is accepted
    /// is decided by the handler's payload type.
    #[must_use]
    pub fn payload_schema(mut self, schema: Value) -> Self {
        self.payload_schema = schema;
        self
    }

    /// How long it may run when neither the call nor the schedule says.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// A registered function as `GET /api/functions` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionInfo {
    /// The name by which it is called.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Its payload, in the manner of JSON Schema.
    pub payload_schema: Value,
    /// How long it may run when nobody says, in milliseconds.
    pub timeout_ms: u64,
}

struct Entry {
    spec: FunctionSpec,
    handler: Handler,
}

/// The functions by name.
#[derive(Default)]
pub struct FunctionRegistry {
    entries: BTreeMap<String, Entry>,
}

impl FunctionRegistry {
    /// No functions at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The built-in functions: `noop`, `health:check`, `metrics:collect`,
    /// `cleanup:old_executions` and `notify:send`.
    #[must_use]
    pub fn with_builtin() -> Self {
        let mut registry = Self::new();
        builtin::register(&mut registry);
        registry
    }

    /// Adds a handler; one of the same name is replaced. A payload that does not fit its type is
    /// refused as `invalid_config`; a payload left out is read as `{}` (or `null`).
    pub fn register<P, R, W>(
        &mut self,
        spec: FunctionSpec,
        handler: impl Fn(P, FunctionContext) -> W + Send + Sync + 'static,
    ) where
        P: DeserializeOwned,
        R: Serialize,
        W: Future<Output = Result<R, TaskError>> + 'static,
    {
        let call = move |payload: Value, context: FunctionContext| -> Work {
            match read_payload(payload) {
                Ok(payload) => {
                    let work = handler(payload, context);
                    Box::pin(async move { write_result(&work.await?) })
                }
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }
        };
        self.add(spec, Handler::Threaded(Arc::new(call)));
    }

    /// Adds a handler that runs where it is called, without a thread of its own. Only for what
    /// takes microseconds and never blocks: it holds up every task of its worker.
    pub fn register_inline<P, R>(
        &mut self,
        spec: FunctionSpec,
        handler: impl Fn(P) -> Result<R, TaskError> + Send + Sync + 'static,
    ) where
        P: DeserializeOwned,
        R: Serialize,
    {
        let call = move |payload: &Value| write_result(&handler(read_payload(payload.clone())?)?);
        self.add(spec, Handler::Inline(Arc::new(call)));
    }

    /// Every function, by name.
    #[must_use]
    pub fn list(&self) -> Vec<FunctionInfo> {
        self.entries
            .values()
            .map(|entry| FunctionInfo {
                name: entry.spec.name.clone(),
                description: entry.spec.description.clone(),
                payload_schema: entry.spec.payload_schema.clone(),
                timeout_ms: u64::try_from(entry.spec.timeout.as_millis()).unwrap_or(u64::MAX),
            })
            .collect()
    }

    /// Whether there is a function of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    pub(in crate::tasks) fn timeout_of(&self, name: &str) -> Option<Duration> {
        self.entries.get(name).map(|entry| entry.spec.timeout)
    }

    pub(super) fn handler(&self, name: &str) -> Option<&Handler> {
        self.entries.get(name).map(|entry| &entry.handler)
    }

    fn add(&mut self, spec: FunctionSpec, handler: Handler) {
        self.entries.insert(spec.name.clone(), Entry { spec, handler });
    }
}

fn read_payload<P: DeserializeOwned>(payload: Value) -> Result<P, TaskError> {
    let was_null = payload.is_null();
    let read = serde_path_to_error::deserialize(payload);
    let read = match read {
        Err(_) if was_null => serde_path_to_error::deserialize(json!({})),
        other => other,
    };
    read.map_err(|error| {
        let message = match error.path().to_string().as_str() {
            "." => format!("the payload does not fit: {}", error.inner()),
            path => format!("the payload does not fit at `{path}`: {}", error.inner()),
        };
        TaskError::new("invalid_config", message)
    })
}

fn write_result(result: &impl Serialize) -> Result<Value, TaskError> {
    serde_json::to_value(result)
        .map_err(|error| refused(format!("the result cannot be written as JSON: {error}")))
}

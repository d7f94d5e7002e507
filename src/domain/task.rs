//! What a worker can run: the task types, parsed from `taskType` and `taskConfig`.
//!
//! [`Task::parse`] turns JSON into a value or into every fault at once; whatever it accepts is
//! honoured by `tasks/`, and whatever is not built is refused with `not_supported_yet`.
//! How a task fails is [`TaskError`]; the table of its kinds is in [`error`].
//!
//! Not here: running anything, and policy that needs the world (whether a URL may be reached is
//! decided when its address is known).

pub mod error;
mod http;
mod limits;

use std::time::Duration;

use serde_json::Value;

pub use self::error::TaskError;
pub use self::http::{HttpMethod, HttpTask};
pub use self::limits::{RunAs, TaskLimits};
use crate::domain::fault::Fault;
use crate::domain::fields::{Fields, suggest};

/// The longest timeout a task may ask for: 7 days, in milliseconds.
pub const TIMEOUT_LIMIT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// The longest command or argument, in bytes (the kernel refuses longer ones).
pub const ARGUMENT_LIMIT: usize = 128 * 1024 - 1;
/// The most arguments of a command.
pub const ARGUMENTS_LIMIT: usize = 1000;
/// The most declared environment variables.
pub const VARIABLES_LIMIT: usize = 256;
/// The longest message to a conductor thread, in bytes.
pub const MESSAGE_LIMIT: usize = 256 * 1024;
/// The longest wait between TERM and KILL that a shell task may ask for, in milliseconds.
pub const GRACE_LIMIT_MS: u64 = 60_000;

const PATH: &str = "taskConfig";
const TYPES: [&str; 4] = ["shell_command", "http_request", "conductor_task", "function"];
const PLANNED_TYPES: [&str; 2] = ["worker_task", "workflow"];
const SHELL_FIELDS: [&str; 9] =
    ["command", "args", "cwd", "env", "timeoutMs", "timeout", "graceMs", "limits", "runAs"];
const NAME_LIMIT: usize = 128;
const PATH_LIMIT: usize = 4096;

/// A task to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// A command on this host.
    Shell(ShellTask),
    /// One HTTP request.
    Http(HttpTask),
    /// A message to a conductor thread.
    Conductor(ConductorTask),
    /// A registered handler of this server.
    Function(FunctionTask),
}

/// A command on this host: `/bin/sh -c command`, or `command args...` without a shell.
///
/// Not `Debug` by derive: declared variables may be secrets.
#[derive(Clone, PartialEq)]
pub struct ShellTask {
    /// The shell text, or the program when `args` is given.
    pub command: String,
    /// The arguments; `None` means that `command` goes through `/bin/sh -c`.
    pub args: Option<Vec<String>>,
    /// The working directory, absolute; `/` if left out.
    pub cwd: Option<String>,
    /// Declared environment variables.
    pub env: Vec<(String, String)>,
    /// The longest run, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The wait between TERM and KILL, in milliseconds; the server's setting if left out.
    pub grace_ms: Option<u64>,
    /// What it may use at most.
    pub limits: TaskLimits,
    /// As whom it runs; as the server's user if left out.
    pub run_as: Option<RunAs>,
}

impl std::fmt::Debug for ShellTask {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("ShellTask")
            .field("command", &self.command)
            .field("args", &self.args)
            .field("cwd", &self.cwd)
            .field("env", &names)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// A message to a conductor thread.
#[derive(Clone, Debug, PartialEq)]
pub struct ConductorTask {
    /// What is said to the thread.
    pub message: String,
    /// The thread to continue; a new one if left out.
    pub thread_id: Option<String>,
    /// The longest run, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// A call of a registered handler.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionTask {
    /// The handler's name, such as `health:check`. Whether it exists is known at run time.
    pub name: String,
    /// What the handler gets; its own schema decides whether it is sound.
    pub payload: Value,
    /// The longest run, in milliseconds.
    pub timeout_ms: Option<u64>,
}

impl Task {
    /// Reads `taskType` and `taskConfig`.
    ///
    /// # Errors
    /// Every fault at once, each under `taskType` or a dotted path below `taskConfig`: `required`,
    /// `invalid_type`, `invalid_value`, `out_of_range`, `unknown_field` (with a suggestion),
    /// `reserved_name`, `not_supported_yet`.
    pub fn parse(task_type: &str, config: &Value) -> Result<Self, Vec<Fault>> {
        if PLANNED_TYPES.contains(&task_type) {
            let message = format!("task type `{task_type}` is not supported yet");
            return Err(vec![Fault::new("taskType", "not_supported_yet", message)]);
        }
        if !TYPES.contains(&task_type) {
            let hint = suggest(task_type, &TYPES).map_or_else(
                || format!("known types: {}", TYPES.join(", ")),
                |meant| format!("did you mean `{meant}`?"),
            );
            let message = format!("there is no task type `{task_type}`; {hint}");
            return Err(vec![Fault::new("taskType", "invalid_value", message)]);
        }
        let Value::Object(object) = config else {
            let message = "`taskConfig` must be an object";
            return Err(vec![Fault::new(PATH, "invalid_type", message)]);
        };
        match task_type {
            "shell_command" => {
                parse_shell(Fields::of(object, PATH, &SHELL_FIELDS)).map(Self::Shell)
            }
            "http_request" => HttpTask::parse(object).map(Self::Http),
            "conductor_task" => {
                let known = ["message", "threadId", "timeoutMs", "timeout"];
                parse_conductor(Fields::of(object, PATH, &known)).map(Self::Conductor)
            }
            _ => {
                let known = ["name", "payload", "timeoutMs", "timeout"];
                parse_function(Fields::of(object, PATH, &known)).map(Self::Function)
            }
        }
    }

    /// The name of the type in the API and in the store.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Shell(_) => "shell_command",
            Self::Http(_) => "http_request",
            Self::Conductor(_) => "conductor_task",
            Self::Function(_) => "function",
        }
    }

    /// The timeout that the config asks for, in milliseconds.
    #[must_use]
    pub const fn timeout_ms(&self) -> Option<u64> {
        match self {
            Self::Shell(task) => task.timeout_ms,
            Self::Http(task) => task.timeout_ms,
            Self::Conductor(task) => task.timeout_ms,
            Self::Function(task) => task.timeout_ms,
        }
    }

    /// The timeout when neither the config nor the schedule asks for one.
    #[must_use]
    pub const fn default_timeout(&self) -> Duration {
        match self {
            Self::Shell(_) | Self::Function(_) => Duration::from_secs(60),
            Self::Http(_) => Duration::from_secs(30),
            Self::Conductor(_) => Duration::from_secs(300),
        }
    }
}

/// Reads `timeoutMs` or its older name `timeout`, both in milliseconds.
fn parse_timeout(fields: &mut Fields<'_>) -> Option<u64> {
    let alias = fields.integer("timeout", 1, TIMEOUT_LIMIT_MS);
    let timeout = fields.integer("timeoutMs", 1, TIMEOUT_LIMIT_MS);
    if let (Some(alias), Some(timeout)) = (alias, timeout)
        && alias != timeout
    {
        let message = "`timeout` is another name of `timeoutMs`; give one of them";
        fields.fault("timeout", "invalid_value", message);
    }
    timeout.or(alias)
}

fn parse_shell(mut fields: Fields<'_>) -> Result<ShellTask, Vec<Fault>> {
    let command = fields.needed_string("command", ARGUMENT_LIMIT, "\"echo hello\"");
    let args = fields.strings("args", ARGUMENTS_LIMIT, ARGUMENT_LIMIT);
    let cwd = fields.string("cwd", PATH_LIMIT);
    if cwd.as_ref().is_some_and(|cwd| !cwd.starts_with('/')) {
        fields.fault("cwd", "invalid_value", "`cwd` must be an absolute path");
    }
    let env = fields.pairs("env", VARIABLES_LIMIT, ARGUMENT_LIMIT);
    for (name, _) in &env {
        check_variable(&mut fields, name);
    }
    let timeout_ms = parse_timeout(&mut fields);
    let grace_ms = fields.integer("graceMs", 0, GRACE_LIMIT_MS);
    let limits = fields.value("limits").map(TaskLimits::parse);
    let limits = limits.and_then(|parsed| fields.take(parsed)).unwrap_or_default();
    let run_as = fields.string("runAs", NAME_LIMIT);
    let run_as = run_as.and_then(|text| {
        let parsed = RunAs::parse(&text);
        if parsed.is_none() {
            let message = "`runAs` must be a user's name, or `user:group`";
            fields.fault("runAs", "invalid_value", message);
        }
        parsed
    });
    let task = command.map(|command| ShellTask {
        command,
        args,
        cwd,
        env,
        timeout_ms,
        grace_ms,
        limits,
        run_as,
    });
    fields.finish(task)
}

fn check_variable(fields: &mut Fields<'_>, name: &str) {
    let field = format!("env.{name}");
    if name.is_empty() || name.contains(['=', '\0']) {
        let message = "a variable's name must not be empty or contain `=` or NUL";
        fields.fault(&field, "invalid_value", message);
    } else if name.starts_with("CARILLON_") || name == "TRACEPARENT" {
        fields.fault(&field, "reserved_name", format!("`{name}` is set by Carillon itself"));
    }
}

fn parse_conductor(mut fields: Fields<'_>) -> Result<ConductorTask, Vec<Fault>> {
    let message = fields.needed_string("message", MESSAGE_LIMIT, "\"summarise the backlog\"");
    let thread_id = fields.string("threadId", NAME_LIMIT);
    if thread_id.as_ref().is_some_and(|id| !is_plain_name(id)) {
        let message = "`threadId` may have letters, digits, `-`, `_`, `.` and `:` only";
        fields.fault("threadId", "invalid_value", message);
    }
    let timeout_ms = parse_timeout(&mut fields);
    fields.finish(message.map(|message| ConductorTask { message, thread_id, timeout_ms }))
}

fn parse_function(mut fields: Fields<'_>) -> Result<FunctionTask, Vec<Fault>> {
    let name = fields.needed_string("name", NAME_LIMIT, "\"health:check\"");
    let payload = fields.value("payload").cloned().unwrap_or(Value::Null);
    let timeout_ms = parse_timeout(&mut fields);
    fields.finish(name.map(|name| FunctionTask { name, payload, timeout_ms }))
}

/// Whether `name` can be part of a URL's path or a file's name as it is.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_.:".contains(char))
}

#[cfg(test)]
#[path = "task/task_tests.rs"]
mod tests;

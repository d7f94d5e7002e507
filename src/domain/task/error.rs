//! How a task fails: a stable kind, a sentence, and whether trying again can help.
//!
//! This is the one table of kinds. `retry class` is the name under which `retryPolicy.retryOn`
//! lists the kind (see [`TaskError::retry_class`]); a permanent kind is never retried.
//!
//! | kind | what happened | transient | retry class |
//! | --- | --- | --- | --- |
//! | `exit_code` | the command ended with a status that is not 0, 126 or 127 | yes | `exit_code` |
//! | `signal` | the command was ended by a signal that we did not send | yes | `exit_code` |
//! | `not_executable` | exit status 126: found, but it cannot be run | no | |
//! | `command_not_found` | exit status 127, or no such program | no | |
//! | `timeout` | the task ran past its timeout | yes | `timeout` |
//! | `connection` | no answer: name lookup, connect, TLS, reset, broken HTTP | yes | `connection` |
//! | `http_408` | the answer's status was 408 | yes | `timeout` |
//! | `http_425` | ... 425 | yes | `http_429` |
//! | `http_429` | ... 429 | yes | `http_429` |
//! | `http_5xx` | ... 500 to 599 | yes | `http_5xx` |
//! | `http_4xx` | ... any other from 400 to 499 | no | |
//! | `http_redirect` | too many redirects, or one without a usable target | no | |
//! | `conductor` | the conductor failed, refused or reported an error | yes | `conductor` |
//! | `function_failed` | a handler returned an error | the handler says | `exit_code` |
//! | `panic` | a handler or the server's own code panicked | yes | `panic` |
//! | `node_lost` | the lease was lost while the task ran | yes | `node_lost` |
//! | `interrupted` | a drain ended the task; charged to no budget | yes | |
//! | `invalid_config` | the config or payload cannot be run as it is | no | |
//! | `unknown_function` | no handler has that name | no | |
//! | `refused_by_policy` | the address may not be reached from here | no | |
//! | `output_too_large` | a result that cannot be cut was over its limit | no | |
//! | `internal` | the server could not do its part (no process, no pipe, ...) | yes | |

use serde::{Deserialize, Serialize};

/// The longest message of a [`TaskError`], in bytes; longer ones are cut.
pub const MESSAGE_LIMIT: usize = 4096;

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// A stable name from the table of this module.
    pub kind: String,
    /// What happened, for a person; at most [`MESSAGE_LIMIT`] bytes.
    pub message: String,
    /// Whether another attempt can succeed.
    pub transient: bool,
}

/// The kinds of which another attempt cannot make anything better.
const PERMANENT: [&str; 8] = [
    "not_executable",
    "command_not_found",
    "http_4xx",
    "http_redirect",
    "invalid_config",
    "unknown_function",
    "refused_by_policy",
    "output_too_large",
];

impl TaskError {
    /// An error of `kind`; the table says whether it is transient.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let kind = kind.into();
        let transient = !PERMANENT.contains(&kind.as_str());
        Self { kind, message: cut(message.into()), transient }
    }

    /// The same error, transient or permanent as the caller knows better than the table.
    #[must_use]
    pub fn with_transient(mut self, transient: bool) -> Self {
        self.transient = transient;
        self
    }

    /// The error of a command that ended with the non-zero status `code`.
    #[must_use]
    pub fn exit_code(code: i32) -> Self {
        match code {
            126 => Self::new("not_executable", "exit status 126: the command cannot be run"),
            127 => Self::new("command_not_found", "exit status 127: the command was not found"),
            _ => Self::new("exit_code", format!("exit status {code}")),
        }
    }

    /// The error of an HTTP answer with `status` of 400 or more.
    #[must_use]
    pub fn http_status(status: u16) -> Self {
        let kind = match status {
            408 => "http_408",
            425 => "http_425",
            429 => "http_429",
            500.. => "http_5xx",
            _ => "http_4xx",
        };
        Self::new(kind, format!("the server answered with status {status}"))
    }

    /// The name under which `retryPolicy.retryOn` lists this kind; `None` when the list does not
    /// decide (permanent kinds, and `interrupted` and `internal`, which are always tried again).
    #[must_use]
    pub fn retry_class(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "timeout" | "http_408" => Some("timeout"),
            "connection" => Some("connection"),
            "http_5xx" => Some("http_5xx"),
            "http_429" | "http_425" => Some("http_429"),
            "exit_code" | "signal" | "function_failed" => Some("exit_code"),
            "conductor" => Some("conductor"),
            "panic" => Some("panic"),
            "node_lost" => Some("node_lost"),
            _ => None,
        }
    }
}

fn cut(mut message: String) -> String {
    const MARK: &str = " [cut]";
    if message.len() > MESSAGE_LIMIT {
        let end = message.floor_char_boundary(MESSAGE_LIMIT - MARK.len());
        message.truncate(end);
        message.push_str(MARK);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_transient_exactly_when_trying_again_can_help() {
        for (status, kind, transient) in [
            (400, "http_4xx", false),
            (404, "http_4xx", false),
            (408, "http_408", true),
            (425, "http_425", true),
            (429, "http_429", true),
            (499, "http_4xx", false),
            (500, "http_5xx", true),
            (503, "http_5xx", true),
        ] {
            let error = TaskError::http_status(status);
            assert_eq!((error.kind.as_str(), error.transient), (kind, transient), "{status}");
            assert_eq!(error.retry_class().is_some(), transient, "{status}");
        }
    }

    #[test]
    fn exit_statuses_of_a_missing_command_are_permanent() {
        assert!(TaskError::exit_code(1).transient);
        assert!(!TaskError::exit_code(126).transient);
        assert!(!TaskError::exit_code(127).transient);
    }

    #[test]
    fn a_long_message_is_cut_visibly() {
        let error = TaskError::new("internal", "ä".repeat(MESSAGE_LIMIT));
        assert!(error.message.len() <= MESSAGE_LIMIT);
        assert!(error.message.ends_with("[cut]"));
    }
}

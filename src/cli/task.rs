//! The arguments that say what to run, shared by `schedule add` and `execution run`.

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};

use super::values::{parse_json, parse_span};

/// What to run: a command, a request or a function.
#[derive(Debug, Default, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["command", "http", "function"]))]
pub(super) struct TaskArguments {
    /// A command after `--`: one word is given to the shell, more are run as they are.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// An HTTP request.
    #[arg(long, num_args = 2, value_names = ["METHOD", "URL"])]
    http: Vec<String>,
    /// A registered function.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// The function's payload or the request's body, as JSON.
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    payload: Option<Value>,
    /// A header of the request, `Name: value`; may be repeated.
    #[arg(long, value_name = "HEADER", conflicts_with_all = ["command", "function"])]
    header: Vec<String>,
    /// Working directory of the command.
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["http", "function"])]
    cwd: Option<String>,
    /// A variable of the command, `NAME=value`; may be repeated.
    #[arg(long, value_name = "VARIABLE", conflicts_with_all = ["http", "function"])]
    env: Vec<String>,
    /// How long it may run, such as 30s.
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    timeout: Option<u64>,
    /// How often it is tried before it fails for good, the first time included.
    #[arg(long, value_name = "COUNT")]
    attempts: Option<u32>,
    /// `high`, `medium` or `low`.
    #[arg(long, value_parser = ["high", "medium", "low"])]
    priority: Option<String>,
    /// A tag; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

impl TaskArguments {
    /// The fields of a request that say what to run.
    pub(super) fn into_fields(self) -> Result<Map<String, Value>, String> {
        let mut body = Map::new();
        let (kind, config) = if let [method, url] = self.http.as_slice() {
            let mut config = Map::new();
            config.insert("method".to_owned(), json!(method.to_uppercase()));
            config.insert("url".to_owned(), json!(url));
            put(&mut config, "headers", pairs(&self.header, ':')?);
            put(&mut config, "body", self.payload);
            ("http_request", config)
        } else if let Some(name) = self.function {
            let mut config = Map::new();
            config.insert("name".to_owned(), json!(name));
            put(&mut config, "payload", Some(self.payload.unwrap_or_else(|| json!({}))));
            ("function", config)
        } else {
            let (command, arguments) =
                self.command.split_first().ok_or("say what to run after --")?;
            let mut config = Map::new();
            config.insert("command".to_owned(), json!(command));
            put(&mut config, "args", (!arguments.is_empty()).then(|| json!(arguments)));
            put(&mut config, "cwd", self.cwd.map(Value::from));
            put(&mut config, "env", pairs(&self.env, '=')?);
            ("shell_command", config)
        };
        body.insert("taskType".to_owned(), json!(kind));
        body.insert("taskConfig".to_owned(), Value::Object(config));
        put(&mut body, "timeoutMs", self.timeout.map(Value::from));
        put(&mut body, "retryPolicy", self.attempts.map(|count| json!({ "maxAttempts": count })));
        put(&mut body, "priority", self.priority.map(Value::from));
        put(&mut body, "tags", (!self.tags.is_empty()).then(|| json!(self.tags)));
        Ok(body)
    }
}

/// Sets a field that was given.
pub(super) fn put(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value);
    }
}

/// `name<mark>value` texts as an object; nothing when there are none.
fn pairs(texts: &[String], mark: char) -> Result<Option<Value>, String> {
    let mut object = Map::new();
    for text in texts {
        let (name, value) = text
            .split_once(mark)
            .ok_or_else(|| format!("'{text}' has no '{mark}' between name and value"))?;
        object.insert(name.trim().to_owned(), json!(value.trim_start()));
    }
    Ok((!object.is_empty()).then_some(Value::Object(object)))
}

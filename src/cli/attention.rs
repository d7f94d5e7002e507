//! `carillon attention`: what needs a person now, and the command that cures each.

use clap::Args;
use serde_json::Value;

use super::Connection;
use super::client::{Client, ClientError};
use super::output::{Answer, cell, grid, items};

pub(super) const EXAMPLE: &str = "Example:\n  carillon attention";

const HEADINGS: &[&str] = &["SEVERITY", "WHAT", "COUNT", "SINCE", "TITLE", "CURE"];

#[derive(Debug, Args)]
pub(super) struct Attention {
    #[command(flatten)]
    pub(super) connection: Connection,
}

impl Attention {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        let answer = client.get("/api/v2/attention").await?;
        let url = &self.connection.url;
        let rows: Vec<Vec<String>> = items(&answer).iter().map(|item| row(item, url)).collect();
        let mut text = grid(HEADINGS, &rows);
        if rows.is_empty() {
            "nothing needs you".clone_into(&mut text);
        }
        if answer.get("truncated") == Some(&Value::Bool(true)) {
            text.push_str("\nthere is more than is shown");
        }
        Ok(Answer::new(answer, text))
    }
}

fn row(item: &Value, url: &str) -> Vec<String> {
    let mut cells: Vec<String> = ["severity", "kind", "count", "since", "title"]
        .iter()
        .map(|name| cell(item, name))
        .collect();
    let cure = item.pointer("/actions/0");
    cells.push(cure.map_or_else(|| "-".to_owned(), |action| command(action, url)));
    cells
}

/// The command that does what an action says: ours where there is one, else curl.
fn command(action: &Value, url: &str) -> String {
    let (method, path) = (cell(action, "method"), cell(action, "path"));
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), segments.as_slice()) {
        ("POST", ["api", "v2", "errors", id, verb @ ("retry" | "resolve" | "ignore")]) => {
            format!("carillon error {verb} {id}")
        }
        ("POST", ["api", "admin", "actors", actor, verb @ ("restart" | "start")]) => {
            format!("carillon admin {verb} {actor}")
        }
        ("POST", ["api", "v1", "execution", "executions", id, "cancel"]) => {
            format!("carillon execution cancel {id}")
        }
        _ => {
            let verb = if method == "GET" { String::new() } else { format!("-X {method} ") };
            let url = url.trim_end_matches('/');
            let body = action.get("body").map_or_else(String::new, |body| {
                // Within single quotes only these need care.
                let body = body.to_string().replace('\'', "'\\''");
                format!(" -H 'Content-Type: application/json' -d '{body}'")
            });
            format!("curl {verb}-H \"Authorization: Bearer $CARILLON_TOKEN\" '{url}{path}'{body}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cure_is_a_command_that_can_be_pasted() {
        let cure = |method: &str, path: &str| {
            command(&json!({ "method": method, "path": path }), "http://127.0.0.1:7411/")
        };
        assert_eq!(cure("POST", "/api/v2/errors/7/retry"), "carillon error retry 7");
        let restart = cure("POST", "/api/admin/actors/time.scheduler/restart");
        assert_eq!(restart, "carillon admin restart time.scheduler");
        let start = cure("POST", "/api/v1/scheduler/start");
        assert!(start.starts_with("curl -X POST -H"), "{start}");
        assert!(start.ends_with("'http://127.0.0.1:7411/api/v1/scheduler/start'"), "{start}");
        let action = json!({
            "method": "POST", "path": "/api/v2/dead-letters/discard",
            "body": { "ids": [1], "reason": "it's old" },
        });
        let discard = command(&action, "http://h");
        let body = r#"-d '{"ids":[1],"reason":"it'\''s old"}'"#;
        assert!(discard.ends_with(body), "{discard}");
    }
}

//! Follows an execution's log: live over the socket, and whatever the socket leaves out by reading.
//!
//! Lines have numbers and are told live only once they are stored. So each line is printed once and
//! in order: one that follows the last printed is printed as it comes, any other is a sign to read
//! on from there. A socket that cannot be had, or is lost, costs nothing but time.

use std::time::Duration;

use awc::ws::{Frame, Message};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

use super::FAILED;
use super::client::{Client, ClientError, segment};
use super::execution::ROUTE;
use super::output::{Answer, cell, items, say};
use crate::telemetry::log::escape_line;

/// Time between two attempts to get a socket; the log is read each time.
const PAUSE: Duration = Duration::from_millis(500);
/// Log lines asked for at once.
const PAGE: usize = 500;
/// Longest wait for a socket.
const CONNECT: Duration = Duration::from_secs(5);
/// The server beats every ten seconds; a socket that is silent for so long is dead.
const SILENCE: Duration = Duration::from_secs(25);

/// Prints the log as it grows until the execution has ended and everything is printed.
pub(super) async fn tail(client: &Client, id: &str) -> Result<Answer, ClientError> {
    let mut tail = Tail { client, id, route: format!("{ROUTE}/{}", segment(id)), after: 0 };
    loop {
        if let Some(answer) = tail.catch_up().await? {
            return Ok(answer);
        }
        if let Some(answer) = tail.follow().await? {
            return Ok(answer);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Tail<'a> {
    client: &'a Client,
    id: &'a str,
    route: String,
    /// The last line that was printed.
    after: i64,
}

impl Tail<'_> {
    /// Prints what is stored; the outcome if the execution has ended.
    async fn catch_up(&mut self) -> Result<Option<Answer>, ClientError> {
        // The status is read before the log: what is logged before the end is then never missed.
        let execution = self.client.get(&self.route).await?;
        let is_over = !matches!(cell(&execution, "status").as_str(), "pending" | "running");
        self.read_on().await?;
        Ok(is_over.then(|| outcome(self.id, execution)))
    }

    /// Prints the log after the last printed line.
    async fn read_on(&mut self) -> Result<(), ClientError> {
        loop {
            let path = format!("{}/logs?after={}&limit={PAGE}", self.route, self.after);
            let page = self.client.get(&path).await?;
            let before = self.after;
            for line in items(&page) {
                self.print(line);
            }
            if items(&page).len() < PAGE || self.after == before {
                return Ok(());
            }
        }
    }

    fn print(&mut self, line: &Value) {
        let number = line.get("line").and_then(Value::as_i64).unwrap_or(0);
        if number <= self.after {
            return;
        }
        self.after = number;
        if self.client.json { say(&line.to_string()) } else { say(&format_line(line)) }
    }

    /// Listens until the execution has ended (its outcome) or the socket is lost.
    async fn follow(&mut self) -> Result<Option<Answer>, ClientError> {
        let connecting = self.client.live().connect();
        let Ok(Ok((_, mut socket))) = tokio::time::timeout(CONNECT, connecting).await else {
            return Ok(None);
        };
        // Both forms of an id are taken.
        let names = json!({ "executionIds": [self.id] });
        let subscribe = json!({ "type": "subscribe", "subscriptions": names }).to_string();
        if socket.send(Message::Text(subscribe.into())).await.is_err() {
            return Ok(None);
        }
        loop {
            let frame = match tokio::time::timeout(SILENCE, socket.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None | Some(Err(_))) | Err(_) => return Ok(None),
            };
            match frame {
                Frame::Text(text) => {
                    let heard = serde_json::from_slice(&text).unwrap_or(Value::Null);
                    if cell(&heard, "type") == "error" {
                        return Ok(None);
                    }
                    if let Some(answer) = self.hear(&heard).await? {
                        return Ok(Some(answer));
                    }
                }
                Frame::Ping(bytes) => {
                    if socket.send(Message::Pong(bytes)).await.is_err() {
                        return Ok(None);
                    }
                }
                Frame::Close(_) => return Ok(None),
                Frame::Pong(_) | Frame::Binary(_) | Frame::Continuation(_) => {}
            }
        }
    }

    async fn hear(&mut self, heard: &Value) -> Result<Option<Answer>, ClientError> {
        match cell(heard, "type").as_str() {
            "execution_log" => {
                let Some(line) = heard.get("payload") else { return Ok(None) };
                let number = line.get("line").and_then(Value::as_i64).unwrap_or(0);
                if number > self.after + 1 || line.get("dropped").is_some_and(|gap| !gap.is_null())
                {
                    self.read_on().await?;
                } else {
                    self.print(&without_ids(line));
                }
                Ok(None)
            }
            "heartbeat" | "connected" | "execution_progress" => Ok(None),
            // What came before the subscription, or an event of the execution: it may be over.
            _ => self.catch_up().await,
        }
    }
}

/// A live line as the log has it.
fn without_ids(line: &Value) -> Value {
    let mut line = line.clone();
    if let Some(fields) = line.as_object_mut() {
        fields.remove("id");
        fields.remove("executionId");
    }
    line
}

/// A line of a log; only what is not plain output says where it came from. A task cannot write a
/// line that looks like one of ours: output that begins like that says where it came from too.
fn format_line(line: &Value) -> String {
    let stream = cell(line, "stream");
    let text = escape_line(line.get("text").and_then(Value::as_str).unwrap_or_default());
    if line.get("dropped").is_some_and(|gap| !gap.is_null()) {
        return format!("[system] {text} of {stream}");
    }
    let is_plain = stream == "stdout"
        && !["[system]", "[stderr]", "[stdout]"].iter().any(|mark| text.starts_with(mark));
    match (is_plain, text.is_empty()) {
        // An empty line must stay one, `say` prints nothing for nothing.
        (true, true) => " ".to_owned(),
        (true, false) => text,
        (false, _) => format!("[{stream}] {text}"),
    }
}

fn outcome(id: &str, execution: Value) -> Answer {
    let status = cell(&execution, "status");
    let exit = if status == "completed" { 0 } else { FAILED };
    let text = match cell(&execution, "error.message").as_str() {
        "-" => format!("execution {id}: {status}"),
        reason => format!("execution {id}: {status}: {reason}"),
    };
    Answer::new(execution, text).with_status(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_cannot_write_a_line_that_looks_like_ours() {
        let line = |stream: &str, text: &str| json!({ "stream": stream, "text": text });
        assert_eq!(format_line(&line("stdout", "hello")), "hello");
        assert_eq!(format_line(&line("stderr", "hello")), "[stderr] hello");
        assert_eq!(
            format_line(&line("stdout", "[system] cancelled")),
            "[stdout] [system] cancelled"
        );
        let mut gap = line("stdout", "12.4 MB (7 lines) not kept");
        gap["dropped"] = json!({"lines": 7, "bytes": 12_400_000});
        assert_eq!(format_line(&gap), "[system] 12.4 MB (7 lines) not kept of stdout");
    }
}

//! `carillon admin`: the server's own parts.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Connection;
use super::client::{Client, ClientError, segment};
use super::output::{Answer, card, cell, grid};

#[derive(Debug, Args)]
pub(super) struct Admin {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows the supervision tree, or one actor with its crashes.
    #[command(
        after_help = "Examples:\n  carillon admin actors\n  carillon admin actors time.scheduler"
    )]
    Actors {
        /// An actor's path, such as time.scheduler.
        path: Option<String>,
    },
    /// Restarts an actor; nothing stored is lost.
    #[command(after_help = "Example:\n  carillon admin restart time.scheduler")]
    Restart {
        /// The actor's path.
        path: String,
    },
    /// Stops an actor until it is started again or the process restarts.
    #[command(after_help = "Example:\n  carillon admin stop work.executor")]
    Stop {
        /// The actor's path.
        path: String,
    },
    /// Starts a stopped actor.
    #[command(after_help = "Example:\n  carillon admin start work.executor")]
    Start {
        /// The actor's path.
        path: String,
    },
    /// Finishes what runs and takes nothing new.
    #[command(after_help = "Example:\n  carillon admin drain")]
    Drain,
    /// Shows the log level, or changes it until the process ends.
    #[command(after_help = "Example:\n  carillon admin log-level info,carillon::store=debug")]
    LogLevel {
        /// The new level.
        level: Option<String>,
    },
}

const HEADINGS: &[&str] = &["ACTOR", "STATE", "RESTARTS", "MAILBOX", "LAST CRASH"];

impl Verb {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        match self {
            Self::Actors { path: None } => {
                let answer = client.get("/api/admin/actors").await?;
                let mut rows = Vec::new();
                collect_rows(&answer, 0, &mut rows);
                let text = grid(HEADINGS, &rows);
                Ok(Answer::new(answer, text))
            }
            Self::Actors { path: Some(path) } => {
                let answer = client.get(&format!("/api/admin/actors/{}", segment(&path))).await?;
                let text = card(&answer, FIELDS);
                Ok(Answer::new(answer, text))
            }
            Self::Restart { path } => act(client, &path, "restart").await,
            Self::Stop { path } => act(client, &path, "stop").await,
            Self::Start { path } => act(client, &path, "start").await,
            Self::Drain => {
                let answer = client.post("/api/admin/drain", json!({})).await?;
                Ok(Answer::new(answer, "draining: what runs is finished, nothing new is taken"))
            }
            Self::LogLevel { level } => {
                let answer = match level {
                    None => client.get("/api/admin/log-level").await?,
                    Some(level) => {
                        client.put("/api/admin/log-level", json!({ "level": level })).await?
                    }
                };
                let text = cell(&answer, "level");
                Ok(Answer::new(answer, text))
            }
        }
    }
}

const FIELDS: &[(&str, &str)] = &[
    ("path", "path"),
    ("kind", "kind"),
    ("state", "state"),
    ("strategy", "strategy"),
    ("restarts", "restarts"),
    ("mailbox", "mailboxDepth"),
    ("last beat ms", "lastBeatMs"),
    ("last crash at", "lastCrash.at"),
    ("crash kind", "lastCrash.kind"),
    ("reason", "lastCrash.reason"),
    ("location", "lastCrash.location"),
    ("crashes", "crashes"),
];

async fn act(client: &Client, path: &str, verb: &str) -> Result<Answer, ClientError> {
    let route = format!("/api/admin/actors/{}/{verb}", segment(path));
    let answer = client.post(&route, json!({})).await?;
    let text = format!("{path}: {}", cell(&answer, "state"));
    Ok(Answer::new(answer, text))
}

/// One row an actor, children indented under their supervisor.
fn collect_rows(node: &Value, depth: usize, rows: &mut Vec<Vec<String>>) {
    /// Deeper than any tree is; an answer that goes on is not followed.
    const DEPTH_MAX: usize = 32;
    let path = cell(node, "path");
    let name = path.rsplit('.').next().unwrap_or(&path);
    let crash = [cell(node, "lastCrash.kind"), cell(node, "lastCrash.reason")];
    rows.push(vec![
        format!("{}{name}", "  ".repeat(depth)),
        cell(node, "state"),
        cell(node, "restarts"),
        cell(node, "mailboxDepth"),
        if crash[0] == "-" { "-".to_owned() } else { crash.join(": ") },
    ]);
    let children = node.get("children").and_then(Value::as_array);
    if depth < DEPTH_MAX {
        for child in children.into_iter().flatten() {
            collect_rows(child, depth + 1, rows);
        }
    }
}

//! `carillon error`: errors and their recovery.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Connection;
use super::client::{Client, ClientError, segment, with_query};
use super::output::{Answer, cell, table};

#[derive(Debug, Args)]
pub(super) struct Error {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists errors, the newest first.
    #[command(after_help = "Example:\n  carillon error list --status unresolved --severity high")]
    List {
        /// Recovery status; several with commas.
        #[arg(long)]
        status: Option<String>,
        /// `low`, `medium`, `high` or `critical`.
        #[arg(long)]
        severity: Option<String>,
        /// Number of a schedule.
        #[arg(long)]
        schedule: Option<String>,
        /// How many, 1 to 500.
        #[arg(long)]
        limit: Option<u32>,
        /// How many to pass over.
        #[arg(long)]
        offset: Option<u64>,
    },
    /// Tries again now.
    #[command(after_help = "Example:\n  carillon error retry 12")]
    Retry {
        /// The error's number.
        id: String,
    },
    /// Marks it as mended; a waiting retry is withdrawn.
    #[command(after_help = "Example:\n  carillon error resolve 12 --notes 'disk was full'")]
    Resolve {
        /// The error's number.
        id: String,
        /// What was done.
        #[arg(long, default_value = "")]
        notes: String,
    },
    /// Marks it as of no interest; a waiting retry is withdrawn.
    #[command(after_help = "Example:\n  carillon error ignore 12")]
    Ignore {
        /// The error's number.
        id: String,
    },
    /// Hands it to people: no more retries, a dead letter.
    #[command(after_help = "Example:\n  carillon error escalate 12")]
    Escalate {
        /// The error's number.
        id: String,
    },
}

const COLUMNS: &[(&str, &str)] = &[
    ("ID", "id"),
    ("SEVERITY", "severity"),
    ("RECOVERY", "recoveryStatus"),
    ("TYPE", "errorType"),
    ("SCHEDULE", "scheduleId"),
    ("TRIES", "recoveryAttempts"),
    ("NEXT TRY", "nextRetryAt"),
    ("MESSAGE", "message"),
];

impl Verb {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        match self {
            Self::List { status, severity, schedule, limit, offset } => {
                let path = with_query(
                    "/api/v1/errors/errors",
                    &[
                        ("recoveryStatus", status),
                        ("severity", severity),
                        ("scheduleId", schedule),
                        ("limit", limit.map(|limit| limit.to_string())),
                        ("offset", offset.map(|offset| offset.to_string())),
                    ],
                );
                let answer = client.get(&path).await?;
                let text = table(&answer, COLUMNS, "no errors");
                Ok(Answer::new(answer, text))
            }
            Self::Retry { id } => act(client, &id, "retry", json!({})).await,
            Self::Resolve { id, notes } => {
                let mut body = Map::new();
                if !notes.is_empty() {
                    body.insert("resolutionNotes".to_owned(), json!(notes));
                }
                act(client, &id, "resolve", Value::Object(body)).await
            }
            Self::Ignore { id } => act(client, &id, "ignore", json!({})).await,
            Self::Escalate { id } => act(client, &id, "escalate", json!({})).await,
        }
    }
}

async fn act(client: &Client, id: &str, verb: &str, body: Value) -> Result<Answer, ClientError> {
    let path = format!("/api/v1/errors/errors/{}/{verb}", segment(id));
    let answer = client.post(&path, body).await?;
    let text = match verb {
        "retry" => format!("error {id}: tried again as execution {}", cell(&answer, "id")),
        _ => format!("error {id}: {}", cell(&answer, "recoveryStatus")),
    };
    Ok(Answer::new(answer, text))
}

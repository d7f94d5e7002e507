//! `carillon execution`: what ran, runs and will run.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Connection;
use super::client::{Client, ClientError, segment, with_query};
use super::output::{Answer, card, cell, table};
use super::tail::tail;
use super::task::{TaskArguments, put};
use super::values::parse_instant;

pub(super) const ROUTE: &str = "/api/v1/execution/executions";

#[derive(Debug, Args)]
pub(super) struct Execution {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists executions, the newest first.
    #[command(
        after_help = "Example:\n  carillon execution list --status failed,timeout --limit 20"
    )]
    List {
        /// Status; several with commas.
        #[arg(long)]
        status: Option<String>,
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
    /// Shows one.
    #[command(after_help = "Example:\n  carillon execution show 42")]
    Show {
        /// Number or executionId.
        id: String,
    },
    /// Follows its log to the end; the exit status is 0 if it completed, else 1.
    #[command(after_help = "Example:\n  carillon execution tail 42 && echo completed")]
    Tail {
        /// Number or executionId.
        id: String,
    },
    /// Cancels one: its whole process tree, its request, its thread.
    #[command(after_help = "Example:\n  carillon execution cancel 42")]
    Cancel {
        /// Number or executionId.
        id: String,
    },
    /// Runs a finished one again.
    #[command(after_help = "Example:\n  carillon execution retry 42 --follow")]
    Retry {
        /// Number or executionId.
        id: String,
        /// Follows it to its end.
        #[arg(long)]
        follow: bool,
    },
    /// Runs a task without a schedule.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<Run>),
}

const RUN_EXAMPLES: &str = "\
Examples:
  carillon execution run --follow -- 'pg_dump shop | gzip > /backup/shop.gz'
  carillon execution run --timeout 10s --http POST http://localhost:8080/jobs --payload '{\"n\":1}'
  carillon execution run --at 2026-12-24T18:00:00Z --function greet";

/// A task to run.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    task: TaskArguments,
    /// When, in RFC 3339; at once if left out.
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    at: Option<String>,
    /// Follows it to its end.
    #[arg(long)]
    follow: bool,
}

const COLUMNS: &[(&str, &str)] = &[
    ("ID", "id"),
    ("SCHEDULE", "scheduleName"),
    ("TASK", "taskType"),
    ("STATUS", "status"),
    ("TRIGGER", "trigger"),
    ("TRY", "attempt"),
    ("STARTED", "startedAt"),
    ("MS", "durationMs"),
    ("ERROR", "error.message"),
];

const FIELDS: &[(&str, &str)] = &[
    ("id", "id"),
    ("execution id", "executionId"),
    ("status", "status"),
    ("schedule", "scheduleName"),
    ("trigger", "trigger"),
    ("task", "taskType"),
    ("config", "taskConfig"),
    ("attempt", "attempt"),
    ("retry of", "retryOf"),
    ("scheduled", "scheduledAt"),
    ("started", "startedAt"),
    ("completed", "completedAt"),
    ("duration ms", "durationMs"),
    ("lateness ms", "latenessMs"),
    ("error kind", "error.kind"),
    ("error", "error.message"),
    ("result", "result"),
    ("node", "nodeId"),
];

impl Verb {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        match self {
            Self::List { status, schedule, limit, offset } => {
                let path = with_query(
                    ROUTE,
                    &[
                        ("status", status),
                        ("scheduleId", schedule),
                        ("limit", limit.map(|limit| limit.to_string())),
                        ("offset", offset.map(|offset| offset.to_string())),
                    ],
                );
                let answer = client.get(&path).await?;
                let text = table(&answer, COLUMNS, "no executions");
                Ok(Answer::new(answer, text))
            }
            Self::Show { id } => {
                let answer = client.get(&format!("{ROUTE}/{}", segment(&id))).await?;
                let text = card(&answer, FIELDS);
                Ok(Answer::new(answer, text))
            }
            Self::Tail { id } => tail(client, &id).await,
            Self::Cancel { id } => {
                let path = format!("{ROUTE}/{}/cancel", segment(&id));
                let answer = client.post(&path, json!({})).await?;
                let text = match cell(&answer, "status").as_str() {
                    "running" => format!("execution {id} is being stopped"),
                    status => format!("execution {id}: {status}"),
                };
                Ok(Answer::new(answer, text))
            }
            Self::Retry { id, follow } => {
                let path = format!("{ROUTE}/{}/retry", segment(&id));
                let answer = client.post(&path, json!({})).await?;
                started(client, answer, follow).await
            }
            Self::Run(run) => {
                let mut body: Map<String, Value> =
                    run.task.into_fields().map_err(ClientError::Misused)?;
                put(&mut body, "runAt", run.at.map(Value::from));
                let answer = client.post(ROUTE, Value::Object(body)).await?;
                started(client, answer, run.follow).await
            }
        }
    }
}

async fn started(client: &Client, answer: Value, follow: bool) -> Result<Answer, ClientError> {
    let id = cell(&answer, "id");
    if follow {
        return tail(client, &id).await;
    }
    let text = format!("execution {id}; follow it with: carillon execution tail {id}");
    Ok(Answer::new(answer, text))
}

//! `carillon schedule`: when and what.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Connection;
use super::carry::{CRONTAB_EXAMPLES, Crontab, TIMER_EXAMPLES, Timers};
use super::client::{Client, ClientError, segment, with_query};
use super::output::{Answer, card, cell, grid, items, table};
use super::task::{TaskArguments, put};
use super::values::{parse_instant, parse_span};

pub(super) const ROUTE: &str = "/api/v1/scheduler/schedules";

#[derive(Debug, Args)]
pub(super) struct Schedule {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists schedules.
    #[command(after_help = "Example:\n  carillon schedule list --query backup --enabled true")]
    List {
        /// Part of the name.
        #[arg(long)]
        query: Option<String>,
        /// `true`: those that fire; `false`: those that are paused.
        #[arg(long)]
        enabled: Option<bool>,
        /// A tag they have.
        #[arg(long)]
        tag: Option<String>,
        /// How many, 1 to 500.
        #[arg(long)]
        limit: Option<u32>,
        /// How many to pass over.
        #[arg(long)]
        offset: Option<u64>,
    },
    /// Adds a schedule.
    #[command(after_help = ADD_EXAMPLES)]
    Add(Box<Add>),
    /// Runs one now, whatever its plan.
    #[command(after_help = "Example:\n  carillon schedule trigger nightly-backup")]
    Trigger {
        /// Name or number.
        schedule: String,
        /// Even if it runs already.
        #[arg(long)]
        force: bool,
    },
    /// Stops it from firing.
    #[command(after_help = "Example:\n  carillon schedule pause nightly-backup")]
    Pause {
        /// Name or number.
        schedule: String,
    },
    /// Lets it fire again.
    #[command(after_help = "Example:\n  carillon schedule resume nightly-backup")]
    Resume {
        /// Name or number.
        schedule: String,
    },
    /// Removes it; its past executions stay.
    #[command(after_help = "Example:\n  carillon schedule delete nightly-backup")]
    Delete {
        /// Name or number.
        schedule: String,
    },
    /// Shows one.
    #[command(after_help = "Example:\n  carillon schedule show nightly-backup --json")]
    Show {
        /// Name or number.
        schedule: String,
    },
    /// Tells what became of its planned instants: why did it not run?
    #[command(after_help = LEDGER_EXAMPLES)]
    Ledger {
        /// Name or number.
        schedule: String,
        /// The first instant, in RFC 3339; seven days ago if left out.
        #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
        from: Option<String>,
        /// The last instant, in RFC 3339; now if left out.
        #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
        to: Option<String>,
        /// How many, 1 to 500.
        #[arg(long)]
        limit: Option<u32>,
        /// How many to pass over.
        #[arg(long)]
        offset: Option<u64>,
    },
    /// Adds the lines of a crontab, and tells what could not be carried over.
    #[command(after_help = CRONTAB_EXAMPLES)]
    ImportCrontab(Crontab),
    /// Adds timers of systemd with their services, and tells what could not be carried over.
    #[command(after_help = TIMER_EXAMPLES)]
    ImportTimers(Timers),
    /// Shows when a plan would fire; saves nothing.
    #[command(after_help = "Example:\n  carillon schedule preview --cron '0 2 * * 1-5' --count 3")]
    Preview {
        #[command(flatten)]
        cadence: Cadence,
        /// From when on, in RFC 3339; now if left out.
        #[arg(long, value_parser = parse_instant)]
        from: Option<String>,
        /// How many instants, 100 at most.
        #[arg(long, default_value_t = 5)]
        count: u32,
    },
}

const ADD_EXAMPLES: &str = "\
Examples:
  carillon schedule add tidy --cron '*/5 * * * *' -- 'find /tmp/cache -mtime +7 -delete'
  carillon schedule add report --cron '0 8 * * 1-5' --timezone Europe/Berlin -- /opt/report --mail
  carillon schedule add ping --every 30s --http GET http://localhost:8080/health
  carillon schedule add once --at 2026-12-24T18:00:00Z --function greet --payload '{\"n\":1}'";

const LEDGER_EXAMPLES: &str = "\
Examples:
  carillon schedule ledger nightly-backup
  carillon schedule ledger 7 --from 2026-11-20T00:00:00Z --to 2026-11-21T00:00:00Z --json";

/// A new schedule.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// Its name; no other schedule may have it.
    name: String,
    #[command(flatten)]
    cadence: Cadence,
    #[command(flatten)]
    task: TaskArguments,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// What happens when the run before still runs.
    #[arg(long, value_parser = ["skip", "queue", "cancel_running", "allow"])]
    overlap: Option<String>,
    /// What happens to missed instants.
    #[arg(long, value_parser = ["coalesce", "run_all", "skip"])]
    misfire: Option<String>,
    /// Added, but paused.
    #[arg(long)]
    paused: bool,
}

/// When to fire; one of the three.
#[derive(Debug, Default, Args)]
#[command(group = ArgGroup::new("when").required(true).args(["cron", "every", "at"]))]
pub(super) struct Cadence {
    /// A cron expression of five fields, six with leading seconds, or @daily and its kin.
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// An interval, such as 30s.
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    every: Option<u64>,
    /// An instant in RFC 3339.
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    at: Option<String>,
    /// IANA time zone of the cron expression.
    #[arg(long, value_name = "ZONE", conflicts_with_all = ["every", "at"])]
    timezone: Option<String>,
}

impl Cadence {
    fn into_fields(self) -> Map<String, Value> {
        let (kind, config) = if let Some(every) = self.every {
            ("interval", json!({ "intervalMs": every }))
        } else if let Some(at) = self.at {
            ("one_time", json!({ "runAt": at }))
        } else {
            let mut config = Map::new();
            put(&mut config, "cron", self.cron.map(Value::from));
            put(&mut config, "timezone", self.timezone.map(Value::from));
            ("cron", Value::Object(config))
        };
        let fields = [("scheduleType", json!(kind)), ("scheduleConfig", config)];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }
}

impl Add {
    /// The body of the request.
    pub(super) fn into_body(self) -> Result<Value, String> {
        let mut body = self.cadence.into_fields();
        body.insert("name".to_owned(), json!(self.name));
        body.extend(self.task.into_fields()?);
        put(&mut body, "description", self.description.map(Value::from));
        put(&mut body, "overlapPolicy", self.overlap.map(Value::from));
        put(&mut body, "misfirePolicy", self.misfire.map(Value::from));
        put(&mut body, "enabled", self.paused.then_some(Value::Bool(false)));
        Ok(Value::Object(body))
    }
}

impl Verb {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        match self {
            Self::List { query, enabled, tag, limit, offset } => {
                let path = with_query(
                    ROUTE,
                    &[
                        ("q", query),
                        ("enabled", enabled.map(|enabled| enabled.to_string())),
                        ("tag", tag),
                        ("limit", limit.map(|limit| limit.to_string())),
                        ("offset", offset.map(|offset| offset.to_string())),
                    ],
                );
                let answer = client.get(&path).await?;
                let text = list(&answer);
                Ok(Answer::new(answer, text))
            }
            Self::Add(add) => {
                let body = add.into_body().map_err(ClientError::Misused)?;
                let answer = client.post(ROUTE, body).await?;
                let next = cell(&answer, "nextRunAt");
                let text = format!(
                    "schedule {} ({}) is added; next run {next}",
                    cell(&answer, "name"),
                    cell(&answer, "id")
                );
                Ok(Answer::new(answer, text))
            }
            Self::Trigger { schedule, force } => {
                let id = find(client, &schedule).await?;
                let body = if force { json!({ "force": true }) } else { json!({}) };
                let answer = client.post(&format!("{ROUTE}/{id}/trigger"), body).await?;
                let text = format!("{schedule} runs as execution {}", cell(&answer, "id"));
                Ok(Answer::new(answer, text))
            }
            Self::Ledger { schedule, from, to, limit, offset } => {
                let page = [
                    ("from", from),
                    ("to", to),
                    ("limit", limit.map(|limit| limit.to_string())),
                    ("offset", offset.map(|offset| offset.to_string())),
                ];
                show_ledger(client, &schedule, &page).await
            }
            Self::ImportCrontab(crontab) => crontab.run(client).await,
            Self::ImportTimers(timers) => timers.run(client).await,
            Self::Pause { schedule } => toggle(client, &schedule, "pause").await,
            Self::Resume { schedule } => toggle(client, &schedule, "resume").await,
            Self::Delete { schedule } => {
                let id = find(client, &schedule).await?;
                let answer = client.delete(&format!("{ROUTE}/{id}")).await?;
                Ok(Answer::new(answer, format!("schedule {schedule} is deleted")))
            }
            Self::Show { schedule } => {
                let id = find(client, &schedule).await?;
                let answer = client.get(&format!("{ROUTE}/{id}")).await?;
                let text = card(&answer, FIELDS);
                Ok(Answer::new(answer, text))
            }
            Self::Preview { cadence, from, count } => {
                let mut body = cadence.into_fields();
                body.insert("count".to_owned(), json!(count));
                put(&mut body, "from", from.map(Value::from));
                let answer = client.post(&format!("{ROUTE}/preview"), Value::Object(body)).await?;
                let text = preview(&answer);
                Ok(Answer::new(answer, text))
            }
        }
    }
}

const FIELDS: &[(&str, &str)] = &[
    ("id", "id"),
    ("name", "name"),
    ("description", "description"),
    ("enabled", "enabled"),
    ("type", "scheduleType"),
    ("plan", "scheduleConfig"),
    ("task", "taskType"),
    ("config", "taskConfig"),
    ("priority", "priority"),
    ("overlap", "overlapPolicy"),
    ("misfire", "misfirePolicy"),
    ("next run", "nextRunAt"),
    ("last run", "lastRunAt"),
    ("tags", "tags"),
    ("owner", "owner"),
    ("version", "version"),
];

const OUTCOMES: &[(&str, &str)] = &[
    ("FROM", "from"),
    ("TO", "to"),
    ("INSTANTS", "count"),
    ("OUTCOME", "outcome"),
    ("EXECUTION", "id"),
    ("WHY", "explanation"),
];

async fn show_ledger(
    client: &Client,
    schedule: &str,
    page: &[(&str, Option<String>)],
) -> Result<Answer, ClientError> {
    let id = find(client, schedule).await?;
    let answer = client.get(&with_query(&format!("{ROUTE}/{id}/ledger"), page)).await?;
    let text = ledger(&answer);
    Ok(Answer::new(answer, text))
}

/// The outcomes, and what is not decided yet.
fn ledger(answer: &Value) -> String {
    let mut text = table(answer, OUTCOMES, "no planned instants in this span");
    let open = cell(answer, "open.explanation");
    if open != "-" {
        let from = cell(answer, "open.from");
        text.push_str(&format!("\nSince {from}: {open}"));
    }
    text
}

async fn toggle(client: &Client, schedule: &str, verb: &str) -> Result<Answer, ClientError> {
    let id = find(client, schedule).await?;
    let answer = client.post(&format!("{ROUTE}/{id}/{verb}"), json!({})).await?;
    let text = match verb {
        "pause" => format!("{schedule} is paused"),
        _ => format!("{schedule} fires again; next run {}", cell(&answer, "nextRunAt")),
    };
    Ok(Answer::new(answer, text))
}

/// The number of a schedule given by number or by exact name.
async fn find(client: &Client, schedule: &str) -> Result<String, ClientError> {
    if schedule.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(schedule.to_owned());
    }
    let path =
        with_query(ROUTE, &[("q", Some(schedule.to_owned())), ("limit", Some("500".to_owned()))]);
    let answer = client.get(&path).await?;
    let has_name = |item: &&Value| item.get("name").and_then(Value::as_str) == Some(schedule);
    let found = items(&answer).iter().find(has_name).map(|item| segment(&cell(item, "id")));
    found.ok_or_else(|| {
        let near: Vec<String> =
            items(&answer).iter().take(3).map(|item| cell(item, "name")).collect();
        let hint = if near.is_empty() {
            "`carillon schedule list` shows them all".to_owned()
        } else {
            format!("did you mean {}?", near.join(", "))
        };
        ClientError::Refused(format!("no schedule is named '{schedule}'; {hint}"))
    })
}

const COLUMNS: &[(&str, &str)] = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("WHEN", "when"),
    ("TASK", "taskType"),
    ("ENABLED", "enabled"),
    ("NEXT RUN", "nextRunAt"),
    ("LAST RUN", "lastRunAt"),
];

fn list(answer: &Value) -> String {
    let mut shown = answer.clone();
    if let Some(items) = shown.get_mut("items").and_then(Value::as_array_mut) {
        for item in items {
            let when = describe_plan(item);
            if let Some(fields) = item.as_object_mut() {
                fields.insert("when".to_owned(), Value::String(when));
            }
        }
    }
    table(&shown, COLUMNS, "no schedules; add one with: carillon schedule add --help")
}

/// A plan in a few characters.
fn describe_plan(schedule: &Value) -> String {
    let field = |name: &str| cell(schedule, &format!("scheduleConfig.{name}"));
    match cell(schedule, "scheduleType").as_str() {
        "cron" if field("timezone") == "-" => field("cron"),
        "cron" => format!("{} {}", field("cron"), field("timezone")),
        "interval" => format!("every {} ms", field("intervalMs")),
        "one_time" => format!("at {}", field("runAt")),
        other => other.to_owned(),
    }
}

fn preview(answer: &Value) -> String {
    let runs = answer.get("nextRuns").and_then(Value::as_array);
    let rows: Vec<Vec<String>> =
        runs.into_iter().flatten().map(|run| vec![cell(&json!({ "at": run }), "at")]).collect();
    match cell(answer, "description").as_str() {
        "-" => grid(&["NEXT RUNS"], &rows),
        description => format!("{description}\n{}", grid(&["NEXT RUNS"], &rows)),
    }
}

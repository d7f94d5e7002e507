//! `carillon schedule import-crontab` and `import-timers`: what other schedulers know, made
//! schedules, with a report of what could not be carried over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::FAILED;
use super::client::{Client, ClientError};
use super::output::{Answer, cell};
use super::schedule::ROUTE;
use crate::domain::carry::{CarryContext, Report, TimerFiles, read_crontab, read_timer, set};
use crate::telemetry::log::escape_line;

pub(super) const CRONTAB_EXAMPLES: &str = "\
Examples:
  crontab -l | carillon schedule import-crontab - --dry-run
  carillon schedule import-crontab /etc/crontab --system --prefix host7-";

pub(super) const TIMER_EXAMPLES: &str = "\
Examples:
  carillon schedule import-timers /etc/systemd/system --dry-run
  carillon schedule import-timers ./backup.timer --paused";

/// How to carry over.
#[derive(Debug, Args)]
pub(super) struct How {
    /// IANA zone of lines that name none; this machine's if left out.
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// What the names of the schedules begin with.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Added, but paused: nothing runs twice while the old scheduler still does.
    #[arg(long)]
    paused: bool,
    /// Shows what would be added, and adds nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Crontab {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// Its lines name a user, as those of /etc/crontab and /etc/cron.d.
    #[arg(long)]
    system: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(super) struct Timers {
    /// A `.timer` file, or a directory of them; each service lies beside its timer.
    path: PathBuf,
    #[command(flatten)]
    how: How,
}

impl Crontab {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        let text = match self.file.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(&self.file),
        };
        let text = text.map_err(|error| misused(&self.file, &error))?;
        let report = read_crontab(&text, &self.how.context(self.system));
        self.how.make(client, report).await
    }
}

impl Timers {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        let context = self.how.context(false);
        let mut report = Report::default();
        for timer in timers(&self.path)? {
            let text = std::fs::read_to_string(&timer).map_err(|error| misused(&timer, &error))?;
            let name = timer.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            let service = service_of(&timer, &text);
            let service = std::fs::read_to_string(&service).unwrap_or_default();
            let files = TimerFiles { name: &name, timer: &text, service: &service };
            report.append(read_timer(files, &context));
        }
        self.how.make(client, report).await
    }
}

impl How {
    fn context(&self, has_users: bool) -> CarryContext {
        CarryContext {
            zone: self.timezone.clone().unwrap_or_else(machine_zone),
            has_users,
            prefix: self.prefix.clone(),
        }
    }

    /// Adds the schedules and tells what became of each line.
    async fn make(&self, client: &Client, report: Report) -> Result<Answer, ClientError> {
        let mut lines = Vec::new();
        let (mut made, mut left_out) = (Vec::new(), Vec::new());
        for mut one in report.carried {
            if self.paused {
                set(&mut one.body, "enabled", json!(false));
            }
            let name = cell(&one.body, "name");
            let answer = match self.dry_run {
                true => Ok(one.body.clone()),
                false => client.post(ROUTE, one.body.clone()).await,
            };
            match answer {
                Ok(answer) => {
                    let plan = describe(&one.body);
                    lines.push(format!("{}: {name} {plan}", one.place));
                    lines.extend(
                        one.notes.iter().map(|note| format!("  note: {}", escape_line(note))),
                    );
                    made.push(
                        json!({ "place": one.place, "schedule": answer, "notes": one.notes }),
                    );
                }
                Err(error @ ClientError::Unreachable { .. }) => return Err(error),
                Err(error) => {
                    let reason = error.to_string();
                    lines.push(format!("{}: {name} refused: {reason}", one.place));
                    left_out.push(json!({ "place": one.place, "text": name, "reason": reason }));
                }
            }
        }
        for one in report.left_out {
            let (text, reason) = (escape_line(&one.text), escape_line(&one.reason));
            lines.push(format!("{}: left out: {text}\n  why: {reason}", one.place));
            left_out.push(json!({ "place": one.place, "text": one.text, "reason": one.reason }));
        }
        let verb = if self.dry_run { "would be added" } else { "added" };
        lines.push(format!("{} {verb}, {} left out", made.len(), left_out.len()));
        let status = if left_out.is_empty() { 0 } else { FAILED };
        let answer = json!({ "added": made, "leftOut": left_out, "dryRun": self.dry_run });
        Ok(Answer::new(answer, lines.join("\n")).with_status(status))
    }
}

fn describe(body: &Value) -> String {
    let expression = cell(body, "scheduleConfig.cron");
    match expression.as_str() {
        "-" => format!("every {} ms", cell(body, "scheduleConfig.intervalMs")),
        _ => format!("({expression} {})", cell(body, "scheduleConfig.timezone")),
    }
}

fn misused(path: &Path, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Misused(format!("{}: {error}", path.display()))
}

/// The timers of a path, in order.
fn timers(path: &Path) -> Result<BTreeSet<PathBuf>, ClientError> {
    if !path.is_dir() {
        return Ok(BTreeSet::from([path.to_owned()]));
    }
    let entries = std::fs::read_dir(path).map_err(|error| misused(path, &error))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let timers: BTreeSet<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "timer")).collect();
    match timers.is_empty() {
        true => Err(misused(path, &"there is no .timer file here")),
        false => Ok(timers),
    }
}

/// The service that a timer starts: the one it names, else the one of its name.
fn service_of(timer: &Path, text: &str) -> PathBuf {
    let named = text.lines().rev().find_map(|line| line.trim().strip_prefix("Unit="));
    match named.map(str::trim).filter(|name| !name.is_empty() && !name.contains('/')) {
        Some(name) => timer.with_file_name(name),
        None => timer.with_extension("service"),
    }
}

/// The zone of this machine; UTC where it says none.
fn machine_zone() -> String {
    let link = std::fs::read_link("/etc/localtime").ok();
    let linked =
        link.as_deref().and_then(Path::to_str).and_then(|path| path.split_once("zoneinfo/"));
    let said = std::fs::read_to_string("/etc/timezone").ok();
    let name = linked.map(|(_, name)| name.to_owned()).or(said).unwrap_or_default();
    let name = name.trim().trim_start_matches("Etc/");
    if name.parse::<chrono_tz::Tz>().is_ok() { name.to_owned() } else { "UTC".to_owned() }
}

//! What the scenarios load the system with, and how they look at what came of it.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Plan;
use crate::app::Embedded;
use crate::clock::{Clock, Timestamp};
use crate::config::Settings;
use crate::domain::execution::{NewExecution, Priority, Severity, TaskSnapshot, Trigger};
use crate::domain::options::ScheduleOptions;
use crate::domain::schedule::{MisfirePolicy, OverlapPolicy, ScheduleDefinition, ScheduleType};
use crate::tasks::function::{FunctionRegistry, FunctionSpec};

/// The function that does nothing.
pub(super) const NO_OP: &str = "noop";
/// The function that notes when it ran.
const MARK: &str = "bench:mark";

/// An ad-hoc execution.
pub(super) fn execution(task_type: &str, task_config: Value, now: Timestamp) -> NewExecution {
    let task = TaskSnapshot::new(task_type, task_config);
    NewExecution::first(Trigger::Api, task, Priority::Medium, now)
}

/// An ad-hoc execution of the function that does nothing.
pub(super) fn no_op(now: Timestamp) -> NewExecution {
    execution("function", json!({ "name": NO_OP }), now)
}

/// An ad-hoc execution of the function that notes when it ran, and as what.
pub(super) fn mark(number: usize, now: Timestamp) -> NewExecution {
    execution("function", mark_config(number), now)
}

fn mark_config(number: usize) -> Value {
    json!({ "name": MARK, "payload": { "number": number } })
}

/// A schedule that notes when it ran, on the grid of `interval_ms` through `anchor`.
pub(super) fn marking_schedule(
    number: usize,
    interval_ms: i64,
    anchor: Timestamp,
) -> ScheduleDefinition {
    ScheduleDefinition {
        name: format!("bench-{number}-{}", Uuid::now_v7()),
        description: None,
        task_type: "function".to_owned(),
        task_config: mark_config(number),
        schedule_type: ScheduleType::Interval,
        schedule_config: json!({ "intervalMs": interval_ms, "anchor": anchor.to_rfc3339() }),
        enabled: true,
        priority: Priority::Medium,
        timeout_ms: None,
        max_concurrent: None,
        overlap_policy: OverlapPolicy::Allow,
        misfire_policy: MisfirePolicy::RunAll,
        misfire_grace_ms: 60_000,
        catchup_window_ms: 3_600_000,
        catchup_max: 100,
        catchup_per_minute: None,
        retry_policy: Value::Null,
        severity: Severity::High,
        cost_per_hour: None,
        start_at: None,
        end_at: None,
        max_executions: None,
        tags: Vec::new(),
        owner: None,
        options: ScheduleOptions::default(),
    }
}

/// When the marking function ran: what and the instant.
#[derive(Clone, Default)]
pub(super) struct Marks(Arc<Mutex<Vec<(usize, Timestamp)>>>);

#[derive(Deserialize)]
struct MarkPayload {
    number: usize,
}

impl Marks {
    /// A system whose functions know `bench:mark`, and what it notes.
    pub(super) async fn system(settings: Settings) -> Result<(Embedded, Self), String> {
        let marks = Self::default();
        let mut functions = FunctionRegistry::with_builtin();
        let (noted, clock) = (marks.clone(), Clock::system());
        let spec = FunctionSpec::new(MARK, "Notes when it ran.");
        functions.register_inline(spec, move |payload: MarkPayload| {
            noted.0.lock().push((payload.number, clock.now()));
            Ok(Value::Null)
        });
        Ok((Embedded::start_with(settings, functions).await?, marks))
    }

    /// Takes what was noted.
    pub(super) fn take(&self) -> Vec<(usize, Timestamp)> {
        std::mem::take(&mut *self.0.lock())
    }

    /// How much was noted.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// The settings of a scenario: the plan's, with a data directory and slots of its own.
pub(super) fn settings(plan: &Plan, scenario: &str, slots: usize) -> Settings {
    let mut settings = plan.settings.clone();
    settings.executor.slots = slots;
    settings.server.data_dir = plan.scratch.join(scenario);
    settings
}

/// Makes schedules, many at the same time so that their commits are shared.
pub(super) async fn make_schedules(
    embedded: &Embedded,
    definitions: impl Iterator<Item = (ScheduleDefinition, Timestamp)>,
) -> Result<(), String> {
    use futures_util::{StreamExt, TryStreamExt, stream};
    /// Requests on their way at once.
    const AT_ONCE: usize = 64;
    let store = &embedded.system().parts().store;
    stream::iter(definitions)
        .map(async |(definition, first)| {
            store.schedule_create(definition, Some(first), None).await.map(drop)
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(async |()| Ok(()))
        .await
        .map_err(|error| error.to_string())
}

/// The value below which `share` (0 to 1) of the sorted values lie; 0 when there are none.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or(0.0)
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(super) fn float(count: usize) -> f64 {
    count as f64
}

/// The processor time that a process has used, in seconds.
pub(super) fn processor_seconds(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which ends with the last bracket: the 12th and 13th field are user and
    // system time in hundredths of a second.
    let fields = text.rsplit(')').next().unwrap_or_default();
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// The resident memory of a process in MiB.
pub(super) fn resident_mib(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|text| text.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

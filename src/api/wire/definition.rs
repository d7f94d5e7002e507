//! A schedule's definition: read from a request, merged with a partial one, written back.
//!
//! Whatever is not built yet is refused by name; nothing is accepted and ignored. A partial body
//! is laid over the stored definition and the whole is read again, so an edit can never store what
//! a creation would refuse.

use serde_json::{Map, Value, json};

use super::body::Fields;
use super::options;
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::cadence::{Cadence, ParseContext};
use crate::domain::event::instant_text;
use crate::domain::execution::{Priority, Severity};
use crate::domain::fault::Fault;
use crate::domain::options::CadenceOptions;
use crate::domain::retry::RetryPolicy;
use crate::domain::schedule::{
    MisfirePolicy, OverlapPolicy, QUEUE_LIMIT_DEFAULT, ScheduleDefinition, ScheduleType,
};
use crate::domain::task::{Task, TaskLimits};
use crate::tasks;

const KNOWN: &[&str] = &[
    "name",
    "description",
    "taskType",
    "taskConfig",
    "runAs",
    "scheduleType",
    "scheduleConfig",
    "enabled",
    "priority",
    "timeoutMs",
    "maxConcurrent",
    "overlapPolicy",
    "misfirePolicy",
    "misfireGraceMs",
    "catchupWindowMs",
    "catchupMax",
    "catchupPerMinute",
    "retryPolicy",
    "severity",
    "costPerHour",
    "startAt",
    "endAt",
    "maxExecutions",
    "tags",
    "owner",
];

/// What an answer has beside the definition; only the server writes it.
const READ_ONLY: &[&str] = &[
    "id",
    "nextRunAt",
    "lastRunAt",
    "createdAt",
    "updatedAt",
    "version",
    "stats",
    "pausedAt",
    "pausedUntil",
    "pauseReason",
];

const SHELL: &str = "shell_command";
pub(crate) const NAME_MAX: usize = 200;
const DESCRIPTION_MAX: usize = 10_000;
const WORD_MAX: usize = 100;
pub(crate) const TIMEOUT_MAX_MS: i64 = 7 * DAY_MS;
const DAY_MS: i64 = 86_400_000;
const WINDOW_MAX_MS: i64 = 31 * DAY_MS;
const WINDOW_DEFAULT_MS: i64 = 3_600_000;
const CATCHUP_MAX: i64 = 10_000;
const CATCHUP_RATE_MAX: i64 = 60_000;
const CATCHUP_DEFAULT: i64 = 100;
const CONCURRENT_MAX: i64 = 10_000;
const EXECUTIONS_MAX: i64 = 1_000_000_000_000;
const COST_MAX: f64 = 1e9;

/// What a definition leaves to its surroundings.
pub(crate) struct Surroundings<'a> {
    /// The anchor of an interval that names none.
    pub(crate) anchor: Timestamp,
    /// The zone of a cron expression that names none.
    pub(crate) default_zone: &'a str,
    /// The misfire grace of a schedule that names none, milliseconds.
    pub(crate) misfire_grace_ms: i64,
    /// What its task may use at most.
    pub(crate) task_maxima: TaskLimits,
}

/// A definition that was read, and what its configurations mean.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// To be stored.
    pub(crate) definition: ScheduleDefinition,
    /// When it is due.
    pub(crate) cadence: Cadence,
}

/// Reads a whole definition.
///
/// # Errors
/// 422 with every fault.
pub(crate) fn parse(value: &Value, around: &Surroundings<'_>) -> Result<Parsed, ApiError> {
    let known: Vec<&str> = KNOWN.iter().copied().chain(options::schedule_fields()).collect();
    let mut fields = Fields::of(value, &known, &[])?;
    let mut options = options::read_schedule(&mut fields);
    let name = fields.needed_text("name", NAME_MAX);
    let task = read_task(&mut fields, &around.task_maxima);
    let cadence = read_cadence(&mut fields, around);
    let overlap_policy = fields.word("overlapPolicy").unwrap_or(OverlapPolicy::Skip);
    put_queue_limit(&mut fields, overlap_policy, &mut options.cadence);
    let bounds = (fields.instant("startAt"), fields.instant("endAt"));
    if let (Some(start), Some(end)) = bounds
        && start > end
    {
        fields.fault("endAt", "out_of_range", "`endAt` lies before `startAt`");
    }
    let concurrent = fields.integer("maxConcurrent", 1..=CONCURRENT_MAX).map(small);
    let max_concurrent = match overlap_policy {
        OverlapPolicy::Skip | OverlapPolicy::Queue | OverlapPolicy::CancelRunning => {
            Some(concurrent.unwrap_or(1))
        }
        OverlapPolicy::Allow => concurrent,
    };
    let grace = fields.integer("misfireGraceMs", 0..=DAY_MS).unwrap_or(around.misfire_grace_ms);
    let window = fields.integer("catchupWindowMs", 0..=WINDOW_MAX_MS);
    let most = fields.integer("catchupMax", 1..=CATCHUP_MAX);
    let rate = fields.integer("catchupPerMinute", 1..=CATCHUP_RATE_MAX);
    let rest = Rest {
        description: fields.text("description", DESCRIPTION_MAX),
        enabled: fields.flag("enabled").unwrap_or(true),
        priority: fields.word("priority").unwrap_or(Priority::Medium),
        timeout_ms: fields.integer("timeoutMs", 1..=TIMEOUT_MAX_MS),
        misfire_policy: fields.word("misfirePolicy").unwrap_or(MisfirePolicy::Coalesce),
        retry_policy: read_retry_policy(&mut fields),
        severity: fields.word("severity").unwrap_or(Severity::High),
        cost_per_hour: fields.number("costPerHour", 0.0..=COST_MAX),
        max_executions: fields.integer("maxExecutions", 1..=EXECUTIONS_MAX),
        tags: fields.tags("tags"),
        owner: fields.text("owner", NAME_MAX),
    };
    let parsed = name.zip(task).zip(cadence).map(|((name, task), when)| Parsed {
        cadence: when.cadence,
        definition: ScheduleDefinition {
            name,
            description: rest.description,
            task_type: task.0,
            task_config: task.1,
            schedule_type: when.kind,
            schedule_config: when.config,
            enabled: rest.enabled,
            priority: rest.priority,
            timeout_ms: rest.timeout_ms,
            max_concurrent,
            overlap_policy,
            misfire_policy: rest.misfire_policy,
            misfire_grace_ms: grace,
            catchup_window_ms: window.unwrap_or(WINDOW_DEFAULT_MS),
            catchup_max: small(most.unwrap_or(CATCHUP_DEFAULT)),
            catchup_per_minute: rate.map(small),
            retry_policy: rest.retry_policy,
            severity: rest.severity,
            cost_per_hour: rest.cost_per_hour,
            start_at: bounds.0,
            end_at: bounds.1,
            max_executions: rest.max_executions,
            tags: rest.tags,
            owner: rest.owner,
            options,
        },
    });
    fields.finish_with(parsed)
}

struct Rest {
    description: Option<String>,
    enabled: bool,
    priority: Priority,
    timeout_ms: Option<i64>,
    misfire_policy: MisfirePolicy,
    retry_policy: Value,
    severity: Severity,
    cost_per_hour: Option<f64>,
    max_executions: Option<i64>,
    tags: Vec<String>,
    owner: Option<String>,
}

struct When {
    kind: ScheduleType,
    config: Value,
    cadence: Cadence,
}

/// A number whose range was checked and fits.
fn small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// `taskType`, `taskConfig` and `runAs`, checked together. The user is kept in the configuration,
/// so that it goes wherever the task goes.
pub(crate) fn read_task(fields: &mut Fields<'_>, maxima: &TaskLimits) -> Option<(String, Value)> {
    let kind = fields.needed_text("taskType", WORD_MAX);
    let config = fields.needed("taskConfig").cloned();
    let run_as = fields.value("runAs").cloned();
    let (kind, mut config) = kind.zip(config)?;
    if let Some(run_as) = run_as {
        put_run_as(fields, &kind, &mut config, run_as);
    }
    check_task(fields, &kind, &config, maxima);
    Some((kind, config))
}

/// Files what is wrong with a task, here or anywhere: also what this server could not give it.
pub(super) fn check_task(fields: &mut Fields<'_>, kind: &str, config: &Value, maxima: &TaskLimits) {
    let Some(Task::Shell(task)) = fields.take(Task::parse(kind, config)) else { return };
    if task.run_as.is_some() && !tasks::may_run_as() {
        let message = "this server does not run as root, so it cannot become another user; leave \
                       `runAs` out, or run the server as root";
        fields.fault("runAs", "invalid_value", message);
    }
    for fault in task.limits.above(maxima) {
        fields.file(fault);
    }
}

fn put_run_as(fields: &mut Fields<'_>, kind: &str, config: &mut Value, run_as: Value) {
    let Some(config) = config.as_object_mut() else { return };
    if kind != SHELL {
        let message = "`runAs` is for tasks of type `shell_command`; leave it out";
        fields.fault("runAs", "invalid_value", message);
    } else if config.get("runAs").is_some_and(|inner| !inner.is_null() && *inner != run_as) {
        let message = "`runAs` and `taskConfig.runAs` differ; give one of them";
        fields.fault("runAs", "invalid_value", message);
    } else {
        config.insert("runAs".to_owned(), run_as);
    }
}

/// Another configuration for one run, as the user of the one that it replaces unless it names one
/// itself: a run must not become root's by leaving a word out.
pub(crate) fn keep_run_as(stored: &Value, mut config: Value) -> Value {
    if let (Some(run_as), Some(object)) = (stored.get("runAs"), config.as_object_mut()) {
        object.entry("runAs").or_insert_with(|| run_as.clone());
    }
    config
}

/// The retry policy as given, checked; null for the default.
pub(crate) fn read_retry_policy(fields: &mut Fields<'_>) -> Value {
    let Some(value) = fields.value("retryPolicy") else { return Value::Null };
    fields.take(RetryPolicy::parse(value).map(|_| ()));
    value.clone()
}

fn read_cadence(fields: &mut Fields<'_>, around: &Surroundings<'_>) -> Option<When> {
    let kind = fields.needed_text("scheduleType", WORD_MAX);
    let config = fields.needed("scheduleConfig");
    let (kind, config) = kind.zip(config)?;
    let name = fields.value("name").and_then(Value::as_str);
    let config = Cadence::settled_config(&kind, config, around.anchor, name);
    let context =
        ParseContext { created_at: around.anchor, default_zone: around.default_zone.to_owned() };
    let cadence = fields.take(Cadence::parse(&kind, &config, &context))?;
    Some(When { kind: ScheduleType::parse(&kind)?, config, cadence })
}

/// How many may wait is a matter of `queue` alone.
fn put_queue_limit(fields: &mut Fields<'_>, policy: OverlapPolicy, options: &mut CadenceOptions) {
    if policy == OverlapPolicy::Queue {
        options.queue_limit = options.queue_limit.or(Some(QUEUE_LIMIT_DEFAULT));
    } else if options.queue_limit.is_some() {
        let message = "`queueLimit` goes with the `overlapPolicy` queue; leave it out";
        fields.fault("queueLimit", "invalid_value", message);
    }
}

/// Lays a partial body over a stored definition; null clears a field.
///
/// # Errors
/// 422 when `patch` is not an object or names what only the server writes.
pub(crate) fn merge(stored: &ScheduleDefinition, patch: &Value) -> Result<Value, ApiError> {
    let Value::Object(patch) = patch else {
        return Err(ApiError::invalid_field("", "invalid_type", "send a JSON object"));
    };
    let read_only: Vec<Fault> = READ_ONLY
        .iter()
        .filter(|name| patch.contains_key(**name))
        .map(|name| {
            Fault::new(*name, "read_only", format!("`{name}` is the server's; leave it out"))
        })
        .collect();
    if !read_only.is_empty() {
        return Err(ApiError::invalid(read_only));
    }
    let mut whole = body_of(stored);
    let is_new_policy = patch.get("overlapPolicy").and_then(Value::as_str)
        == Some(OverlapPolicy::Allow.as_str())
        && stored.overlap_policy != OverlapPolicy::Allow;
    if is_new_policy {
        // The limit that was filled in for another policy is not one that anybody asked for.
        whole.insert("maxConcurrent".to_owned(), Value::Null);
    }
    let old_anchor = stored.schedule_config.get("anchor").cloned();
    for (name, value) in patch {
        whole.insert(name.clone(), value.clone());
    }
    let is_queue =
        whole.get("overlapPolicy").and_then(Value::as_str) == Some(OverlapPolicy::Queue.as_str());
    if !is_queue && !patch.contains_key("queueLimit") {
        whole.insert("queueLimit".to_owned(), Value::Null);
    }
    keep_anchor(&mut whole, old_anchor);
    keep_key(&mut whole, stored.schedule_config.get("hashKey"));
    Ok(Value::Object(whole))
}

/// A changed interval stays on the schedule's own grid unless the request names another anchor.
fn keep_anchor(whole: &mut Map<String, Value>, old: Option<Value>) {
    let is_interval =
        whole.get("scheduleType").and_then(Value::as_str) == Some(ScheduleType::Interval.as_str());
    let config = whole.get_mut("scheduleConfig").and_then(Value::as_object_mut);
    if let (true, Some(config), Some(old)) = (is_interval, config, old)
        && config.get("anchor").is_none_or(Value::is_null)
    {
        config.insert("anchor".to_owned(), old);
    }
}

/// A changed configuration keeps what picked the places of `H` and `spread`, unless the request
/// names another key: a new name does not move it either.
fn keep_key(whole: &mut Map<String, Value>, old: Option<&Value>) {
    let config = whole.get_mut("scheduleConfig");
    if let (Some(config), Some(old)) = (config, old)
        && Cadence::needs_key(config)
        && let Some(object) = config.as_object_mut()
        && object.get("hashKey").is_none_or(Value::is_null)
    {
        object.insert("hashKey".to_owned(), old.clone());
    }
}

/// The definition as a request would give it, every field there.
pub(crate) fn body_of(definition: &ScheduleDefinition) -> Map<String, Value> {
    let instant = |at: Option<Timestamp>| at.map(instant_text);
    let mut task_config = definition.task_config.clone();
    let run_as = task_config.as_object_mut().and_then(|config| config.remove("runAs"));
    let body = json!({
        "name": definition.name,
        "description": definition.description,
        "taskType": definition.task_type,
        "taskConfig": task_config,
        "runAs": run_as,
        "scheduleType": definition.schedule_type,
        "scheduleConfig": definition.schedule_config,
        "enabled": definition.enabled,
        "priority": definition.priority,
        "timeoutMs": definition.timeout_ms,
        "maxConcurrent": definition.max_concurrent,
        "overlapPolicy": definition.overlap_policy,
        "misfirePolicy": definition.misfire_policy,
        "misfireGraceMs": definition.misfire_grace_ms,
        "catchupWindowMs": definition.catchup_window_ms,
        "catchupMax": definition.catchup_max,
        "catchupPerMinute": definition.catchup_per_minute,
        "retryPolicy": definition.retry_policy,
        "severity": definition.severity,
        "costPerHour": definition.cost_per_hour,
        "startAt": instant(definition.start_at),
        "endAt": instant(definition.end_at),
        "maxExecutions": definition.max_executions,
        "tags": definition.tags,
        "owner": definition.owner,
    });
    let mut body = match body {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    options::write_schedule(&definition.options, &mut body);
    body
}

/// Whether `whole`, an edit of `old`, leaves what runs, and as whom, as it was.
pub(crate) fn keeps_task(old: &ScheduleDefinition, whole: &Value) -> bool {
    let before = body_of(old);
    let of = |name: &str| whole.get(name).unwrap_or(&Value::Null);
    ["taskType", "taskConfig", "runAs"]
        .iter()
        .all(|name| before.get(*name).unwrap_or(&Value::Null) == of(name))
}

/// Whether an edit changes when the schedule is due.
pub(crate) fn changes_cadence(old: &ScheduleDefinition, new: &ScheduleDefinition) -> bool {
    old.schedule_type != new.schedule_type
        || old.schedule_config != new.schedule_config
        || old.start_at.map(instant_text) != new.start_at.map(instant_text)
        || old.end_at.map(instant_text) != new.end_at.map(instant_text)
        || !old.options.cadence.plans_as(&new.options.cadence)
}

//! Requests about executions: an ad-hoc run, and what may be overridden for one run.

use serde_json::Value;

use super::body::Fields;
use super::definition::{
    NAME_MAX, TIMEOUT_MAX_MS, check_task, keep_run_as, read_retry_policy, read_task,
};
use super::options;
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::execution::{Priority, Severity, TaskSnapshot};
use crate::domain::task::TaskLimits;

/// A run without a schedule.
#[derive(Debug)]
pub(crate) struct AdHoc {
    /// What to run.
    pub(crate) task: TaskSnapshot,
    /// How urgent.
    pub(crate) priority: Priority,
    /// When, if not at once.
    pub(crate) run_at: Option<Timestamp>,
    /// At most one pending or running execution carries it.
    pub(crate) dedup_key: Option<String>,
}

impl AdHoc {
    /// Reads the body of `POST /api/execution/executions`.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn parse(value: &Value, maxima: &TaskLimits) -> Result<Self, ApiError> {
        let known = [
            "taskType",
            "taskConfig",
            "runAs",
            "priority",
            "retryPolicy",
            "timeoutMs",
            "tags",
            "runAt",
            "dedupKey",
        ];
        let planned = ["delayMs"];
        let known: Vec<&str> = known.into_iter().chain(options::task_fields()).collect();
        let mut fields = Fields::of(value, &known, &planned)?;
        let task = read_task(&mut fields, maxima);
        let task_options = options::read_task(&mut fields);
        let priority = fields.word("priority").unwrap_or(Priority::Medium);
        let retry_policy = read_retry_policy(&mut fields);
        let timeout_ms = fields.integer("timeoutMs", 1..=TIMEOUT_MAX_MS);
        let tags = fields.tags("tags");
        let run_at = fields.instant("runAt");
        let has_key = fields.value("dedupKey").is_some();
        let dedup_key = if has_key { fields.needed_text("dedupKey", NAME_MAX) } else { None };
        let parsed = task.map(|(task_type, task_config)| Self {
            task: TaskSnapshot {
                task_type,
                task_config,
                timeout_ms,
                retry_policy,
                severity: Severity::High,
                cost_per_hour: None,
                tags,
                owner: None,
                options: task_options,
            },
            priority,
            run_at,
            dedup_key,
        });
        fields.finish_with(parsed)
    }
}

/// What a request may override for one run.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    /// Another configuration of the same task type.
    pub(crate) task_config: Option<Value>,
    /// Run in spite of `maxConcurrent`.
    pub(crate) force: bool,
}

impl Overrides {
    /// Reads the body of a trigger.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn parse_trigger(
        value: &Value,
        task_type: &str,
        maxima: &TaskLimits,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::of(value, &["taskConfig", "force", "reason"], &[])?;
        let task_config = Self::read_config(&mut fields, task_type, maxima);
        let force = fields.flag("force").unwrap_or(false);
        fields.finish_with(Some(Self { task_config, force }))
    }

    /// Reads the body of a retry or a resubmission.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn parse_retry(
        value: &Value,
        task_type: &str,
        maxima: &TaskLimits,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::of(value, &["taskConfig", "reason"], &[])?;
        let task_config = Self::read_config(&mut fields, task_type, maxima);
        fields.finish_with(Some(Self { task_config, force: false }))
    }

    /// The configuration of the run in place of `stored`.
    pub(crate) fn over(self, stored: Value) -> Value {
        match self.task_config {
            Some(config) => keep_run_as(&stored, config),
            None => stored,
        }
    }

    fn read_config(fields: &mut Fields<'_>, task_type: &str, maxima: &TaskLimits) -> Option<Value> {
        let config = fields.value("taskConfig")?;
        check_task(fields, task_type, config, maxima);
        Some(config.clone())
    }
}

/// The note that a person leaves with a verdict.
///
/// # Errors
/// 422 with every fault.
pub(crate) fn parse_note(value: &Value, field: &str) -> Result<Option<String>, ApiError> {
    const NOTE_MAX: usize = 10_000;
    // The reason of the act itself is read where acts are audited.
    let mut fields = Fields::of(value, &[field, "reason"], &[])?;
    let note = fields.text(field, NOTE_MAX);
    fields.finish_with(Some(note))
}

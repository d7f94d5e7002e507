//! Groups of errors and dead letters by the many: what answers look like, and what orders say.

use serde_json::{Value, json};

use super::body::Fields;
use super::definition::NAME_MAX;
use super::views::instant;
use crate::api::error::ApiError;
use crate::domain::event::instant_text;
use crate::store::{DeadLetterFilter, DeadLetterGroup, ErrorGroup, LetterChoice};

/// Letters of one order at most.
pub(crate) const LETTERS_MAX: i64 = 500;
const RATE_MAX: i64 = 60_000;
const REASON_MAX: usize = 10_000;

/// A group of errors.
pub(crate) fn error_group(group: &ErrorGroup) -> Value {
    json!({
        "id": group.id,
        "fingerprint": group.fingerprint,
        "status": group.status,
        "errorType": group.error_type,
        "taskType": group.task_type,
        "kind": group.kind,
        "exitCode": group.exit_code,
        "pattern": group.pattern,
        "message": group.message,
        "count": group.occurrences,
        "firstSeenAt": instant_text(group.first_seen_at),
        "lastSeenAt": instant_text(group.last_seen_at),
        "lastExecutionId": group.last_execution_id,
        "lastScheduleId": group.last_schedule_id,
        "resolvedAt": instant(group.resolved_at),
        "resolvedBy": group.resolved_by,
        "resolutionNotes": group.resolution_notes,
        "regressedAt": instant(group.regressed_at),
        "regressions": group.regressions,
    })
}

/// A group of dead letters.
pub(crate) fn letter_group(group: &DeadLetterGroup) -> Value {
    json!({
        "group": format!("{}:{}", group.cause, group.fingerprint),
        "cause": group.cause,
        "fingerprint": group.fingerprint,
        "message": group.message,
        "count": group.count,
        "firstId": group.first_id,
        "oldestAt": instant_text(group.oldest_at),
        "newestAt": instant_text(group.newest_at),
    })
}

/// An order about dead letters.
#[derive(Debug)]
pub(crate) struct LetterOrder {
    /// Which.
    pub(crate) choice: LetterChoice,
    /// Only say what would be done.
    pub(crate) is_dry_run: bool,
    /// Starts a minute at most.
    pub(crate) per_minute: Option<i64>,
    /// Why.
    pub(crate) reason: Option<String>,
}

impl LetterOrder {
    /// Reads `{ids|group|filter, ratePerMinute?, reason?, dryRun?}`.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn parse_resubmit(value: &Value) -> Result<Self, ApiError> {
        Self::parse(value, &["ids", "group", "filter", "ratePerMinute", "reason", "dryRun"])
    }

    /// Reads `{ids|group|filter, reason?, dryRun?}`.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn parse_discard(value: &Value) -> Result<Self, ApiError> {
        Self::parse(value, &["ids", "group", "filter", "reason", "dryRun"])
    }

    fn parse(value: &Value, known: &[&str]) -> Result<Self, ApiError> {
        let mut fields = Fields::of(value, known, &[])?;
        let given = ["ids", "group", "filter"].iter().filter(|n| fields.value(n).is_some()).count();
        if given != 1 {
            let message = "say which letters: one of `ids`, `group` and `filter` (`{}` is all)";
            fields.fault("ids", "required", message);
        }
        let ids = read_ids(&mut fields);
        let mut filter = read_filter(&mut fields);
        if let Some(group) = fields.text("group", NAME_MAX) {
            match group.split_once(':') {
                Some((cause, fingerprint)) => {
                    filter.cause = Some(cause.to_owned());
                    filter.fingerprint = Some(fingerprint.to_owned());
                }
                None => fields.fault("group", "invalid_value", "a group is `cause:fingerprint`"),
            }
        }
        let order = Self {
            choice: LetterChoice { ids, filter, limit: LETTERS_MAX },
            is_dry_run: fields.flag("dryRun").unwrap_or(false),
            per_minute: fields.integer("ratePerMinute", 1..=RATE_MAX),
            reason: fields.text("reason", REASON_MAX),
        };
        fields.finish_with(Some(order))
    }
}

fn read_ids(fields: &mut Fields<'_>) -> Vec<i64> {
    let Some(value) = fields.value("ids") else { return Vec::new() };
    let most = usize::try_from(LETTERS_MAX).unwrap_or(usize::MAX);
    let ids = value.as_array().filter(|ids| !ids.is_empty() && ids.len() <= most);
    let ids = ids.and_then(|ids| {
        ids.iter().map(|id| id.as_i64().filter(|id| *id > 0)).collect::<Option<Vec<i64>>>()
    });
    ids.unwrap_or_else(|| {
        let message = format!("`ids` is a list of 1 to {LETTERS_MAX} ids");
        fields.fault("ids", "invalid_value", message);
        Vec::new()
    })
}

fn read_filter(fields: &mut Fields<'_>) -> DeadLetterFilter {
    let Some(value) = fields.value("filter") else { return DeadLetterFilter::default() };
    let known = ["scheduleId", "fingerprint", "cause", "since"];
    let Ok(mut inner) = Fields::of(value, &known, &[]) else {
        fields.fault("filter", "invalid_type", "`filter` must be an object");
        return DeadLetterFilter::default();
    };
    let filter = DeadLetterFilter {
        statuses: Vec::new(),
        schedule_id: inner.integer("scheduleId", 1..=i64::MAX),
        fingerprint: inner.text("fingerprint", NAME_MAX),
        cause: inner.text("cause", NAME_MAX),
        since: inner.instant("since"),
    };
    for mut fault in inner.into_faults() {
        fault.field = format!("filter.{}", fault.field);
        fields.file(fault);
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_says_which_letters_it_is_about() {
        let order = LetterOrder::parse_resubmit(&json!({"group": "permanent:abc"})).unwrap();
        assert_eq!(order.choice.filter.cause.as_deref(), Some("permanent"));
        assert_eq!(order.choice.filter.fingerprint.as_deref(), Some("abc"));
        for value in [
            json!({}),
            json!({"ids": [1], "filter": {}}),
            json!({"ids": []}),
            json!({"ids": [0]}),
            json!({"group": "x"}),
            json!({"filter": {"couse": "x"}}),
            json!({"filter": {}, "ratePerMinute": 0}),
            json!({"filter": {}, "reason": 7}),
        ] {
            assert!(LetterOrder::parse_resubmit(&value).is_err(), "{value}");
        }
    }
}

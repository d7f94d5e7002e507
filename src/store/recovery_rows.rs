//! The rows of breakers, groups of errors and retry budgets, and their way to values and back.

use diesel::prelude::*;

use crate::domain::breaker::{Breaker, BreakerPolicy, BreakerState, Force};
use crate::domain::error_record::{ErrorType, GroupStatus};
use crate::store::op::{OpError, OpResult, corrupt};
use crate::store::schema::{breaker_history, breakers, error_groups};
use crate::store::sql_types::Instant;
use crate::store::{BreakerChange, BreakerRow, ErrorGroup};

/// A row of `breakers`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = breakers)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct BreakerRowRaw {
    id: i64,
    key: String,
    state: String,
    recent: String,
    in_a_row: i32,
    policy_failures: i32,
    policy_window: i32,
    policy_open_ms: i64,
    opened_at: Option<Instant>,
    probe_at: Option<Instant>,
    probe_id: Option<i64>,
    forced: Option<String>,
    forced_until: Option<Instant>,
    forced_by: Option<String>,
    forced_reason: Option<String>,
    created_at: Instant,
    updated_at: Instant,
}

/// What changes of a row of `breakers`.
#[derive(Clone, Debug, Insertable, AsChangeset)]
#[diesel(table_name = breakers, treat_none_as_null = true)]
pub(crate) struct BreakerValues {
    state: &'static str,
    recent: String,
    in_a_row: i32,
    policy_failures: i32,
    policy_window: i32,
    policy_open_ms: i64,
    opened_at: Option<Instant>,
    probe_at: Option<Instant>,
    probe_id: Option<i64>,
    forced: Option<&'static str>,
    forced_until: Option<Instant>,
    forced_by: Option<String>,
    forced_reason: Option<String>,
    updated_at: Instant,
}

fn parsed_state(text: &str) -> OpResult<BreakerState> {
    BreakerState::parse(text).ok_or_else(|| corrupt("breaker state", text))
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn large(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

impl BreakerValues {
    pub(crate) fn of(breaker: &Breaker, now: Instant) -> Self {
        let force = breaker.forced.as_ref();
        Self {
            state: breaker.state.as_str(),
            recent: breaker.recent.iter().map(|failed| if *failed { '1' } else { '0' }).collect(),
            in_a_row: small(breaker.in_a_row),
            policy_failures: small(breaker.policy.failures),
            policy_window: small(breaker.policy.window),
            policy_open_ms: i64::try_from(breaker.policy.open_ms).unwrap_or(i64::MAX),
            opened_at: breaker.opened_at.map(Instant),
            probe_at: breaker.probe_at.map(Instant),
            probe_id: breaker.probe,
            forced: force.map(|force| if force.is_open { "open" } else { "closed" }),
            forced_until: force.and_then(|force| force.until).map(Instant),
            forced_by: force.map(|force| force.by.clone()),
            forced_reason: force.and_then(|force| force.reason.clone()),
            updated_at: now,
        }
    }
}

impl TryFrom<BreakerRowRaw> for BreakerRow {
    type Error = OpError;

    fn try_from(row: BreakerRowRaw) -> OpResult<Self> {
        let breaker = Breaker {
            state: parsed_state(&row.state)?,
            recent: row.recent.chars().map(|c| c == '1').collect(),
            in_a_row: large(row.in_a_row),
            policy: BreakerPolicy {
                failures: large(row.policy_failures),
                window: large(row.policy_window),
                open_ms: u64::try_from(row.policy_open_ms).unwrap_or(0),
            },
            opened_at: row.opened_at.map(|at| at.0),
            probe_at: row.probe_at.map(|at| at.0),
            probe: row.probe_id,
            forced: row.forced.map(|word| Force {
                is_open: word == "open",
                until: row.forced_until.map(|at| at.0),
                by: row.forced_by.unwrap_or_default(),
                reason: row.forced_reason,
            }),
        };
        Ok(Self {
            id: row.id,
            key: row.key,
            breaker,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

/// A row of `breaker_history`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = breaker_history)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct BreakerChangeRaw {
    id: i64,
    at: Instant,
    from_state: String,
    to_state: String,
    cause: String,
    execution_id: Option<i64>,
    by_whom: Option<String>,
    reason: Option<String>,
}

impl TryFrom<BreakerChangeRaw> for BreakerChange {
    type Error = OpError;

    fn try_from(row: BreakerChangeRaw) -> OpResult<Self> {
        Ok(Self {
            id: row.id,
            at: row.at.0,
            from: parsed_state(&row.from_state)?,
            to: parsed_state(&row.to_state)?,
            cause: row.cause,
            execution_id: row.execution_id,
            by: row.by_whom,
            reason: row.reason,
        })
    }
}

/// A row of `error_groups`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = error_groups)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct ErrorGroupRaw {
    id: i64,
    fingerprint: String,
    error_type: String,
    task_type: String,
    kind: String,
    exit_code: Option<i64>,
    pattern: String,
    message: String,
    occurrences: i64,
    first_seen_at: Instant,
    last_seen_at: Instant,
    last_execution_id: i64,
    last_schedule_id: Option<i64>,
    status: String,
    resolved_at: Option<Instant>,
    resolved_by: Option<String>,
    resolution_notes: Option<String>,
    regressed_at: Option<Instant>,
    regressions: i64,
}

/// A row of `error_groups` but its id, to be written.
#[derive(Clone, Debug, Insertable, AsChangeset)]
#[diesel(table_name = error_groups, treat_none_as_null = true)]
pub(crate) struct ErrorGroupValues {
    fingerprint: String,
    error_type: &'static str,
    task_type: String,
    kind: String,
    exit_code: Option<i64>,
    pattern: String,
    message: String,
    occurrences: i64,
    first_seen_at: Instant,
    last_seen_at: Instant,
    last_execution_id: i64,
    last_schedule_id: Option<i64>,
    status: &'static str,
    resolved_at: Option<Instant>,
    resolved_by: Option<String>,
    resolution_notes: Option<String>,
    regressed_at: Option<Instant>,
    regressions: i64,
}

impl ErrorGroupValues {
    pub(crate) fn of(group: &ErrorGroup) -> Self {
        let g = group.clone();
        Self {
            fingerprint: g.fingerprint,
            error_type: g.error_type.as_str(),
            task_type: g.task_type,
            kind: g.kind,
            exit_code: g.exit_code,
            pattern: g.pattern,
            message: g.message,
            occurrences: g.occurrences,
            first_seen_at: Instant(g.first_seen_at),
            last_seen_at: Instant(g.last_seen_at),
            last_execution_id: g.last_execution_id,
            last_schedule_id: g.last_schedule_id,
            status: g.status.as_str(),
            resolved_at: g.resolved_at.map(Instant),
            resolved_by: g.resolved_by,
            resolution_notes: g.resolution_notes,
            regressed_at: g.regressed_at.map(Instant),
            regressions: g.regressions,
        }
    }
}

impl TryFrom<ErrorGroupRaw> for ErrorGroup {
    type Error = OpError;

    fn try_from(row: ErrorGroupRaw) -> OpResult<Self> {
        Ok(Self {
            id: row.id,
            fingerprint: row.fingerprint,
            error_type: ErrorType::parse(&row.error_type)
                .ok_or_else(|| corrupt("error type", &row.error_type))?,
            task_type: row.task_type,
            kind: row.kind,
            exit_code: row.exit_code,
            pattern: row.pattern,
            message: row.message,
            occurrences: row.occurrences,
            first_seen_at: row.first_seen_at.0,
            last_seen_at: row.last_seen_at.0,
            last_execution_id: row.last_execution_id,
            last_schedule_id: row.last_schedule_id,
            status: GroupStatus::parse(&row.status)
                .ok_or_else(|| corrupt("group status", &row.status))?,
            resolved_at: row.resolved_at.map(|at| at.0),
            resolved_by: row.resolved_by,
            resolution_notes: row.resolution_notes,
            regressed_at: row.regressed_at.map(|at| at.0),
            regressions: row.regressions,
        })
    }
}

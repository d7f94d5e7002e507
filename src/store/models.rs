//! The rows as diesel reads and writes them, once for both back ends; `conversions.rs` has their
//! way to the domain's values.

use diesel::prelude::*;

use crate::store::schema::{
    api_keys, audit_log, backfills, calendars, dead_letters, error_records, event_chunks,
    execution_acts, execution_logs, nodes, schedule_ledger, task_executions, task_schedules,
};
use crate::store::sql_types::{Instant, JsonDoc, Uid};

/// A row of `task_schedules`.
#[derive(Clone, Debug, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = task_schedules)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct ScheduleRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) task_type: String,
    pub(crate) task_config: JsonDoc,
    pub(crate) schedule_type: String,
    pub(crate) schedule_config: JsonDoc,
    pub(crate) enabled: bool,
    pub(crate) priority_rank: i16,
    pub(crate) timeout_ms: Option<i64>,
    pub(crate) max_concurrent: Option<i32>,
    pub(crate) overlap_policy: String,
    pub(crate) misfire_policy: String,
    pub(crate) misfire_grace_ms: i64,
    pub(crate) catchup_window_ms: i64,
    pub(crate) catchup_max: i32,
    pub(crate) catchup_per_minute: Option<i32>,
    pub(crate) retry_policy: JsonDoc,
    pub(crate) severity: String,
    pub(crate) cost_per_hour: Option<f64>,
    pub(crate) start_at: Option<Instant>,
    pub(crate) end_at: Option<Instant>,
    pub(crate) max_executions: Option<i64>,
    pub(crate) tags: JsonDoc,
    pub(crate) owner: Option<String>,
    pub(crate) next_run_at: Option<Instant>,
    pub(crate) last_run_at: Option<Instant>,
    pub(crate) fired: i64,
    pub(crate) paused_at: Option<Instant>,
    pub(crate) resumed_at: Option<Instant>,
    pub(crate) catch_up_at: Option<Instant>,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
    pub(crate) version: i64,
    pub(crate) options: JsonDoc,
    pub(crate) settled_at: Option<Instant>,
    pub(crate) paused_until: Option<Instant>,
    pub(crate) pause_reason: Option<String>,
    pub(crate) failure_streak: i64,
}

/// What a firing compares and moves of a schedule: its definition is with the plan already.
#[derive(Queryable)]
pub(crate) struct Standing {
    pub(crate) id: i64,
    pub(crate) version: i64,
    pub(crate) next_run_at: Option<Instant>,
    pub(crate) last_run_at: Option<Instant>,
    pub(crate) fired: i64,
    pub(crate) enabled: bool,
    pub(crate) paused_at: Option<Instant>,
    pub(crate) catch_up_at: Option<Instant>,
}

/// Declares the statement that locks schedules, around the rule that finds them and with the words
/// that lock.
macro_rules! lock_schedules {
    ($before:expr, $ids:ty as $sql:ty, $after:expr) => {
        statement! {
            /// Where schedules stand, by id, locked where rows are.
            LockSchedules<'a> => (
                BigInt, BigInt, Nullable<sql::Instant>, Nullable<sql::Instant>, BigInt, Bool,
                Nullable<sql::Instant>, Nullable<sql::Instant>
            ) {
                concat!(
                    "SELECT id, version, next_run_at, last_run_at, fired, enabled, paused_at, \
catch_up_at FROM task_schedules WHERE id ", $before
                ), ids: $ids as $sql;
                => concat!(") ORDER BY id", $after)
            }
        }
    };
}
pub(crate) use lock_schedules;

/// What a user says about a schedule, as columns.
#[derive(Clone, Debug, Insertable, AsChangeset)]
#[diesel(table_name = task_schedules, treat_none_as_null = true)]
pub(crate) struct ScheduleValues {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) task_type: String,
    pub(crate) task_config: JsonDoc,
    pub(crate) schedule_type: String,
    pub(crate) schedule_config: JsonDoc,
    pub(crate) enabled: bool,
    pub(crate) priority_rank: i16,
    pub(crate) timeout_ms: Option<i64>,
    pub(crate) max_concurrent: Option<i32>,
    pub(crate) overlap_policy: String,
    pub(crate) misfire_policy: String,
    pub(crate) misfire_grace_ms: i64,
    pub(crate) catchup_window_ms: i64,
    pub(crate) catchup_max: i32,
    pub(crate) catchup_per_minute: Option<i32>,
    pub(crate) retry_policy: JsonDoc,
    pub(crate) severity: String,
    pub(crate) cost_per_hour: Option<f64>,
    pub(crate) start_at: Option<Instant>,
    pub(crate) end_at: Option<Instant>,
    pub(crate) max_executions: Option<i64>,
    pub(crate) tags: JsonDoc,
    pub(crate) owner: Option<String>,
    pub(crate) options: JsonDoc,
}

/// A row of `task_executions`.
#[derive(Clone, Debug, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = task_executions)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct ExecutionRow {
    pub(crate) id: i64,
    pub(crate) execution_id: Uid,
    pub(crate) chain_id: Uid,
    pub(crate) schedule_id: Option<i64>,
    pub(crate) schedule_name: Option<String>,
    pub(crate) trigger: String,
    pub(crate) task_type: String,
    pub(crate) task_config: JsonDoc,
    pub(crate) timeout_ms: Option<i64>,
    pub(crate) retry_policy: JsonDoc,
    pub(crate) severity: String,
    pub(crate) cost_per_hour: Option<f64>,
    pub(crate) tags: JsonDoc,
    pub(crate) owner: Option<String>,
    pub(crate) priority_rank: i16,
    pub(crate) attempt: i32,
    pub(crate) retry_of: Option<i64>,
    pub(crate) scheduled_at: Instant,
    pub(crate) available_at: Instant,
    pub(crate) failures_before: i32,
    pub(crate) crashes_before: i32,
    pub(crate) dead_letter_id: Option<i64>,
    pub(crate) dedup_key: Option<String>,
    pub(crate) traceparent: Option<String>,
    pub(crate) created_by: Option<String>,
    pub(crate) status: String,
    pub(crate) created_at: Instant,
    pub(crate) started_at: Option<Instant>,
    pub(crate) completed_at: Option<Instant>,
    pub(crate) duration_ms: Option<i64>,
    pub(crate) lateness_ms: Option<i64>,
    pub(crate) result: Option<JsonDoc>,
    pub(crate) error: Option<JsonDoc>,
    pub(crate) node_id: Option<String>,
    pub(crate) lease_owner: Option<Uid>,
    pub(crate) cancel_requested_at: Option<Instant>,
    pub(crate) conductor_thread_id: Option<String>,
    pub(crate) conductor_status: Option<String>,
    pub(crate) cost: Option<f64>,
    pub(crate) usage: Option<JsonDoc>,
    pub(crate) options: Option<JsonDoc>,
    pub(crate) queue: Option<String>,
    pub(crate) concurrency_key: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) gated: bool,
    pub(crate) held_reason: Option<String>,
}

/// A row of `error_records`.
#[derive(Clone, Debug, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = error_records)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct ErrorRow {
    pub(crate) id: i64,
    pub(crate) chain_id: Uid,
    pub(crate) error_type: String,
    pub(crate) severity: String,
    pub(crate) recovery_status: String,
    pub(crate) execution_id: i64,
    pub(crate) schedule_id: Option<i64>,
    pub(crate) schedule_name: Option<String>,
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) fingerprint: String,
    pub(crate) recovery_attempts: i32,
    pub(crate) max_retry_attempts: i32,
    pub(crate) next_retry_at: Option<Instant>,
    pub(crate) resolved_at: Option<Instant>,
    pub(crate) resolution_notes: Option<String>,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
    pub(crate) assignee: Option<String>,
}

/// A row of `error_records` but its id, to be written.
#[derive(Clone, Debug, Insertable, AsChangeset)]
#[diesel(table_name = error_records, treat_none_as_null = true)]
pub(crate) struct ErrorValues {
    pub(crate) chain_id: Uid,
    pub(crate) error_type: String,
    pub(crate) severity: String,
    pub(crate) recovery_status: String,
    pub(crate) execution_id: i64,
    pub(crate) schedule_id: Option<i64>,
    pub(crate) schedule_name: Option<String>,
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) fingerprint: String,
    pub(crate) recovery_attempts: i32,
    pub(crate) max_retry_attempts: i32,
    pub(crate) next_retry_at: Option<Instant>,
    pub(crate) resolved_at: Option<Instant>,
    pub(crate) resolution_notes: Option<String>,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
    pub(crate) assignee: Option<String>,
}

/// A row of `dead_letters`.
#[derive(Clone, Debug, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = dead_letters)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct DeadLetterRow {
    pub(crate) id: i64,
    pub(crate) error_id: i64,
    pub(crate) chain_id: Uid,
    pub(crate) schedule_id: Option<i64>,
    pub(crate) schedule_name: Option<String>,
    pub(crate) task: JsonDoc,
    pub(crate) cause: String,
    pub(crate) attempts: JsonDoc,
    pub(crate) status: String,
    pub(crate) resubmitted_chain_id: Option<Uid>,
    pub(crate) resubmitted_at: Option<Instant>,
    pub(crate) discard_reason: Option<String>,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
    pub(crate) fingerprint: String,
}

/// A row of `dead_letters` but its id, to be written.
#[derive(Clone, Debug, Insertable, AsChangeset)]
#[diesel(table_name = dead_letters, treat_none_as_null = true)]
pub(crate) struct DeadLetterValues {
    pub(crate) error_id: i64,
    pub(crate) chain_id: Uid,
    pub(crate) schedule_id: Option<i64>,
    pub(crate) schedule_name: Option<String>,
    pub(crate) task: JsonDoc,
    pub(crate) cause: String,
    pub(crate) attempts: JsonDoc,
    pub(crate) status: String,
    pub(crate) resubmitted_chain_id: Option<Uid>,
    pub(crate) resubmitted_at: Option<Instant>,
    pub(crate) discard_reason: Option<String>,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
    pub(crate) fingerprint: String,
}

/// A row of `schedule_ledger`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = schedule_ledger)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct LedgerRowRaw {
    pub(crate) id: i64,
    pub(crate) schedule_id: i64,
    pub(crate) from_at: Instant,
    pub(crate) to_at: Instant,
    pub(crate) instants: i64,
    pub(crate) reason: String,
    pub(crate) created_at: Instant,
}

/// A row of `execution_logs`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = execution_logs)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct LogRowRaw {
    pub(crate) execution_id: i64,
    pub(crate) line: i64,
    pub(crate) at: Instant,
    pub(crate) stream: String,
    pub(crate) text: String,
    pub(crate) continues: bool,
    pub(crate) dropped_lines: Option<i64>,
    pub(crate) dropped_bytes: Option<i64>,
}

/// A row of `event_chunks`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = event_chunks)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct EventChunkRow {
    pub(crate) first_seq: i64,
    pub(crate) at: Instant,
    pub(crate) body: String,
}

/// A row of `nodes`.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = nodes)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct NodeRowRaw {
    pub(crate) boot_id: Uid,
    pub(crate) node_id: String,
    pub(crate) started_at: Instant,
    pub(crate) lease_until: Instant,
    pub(crate) stopped_at: Option<Instant>,
}

/// A row of `api_keys`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct KeyRowRaw {
    pub(crate) id: i64,
    pub(crate) prefix: String,
    pub(crate) secret_hash: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) created_at: Instant,
    pub(crate) expires_at: Option<Instant>,
    pub(crate) last_used_at: Option<Instant>,
    pub(crate) revoked_at: Option<Instant>,
}

/// A row of `calendars`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = calendars)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct CalendarRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) timezone: String,
    pub(crate) entries: JsonDoc,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
    pub(crate) version: i64,
}

/// A row of `backfills`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = backfills)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct BackfillRow {
    pub(crate) id: i64,
    pub(crate) schedule_id: i64,
    pub(crate) schedule_name: String,
    pub(crate) from_at: Instant,
    pub(crate) to_at: Instant,
    pub(crate) run_order: String,
    pub(crate) again: bool,
    pub(crate) per_minute: Option<i32>,
    pub(crate) max_concurrent: i32,
    pub(crate) status: String,
    pub(crate) position: Option<Instant>,
    pub(crate) planned: i64,
    pub(crate) made: i64,
    pub(crate) left_out: i64,
    pub(crate) next_start_at: Option<Instant>,
    pub(crate) created_by: Option<String>,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
    pub(crate) ended_at: Option<Instant>,
    pub(crate) reason: Option<String>,
}

/// A row of `audit_log` to be written.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = audit_log)]
pub(crate) struct NewAuditRow {
    pub(crate) at: Instant,
    pub(crate) who: String,
    pub(crate) key_id: Option<i64>,
    pub(crate) role: String,
    pub(crate) action: String,
    pub(crate) subject_kind: String,
    pub(crate) subject_id: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) before: Option<JsonDoc>,
    pub(crate) after: Option<JsonDoc>,
    pub(crate) request_id: Option<String>,
}

/// A row of `audit_log`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = audit_log)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct AuditRow {
    pub(crate) id: i64,
    pub(crate) at: Instant,
    pub(crate) who: String,
    pub(crate) key_id: Option<i64>,
    pub(crate) role: String,
    pub(crate) action: String,
    pub(crate) subject_kind: String,
    pub(crate) subject_id: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) before: Option<JsonDoc>,
    pub(crate) after: Option<JsonDoc>,
    pub(crate) request_id: Option<String>,
}

/// A row of `execution_acts`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = execution_acts)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct ExecutionActsRow {
    pub(crate) execution_id: i64,
    pub(crate) paused_at: Option<Instant>,
    pub(crate) paused_by: Option<String>,
    pub(crate) pause_reason: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) outcome_by: Option<String>,
    pub(crate) outcome_at: Option<Instant>,
    pub(crate) outcome_reason: Option<String>,
    pub(crate) outcome_result: Option<JsonDoc>,
}

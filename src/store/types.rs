//! The values that go into and come out of store operations beside the domain's own.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::error_record::{DeadLetterStatus, FailureEntry, RecoveryStatus};
use crate::domain::execution::{
    Execution, ExecutionError, ExecutionStatus, ExecutionUsage, NewExecution, Severity,
};
use crate::domain::schedule::{LedgerRange, LedgerReason, ScheduleDefinition};

/// Which schedules to list; `None` means any.
#[derive(Clone, Debug, Default)]
pub struct ScheduleFilter {
    /// Running or paused ones.
    pub enabled: Option<bool>,
    /// Task type.
    pub task_type: Option<String>,
    /// Carries this tag.
    pub tag: Option<String>,
    /// Name or description contains it, whatever the case.
    pub text: Option<String>,
}

/// Which executions to list; `None` (or an empty list) means any.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    /// Of this schedule.
    pub schedule_id: Option<i64>,
    /// In one of these states.
    pub statuses: Vec<ExecutionStatus>,
    /// Of this chain.
    pub chain_id: Option<Uuid>,
}

/// Which error records to list.
#[derive(Clone, Debug, Default)]
pub struct ErrorFilter {
    /// In one of these.
    pub recovery_statuses: Vec<RecoveryStatus>,
    /// With one of these.
    pub severities: Vec<Severity>,
    /// Of this schedule.
    pub schedule_id: Option<i64>,
}

/// Which dead letters to list.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// In one of these; empty means those still in the queue (`pending`, `resubmitted`).
    pub statuses: Vec<DeadLetterStatus>,
    /// Of this schedule.
    pub schedule_id: Option<i64>,
    /// With this fingerprint.
    pub fingerprint: Option<String>,
    /// Given up for this cause.
    pub cause: Option<String>,
    /// Added at or after it.
    pub since: Option<DateTime<Utc>>,
}

/// An execution's name in a path: its row id or its public id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionKey {
    /// Row id.
    Id(i64),
    /// Public id.
    Uuid(Uuid),
}

/// Who claims, and what it gets: rows go straight to `running` under this node's lease.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// The boot id, which owns the lease.
    pub boot_id: Uuid,
    /// The node's name, for people.
    pub node_id: String,
}

/// Claim in the transaction that creates: up to `slots` of the new rows that may run now start at
/// once as this node's.
#[derive(Clone, Debug)]
pub struct ClaimHere {
    /// Who claims.
    pub claimant: Claimant,
    /// How many at most.
    pub slots: usize,
    /// How many of these only rows of high priority may take.
    pub high_only: usize,
}

/// The firing of one schedule.
#[derive(Clone, Debug)]
pub struct Firing {
    /// Which schedule.
    pub schedule_id: i64,
    /// The `next_run_at` the plan was made from; another value means it was fired or edited
    /// meanwhile, and nothing is done.
    pub expected_next: Option<DateTime<Utc>>,
    /// The `version` the plan was made from; likewise.
    pub expected_version: i64,
    /// What to run, oldest instant first. Under `overlap_limit` the oldest run, and the others go
    /// to the ledger with `overlap`.
    pub executions: Vec<Arc<NewExecution>>,
    /// How many of the first of `executions` are caught up on one after the other: those that
    /// `overlap_limit` leaves out are held (the next instant becomes the first of them) instead of
    /// going to the ledger.
    pub catch_up: usize,
    /// Time between two of them (`catchupPerMinute`); none when they need not be spread.
    pub catch_up_spacing: Option<chrono::Duration>,
    /// Pending and running rows of the schedule that may exist at once, these included; `None` is
    /// no limit.
    pub overlap_limit: Option<i32>,
    /// Where the new rows exceed `overlap_limit`, the oldest that wait or run are cancelled to make
    /// room, and of the new ones the newest run.
    pub makes_room: bool,
    /// Instants that do not run.
    pub ledger: Vec<LedgerRange>,
    /// Up to where `ledger` tells of what calendars and clock changes take away; `None` leaves what
    /// is stored.
    pub settled_at: Option<DateTime<Utc>>,
    /// The next planned instant.
    pub next_run_at: Option<DateTime<Utc>>,
    /// The next one if an instant goes to the ledger with `overlap` and `maxExecutions` is so not
    /// spent; only when that limit exhausts the schedule.
    pub next_if_left: Option<DateTime<Utc>>,
    /// True when the schedule has fired for the last time and becomes paused (one-time, `endAt`,
    /// `maxExecutions`).
    pub exhausted: bool,
}

/// What became of a batch of firings.
#[derive(Clone, Debug, Default)]
pub struct FiringResult {
    /// Every row made, as stored; those claimed here are `running`.
    pub executions: Vec<Execution>,
    /// Schedules whose plan was stale; they are read again.
    pub stale: Vec<i64>,
    /// Instants that went to the ledger because of overlap.
    pub overlapped: u64,
    /// Schedules that wait with instants to catch up on until earlier runs are over.
    pub held: Vec<i64>,
}

/// What a firing writes to its schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advance {
    pub(crate) id: i64,
    pub(crate) next_run_at: Option<Timestamp>,
    pub(crate) last_run_at: Option<Timestamp>,
    pub(crate) fired: i64,
    pub(crate) enabled: bool,
    pub(crate) paused_at: Option<Timestamp>,
    pub(crate) catch_up_at: Option<Timestamp>,
}

/// The end of a running execution.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The row as it was claimed: it is not read again.
    pub row: Arc<Execution>,
    /// The boot id that must hold the lease.
    pub lease_owner: Uuid,
    /// `Completed`, `Failed`, `Timeout` or `Cancelled`.
    pub status: ExecutionStatus,
    /// What the task gave back.
    pub result: Option<Arc<Value>>,
    /// Why it failed.
    pub error: Option<ExecutionError>,
    /// The conductor's thread.
    pub conductor_thread_id: Option<String>,
    /// The conductor's word.
    pub conductor_status: Option<String>,
    /// What a command used.
    pub usage: Option<ExecutionUsage>,
    /// For `Failed` and `Timeout`: the error record's part.
    pub failure: Option<FailureEntry>,
}

/// What became of one [`Finish`].
#[derive(Clone, Debug)]
pub enum FinishResult {
    /// Written; the state it ended in.
    Done(ExecutionStatus),
    /// The lease was lost (or the row was ended otherwise): nothing was changed.
    Superseded(i64),
}

/// What an end writes to its row.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// Place in the batch.
    pub(crate) place: usize,
    pub(crate) id: i64,
    pub(crate) lease_owner: Uuid,
    pub(crate) status: ExecutionStatus,
    pub(crate) completed_at: Timestamp,
    pub(crate) duration_ms: i64,
    pub(crate) result: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) conductor_thread_id: Option<String>,
    pub(crate) conductor_status: Option<String>,
    pub(crate) cost: Option<f64>,
    pub(crate) usage: Option<String>,
}

/// What became of a request to cancel.
#[derive(Clone, Debug)]
pub enum CancelResult {
    /// It was pending and is cancelled.
    Cancelled(Execution),
    /// It runs; its node was told.
    Requested(Execution),
    /// It had ended before.
    AlreadyFinished(Execution),
}

/// A retry to be started from an error record.
#[derive(Clone, Debug)]
pub struct RetryStart {
    /// The record.
    pub error_id: i64,
    /// `Some` for recovery's own retries: the record must still wait for this instant. `None` for
    /// an operator's, which work from any status but `resolved` and `retrying`.
    pub expected_next_retry_at: Option<DateTime<Utc>>,
    /// The attempt to make.
    pub execution: NewExecution,
}

/// An answer kept for an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// Body as JSON text.
    pub body: String,
}

/// What renders an answer to keep.
pub type RenderAnswer<T> = Box<dyn Fn(&T, bool) -> StoredAnswer + Send + Sync>;

/// Makes a creating operation happen at most once for a key.
pub struct Idempotency<T> {
    /// Key, scoped by the caller (route and API key are part of it).
    pub key: String,
    /// Hash of the request's body.
    pub body_hash: String,
    /// Renders the answer to keep, inside the transaction; true when the thing was there before.
    pub render: RenderAnswer<T>,
}

/// What a creating operation gave.
#[derive(Debug)]
pub enum Creation<T> {
    /// It was made now.
    New(T),
    /// It was made before under the same idempotency key: the first answer.
    Replayed(StoredAnswer),
    /// An execution with the same `dedup_key` still waits or runs; that one.
    Existing(T),
}

/// A line of a task's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Row id of the execution.
    pub execution_id: i64,
    /// Number of the line in its execution, from 1.
    pub line: i64,
    /// When it was read.
    pub at: DateTime<Utc>,
    /// `stdout`, `stderr` or `system`.
    pub stream: String,
    /// The line without its end.
    pub text: String,
    /// The text goes on in the next line of its stream: the task wrote a longer line than is kept
    /// as one.
    pub continues: bool,
    /// This line is ours, not the task's: so much of the stream was here and is not kept.
    pub dropped: Option<Dropped>,
}

impl LogRow {
    /// A whole line.
    #[must_use]
    pub fn new(
        (execution_id, line): (i64, i64),
        at: DateTime<Utc>,
        stream: &str,
        text: impl Into<String>,
    ) -> Self {
        let (stream, text) = (stream.to_owned(), text.into());
        Self { execution_id, line, at, stream, text, continues: false, dropped: None }
    }
}

/// Output that is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many lines.
    pub lines: i64,
    /// How many bytes, line ends included.
    pub bytes: i64,
}

/// Lines of one stream of an execution that are to go, in the transaction that states the gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTrim {
    /// Row id of the execution.
    pub execution_id: i64,
    /// The stream.
    pub stream: String,
    /// First line.
    pub from: i64,
    /// Last line.
    pub to: i64,
}

/// Which lines of an execution to list. Lines that state a gap always are: what was looked for may
/// have been there.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    /// Contain it, whatever the case.
    pub text: Option<String>,
    /// Of this stream.
    pub stream: Option<String>,
}

/// An API key as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeyRow {
    /// Row id.
    pub id: i64,
    /// The public first part.
    pub prefix: String,
    /// SHA-256 of the secret part, hex.
    pub secret_hash: String,
    /// Its name.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A node's entry.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// Boot id.
    pub boot_id: Uuid,
    /// Name.
    pub node_id: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Until when its leases hold, by the database's clock.
    pub lease_until: DateTime<Utc>,
    /// When it said goodbye.
    pub stopped_at: Option<DateTime<Utc>>,
}

/// The numbers behind `/api/dlq/stats`.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterStats {
    /// In the queue.
    pub pending: i64,
    /// In the queue, by cause.
    pub by_cause: Vec<(String, i64)>,
    /// The oldest in the queue.
    pub oldest_at: Option<DateTime<Utc>>,
    /// Added in the last 24 h.
    pub added_last_day: i64,
    /// Resubmitted in the last 24 h.
    pub resubmitted_last_day: i64,
}

/// How long things are kept; `None` for an age means for ever.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Executions that succeeded, were cancelled or skipped.
    pub completed: Duration,
    /// Executions that failed or timed out.
    pub failed: Duration,
    /// Log lines.
    pub logs: Duration,
    /// Events at least this long ...
    pub events: Duration,
    /// ... and at least this many, whichever is more.
    pub events_min: i64,
    /// Dead letters.
    pub dead_letters: Duration,
    /// The audit log.
    pub audit: Duration,
    /// Rows at most a statement.
    pub batch: i64,
}

/// An edit of a schedule.
#[derive(Clone, Debug)]
pub struct ScheduleChange {
    /// Which.
    pub id: i64,
    /// The version the edit was made from.
    pub expected_version: i64,
    /// The `next_run_at` the edit was made from, compared when the edit sets another: an instant
    /// that fired meanwhile must not get into the ledger too.
    pub expected_next: Option<DateTime<Utc>>,
    /// The whole new definition.
    pub definition: ScheduleDefinition,
    /// `Some` sets the next instant (the cadence or its bounds changed), `None` leaves it.
    pub next_run_at: Option<Option<DateTime<Utc>>>,
    /// Up to where `ledger` tells of what calendars and clock changes took away; `None` leaves it.
    pub settled_at: Option<DateTime<Utc>>,
    /// Instants that the edit drops.
    pub ledger: Vec<LedgerRange>,
}

/// What a deletion leaves in the ledger.
#[derive(Clone, Debug)]
pub struct ScheduleRemoval {
    /// The `next_run_at` that `ledger` was made from; another one refuses the deletion.
    pub expected_next: Option<DateTime<Utc>>,
    /// Instants that were planned and will not run.
    pub ledger: Vec<LedgerRange>,
}

/// How many schedules there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScheduleCounts {
    /// Enabled.
    pub enabled: i64,
    /// Paused.
    pub paused: i64,
}

/// How many executions wait and run.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecutionCounts {
    /// Waiting, may be claimed now.
    pub ready: i64,
    /// Waiting for their instant.
    pub later: i64,
    /// Running.
    pub running: i64,
}

/// A row of the ledger.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    /// Row id.
    pub id: i64,
    /// The schedule.
    pub schedule_id: i64,
    /// What did not run.
    pub range: LedgerRange,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// What became of a planned instant, or of a range of them.
#[derive(Clone, Debug)]
pub struct OutcomeRow {
    /// First instant.
    pub from: DateTime<Utc>,
    /// Last instant.
    pub to: DateTime<Utc>,
    /// How many.
    pub count: i64,
    /// Which way it went.
    pub outcome: InstantOutcome,
}

/// What became of planned instants: an execution, or a place in the ledger.
#[derive(Clone, Debug)]
pub enum InstantOutcome {
    /// An execution was made of it.
    Execution {
        /// Row id.
        id: i64,
        /// Public id.
        execution_id: Uuid,
        /// Its status.
        status: ExecutionStatus,
        /// When it started.
        started_at: Option<DateTime<Utc>>,
        /// Start minus due, milliseconds.
        lateness_ms: Option<i64>,
    },
    /// It did not run.
    Missed(LedgerReason),
}

/// Which outcomes of a schedule to list: those of instants in `[from, to]`.
#[derive(Clone, Copy, Debug)]
pub struct OutcomeSpan {
    /// The schedule.
    pub schedule_id: i64,
    /// First instant.
    pub from: DateTime<Utc>,
    /// Last instant.
    pub to: DateTime<Utc>,
}

/// One execution to be made on request.
pub struct ExecutionCreate {
    /// The row.
    pub row: NewExecution,
    /// Refuse with `already_running` when this many rows of its schedule wait or run.
    pub limit: Option<i32>,
    /// Claim it here.
    pub claim: Option<ClaimHere>,
    /// At most once for a key.
    pub idempotency: Option<Idempotency<Execution>>,
}

/// A person's word on an error record.
#[derive(Clone, Debug)]
pub enum ErrorVerdict {
    /// It is solved.
    Resolve {
        /// How.
        notes: Option<String>,
    },
    /// Leave it.
    Ignore {
        /// Why.
        notes: Option<String>,
    },
    /// It needs help.
    Escalate {
        /// Why.
        notes: Option<String>,
    },
}

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// The public first part.
    pub prefix: String,
    /// SHA-256 of the secret part, hex.
    pub secret_hash: String,
    /// Its name.
    pub name: String,
    /// Its role's word.
    pub role: String,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A WebSocket session to be stored.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub session_id: Uuid,
    /// The boot it belongs to.
    pub boot_id: Uuid,
    /// The key's name.
    pub key_name: Option<String>,
    /// `{userAgent, ip}`.
    pub client_info: Value,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where the data is.
    pub location: StoreLocation,
    /// PostgreSQL connections at most.
    pub pool_max: usize,
    /// How long an operation waits for a connection (PostgreSQL) or the writer's queue (SQLite).
    pub acquire: Duration,
}

/// Where the data is.
#[derive(Clone, Debug)]
pub enum StoreLocation {
    /// An embedded file, made when missing, locked for this process.
    Sqlite(std::path::PathBuf),
    /// A PostgreSQL URL.
    Postgres(String),
}

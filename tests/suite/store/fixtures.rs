//! What the store's laws are tried with: definitions, rows, a bench with a store and a clock.

use std::sync::Arc;
use std::time::Duration;

use carillon::clock::{Clock, Timestamp};
use carillon::domain::error_record::{ErrorType, FailureEntry, RecoveryDecision, RecoveryStatus};
use carillon::domain::event::Event;
use carillon::domain::execution::{
    Execution, ExecutionError, ExecutionStatus, NewExecution, Priority, Severity, TaskSnapshot,
    Trigger,
};
use carillon::domain::options::ScheduleOptions;
use carillon::domain::schedule::{
    MisfirePolicy, OverlapPolicy, Schedule, ScheduleDefinition, ScheduleType,
};
use carillon::store::{
    ClaimHere, Claimant, Creation, ExecutionKey, Finish, FinishResult, Firing, PageRequest, Store,
    StoreLocation, StoreOptions,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::postgres::{Database, database};

/// A store, the clock it goes by, and how to open it again.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) options: StoreOptions,
    _home: Home,
}

/// What a bench keeps alive.
pub(crate) enum Home {
    Folder { _folder: tempfile::TempDir },
    Database { _database: Database },
    Elsewhere,
}

pub(crate) fn start() -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000, 0).unwrap()
}

pub(crate) fn options(location: StoreLocation) -> StoreOptions {
    StoreOptions { location, pool_max: 4, acquire: Duration::from_secs(5) }
}

impl Bench {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = options(StoreLocation::Sqlite(folder.path().join("carillon.db")));
        Self::open(options, Home::Folder { _folder: folder }).await
    }

    pub(crate) async fn postgres() -> Self {
        let database = database();
        let options = options(StoreLocation::Postgres(database.url.clone()));
        Self::open(options, Home::Database { _database: database }).await
    }

    pub(crate) async fn open(options: StoreOptions, home: Home) -> Self {
        let clock = Clock::manual(start());
        let store = Store::open(options.clone(), clock.clone()).await.unwrap();
        Self { store, clock, options, _home: home }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A schedule that is due now.
    pub(crate) async fn schedule(&self, name: &str) -> Schedule {
        let made = self.store.schedule_create(definition(name), Some(self.now()), None).await;
        match made.unwrap() {
            Creation::New(schedule) => schedule,
            other => panic!("{other:?}"),
        }
    }

    /// Rows that may run now.
    pub(crate) async fn pending(&self, count: usize) -> Vec<Execution> {
        let rows = (0..count).map(|_| row(self.now())).collect();
        self.store.execution_create_batch(rows, None).await.unwrap()
    }

    /// A row that runs, and its claimant.
    pub(crate) async fn running(&self) -> (Execution, ClaimHere) {
        let claim = claimant(1);
        self.register(&claim).await;
        let rows = vec![row(self.now())];
        let made = self.store.execution_create_batch(rows, Some(claim.clone())).await.unwrap();
        (made.into_iter().next().unwrap(), claim)
    }

    pub(crate) async fn register(&self, claim: &ClaimHere) {
        let lease = Duration::from_secs(30);
        self.store.node_register(claim.claimant.clone(), lease).await.unwrap();
    }

    /// Ends a row, which must be held.
    pub(crate) async fn finish(&self, finish: Finish) -> Execution {
        let id = finish.row.id;
        match self.store.execution_finish(vec![finish]).await.unwrap().remove(0) {
            FinishResult::Done(_) => self.store.execution_get(ExecutionKey::Id(id)).await.unwrap(),
            FinishResult::Superseded(id) => panic!("{id} was superseded"),
        }
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        self.store.event_list(0, 100_000).await.unwrap()
    }

    pub(crate) async fn event_types(&self) -> Vec<String> {
        self.events().await.into_iter().map(|event| event.event_type).collect()
    }

    /// Event types after what is there already.
    pub(crate) async fn event_types_after(&self, seq: i64) -> Vec<String> {
        let events = self.store.event_list(seq, 100_000).await.unwrap();
        events.into_iter().map(|event| event.event_type).collect()
    }

    pub(crate) async fn last_event(&self) -> i64 {
        self.store.event_bounds().await.unwrap().1
    }
}

pub(crate) const fn page(limit: i64) -> PageRequest {
    PageRequest { limit, offset: 0 }
}

pub(crate) fn definition(name: &str) -> ScheduleDefinition {
    ScheduleDefinition {
        name: name.to_owned(),
        description: Some("Says good morning".to_owned()),
        task_type: "shell_command".to_owned(),
        task_config: json!({"command": "echo hello", "nested": {"list": [1, 2.5, null, "x"]}}),
        schedule_type: ScheduleType::Cron,
        schedule_config: json!({"cron": "0 2 * * *"}),
        enabled: true,
        priority: Priority::Medium,
        timeout_ms: Some(60_000),
        max_concurrent: Some(1),
        overlap_policy: OverlapPolicy::Skip,
        misfire_policy: MisfirePolicy::Coalesce,
        misfire_grace_ms: 5_000,
        catchup_window_ms: 3_600_000,
        catchup_max: 100,
        catchup_per_minute: None,
        retry_policy: Value::Null,
        severity: Severity::High,
        cost_per_hour: Some(1.5),
        start_at: None,
        end_at: Some(start() + chrono::Duration::days(400)),
        max_executions: None,
        tags: vec!["nightly".to_owned(), "it's \"odd\"".to_owned()],
        owner: Some("ops".to_owned()),
        options: ScheduleOptions::default(),
    }
}

pub(crate) fn task() -> TaskSnapshot {
    TaskSnapshot {
        retry_policy: json!({"maxAttempts": 4}),
        cost_per_hour: Some(3_600.0),
        tags: vec!["nightly".to_owned()],
        ..TaskSnapshot::new("shell_command", json!({"command": "echo hello"}))
    }
}

/// A first attempt by request that may run at `at`.
pub(crate) fn row(at: Timestamp) -> NewExecution {
    let first = NewExecution::first(Trigger::Api, task(), Priority::Medium, at);
    NewExecution { created_by: Some("test".to_owned()), ..first }
}

/// The row of a schedule's planned instant.
pub(crate) fn planned(schedule: &Schedule, at: Timestamp) -> NewExecution {
    NewExecution {
        schedule_id: Some(schedule.id),
        schedule_name: Some(schedule.definition.name.clone()),
        trigger: Trigger::Schedule,
        ..row(at)
    }
}

/// The next attempt of a chain.
pub(crate) fn retry_of(execution: &Execution, at: Timestamp) -> NewExecution {
    NewExecution {
        execution_id: Uuid::now_v7(),
        trigger: Trigger::Retry,
        attempt: execution.new.attempt + 1,
        retry_of: Some(execution.id),
        available_at: at,
        failures_before: execution.new.failures_before + 1,
        ..NewExecution::clone(&execution.new)
    }
}

pub(crate) fn firing(
    schedule: &Schedule,
    instants: &[Timestamp],
    next: Option<Timestamp>,
) -> Firing {
    Firing {
        catch_up: 0,
        catch_up_spacing: None,
        schedule_id: schedule.id,
        expected_next: schedule.next_run_at,
        expected_version: schedule.version,
        executions: instants.iter().map(|at| Arc::new(planned(schedule, *at))).collect(),
        overlap_limit: None,
        makes_room: false,
        settled_at: None,
        next_if_left: None,
        ledger: Vec::new(),
        next_run_at: next,
        exhausted: false,
    }
}

pub(crate) fn claimant(slots: usize) -> ClaimHere {
    let boot_id = Uuid::new_v4();
    ClaimHere { claimant: Claimant { boot_id, node_id: "node-a".to_owned() }, slots, high_only: 0 }
}

pub(crate) fn completed(execution: &Execution) -> Finish {
    Finish {
        row: Arc::new(execution.clone()),
        lease_owner: execution.lease_owner.unwrap_or_default(),
        status: ExecutionStatus::Completed,
        result: Some(Arc::new(json!({"exitCode": 0, "stdout": "hello\n"}))),
        error: None,
        conductor_thread_id: None,
        usage: None,
        conductor_status: None,
        failure: None,
    }
}

pub(crate) fn cancelled(execution: &Execution) -> Finish {
    Finish { status: ExecutionStatus::Cancelled, result: None, ..completed(execution) }
}

pub(crate) fn failed(execution: &Execution, decision: RecoveryDecision) -> Finish {
    Finish {
        status: ExecutionStatus::Failed,
        result: None,
        error: Some(ExecutionError {
            kind: "exit_code".to_owned(),
            message: "exit code 1".to_owned(),
            transient: true,
        }),
        failure: Some(FailureEntry {
            error_type: ErrorType::ExecutionFailure,
            severity: Severity::High,
            fingerprint: "abc".to_owned(),
            pattern: "exit code #".to_owned(),
            exit_code: Some(1),
            max_retry_attempts: 3,
            decision,
        }),
        ..completed(execution)
    }
}

pub(crate) const SPENT: RecoveryDecision =
    RecoveryDecision::GiveUp { status: RecoveryStatus::Escalated, cause: "attempts_spent" };
pub(crate) const PERMANENT: RecoveryDecision =
    RecoveryDecision::GiveUp { status: RecoveryStatus::Unresolved, cause: "permanent" };

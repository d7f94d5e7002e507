//! What the built-in functions ask of the running system.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::domain::execution::ExecutionStatus;
use crate::domain::task::TaskError;
use crate::runtime::executor::launcher::Launcher;
use crate::runtime::guard::StoreHealth;
use crate::store::{Store, StoreError};
use crate::tasks::function::FunctionServices;

/// Executions deleted in one transaction.
const DELETE_BATCH: i64 = 500;
/// The states in which an execution may be deleted.
const ENDED: &[ExecutionStatus] = &[
    ExecutionStatus::Completed,
    ExecutionStatus::Failed,
    ExecutionStatus::Timeout,
    ExecutionStatus::Cancelled,
    ExecutionStatus::Skipped,
];

/// The services of this process.
pub struct Services {
    store: Store,
    clock: Clock,
    launcher: Launcher,
    health: Arc<StoreHealth>,
}

impl Services {
    /// Services over these parts.
    #[must_use]
    pub fn new(store: Store, clock: Clock, launcher: Launcher, health: Arc<StoreHealth>) -> Self {
        Self { store, clock, launcher, health }
    }
}

fn unavailable(error: StoreError) -> TaskError {
    TaskError::new("internal", error.to_string())
}

#[async_trait]
impl FunctionServices for Services {
    async fn health_check(&self) -> Result<Value, TaskError> {
        self.store.ping().await.map_err(unavailable)?;
        let running = self.launcher.running();
        Ok(json!({
            "status": "ok",
            "database": { "backend": self.store.backend_name(), "outages": self.health.outages() },
            "executor": { "running": running.len(), "slots": running.slots() },
        }))
    }

    async fn collect_metrics(&self) -> Result<Value, TaskError> {
        let executions = self.store.execution_counts().await.map_err(unavailable)?;
        let schedules = self.store.schedule_counts().await.map_err(unavailable)?;
        let letters = self.store.dead_letter_stats().await.map_err(unavailable)?;
        Ok(json!({
            "executions": {
                "ready": executions.ready,
                "later": executions.later,
                "running": executions.running,
            },
            "schedules": { "enabled": schedules.enabled, "paused": schedules.paused },
            "deadLetters": letters.pending,
        }))
    }

    async fn delete_old_executions(
        &self,
        older_than_days: u32,
        status: Option<String>,
    ) -> Result<u64, TaskError> {
        let statuses = match status.as_deref() {
            None => ENDED.to_vec(),
            Some(word) => match ExecutionStatus::parse(word).filter(|s| s.is_terminal()) {
                Some(status) => vec![status],
                None => {
                    let message = format!("`{word}` is not the status of an ended execution");
                    return Err(TaskError::new("invalid_config", message));
                }
            },
        };
        let before = self.clock.now() - chrono::Duration::days(i64::from(older_than_days));
        let mut deleted = 0;
        loop {
            let (batch, more) = self
                .store
                .execution_delete_ended(before, statuses.clone(), DELETE_BATCH)
                .await
                .map_err(unavailable)?;
            deleted += batch;
            if !more {
                return Ok(deleted);
            }
        }
    }
}

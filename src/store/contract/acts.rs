//! The contract: what people do and what is kept of it, and what needs them.

use std::collections::HashMap;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::act::{Act, AuditEntry};
use crate::domain::attention::Facts;
use crate::domain::error_record::ErrorRecord;
use crate::store::{
    ActedExecution, AttentionLimits, AuditFilter, ErrorPageFilter, ExecutionActs, ExecutionKey,
    KeysetPage, KeysetRequest, OutcomeSetting, Store, StoreResult, run,
};

impl Store {
    /// Writes the audit row of an act that is not carried out in the store.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn audit_append(&self, act: Act) -> StoreResult<()> {
        run!(self, write, audit::audit_append(act))
    }

    /// A page of the audit log, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn audit_list(
        &self,
        filter: AuditFilter,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<AuditEntry>> {
        run!(self, read, audit::audit_list(filter, page))
    }

    /// What people did to these executions, by row id; those to which nobody did anything are left
    /// out.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_acts_of(
        &self,
        ids: Vec<i64>,
    ) -> StoreResult<HashMap<i64, ExecutionActs>> {
        run!(self, read, acts::execution_acts_of(ids))
    }

    /// Ends a waiting execution as `skipped`, and its chain with it; `WrongState{not_waiting}` for
    /// any other.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_skip(&self, key: ExecutionKey) -> StoreResult<ActedExecution> {
        run!(self, write, acts::execution_skip(key))
    }

    /// Marks a running command as paused, for its node to obey; again is no error.
    /// `WrongState{not_running, not_pausable, being_cancelled}`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_pause(
        &self,
        key: ExecutionKey,
        reason: Option<String>,
    ) -> StoreResult<ActedExecution> {
        run!(self, write, acts::execution_pause(key, reason))
    }

    /// Takes the mark of a pause away; `WrongState{not_paused}`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_resume(
        &self,
        key: ExecutionKey,
        reason: Option<String>,
    ) -> StoreResult<ActedExecution> {
        run!(self, write, acts::execution_resume(key, reason))
    }

    /// The running rows of this boot that are to stand still, and since when.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_list_paused(&self, boot_id: Uuid) -> StoreResult<Vec<(i64, Timestamp)>> {
        run!(self, read, acts::execution_list_paused(boot_id))
    }

    /// Sets the outcome of a chain that failed or waits, by a person's word: its newest attempt
    /// gets the override (one that waits is skipped), a planned retry is withdrawn, its error is
    /// resolved or ignored, its letter leaves the queue. `WrongState{still_running, wrong_state}`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_override(
        &self,
        key: ExecutionKey,
        setting: OutcomeSetting,
    ) -> StoreResult<ActedExecution> {
        run!(self, write, acts::execution_override(key, setting))
    }

    /// Gives an error to somebody; `None` takes it from whoever has it.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_assign(
        &self,
        id: i64,
        assignee: Option<String>,
    ) -> StoreResult<ErrorRecord> {
        run!(self, write, acts::error_assign(id, assignee))
    }

    /// Asks for help with an error, of somebody when one is named.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_escalate(
        &self,
        id: i64,
        assignee: Option<String>,
        notes: Option<String>,
    ) -> StoreResult<ErrorRecord> {
        run!(self, write, acts::error_escalate(id, assignee, notes))
    }

    /// A page of error records, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_page(
        &self,
        filter: ErrorPageFilter,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<ErrorRecord>> {
        run!(self, read, acts::error_page(filter, page))
    }

    /// What needs a person, as far as the store knows.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn attention_facts(&self, limits: AttentionLimits) -> StoreResult<Facts> {
        run!(self, read, attention::attention_facts(limits))
    }
}

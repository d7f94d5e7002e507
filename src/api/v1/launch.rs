//! Making executions on request: the rows, the claim in the creating transaction, the hand-over.

use serde_json::Value;

use crate::api::auth::Principal;
use crate::api::call::{Call, accepted, replayed};
use crate::api::error::{Answer, ApiError};
use crate::api::wire::views;
use crate::clock::Timestamp;
use crate::domain::execution::{
    Execution, ExecutionStatus, NewExecution, Priority, TaskSnapshot, Trigger,
};
use crate::domain::key::Role;
use crate::runtime::executor::launcher::ClaimTicket;
use crate::runtime::handles::{Handles, Wake};
use crate::store::{ClaimHere, Creation, ExecutionCreate, StoredAnswer};

/// The task type whose configuration a shell will run.
const SHELL: &str = "shell_command";

/// Refuses whoever supplies or changes what a shell will run without being admin.
///
/// # Errors
/// 403 `shell_needs_admin`.
pub(super) fn check_shell(
    principal: &Principal,
    task_type: &str,
    supplies_config: bool,
) -> Result<(), ApiError> {
    if task_type != SHELL || !supplies_config || principal.role.allows(Role::Admin) {
        return Ok(());
    }
    let detail = "what a shell will run is for the role admin; this key may run it unchanged";
    Err(ApiError::forbidden("shell_needs_admin", detail))
}

/// What a new row needs beside its task.
pub(in crate::api) struct Order {
    /// What to run.
    pub(in crate::api) task: TaskSnapshot,
    /// What made it.
    pub(in crate::api) trigger: Trigger,
    /// How urgent.
    pub(in crate::api) priority: Priority,
    /// When it is due.
    pub(in crate::api) due: Timestamp,
    /// The schedule and its name.
    pub(in crate::api) schedule: Option<(i64, Option<String>)>,
}

/// The first attempt of a new chain.
pub(in crate::api) fn new_chain(call: &Call, order: Order) -> NewExecution {
    let (schedule_id, schedule_name) =
        order.schedule.map_or((None, None), |(id, name)| (Some(id), name));
    NewExecution {
        schedule_id,
        schedule_name,
        traceparent: Some(call.context.traceparent.to_string()),
        created_by: call.principal.as_ref().map(|principal| principal.name.clone()),
        ..NewExecution::first(order.trigger, order.task, order.priority, order.due)
    }
}

/// A slot reserved for a row that is about to be made; dropped unused, it goes back.
pub(super) struct Reservation<'a> {
    handles: &'a dyn Handles,
    ticket: Option<ClaimTicket>,
}

impl<'a> Reservation<'a> {
    /// Reserves a slot for one row, if one is free and the row may start now.
    pub(super) fn one(handles: &'a dyn Handles, starts_now: bool) -> Self {
        let ticket = if starts_now { handles.claim_here(1) } else { None };
        Self { handles, ticket }
    }

    /// What goes into the store operation.
    pub(super) fn claim(&self) -> Option<ClaimHere> {
        self.ticket.as_ref().map(|ticket| ticket.claim.clone())
    }

    /// Hands a made row over: to the executor here when it was claimed, else by a wake-up.
    pub(super) fn launch(self, execution: &Execution) {
        if self.ticket.is_some() && execution.status == ExecutionStatus::Running {
            self.handles.launched(vec![execution.clone()], self.ticket);
        } else {
            drop(self.ticket);
            self.handles.wake(Wake::Executor);
        }
    }
}

/// Stores one execution and answers 202.
///
/// # Errors
/// What the store says.
pub(super) async fn create(call: &Call, row: NewExecution, limit: Option<i32>) -> Answer {
    let idempotency = call.idempotency(|execution: &Execution, is_old| StoredAnswer {
        status: 202,
        body: answer(execution, is_old).to_string(),
    })?;
    let starts_now = row.available_at <= call.state.clock().now();
    let reservation = Reservation::one(call.state.handles(), starts_now);
    let claim = reservation.claim();
    let request = ExecutionCreate { row, limit, claim, idempotency };
    match call.state.store().execution_create(request).await? {
        Creation::New(execution) => {
            let answer = accepted(&answer(&execution, false));
            reservation.launch(&execution);
            answer
        }
        Creation::Replayed(answer) => replayed(answer),
        Creation::Existing(execution) => accepted(&answer(&execution, true)),
    }
}

/// What is said of an execution that was made, or that waited or ran already.
fn answer(execution: &Execution, is_old: bool) -> Value {
    let mut body = views::accepted(execution);
    if let Some(object) = body.as_object_mut().filter(|_| is_old) {
        object.insert("deduplicated".to_owned(), true.into());
    }
    body
}

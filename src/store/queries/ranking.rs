//! Another urgency for an execution that waits.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::super::locked;
use super::{Tx, executions};
use crate::domain::event::NewEvent;
use crate::domain::execution::{Execution, ExecutionStatus, NewExecution};
use crate::domain::execution_event::ExecutionEvent;
use crate::store::models::ExecutionRow;
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::task_executions as t;
use crate::store::sql_types::{Instant, JsonDoc};
use crate::store::{ExecutionKey, Reranking};

pub(crate) async fn execution_rerank(
    tx: &mut Tx,
    key: &ExecutionKey,
    change: &Reranking,
) -> OpResult<Execution> {
    let found = executions::execution_get(tx, key).await?;
    let row: Option<ExecutionRow> =
        locked!(t::table.filter(t::id.eq(found.id)).select(ExecutionRow::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    let mut execution: Execution =
        row.ok_or_else(|| not_found("execution", found.id))?.try_into()?;
    if execution.status != ExecutionStatus::Pending {
        let detail = format!("execution {} is {} and waits no more", found.id, execution.status);
        return Err(wrong_state("not_waiting", detail));
    }
    let before = execution.new.priority;
    let mut new = NewExecution::clone(&execution.new);
    new.priority = change.priority.unwrap_or(new.priority);
    if change.order.is_some() {
        new.task.options.admission.order = change.order;
    }
    diesel::update(t::table.filter(t::id.eq(execution.id)))
        .set((
            t::priority_rank.eq(new.priority.rank()),
            t::rank_at.eq(Instant(new.rank_at())),
            t::options.eq(new.task.options.document().map(JsonDoc)),
        ))
        .execute(tx.conn())
        .await?;
    let plain = NewEvent::from(ExecutionEvent::of(&execution));
    tx.event(NewEvent {
        event_type: "execution_priority_changed",
        payload: json!({
            "id": execution.id,
            "executionId": new.execution_id,
            "scheduleId": new.schedule_id,
            "scheduleName": new.schedule_name,
            "priority": new.priority,
            "before": before,
            "order": new.task.options.admission.order,
            "by": change.by,
        })
        .to_string(),
        ..plain
    });
    execution.new = std::sync::Arc::new(new);
    tx.changed(executions::waiting_topic(&execution));
    Ok(execution)
}

//! Retry budgets: how many retries a schedule was granted lately, a chain's own without a schedule.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::super::locked;
use super::Tx;
use crate::domain::error_record::{RecoveryDecision, RecoveryStatus};
use crate::domain::execution::Execution;
use crate::domain::recovery::Charge;
use crate::store::op::OpResult;
use crate::store::schema::retry_budgets::{self as t, dsl};
use crate::store::sql_types::{Instant, JsonDoc};

/// Why a chain was given up that its schedule's budget did not let try again.
const CAUSE: &str = "retry_budget_spent";

/// The decision, if the budget allows it; takes a retry from it. Lost nodes and interruptions are
/// charged to no budget of the user's.
pub(super) async fn within(
    tx: &mut Tx,
    execution: &Execution,
    decision: &RecoveryDecision,
) -> OpResult<RecoveryDecision> {
    let budget = execution.new.task.options.recovery.retry_budget;
    let kind = execution.error.as_ref().map_or("", |error| error.kind.as_str());
    let Some(budget) = budget.filter(|_| {
        matches!(decision, RecoveryDecision::RetryAt(_)) && Charge::of(kind) == Charge::Failure
    }) else {
        return Ok(decision.clone());
    };
    let key = match execution.new.schedule_id {
        Some(id) => format!("schedule:{id}"),
        None => format!("chain:{}", execution.new.chain_id),
    };
    let now = tx.now().await?;
    let stored: Option<JsonDoc> =
        locked!(dsl::retry_budgets.filter(t::key.eq(&key)).select(t::taken))
            .get_result(tx.conn())
            .await
            .optional()?;
    let mut taken: Vec<DateTime<Utc>> =
        stored.and_then(|document| serde_json::from_value(document.0).ok()).unwrap_or_default();
    if !budget.take(&mut taken, now) {
        let status = RecoveryStatus::Unresolved;
        return Ok(RecoveryDecision::GiveUp { status, cause: CAUSE });
    }
    let taken = JsonDoc(serde_json::to_value(taken).unwrap_or_default());
    diesel::insert_into(dsl::retry_budgets)
        .values((t::key.eq(key), t::taken.eq(taken), t::updated_at.eq(Instant(now))))
        .on_conflict(t::key)
        .do_update()
        .set((t::taken.eq(excluded(t::taken)), t::updated_at.eq(excluded(t::updated_at))))
        .execute(tx.conn())
        .await?;
    Ok(decision.clone())
}

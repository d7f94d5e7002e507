//! Another urgency for an execution that waits.

use crate::api::call::{Call, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::v2::queues::who;
use crate::api::wire::body::Fields;
use crate::api::wire::options::admission::ORDER_MAX;
use crate::api::wire::views;
use crate::domain::execution::Priority;
use crate::store::Reranking;

/// `PUT /executions/{id}/priority {priority?, order?}`, and the same by POST.
pub(crate) async fn set(call: Call) -> Answer {
    call.no_query()?;
    let key = call.execution_key()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["priority", "order"], &[])?;
    let priority = fields.word::<Priority>("priority");
    let order = fields.integer("order", -ORDER_MAX..=ORDER_MAX);
    fields.finish()?;
    if priority.is_none() && order.is_none() {
        let message = "give `priority`, `order` or both";
        return Err(ApiError::invalid_field("priority", "required", message));
    }
    let order = order.and_then(|order| i32::try_from(order).ok());
    let change = Reranking { priority, order, by: who(&call) };
    ok(&views::execution(&call.state.store().execution_rerank(key, change).await?))
}

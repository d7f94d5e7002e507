//! What a clock that was set back leaves waiting.
//!
//! A row that was written in what is the future now was written before the step. What it had to
//! wait for counts from then, so it is given the wait that it had, and counts as written now. That
//! can be seen from the row alone: any number of nodes may do it, at any time, also after a step
//! that no process saw.

use diesel_async::RunQueryDsl;

use super::Tx;
use crate::store::Topic;
use crate::store::op::OpResult;
use crate::store::sql_types::{Instant, sql};

const WAITING: &str = "UPDATE task_executions SET available_at = CASE \
    WHEN available_at > created_at THEN $1 + (available_at - created_at) ELSE $1 END, \
    rank_at = CASE WHEN available_at > created_at THEN $1 + (rank_at - created_at) \
    ELSE $1 + (rank_at - available_at) END, created_at = $1 \
    WHERE status = 'pending' AND created_at > $1 AND available_at > $1";

const RETRIES: &str = "UPDATE error_records SET next_retry_at = CASE \
    WHEN next_retry_at > updated_at THEN $1 + (next_retry_at - updated_at) ELSE $1 END, updated_at = $1 \
    WHERE next_retry_at > $1 AND updated_at > $1";

/// Not what quiet hours hold: that waits for what the wall shows.
const ALERTS: &str = "UPDATE alerts SET \
    next_at = CASE WHEN next_at = due_at THEN $1 + (due_at - last_at) ELSE next_at END, \
    due_at = CASE WHEN due_at > last_at THEN $1 + (due_at - last_at) ELSE due_at END, last_at = $1 \
    WHERE next_at IS NOT NULL AND next_at > $1 AND last_at > $1 AND NOT held";

const MESSAGES: &str = "UPDATE alert_messages SET next_at = $1, created_at = $1 \
    WHERE next_at IS NOT NULL AND next_at > $1 AND created_at > $1";

pub(crate) async fn clock_set_back(tx: &mut Tx) -> OpResult<u64> {
    let now = Instant(tx.now().await?);
    let mut changed = 0;
    let statements = [
        (WAITING, Topic::Pending),
        (RETRIES, Topic::Retries),
        (ALERTS, Topic::State),
        (MESSAGES, Topic::State),
    ];
    for (statement, topic) in statements {
        let rows =
            diesel::sql_query(statement).bind::<sql::Instant, _>(now).execute(tx.conn()).await?;
        if rows > 0 {
            tx.changed(topic);
        }
        changed += u64::try_from(rows).unwrap_or(u64::MAX);
    }
    Ok(changed)
}

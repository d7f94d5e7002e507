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

pub(crate) async fn clock_set_back(tx: &mut Tx) -> OpResult<u64> {
    let now = Instant(tx.now().await?);
    let mut changed = 0;
    for (statement, topic) in [(WAITING, Topic::Pending), (RETRIES, Topic::Retries)] {
        let rows =
            diesel::sql_query(statement).bind::<sql::Instant, _>(now).execute(tx.conn()).await?;
        if rows > 0 {
            tx.changed(topic);
        }
        changed += u64::try_from(rows).unwrap_or(u64::MAX);
    }
    Ok(changed)
}

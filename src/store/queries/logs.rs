//! Lines of tasks' output. Appending a line again changes nothing.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::documents::{LogDocument, document};
use super::{Tx, hot};
use crate::store::LogRow;
use crate::store::models::LogRowRaw;
use crate::store::op::OpResult;
use crate::store::schema::execution_logs as t;

pub(crate) async fn log_append(tx: &mut Tx, rows: &[LogRow]) -> OpResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let documents: Vec<_> = rows.iter().map(LogDocument::of).collect();
    hot::insert_logs(tx.conn(), document(&documents)?).await
}

pub(crate) async fn log_list(
    tx: &mut Tx,
    execution_id: &i64,
    after: &i64,
    limit: &i64,
) -> OpResult<Vec<LogRow>> {
    let rows: Vec<LogRowRaw> = t::table
        .filter(t::execution_id.eq(*execution_id))
        .filter(t::line.gt(*after))
        .order(t::line.asc())
        .limit(*limit)
        .select(LogRowRaw::as_select())
        .load(tx.conn())
        .await?;
    Ok(rows.into_iter().map(LogRow::from).collect())
}

//! Lines of tasks' output. Appending a line again changes nothing.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_async::RunQueryDsl;

use super::super::Db;
use super::documents::{LogDocument, document};
use super::schedules::pattern_of;
use super::{Tx, hot};
use crate::store::models::LogRowRaw;
use crate::store::op::OpResult;
use crate::store::schema::execution_logs as t;
use crate::store::{LogFilter, LogRow, LogTrim};

/// Trims come first: the line that states a gap takes the place of the one that stated a smaller.
pub(crate) async fn log_roll(tx: &mut Tx, rows: &[LogRow], trims: &[LogTrim]) -> OpResult<()> {
    for trim in trims {
        let gone = t::table
            .filter(t::execution_id.eq(trim.execution_id))
            .filter(t::line.between(trim.from, trim.to))
            .filter(t::stream.eq(&trim.stream));
        diesel::delete(gone).execute(tx.conn()).await?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    let documents: Vec<_> = rows.iter().map(LogDocument::of).collect();
    hot::insert_logs(tx.conn(), document(&documents)?).await
}

pub(crate) async fn log_search(
    tx: &mut Tx,
    execution_id: &i64,
    after: &i64,
    limit: &i64,
    filter: &LogFilter,
) -> OpResult<Vec<LogRow>> {
    let mut query = t::table
        .filter(t::execution_id.eq(*execution_id))
        .filter(t::line.gt(*after))
        .into_boxed::<Db>();
    if let Some(stream) = &filter.stream {
        query = query.filter(t::stream.eq(stream.clone()));
    }
    if let Some(text) = &filter.text {
        let [before, after] = hot::LINE_CONTAINS;
        query = query.filter(sql::<Bool>(before).bind::<Text, _>(pattern_of(text)).sql(after));
    }
    let rows: Vec<LogRowRaw> = query
        .order(t::line.asc())
        .limit(*limit)
        .select(LogRowRaw::as_select())
        .load(tx.conn())
        .await?;
    Ok(rows.into_iter().map(LogRow::from).collect())
}

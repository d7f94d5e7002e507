//! Rows as JSON: the one parameter of a set-based statement.
//!
//! JSON columns travel as text inside the JSON, so that both back ends store exactly what was
//! given. Instants take the form their back end reads fastest (`hot::At`).

use serde::Serialize;

use super::hot::At;
use crate::domain::schedule::LedgerRange;
use crate::store::LogRow;
use crate::store::op::{OpResult, corrupt};
use crate::store::sql_types::without_nul;

/// The text of a list of documents.
pub(crate) fn document<T: Serialize>(rows: &[T]) -> OpResult<String> {
    serde_json::to_string(rows)
        .map(without_nul)
        .map_err(|error| corrupt("document", &error.to_string()))
}

/// A row of `schedule_ledger` to be inserted.
#[derive(Serialize)]
pub(crate) struct LedgerDocument {
    schedule_id: i64,
    from_at: At,
    to_at: At,
    instants: i64,
    reason: &'static str,
    created_at: At,
}

impl LedgerDocument {
    pub(crate) const fn of(schedule_id: i64, range: &LedgerRange, created_at: At) -> Self {
        Self {
            schedule_id,
            from_at: At(range.from),
            to_at: At(range.to),
            instants: range.count,
            reason: range.reason.as_str(),
            created_at,
        }
    }
}

/// A row of `execution_logs` to be inserted.
#[derive(Serialize)]
pub(crate) struct LogDocument<'a> {
    execution_id: i64,
    line: i64,
    at: At,
    stream: &'a str,
    text: &'a str,
    continues: bool,
    dropped_lines: Option<i64>,
    dropped_bytes: Option<i64>,
}

impl<'a> LogDocument<'a> {
    pub(crate) fn of(row: &'a LogRow) -> Self {
        Self {
            execution_id: row.execution_id,
            line: row.line,
            at: At(row.at),
            stream: &row.stream,
            text: &row.text,
            continues: row.continues,
            dropped_lines: row.dropped.map(|dropped| dropped.lines),
            dropped_bytes: row.dropped.map(|dropped| dropped.bytes),
        }
    }
}

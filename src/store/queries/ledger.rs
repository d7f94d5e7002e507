//! What became of planned instants: executions and ledger ranges, merged in the order of time.
//!
//! Both parts come from an index in that order, so a page costs by what it passes over, not by what
//! the schedule has. A range is named by its last instant: ranges of a schedule do not overlap, so
//! that order is the order of their beginnings too.

use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::super::Db;
use super::{Tx, page_of};
use crate::clock::Timestamp;
use crate::domain::execution::ExecutionStatus;
use crate::domain::schedule::LedgerReason;
use crate::store::models::LedgerRowRaw;
use crate::store::op::{OpError, OpResult, corrupt};
use crate::store::schema::schedule_ledger;
use crate::store::sql_types::{Instant, Uid, sql};
use crate::store::{
    InstantOutcome, LedgerRow, MISSED_OF_SCHEDULE, OutcomeRow, OutcomeSpan, Page, PageRequest,
    RAN_OF_SCHEDULE, TOTAL_CAP,
};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = sql::Instant)]
    from_at: Instant,
    #[diesel(sql_type = sql::Instant)]
    to_at: Instant,
    #[diesel(sql_type = BigInt)]
    instants: i64,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    id: Option<i64>,
    #[diesel(sql_type = Nullable<sql::Uid>)]
    execution_id: Option<Uid>,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
    #[diesel(sql_type = Nullable<sql::Instant>)]
    started_at: Option<Instant>,
    #[diesel(sql_type = Nullable<BigInt>)]
    lateness_ms: Option<i64>,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    matching: i64,
}

impl TryFrom<Row> for OutcomeRow {
    type Error = OpError;

    fn try_from(row: Row) -> OpResult<Self> {
        let outcome = match (row.reason, row.id, row.execution_id, row.status) {
            (Some(reason), ..) => InstantOutcome::Missed(
                LedgerReason::parse(&reason).ok_or_else(|| corrupt("ledger reason", &reason))?,
            ),
            (None, Some(id), Some(execution_id), Some(status)) => InstantOutcome::Execution {
                id,
                execution_id: execution_id.0,
                status: ExecutionStatus::parse(&status)
                    .ok_or_else(|| corrupt("execution status", &status))?,
                started_at: row.started_at.map(|at| at.0),
                lateness_ms: row.lateness_ms,
            },
            _ => return Err(corrupt("outcome", "a row without one")),
        };
        Ok(Self { from: row.from_at.0, to: row.to_at.0, count: row.instants, outcome })
    }
}

pub(crate) async fn ledger_outcomes(
    tx: &mut Tx,
    span: &OutcomeSpan,
    page: &PageRequest,
) -> OpResult<Page<OutcomeRow>> {
    let both = format!(
        "SELECT * FROM ({RAN_OF_SCHEDULE}) AS ran UNION ALL \
         SELECT * FROM ({MISSED_OF_SCHEDULE}) AS missed"
    );
    let rows: Vec<Row> = diesel::sql_query(format!(
        "SELECT * FROM ({both}) AS outcomes ORDER BY to_at LIMIT $5 OFFSET $6"
    ))
    .bind::<BigInt, _>(span.schedule_id)
    .bind::<sql::Instant, _>(Instant(span.from))
    .bind::<sql::Instant, _>(Instant(span.to))
    .bind::<BigInt, _>(page.limit.saturating_add(page.offset))
    .bind::<BigInt, _>(page.limit)
    .bind::<BigInt, _>(page.offset)
    .load(tx.conn())
    .await?;
    let length = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let matching = if length < page.limit && (length > 0 || page.offset == 0) {
        page.offset + length
    } else {
        let counted: CountRow =
            diesel::sql_query(format!("SELECT count(*) AS matching FROM ({both}) AS outcomes"))
                .bind::<BigInt, _>(span.schedule_id)
                .bind::<sql::Instant, _>(Instant(span.from))
                .bind::<sql::Instant, _>(Instant(span.to))
                .bind::<BigInt, _>(TOTAL_CAP + 1)
                .get_result(tx.conn())
                .await?;
        counted.matching
    };
    Ok(Page {
        items: rows.into_iter().map(OutcomeRow::try_from).collect::<OpResult<_>>()?,
        total: matching.min(TOTAL_CAP),
        total_capped: matching > TOTAL_CAP,
    })
}

pub(crate) async fn ledger_last(tx: &mut Tx, schedule_id: &i64) -> OpResult<Option<Timestamp>> {
    let last: Option<Instant> = schedule_ledger::table
        .filter(schedule_ledger::schedule_id.eq(*schedule_id))
        .order(schedule_ledger::to_at.desc())
        .select(schedule_ledger::to_at)
        .first(tx.conn())
        .await
        .optional()?;
    Ok(last.map(|at| at.0))
}

pub(crate) async fn ledger_list(
    tx: &mut Tx,
    schedule_id: &i64,
    page: &PageRequest,
) -> OpResult<Page<LedgerRow>> {
    let of_schedule = || {
        schedule_ledger::table
            .filter(schedule_ledger::schedule_id.eq(*schedule_id))
            .into_boxed::<Db>()
    };
    page_of!(tx, *page, of_schedule(), schedule_ledger::id, LedgerRowRaw)
}

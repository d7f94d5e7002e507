//! Schedules that are read by id at the same time are read by one statement.
//!
//! Who asks for a run by a schedule reads it first, so that under many such requests every other
//! statement would be this one. A read begins after it was asked for, together or alone, and shows
//! what was committed by then.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::queries::{Op, op};
use super::together::{Asked, Together};
use super::{Core, STATEMENT_MAX, errors};
use crate::domain::schedule::Schedule;
use crate::store::models::ScheduleRow;
use crate::store::op::not_found;
use crate::store::schema::task_schedules as t;
use crate::store::{StoreError, StoreResult};

/// The operation, as errors name it.
const NAME: &str = "schedule_get";

/// Where reads of schedules wait for the next statement.
pub(super) struct Lookups(Together<i64, Schedule>);

impl Lookups {
    /// Starts the loop that reads; it ends with the store.
    pub(super) fn start(handle: &Handle, core: &Arc<Core>) -> Self {
        let core = Arc::clone(core);
        let work = move |asked| answer(Arc::clone(&core), asked);
        Self(Together::start(handle, None, work))
    }

    /// The schedule.
    pub(super) async fn schedule(&self, id: i64) -> StoreResult<Schedule> {
        self.0.ask(id).await
    }
}

async fn answer(core: Arc<Core>, asked: Vec<Asked<i64, Schedule>>) {
    let mut ids: Vec<i64> = asked.iter().map(|one| one.question).collect();
    ids.sort_unstable();
    ids.dedup();
    let late = |_| StoreError::Unavailable(format!("{NAME} took too long"));
    let read = timeout(STATEMENT_MAX * 2, core.read(NAME, &rows(ids))).await;
    match read.map_err(late).flatten() {
        Ok(rows) => {
            let rows: HashMap<i64, ScheduleRow> =
                rows.into_iter().map(|row| (row.id, row)).collect();
            for one in asked {
                let row = rows.get(&one.question).cloned();
                let row = row.ok_or_else(|| not_found("schedule", one.question));
                let schedule = row.and_then(Schedule::try_from);
                one.answer(schedule.map_err(|error| errors::store_error(NAME, error)));
            }
        }
        Err(error) => asked.into_iter().for_each(|one| one.answer(Err(error.repeated()))),
    }
}

fn rows(ids: Vec<i64>) -> Op<Vec<ScheduleRow>> {
    let ids: Arc<[i64]> = ids.into();
    op(move |tx| {
        let ids = Arc::clone(&ids);
        Box::pin(async move {
            let query = t::table.filter(t::id.eq_any(&*ids)).select(ScheduleRow::as_select());
            Ok(query.load(tx.conn()).await?)
        })
    })
}

//! What v2 adds to schedules: skipping ahead.

use crate::api::call::Call;
use crate::api::error::{Answer, ApiError};
use crate::api::v1::planning::stored_cadence;
use crate::api::v1::schedules::{EDIT_ATTEMPTS, answer_with};
use crate::api::wire::body::Fields;
use crate::clock::Timestamp;
use crate::domain::cadence::Cadence;
use crate::domain::schedule::{LedgerRange, LedgerReason, Schedule};
use crate::runtime::handles::Wake;
use crate::runtime::meter;
use crate::store::{MOVED_MEANWHILE, SkipAhead, StoreError};

/// Instants that one request skips at most.
const COUNT_MAX: i64 = 1_000;

/// `POST /schedules/{id}/skip-next {count?}`: the next planned instants do not run; the ledger
/// tells of them at once, with the reason `skipped`.
pub(crate) async fn skip_next(call: Call) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let mut fields = Fields::of(&body, &["count"], &[])?;
    let count = fields.integer("count", 1..=COUNT_MAX).unwrap_or(1);
    fields.finish()?;
    let id = call.id()?;
    let store = call.state.store();
    for attempt in 1.. {
        let schedule = store.schedule_get(id).await?;
        let cadence = stored_cadence(&call, &schedule).await?;
        let now = call.state.clock().now();
        let skip = plan(&schedule, cadence.as_ref(), usize::try_from(count).unwrap_or(1), now)?;
        let ledger = [skip.range.clone()];
        match store.schedule_skip(skip).await {
            Err(
                StoreError::WrongState { code: MOVED_MEANWHILE, .. }
                | StoreError::VersionConflict { .. },
            ) if attempt < EDIT_ATTEMPTS => {}
            Err(error) => return Err(error.into()),
            Ok(schedule) => {
                meter::missed(&ledger);
                call.state.handles().wake(Wake::Scheduler);
                return answer_with(&call, &schedule).await;
            }
        }
    }
    Err(ApiError::internal("a skip ended without an answer"))
}

fn plan(
    schedule: &Schedule,
    cadence: Option<&Cadence>,
    count: usize,
    now: Timestamp,
) -> Result<SkipAhead, ApiError> {
    let (Some(first), Some(cadence)) = (schedule.next_run_at, cadence) else {
        let detail = "this schedule plans nothing; there is nothing to skip";
        return Err(ApiError::conflict("schedule_exhausted", detail));
    };
    if first <= now {
        let detail = "instants that have come are not decided yet (the schedule is paused, the \
                      scheduler is stopped, or they are about to fire); skip when they are";
        return Err(ApiError::conflict("instants_open", detail));
    }
    let until = schedule.definition.end_at.unwrap_or(Timestamp::MAX_UTC);
    let mut instants = vec![first];
    // One more than is skipped: the next to run.
    instants.extend(cadence.instants_between(first, until, count));
    let next_run_at = instants.get(count).copied();
    instants.truncate(count);
    Ok(SkipAhead {
        id: schedule.id,
        expected_version: schedule.version,
        expected_next: first,
        range: LedgerRange {
            from: first,
            to: instants.last().copied().unwrap_or(first),
            count: i64::try_from(instants.len()).unwrap_or(i64::MAX),
            reason: LedgerReason::Skipped,
        },
        next_run_at,
    })
}

//! Past events again: a schedule set off by what the inbox still has.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::super::locked;
use super::triggers::{Pass, execution_of, rule_of, standing};
use super::{Tx, idempotency, inbox};
use crate::domain::schedule::{Schedule, ScheduleType};
use crate::domain::trigger::{Delivery, DeliveryOutcome, InboxEvent};
use crate::store::inbox::REPLAY_MAX;
use crate::store::models::ScheduleRow;
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::schema::task_schedules;
use crate::store::{Creation, Dispatched, ReplayRequest, Replayed};

/// Stored events that a replay looks at.
const REPLAY_SCAN_MAX: usize = 10_000;

/// Sets a schedule off again by stored events. Dedup keys do not count: that is what a replay is
/// for; overlap and `maxExecutions` do.
pub(crate) async fn event_replay(
    tx: &mut Tx,
    request: &ReplayRequest,
) -> OpResult<Creation<Replayed>> {
    let kept = request.idempotency.as_ref();
    if let Some(answer) = idempotency::find(tx, kept).await? {
        return Ok(Creation::Replayed(answer));
    }
    let replayed = replay(tx, request).await?;
    idempotency::save(tx, kept, (&replayed, false)).await?;
    Ok(Creation::New(replayed))
}

async fn replay(tx: &mut Tx, request: &ReplayRequest) -> OpResult<Replayed> {
    let row: Option<ScheduleRow> = locked!(
        task_schedules::table
            .filter(task_schedules::id.eq(request.schedule_id))
            .select(ScheduleRow::as_select())
    )
    .get_result(tx.conn())
    .await
    .optional()?;
    let schedule: Schedule =
        row.ok_or_else(|| not_found("schedule", request.schedule_id))?.try_into()?;
    if schedule.definition.schedule_type != ScheduleType::Event {
        return Err(wrong_state("wrong_state", "only schedules of type `event` hear events"));
    }
    let rule = rule_of(&schedule.definition)?;
    let keys = rule.keys();
    let limit = i64::try_from(REPLAY_SCAN_MAX + 1).unwrap_or(i64::MAX);
    let span = (request.from, request.to);
    let found = inbox::in_span(tx, span, request.name.as_ref(), limit).await?;
    let is_cut = found.len() > REPLAY_SCAN_MAX;
    let events: Vec<InboxEvent> = found
        .into_iter()
        .filter(|event| event.keys.iter().any(|key| keys.contains(key)))
        .filter(|event| rule.admits(&event.payload))
        .collect();
    if is_cut || events.len() > REPLAY_MAX {
        let detail = format!("a replay takes {REPLAY_MAX} events at most; take a shorter span");
        return Err(wrong_state("too_many_events", detail));
    }
    let options = &schedule.definition.options.events;
    let size = options.batch.map_or(REPLAY_MAX, |batch| usize::try_from(batch.size).unwrap_or(1));
    let size = if options.collects() { size.max(1) } else { 1 };
    let runs = events.chunks(size).count();
    let mut replayed = Replayed {
        replay: Uuid::now_v7().to_string(),
        runs,
        events: events.clone(),
        ..Replayed::default()
    };
    if request.is_dry_run {
        return Ok(replayed);
    }
    let now = tx.now().await?;
    let claim = request.claim.clone();
    let mut pass = Pass { claim, now, done: Dispatched::default() };
    let mut listening = standing(tx, &schedule, &rule).await?;
    let mut made = Vec::new();
    for chunk in events.chunks(size) {
        let may_run = listening.has_room() && listening.left.is_none_or(|left| left > 0);
        let rows = if may_run { vec![execution_of(&schedule, chunk, now)] } else { Vec::new() };
        let outcome = if may_run { DeliveryOutcome::Fired } else { DeliveryOutcome::Overlap };
        let rows = pass.insert(tx, rows).await?;
        if may_run {
            listening.take();
        } else {
            replayed.overlapped += chunk.len();
        }
        for event in chunk {
            let delivery = Delivery { outcome, dedup_hash: None };
            let execution = rows.as_slice().first().map(|row| row.id);
            let place = (schedule.id, replayed.replay.as_str());
            pass.deliver(tx, place, event, (delivery, execution)).await?;
        }
        made.extend(rows);
    }
    drop(listening);
    pass.count(tx, schedule.clone(), made).await?;
    replayed.executions = pass.done.executions;
    Ok(replayed)
}

//! Events: numbered densely in commit order, read by number.

use diesel::dsl::{max, min};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Tx, hot};
use crate::domain::event::{Event, NewEvent};
use crate::store::Topic;
use crate::store::models::EventRow;
use crate::store::op::OpResult;
use crate::store::schema::{event_counter, events};

/// Appends what the transaction noted; its last statement before the commit, as it takes the lock
/// that orders commits.
pub(crate) async fn flush(tx: &mut Tx) -> OpResult<()> {
    if tx.effects.events.is_empty() {
        return Ok(());
    }
    let now = tx.now().await?;
    let noted = std::mem::take(&mut tx.effects.events);
    hot::append_events(tx.conn(), now, &noted).await
}

pub(crate) async fn event_append(tx: &mut Tx, events: &[NewEvent]) -> OpResult<()> {
    for event in events {
        tx.event(event.clone());
    }
    tx.changed(Topic::Events);
    flush(tx).await
}

pub(crate) async fn event_list(tx: &mut Tx, after: &i64, limit: &i64) -> OpResult<Vec<Event>> {
    let rows: Vec<EventRow> = events::table
        .filter(events::seq.gt(*after))
        .order(events::seq.asc())
        .limit(*limit)
        .select(EventRow::as_select())
        .load(tx.conn())
        .await?;
    rows.into_iter().map(Event::try_from).collect()
}

pub(crate) async fn event_bounds(tx: &mut Tx) -> OpResult<(i64, i64)> {
    let (oldest, newest): (Option<i64>, Option<i64>) =
        events::table.select((min(events::seq), max(events::seq))).get_result(tx.conn()).await?;
    if let (Some(oldest), Some(newest)) = (oldest, newest) {
        return Ok((oldest, newest));
    }
    let last: i64 = event_counter::table.select(event_counter::last).first(tx.conn()).await?;
    Ok(if last == 0 { (0, 0) } else { (last + 1, last) })
}

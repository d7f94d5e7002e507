//! Events: numbered densely in commit order, read by number.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::super::Db;
use super::{Tx, hot};
use crate::domain::event::{Event, NewEvent};
use crate::store::models::EventChunkRow;
use crate::store::op::OpResult;
use crate::store::schema::{event_chunks as t, event_counter};
use crate::store::statement::statement;
use crate::store::{Topic, event_chunk};

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

statement! {
    /// The number of the oldest event that is kept.
    OldestEvent<'a> => BigInt {
        => "SELECT first_seq FROM event_chunks ORDER BY last_seq LIMIT 1"
    }
}

pub(crate) async fn event_list(tx: &mut Tx, after: &i64, limit: &i64) -> OpResult<Vec<Event>> {
    let (oldest, newest) = event_bounds(tx).await?;
    // What retention removed is passed over; numbers have no holes, so that these are the chunks,
    // as many as events at most.
    let after = (*after).max(oldest - 1);
    let until = after.saturating_add(*limit).min(newest);
    if after >= until {
        return Ok(Vec::new());
    }
    let rows: Vec<EventChunkRow> = t::table
        .filter(t::last_seq.gt(after))
        .filter(t::first_seq.le(until))
        .order(t::last_seq.asc())
        .select(EventChunkRow::as_select())
        .load(tx.conn())
        .await?;
    let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
    let mut events = Vec::new();
    for row in rows {
        let stored = (row.first_seq, row.at.0, row.body.as_str());
        events.extend(event_chunk::decode(stored, after, limit - events.len())?);
    }
    Ok(events)
}

pub(crate) async fn event_bounds(tx: &mut Tx) -> OpResult<(i64, i64)> {
    let oldest: Option<i64> =
        OldestEvent { of: PhantomData }.get_result(tx.conn()).await.optional()?;
    let last: i64 = event_counter::table.select(event_counter::last).get_result(tx.conn()).await?;
    Ok(match oldest {
        Some(oldest) => (oldest, last),
        None if last == 0 => (0, 0),
        None => (last + 1, last),
    })
}

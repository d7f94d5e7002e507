//! The operations, one file an aggregate, compiled once per back end.
//!
//! Each back end includes this folder as its own module and gives it `Conn`, `Db`, `Handle`,
//! `locked!` (a row lock where there is one) and `hot` (the statements by hand). An operation is an
//! async function of a [`Tx`] and its arguments by reference: it may run again from the start when
//! the database asks for it. It notes its events and topics in the `Tx`; the runner appends the
//! events as the last statement before the commit and bumps the topics after it.
//!
//! Lock order, which keeps deadlocks away: inbox, schedules, executions, errors, letters, groups of
//! errors, breakers, the cursor of alerts, the counter; within one table by id, or by key where it
//! has one.

pub(crate) mod acts;
pub(crate) mod admission;
pub(crate) mod alert_channels;
pub(crate) mod alert_messages;
pub(crate) mod alert_rules;
pub(crate) mod alert_watch;
pub(crate) mod alerts;
pub(crate) mod attention;
pub(crate) mod audit;
pub(crate) mod backfills;
pub(crate) mod breakers;
pub(crate) mod budgets;
pub(crate) mod calendars;
pub(crate) mod clock;
pub(crate) mod creating;
pub(crate) mod dead_letters;
pub(crate) mod deadlines;
pub(crate) mod documents;
pub(crate) mod error_groups;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod executions;
pub(crate) mod finishing;
pub(crate) mod firing;
pub(crate) mod idempotency;
pub(crate) mod inbox;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod letters;
pub(crate) mod logs;
pub(crate) mod nodes;
pub(crate) mod past;
pub(crate) mod pauses;
pub(crate) mod queues;
pub(crate) mod ranking;
pub(crate) mod recovery;
pub(crate) mod replay;
pub(crate) mod retention;
pub(crate) mod schedules;
pub(crate) mod sessions;
pub(crate) mod state;
pub(crate) mod triggers;
pub(crate) mod webhooks;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use self::audit::ActNote;
use super::{Conn, Handle, gated, hot};
use crate::clock::{Clock, Timestamp};
use crate::store::Topic;
use crate::store::acts::BoundAct;
use crate::store::event_chunk::Noted;
use crate::store::op::{OpResult, TopicSet};

/// An operation, ready to be run and run again.
pub(crate) type Op<T> =
    Box<dyn for<'a> Fn(&'a mut Tx) -> BoxFuture<'a, OpResult<T>> + Send + Sync + 'static>;

/// Packs an operation.
pub(crate) fn op<T, F>(work: F) -> Op<T>
where
    F: for<'a> Fn(&'a mut Tx) -> BoxFuture<'a, OpResult<T>> + Send + Sync + 'static,
{
    Box::new(work)
}

/// What an operation does beside its rows.
#[derive(Default)]
pub(crate) struct Effects {
    /// Events to be numbered and appended before the commit.
    pub(crate) events: Vec<Noted>,
    /// Topics to be bumped after it.
    pub(crate) topics: TopicSet,
}

/// A transaction under way (for reads: a connection).
pub(crate) struct Tx {
    handle: Handle,
    clock: Clock,
    now: Option<Timestamp>,
    pub(crate) effects: Effects,
    act: Option<Arc<BoundAct>>,
    note: ActNote,
}

impl Tx {
    pub(crate) fn new(handle: Handle, clock: Clock) -> Self {
        Self {
            handle,
            clock,
            now: None,
            effects: Effects::default(),
            act: None,
            note: ActNote::default(),
        }
    }

    /// The connection.
    pub(crate) fn conn(&mut self) -> &mut Conn {
        &mut self.handle
    }

    /// Forgets what the last operation noted, and its instant.
    pub(crate) fn renew(&mut self) {
        self.now = None;
        self.effects = Effects::default();
        self.act = None;
        self.note = ActNote::default();
    }

    /// Says which act the operation belongs to: its audit row is written with its changes.
    pub(crate) fn begin_act(&mut self, act: Option<Arc<BoundAct>>) {
        self.act = act;
    }

    /// Tells the audit row what changed, `change` being asked only when there will be a row.
    pub(crate) fn audit_change(&mut self, change: impl FnOnce() -> (Value, Value)) {
        if self.act.is_some() {
            self.note.change = Some(change());
        }
    }

    /// Tells the audit row what the act was done to.
    pub(crate) fn audit_subject(&mut self, id: impl ToString) {
        if self.act.is_some() {
            self.note.subject_id = Some(id.to_string());
        }
    }

    /// The operation gives an answer again: nothing is done, nothing is audited.
    pub(crate) fn audit_replay(&mut self) {
        self.note.is_replay = true;
    }

    /// Who acts, if a person or program does.
    pub(crate) fn actor(&self) -> Option<String> {
        self.act.as_ref().map(|bound| bound.act.who.clone())
    }

    /// The instant of this operation: the database's (PostgreSQL) or the injected clock's.
    pub(crate) async fn now(&mut self) -> OpResult<Timestamp> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let now = hot::now(&mut self.handle, &self.clock).await?;
        self.now = Some(now);
        Ok(now)
    }

    /// The instant of this statement, later than that of the operation.
    pub(crate) async fn later_now(&mut self) -> OpResult<Timestamp> {
        hot::now(&mut self.handle, &self.clock).await
    }

    /// The instant by which leases are counted.
    pub(crate) async fn lease_now(&mut self) -> OpResult<Timestamp> {
        hot::lease_now(&mut self.handle, &self.clock).await
    }

    /// Notes an event.
    pub(crate) fn event(&mut self, event: impl Into<Noted>) {
        self.effects.topics.insert(Topic::Events);
        self.effects.events.push(event.into());
    }

    /// Notes a topic.
    pub(crate) fn changed(&mut self, topic: Topic) {
        self.effects.topics.insert(topic);
    }
}

/// One page of a list, newest id first, and its total: counted exactly only up to the cap, and not
/// at all when the page itself tells. `$query` is made anew for each statement.
macro_rules! page_of {
    ($tx:expr, $page:expr, $query:expr, $id:expr, $row:ty) => {{
        use diesel::dsl::count_star;
        use diesel::prelude::*;
        use diesel_async::RunQueryDsl;
        use $crate::store::TOTAL_CAP;
        let page = $page;
        let rows: Vec<$row> = $query
            .select(<$row>::as_select())
            .order($id.desc())
            .limit(page.limit)
            .offset(page.offset)
            .load($tx.conn())
            .await?;
        let length = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let matching = if length < page.limit && (length > 0 || page.offset == 0) {
            page.offset + length
        } else {
            let past_cap: Option<i64> = $query
                .select($id)
                .order($id.desc())
                .offset(TOTAL_CAP)
                .limit(1)
                .get_result($tx.conn())
                .await
                .optional()?;
            match past_cap {
                Some(_) => TOTAL_CAP + 1,
                None => $query.select(count_star()).get_result($tx.conn()).await?,
            }
        };
        let items = rows.into_iter().map(TryInto::try_into).collect::<Result<Vec<_>, _>>()?;
        Ok($crate::store::Page {
            items,
            total: matching.min(TOTAL_CAP),
            total_capped: matching > TOTAL_CAP,
        })
    }};
}
pub(crate) use page_of;

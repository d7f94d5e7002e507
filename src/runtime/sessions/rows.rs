//! The rows of live sessions (`websocket_sessions`), for people and for other nodes.
//!
//! Rows follow the truth in memory, level-triggered: the [`RowBook`] knows of each session what
//! the row should say and what was written, and names the next write that brings them together. A
//! write that failed, or whose writer crashed, is simply named again. A session that came and went
//! before anything was written leaves no row and costs no write.

use std::collections::{HashMap, VecDeque};

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use crate::store::{NewSession, Store, StoreResult};

/// The session rows of the store.
#[async_trait]
pub trait SessionRows: Send + Sync {
    /// Adds a row.
    ///
    /// # Errors
    /// Any [`crate::store::StoreError`].
    async fn open(&self, session: NewSession) -> StoreResult<()>;
    /// Writes what the session subscribed to.
    ///
    /// # Errors
    /// Any [`crate::store::StoreError`].
    async fn subscribe(&self, session_id: Uuid, subscriptions: Value) -> StoreResult<()>;
    /// Ends a row.
    ///
    /// # Errors
    /// Any [`crate::store::StoreError`].
    async fn close(&self, session_id: Uuid) -> StoreResult<()>;
    /// Ends the rows of boots that are gone and of sessions of this boot that are not `alive`.
    ///
    /// # Errors
    /// Any [`crate::store::StoreError`].
    async fn close_stale(&self, boot_id: Uuid, alive: Vec<Uuid>) -> StoreResult<u64>;
}

#[async_trait]
impl SessionRows for Store {
    async fn open(&self, session: NewSession) -> StoreResult<()> {
        self.session_open(session).await
    }

    async fn subscribe(&self, session_id: Uuid, subscriptions: Value) -> StoreResult<()> {
        self.session_subscribe(session_id, subscriptions).await
    }

    async fn close(&self, session_id: Uuid) -> StoreResult<()> {
        self.session_close(session_id).await
    }

    async fn close_stale(&self, boot_id: Uuid, alive: Vec<Uuid>) -> StoreResult<u64> {
        self.session_close_stale(boot_id, alive).await
    }
}

/// One write that is due.
#[derive(Clone, Debug)]
pub(crate) enum RowWrite {
    /// Add the row.
    Open(NewSession),
    /// Write the subscription of that version.
    Subscribe(u64, Value),
    /// End the row.
    Close,
}

#[derive(Debug)]
struct Row {
    unwritten: Option<NewSession>,
    subscription: Option<(u64, Value)>,
    versions: u64,
    is_closed: bool,
    is_listed: bool,
}

impl Row {
    fn next_write(&self) -> Option<RowWrite> {
        match (&self.unwritten, &self.subscription, self.is_closed) {
            (None, _, true) => Some(RowWrite::Close),
            (Some(_), _, true) => None,
            (Some(session), _, false) => Some(RowWrite::Open(session.clone())),
            (None, Some((version, value)), false) => {
                Some(RowWrite::Subscribe(*version, value.clone()))
            }
            (None, None, false) => None,
        }
    }
}

/// What rows say and should say.
#[derive(Debug, Default)]
pub(crate) struct RowBook {
    rows: HashMap<Uuid, Row>,
    due: VecDeque<Uuid>,
}

impl RowBook {
    /// A session came.
    pub(crate) fn open(&mut self, session: NewSession) {
        let id = session.session_id;
        let row = Row {
            unwritten: Some(session),
            subscription: None,
            versions: 0,
            is_closed: false,
            is_listed: true,
        };
        self.rows.insert(id, row);
        self.due.push_back(id);
    }

    /// A session subscribed; an earlier subscription that is not written yet never will be.
    pub(crate) fn subscribe(&mut self, id: Uuid, value: Value) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.versions += 1;
            row.subscription = Some((row.versions, value));
            self.list(id);
        }
    }

    /// A session went.
    pub(crate) fn close(&mut self, id: Uuid) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.is_closed = true;
            self.list(id);
        }
    }

    fn list(&mut self, id: Uuid) {
        if let Some(row) = self.rows.get_mut(&id)
            && !row.is_listed
        {
            row.is_listed = true;
            self.due.push_back(id);
        }
    }

    /// The next writes, one a session, at most `limit`. They stay due until [`Self::done`].
    pub(crate) fn next_writes(&mut self, limit: usize) -> Vec<(Uuid, RowWrite)> {
        let mut writes = Vec::new();
        let mut rest = VecDeque::new();
        while writes.len() < limit
            && let Some(id) = self.due.pop_front()
        {
            let Some(row) = self.rows.get_mut(&id) else { continue };
            match row.next_write() {
                Some(write) => {
                    writes.push((id, write));
                    rest.push_back(id);
                }
                None if row.is_closed => drop(self.rows.remove(&id)),
                None => row.is_listed = false,
            }
        }
        self.due.append(&mut rest);
        writes
    }

    /// A write is done; what the row still lacks is due next.
    pub(crate) fn done(&mut self, id: Uuid, write: &RowWrite) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        match write {
            RowWrite::Open(_) => row.unwritten = None,
            RowWrite::Subscribe(version, _) => {
                if row.subscription.as_ref().is_some_and(|(latest, _)| latest == version) {
                    row.subscription = None;
                }
            }
            RowWrite::Close => drop(self.rows.remove(&id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: u128) -> NewSession {
        NewSession {
            session_id: Uuid::from_u128(id),
            boot_id: Uuid::nil(),
            key_name: None,
            client_info: Value::Null,
        }
    }

    fn kinds(book: &mut RowBook) -> Vec<&'static str> {
        let writes = book.next_writes(10);
        let names = writes.iter().map(|(_, write)| match write {
            RowWrite::Open(_) => "open",
            RowWrite::Subscribe(..) => "subscribe",
            RowWrite::Close => "close",
        });
        let names = names.collect();
        for (id, write) in &writes {
            book.done(*id, write);
        }
        names
    }

    #[test]
    fn writes_follow_in_order_and_end() {
        let id = Uuid::from_u128(1);
        let mut book = RowBook::default();
        book.open(session(1));
        book.subscribe(id, Value::Null);
        assert_eq!(kinds(&mut book), ["open"]);
        assert_eq!(kinds(&mut book), ["subscribe"]);
        assert!(kinds(&mut book).is_empty());
        book.close(id);
        assert_eq!(kinds(&mut book), ["close"]);
        assert!(kinds(&mut book).is_empty());
        assert!(book.rows.is_empty() && book.due.is_empty());
    }

    #[test]
    fn a_session_that_came_and_went_costs_no_write() {
        let mut book = RowBook::default();
        book.open(session(1));
        book.close(Uuid::from_u128(1));
        assert!(kinds(&mut book).is_empty());
        assert!(book.rows.is_empty() && book.due.is_empty());
    }

    #[test]
    fn a_write_that_was_not_done_is_named_again() {
        let mut book = RowBook::default();
        book.open(session(1));
        assert_eq!(book.next_writes(10).len(), 1);
        assert_eq!(kinds(&mut book), ["open"]);
    }

    #[test]
    fn only_the_latest_subscription_is_written() {
        let id = Uuid::from_u128(1);
        let mut book = RowBook::default();
        book.open(session(1));
        kinds(&mut book);
        book.subscribe(id, Value::from(1));
        let old = book.next_writes(10);
        book.subscribe(id, Value::from(2));
        book.done(id, &old[0].1);
        let writes = book.next_writes(10);
        assert!(matches!(&writes[0].1, RowWrite::Subscribe(2, value) if *value == 2));
    }
}

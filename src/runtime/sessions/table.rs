//! The table of live sessions: shared, so that it outlives any generation of the registry.
//!
//! A session registers itself and is taken out by its guard, whichever way it ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use super::rows::{RowBook, RowWrite};
use crate::domain::event::Room;
use crate::domain::key::Role;
use crate::store::NewSession;

/// What `/api/websocket/stats` shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStats {
    /// Live sessions on this node.
    pub connections: usize,
    /// Sessions that hear each room.
    pub rooms: BTreeMap<String, usize>,
    /// Messages sent since the start.
    pub sent: u64,
    /// Messages that slow sessions did not get.
    pub dropped: u64,
    /// Messages a second, over the last second.
    pub per_second: f64,
}

/// The fixed rooms that a role may hear.
#[must_use]
pub fn rooms_of(role: Role) -> Vec<Room> {
    let mut rooms = Room::ALL.to_vec();
    rooms.retain(|room| *room != Room::Admin || role.allows(Role::Admin));
    rooms
}

#[derive(Debug, Default)]
struct Inner {
    rooms: HashMap<Uuid, Arc<[String]>>,
    book: RowBook,
    per_second: f64,
}

/// The live sessions of this node.
#[derive(Debug, Default)]
pub struct SessionTable {
    inner: Mutex<Inner>,
    changed: Notify,
    left: Notify,
}

impl SessionTable {
    /// Enters a session that hears all rooms of its role; `None` when there are `limit` already.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        session: NewSession,
        role: Role,
        limit: usize,
    ) -> Option<SessionGuard> {
        let session_id = session.session_id;
        let rooms = rooms_of(role).iter().map(ToString::to_string).collect();
        let mut inner = self.inner.lock();
        if inner.rooms.len() >= limit {
            return None;
        }
        inner.rooms.insert(session_id, rooms);
        inner.book.open(session);
        drop(inner);
        self.changed.notify_one();
        Some(SessionGuard { table: Arc::clone(self), session_id })
    }

    /// How many sessions live.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.lock().rooms.len()
    }

    /// The ids of the live sessions.
    #[must_use]
    pub fn alive(&self) -> Vec<Uuid> {
        self.inner.lock().rooms.keys().copied().collect()
    }

    /// Counts by room; `sent` and `dropped` are the caller's.
    #[must_use]
    pub fn stats(&self, (sent, dropped): (u64, u64)) -> SessionStats {
        let inner = self.inner.lock();
        let mut rooms = BTreeMap::<String, usize>::new();
        for room in inner.rooms.values().flat_map(|rooms| rooms.iter()) {
            match rooms.get_mut(room) {
                Some(count) => *count += 1,
                None => drop(rooms.insert(room.clone(), 1)),
            }
        }
        let (connections, per_second) = (inner.rooms.len(), inner.per_second);
        SessionStats { connections, rooms, sent, dropped, per_second }
    }

    pub(crate) fn set_rate(&self, per_second: f64) {
        self.inner.lock().per_second = per_second;
    }

    pub(crate) fn next_writes(&self, limit: usize) -> Vec<(Uuid, RowWrite)> {
        self.inner.lock().book.next_writes(limit)
    }

    pub(crate) fn done(&self, id: Uuid, write: &RowWrite) {
        self.inner.lock().book.done(id, write);
    }

    /// Waits until a row is due.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until no session lives.
    pub async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }
}

/// A session's place in the table; dropped, it is free.
#[derive(Debug)]
pub struct SessionGuard {
    table: Arc<SessionTable>,
    session_id: Uuid,
}

impl SessionGuard {
    /// The session's id.
    #[must_use]
    pub const fn session_id(&self) -> Uuid {
        self.session_id
    }

    /// Notes what the session hears from now on.
    pub fn subscribed(&self, rooms: Vec<String>, subscriptions: Value) {
        let mut inner = self.table.inner.lock();
        inner.rooms.insert(self.session_id, rooms.into());
        inner.book.subscribe(self.session_id, subscriptions);
        drop(inner);
        self.table.changed.notify_one();
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let mut inner = self.table.inner.lock();
        inner.rooms.remove(&self.session_id);
        inner.book.close(self.session_id);
        drop(inner);
        self.table.changed.notify_one();
        self.table.left.notify_waiters();
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

    #[test]
    fn sessions_are_counted_by_room_and_leave_with_their_guard() {
        let table = Arc::new(SessionTable::default());
        let admin = table.enter(session(1), Role::Admin, 9).unwrap();
        let viewer = table.enter(session(2), Role::Viewer, 9).unwrap();
        let stats = table.stats((5, 1));
        assert_eq!((stats.connections, stats.sent, stats.dropped), (2, 5, 1));
        assert_eq!(stats.rooms["admin"], 1);
        assert_eq!(stats.rooms["tasks"], 2);
        viewer.subscribed(vec!["tag:nightly".to_owned()], Value::Null);
        assert_eq!(table.stats((0, 0)).rooms["tag:nightly"], 1);
        assert_eq!(table.stats((0, 0)).rooms["tasks"], 1);
        drop((admin, viewer));
        assert_eq!(table.stats((0, 0)), SessionStats::default());
    }

    #[test]
    fn a_full_table_refuses() {
        let table = Arc::new(SessionTable::default());
        let _one = table.enter(session(1), Role::Viewer, 1).unwrap();
        assert!(table.enter(session(2), Role::Viewer, 1).is_none());
    }
}

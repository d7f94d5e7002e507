//! Sessions of the dashboard: opaque random ids, kept in memory alone.
//!
//! A restart ends every session; the key is the lasting credential. Ids are kept as their hashes,
//! so a look-up tells nothing by its timing and a memory dump holds no cookie.

use std::collections::HashMap;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Principal;
use crate::clock::Timestamp;

/// Name of the cookie.
pub const SESSION_COOKIE: &str = "carillon_session";

/// Sessions at most; past it those that are over go, then the one that ends first.
const SESSIONS_MAX: usize = 10_000;

struct Session {
    key_id: i64,
    prefix: String,
    expires_at: Timestamp,
}

#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<[u8; 32], Session>>,
}

impl Sessions {
    pub(super) fn open(
        &self,
        id: &str,
        principal: &Principal,
        expires_at: Timestamp,
        now: Timestamp,
    ) {
        let mut open = self.open.lock();
        if open.len() >= SESSIONS_MAX {
            open.retain(|_, session| session.expires_at > now);
        }
        if open.len() >= SESSIONS_MAX {
            let first = open.iter().min_by_key(|(_, session)| session.expires_at);
            if let Some(hash) = first.map(|(hash, _)| *hash) {
                open.remove(&hash);
            }
        }
        let (key_id, prefix) = (principal.key_id, principal.prefix.clone());
        open.insert(hash_of(id), Session { key_id, prefix, expires_at });
    }

    /// The prefix of the key behind a session that is not over.
    pub(super) fn find(&self, id: &str, now: Timestamp) -> Option<String> {
        let open = self.open.lock();
        let session = open.get(&hash_of(id))?;
        (session.expires_at > now).then(|| session.prefix.clone())
    }

    pub(super) fn close(&self, id: &str) {
        self.open.lock().remove(&hash_of(id));
    }

    pub(super) fn close_all_of(&self, key_id: i64) {
        self.open.lock().retain(|_, session| session.key_id != key_id);
    }
}

fn hash_of(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::key::Role;

    fn at(seconds: i64) -> Timestamp {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn principal(key_id: i64) -> Principal {
        let prefix = format!("car_{key_id}");
        Principal { key_id, prefix, name: "a".to_owned(), role: Role::Viewer }
    }

    #[test]
    fn a_session_ends_at_its_time_or_when_closed() {
        let sessions = Sessions::default();
        sessions.open("one", &principal(1), at(10), at(0));
        assert_eq!(sessions.find("one", at(9)).as_deref(), Some("car_1"));
        assert_eq!(sessions.find("one", at(10)), None);
        sessions.open("two", &principal(1), at(10), at(0));
        sessions.close("two");
        assert_eq!(sessions.find("two", at(0)), None);
    }

    #[test]
    fn a_revoked_key_takes_its_sessions_along() {
        let sessions = Sessions::default();
        sessions.open("one", &principal(1), at(10), at(0));
        sessions.open("two", &principal(2), at(10), at(0));
        sessions.close_all_of(1);
        assert_eq!(sessions.find("one", at(0)), None);
        assert!(sessions.find("two", at(0)).is_some());
    }
}

//! Keys that were read a moment ago, so that a busy client does not cost a query a request.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::ApiKeyRow;

/// Keys remembered at most; the oldest knowledge is dropped with all the rest when it is reached.
const KEYS_MAX: usize = 1_000;

/// How coarse a key's last-used time is.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Rows by prefix. What is not known is never remembered: a key made a moment ago works at once.
pub(super) struct KeyCache {
    keep: Duration,
    rows: Mutex<HashMap<String, (ApiKeyRow, Instant)>>,
    touched: Mutex<HashMap<i64, Instant>>,
}

impl KeyCache {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, rows: Mutex::default(), touched: Mutex::default() }
    }

    pub(super) fn get(&self, prefix: &str) -> Option<ApiKeyRow> {
        let rows = self.rows.lock();
        let (row, read_at) = rows.get(prefix)?;
        (read_at.elapsed() < self.keep).then(|| row.clone())
    }

    pub(super) fn put(&self, row: ApiKeyRow) {
        let mut rows = self.rows.lock();
        if rows.len() >= KEYS_MAX {
            rows.clear();
        }
        rows.insert(row.prefix.clone(), (row, Instant::now()));
    }

    pub(super) fn forget(&self, key_id: i64) {
        self.rows.lock().retain(|_, (row, _)| row.id != key_id);
    }

    /// True once in [`TOUCH_EVERY`] for each key.
    pub(super) fn is_to_be_touched(&self, key_id: i64) -> bool {
        let mut touched = self.touched.lock();
        if touched.get(&key_id).is_some_and(|at| at.elapsed() < TOUCH_EVERY) {
            return false;
        }
        if touched.len() >= KEYS_MAX {
            touched.clear();
        }
        touched.insert(key_id, Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64) -> ApiKeyRow {
        ApiKeyRow {
            id,
            prefix: format!("car_{id}"),
            secret_hash: String::new(),
            name: String::new(),
            role: "viewer".to_owned(),
            created_at: chrono::DateTime::UNIX_EPOCH,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_is_trusted_no_longer_than_its_time() {
        let cache = KeyCache::new(Duration::from_secs(5));
        cache.put(row(1));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(cache.get("car_1").is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(cache.get("car_1").is_none());
    }

    #[test]
    fn a_forgotten_key_is_read_again() {
        let cache = KeyCache::new(Duration::from_secs(5));
        cache.put(row(1));
        cache.put(row(2));
        cache.forget(1);
        assert!(cache.get("car_1").is_none() && cache.get("car_2").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_touched_once_a_minute() {
        let cache = KeyCache::new(Duration::ZERO);
        assert!(cache.is_to_be_touched(1));
        assert!(!cache.is_to_be_touched(1));
        tokio::time::advance(TOUCH_EVERY).await;
        assert!(cache.is_to_be_touched(1));
    }
}

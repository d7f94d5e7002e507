//! `Idempotency-Key`: a request that creates is carried out at most once in 24 h.
//!
//! The key belongs to the route, its path parameters and the API key that sent it. The first answer
//! is kept in the transaction that did the work; the same request again gets it again, whatever has
//! become of what it made. Refusals are not kept: they made nothing. While a request is being
//! carried out, another one with its key is told so: by this process, which knows its own, and
//! across nodes by the database.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::api::call::Call;
use crate::api::error::ApiError;

/// Longest `Idempotency-Key`.
const KEY_MAX: usize = 255;

/// A key that may be acted upon, and the body it came with.
#[derive(Clone, Debug)]
pub(crate) struct OnceKey {
    /// Key, scoped.
    pub(crate) key: String,
    /// Hash of the body.
    pub(crate) body_hash: String,
}

impl OnceKey {
    /// The request's key, if it has one.
    ///
    /// # Errors
    /// 422 when it cannot be one.
    pub(crate) fn of(call: &Call) -> Result<Option<Self>, ApiError> {
        let Some(header) = call.headers.get("idempotency-key") else { return Ok(None) };
        let key = header.to_str().unwrap_or_default();
        let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if key.is_empty() || key.len() > KEY_MAX || !is_plain {
            let message = format!("give 1 to {KEY_MAX} printable ASCII characters");
            return Err(ApiError::invalid_field("Idempotency-Key", "invalid_value", message));
        }
        let owner = call.principal()?.key_id;
        let mut path: Vec<&str> = call.params.values().map(String::as_str).collect();
        path.sort_unstable();
        let key = format!("{}|{}|{owner}|{key}", call.route, path.join(","));
        let body_hash =
            Sha256::digest(&call.body).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(Self { key, body_hash }))
    }
}

/// The keys whose requests this process is carrying out: no more than there are requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay {
    keys: Arc<Mutex<HashSet<String>>>,
}

impl UnderWay {
    /// Notes a request; it is under way until the turn is dropped.
    ///
    /// # Errors
    /// 409 `idempotency_in_progress` when one with the same key is.
    pub(crate) fn enter(&self, key: &OnceKey) -> Result<Turn, ApiError> {
        if self.keys.lock().insert(key.key.clone()) {
            return Ok(Turn { all: self.clone(), key: key.key.clone() });
        }
        let detail = "a request with this Idempotency-Key is being carried out; ask again soon";
        Err(ApiError::conflict("idempotency_in_progress", detail))
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Turn {
    all: UnderWay,
    key: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.keys.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_has_one_turn_at_a_time() {
        let all = UnderWay::default();
        let key = |name: &str| OnceKey { key: name.to_owned(), body_hash: String::new() };
        let turn = all.enter(&key("a")).unwrap();
        let refused = all.enter(&key("a")).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.code()), (409, "idempotency_in_progress"));
        all.enter(&key("b")).unwrap();
        drop(turn);
        all.enter(&key("a")).unwrap();
        assert!(all.keys.lock().is_empty());
    }
}

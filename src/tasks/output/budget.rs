//! How much a task may still write, both streams together.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The rest of `limits.outputBytes`.
pub(in crate::tasks) struct OutputBudget {
    left: Option<AtomicU64>,
    spent: Notify,
}

impl OutputBudget {
    /// A budget of `limit` bytes; without one it is never spent.
    pub(in crate::tasks) fn new(limit: Option<u64>) -> Self {
        Self { left: limit.map(AtomicU64::new), spent: Notify::new() }
    }

    /// Waits until more was written than the budget allows; each time anew.
    pub(in crate::tasks) async fn spent(&self) {
        self.spent.notified().await;
    }

    pub(super) fn spend(&self, bytes: usize) {
        let Some(left) = &self.left else { return };
        let bytes = bytes as u64;
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(bytes))
        });
        if before.is_ok_and(|before| before < bytes) {
            self.spent.notify_one();
        }
    }
}

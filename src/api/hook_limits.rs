//! How often webhooks may come in, counted by this process in windows of a minute.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Requests a minute of one webhook.
const REQUESTS_MAX: u32 = 600;
/// Refused requests a minute of one webhook that go into its log.
const NOTES_MAX: u32 = 10;
/// Webhooks remembered; past it, windows that are over are dropped, then all.
const WEBHOOKS_MAX: usize = 10_000;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Window {
    opened: Instant,
    requests: u32,
    notes: u32,
}

/// Counts requests by webhook.
#[derive(Default)]
pub(crate) struct HookLimits {
    windows: Mutex<HashMap<i64, Window>>,
}

impl HookLimits {
    /// Counts a request; `Some(wait)` when there were too many.
    pub(crate) fn take(&self, webhook: i64) -> Option<Duration> {
        self.count(webhook, |window| {
            window.requests = window.requests.saturating_add(1);
            let left = (window.opened + WINDOW).saturating_duration_since(Instant::now());
            (window.requests > REQUESTS_MAX).then_some(left)
        })
    }

    /// Whether one more refused request goes into the log.
    pub(crate) fn may_note(&self, webhook: i64) -> bool {
        self.count(webhook, |window| {
            window.notes = window.notes.saturating_add(1);
            window.notes <= NOTES_MAX
        })
    }

    fn count<T>(&self, webhook: i64, change: impl FnOnce(&mut Window) -> T) -> T {
        let now = Instant::now();
        let mut windows = self.windows.lock();
        if windows.len() >= WEBHOOKS_MAX && !windows.contains_key(&webhook) {
            windows.retain(|_, window| window.opened + WINDOW > now);
            if windows.len() >= WEBHOOKS_MAX {
                windows.clear();
            }
        }
        let fresh = Window { opened: now, requests: 0, notes: 0 };
        let window = windows.entry(webhook).or_insert(fresh);
        if window.opened + WINDOW <= now {
            *window = fresh;
        }
        change(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_past_the_limit_wait_for_the_next_minute() {
        let limits = HookLimits::default();
        for _ in 0..REQUESTS_MAX {
            assert_eq!(limits.take(1), None);
        }
        assert_eq!(limits.take(1), Some(WINDOW));
        assert_eq!(limits.take(2), None);
        let noted = (0..100).filter(|_| limits.may_note(1)).count();
        assert_eq!(noted, 10);
        tokio::time::advance(WINDOW).await;
        assert_eq!(limits.take(1), None);
        assert!(limits.may_note(1));
    }
}

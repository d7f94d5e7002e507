//! Counts failed attempts by address, in fixed windows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Addresses remembered at most; past it, windows that are over are dropped, then all.
const ADDRESSES_MAX: usize = 10_000;

struct Window {
    opened: Instant,
    failures: u32,
}

/// Says of a failed attempt whether its address has had too many.
pub(super) struct FailureLimiter {
    most: u32,
    length: Duration,
    windows: Mutex<HashMap<IpAddr, Window>>,
}

impl FailureLimiter {
    pub(super) fn new(most: u32, length: Duration) -> Self {
        Self { most, length, windows: Mutex::default() }
    }

    /// Counts one failure; `Some(wait)` when there were too many in this window.
    pub(super) fn record(&self, address: Option<IpAddr>) -> Option<Duration> {
        let address = block_of(address?);
        let now = Instant::now();
        let mut windows = self.windows.lock();
        if windows.len() >= ADDRESSES_MAX && !windows.contains_key(&address) {
            windows.retain(|_, window| window.opened + self.length > now);
            if windows.len() >= ADDRESSES_MAX {
                windows.clear();
            }
        }
        let window = windows.entry(address).or_insert(Window { opened: now, failures: 0 });
        if window.opened + self.length <= now {
            *window = Window { opened: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        (window.failures > self.most).then(|| window.opened + self.length - now)
    }
}

/// An IPv6 client usually owns a /64, so it counts as one address.
fn block_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => four.into(),
            None => IpAddr::V6((u128::from(six) & !u128::from(u64::MAX)).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn failures_past_the_limit_are_refused_until_the_window_ends() {
        let limiter = FailureLimiter::new(2, Duration::from_secs(60));
        let one = address("192.0.2.1");
        assert_eq!(limiter.record(one), None);
        assert_eq!(limiter.record(one), None);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(limiter.record(one), Some(Duration::from_secs(40)));
        assert_eq!(limiter.record(address("192.0.2.2")), None);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(limiter.record(one), None);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let limiter = FailureLimiter::new(1, Duration::from_secs(60));
        assert!(limiter.record(address("2001:db8::1")).is_none());
        assert!(limiter.record(address("2001:db8::2")).is_some());
        assert!(limiter.record(address("2001:db8:0:1::1")).is_none());
    }
}

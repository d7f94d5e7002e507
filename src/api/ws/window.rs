//! The window: what was sent to a client and no pong covers yet.
//!
//! actix's outgoing queue can neither be bounded nor observed, so the client's own word bounds it.
//! Each ping carries how much had been sent before it; its pong says that all of that has been
//! read. Pings go out each quarter of the window, so a client that reads, however far away, never
//! stands still.

use std::collections::VecDeque;

/// Pings in flight that are remembered; older ones are covered by newer ones.
const PINGS_MAX: usize = 8;
/// Parts of the window after each of which a ping goes out.
const PARTS: u64 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    messages: u64,
    bytes: u64,
}

impl Amount {
    const fn since(self, earlier: Self) -> Self {
        Self { messages: self.messages - earlier.messages, bytes: self.bytes - earlier.bytes }
    }

    const fn reaches(self, limit: Self) -> bool {
        self.messages >= limit.messages || self.bytes >= limit.bytes
    }
}

/// One client's window.
#[derive(Debug)]
pub(super) struct Window {
    limit: Amount,
    part: Amount,
    sent: Amount,
    covered: Amount,
    pings: VecDeque<(u64, Amount)>,
    next_ping: u64,
}

impl Window {
    pub(super) fn new(messages: u64, bytes: u64) -> Self {
        let part = Amount { messages: (messages / PARTS).max(1), bytes: (bytes / PARTS).max(1) };
        Self {
            limit: Amount { messages, bytes },
            part,
            sent: Amount::default(),
            covered: Amount::default(),
            pings: VecDeque::new(),
            next_ping: 0,
        }
    }

    /// A message went out.
    pub(super) fn record(&mut self, bytes: usize) {
        self.sent.messages += 1;
        self.sent.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Whether events have to wait for a pong.
    pub(super) const fn is_full(&self) -> bool {
        self.sent.since(self.covered).reaches(self.limit)
    }

    /// Whether a ping should go out, so that the window opens again in time.
    pub(super) fn is_ping_due(&self) -> bool {
        let pinged = self.pings.back().map_or(self.covered, |(_, amount)| *amount);
        self.sent.since(pinged).reaches(self.part)
    }

    /// The payload of the next ping.
    pub(super) fn ping(&mut self) -> [u8; 8] {
        self.next_ping += 1;
        if self.pings.len() >= PINGS_MAX {
            self.pings.pop_front();
        }
        self.pings.push_back((self.next_ping, self.sent));
        self.next_ping.to_be_bytes()
    }

    /// A pong came; whether it was one of ours.
    pub(super) fn pong(&mut self, payload: &[u8]) -> bool {
        let Ok(bytes) = <[u8; 8]>::try_from(payload) else { return false };
        let number = u64::from_be_bytes(bytes);
        let Some(place) = self.pings.iter().position(|(ping, _)| *ping == number) else {
            return false;
        };
        if let Some((_, amount)) = self.pings.drain(..=place).next_back() {
            self.covered = amount;
        }
        if self.pings.is_empty() {
            self.pings = VecDeque::new();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_fills_by_messages_or_bytes() {
        let mut window = Window::new(3, 100);
        window.record(10);
        window.record(10);
        assert!(!window.is_full());
        window.record(10);
        assert!(window.is_full());
        let mut window = Window::new(1_000, 100);
        window.record(100);
        assert!(window.is_full());
    }

    #[test]
    fn a_pong_covers_what_went_before_its_ping() {
        let mut window = Window::new(2, 1_000);
        window.record(1);
        let first = window.ping();
        window.record(1);
        assert!(window.is_full());
        assert!(window.pong(&first));
        assert!(!window.is_full());
        assert!(!window.pong(&first), "the same pong covers nothing again");
        assert!(!window.pong(b"unasked"));
    }

    #[test]
    fn a_later_pong_covers_earlier_pings_and_forgotten_ones_do_no_harm() {
        let mut window = Window::new(1_000, 1_000_000);
        let pings = (0..20).map(|_| {
            window.record(1);
            window.ping()
        });
        let pings: Vec<_> = pings.collect();
        assert!(!window.pong(&pings[0]));
        assert!(window.pong(&pings[19]));
        assert_eq!(window.covered, window.sent);
    }

    proptest! {
        #[test]
        fn who_answers_every_ping_never_stands_still(
            messages in 1_u64..50, bytes in 1_u64..500, sizes in prop::collection::vec(1_usize..60, 1..300)
        ) {
            let mut window = Window::new(messages, bytes);
            for size in sizes {
                prop_assert!(!window.is_full());
                window.record(size);
                if window.is_ping_due() {
                    let ping = window.ping();
                    prop_assert!(window.pong(&ping));
                }
            }
        }

        #[test]
        fn a_full_window_always_has_a_ping_out(sizes in prop::collection::vec(1_usize..60, 1..300)) {
            let mut window = Window::new(20, 500);
            for size in sizes {
                if window.is_full() {
                    break;
                }
                window.record(size);
                if window.is_ping_due() {
                    window.ping();
                }
            }
            prop_assert!(!window.is_full() || !window.pings.is_empty());
            prop_assert!(window.pings.len() <= PINGS_MAX);
        }
    }
}

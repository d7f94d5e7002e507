//! The newest events in memory, so that live sessions and short absences need no store read.
//!
//! Numbers inside are dense and ascending. What does not follow on makes the ring start afresh:
//! a session that stood before the seam finds itself behind and reads the store, which knows.

use std::collections::VecDeque;
use std::sync::Arc;

use super::frame::Frame;

/// How much the ring keeps; the oldest go first.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// Frames at most.
    pub frames: usize,
    /// Bytes at most.
    pub bytes: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { frames: 10_000, bytes: 16 * 1024 * 1024 }
    }
}

/// What the ring has for a reader.
#[derive(Debug, PartialEq, Eq)]
pub enum RingRead {
    /// What comes next, in order; at least one.
    Frames(Vec<Arc<Frame>>),
    /// Nothing newer is known here.
    UpToDate,
    /// The next event is older than the ring: read the store.
    Behind,
}

/// The newest events.
#[derive(Debug)]
pub(crate) struct Ring {
    limits: RingLimits,
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    newest: i64,
}

impl Ring {
    /// An empty ring behind which `newest` events lie in the store.
    pub(crate) const fn new(limits: RingLimits, newest: i64) -> Self {
        Self { limits, frames: VecDeque::new(), bytes: 0, newest }
    }

    /// The number of the newest event.
    pub(crate) const fn newest(&self) -> i64 {
        self.newest
    }

    /// Adds an event. One that is known already is left out; one that does not follow on makes
    /// the ring start afresh with it.
    pub(crate) fn push(&mut self, frame: Frame) {
        if frame.seq <= self.newest {
            return;
        }
        if frame.seq != self.newest + 1 {
            self.frames.clear();
            self.bytes = 0;
        }
        self.newest = frame.seq;
        self.bytes += frame.weight();
        self.frames.push_back(Arc::new(frame));
        while self.frames.len() > self.limits.frames || self.bytes > self.limits.bytes {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.weight();
        }
    }

    /// Moves on to `newest` without what lies between.
    pub(crate) fn skip_to(&mut self, newest: i64) {
        if newest > self.newest {
            *self = Self::new(self.limits, newest);
        }
    }

    /// Up to `limit` events after `after`.
    pub(crate) fn read(&self, after: i64, limit: usize) -> RingRead {
        if after >= self.newest {
            return RingRead::UpToDate;
        }
        let oldest = self.frames.front().map_or(self.newest + 1, |frame| frame.seq);
        let Ok(skip) = usize::try_from(after + 1 - oldest) else { return RingRead::Behind };
        if self.frames.is_empty() {
            return RingRead::Behind;
        }
        RingRead::Frames(self.frames.iter().skip(skip).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::tests::event;
    use super::*;

    fn filled(frames: usize, first: i64, last: i64) -> Ring {
        let mut ring = Ring::new(RingLimits { frames, bytes: usize::MAX }, first - 1);
        for seq in first..=last {
            ring.push(Frame::from_event(event(seq)));
        }
        ring
    }

    fn numbers(read: RingRead) -> Vec<i64> {
        let RingRead::Frames(frames) = read else { panic!("no frames: {read:?}") };
        frames.iter().map(|frame| frame.seq).collect()
    }

    #[test]
    fn a_reader_gets_what_follows_in_order() {
        let ring = filled(10, 1, 5);
        assert_eq!(numbers(ring.read(0, 2)), [1, 2]);
        assert_eq!(numbers(ring.read(2, 9)), [3, 4, 5]);
        assert_eq!(ring.read(5, 9), RingRead::UpToDate);
        assert_eq!(ring.read(99, 9), RingRead::UpToDate);
    }

    #[test]
    fn what_fell_out_is_behind() {
        let ring = filled(3, 1, 5);
        assert_eq!(ring.read(1, 9), RingRead::Behind);
        assert_eq!(numbers(ring.read(2, 9)), [3, 4, 5]);
    }

    #[test]
    fn an_empty_ring_sends_everybody_behind_it_to_the_store() {
        let ring = Ring::new(RingLimits::default(), 7);
        assert_eq!(ring.read(6, 9), RingRead::Behind);
        assert_eq!(ring.read(7, 9), RingRead::UpToDate);
    }

    #[test]
    fn a_seam_starts_the_ring_afresh() {
        let mut ring = filled(10, 1, 5);
        ring.push(Frame::from_event(event(9)));
        assert_eq!(ring.read(5, 9), RingRead::Behind);
        assert_eq!(numbers(ring.read(8, 9)), [9]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut ring = Ring::new(RingLimits { frames: 1_000, bytes: 1_000 }, 0);
        for seq in 1..=100 {
            ring.push(Frame::from_event(event(seq)));
        }
        assert!(ring.bytes <= 1_000);
        assert!(ring.frames.len() < 20);
    }

    proptest! {
        #[test]
        fn readers_never_see_a_gap(
            capacity in 1_usize..20, last in 1_i64..60, after in -1_i64..70, limit in 1_usize..20
        ) {
            let ring = filled(capacity, 1, last);
            if let RingRead::Frames(frames) = ring.read(after, limit) {
                prop_assert!(!frames.is_empty() && frames.len() <= limit);
                for (place, frame) in frames.iter().enumerate() {
                    prop_assert_eq!(frame.seq, after + 1 + i64::try_from(place).unwrap());
                }
            }
        }
    }
}

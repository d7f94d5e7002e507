//! Why planned instants were missed: the pause and the stop that they fell into.
//!
//! An instant that was still in time when a pause (or a stop) began was missed because of it: so a
//! window reaches back by the misfire grace. Of several pauses without a firing between them the
//! last is known, which is all there is when the scheduler runs: it fires at each resume.

use crate::clock::Timestamp;
use crate::domain::misfire::MissReasons;
use crate::domain::schedule::{LedgerReason, Schedule};
use crate::runtime::scheduler::stop::StopWindow;

/// From when to when something kept a schedule from firing; an open end is not over yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// The first instant that it kept from running.
    from: Timestamp,
    to: Option<Timestamp>,
}

impl Span {
    fn covers(self, at: Timestamp) -> bool {
        self.from <= at && self.to.is_none_or(|to| at <= to)
    }
}

/// What kept a schedule from firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reasons {
    paused: Option<Span>,
    stopped: Option<Span>,
}

impl Reasons {
    /// The last pause of the schedule and the last stop of the scheduler.
    #[must_use]
    pub fn of(schedule: &Schedule, stop: &StopWindow) -> Self {
        let grace = chrono::Duration::milliseconds(schedule.definition.misfire_grace_ms);
        // What lies back by just the grace is still in time.
        let reach = |at: Timestamp| at.checked_sub_signed(grace).unwrap_or(Timestamp::MIN_UTC);
        let began = schedule.paused_at.map(reach);
        let paused = match (schedule.definition.enabled, began, schedule.resumed_at) {
            (false, began, _) => Some(Span { from: began.unwrap_or(Timestamp::MIN_UTC), to: None }),
            (true, _, None) => None,
            (true, began, to) => Some(Span { from: began.unwrap_or(Timestamp::MIN_UTC), to }),
        };
        let stopped = stop.stopped_at.map(|from| Span { from: reach(from), to: stop.started_at });
        Self { paused, stopped }
    }
}

impl MissReasons for Reasons {
    fn reason(&self, at: Timestamp) -> LedgerReason {
        let in_span = |span: Option<Span>| span.is_some_and(|span| span.covers(at));
        if in_span(self.paused) {
            LedgerReason::Paused
        } else if in_span(self.stopped) {
            LedgerReason::Stopped
        } else {
            LedgerReason::Misfire
        }
    }

    fn boundaries(&self) -> Vec<Timestamp> {
        let tick = chrono::Duration::microseconds(1);
        let spans = [self.paused, self.stopped].into_iter().flatten();
        spans
            .flat_map(|span| [Some(span.from), span.to.and_then(|to| to.checked_add_signed(tick))])
            .flatten()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::cadence::{Cadence, ParseContext};
    use crate::domain::misfire::{Due, drop_until};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_pause_and_a_stop_within_an_outage_are_told_apart() {
        let span = |from, to| Some(Span { from: at(from), to: Some(at(to)) });
        let reasons = Reasons { paused: span(25, 40), stopped: span(60, 80) };
        let context = ParseContext { created_at: at(0), default_zone: "UTC".to_owned() };
        let every = Cadence::parse("interval", &json!({"intervalMs": 10_000}), &context).unwrap();
        let due = Due { cadence: &every, next_run_at: at(10), end_at: None, left: None };
        let ledger = drop_until(due, at(109), &reasons);
        let found: Vec<_> = ledger.iter().map(|r| (r.from, r.to, r.count, r.reason)).collect();
        assert_eq!(
            found,
            [
                (at(10), at(20), 2, LedgerReason::Misfire),
                (at(30), at(40), 2, LedgerReason::Paused),
                (at(50), at(50), 1, LedgerReason::Misfire),
                (at(60), at(80), 3, LedgerReason::Stopped),
                (at(90), at(100), 2, LedgerReason::Misfire),
            ]
        );
    }
}

//! What a changed calendar does to the schedules that obey it: pure.
//!
//! Instants up to now keep the fate that the old calendar gave them: what it took away is told in
//! the ledger. From now on the new one plans. An instant that is due and about to fire is left to
//! its firing.
//!
//! Also here: up to where the ledger has been told of what was taken away, which firing and editing
//! need as well.

use chrono::TimeDelta;

use crate::domain::Timestamp;
use crate::domain::cadence::Cadence;
use crate::domain::schedule::{LedgerRange, Schedule};

const TICK: TimeDelta = TimeDelta::microseconds(1);

/// What becomes of a schedule under another calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replan {
    /// Its next instant.
    pub next_run_at: Option<Timestamp>,
    /// What the old calendar took away up to now.
    pub ledger: Vec<LedgerRange>,
    /// Up to where the ledger tells of that.
    pub settled_at: Timestamp,
}

/// Up to where the ledger is to tell of what was taken away, at `now` and with `next` to come:
/// not past it. `None` when the cadence takes nothing away.
#[must_use]
pub fn settled_until(
    schedule: &Schedule,
    cadence: &Cadence,
    next: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let until = schedule.definition.end_at.map_or(now, |end| end.min(now));
    let until = next.map_or(until, |next| until.min(next - TICK));
    cadence.leaves_out().then(|| schedule.settled_at.map_or(until, |at| at.max(until)))
}

/// What calendars and the clock-change policy have taken away since it was last told.
#[must_use]
pub fn left_out(
    schedule: &Schedule,
    cadence: &Cadence,
    until: Option<Timestamp>,
) -> Vec<LedgerRange> {
    let Some(until) = until else { return Vec::new() };
    let from = schedule.settled_at.unwrap_or(schedule.created_at);
    let from = schedule.definition.start_at.map_or(from, |start| from.max(start - TICK));
    cadence.left_out(from, until)
}

/// Plans a schedule anew at `now`: `old` is its cadence so far, `new` the one from now on.
/// `settled` is the last instant that has its outcome already (some were skipped ahead of time).
#[must_use]
pub fn replan(
    schedule: &Schedule,
    (old, new): (&Cadence, &Cadence),
    now: Timestamp,
    settled: Option<Timestamp>,
) -> Replan {
    let definition = &schedule.definition;
    let until = settled_until(schedule, old, schedule.next_run_at, now).unwrap_or(now);
    let ledger = left_out(schedule, old, Some(until));
    let next_run_at = match schedule.next_run_at {
        Some(due) if due <= now => Some(due),
        _ => {
            let mut after = settled.map_or(now, |settled| settled.max(now));
            after = definition.start_at.map_or(after, |start| after.max(start - TICK));
            let next = new.next_after(after);
            next.filter(|next| definition.end_at.is_none_or(|end| *next <= end))
        }
    };
    Replan { next_run_at, ledger, settled_at: until }
}

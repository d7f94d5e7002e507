//! Backfills: past instants of a schedule, run on purpose.
//!
//! A backfill walks over the planned instants of a range, in either direction, and makes an
//! execution of each that did not run already. It makes no more than may start now, so that a long
//! range neither fills the queue nor floods what the tasks talk to. Its position is stored with
//! what was made of it, in one transaction: a crash loses and doubles nothing.
//!
//! Everything here is pure: what comes next, how many may start, what becomes of them.

use std::collections::HashSet;

use chrono::TimeDelta;

use crate::domain::cadence::Cadence;
use crate::domain::{Timestamp, text_enum};

/// Instants of a backfill at most.
pub const INSTANTS_MAX: u64 = 100_000;
/// Instants that one step looks at.
pub const STEP_MAX: usize = 200;
/// Starts that a rate lets through at once after a wait.
const BURST_MAX: i64 = 10;
const MINUTE_MS: i64 = 60_000;
const TICK: TimeDelta = TimeDelta::microseconds(1);

text_enum! {
    /// Where a backfill stands.
    pub enum BackfillStatus {
        /// It makes executions.
        Running = "running",
        /// Every instant was decided; executions may still run.
        Completed = "completed",
        /// Somebody stopped it, or its schedule is gone.
        Stopped = "stopped",
    }
}

text_enum! {
    /// Which instants come first.
    pub enum BackfillOrder {
        /// The oldest.
        Oldest = "oldest",
        /// The newest.
        Newest = "newest",
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillForm {
    /// The schedule.
    pub schedule_id: i64,
    /// Its name, which stays when it is deleted.
    pub schedule_name: String,
    /// First instant.
    pub from: Timestamp,
    /// Last instant.
    pub to: Timestamp,
    /// Which come first.
    pub order: BackfillOrder,
    /// Also instants that ran before.
    pub again: bool,
    /// Starts a minute at most.
    pub per_minute: Option<i32>,
    /// Executions of it that may wait or run at once.
    pub max_concurrent: i32,
    /// Planned instants of the range.
    pub planned: i64,
    /// Who asked.
    pub created_by: Option<String>,
}

/// A backfill as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Row id.
    pub id: i64,
    /// What was asked for.
    pub form: BackfillForm,
    /// Where it stands.
    pub status: BackfillStatus,
    /// The last instant that was decided.
    pub position: Option<Timestamp>,
    /// Executions made.
    pub made: i64,
    /// Instants that ran before and were left out.
    pub left_out: i64,
    /// The earliest instant of the next start.
    pub next_start_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// When the last instant was decided, or it was stopped.
    pub ended_at: Option<Timestamp>,
    /// Why it was stopped.
    pub reason: Option<String>,
}

/// The next instants of a backfill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// In its order.
    pub instants: Vec<Timestamp>,
    /// No more come after them.
    pub is_last: bool,
}

/// The planned instants of a range, in an order, after a position.
#[must_use]
pub fn ahead(
    cadence: &Cadence,
    (from, to): (Timestamp, Timestamp),
    order: BackfillOrder,
    position: Option<Timestamp>,
    limit: usize,
) -> Ahead {
    let mut instants = match order {
        BackfillOrder::Oldest => {
            cadence.instants_between(position.unwrap_or(from - TICK), to, limit.saturating_add(1))
        }
        BackfillOrder::Newest => {
            let last = |at: Timestamp| cadence.last_at_or_before(at, from);
            let first = last(position.map_or(to, |at| at - TICK));
            std::iter::successors(first, |at| last(*at - TICK)).take(limit + 1).collect()
        }
    };
    let is_last = instants.len() <= limit;
    instants.truncate(limit);
    Ahead { instants, is_last }
}

/// How many may start now under a rate.
#[must_use]
pub fn allowance(
    per_minute: Option<i32>,
    next_start_at: Option<Timestamp>,
    now: Timestamp,
) -> usize {
    let Some(spacing) = spacing_ms(per_minute) else { return usize::MAX };
    let waited = next_start_at.map_or(0, |at| (now - at).num_milliseconds());
    if next_start_at.is_some_and(|at| at > now) {
        return 0;
    }
    usize::try_from((waited / spacing + 1).min(BURST_MAX)).unwrap_or(0)
}

/// The earliest next start after `made` starts at `now`.
#[must_use]
pub fn next_start(
    per_minute: Option<i32>,
    next_start_at: Option<Timestamp>,
    now: Timestamp,
    made: usize,
) -> Option<Timestamp> {
    let spacing = spacing_ms(per_minute)?;
    if made == 0 {
        return next_start_at;
    }
    let step = TimeDelta::milliseconds(spacing.saturating_mul(i64::try_from(made).unwrap_or(1)));
    // What was waited for longer than the burst is not caught up on.
    let earliest = now - TimeDelta::milliseconds(spacing * (BURST_MAX - 1));
    Some(next_start_at.map_or(now, |at| at.max(earliest)) + step)
}

fn spacing_ms(per_minute: Option<i32>) -> Option<i64> {
    per_minute.map(|rate| (MINUTE_MS / i64::from(rate.max(1))).max(1))
}

/// What one step does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Places of the instants that run.
    pub made: Vec<usize>,
    /// How many ran before.
    pub left_out: usize,
    /// The last instant that was decided, if one was.
    pub position: Option<Timestamp>,
    /// Every instant is decided.
    pub is_done: bool,
}

/// Decides the next instants, until no more may start: `taken` ran before, `free` may start.
#[must_use]
pub fn step(ahead: &Ahead, taken: &HashSet<Timestamp>, free: usize) -> Step {
    let mut step = Step::default();
    for (place, at) in ahead.instants.iter().enumerate() {
        if taken.contains(at) {
            step.left_out += 1;
        } else if step.made.len() < free {
            step.made.push(place);
        } else {
            return step;
        }
        step.position = Some(*at);
    }
    step.is_done = ahead.is_last;
    step
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::cadence::ParseContext;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn every(seconds: i64) -> Cadence {
        let context = ParseContext { created_at: at(0), default_zone: "UTC".to_owned() };
        Cadence::parse("interval", &json!({"intervalMs": seconds * 1_000}), &context).unwrap()
    }

    #[test]
    fn both_orders_walk_over_the_same_instants() {
        let cadence = every(10);
        let range = (at(20), at(60));
        let oldest = ahead(&cadence, range, BackfillOrder::Oldest, None, 3);
        assert_eq!((oldest.instants, oldest.is_last), (vec![at(20), at(30), at(40)], false));
        let rest = ahead(&cadence, range, BackfillOrder::Oldest, Some(at(40)), 3);
        assert_eq!((rest.instants, rest.is_last), (vec![at(50), at(60)], true));
        let newest = ahead(&cadence, range, BackfillOrder::Newest, Some(at(50)), 9);
        assert_eq!((newest.instants, newest.is_last), (vec![at(40), at(30), at(20)], true));
    }

    #[test]
    fn cases_of_a_rate() {
        assert_eq!(allowance(None, None, at(0)), usize::MAX);
        for (next, allowed) in [(None, 1), (Some(at(1)), 0), (Some(at(0)), 1), (Some(at(-3)), 4)] {
            assert_eq!(allowance(Some(60), next, at(0)), allowed, "{next:?}");
        }
        assert_eq!(allowance(Some(60), Some(at(-900)), at(0)), 10);
        assert_eq!(next_start(Some(60), None, at(0), 1), Some(at(1)));
        assert_eq!(next_start(Some(60), Some(at(-900)), at(0), 10), Some(at(1)));
        assert_eq!(next_start(Some(60), Some(at(-1)), at(0), 0), Some(at(-1)));
        assert_eq!(next_start(None, None, at(0), 5), None);
    }

    proptest! {
        /// Whatever ran before, however few may start at a time, in whichever order: every instant
        /// is decided once, and none that ran before runs.
        #[test]
        fn every_instant_is_decided_once(
            newest in any::<bool>(),
            taken in prop::collection::hash_set(0_i64..60, 0..40),
            frees in prop::collection::vec(0_usize..5, 200),
            limit in 1_usize..20,
        ) {
            let cadence = every(10);
            let order = if newest { BackfillOrder::Newest } else { BackfillOrder::Oldest };
            let taken: HashSet<Timestamp> = taken.into_iter().map(|step| at(step * 10)).collect();
            let range = (at(10), at(500));
            let (mut position, mut ran, mut left_out, mut done) = (None, Vec::new(), 0, false);
            for free in frees {
                let next = ahead(&cadence, range, order, position, limit);
                let step = step(&next, &taken, free);
                prop_assert!(step.made.len() <= free);
                ran.extend(step.made.iter().map(|place| next.instants[*place]));
                left_out += step.left_out;
                position = step.position.or(position);
                if step.is_done {
                    done = true;
                    break;
                }
            }
            prop_assume!(done);
            let mut wanted: Vec<Timestamp> =
                (1..=50).map(|step| at(step * 10)).filter(|at| !taken.contains(at)).collect();
            prop_assert_eq!(left_out + wanted.len(), 50);
            if newest {
                wanted.reverse();
            }
            prop_assert_eq!(ran, wanted);
        }

        #[test]
        fn a_rate_is_kept_whatever_the_waits(waits in prop::collection::vec(0_i64..4_000, 1..300), rate in 1_i32..600) {
            let (mut now, mut next, mut starts) = (at(0), None, Vec::new());
            for wait in waits {
                now += TimeDelta::milliseconds(wait);
                let count = allowance(Some(rate), next, now);
                next = next_start(Some(rate), next, now, count);
                starts.extend(std::iter::repeat_n(now, count));
            }
            for (place, start) in starts.iter().enumerate() {
                let within = starts[place..].iter().take_while(|at| **at - *start < TimeDelta::minutes(1)).count();
                prop_assert!(within <= usize::try_from(rate).unwrap() + 11, "{} at {}", within, rate);
            }
        }
    }
}

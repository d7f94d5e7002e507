//! From a due schedule to its firing: pure.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::cadence::Cadence;
use crate::domain::execution::{NewExecution, Trigger};
use crate::domain::misfire::{Due, MisfireRules, drop_until, plan_firing};
use crate::domain::replan::{left_out, settled_until};
use crate::domain::schedule::{
    LedgerRange, LedgerReason, MisfirePolicy, OverlapPolicy, Schedule, ScheduleDefinition,
};
use crate::domain::spread::jitter;
use crate::runtime::scheduler::reasons::Reasons;
use crate::runtime::scheduler::stop::StopWindow;
use crate::store::Firing;

const MINUTE_MS: i64 = 60_000;

/// Time between two runs that are caught up on, when they are to be spread.
fn spacing(definition: &ScheduleDefinition) -> Option<chrono::Duration> {
    let rate = i64::from(definition.catchup_per_minute?.max(1));
    Some(chrono::Duration::milliseconds(MINUTE_MS / rate))
}

/// The firing of a schedule at `now`.
#[must_use]
pub fn plan_schedule(
    schedule: &Schedule,
    cadence: &Cadence,
    now: Timestamp,
    stop: &StopWindow,
) -> Firing {
    let definition = &schedule.definition;
    let millis = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let rules = MisfireRules {
        policy: definition.misfire_policy,
        grace: millis(definition.misfire_grace_ms),
        window: millis(definition.catchup_window_ms),
        cap: usize::try_from(definition.catchup_max).unwrap_or(0),
    };
    let left =
        definition.max_executions.map(|max| usize::try_from(max - schedule.fired).unwrap_or(0));
    let due = Due {
        cadence,
        next_run_at: schedule.next_run_at.unwrap_or(now),
        end_at: definition.end_at,
        left,
    };
    let plan = plan_firing(due, rules, now, &Reasons::of(schedule, stop));
    let run_all = definition.misfire_policy == MisfirePolicy::RunAll;
    let catch_up = if run_all { plan.caught_up } else { 0 };
    let spacing = spacing(definition).filter(|_| catch_up > 0);
    let executions = plan
        .run
        .iter()
        .enumerate()
        .map(|(place, at)| {
            let mut row = planned_execution(schedule, *at, now);
            if place >= plan.caught_up {
                put_jitter(&mut row, schedule, cadence);
            }
            if let Some(spacing) = spacing.filter(|_| place < catch_up) {
                let first = schedule.catch_up_at.map_or(now, |at| at.max(now));
                row.available_at = first + spacing * i32::try_from(place).unwrap_or(i32::MAX);
            }
            Arc::new(row)
        })
        .collect();
    let settled_at = settled_until(schedule, cadence, plan.next, now);
    let mut ledger = plan.ledger;
    ledger.extend(left_out(schedule, cadence, settled_at));
    Firing {
        schedule_id: schedule.id,
        expected_next: schedule.next_run_at,
        expected_version: schedule.version,
        executions,
        catch_up,
        catch_up_spacing: spacing,
        overlap_limit: definition.overlap_limit(),
        makes_room: definition.overlap_policy == OverlapPolicy::CancelRunning,
        ledger,
        settled_at,
        next_run_at: plan.next,
        next_if_left: plan.next_if_left,
        exhausted: plan.next.is_none(),
    }
}

/// Moves the start of a row that is on time.
fn put_jitter(row: &mut NewExecution, schedule: &Schedule, cadence: &Cadence) {
    let Some(jitter_ms) = schedule.definition.options.cadence.jitter_ms.filter(|ms| *ms > 0) else {
        return;
    };
    let at = row.scheduled_at;
    let moved = jitter(schedule.id, at, cadence.next_after(at), jitter_ms);
    row.available_at = at + moved;
    row.task.options.jitter_ms = Some(moved.num_milliseconds());
}

/// What a change of the cadence, or the end of the schedule, leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Planned instants up to now that will not run any more.
    pub ledger: Vec<LedgerRange>,
    /// Instants up to now that calendars or the clock-change policy took away.
    pub left_out: Vec<LedgerRange>,
    /// The last instant that these ranges or an execution give an outcome; a new cadence begins
    /// strictly after it (and after the last one of the ledger, which the store knows).
    pub last: Option<Timestamp>,
}

impl Settlement {
    /// Everything for the ledger.
    #[must_use]
    pub fn all(self) -> Vec<LedgerRange> {
        let mut all = self.ledger;
        all.extend(self.left_out);
        all
    }
}

/// Settles everything that the schedule had planned up to `now`. `cadence` is `None` when the
/// stored one cannot be read any more: then the announced instant alone is known.
///
/// A clock that was set back does not plan an instant again: what had its outcome keeps it.
#[must_use]
pub fn settle(
    schedule: &Schedule,
    cadence: Option<&Cadence>,
    now: Timestamp,
    stop: &StopWindow,
) -> Settlement {
    let Some(next_run_at) = schedule.next_run_at else {
        let left_out = cadence.map_or_else(Vec::new, |cadence| {
            left_out(schedule, cadence, settled_until(schedule, cadence, None, now))
        });
        return Settlement { ledger: Vec::new(), left_out, last: schedule.last_run_at };
    };
    let reasons = Reasons::of(schedule, stop);
    let end_at = schedule.definition.end_at;
    let Some(cadence) = cadence else {
        let missed = next_run_at <= end_at.map_or(now, |end| end.min(now));
        let range = LedgerRange {
            from: next_run_at,
            to: next_run_at,
            count: 1,
            reason: LedgerReason::Misfire,
        };
        let last = missed.then_some(next_run_at).or(schedule.last_run_at);
        let ledger = missed.then_some(range).into_iter().collect();
        return Settlement { ledger, left_out: Vec::new(), last };
    };
    let due = Due { cadence, next_run_at, end_at, left: None };
    let ledger = drop_until(due, now, &reasons);
    let left_out = left_out(schedule, cadence, settled_until(schedule, cadence, None, now));
    let last = ledger.last().map(|range| range.to).max(schedule.last_run_at);
    Settlement { ledger, left_out, last }
}

fn planned_execution(schedule: &Schedule, at: Timestamp, now: Timestamp) -> NewExecution {
    let definition = &schedule.definition;
    let task = definition.snapshot();
    NewExecution {
        schedule_id: Some(schedule.id),
        schedule_name: Some(definition.name.clone()),
        available_at: at.min(now),
        traceparent: Some(crate::telemetry::TraceParent::generate().to_string()),
        ..NewExecution::first(Trigger::Schedule, task, definition.priority, at)
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;

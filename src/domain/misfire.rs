//! Which planned instants run now, which never do, and which is next: pure.
//!
//! Every planned instant gets exactly one outcome: a run, or a place in a ledger range. The cost
//! follows what runs, not what was missed: a year of missed seconds is one range.

use std::time::Duration;

use crate::domain::Timestamp;
use crate::domain::cadence::Cadence;
use crate::domain::schedule::{LedgerRange, LedgerReason, MisfirePolicy};

/// Instants that are not missed and run in one plan at most; more wait for the next plan, which
/// follows at once.
pub const DUE_MAX: usize = 1_000;

/// What a schedule says about missed instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MisfireRules {
    /// What happens to them.
    pub policy: MisfirePolicy,
    /// Later than this is missed.
    pub grace: Duration,
    /// How far back `run_all` reaches.
    pub window: Duration,
    /// How many `run_all` runs at most.
    pub cap: usize,
}

/// Where a schedule stands.
#[derive(Clone, Copy, Debug)]
pub struct Due<'a> {
    /// Its cadence.
    pub cadence: &'a Cadence,
    /// Its next planned instant.
    pub next_run_at: Timestamp,
    /// No instant after it.
    pub end_at: Option<Timestamp>,
    /// Planned firings that are left (`maxExecutions`).
    pub left: Option<usize>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FiringPlan {
    /// Instants to run, oldest first.
    pub run: Vec<Timestamp>,
    /// How many of the first of `run` were missed and are caught up on.
    pub caught_up: usize,
    /// Instants that do not run.
    pub ledger: Vec<LedgerRange>,
    /// The next planned instant; `None` when there is none.
    pub next: Option<Timestamp>,
}

/// Plans the firing of a schedule at `now`. `reason_of` tells why an instant was missed.
#[must_use]
pub fn plan_firing(
    due: Due<'_>,
    rules: MisfireRules,
    now: Timestamp,
    reason_of: impl Fn(Timestamp) -> LedgerReason,
) -> FiringPlan {
    let mut plan = FiringPlan::default();
    let until = due.end_at.map_or(now, |end| end.min(now));
    let grace = chrono::Duration::from_std(rules.grace).unwrap_or(chrono::Duration::MAX);
    let missed_before = now.checked_sub_signed(grace).unwrap_or(Timestamp::MIN_UTC);
    let mut position = due.next_run_at;
    if position < missed_before && position <= until {
        plan_missed(&mut plan, due, rules, (now, missed_before), &reason_of);
        position = match first_from(due.cadence, missed_before) {
            Some(first) => first,
            None => return bounded(plan, due, None),
        };
    }
    let mut next = Some(position);
    while let Some(at) = next.filter(|at| *at <= until) {
        if plan.run.len() >= DUE_MAX + plan.caught_up {
            break;
        }
        plan.run.push(at);
        next = due.cadence.next_after(at);
    }
    bounded(plan, due, next)
}

/// The first planned instant at or after `at`.
fn first_from(cadence: &Cadence, at: Timestamp) -> Option<Timestamp> {
    cadence.next_after(at.checked_sub_signed(chrono::Duration::microseconds(1))?)
}

/// The newest planned instant in `[first, at]`. `first` counts as planned even if the cadence no
/// longer has it: it was announced (zone data may have changed since).
fn last_planned(cadence: &Cadence, at: Timestamp, first: Timestamp) -> Option<Timestamp> {
    (first <= at).then(|| cadence.last_at_or_before(at, first).unwrap_or(first))
}

/// Plans the instants in `[next_run_at, missed_before)`, up to the end.
fn plan_missed(
    plan: &mut FiringPlan,
    due: Due<'_>,
    rules: MisfireRules,
    (now, missed_before): (Timestamp, Timestamp),
    reason_of: &impl Fn(Timestamp) -> LedgerReason,
) {
    let tick = chrono::Duration::microseconds(1);
    let first = due.next_run_at;
    let before = due.end_at.map_or(missed_before - tick, |end| end.min(missed_before - tick));
    let Some(newest) = last_planned(due.cadence, before, first) else { return };
    match rules.policy {
        MisfirePolicy::Skip => plan.skip(due.cadence, first, newest, reason_of),
        MisfirePolicy::Coalesce => {
            if let Some(last) = last_planned(due.cadence, newest - tick, first) {
                plan.skip(due.cadence, first, last, reason_of);
            }
            plan.run.push(newest);
        }
        MisfirePolicy::RunAll => {
            let window = chrono::Duration::from_std(rules.window).unwrap_or(chrono::Duration::MAX);
            let reach = now.checked_sub_signed(window).unwrap_or(Timestamp::MIN_UTC).max(first);
            let mut caught: Vec<Timestamp> = Vec::new();
            let mut at = Some(newest);
            while let Some(instant) = at.filter(|_| caught.len() < rules.cap) {
                caught.push(instant);
                at = last_planned(due.cadence, instant - tick, first).filter(|at| *at >= reach);
            }
            if newest < reach {
                caught.clear();
            }
            caught.reverse();
            let oldest = caught.first().copied().unwrap_or(newest + tick);
            if let Some(last) = last_planned(due.cadence, oldest - tick, first) {
                plan.skip(due.cadence, first, last, &|_| LedgerReason::Window);
            }
            plan.run.append(&mut caught);
        }
    }
    plan.caught_up = plan.run.len();
}

impl FiringPlan {
    /// Puts the instants in `[first, last]` into the ledger, split where the reason changes from
    /// the older to the newer part.
    fn skip(
        &mut self,
        cadence: &Cadence,
        first: Timestamp,
        last: Timestamp,
        reason_of: &impl Fn(Timestamp) -> LedgerReason,
    ) {
        let count = cadence.count_between(first, last).saturating_add(1);
        let reason = reason_of(first);
        if reason == reason_of(last) {
            self.ledger.push(LedgerRange {
                from: first,
                to: last,
                count: i64::try_from(count).unwrap_or(i64::MAX),
                reason,
            });
            return;
        }
        // Halve by time until each part has one reason; a part of one instant always has.
        let middle = first + (last - first) / 2;
        if let Some(older) = last_planned(cadence, middle, first) {
            self.skip(cadence, first, older, reason_of);
            if let Some(newer) = cadence.next_after(older) {
                self.skip(cadence, newer, last, reason_of);
            }
        }
    }
}

/// Applies `maxExecutions` and `endAt` to what comes next.
fn bounded(mut plan: FiringPlan, due: Due<'_>, next: Option<Timestamp>) -> FiringPlan {
    if let Some(left) = due.left
        && plan.run.len() >= left
    {
        plan.run.truncate(left);
        plan.caught_up = plan.caught_up.min(left);
        return plan;
    }
    plan.next = next.filter(|next| due.end_at.is_none_or(|end| *next <= end));
    plan
}

#[cfg(test)]
#[path = "misfire_tests.rs"]
mod tests;

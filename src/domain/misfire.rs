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

/// Tells why an instant was missed.
pub trait MissReasons {
    /// The reason of the instant `at`.
    fn reason(&self, at: Timestamp) -> LedgerReason;

    /// The instants from which on another reason may hold; a range is split before each.
    fn boundaries(&self) -> Vec<Timestamp> {
        Vec::new()
    }
}

impl<F: Fn(Timestamp) -> LedgerReason> MissReasons for F {
    fn reason(&self, at: Timestamp) -> LedgerReason {
        self(at)
    }
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
    /// The next one if `maxExecutions` turns out not to be spent, since an instant of `run` gave
    /// way to earlier runs; only when that limit is what ended the plan.
    pub next_if_left: Option<Timestamp>,
}

/// Plans the firing of a schedule at `now`. `reasons` tell why an instant was missed.
#[must_use]
pub fn plan_firing(
    due: Due<'_>,
    rules: MisfireRules,
    now: Timestamp,
    reasons: &impl MissReasons,
) -> FiringPlan {
    let mut plan = FiringPlan::default();
    let until = due.end_at.map_or(now, |end| end.min(now));
    let grace = chrono::Duration::from_std(rules.grace).unwrap_or(chrono::Duration::MAX);
    let missed_before = now.checked_sub_signed(grace).unwrap_or(Timestamp::MIN_UTC);
    let mut position = due.next_run_at;
    if position < missed_before && position <= until {
        plan_missed(&mut plan, due, rules, (now, missed_before), reasons);
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
    reasons: &impl MissReasons,
) {
    let tick = chrono::Duration::microseconds(1);
    let first = due.next_run_at;
    let before = due.end_at.map_or(missed_before - tick, |end| end.min(missed_before - tick));
    let Some(newest) = last_planned(due.cadence, before, first) else { return };
    match rules.policy {
        MisfirePolicy::Skip => plan.skip(due.cadence, first, newest, reasons),
        MisfirePolicy::Coalesce => {
            if let Some(last) = last_planned(due.cadence, newest - tick, first) {
                plan.skip(due.cadence, first, last, reasons);
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
                plan.skip(due.cadence, first, last, &|_: Timestamp| LedgerReason::Window);
            }
            plan.run.append(&mut caught);
        }
    }
    plan.caught_up = plan.run.len();
}

/// The ranges of all planned instants from the next one up to and including `until`: what an edit
/// or a deletion drops.
#[must_use]
pub fn drop_until(due: Due<'_>, until: Timestamp, reasons: &impl MissReasons) -> Vec<LedgerRange> {
    let until = due.end_at.map_or(until, |end| end.min(until));
    let mut plan = FiringPlan::default();
    if let Some(newest) = last_planned(due.cadence, until, due.next_run_at) {
        plan.skip(due.cadence, due.next_run_at, newest, reasons);
    }
    plan.ledger
}

impl FiringPlan {
    /// Puts the instants in `[first, last]` into the ledger, split where the reason changes.
    fn skip(
        &mut self,
        cadence: &Cadence,
        first: Timestamp,
        last: Timestamp,
        reasons: &impl MissReasons,
    ) {
        let mut first = first;
        let mut cuts = reasons.boundaries();
        cuts.sort_unstable();
        for cut in cuts.into_iter().filter(|cut| *cut <= last) {
            let before = cut - chrono::Duration::microseconds(1);
            let Some(older) = last_planned(cadence, before, first) else { continue };
            self.skip_part(cadence, first, older, reasons);
            match cadence.next_after(older) {
                Some(newer) if newer <= last => first = newer,
                _ => return,
            }
        }
        self.skip_part(cadence, first, last, reasons);
    }

    /// Likewise for a part without known boundaries: split where its ends differ.
    fn skip_part(
        &mut self,
        cadence: &Cadence,
        first: Timestamp,
        last: Timestamp,
        reasons: &impl MissReasons,
    ) {
        let reason = reasons.reason(first);
        if reason == reasons.reason(last) {
            let count = cadence.count_between(first, last).saturating_add(1);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            return self.enter(LedgerRange { from: first, to: last, count, reason });
        }
        // Halve by time until each part has one reason; a part of one instant always has.
        let middle = first + (last - first) / 2;
        if let Some(older) = last_planned(cadence, middle, first) {
            self.skip_part(cadence, first, older, reasons);
            if let Some(newer) = cadence.next_after(older) {
                self.skip_part(cadence, newer, last, reasons);
            }
        }
    }

    /// Adds a range; one that goes on with the reason of the last prolongs it.
    fn enter(&mut self, range: LedgerRange) {
        match self.ledger.last_mut() {
            Some(last) if last.reason == range.reason => {
                last.to = range.to;
                last.count = last.count.saturating_add(range.count);
            }
            _ => self.ledger.push(range),
        }
    }
}

/// Applies `maxExecutions` and `endAt` to what comes next.
fn bounded(mut plan: FiringPlan, due: Due<'_>, next: Option<Timestamp>) -> FiringPlan {
    let next = next.filter(|next| due.end_at.is_none_or(|end| *next <= end));
    if let Some(left) = due.left
        && plan.run.len() >= left
    {
        plan.next_if_left = plan.run.get(left).copied().or(next);
        plan.run.truncate(left);
        plan.caught_up = plan.caught_up.min(left);
        return plan;
    }
    plan.next = next;
    plan
}

#[cfg(test)]
#[path = "misfire_tests.rs"]
mod tests;

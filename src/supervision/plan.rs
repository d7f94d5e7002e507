//! What a supervisor decides, as a pure state machine: events and a time in, actions out.
//!
//! The supervisor's task only applies what [`Plan::step`] returns. The plan owns order (start
//! waits for predecessors' first pass, stop goes in reverse), strategies, restart limits, back-off
//! and every deadline. Time is a duration since the supervisor's start, so a test needs no clock.
//!
//! It guarantees:
//! - a child has at most one life that was not stopped, aborted or abandoned before the next;
//! - operator verbs and moves of a group are never charged to the restart limit;
//! - past the limit nothing is launched any more, all children are stopped, and it ends once.
//!
//! Deliberately not here: generations. Whoever applies the plan drops events of lives that are
//! over, so every event is about the current life of its child.

use std::collections::VecDeque;
use std::time::Duration;

use super::spec::{ChildPolicy, Restart, RestartLimit, Strategy};

/// How long an aborted child may take to vanish before its thread is taken for blocked. Long
/// enough for a thread that waits for its turn on a loaded machine.
pub(crate) const ABORT_GRACE: Duration = Duration::from_millis(500);

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not running, to be launched as soon as its time and its predecessors allow.
    Down,
    /// Launched, no successful pass yet.
    Starting { deadline: Option<Duration> },
    /// Past its first successful pass.
    Running,
    /// Asked to stop, or aborted, until a deadline.
    Stopping { until: Duration, aborted: bool },
    /// Not running, and not to be launched unless an operator says so.
    Stopped,
    /// As stopped, after a crash that its policy does not restart.
    Failed,
}

/// What happened to the current life of a child, or is wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed.
    Tick,
    /// The child made its first successful pass.
    Ready(usize),
    /// The life is over.
    Exited { child: usize, crashed: bool },
    /// No beat for too long.
    Hung(usize),
    /// Its thread was taken for blocked because of another child, and replaced.
    Displaced(usize),
    /// An operator wants it restarted, stopped, started.
    Restart(usize),
    /// See above.
    Stop(usize),
    /// See above.
    Start(usize),
    /// The supervisor itself has to stop; `for_good` unless it is about to be restarted.
    Close { for_good: bool },
}

/// What to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a new life.
    Launch(usize),
    /// Ask to stop; `for_good` when it will not be started again by itself.
    AskStop { child: usize, for_good: bool },
    /// The start took too long; record it (the abort follows).
    StartTimedOut(usize),
    /// End the life without asking.
    Abort(usize),
    /// The life does not end: forget it and replace its thread.
    Abandon(usize),
    /// The supervisor's own life is over.
    End(Ending),
}

/// How a supervisor's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was asked to.
    Closed { for_good: bool },
    /// It was over its restart limit.
    GaveUp,
}

/// The fixed part of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) strategy: Strategy,
    pub(crate) limit: RestartLimit,
    pub(crate) children: Vec<ChildPolicy>,
}

#[derive(Clone, Debug)]
struct Slot {
    policy: ChildPolicy,
    phase: Phase,
    /// It shall run.
    wanted: bool,
    /// It made its first pass since its batch was started; successors need not wait.
    passed: bool,
    /// It has to go down before anything else happens to it.
    doomed: bool,
    not_before: Duration,
    crashes: u32,
    last_crash: Option<Duration>,
    /// It crashed, and its policy does not restart it.
    crashed_out: bool,
}

impl Slot {
    const fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Running)
    }

    const fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down | Phase::Stopped | Phase::Failed)
    }

    const fn is_going_down(&self) -> bool {
        self.doomed && !self.is_down()
    }

    /// The life is over and that was expected.
    fn settle(&mut self) {
        self.doomed = false;
        self.phase = if self.wanted { Phase::Down } else { self.rest() };
    }

    const fn rest(&self) -> Phase {
        if self.crashed_out { Phase::Failed } else { Phase::Stopped }
    }
}

/// The state of one life of a supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    strategy: Strategy,
    limit: RestartLimit,
    slots: Vec<Slot>,
    window: VecDeque<Duration>,
    ending: Option<Ending>,
    ended: bool,
    /// The time of the last step.
    now: Duration,
}

impl Plan {
    /// A plan that will launch all children but those `held` back by an operator.
    pub(crate) fn new(policy: Policy, held: impl Fn(usize) -> bool) -> Self {
        let slots = policy.children.into_iter().enumerate().map(|(index, policy)| Slot {
            policy,
            phase: if held(index) { Phase::Stopped } else { Phase::Down },
            wanted: !held(index),
            passed: false,
            doomed: false,
            not_before: Duration::ZERO,
            crashes: 0,
            last_crash: None,
            crashed_out: false,
        });
        Self {
            strategy: policy.strategy,
            limit: policy.limit,
            slots: slots.collect(),
            window: VecDeque::new(),
            ending: None,
            ended: false,
            now: Duration::ZERO,
        }
    }

    /// Takes in what happened and returns what to do about it.
    #[must_use]
    pub(crate) fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ended {
            return actions;
        }
        self.now = now;
        match event {
            Event::Tick => {}
            Event::Ready(child) => self.ready(child),
            Event::Exited { child, crashed } => self.exited(now, child, crashed),
            Event::Hung(child) => self.abort_and_fail(now, child, &mut actions),
            Event::Displaced(child) => self.displaced(now, child),
            Event::Restart(child) => self.operator_restart(now, child),
            Event::Stop(child) => self.operator_stop(child),
            Event::Start(child) => self.operator_start(now, child),
            Event::Close { for_good } => self.end(Ending::Closed { for_good }),
        }
        self.expire(now, &mut actions);
        self.stop_doomed(now, &mut actions);
        self.launch_due(now, &mut actions);
        if let Some(ending) = self.ending
            && self.slots.iter().all(Slot::is_down)
        {
            self.ended = true;
            actions.push(Action::End(ending));
        }
        actions
    }

    /// When the plan wants its next tick, whatever else happens.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let due = self.slots.iter().filter_map(|slot| match slot.phase {
            Phase::Starting { deadline } => deadline,
            Phase::Stopping { until, .. } => Some(until),
            // One whose time has come waits for others, and their events come by themselves.
            Phase::Down if slot.wanted && slot.not_before > self.now => Some(slot.not_before),
            _ => None,
        });
        due.min()
    }

    /// Where a child stands.
    pub(crate) fn phase(&self, child: usize) -> Option<Phase> {
        self.slots.get(child).map(|slot| slot.phase)
    }

    /// Whether a child is waiting for its back-off to pass.
    pub(crate) fn is_backing_off(&self, child: usize, now: Duration) -> bool {
        self.slots
            .get(child)
            .is_some_and(|slot| slot.phase == Phase::Down && slot.wanted && slot.not_before > now)
    }

    /// Whether a child is up, or will be by itself.
    pub(crate) fn is_wanted(&self, child: usize) -> bool {
        self.slots.get(child).is_some_and(|slot| slot.wanted)
    }

    /// Whether all children that shall run made their first pass.
    pub(crate) fn has_passed(&self) -> bool {
        self.ending.is_none() && self.slots.iter().all(|slot| slot.passed || !slot.wanted)
    }

    /// Whether the supervisor is on its way out.
    pub(crate) const fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Restarts that count at `now`.
    pub(crate) fn restarts_in_window(&self, now: Duration) -> usize {
        self.window.iter().filter(|at| now.saturating_sub(**at) < self.limit.within).count()
    }

    fn ready(&mut self, child: usize) {
        if let Some(slot) = self.slots.get_mut(child)
            && slot.is_live()
        {
            slot.phase = Phase::Running;
            slot.passed = true;
        }
    }

    fn exited(&mut self, now: Duration, child: usize, crashed: bool) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        if slot.doomed || matches!(slot.phase, Phase::Stopping { .. }) {
            slot.settle();
        } else if slot.is_live() {
            slot.phase = Phase::Down;
            self.fail(now, child, crashed);
            // A child that its policy does not restart rests at once.
            if let Some(slot) = self.slots.get_mut(child)
                && !slot.wanted
                && slot.phase == Phase::Down
            {
                slot.phase = slot.rest();
            }
        }
    }

    fn abort_and_fail(&mut self, now: Duration, child: usize, actions: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        if !slot.is_live() {
            return;
        }
        slot.phase = Phase::Stopping { until: now.saturating_add(ABORT_GRACE), aborted: true };
        let expected = slot.doomed;
        slot.doomed = true;
        actions.push(Action::Abort(child));
        if !expected {
            self.fail(now, child, true);
        }
    }

    fn displaced(&mut self, now: Duration, child: usize) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        if slot.doomed || matches!(slot.phase, Phase::Stopping { .. }) {
            slot.settle();
        } else if slot.is_live() {
            slot.phase = Phase::Down;
            slot.not_before = now;
        }
    }

    /// Decides about a child whose life is over, or as good as over, without being asked to.
    fn fail(&mut self, now: Duration, child: usize, crashed: bool) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        let restarts = match slot.policy.restart {
            Restart::Permanent => true,
            Restart::Transient => crashed,
            Restart::Temporary => false,
        };
        if !restarts {
            slot.wanted = false;
            slot.crashed_out = crashed;
            return;
        }
        let backoff = slot.policy.backoff;
        let peace = slot.last_crash.map(|at| now.saturating_sub(at));
        slot.crashes = if peace.is_some_and(|peace| peace < backoff.forget) {
            slot.crashes.saturating_add(1)
        } else {
            1
        };
        slot.last_crash = Some(now);
        slot.not_before = now.saturating_add(backoff.delay(slot.crashes));
        self.window.retain(|at| now.saturating_sub(*at) < self.limit.within);
        self.window.push_back(now);
        if self.window.len() > self.limit.restarts {
            self.end(Ending::GaveUp);
        } else {
            self.doom_siblings(child);
        }
    }

    /// Marks those who go down with `child`, and makes them wait for each other when they return.
    fn doom_siblings(&mut self, child: usize) {
        let first = match self.strategy {
            Strategy::OneForOne => return,
            Strategy::RestForOne => child,
            Strategy::OneForAll => 0,
        };
        for (index, slot) in self.slots.iter_mut().enumerate().skip(first) {
            slot.passed = false;
            if index == child {
                continue;
            }
            if slot.policy.restart == Restart::Temporary {
                slot.wanted = false;
            }
            if slot.is_down() {
                slot.phase = if slot.wanted { Phase::Down } else { slot.rest() };
            } else {
                slot.doomed = true;
            }
        }
    }

    fn operator_restart(&mut self, now: Duration, child: usize) {
        if self.ending.is_some() {
            return;
        }
        let Some(slot) = self.slots.get_mut(child) else { return };
        slot.wanted = true;
        slot.not_before = now;
        slot.crashes = 0;
        slot.crashed_out = false;
        if slot.is_down() {
            slot.phase = Phase::Down;
        } else {
            slot.doomed = true;
        }
        self.doom_siblings(child);
    }

    fn operator_stop(&mut self, child: usize) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        slot.wanted = false;
        slot.crashed_out = false;
        if slot.is_down() {
            slot.phase = Phase::Stopped;
        } else {
            slot.doomed = true;
        }
    }

    fn operator_start(&mut self, now: Duration, child: usize) {
        if self.ending.is_some() {
            return;
        }
        let Some(slot) = self.slots.get_mut(child) else { return };
        slot.wanted = true;
        slot.not_before = now;
        slot.crashes = 0;
        slot.crashed_out = false;
        if slot.is_down() {
            slot.phase = Phase::Down;
        }
    }

    fn end(&mut self, ending: Ending) {
        // A close that comes while giving up turns into a close: the parent has decided already.
        self.ending = Some(ending);
        for slot in &mut self.slots {
            slot.wanted = false;
            if slot.is_down() {
                slot.phase = slot.rest();
            } else {
                slot.doomed = true;
            }
        }
    }

    /// Acts on deadlines that have passed.
    fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for child in 0..self.slots.len() {
            match self.phase(child) {
                Some(Phase::Starting { deadline: Some(deadline) }) if deadline <= now => {
                    actions.push(Action::StartTimedOut(child));
                    self.abort_and_fail(now, child, actions);
                }
                Some(Phase::Stopping { until, aborted }) if until <= now => {
                    let Some(slot) = self.slots.get_mut(child) else { continue };
                    if aborted {
                        slot.settle();
                        actions.push(Action::Abandon(child));
                    } else {
                        let until = now.saturating_add(ABORT_GRACE);
                        slot.phase = Phase::Stopping { until, aborted: true };
                        actions.push(Action::Abort(child));
                    }
                }
                _ => {}
            }
        }
    }

    /// Asks the last of the doomed to stop, once those after it are down.
    fn stop_doomed(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let ending = self.ending;
        let last = self.slots.iter_mut().enumerate().rfind(|(_, slot)| slot.is_going_down());
        if let Some((child, slot)) = last
            && slot.is_live()
        {
            let until = now.saturating_add(slot.policy.shutdown);
            slot.phase = Phase::Stopping { until, aborted: false };
            let for_good = match ending {
                None => !slot.wanted,
                Some(Ending::Closed { for_good }) => for_good,
                Some(Ending::GaveUp) => false,
            };
            actions.push(Action::AskStop { child, for_good });
        }
    }

    fn launch_due(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let grouped = self.strategy != Strategy::OneForOne;
        if grouped && self.slots.iter().any(Slot::is_going_down) {
            return;
        }
        for (child, slot) in self.slots.iter_mut().enumerate() {
            if slot.phase == Phase::Down && slot.wanted && slot.not_before <= now {
                let deadline = slot.policy.start_deadline.map(|limit| now.saturating_add(limit));
                slot.phase = Phase::Starting { deadline };
                actions.push(Action::Launch(child));
            }
            if slot.wanted && slot.policy.waits_for_ready && !slot.passed {
                // Those after it wait for its first pass.
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

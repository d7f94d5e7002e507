//! Circuit breakers: what a target lets through, decided from how the last runs against it ended.
//!
//! A breaker is closed (all runs pass), open (none does) or half open (one does, the probe). It
//! opens when more than half of its window failed or so many failed in a row, lets one probe pass
//! after a while, and closes when that one works. Only failures that speak of the target count: a
//! refused request or a task's own exit code says nothing of it.
//!
//! An operator may force it open or closed, with an expiry; a force is obeyed and nothing is judged
//! while it lasts. Forcing open ends with a probe, forcing closed with an empty window.
//!
//! Not here: where breakers are kept, and which rows wait for one (`store/queries/breakers.rs`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use url::Url;

use crate::domain::execution::{ExecutionStatus, TaskSnapshot};
use crate::domain::options::BreakerOptions;
use crate::domain::task::TaskError;
use crate::domain::text_enum;

/// The target of every conductor task.
pub const CONDUCTOR: &str = "conductor";
/// How a target begins that a schedule named.
pub const NAMED: &str = "key:";
/// How the target of HTTP tasks begins.
pub const HTTP: &str = "http:";
/// Failures in a row that open a breaker unless a schedule says otherwise.
pub const FAILURES_DEFAULT: u32 = 5;
/// Runs of the window of which more than half must fail.
pub const WINDOW_DEFAULT: u32 = 10;
/// Milliseconds before a probe.
pub const OPEN_MS_DEFAULT: u64 = 30_000;

/// What a target lets through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetGate {
    /// Nothing: its breaker is open, or a probe is on its way.
    Closed,
    /// One execution, to see whether it works again.
    OneProbe,
}

text_enum! {
    /// Where a breaker stands.
    #[derive(Default)]
    pub enum BreakerState {
        /// All runs pass.
        #[default]
        Closed = "closed",
        /// No run passes.
        Open = "open",
        /// One run passes, and decides.
        HalfOpen = "half_open",
    }
}

impl BreakerState {
    /// The event that tells that a breaker came here.
    #[must_use]
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Closed => "breaker_closed",
            Self::Open => "breaker_opened",
            Self::HalfOpen => "breaker_half_open",
        }
    }
}

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it, at least 1.
    pub failures: u32,
    /// Runs that are looked back at; more than half of so many failing opens it too.
    pub window: u32,
    /// Milliseconds before a probe.
    pub open_ms: u64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: FAILURES_DEFAULT, window: WINDOW_DEFAULT, open_ms: OPEN_MS_DEFAULT }
    }
}

impl BreakerPolicy {
    /// What a schedule asks for, the rest by default.
    #[must_use]
    pub fn of(options: Option<&BreakerOptions>) -> Self {
        let default = Self::default();
        let Some(options) = options else { return default };
        Self {
            failures: options.failures.unwrap_or(default.failures),
            window: options.window.unwrap_or(default.window),
            open_ms: options.open_ms.unwrap_or(default.open_ms),
        }
    }
}

/// What the end of a run says of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered.
    Works,
    /// It is broken.
    Broken,
    /// Nothing: the run never got there, or was ended.
    Silent,
}

impl Verdict {
    /// The verdict of a run that ended with `status` and `error` on `target`. Exit codes count for
    /// targets that the schedule named, as nothing else can speak of those.
    #[must_use]
    pub fn of(target: &str, status: ExecutionStatus, error: Option<&TaskError>) -> Self {
        if status == ExecutionStatus::Completed {
            return Self::Works;
        }
        let Some(error) = error.filter(|_| status != ExecutionStatus::Cancelled) else {
            return Self::Silent;
        };
        match error.retry_class() {
            Some("connection" | "timeout" | "http_5xx" | "http_429" | "conductor") => Self::Broken,
            Some("exit_code") if target.starts_with(NAMED) => Self::Broken,
            _ if error.kind == "http_4xx" => Self::Works,
            _ => Self::Silent,
        }
    }
}

/// An operator's word that overrules the judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Force {
    /// True: nothing passes. False: everything does.
    pub is_open: bool,
    /// Until when; without, until it is reset.
    pub until: Option<DateTime<Utc>>,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

impl Force {
    fn holds(&self, now: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Where it stood.
    pub from: BreakerState,
    /// Where it stands.
    pub to: BreakerState,
    /// Why: `failures_in_a_row`, `failure_rate`, `probe_due`, `probe_succeeded`, `probe_failed`,
    /// `forced_open`, `forced_closed`, `reset`.
    pub cause: &'static str,
}

/// The end of a run, for the breaker of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Row id of the run.
    pub execution: i64,
    /// What it says.
    pub verdict: Verdict,
    /// What its schedule asks for.
    pub policy: BreakerPolicy,
}

/// A breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Where it stands; see [`Breaker::gate`] for what that means now.
    pub state: BreakerState,
    /// The last runs that said something, oldest first, true where one failed; empty while nothing
    /// failed. At most `policy.window`.
    pub recent: Vec<bool>,
    /// Failures since the last success.
    pub in_a_row: u32,
    /// What the newest report asked for.
    pub policy: BreakerPolicy,
    /// When it opened.
    pub opened_at: Option<DateTime<Utc>>,
    /// From when a probe may go, while it is open.
    pub probe_at: Option<DateTime<Utc>>,
    /// Row id of the probe, while one is on its way.
    pub probe: Option<i64>,
    /// An operator's word, perhaps past its time.
    pub forced: Option<Force>,
}

impl Breaker {
    /// True when everything passes and a success would change nothing.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.state == BreakerState::Closed && self.recent.is_empty() && self.forced.is_none()
    }

    /// The operator's word that holds now.
    #[must_use]
    pub fn force_in_force(&self, now: DateTime<Utc>) -> Option<&Force> {
        self.forced.as_ref().filter(|force| force.holds(now))
    }

    /// What passes now; `None` is everything.
    #[must_use]
    pub fn gate(&self, now: DateTime<Utc>) -> Option<TargetGate> {
        if let Some(force) = self.force_in_force(now) {
            return force.is_open.then_some(TargetGate::Closed);
        }
        match self.state {
            BreakerState::Closed => None,
            BreakerState::Open if self.probe_at.is_none_or(|at| at <= now) => {
                Some(TargetGate::OneProbe)
            }
            BreakerState::HalfOpen if self.probe.is_none() => Some(TargetGate::OneProbe),
            BreakerState::Open | BreakerState::HalfOpen => Some(TargetGate::Closed),
        }
    }

    /// Takes the end of a run into account.
    pub fn record(&mut self, report: Report, now: DateTime<Utc>) -> Option<Transition> {
        if self.force_in_force(now).is_some() {
            return None;
        }
        self.forced = None;
        self.policy = report.policy;
        match self.state {
            BreakerState::Closed => self.judge(report.verdict, now),
            // It was started before the breaker opened, and says nothing new.
            BreakerState::Open => None,
            BreakerState::HalfOpen if self.probe == Some(report.execution) => {
                self.probe = None;
                match report.verdict {
                    Verdict::Works => Some(self.close("probe_succeeded")),
                    Verdict::Broken => Some(self.open("probe_failed", now)),
                    Verdict::Silent => None,
                }
            }
            BreakerState::HalfOpen => None,
        }
    }

    fn judge(&mut self, verdict: Verdict, now: DateTime<Utc>) -> Option<Transition> {
        let has_failed = match verdict {
            Verdict::Silent => return None,
            Verdict::Works if self.recent.is_empty() => return None,
            Verdict::Works => false,
            Verdict::Broken => true,
        };
        self.recent.push(has_failed);
        let window = usize::try_from(self.policy.window).unwrap_or(usize::MAX).max(1);
        let excess = self.recent.len().saturating_sub(window);
        self.recent.drain(..excess);
        if !has_failed {
            self.in_a_row = 0;
            if !self.recent.contains(&true) {
                self.recent.clear();
            }
            return None;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let failed = self.recent.iter().filter(|failed| **failed).count();
        if self.in_a_row >= self.policy.failures {
            Some(self.open("failures_in_a_row", now))
        } else if failed.saturating_mul(2) > window {
            Some(self.open("failure_rate", now))
        } else {
            None
        }
    }

    fn go(&mut self, to: BreakerState, cause: &'static str) -> Transition {
        let from = std::mem::replace(&mut self.state, to);
        Transition { from, to, cause }
    }

    fn open(&mut self, cause: &'static str, now: DateTime<Utc>) -> Transition {
        let wait = chrono::Duration::from_std(Duration::from_millis(self.policy.open_ms));
        let wait = wait.unwrap_or(chrono::Duration::days(1));
        self.opened_at = Some(now);
        self.probe_at = now.checked_add_signed(wait);
        self.probe = None;
        self.go(BreakerState::Open, cause)
    }

    fn close(&mut self, cause: &'static str) -> Transition {
        self.recent.clear();
        self.in_a_row = 0;
        self.opened_at = None;
        self.probe_at = None;
        self.probe = None;
        self.go(BreakerState::Closed, cause)
    }

    /// Lets `execution` pass as the probe, if one may; it decides what follows.
    pub fn begin_probe(&mut self, execution: i64, now: DateTime<Utc>) -> Option<Transition> {
        if self.gate(now) != Some(TargetGate::OneProbe) {
            return None;
        }
        self.forced = None;
        self.probe = Some(execution);
        (self.state == BreakerState::Open).then(|| self.go(BreakerState::HalfOpen, "probe_due"))
    }

    /// Forgets a probe of which nothing more will be heard: another one may go.
    pub fn free_probe(&mut self) {
        self.probe = None;
    }

    /// Lets a probe go now. False when there is nothing to find out: it is closed, forced, or a
    /// probe is on its way.
    pub fn probe_now(&mut self, now: DateTime<Utc>) -> bool {
        let may = self.state == BreakerState::Open && self.force_in_force(now).is_none();
        if may {
            self.forced = None;
            self.probe_at = Some(now);
        }
        may
    }

    /// Overrules the judgement.
    pub fn force(&mut self, force: Force, now: DateTime<Utc>) -> Transition {
        let transition = if force.is_open {
            let transition = self.open("forced_open", now);
            self.probe_at = force.until;
            transition
        } else {
            self.close("forced_closed")
        };
        self.forced = Some(force);
        transition
    }

    /// Closes it and forgets everything. `None` when there was nothing to forget.
    pub fn reset(&mut self) -> Option<Transition> {
        let was_quiet = self.is_quiet();
        self.forced = None;
        let transition = self.close("reset");
        (!was_quiet).then_some(transition)
    }
}

/// What a task depends on and may find broken: the key that its schedule names, the host of its
/// URL (with the port, unless it is the scheme's own), the conductor. `None` for other tasks, and
/// where the schedule turned its breaker off.
#[must_use]
pub fn target_of(task: &TaskSnapshot) -> Option<String> {
    let options = task.options.recovery.breaker.as_ref();
    if options.is_some_and(|options| options.enabled == Some(false)) {
        return None;
    }
    if let Some(key) = options.and_then(|options| options.key.as_ref()) {
        return Some(format!("{NAMED}{key}"));
    }
    match task.task_type.as_str() {
        "http_request" => host_of(task.task_config.get("url").and_then(Value::as_str)?),
        "conductor_task" => Some(CONDUCTOR.to_owned()),
        _ => None,
    }
}

fn host_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{HTTP}{host}:{port}"),
        None => format!("{HTTP}{host}"),
    })
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;

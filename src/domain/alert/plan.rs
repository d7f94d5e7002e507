//! The plan of alerts: what a sighting opens or joins, what an end clears, what is told when.
//!
//! A [`Book`] holds the alerts that some steps touch; it is made from rows, given the steps in the
//! order of events and the time that has come, and its changed alerts are rows again. It asks
//! nobody: the same rows and steps always give the same book.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::{Sighting, Step};
use super::rule::{AlertRule, span};
use super::{Alert, AlertState, Subject};
use crate::domain::{Timestamp, text_enum};

/// Samples that an alert keeps.
pub const SAMPLES_MAX: usize = 5;
/// Open things that an alert follows; further ones are counted and not followed.
pub const SUBJECTS_MAX: usize = 1_000;
/// Characters of a title at most.
const TITLE_MAX: usize = 200;

text_enum! {
    /// Why a message is sent.
    pub enum MessageKind {
        /// An alert was raised.
        Raised = "alert.raised",
        /// It still holds.
        Repeated = "alert.repeated",
        /// What quiet hours held back.
        Digest = "alert.digest",
        /// A person tries a channel.
        Test = "alert.test",
    }
}

/// Alerts to be told in one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The rule, whose channels are told.
    pub rule_id: i64,
    /// Why.
    pub kind: MessageKind,
    /// Places of the alerts in the book.
    pub alerts: Vec<usize>,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It was raised.
    Raised,
    /// It is over.
    Cleared,
}

/// Some alerts, and what was done to them.
#[derive(Debug, Default)]
pub struct Book {
    /// The alerts; those past the first ones are new and have no id.
    pub alerts: Vec<Alert>,
    /// Places of those that were changed.
    pub changed: BTreeSet<usize>,
    /// What became of which, in order.
    pub turns: Vec<(usize, Turn)>,
}

impl Alert {
    /// Whether it is to be forgotten: it never was raised and waits for nothing.
    #[must_use]
    pub const fn is_void(&self) -> bool {
        matches!(self.state, AlertState::Cleared) && self.raised_at.is_none()
    }

    /// When it must be looked at again.
    #[must_use]
    pub fn next_at(&self, rule: Option<&AlertRule>) -> Option<Timestamp> {
        let ripe = self.subjects.values().filter_map(|subject| subject.ripe_at).min();
        let window = rule.and_then(|rule| rule.spec.count).map(|count| span(count.within_ms));
        let expiry = self.recent.last().zip(window).map(|(last, window)| *last + window);
        let ripe = ripe.filter(|_| self.state != AlertState::Cleared);
        let expiry = expiry.filter(|_| self.state == AlertState::Pending);
        [self.due_at, ripe, expiry].into_iter().flatten().min()
    }

    fn has_open(&self) -> bool {
        self.subjects.values().any(|subject| subject.ripe_at.is_none())
    }

    fn ripens_at(&self) -> Option<Timestamp> {
        self.subjects.values().filter_map(|subject| subject.ripe_at).min()
    }

    fn opened_by(rule: &AlertRule, seen: &Sighting) -> Self {
        let sample = &seen.sample;
        let about = sample.schedule_name.as_deref().unwrap_or(&rule.name);
        let title = format!("{about}: {}", sample.message.lines().next().unwrap_or_default());
        Self {
            id: 0,
            rule_id: rule.id,
            rule_name: rule.name.clone(),
            group_key: seen.group_key.clone(),
            state: AlertState::Pending,
            severity: seen.severity,
            title: title.chars().take(TITLE_MAX).collect(),
            schedule_id: sample.schedule_id,
            schedule_name: sample.schedule_name.clone(),
            count: 0,
            first_at: seen.at,
            last_at: seen.at,
            raised_at: None,
            due_at: None,
            delivered_at: None,
            deliveries: 0,
            is_held: false,
            has_news: false,
            follows: false,
            samples: Vec::new(),
            recent: Vec::new(),
            acknowledged_at: None,
            acknowledged_by: None,
            acknowledge_reason: None,
            cleared_at: None,
            created_at: seen.at,
            subjects: BTreeMap::new(),
        }
    }
}

impl Book {
    /// A book of stored alerts.
    #[must_use]
    pub fn of(alerts: Vec<Alert>) -> Self {
        Self { alerts, ..Self::default() }
    }

    /// Takes one step.
    pub fn take(&mut self, rules: &[AlertRule], step: &Step) {
        match step {
            Step::Seen(seen) => {
                if let Some(rule) = rules.iter().find(|rule| rule.id == seen.rule_id) {
                    self.see(rule, seen);
                }
            }
            Step::Ended { subject, at } => self.end(subject, *at),
        }
    }

    fn see(&mut self, rule: &AlertRule, seen: &Sighting) {
        let is_it = |alert: &Alert| {
            alert.rule_id == rule.id
                && alert.group_key == seen.group_key
                && alert.state != AlertState::Cleared
        };
        let place = self.alerts.iter().position(is_it).unwrap_or_else(|| {
            self.alerts.push(Alert::opened_by(rule, seen));
            self.alerts.len() - 1
        });
        let Some(alert) = self.alerts.get_mut(place) else { return };
        self.changed.insert(place);
        if let (Some(age), Some(subject)) = (rule.spec.older_than_ms, &seen.subject) {
            // What is known waits or counts already: its age is that of its first sighting.
            if alert.subjects.len() < SUBJECTS_MAX && !alert.subjects.contains_key(subject) {
                let ripe_at = Some(seen.at + span(age));
                let (severity, sample) = (seen.severity, seen.sample.clone());
                alert.subjects.insert(subject.clone(), Subject { ripe_at, severity, sample });
            }
            return;
        }
        if let Some(subject) = &seen.subject
            && (alert.subjects.len() < SUBJECTS_MAX || alert.subjects.contains_key(subject))
        {
            let (severity, sample) = (seen.severity, seen.sample.clone());
            alert.subjects.insert(subject.clone(), Subject { ripe_at: None, severity, sample });
        }
        self.count(rule, place, seen);
    }

    /// Counts a sighting whose subject, if any, is noted.
    fn count(&mut self, rule: &AlertRule, place: usize, seen: &Sighting) {
        let Some(alert) = self.alerts.get_mut(place) else { return };
        alert.follows |= seen.subject.is_some();
        alert.count += 1;
        alert.last_at = alert.last_at.max(seen.at);
        alert.severity = alert.severity.max(seen.severity);
        alert.samples.push(seen.sample.clone());
        if alert.samples.len() > SAMPLES_MAX {
            alert.samples.remove(0);
        }
        let quiet = rule.spec.quiet_hours.as_ref();
        if alert.is_held && quiet.is_none_or(|quiet| quiet.lets_through(alert.severity)) {
            alert.is_held = false;
            let soon = seen.at + span(rule.spec.group_wait_ms);
            alert.due_at = alert.due_at.map(|due| due.min(soon));
        }
        if alert.state != AlertState::Pending {
            alert.has_news = true;
            return;
        }
        if let Some(window) = rule.spec.count {
            alert.recent.retain(|at| *at > seen.at - span(window.within_ms));
            alert.recent.push(seen.at);
            if i64::try_from(alert.recent.len()).unwrap_or(i64::MAX) < window.at_least {
                return;
            }
        }
        alert.recent.clear();
        alert.state = AlertState::Firing;
        alert.raised_at = Some(seen.at);
        alert.due_at = Some(seen.at + span(rule.spec.group_wait_ms));
        self.turns.push((place, Turn::Raised));
    }

    fn end(&mut self, subject: &str, at: Timestamp) {
        for (place, alert) in self.alerts.iter_mut().enumerate() {
            if alert.state == AlertState::Cleared || alert.subjects.remove(subject).is_none() {
                continue;
            }
            self.changed.insert(place);
            if !alert.subjects.is_empty() {
                continue;
            }
            if alert.state == AlertState::Pending {
                drop_if_idle(alert, at);
            } else if alert.follows {
                clear(alert, at);
                self.turns.push((place, Turn::Cleared));
            }
        }
    }

    /// Does what is due at `now`; gives what is to be told.
    pub fn tick(&mut self, rules: &[AlertRule], now: Timestamp) -> Vec<Dispatch> {
        let mut told: Vec<Dispatch> = Vec::new();
        for place in 0..self.alerts.len() {
            let rule_id = self.alerts.get(place).map(|alert| alert.rule_id);
            let Some(rule) = rules.iter().find(|rule| Some(rule.id) == rule_id) else { continue };
            self.ripen(rule, place, now);
            if let Some(kind) = self.tell(rule, place, now) {
                let open = told.iter_mut().find(|one| one.rule_id == rule.id && one.kind == kind);
                match open {
                    Some(digest) if kind == MessageKind::Digest => digest.alerts.push(place),
                    _ => told.push(Dispatch { rule_id: rule.id, kind, alerts: vec![place] }),
                }
            }
        }
        for digest in told.iter_mut().filter(|one| one.kind == MessageKind::Digest) {
            if let [only] = digest.alerts.as_slice() {
                let is_first = self.alerts.get(*only).is_none_or(|alert| alert.deliveries == 1);
                digest.kind = if is_first { MessageKind::Raised } else { MessageKind::Repeated };
            }
        }
        told
    }

    /// Counts what has grown old enough, and forgets what will never be raised.
    fn ripen(&mut self, rule: &AlertRule, place: usize, now: Timestamp) {
        let Some(alert) = self.alerts.get_mut(place) else { return };
        if alert.state == AlertState::Cleared {
            return;
        }
        let mut ripe = Vec::new();
        for (name, subject) in &mut alert.subjects {
            if let Some(at) = subject.ripe_at.filter(|at| *at <= now) {
                subject.ripe_at = None;
                ripe.push(Sighting {
                    rule_id: rule.id,
                    group_key: alert.group_key.clone(),
                    subject: Some(name.clone()),
                    severity: subject.severity,
                    at,
                    sample: subject.sample.clone(),
                });
            }
        }
        ripe.sort_by_key(|seen| (seen.at, seen.sample.seq));
        for seen in &ripe {
            self.changed.insert(place);
            self.count(rule, place, seen);
        }
        let Some(alert) = self.alerts.get_mut(place) else { return };
        if alert.state == AlertState::Pending {
            let within = rule.spec.count.map_or(0, |count| count.within_ms);
            alert.recent.retain(|at| *at > now - span(within));
            if alert.ripens_at().is_none() {
                drop_if_idle(alert, now);
            }
            self.changed.insert(place);
        }
    }

    /// Whether an alert is told now, and why; moves it on either way.
    fn tell(&mut self, rule: &AlertRule, place: usize, now: Timestamp) -> Option<MessageKind> {
        let repeat = span(rule.spec.repeat_ms);
        let alert = self.alerts.get_mut(place)?;
        alert.due_at.filter(|due| *due <= now)?;
        self.changed.insert(place);
        let is_known = alert.state == AlertState::Acknowledged;
        let is_first = alert.deliveries == 0;
        if is_known || !is_first {
            let holds = alert.has_open() || alert.has_news;
            if is_known && holds {
                alert.has_news = false;
                alert.due_at = Some(now + repeat);
                return None;
            }
            if !holds {
                alert.due_at = alert.ripens_at();
                if alert.due_at.is_none() {
                    clear(alert, now);
                    self.turns.push((place, Turn::Cleared));
                }
                return None;
            }
        }
        let quiet = rule.spec.quiet_hours.as_ref().filter(|one| !one.lets_through(alert.severity));
        if let Some(end) = quiet.and_then(|quiet| quiet.until(now)) {
            alert.is_held = true;
            alert.due_at = Some(end);
            return None;
        }
        let kind = match (alert.is_held, is_first) {
            (true, _) => MessageKind::Digest,
            (false, true) => MessageKind::Raised,
            (false, false) => MessageKind::Repeated,
        };
        alert.deliveries += 1;
        alert.delivered_at = Some(now);
        alert.is_held = false;
        alert.has_news = false;
        alert.due_at = (alert.state != AlertState::Cleared).then(|| now + repeat);
        Some(kind)
    }
}

/// Ends an alert. One that nobody was told of is told once all the same.
fn clear(alert: &mut Alert, at: Timestamp) {
    let is_owed = alert.deliveries == 0 && alert.state == AlertState::Firing;
    alert.state = AlertState::Cleared;
    alert.cleared_at = Some(at);
    alert.subjects.clear();
    if !is_owed {
        alert.due_at = None;
        alert.is_held = false;
    }
}

/// Forgets an alert that was not raised and has nothing within its window.
fn drop_if_idle(alert: &mut Alert, at: Timestamp) {
    if alert.recent.is_empty() {
        alert.state = AlertState::Cleared;
        alert.cleared_at = Some(at);
        alert.subjects.clear();
    }
}

//! Tables of cases, and random histories against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::kinds::{Sighting, Step, steps_of};
use super::plan::{Book, Dispatch, MessageKind, Turn};
use super::quiet::{QuietHours, TimeOfDay};
use super::rule::{AlertRule, CountWindow, GroupBy, RuleSpec};
use super::{AlertState, Sample};
use crate::domain::Timestamp;
use crate::domain::event::{Event, Room, instant_text};
use crate::domain::execution::Severity;

/// 2026-11-21T00:00:00Z.
const MIDNIGHT: i64 = 1_795_219_200;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(MIDNIGHT + seconds, 0).unwrap()
}

fn spec() -> RuleSpec {
    RuleSpec {
        on: vec!["error_recorded".to_owned()],
        severities: Vec::new(),
        schedule_ids: Vec::new(),
        tags: Vec::new(),
        count: None,
        older_than_ms: None,
        group_by: GroupBy::Schedule,
        group_wait_ms: 5_000,
        repeat_ms: 600_000,
        channels: vec!["ops".to_owned()],
        quiet_hours: None,
    }
}

fn rule(spec: RuleSpec) -> AlertRule {
    AlertRule {
        id: 1,
        name: "night".to_owned(),
        enabled: true,
        spec,
        from_seq: 0,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn quiet(from: &str, to: &str) -> Option<QuietHours> {
    Some(QuietHours {
        from: TimeOfDay::parse(from).unwrap(),
        to: TimeOfDay::parse(to).unwrap(),
        timezone: chrono_tz::UTC,
        days: Vec::new(),
        except_severity: Some(Severity::Critical),
    })
}

fn seen(seconds: i64, group: &str, subject: Option<&str>) -> Step {
    Step::Seen(Sighting {
        rule_id: 1,
        group_key: group.to_owned(),
        subject: subject.map(str::to_owned),
        severity: Severity::High,
        at: at(seconds),
        sample: Sample {
            seq: seconds,
            at: instant_text(at(seconds)),
            kind: "error_recorded".to_owned(),
            schedule_id: None,
            schedule_name: None,
            execution_id: None,
            error_id: None,
            message: "exit code 1".to_owned(),
        },
    })
}

fn ended(seconds: i64, subject: &str) -> Step {
    Step::Ended { subject: subject.to_owned(), at: at(seconds) }
}

/// A book that follows the clock: what is due is done at its own instant.
struct World {
    rules: Vec<AlertRule>,
    book: Book,
    told: Vec<(i64, MessageKind, Vec<usize>)>,
}

impl World {
    fn new(spec: RuleSpec) -> Self {
        Self { rules: vec![rule(spec)], book: Book::default(), told: Vec::new() }
    }

    fn until(&mut self, seconds: i64) {
        loop {
            let alerts = self.book.alerts.iter();
            let next = alerts.filter_map(|alert| alert.next_at(self.rules.first())).min();
            let Some(now) = next.filter(|next| *next <= at(seconds)) else { return };
            let told = self.book.tick(&self.rules, now);
            let moved = self
                .book
                .alerts
                .iter()
                .all(|alert| alert.next_at(self.rules.first()).is_none_or(|next| next > now));
            assert!(moved, "what was due at {now} still is: {:?}", self.book.alerts);
            self.told.extend(
                told.into_iter().map(|Dispatch { kind, alerts, .. }| {
                    ((now - at(0)).num_seconds(), kind, alerts)
                }),
            );
        }
    }

    fn take(&mut self, seconds: i64, step: &Step) {
        self.until(seconds);
        self.book.take(&self.rules, step);
    }

    fn times(&self) -> Vec<i64> {
        self.told.iter().map(|(at, _, _)| *at).collect()
    }
}

#[test]
fn sightings_of_a_group_are_one_alert_told_after_the_group_wait() {
    let mut world = World::new(spec());
    for (second, subject) in [(0, "error:1"), (2, "error:2"), (4, "error:3")] {
        world.take(second, &seen(second, "schedule:1", Some(subject)));
    }
    world.take(3, &seen(3, "schedule:2", Some("error:9")));
    world.until(60);
    assert_eq!(world.times(), [5, 8]);
    assert_eq!(world.book.alerts[0].count, 3);
    assert_eq!(world.book.alerts[0].delivered_at, Some(at(5)));
}

#[test]
fn an_alert_is_repeated_while_it_holds_and_clears_with_its_last_subject() {
    let mut world = World::new(spec());
    world.take(0, &seen(0, "a", Some("error:1")));
    world.take(1, &seen(1, "a", Some("error:2")));
    world.take(300, &ended(300, "error:1"));
    world.take(700, &ended(700, "error:2"));
    world.until(5_000);
    assert_eq!(world.times(), [5, 605]);
    assert_eq!(world.told[1].1, MessageKind::Repeated);
    assert_eq!(world.book.alerts[0].cleared_at, Some(at(700)));
    assert_eq!(world.book.turns, [(0, Turn::Raised), (0, Turn::Cleared)]);
    // A failure after that is an alert of its own, told at once.
    world.take(5_000, &seen(5_000, "a", Some("error:3")));
    world.until(5_100);
    assert_eq!(world.times(), [5, 605, 5_005]);
}

#[test]
fn an_alert_that_is_over_before_it_was_told_is_told_once() {
    let mut world = World::new(spec());
    world.take(0, &seen(0, "a", Some("error:1")));
    world.take(2, &ended(2, "error:1"));
    world.until(10_000);
    assert_eq!(world.times(), [5]);
    assert_eq!(world.book.alerts[0].state, AlertState::Cleared);
}

#[test]
fn what_is_over_at_once_is_repeated_only_with_news_and_then_clears() {
    let mut world = World::new(spec());
    world.take(0, &seen(0, "a", None));
    world.take(100, &seen(100, "a", None));
    world.until(10_000);
    assert_eq!(world.times(), [5, 605]);
    assert_eq!(world.book.alerts[0].cleared_at, Some(at(1_205)));
}

#[test]
fn a_person_who_knows_is_not_told_again() {
    let mut world = World::new(spec());
    world.take(0, &seen(0, "a", Some("error:1")));
    world.until(10);
    world.book.alerts[0].state = AlertState::Acknowledged;
    world.take(20, &seen(20, "a", Some("error:2")));
    world.until(100_000);
    assert_eq!(world.times(), [5]);
    world.take(100_000, &ended(100_000, "error:1"));
    world.take(100_001, &ended(100_001, "error:2"));
    assert_eq!(world.book.alerts[0].state, AlertState::Cleared);
}

#[test]
fn quiet_hours_hold_until_their_end_and_then_tell_one_digest() {
    let mut world = World::new(RuleSpec { quiet_hours: quiet("22:00", "07:00"), ..spec() });
    world.take(0, &seen(0, "a", Some("error:1")));
    world.take(3_600, &seen(3_600, "b", Some("error:2")));
    world.take(7_200, &seen(7_200, "c", Some("error:3")));
    world.take(7_300, &ended(7_300, "error:3"));
    world.until(8 * 3_600);
    let first = (7 * 3_600, MessageKind::Digest, vec![0, 1, 2]);
    assert_eq!(world.told[0], first);
    // From then on each is repeated for itself; the one that is over is not.
    assert!(world.told[1..].iter().all(|(_, kind, alerts)| {
        *kind == MessageKind::Repeated && alerts.len() == 1 && alerts[0] != 2
    }));
}

#[test]
fn what_turns_bad_enough_is_not_held_any_longer() {
    let mut world = World::new(RuleSpec { quiet_hours: quiet("22:00", "07:00"), ..spec() });
    world.take(0, &seen(0, "a", Some("error:1")));
    let Step::Seen(mut worse) = seen(60, "a", Some("error:2")) else { unreachable!() };
    worse.severity = Severity::Critical;
    world.take(60, &Step::Seen(worse));
    world.until(100);
    assert_eq!(world.times(), [65]);
}

#[test]
fn an_error_counts_once_it_is_old_enough_and_not_if_it_was_over_before() {
    let mut world = World::new(RuleSpec { older_than_ms: Some(60_000), ..spec() });
    world.take(0, &seen(0, "a", Some("error:1")));
    world.take(10, &seen(10, "a", Some("error:2")));
    world.take(20, &seen(20, "a", Some("error:1")));
    world.take(30, &ended(30, "error:2"));
    world.until(200);
    assert_eq!(world.times(), [65]);
    assert_eq!((world.book.alerts[0].count, world.book.alerts[0].raised_at), (1, Some(at(60))));
    let mut calm = World::new(RuleSpec { older_than_ms: Some(60_000), ..spec() });
    calm.take(0, &seen(0, "a", Some("error:1")));
    calm.take(59, &ended(59, "error:1"));
    calm.until(1_000);
    assert!(calm.told.is_empty() && calm.book.alerts[0].is_void());
}

fn event(event_type: &str, payload: &str) -> Event {
    Event {
        seq: 7,
        at: at(0),
        event_type: event_type.to_owned(),
        room: Room::Tasks,
        schedule_id: Some(4),
        execution_id: Some(9),
        severity: Some(Severity::High),
        tags: vec!["nightly".to_owned()],
        owner: None,
        payload: payload.to_owned(),
    }
}

#[test]
fn a_rule_sees_what_it_names_and_nothing_else() {
    let recorded = event("error_recorded", r#"{"errorId":3,"fingerprint":"f","message":"m"}"#);
    let cases = [
        (spec(), true),
        (RuleSpec { on: vec!["error_escalated".into()], ..spec() }, false),
        (RuleSpec { severities: vec![Severity::Critical], ..spec() }, false),
        (RuleSpec { severities: vec![Severity::High], ..spec() }, true),
        (RuleSpec { schedule_ids: vec![5], ..spec() }, false),
        (RuleSpec { tags: vec!["nightly".into(), "x".into()], ..spec() }, true),
        (RuleSpec { tags: vec!["x".into()], ..spec() }, false),
    ];
    for (spec, matches) in cases {
        let steps = steps_of(&[rule(spec.clone())], &recorded);
        assert_eq!(!steps.is_empty(), matches, "{spec:?}");
    }
    let earlier = AlertRule { from_seq: 7, ..rule(spec()) };
    assert!(steps_of(&[earlier], &recorded).is_empty());
    for (group_by, key) in [
        (GroupBy::Rule, "all"),
        (GroupBy::Schedule, "schedule:4"),
        (GroupBy::Fingerprint, "fingerprint:f"),
    ] {
        let steps = steps_of(&[rule(RuleSpec { group_by, ..spec() })], &recorded);
        let [Step::Seen(seen)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!((seen.group_key.as_str(), seen.subject.as_deref()), (key, Some("error:3")));
        assert_eq!(seen.sample.message, "m");
    }
    let over = steps_of(&[rule(spec())], &event("error_resolved", r#"{"errorId":3}"#));
    assert_eq!(over, [Step::Ended { subject: "error:3".to_owned(), at: at(0) }]);
}

/// A step of a random history: when, in which group, which subject, and whether it ends.
fn histories() -> impl Strategy<Value = Vec<(i64, u8, Option<u8>, bool)>> {
    let step = (0..4_000_i64, 0..3_u8, prop::option::of(0..4_u8), prop::bool::weighted(0.3));
    prop::collection::vec(step, 1..40).prop_map(|mut steps| {
        steps.sort_by_key(|step| step.0);
        steps
    })
}

fn play(world: &mut World, history: &[(i64, u8, Option<u8>, bool)]) {
    for (at, group, subject, ends) in history {
        let name = subject.map(|subject| format!("error:{group}:{subject}"));
        match (name, ends) {
            (Some(name), true) => world.take(*at, &ended(*at, &name)),
            (name, _) => world.take(*at, &seen(*at, &format!("g{group}"), name.as_deref())),
        }
    }
    world.until(400_000);
}

proptest! {
    #[test]
    fn nothing_is_told_twice_within_repeat_and_nothing_raised_is_lost(
        history in histories(), wait in 0..60_i64, repeat in 60..3_000_i64, hours in any::<bool>(),
    ) {
        let mut world = World::new(RuleSpec {
            group_wait_ms: wait * 1_000,
            repeat_ms: repeat * 1_000,
            quiet_hours: if hours { quiet("00:10", "00:50") } else { None },
            ..spec()
        });
        play(&mut world, &history);
        let mut told: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        for (at, _, alerts) in &world.told {
            prop_assert!(!hours || !(600..3_000).contains(&(at % 86_400)), "told at {at}");
            for alert in alerts {
                told.entry(*alert).or_default().push(*at);
            }
        }
        for (place, alert) in world.book.alerts.iter().enumerate() {
            let raised = alert.raised_at.map(|raised| (raised - at(0)).num_seconds());
            let times = told.get(&place).cloned().unwrap_or_default();
            prop_assert!(raised.is_none() || !times.is_empty(), "never told: {alert:?}");
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= repeat), "{times:?}");
            // The first comes right after the group wait, or when the quiet hours end.
            if let (Some(raised), Some(first)) = (raised, times.first()) {
                let due = raised + wait;
                let held = hours && (600..3_000).contains(&due);
                prop_assert_eq!(*first, if held { 3_000 } else { due });
            }
        }
        // Of one group at most one alert is open at a time.
        for group in ["g0", "g1", "g2"] {
            let open = world.book.alerts.iter().filter(|alert| {
                alert.group_key == group && alert.state != AlertState::Cleared
            });
            prop_assert!(open.count() <= 1);
        }
    }

    #[test]
    fn a_count_is_reached_exactly_when_so_many_lie_within_its_window(
        times in prop::collection::vec(0..500_i64, 1..30), at_least in 1..6_i64, within in 1..120_i64,
    ) {
        let mut times = times;
        times.sort_unstable();
        let mut world = World::new(RuleSpec {
            count: Some(CountWindow { at_least, within_ms: within * 1_000 }),
            group_by: GroupBy::Rule,
            repeat_ms: 100_000_000,
            ..spec()
        });
        for time in &times {
            world.take(*time, &seen(*time, "all", None));
        }
        let model = times.iter().enumerate().find(|(place, time)| {
            let inside = times[..=*place].iter().filter(|one| **one > **time - within);
            i64::try_from(inside.count()).unwrap() >= at_least
        });
        let raised = world.book.alerts.iter().find_map(|alert| alert.raised_at);
        prop_assert_eq!(raised, model.map(|(_, time)| at(*time)));
    }

    #[test]
    fn an_alert_is_open_while_one_of_its_subjects_is(history in histories()) {
        let mut world = World::new(spec());
        let mut open: BTreeMap<u8, std::collections::BTreeSet<u8>> = BTreeMap::new();
        for (at, group, subject, ends) in history {
            let Some(subject) = subject else { continue };
            let name = format!("error:{group}:{subject}");
            if ends {
                open.entry(group).or_default().remove(&subject);
                world.take(at, &ended(at, &name));
            } else {
                open.entry(group).or_default().insert(subject);
                world.take(at, &seen(at, &format!("g{group}"), Some(&name)));
            }
            for (group, subjects) in &open {
                let key = format!("g{group}");
                let is_open = world.book.alerts.iter().any(|alert| {
                    alert.group_key == key && alert.state == AlertState::Firing
                });
                prop_assert_eq!(is_open, !subjects.is_empty());
            }
        }
    }
}

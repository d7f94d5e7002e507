//! Laws of alerts: rules, the cursor, raises, messages and their leases.

use std::collections::HashMap;
use std::sync::Arc;

use carillon::domain::alert::channel::{ChannelSpec, Secret};
use carillon::domain::alert::rule::{AlertRule, CountWindow, GroupBy, RuleSpec};
use carillon::domain::alert::{Alert, AlertState};
use carillon::store::{
    AlertAdvance, AlertFilter, AlertRuleChange, AlertRules, AlertScan, Creation, DELIVERY_LEASE,
    DeliveryEnd, DeliveryFilter, ErrorFilter, ErrorVerdict, KeysetRequest, NewAlertChannel,
    NewAlertRule, StoreError, Topic,
};

use super::fixtures::{Bench, PERMANENT, failed, page};
use super::system::keep_nothing;

const ALL: KeysetRequest = KeysetRequest { limit: 100, below: None };

fn spec(kinds: &[&str]) -> RuleSpec {
    RuleSpec {
        on: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        severities: Vec::new(),
        schedule_ids: Vec::new(),
        tags: Vec::new(),
        count: None,
        older_than_ms: None,
        group_by: GroupBy::Rule,
        group_wait_ms: 5_000,
        repeat_ms: 600_000,
        channels: vec!["ops".to_owned()],
        quiet_hours: None,
    }
}

async fn channel(bench: &Bench) {
    let spec = ChannelSpec::Slack { url: Secret::new("http://127.0.0.1:1/x".to_owned()) };
    let channel = NewAlertChannel { name: "ops".to_owned(), spec };
    bench.store.alert_channel_create(channel, None).await.unwrap();
}

async fn rule(bench: &Bench, spec: RuleSpec) -> AlertRule {
    let rule = NewAlertRule { name: "night".to_owned(), enabled: true, spec };
    match bench.store.alert_rule_create(rule, None).await.unwrap() {
        Creation::New(rule) => rule,
        other => panic!("{other:?}"),
    }
}

/// Fails a run for good; gives its error's id.
async fn fail(bench: &Bench) -> i64 {
    let (execution, _) = bench.running().await;
    bench.finish(failed(&execution, PERMANENT)).await;
    bench.store.error_list(ErrorFilter::default(), page(1)).await.unwrap().items[0].id
}

async fn scan(bench: &Bench) -> AlertScan {
    bench.store.alert_scan(Arc::new(AlertRules { stamp: -1, rules: Vec::new() }), 0).await.unwrap()
}

fn advance_of(scan: AlertScan) -> AlertAdvance {
    let (cursor, stamp) = (scan.cursor, scan.rules.stamp);
    AlertAdvance { cursor, stamp, to: scan.scanned, steps: scan.steps }
}

/// Follows the events to their end.
async fn follow(bench: &Bench) {
    let advance = advance_of(scan(bench).await);
    bench.store.alert_advance(advance).await.unwrap().unwrap();
}

async fn alerts(bench: &Bench) -> Vec<Alert> {
    bench.store.alert_list(AlertFilter::default(), ALL).await.unwrap().items
}

pub(crate) async fn without_a_rule_no_event_is_looked_at(bench: &Bench) {
    fail(bench).await;
    let found = scan(bench).await;
    assert!(found.rules.rules.is_empty() && found.steps.is_empty());
    assert_eq!((found.scanned, found.next_at), (0, None));
}

pub(crate) async fn a_rule_looks_at_what_comes_after_it(bench: &Bench) {
    channel(bench).await;
    fail(bench).await;
    let mut state = bench.store.changes(Topic::State);
    state.mark_unchanged();
    let made = rule(bench, spec(&["error_recorded"])).await;
    assert!(state.has_changed().unwrap(), "who waits for rules is told");
    assert_eq!(made.from_seq, bench.last_event().await);
    follow(bench).await;
    assert!(alerts(bench).await.is_empty());
    fail(bench).await;
    follow(bench).await;
    let raised = alerts(bench).await;
    assert_eq!((raised.len(), raised[0].count), (1, 1));
    assert_eq!((raised[0].state, raised[0].rule_name.as_str()), (AlertState::Firing, "night"));
    assert_eq!(bench.event_types().await.last().unwrap(), "alert_raised");
}

pub(crate) async fn of_racing_advances_one_makes_the_alerts(bench: &Bench) {
    channel(bench).await;
    rule(bench, spec(&["error_recorded"])).await;
    for _ in 0..3 {
        fail(bench).await;
    }
    let advance = advance_of(scan(bench).await);
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (store, advance) = (bench.store.clone(), advance.clone());
        racers.spawn(async move { store.alert_advance(advance).await.unwrap() });
    }
    let won = racers.join_all().await.into_iter().flatten().count();
    assert_eq!(won, 1);
    let raised = alerts(bench).await;
    assert_eq!((raised.len(), raised[0].count), (1, 3));
    let raises = bench.event_types().await.into_iter().filter(|one| one == "alert_raised").count();
    assert_eq!(raises, 1);
}

pub(crate) async fn a_rule_that_changed_refuses_what_was_matched_before(bench: &Bench) {
    channel(bench).await;
    let made = rule(bench, spec(&["error_recorded"])).await;
    fail(bench).await;
    let advance = advance_of(scan(bench).await);
    let rule = NewAlertRule {
        name: "night".to_owned(),
        enabled: true,
        spec: RuleSpec { count: Some(CountWindow { at_least: 2, within_ms: 60_000 }), ..made.spec },
    };
    let change = AlertRuleChange { id: made.id, expected_version: 1, rule };
    let stale = AlertRuleChange { expected_version: 7, ..change.clone() };
    let edited = bench.store.alert_rule_update(change).await.unwrap();
    assert_eq!((edited.version, edited.from_seq), (2, made.from_seq));
    let refused = bench.store.alert_rule_update(stale).await;
    assert!(matches!(refused, Err(StoreError::VersionConflict { expected: 7, actual: 2 })));
    assert_eq!(bench.store.alert_advance(advance).await.unwrap(), None);
    follow(bench).await;
    assert!(alerts(bench).await.is_empty(), "one is not yet two");
    bench.advance(30);
    fail(bench).await;
    follow(bench).await;
    assert_eq!(alerts(bench).await[0].count, 2);
}

pub(crate) async fn a_count_that_is_not_reached_is_forgotten(bench: &Bench) {
    channel(bench).await;
    let count = Some(CountWindow { at_least: 2, within_ms: 60_000 });
    rule(bench, RuleSpec { count, ..spec(&["error_recorded"]) }).await;
    fail(bench).await;
    follow(bench).await;
    let due = scan(bench).await.next_at.unwrap();
    assert_eq!(due, bench.now() + chrono::Duration::seconds(60));
    bench.advance(60);
    bench.store.alert_tick().await.unwrap();
    assert_eq!(scan(bench).await.next_at, None);
    fail(bench).await;
    follow(bench).await;
    assert!(alerts(bench).await.is_empty());
}

pub(crate) async fn an_alert_becomes_one_message_and_clears_with_its_errors(bench: &Bench) {
    channel(bench).await;
    rule(bench, spec(&["error_recorded", "dead_letter_added"])).await;
    let error = fail(bench).await;
    follow(bench).await;
    let due = bench.now() + chrono::Duration::seconds(5);
    assert_eq!(scan(bench).await.next_at, Some(due));
    assert_eq!(bench.store.alert_tick().await.unwrap().messages, 0);
    bench.advance(5);
    assert_eq!(bench.store.alert_tick().await.unwrap().messages, 1);
    assert_eq!(bench.store.alert_tick().await.unwrap().messages, 0);
    let told = &alerts(bench).await[0];
    assert_eq!((told.deliveries, told.delivered_at), (1, Some(due)));
    // The error and its letter.
    assert_eq!(told.count, 2);
    bench.store.error_decide(error, ErrorVerdict::Resolve { notes: None }).await.unwrap();
    follow(bench).await;
    let cleared = &alerts(bench).await[0];
    assert_eq!((cleared.state, cleared.cleared_at), (AlertState::Cleared, Some(bench.now())));
    assert_eq!(bench.event_types().await.last().unwrap(), "alert_cleared");
    assert_eq!(scan(bench).await.next_at, None);
    let found = bench.store.alert_get(cleared.id).await.unwrap();
    assert_eq!(found.samples.len(), 2);
}

pub(crate) async fn an_acknowledged_alert_is_not_told_again(bench: &Bench) {
    channel(bench).await;
    rule(bench, spec(&["error_recorded"])).await;
    fail(bench).await;
    follow(bench).await;
    bench.advance(5);
    assert_eq!(bench.store.alert_tick().await.unwrap().messages, 1);
    let id = alerts(bench).await[0].id;
    let known = bench.store.alert_acknowledge(id, "me".into(), Some("on it".into())).await.unwrap();
    assert_eq!(
        (known.state, known.acknowledged_by.as_deref()),
        (AlertState::Acknowledged, Some("me"))
    );
    let again = bench.store.alert_acknowledge(id, "me".into(), None).await;
    assert!(matches!(again, Err(StoreError::WrongState { code: "wrong_state", .. })));
    for _ in 0..3 {
        bench.advance(601);
        assert_eq!(bench.store.alert_tick().await.unwrap().messages, 0);
    }
}

pub(crate) async fn disabling_a_rule_ends_its_alerts(bench: &Bench) {
    channel(bench).await;
    let made = rule(bench, spec(&["error_recorded"])).await;
    fail(bench).await;
    follow(bench).await;
    let rule = NewAlertRule { name: "night".to_owned(), enabled: false, spec: made.spec.clone() };
    let change = AlertRuleChange { id: made.id, expected_version: 1, rule };
    bench.store.alert_rule_update(change).await.unwrap();
    assert_eq!(alerts(bench).await[0].state, AlertState::Cleared);
    fail(bench).await;
    let rule = NewAlertRule { name: "night".to_owned(), enabled: true, spec: made.spec };
    let change = AlertRuleChange { id: made.id, expected_version: 2, rule };
    let enabled = bench.store.alert_rule_update(change).await.unwrap();
    assert_eq!(enabled.from_seq, bench.last_event().await);
    follow(bench).await;
    assert_eq!(alerts(bench).await.len(), 1);
    bench.store.alert_rule_delete(made.id).await.unwrap();
    let gone = bench.store.alert_rule_get(made.id).await;
    assert!(matches!(gone, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn a_channel_that_a_rule_tells_stays(bench: &Bench) {
    let unknown = NewAlertRule { name: "x".into(), enabled: true, spec: spec(&["error_recorded"]) };
    let refused = bench.store.alert_rule_create(unknown, None).await;
    assert!(matches!(refused, Err(StoreError::WrongState { code: "unknown_channel", .. })));
    channel(bench).await;
    let made = rule(bench, spec(&["error_recorded"])).await;
    let refused = bench.store.alert_channel_delete("ops".to_owned()).await;
    assert!(matches!(refused, Err(StoreError::WrongState { code: "in_use", .. })));
    bench.store.alert_channel_test("ops".to_owned()).await.unwrap();
    bench.store.alert_rule_delete(made.id).await.unwrap();
    bench.store.alert_channel_delete("ops".to_owned()).await.unwrap();
    assert_eq!(bench.store.alert_message_next().await.unwrap().0, None, "nothing waits for it");
}

pub(crate) async fn a_message_is_claimed_once_until_its_lease_is_over(bench: &Bench) {
    channel(bench).await;
    let (id, name) = bench.store.alert_channel_test("ops".to_owned()).await.unwrap();
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = bench.store.clone();
        racers
            .spawn(async move { store.alert_message_claim(HashMap::new(), 4, 16).await.unwrap() });
    }
    let claimed: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].webhook_id.as_str(), claimed[0].attempt), (name.as_str(), 1));
    bench.advance(DELIVERY_LEASE.as_secs() + 1);
    let again = bench.store.alert_message_claim(HashMap::new(), 4, 16).await.unwrap();
    assert_eq!((again[0].webhook_id.as_str(), again[0].attempt), (name.as_str(), 2));
    // The end of the first attempt, when it comes late, does not end the second's turn.
    let end = |attempt, delivered, retry_at| DeliveryEnd {
        message_id: id,
        attempt,
        delivered,
        status: Some(503),
        error: (!delivered).then(|| "the receiver answered 503".to_owned()),
        duration_ms: 7,
        retry_at,
    };
    let soon = bench.now() + chrono::Duration::seconds(5);
    bench.store.alert_message_end(end(1, false, Some(soon))).await.unwrap();
    assert!(bench.store.alert_message_next().await.unwrap().0.unwrap() > soon);
    bench.store.alert_message_end(end(2, true, None)).await.unwrap();
    assert_eq!(bench.store.alert_message_next().await.unwrap().0, None);
    let filter = DeliveryFilter { message_id: Some(id), ..DeliveryFilter::default() };
    let log = bench.store.alert_delivery_list(filter, ALL).await.unwrap().items;
    let outcomes: Vec<&str> = log.iter().map(|row| row.outcome.as_str()).collect();
    assert_eq!(outcomes, ["delivered", "failed"]);
    assert_eq!(bench.store.alert_delivery_get(log[0].id).await.unwrap(), log[0]);
}

pub(crate) async fn a_busy_channel_leaves_room_for_others(bench: &Bench) {
    channel(bench).await;
    for _ in 0..6 {
        bench.store.alert_channel_test("ops".to_owned()).await.unwrap();
    }
    let first = bench.store.alert_message_claim(HashMap::new(), 4, 16).await.unwrap();
    assert_eq!(first.len(), 4);
    let busy = HashMap::from([(first[0].channel.id, 3)]);
    assert_eq!(bench.store.alert_message_claim(busy, 4, 16).await.unwrap().len(), 1);
    let busy = HashMap::from([(first[0].channel.id, 4)]);
    assert!(bench.store.alert_message_claim(busy, 4, 16).await.unwrap().is_empty());
}

pub(crate) async fn a_clock_that_was_set_back_delays_no_alert(bench: &Bench) {
    channel(bench).await;
    rule(bench, spec(&["error_recorded"])).await;
    fail(bench).await;
    follow(bench).await;
    bench.store.alert_channel_test("ops".to_owned()).await.unwrap();
    let now = bench.now() - chrono::Duration::days(1);
    bench.clock.set(now);
    for _ in 0..2 {
        bench.store.clock_set_back().await.unwrap();
    }
    // The group wait is what it was; the message goes at once.
    assert_eq!(scan(bench).await.next_at, Some(now + chrono::Duration::seconds(5)));
    assert_eq!(bench.store.alert_message_next().await.unwrap().0, Some(now));
    bench.advance(5);
    assert_eq!(bench.store.alert_tick().await.unwrap().messages, 1);
}

pub(crate) async fn many_dead_letters_in_a_while_raise_one_alert(bench: &Bench) {
    channel(bench).await;
    let count = Some(CountWindow { at_least: 3, within_ms: 3_600_000 });
    rule(bench, RuleSpec { count, ..spec(&["dead_letter_added"]) }).await;
    for round in 1..=4 {
        fail(bench).await;
        follow(bench).await;
        assert_eq!(alerts(bench).await.len(), usize::from(round >= 3), "after {round}");
        bench.advance(60);
    }
    assert_eq!(alerts(bench).await[0].count, 4);
}

pub(crate) async fn an_alert_about_what_was_deleted_clears_by_itself(bench: &Bench) {
    channel(bench).await;
    rule(bench, spec(&["dead_letter_added"])).await;
    fail(bench).await;
    follow(bench).await;
    bench.advance(5);
    assert_eq!(bench.store.alert_tick().await.unwrap().messages, 1);
    bench.advance(600);
    bench.store.retention_sweep(keep_nothing()).await.unwrap();
    assert_eq!(alerts(bench).await[0].state, AlertState::Firing);
    let done = bench.store.alert_tick().await.unwrap();
    assert_eq!((done.messages, done.cleared), (0, 1));
}

pub(crate) async fn what_is_over_is_deleted_in_its_time(bench: &Bench) {
    channel(bench).await;
    rule(bench, spec(&["error_recorded"])).await;
    fail(bench).await;
    follow(bench).await;
    bench.advance(5);
    bench.store.alert_tick().await.unwrap();
    let claimed = bench.store.alert_message_claim(HashMap::new(), 4, 16).await.unwrap();
    let end = DeliveryEnd {
        message_id: claimed[0].id,
        attempt: 1,
        delivered: true,
        status: Some(200),
        error: None,
        duration_ms: 1,
        retry_at: None,
    };
    bench.store.alert_message_end(end).await.unwrap();
    let left = async || {
        let log = bench.store.alert_delivery_list(DeliveryFilter::default(), ALL).await.unwrap();
        (alerts(bench).await.len(), log.items.len())
    };
    // An open alert stays, however old.
    bench.clock.set(bench.now() + chrono::Duration::days(365));
    bench.store.retention_sweep(keep_nothing()).await.unwrap();
    assert_eq!(left().await, (1, 0));
    // Its error went: it is over when it would be told again.
    assert_eq!(bench.store.alert_tick().await.unwrap().cleared, 1);
    bench.clock.set(bench.now() + chrono::Duration::days(365));
    bench.store.retention_sweep(keep_nothing()).await.unwrap();
    assert_eq!(left().await, (0, 0));
}

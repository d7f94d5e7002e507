//! Laws of events that set schedules off.

use carillon::domain::error_record::{RecoveryDecision, RecoveryStatus};
use carillon::domain::execution::Execution;
use carillon::domain::options::{BatchOptions, EventOptions};
use carillon::domain::schedule::{OverlapPolicy, Schedule, ScheduleDefinition, ScheduleType};
use carillon::domain::trigger::{DeliveryOutcome, EventKind, InboxEvent};
use carillon::domain::webhook::Scheme;
use carillon::store::{
    ClaimHere, Creation, Dispatched, EventPost, InboundRequest, InboxFilter, KeysetRequest,
    NewInboxEvent, NewWebhook, Posted, Received, ReplayRequest, Retention, StoreError,
    WebhookChange,
};
use serde_json::{Value, json};

use super::fixtures::{Bench, claimant, completed, definition, failed, row};

const ALL: KeysetRequest = KeysetRequest { limit: 100, below: None };

fn listener(name: &str, rule: Value) -> ScheduleDefinition {
    ScheduleDefinition {
        schedule_type: ScheduleType::Event,
        schedule_config: rule,
        overlap_policy: OverlapPolicy::Allow,
        max_concurrent: None,
        ..definition(name)
    }
}

async fn make(bench: &Bench, definition: ScheduleDefinition) -> Schedule {
    match bench.store.schedule_create(definition, None, None).await.unwrap() {
        Creation::New(schedule) => schedule,
        other => panic!("{other:?}"),
    }
}

fn named(name: &str, payload: Value) -> NewInboxEvent {
    NewInboxEvent {
        kind: EventKind::Event,
        name: name.to_owned(),
        payload,
        dedup_key: None,
        occurred_at: None,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        created_by: Some("test".to_owned()),
    }
}

async fn post(bench: &Bench, event: NewInboxEvent) -> Posted {
    let request = EventPost { event, claim: None, idempotency: None };
    match bench.store.event_post(request).await.unwrap() {
        Creation::New(posted) | Creation::Existing(posted) => posted,
        Creation::Replayed(answer) => panic!("{answer:?}"),
    }
}

fn outcomes(posted: &Posted) -> Vec<DeliveryOutcome> {
    posted.deliveries.iter().map(|delivery| delivery.outcome).collect()
}

async fn dispatch(bench: &Bench) -> Dispatched {
    bench.store.inbox_dispatch(None, 100).await.unwrap()
}

fn told(execution: &Execution) -> Value {
    execution.new.task.options.event.clone().unwrap_or_default()
}

/// A running row of a schedule.
async fn running_of(bench: &Bench, schedule: &Schedule) -> (Execution, ClaimHere) {
    let claim = claimant(1);
    bench.register(&claim).await;
    let mut new = row(bench.now());
    new.schedule_id = Some(schedule.id);
    new.schedule_name = Some(schedule.definition.name.clone());
    new.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let made = bench.store.execution_create_batch(vec![new], Some(claim.clone())).await.unwrap();
    (made.into_iter().next().unwrap(), claim)
}

pub(crate) async fn a_posted_event_fires_each_schedule_that_listens_once(bench: &Bench) {
    let rule = json!({"on": "event", "name": "orders.*",
        "where": [{"path": "total", "op": "gte", "value": 10}]});
    let first = make(bench, listener("first", rule.clone())).await;
    let second =
        make(bench, listener("second", json!({"on": "event", "name": "orders.created"}))).await;
    make(bench, listener("other", json!({"on": "event", "name": "invoices.*"}))).await;
    let small = post(bench, named("orders.created", json!({"total": 3}))).await;
    assert_eq!(outcomes(&small), [DeliveryOutcome::Filtered, DeliveryOutcome::Fired]);
    let big = post(bench, named("orders.created", json!({"total": 12}))).await;
    assert_eq!(outcomes(&big), [DeliveryOutcome::Fired, DeliveryOutcome::Fired]);
    let ids: Vec<i64> = big.executions.iter().filter_map(|row| row.new.schedule_id).collect();
    assert_eq!(ids, [first.id, second.id]);
    let run = &big.executions[0];
    assert_eq!(run.new.trigger.as_str(), "event");
    assert_eq!(told(run)["payload"]["total"], 12);
    assert!(run.new.traceparent.as_deref().unwrap().contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    // What was given out is not given out again.
    assert!(dispatch(bench).await.executions.is_empty());
    let stored = bench.store.inbox_get(big.event.id).await.unwrap();
    assert!(stored.0.handled_at.is_some());
    assert_eq!(stored.1, big.deliveries);
    assert_eq!(bench.store.schedule_get(second.id).await.unwrap().fired, 2);
}

pub(crate) async fn an_event_with_a_known_key_is_the_same_event(bench: &Bench) {
    make(bench, listener("one", json!({"on": "event", "name": "a"}))).await;
    let keyed = |payload| NewInboxEvent { dedup_key: Some("k".to_owned()), ..named("a", payload) };
    let first = post(bench, keyed(json!(1))).await;
    let again = post(bench, keyed(json!(2))).await;
    assert!(again.is_old && again.executions.is_empty());
    assert_eq!((again.event.id, &again.deliveries), (first.event.id, &first.deliveries));
    let other = NewInboxEvent { name: "b".to_owned(), ..keyed(json!(1)) };
    assert!(!post(bench, other).await.is_old);
}

pub(crate) async fn an_end_that_nobody_listens_to_leaves_no_event(bench: &Bench) {
    let source = bench.schedule("source").await;
    make(bench, listener("other", json!({"on": "execution", "schedule": "elsewhere"}))).await;
    let (row, _) = running_of(bench, &source).await;
    bench.finish(completed(&row)).await;
    let events = bench.store.inbox_list(InboxFilter::default(), ALL).await.unwrap();
    assert!(events.items.is_empty());
}

pub(crate) async fn an_end_fires_those_who_listen_exactly_once(bench: &Bench) {
    let source = bench.schedule("source").await;
    let by_name = make(
        bench,
        listener(
            "by name",
            json!({"on": "execution", "schedule": "source",
        "where": [{"path": "result.exitCode", "op": "eq", "value": 0}]}),
        ),
    )
    .await;
    make(bench, listener("by tag", json!({"on": "execution", "tags": ["nightly"]}))).await;
    make(
        bench,
        listener(
            "on failure",
            json!({"on": "execution", "scheduleIds": [source.id],
        "outcome": "failed"}),
        ),
    )
    .await;
    let (row, _) = running_of(bench, &source).await;
    bench.finish(completed(&row)).await;
    let (one, two) =
        tokio::join!(bench.store.inbox_dispatch(None, 100), bench.store.inbox_dispatch(None, 100));
    let mut made = one.unwrap().executions;
    made.extend(two.unwrap().executions);
    assert_eq!(made.len(), 2, "each listener once, whoever dispatches");
    let run = made.iter().find(|row| row.new.schedule_id == Some(by_name.id)).unwrap();
    assert_eq!(told(run)["payload"]["executionId"], json!(row.new.execution_id));
    assert_eq!(told(run)["depth"], 1);
    assert!(run.new.traceparent.as_deref().unwrap().contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    assert!(dispatch(bench).await.executions.is_empty());
}

pub(crate) async fn a_failed_attempt_is_told_of_as_an_attempt_and_as_an_end(bench: &Bench) {
    let source = bench.schedule("source").await;
    let on = |name: &str, more: Value| {
        let mut rule = json!({"on": "execution", "schedule": "source"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        listener(name, rule)
    };
    let chain = make(bench, on("chain", json!({"outcome": "failed"}))).await;
    let each = make(bench, on("each", json!({"outcome": "failed", "attempts": true}))).await;
    let dead = make(bench, on("dead", json!({"outcome": "dead"}))).await;
    let fired = |done: &Dispatched| -> Vec<i64> {
        done.executions.iter().filter_map(|row| row.new.schedule_id).collect()
    };
    let (row, _) = running_of(bench, &source).await;
    bench.finish(failed(&row, RecoveryDecision::RetryAt(bench.now()))).await;
    assert_eq!(fired(&dispatch(bench).await), [each.id]);
    let (row, _) = running_of(bench, &source).await;
    let over =
        RecoveryDecision::GiveUp { status: RecoveryStatus::Escalated, cause: "attempts_spent" };
    bench.finish(failed(&row, over)).await;
    assert_eq!(fired(&dispatch(bench).await), [chain.id, each.id, dead.id]);
}

pub(crate) async fn keys_within_the_window_are_one(bench: &Bench) {
    let mut one = listener("one", json!({"on": "event", "name": "a"}));
    one.options.events = EventOptions {
        dedup_key: Some("id".to_owned()),
        dedup_window_ms: Some(10_000),
        ..EventOptions::default()
    };
    make(bench, one).await;
    let send = async |id: i64| outcomes(&post(bench, named("a", json!({"id": id}))).await);
    assert_eq!(send(1).await, [DeliveryOutcome::Fired]);
    assert_eq!(send(1).await, [DeliveryOutcome::Deduplicated]);
    assert_eq!(send(2).await, [DeliveryOutcome::Fired]);
    bench.advance(11);
    assert_eq!(send(1).await, [DeliveryOutcome::Fired]);
}

pub(crate) async fn overlap_pause_and_bounds_are_recorded(bench: &Bench) {
    let mut one = listener("one", json!({"on": "event", "name": "a"}));
    one.overlap_policy = OverlapPolicy::Skip;
    one.max_concurrent = Some(1);
    one.max_executions = Some(2);
    let schedule = make(bench, one).await;
    let send = async || post(bench, named("a", Value::Null)).await;
    let first = send().await;
    assert_eq!(outcomes(&first), [DeliveryOutcome::Fired]);
    assert_eq!(outcomes(&send().await), [DeliveryOutcome::Overlap]);
    bench.store.schedule_set_enabled(schedule.id, false).await.unwrap();
    assert_eq!(outcomes(&send().await), [DeliveryOutcome::Paused]);
    bench.store.schedule_set_enabled(schedule.id, true).await.unwrap();
    let key = carillon::store::ExecutionKey::Id(first.executions[0].id);
    bench.store.execution_cancel(key).await.unwrap();
    assert_eq!(outcomes(&send().await), [DeliveryOutcome::Fired]);
    assert!(!bench.store.schedule_get(schedule.id).await.unwrap().definition.enabled);
    let kept = bench.store.delivery_list(schedule.id, ALL).await.unwrap().items;
    assert_eq!(kept.len(), 4);
}

pub(crate) async fn a_batch_fires_when_it_is_full_or_old_enough(bench: &Bench) {
    let mut one = listener("one", json!({"on": "event", "name": "a"}));
    let batch = BatchOptions { size: 2, max_wait_ms: 5_000 };
    one.options.events = EventOptions { batch: Some(batch), ..EventOptions::default() };
    make(bench, one).await;
    let send = async |n: i64| post(bench, named("a", json!(n))).await;
    assert_eq!(outcomes(&send(1).await), [DeliveryOutcome::Held]);
    let full = send(2).await;
    assert_eq!(outcomes(&full), [DeliveryOutcome::Fired]);
    let event = told(&full.executions[0]);
    assert_eq!((&event["count"], &event["events"][0]["payload"]), (&json!(2), &json!(1)));
    assert_eq!(outcomes(&send(3).await), [DeliveryOutcome::Held]);
    let early = dispatch(bench).await;
    assert!(early.executions.is_empty());
    assert_eq!(early.next_due, Some(bench.now() + chrono::Duration::seconds(5)));
    bench.advance(5);
    let late = dispatch(bench).await;
    assert_eq!(late.executions.len(), 1);
    assert_eq!(told(&late.executions[0])["count"], 1);
    assert!(!bench.store.inbox_waits().await.unwrap());
}

pub(crate) async fn events_wait_while_the_scheduler_is_stopped(bench: &Bench) {
    make(bench, listener("one", json!({"on": "event", "name": "a"}))).await;
    let set = async |running: bool| {
        bench.store.state_set("scheduler".to_owned(), json!({"running": running})).await.unwrap();
    };
    set(false).await;
    assert!(post(bench, named("a", Value::Null)).await.deliveries.is_empty());
    assert!(dispatch(bench).await.executions.is_empty());
    set(true).await;
    assert_eq!(dispatch(bench).await.executions.len(), 1);
    assert!(dispatch(bench).await.executions.is_empty());
}

pub(crate) async fn a_schedule_that_sets_itself_off_is_stopped_by_its_depth(bench: &Bench) {
    let rule = json!({"on": "execution", "schedule": "loop"});
    let schedule = make(bench, listener("loop", rule)).await;
    let (mut row, claim) = running_of(bench, &schedule).await;
    let mut runs = 0;
    let refused = loop {
        bench.finish(completed(&row)).await;
        let done = bench.store.inbox_dispatch(Some(claim.clone()), 100).await.unwrap();
        match done.executions.into_iter().next() {
            Some(next) => row = next,
            None => break done.deliveries,
        }
        runs += 1;
    };
    assert_eq!(runs, 100);
    assert_eq!(refused[0].outcome, DeliveryOutcome::TooDeep);
}

pub(crate) async fn a_replay_runs_past_events_again_and_says_so_first(bench: &Bench) {
    let mut one = listener(
        "one",
        json!({"on": "event", "name": "a.*",
        "where": [{"path": "n", "op": "lt", "value": 3}]}),
    );
    one.options.events =
        EventOptions { dedup_key: Some("n".to_owned()), ..EventOptions::default() };
    let schedule = make(bench, one).await;
    for n in 0..5 {
        post(bench, named(if n % 2 == 0 { "a.even" } else { "a.odd" }, json!({"n": n}))).await;
    }
    let replay = async |name: Option<&str>, is_dry_run| {
        let request = ReplayRequest {
            schedule_id: schedule.id,
            from: bench.now() - chrono::Duration::hours(1),
            to: bench.now() + chrono::Duration::hours(1),
            name: name.map(str::to_owned),
            is_dry_run,
            claim: None,
            idempotency: None,
        };
        match bench.store.event_replay(request).await.unwrap() {
            Creation::New(replayed) => replayed,
            other => panic!("{other:?}"),
        }
    };
    let dry = replay(None, true).await;
    assert_eq!((dry.events.len(), dry.runs, dry.executions.len()), (3, 3, 0));
    assert_eq!(replay(None, false).await.executions.len(), 3);
    assert_eq!(replay(Some("a.odd"), false).await.executions.len(), 1);
    let source = bench.schedule("source").await;
    let request = ReplayRequest {
        schedule_id: source.id,
        from: bench.now(),
        to: bench.now(),
        name: None,
        is_dry_run: true,
        claim: None,
        idempotency: None,
    };
    let refused = bench.store.event_replay(request).await.unwrap_err();
    assert!(matches!(refused, StoreError::WrongState { .. }));
}

pub(crate) async fn an_edit_changes_what_is_heard(bench: &Bench) {
    let schedule = make(bench, listener("one", json!({"on": "event", "name": "a"}))).await;
    let change = carillon::store::ScheduleChange {
        id: schedule.id,
        expected_version: schedule.version,
        expected_next: None,
        definition: listener("one", json!({"on": "event", "name": "b"})),
        next_run_at: None,
        ledger: Vec::new(),
        settled_at: None,
    };
    bench.store.schedule_update(change).await.unwrap();
    assert!(post(bench, named("a", Value::Null)).await.deliveries.is_empty());
    assert_eq!(post(bench, named("b", Value::Null)).await.executions.len(), 1);
    bench.store.schedule_delete(schedule.id, None).await.unwrap();
    assert!(post(bench, named("b", Value::Null)).await.deliveries.is_empty());
}

pub(crate) async fn a_webhook_takes_each_id_once(bench: &Bench) {
    make(bench, listener("one", json!({"on": "webhook", "webhook": "shop"}))).await;
    let new = NewWebhook {
        name: "shop".to_owned(),
        scheme: Scheme::Github,
        secret: "a secret of the shop".to_owned(),
    };
    let webhook = bench.store.webhook_create(new.clone()).await.unwrap();
    assert_eq!(bench.store.webhook_find(webhook.hook_id).await.unwrap(), Some(webhook.clone()));
    let taken = bench.store.webhook_create(new).await.unwrap_err();
    assert!(matches!(taken, StoreError::Duplicate { .. }));
    let request = |id: &str, refused| InboundRequest {
        webhook_id: webhook.id,
        message_id: Some(id.to_owned()),
        size: 2,
        refused,
        event: NewInboxEvent { kind: EventKind::Webhook, ..named("webhook.shop", json!({})) },
        claim: None,
    };
    let first = bench.store.webhook_receive(request("1", None)).await.unwrap();
    let Received::Accepted(posted) = first else { panic!("{first:?}") };
    assert_eq!(posted.executions.len(), 1);
    let again = bench.store.webhook_receive(request("1", None)).await.unwrap();
    assert!(matches!(again, Received::Duplicate(Some(id)) if id == posted.event.id), "{again:?}");
    bench.store.webhook_receive(request("2", Some("bad_signature"))).await.unwrap();
    let log = bench.store.webhook_requests(webhook.id, ALL).await.unwrap().items;
    let words: Vec<&str> = log.iter().map(|line| line.outcome.as_str()).collect();
    assert_eq!(words, ["bad_signature", "duplicate", "accepted"]);
    let old_until = bench.now() + chrono::Duration::seconds(60);
    let rotate = WebhookChange::Rotate { secret: "another secret".to_owned(), old_until };
    let rotated = bench.store.webhook_change(webhook.id, rotate).await.unwrap();
    let ends: Vec<_> = rotated.secrets.iter().map(|secret| secret.expires_at).collect();
    assert_eq!(ends, [None, Some(old_until)]);
    bench.store.webhook_delete(webhook.id).await.unwrap();
    assert!(bench.store.webhook_find(webhook.hook_id).await.unwrap().is_none());
}

pub(crate) async fn events_are_kept_for_seven_days_and_held_ones_until_they_ran(bench: &Bench) {
    let mut one = listener("one", json!({"on": "event", "name": "held"}));
    one.options.events = EventOptions { debounce_ms: Some(1_000), ..EventOptions::default() };
    let schedule = make(bench, one).await;
    post(bench, named("plain", Value::Null)).await;
    post(bench, named("held", Value::Null)).await;
    bench.store.schedule_set_enabled(schedule.id, false).await.unwrap();
    let week = std::time::Duration::from_secs(7 * 86_400);
    let retention = Retention {
        completed: week,
        failed: week,
        logs: week,
        events: week,
        events_min: 0,
        dead_letters: week,
        audit: week,
        batch: 100,
    };
    bench.advance(7 * 86_400 + 1);
    bench.store.retention_sweep(retention).await.unwrap();
    let kept: Vec<InboxEvent> =
        bench.store.inbox_list(InboxFilter::default(), ALL).await.unwrap().items;
    assert_eq!(kept.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["held"]);
}

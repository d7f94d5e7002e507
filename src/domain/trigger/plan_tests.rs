//! The tables and laws of what becomes of events.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::options::BatchOptions;
use crate::domain::trigger::EventKind;

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap()
}

fn event(id: i64, payload: Value) -> InboxEvent {
    InboxEvent {
        id,
        kind: EventKind::Event,
        name: "orders.created".to_owned(),
        keys: Vec::new(),
        payload,
        depth: 1,
        traceparent: None,
        created_by: None,
        dedup_key: None,
        occurred_at: at(0),
        created_at: at(0),
        handled_at: None,
    }
}

fn rule() -> EventRule {
    let condition = json!({"path": "total", "op": "gte", "value": 10});
    EventRule::parse(&json!({"on": "event", "name": "orders.*", "where": [condition]})).unwrap()
}

fn listening<'a>(rule: &'a EventRule, options: &'a EventOptions) -> Listening<'a> {
    Listening {
        rule,
        options,
        is_enabled: true,
        start_at: None,
        end_at: None,
        left: None,
        room: Some(1),
        held: 0,
        seen: HashSet::new(),
    }
}

#[test]
fn each_reason_not_to_fire_has_its_outcome() {
    let (rule, options) = (rule(), EventOptions::default());
    let big = json!({"total": 12});
    type Change = fn(&mut Listening<'_>);
    let table: [(DeliveryOutcome, i64, i32, Change); 9] = [
        (DeliveryOutcome::Fired, 12, 1, |_| {}),
        (DeliveryOutcome::Fired, 12, DEPTH_MAX, |_| {}),
        (DeliveryOutcome::TooDeep, 12, DEPTH_MAX + 1, |_| {}),
        (DeliveryOutcome::Filtered, 3, 1, |_| {}),
        (DeliveryOutcome::Paused, 12, 1, |one| one.is_enabled = false),
        (DeliveryOutcome::Bounds, 12, 1, |one| one.start_at = Some(at(1))),
        (DeliveryOutcome::Bounds, 12, 1, |one| one.end_at = Some(at(-1))),
        (DeliveryOutcome::Bounds, 12, 1, |one| one.left = Some(0)),
        (DeliveryOutcome::Overlap, 12, 1, |one| one.room = Some(0)),
    ];
    for (expected, total, depth, change) in table {
        let mut one = listening(&rule, &options);
        change(&mut one);
        let event = InboxEvent { depth, ..event(1, json!({"total": total})) };
        assert_eq!(judge(&mut one, &event, at(0)).outcome, expected);
    }
    let mut one = listening(&rule, &options);
    assert_eq!(judge(&mut one, &event(1, big.clone()), at(0)).outcome, DeliveryOutcome::Fired);
    assert_eq!(judge(&mut one, &event(2, big), at(0)).outcome, DeliveryOutcome::Overlap);
}

#[test]
fn a_key_counts_once_it_fired_and_not_when_it_was_dropped() {
    let rule = rule();
    let options =
        EventOptions { dedup_key: Some("order.id".to_owned()), ..EventOptions::default() };
    let order = |id: i64| json!({"total": 50, "order": {"id": id}});
    let mut one = listening(&rule, &options);
    one.is_enabled = false;
    assert_eq!(judge(&mut one, &event(1, order(1)), at(0)).outcome, DeliveryOutcome::Paused);
    one.is_enabled = true;
    one.room = None;
    let table = [
        (order(1), DeliveryOutcome::Fired),
        (order(1), DeliveryOutcome::Deduplicated),
        (order(2), DeliveryOutcome::Fired),
        (json!({"total": 50}), DeliveryOutcome::Fired),
        (json!({"total": 50}), DeliveryOutcome::Fired),
    ];
    for (payload, expected) in table {
        assert_eq!(judge(&mut one, &event(1, payload), at(0)).outcome, expected);
    }
}

fn group(count: usize, first: i64, last: i64) -> Group {
    Group { count, bytes: count, first_at: at(first), last_at: at(last) }
}

#[test]
fn a_group_fires_after_quiet_or_when_it_waited_long_enough_or_is_full() {
    let rule = rule();
    let quiet = |most| EventOptions {
        debounce_ms: Some(100),
        max_wait_ms: most,
        ..EventOptions::default()
    };
    let batch = EventOptions {
        batch: Some(BatchOptions { size: 3, max_wait_ms: 1_000 }),
        ..EventOptions::default()
    };
    use GroupDecision::{Fire, WaitUntil};
    let table = [
        (quiet(None), group(2, 0, 50), 149, WaitUntil(at(150))),
        (quiet(None), group(2, 0, 50), 150, Fire(2)),
        (quiet(Some(120)), group(2, 0, 50), 119, WaitUntil(at(120))),
        (quiet(Some(120)), group(2, 0, 50), 120, Fire(2)),
        (quiet(None), group(COLLECTED_MAX, 0, 50), 60, Fire(COLLECTED_MAX)),
        (batch.clone(), group(2, 0, 50), 60, WaitUntil(at(1_000))),
        (batch.clone(), group(3, 0, 50), 60, Fire(3)),
        (batch.clone(), group(7, 0, 50), 60, Fire(3)),
        (batch.clone(), group(1, 0, 0), 1_000, Fire(1)),
        (EventOptions::default(), group(1, 0, 0), 0, Fire(1)),
    ];
    for (options, group, now, expected) in table {
        let one = listening(&rule, &options);
        assert_eq!(collect(&one, group, at(now)), expected, "{options:?} {group:?} {now}");
    }
    let mut one = listening(&rule, &batch);
    one.room = Some(0);
    assert_eq!(collect(&one, group(3, 0, 0), at(0)), GroupDecision::Wait);
    one.room = None;
    one.is_enabled = false;
    assert_eq!(collect(&one, group(3, 0, 0), at(0)), GroupDecision::Wait);
}

#[test]
fn one_event_that_is_too_large_for_a_run_goes_alone() {
    let mut run = Collected::default();
    assert!(run.takes(COLLECTED_BYTES_MAX + 1));
    assert!(!run.takes(1));
    let mut run = Collected::default();
    assert!(run.takes(COLLECTED_BYTES_MAX - 1) && run.takes(1) && !run.takes(1));
}

#[test]
fn a_schedule_that_collects_always_sees_a_list() {
    let events = [event(1, json!(1)), InboxEvent { depth: 4, ..event(2, json!(2)) }];
    let one = document_of(&events[..1], false);
    assert_eq!((&one["id"], &one["payload"]), (&json!(1), &json!(1)));
    let list = document_of(&events, true);
    assert_eq!((&list["count"], &list["depth"]), (&json!(2), &json!(4)));
    assert_eq!(list["events"][1]["payload"], 2);
    assert_eq!(document_of(&events[..1], true)["count"], 1);
}

/// Drives a debounced or batched schedule through a random history, waking only when the plan says.
fn run_collector(options: &EventOptions, gaps: &[i64]) -> Vec<(i64, Vec<usize>)> {
    let rule = rule();
    let mut one = listening(&rule, options);
    one.room = None;
    let mut held: Vec<(i64, usize)> = Vec::new();
    let mut runs = Vec::new();
    let mut now = 0;
    let settle = |until: i64, held: &mut Vec<(i64, usize)>, runs: &mut Vec<(i64, Vec<usize>)>| {
        let mut clock = held.last().map_or(0, |(at, _)| *at);
        while !held.is_empty() {
            let group = group(held.len(), held[0].0, held[held.len() - 1].0);
            match collect(&one, group, at(clock)) {
                GroupDecision::Fire(count) => {
                    runs.push((clock, held.drain(..count).map(|(_, id)| id).collect()));
                }
                GroupDecision::WaitUntil(due) => {
                    let due = (due - at(0)).num_milliseconds();
                    if due > until {
                        break;
                    }
                    clock = due;
                }
                GroupDecision::Wait => unreachable!("nothing holds it back"),
            }
        }
    };
    for (id, gap) in gaps.iter().enumerate() {
        settle(now + gap - 1, &mut held, &mut runs);
        now += gap;
        held.push((now, id));
    }
    settle(i64::MAX, &mut held, &mut runs);
    runs
}

proptest! {
    #[test]
    fn every_collected_event_goes_with_exactly_one_run_in_order(
        gaps in prop::collection::vec(1..400_i64, 1..60),
        size in 1..8_i64,
        wait in 1..600_i64,
        debounces in any::<bool>(),
    ) {
        let options = if debounces {
            EventOptions { debounce_ms: Some(wait), max_wait_ms: Some(wait * 3), ..EventOptions::default() }
        } else {
            let batch = BatchOptions { size, max_wait_ms: wait };
            EventOptions { batch: Some(batch), ..EventOptions::default() }
        };
        let runs = run_collector(&options, &gaps);
        let told: Vec<usize> = runs.iter().flat_map(|(_, ids)| ids.clone()).collect();
        prop_assert_eq!(told, (0..gaps.len()).collect::<Vec<_>>());
        let came: Vec<i64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
        for (ran, ids) in &runs {
            let limit = if debounces { wait * 3 } else { wait };
            prop_assert!(*ran - came[ids[0]] <= limit, "waited too long");
            if !debounces {
                prop_assert!(ids.len() <= usize::try_from(size).unwrap());
            }
        }
    }

    #[test]
    fn places_and_keys_are_never_given_twice(
        totals in prop::collection::vec((0..20_i64, 0..5_i64), 0..80),
        room in prop::option::of(0..10_i64),
        left in prop::option::of(0..10_i64),
    ) {
        let rule = rule();
        let options = EventOptions { dedup_key: Some("id".to_owned()), ..EventOptions::default() };
        let mut one = listening(&rule, &options);
        one.room = room;
        one.left = left;
        let mut fired = Vec::new();
        for (id, (total, key)) in totals.iter().enumerate() {
            let event = event(i64::try_from(id).unwrap(), json!({"total": total, "id": key}));
            let delivery = judge(&mut one, &event, at(0));
            let is_fired = delivery.outcome == DeliveryOutcome::Fired;
            prop_assert!(!is_fired || *total >= 10);
            if is_fired {
                fired.push(*key);
            }
        }
        let most = room.unwrap_or(i64::MAX).min(left.unwrap_or(i64::MAX));
        prop_assert!(i64::try_from(fired.len()).unwrap() <= most);
        let distinct: HashSet<i64> = fired.iter().copied().collect();
        prop_assert_eq!(distinct.len(), fired.len());
    }
}

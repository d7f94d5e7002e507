//! Laws of groups of errors, and of dead letters by the many.

use std::time::Duration as Span;

use carillon::domain::error_record::{GroupStatus, RecoveryDecision};
use carillon::domain::execution::{Execution, NewExecution};
use carillon::store::{
    Creation, DeadLetterFilter, ErrorFilter, ErrorGroup, ErrorGroupFilter, Finish, GroupResolution,
    KeysetRequest, LetterChoice, LettersDiscard, Resubmission, StoreError,
};
use chrono::Duration;
use uuid::Uuid;

use super::fixtures::{Bench, PERMANENT, SPENT, completed, failed, page, row};

const ALL: KeysetRequest = KeysetRequest { limit: 50, below: None };

/// A failure of the cause `fingerprint`.
fn fell(run: &Execution, fingerprint: &str, decision: RecoveryDecision) -> Finish {
    let mut finish = failed(run, decision);
    let failure = finish.failure.as_mut().unwrap();
    fingerprint.clone_into(&mut failure.fingerprint);
    finish
}

/// A run that failed for good.
async fn dead(bench: &Bench, fingerprint: &str, decision: RecoveryDecision) -> Execution {
    let (run, _) = bench.running().await;
    bench.finish(fell(&run, fingerprint, decision)).await
}

async fn group(bench: &Bench) -> ErrorGroup {
    bench.store.error_group_get("abc".to_owned()).await.unwrap()
}

fn resolution(limit: i64) -> GroupResolution {
    let notes = Some("a new disk".to_owned());
    GroupResolution { fingerprint: "abc".to_owned(), by: "ops".to_owned(), notes, limit }
}

pub(crate) async fn failures_of_one_cause_are_counted_as_one_group(bench: &Bench) {
    let (one, _) = bench.running().await;
    let (two, _) = bench.running().await;
    let (other, _) = bench.running().await;
    let batch =
        vec![fell(&two, "abc", SPENT), fell(&other, "def", SPENT), fell(&one, "abc", PERMANENT)];
    bench.store.execution_finish(batch).await.unwrap();
    let first_seen = bench.now();
    bench.advance(60);
    let last = dead(bench, "abc", SPENT).await;
    let found = group(bench).await;
    assert_eq!((found.occurrences, found.status), (3, GroupStatus::Open));
    assert_eq!((found.first_seen_at, found.last_seen_at), (first_seen, bench.now()));
    assert_eq!((found.kind.as_str(), found.exit_code), ("exit_code", Some(1)));
    assert_eq!(found.last_execution_id, last.id);
    let filter = ErrorGroupFilter { since: Some(bench.now()), ..ErrorGroupFilter::default() };
    let recent = bench.store.error_group_list(filter, ALL).await.unwrap();
    assert_eq!(recent.items, [found]);
    let one = KeysetRequest { limit: 1, below: None };
    let first = bench.store.error_group_list(ErrorGroupFilter::default(), one).await.unwrap();
    let next = KeysetRequest { limit: 1, below: first.next_below };
    let second = bench.store.error_group_list(ErrorGroupFilter::default(), next).await.unwrap();
    assert_ne!(first.items[0].id, second.items[0].id);
    assert_eq!(second.next_below, None);
}

pub(crate) async fn a_resolved_group_that_comes_back_has_regressed(bench: &Bench) {
    dead(bench, "abc", SPENT).await;
    dead(bench, "abc", SPENT).await;
    let (early, _) = bench.running().await;
    bench.advance(1);
    let (resolved, records) = bench.store.error_group_resolve(resolution(1)).await.unwrap();
    assert_eq!((records.items.len(), records.remaining), (1, 1));
    assert_eq!(
        (resolved.status, resolved.resolved_by.as_deref()),
        (GroupStatus::Resolved, Some("ops"))
    );
    let (_, records) = bench.store.error_group_resolve(resolution(10)).await.unwrap();
    assert_eq!((records.items.len(), records.remaining), (1, 0));
    let letters = bench.store.dead_letter_list(DeadLetterFilter::default(), page(9)).await.unwrap();
    assert_eq!(letters.total, 0, "their letters leave the queue");
    bench.finish(fell(&early, "abc", SPENT)).await;
    assert_eq!(group(bench).await.status, GroupStatus::Resolved, "it began before the cure");
    bench.advance(1);
    let before = bench.last_event().await;
    dead(bench, "abc", SPENT).await;
    let found = group(bench).await;
    assert_eq!((found.status, found.regressions), (GroupStatus::Regressed, 1));
    assert_eq!(found.regressed_at, Some(bench.now()));
    assert!(bench.event_types_after(before).await.contains(&"error_regressed".to_owned()));
    let unknown = GroupResolution { fingerprint: "x".to_owned(), ..resolution(1) };
    let unknown = bench.store.error_group_resolve(unknown).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })));
}

fn choice(filter: DeadLetterFilter, limit: i64) -> LetterChoice {
    LetterChoice { ids: Vec::new(), filter, limit }
}

pub(crate) async fn letters_are_grouped_by_cause_and_chosen_by_filter(bench: &Bench) {
    for _ in 0..3 {
        dead(bench, "abc", SPENT).await;
    }
    bench.advance(60);
    dead(bench, "abc", PERMANENT).await;
    dead(bench, "def", SPENT).await;
    let groups = bench.store.dead_letter_groups().await.unwrap();
    let counted: Vec<_> = groups
        .iter()
        .map(|group| (group.cause.as_str(), group.fingerprint.as_str(), group.count))
        .collect();
    let expected =
        [("attempts_spent", "abc", 3), ("permanent", "abc", 1), ("attempts_spent", "def", 1)];
    assert_eq!(counted, expected);
    assert_eq!(groups[0].message.as_deref(), Some("exit code 1"));
    let table = [
        (DeadLetterFilter::default(), 5),
        (DeadLetterFilter { cause: Some("permanent".to_owned()), ..Default::default() }, 1),
        (DeadLetterFilter { fingerprint: Some("abc".to_owned()), ..Default::default() }, 4),
        (DeadLetterFilter { since: Some(bench.now()), ..Default::default() }, 2),
        (DeadLetterFilter { schedule_id: Some(7), ..Default::default() }, 0),
    ];
    for (filter, count) in table {
        let chosen = bench.store.dead_letter_choose(choice(filter.clone(), 3)).await.unwrap();
        let total = chosen.items.len() as i64 + chosen.remaining;
        assert_eq!(total, count, "{filter:?}");
        let paged = bench.store.dead_letter_page(filter, ALL).await.unwrap();
        assert_eq!(paged.items.len() as i64, count);
    }
}

fn again(bench: &Bench, letter_id: i64, place: i64) -> Resubmission {
    let at = bench.now() + Duration::seconds(place);
    let execution = NewExecution { available_at: at, chain_id: Uuid::now_v7(), ..row(bench.now()) };
    Resubmission { letter_id, execution }
}

pub(crate) async fn letters_are_resubmitted_together_and_apart_in_time(bench: &Bench) {
    for _ in 0..3 {
        dead(bench, "abc", SPENT).await;
    }
    let chosen = choice(DeadLetterFilter::default(), 10);
    let chosen = bench.store.dead_letter_choose(chosen).await.unwrap();
    let ids: Vec<i64> = chosen.items.iter().map(|letter| letter.id).collect();
    let discard = LettersDiscard { ids: vec![ids[2], 999], reason: Some("obsolete".to_owned()) };
    let gone = bench.store.dead_letters_discard(discard).await.unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].discard_reason.as_deref(), Some("obsolete"));
    let batch = || ids.iter().zip(0..).map(|(id, place)| again(bench, *id, place * 60)).collect();
    let made = match bench.store.dead_letters_resubmit(batch(), None).await.unwrap() {
        Creation::New(made) => made,
        other => panic!("{other:?}"),
    };
    assert_eq!(made.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[..2], "not the discarded");
    let Creation::New(none) = bench.store.dead_letters_resubmit(batch(), None).await.unwrap()
    else {
        panic!()
    };
    assert!(none.is_empty(), "each once");
    let claim = super::fixtures::claimant(9);
    bench.register(&claim).await;
    let started = bench.store.execution_claim(claim.clone()).await.unwrap();
    assert_eq!(started.len(), 1, "the others wait for their instant");
    bench.finish(completed(&started[0])).await;
    let letter = bench.store.dead_letter_get(ids[0]).await.unwrap();
    assert_eq!(letter.status.as_str(), "recovered");
    bench.advance(60);
    assert_eq!(bench.store.execution_claim(claim).await.unwrap().len(), 1);
}

pub(crate) async fn growing_letters_raise_one_alert_a_window(bench: &Bench) {
    let window = Span::from_secs(3_600);
    let watch = async || bench.store.dead_letters_watch(2, window).await.unwrap();
    dead(bench, "abc", SPENT).await;
    assert!(!watch().await);
    dead(bench, "abc", SPENT).await;
    let before = bench.last_event().await;
    assert!(watch().await);
    assert!(!watch().await, "once");
    assert_eq!(bench.event_types_after(before).await, ["alert_raised"]);
    bench.advance(3_601);
    assert!(!watch().await, "they stopped growing");
    dead(bench, "abc", SPENT).await;
    dead(bench, "abc", SPENT).await;
    assert!(watch().await);
    let records = bench.store.error_list(ErrorFilter::default(), page(9)).await.unwrap();
    assert_eq!(records.total, 4);
}

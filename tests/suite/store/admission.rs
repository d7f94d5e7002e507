//! Laws of admission: rows that wait for more than a slot start when every limit allows it, and say
//! why they do not; queues, urgency and deadlines.

use carillon::domain::execution::{
    Execution, ExecutionStatus, Gates, NewExecution, Priority, Trigger,
};
use carillon::domain::options::{AdmissionOptions, RateLimit, ResourceNeeds};
use carillon::store::{
    Capacity, ClaimGated, ClaimHere, ExecutionFilter, ExecutionKey, GatedClaimed, KeysetRequest,
    PageRequest, QueueChange, Reranking, StoreError, Topic,
};

use super::fixtures::{Bench, cancelled, claimant, completed, row};

fn gated(bench: &Bench, admission: AdmissionOptions) -> NewExecution {
    let mut row = row(bench.now());
    row.task.options.admission = admission;
    row.gates = Gates::of(&row.task);
    assert!(row.gates.is_gated);
    row
}

fn keyed(bench: &Bench, key: &str, limit: i32) -> NewExecution {
    gated(
        bench,
        AdmissionOptions {
            concurrency_key: Some(key.to_owned()),
            concurrency_limit: Some(limit),
            ..AdmissionOptions::default()
        },
    )
}

fn queued(bench: &Bench, queue: &str) -> NewExecution {
    gated(bench, AdmissionOptions { queue: Some(queue.to_owned()), ..AdmissionOptions::default() })
}

fn request(claim: &ClaimHere) -> ClaimGated {
    ClaimGated { claim: claim.clone(), after_lane: None, capacity: None }
}

async fn claim(bench: &Bench, claim: &ClaimHere) -> GatedClaimed {
    bench.store.execution_claim_gated(request(claim)).await.unwrap()
}

async fn make(bench: &Bench, rows: Vec<NewExecution>) -> Vec<Execution> {
    // A claim in the same transaction starts none of them.
    let made = bench.store.execution_create_batch(rows, Some(claimant(50))).await.unwrap();
    assert!(made.iter().all(|row| row.status == ExecutionStatus::Pending));
    made
}

fn ids(rows: &[Execution]) -> Vec<i64> {
    rows.iter().map(|row| row.id).collect()
}

async fn reason(bench: &Bench, id: i64) -> Option<String> {
    bench.store.execution_get(ExecutionKey::Id(id)).await.unwrap().held_reason
}

async fn pause(bench: &Bench, queue: &str, paused: bool) {
    let change = QueueChange { paused: Some(paused), ..QueueChange::default() };
    bench.store.queue_put(queue.to_owned(), change).await.unwrap();
}

pub(crate) async fn rows_with_limits_are_left_out_of_other_claims(bench: &Bench) {
    let mut gated = bench.store.changes(Topic::Gated);
    let made = make(bench, vec![keyed(bench, "a", 1)]).await;
    assert!(gated.has_changed().unwrap());
    gated.mark_unchanged();
    let mine = claimant(9);
    assert!(bench.store.execution_claim(mine.clone()).await.unwrap().is_empty());
    assert_eq!(bench.store.execution_next_available().await.unwrap(), None);
    assert!(bench.store.execution_gated_waits().await.unwrap());
    let claimed = claim(bench, &mine).await;
    assert_eq!(ids(&claimed.executions), ids(&made));
    assert_eq!(claimed.executions[0].status, ExecutionStatus::Running);
    assert_eq!(claimed.executions[0].lease_owner, Some(mine.claimant.boot_id));
    assert!(!bench.store.execution_gated_waits().await.unwrap());
    gated.mark_unchanged();
    bench.finish(completed(&claimed.executions[0])).await;
    assert!(gated.has_changed().unwrap(), "whoever waits for the key looks again");
}

pub(crate) async fn a_key_runs_up_to_its_limit_in_order(bench: &Bench) {
    let rows = (0..4).map(|_| keyed(bench, "tenant-7", 2)).collect();
    let made = make(bench, rows).await;
    let other = make(bench, vec![keyed(bench, "tenant-8", 1)]).await;
    let mine = claimant(9);
    let claimed = claim(bench, &mine).await;
    assert_eq!(ids(&claimed.executions), [made[0].id, made[1].id, other[0].id]);
    let told = Some("2 of 2 with key \"tenant-7\" are running".to_owned());
    assert_eq!(reason(bench, made[2].id).await, told);
    assert_eq!(reason(bench, made[3].id).await, told);
    assert!(claim(bench, &mine).await.executions.is_empty());
    bench.finish(completed(&claimed.executions[1])).await;
    let next = claim(bench, &mine).await;
    assert_eq!(ids(&next.executions), [made[2].id]);
    assert_eq!(reason(bench, made[2].id).await, None);
}

pub(crate) async fn racing_claimants_never_exceed_a_limit(bench: &Bench) {
    let rows = (0..30).map(|place| keyed(bench, &format!("k{}", place % 2), 2)).collect();
    make(bench, rows).await;
    let mut claimants = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = bench.store.clone();
        claimants.spawn(async move {
            let mine = claimant(3);
            let mut ran = Vec::new();
            while store.execution_gated_waits().await.unwrap() {
                let claimed = store.execution_claim_gated(request(&mine)).await.unwrap();
                for row in claimed.executions {
                    let key = row.new.gates.concurrency_key.clone();
                    let page = PageRequest { limit: 100, offset: 0 };
                    let filter = ExecutionFilter {
                        statuses: vec![ExecutionStatus::Running],
                        ..Default::default()
                    };
                    let running = store.execution_list(filter, page).await.unwrap().items;
                    let same = |one: &&Execution| one.new.gates.concurrency_key == key;
                    assert!(running.iter().filter(same).count() <= 2);
                    store.execution_finish(vec![completed(&row)]).await.unwrap();
                    ran.push(row.id);
                }
            }
            ran
        });
    }
    let mut ran: Vec<i64> = claimants.join_all().await.into_iter().flatten().collect();
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran.len(), 30);
}

pub(crate) async fn a_paused_queue_holds_its_own_and_nobody_else(bench: &Bench) {
    pause(bench, "reports", true).await;
    let held = make(bench, (0..700).map(|_| queued(bench, "reports")).collect()).await;
    let free = make(bench, (0..3).map(|_| queued(bench, "mail")).collect()).await;
    let mine = claimant(500);
    let mut started = Vec::new();
    let mut passes = 0;
    loop {
        let claimed = claim(bench, &mine).await;
        started.extend(ids(&claimed.executions));
        passes += 1;
        assert!(passes < 10, "a held queue is not read again and again");
        if !claimed.more {
            break;
        }
    }
    assert_eq!(started, ids(&free));
    let told = Some("queue \"reports\" is paused".to_owned());
    assert_eq!(reason(bench, held[0].id).await, told);
    assert_eq!(reason(bench, held[699].id).await, told);
    let queue = bench.store.queue_get("reports".to_owned()).await.unwrap();
    assert_eq!((queue.counts.waiting, queue.counts.running, queue.counts.held), (700, 0, 700));
    pause(bench, "reports", false).await;
    let mut started = Vec::new();
    loop {
        let claimed = claim(bench, &mine).await;
        started.extend(ids(&claimed.executions));
        if !claimed.more {
            break;
        }
    }
    assert_eq!(started, ids(&held));
}

pub(crate) async fn a_queue_has_limits_of_its_own(bench: &Bench) {
    let change = QueueChange {
        max_concurrent: Some(Some(2)),
        rate_per_minute: Some(Some(3)),
        ..QueueChange::default()
    };
    bench.store.queue_put("mail".to_owned(), change).await.unwrap();
    let made = make(bench, (0..5).map(|_| queued(bench, "mail")).collect()).await;
    let mine = claimant(9);
    let claimed = claim(bench, &mine).await;
    assert_eq!(ids(&claimed.executions), [made[0].id, made[1].id]);
    let told = Some("2 of 2 of queue \"mail\" are running".to_owned());
    assert_eq!(reason(bench, made[2].id).await, told);
    for row in &claimed.executions {
        bench.finish(completed(row)).await;
    }
    bench.advance(10);
    let claimed = claim(bench, &mine).await;
    assert_eq!(ids(&claimed.executions), [made[2].id]);
    let told = Some("queue \"mail\" starts at most 3 a minute".to_owned());
    assert_eq!(reason(bench, made[3].id).await, told);
    let again = bench.now() + chrono::Duration::seconds(50);
    assert_eq!(claimed.look_again_at, Some(again));
    bench.advance(49);
    assert!(claim(bench, &mine).await.executions.is_empty());
    bench.advance(1);
    assert_eq!(ids(&claim(bench, &mine).await.executions), [made[3].id]);
}

pub(crate) async fn a_rate_counts_the_starts_that_are_stored(bench: &Bench) {
    let rated = || {
        gated(
            bench,
            AdmissionOptions {
                concurrency_key: Some("api".to_owned()),
                concurrency_limit: Some(100),
                rate_limit: Some(RateLimit { count: 2, per_ms: 5_000 }),
                ..AdmissionOptions::default()
            },
        )
    };
    let made = make(bench, (0..3).map(|_| rated()).collect()).await;
    assert_eq!(ids(&claim(bench, &claimant(9)).await.executions), [made[0].id, made[1].id]);
    bench.advance(4);
    let another_node = claimant(9);
    assert!(claim(bench, &another_node).await.executions.is_empty());
    bench.advance(1);
    assert_eq!(ids(&claim(bench, &another_node).await.executions), [made[2].id]);
}

pub(crate) async fn the_runs_of_a_schedule_that_queue_go_one_after_the_other(bench: &Bench) {
    let schedule = bench.schedule("queues").await;
    let rows: Vec<NewExecution> = (0..3)
        .map(|place| {
            let overlap =
                AdmissionOptions { overlap_limit: Some(1), ..AdmissionOptions::default() };
            let at = bench.now() - chrono::Duration::seconds(3 - place);
            NewExecution {
                schedule_id: Some(schedule.id),
                trigger: Trigger::Schedule,
                scheduled_at: at,
                available_at: at,
                ..gated(bench, overlap)
            }
        })
        .collect();
    let made = make(bench, rows).await;
    let mine = claimant(9);
    for expected in &made {
        let claimed = claim(bench, &mine).await;
        assert_eq!(ids(&claimed.executions), [expected.id]);
        assert!(claimed.executions[0].lateness_ms.is_some());
        assert!(claim(bench, &mine).await.executions.is_empty());
        bench.finish(completed(&claimed.executions[0])).await;
    }
}

pub(crate) async fn what_does_not_fit_its_node_waits_and_says_so(bench: &Bench) {
    let needing = |cpu| {
        let needs = ResourceNeeds { cpu: Some(cpu), memory_mb: Some(100) };
        gated(bench, AdmissionOptions { resources: Some(needs), ..AdmissionOptions::default() })
    };
    let made = make(bench, vec![needing(3.0), needing(2.0), needing(1.0)]).await;
    let capacity = Some(Capacity { cpu: 4.0, memory_mb: 1_000.0 });
    let (small, large) = (claimant(9), claimant(9));
    let ask = |claim: &ClaimHere| ClaimGated { capacity, ..request(claim) };
    let claimed = bench.store.execution_claim_gated(ask(&small)).await.unwrap();
    assert_eq!(ids(&claimed.executions), [made[0].id, made[2].id]);
    assert_eq!(reason(bench, made[1].id).await, Some("needs 2 cpu, 1 free".to_owned()));
    // Another node has room of its own.
    let claimed = bench.store.execution_claim_gated(ask(&large)).await.unwrap();
    assert_eq!(ids(&claimed.executions), [made[1].id]);
}

pub(crate) async fn slots_are_shared_by_rank_with_what_has_no_limits(bench: &Bench) {
    let plain = bench.pending(1).await;
    let made = make(bench, vec![keyed(bench, "a", 1)]).await;
    let mine = claimant(1);
    let claimed = claim(bench, &mine).await;
    assert!(claimed.executions.is_empty() && claimed.wants_slots, "{plain:?} is first");
    assert_eq!(bench.store.execution_claim(mine.clone()).await.unwrap().len(), 1);
    assert_eq!(ids(&claim(bench, &mine).await.executions), ids(&made));
}

pub(crate) async fn what_is_less_urgent_is_late_by_no_more_than_its_bound(bench: &Bench) {
    let low = NewExecution { priority: Priority::Low, ..row(bench.now()) };
    let low = bench.store.execution_create_batch(vec![low], None).await.unwrap();
    let mine = claimant(1);
    for round in 0.. {
        bench.advance(10);
        let high = NewExecution { priority: Priority::High, ..row(bench.now()) };
        bench.store.execution_create_batch(vec![high], None).await.unwrap();
        let claimed = bench.store.execution_claim(mine.clone()).await.unwrap();
        if claimed[0].id == low[0].id {
            assert_eq!(round, 29, "it is passed for 300 seconds, and no longer");
            return;
        }
    }
}

pub(crate) async fn an_operator_moves_what_waits(bench: &Bench) {
    let made = bench.pending(3).await;
    let seq = bench.last_event().await;
    let change =
        Reranking { priority: Some(Priority::High), order: Some(7), by: Some("ops".to_owned()) };
    let key = ExecutionKey::Id(made[2].id);
    let moved = bench.store.execution_rerank(key, change.clone()).await.unwrap();
    assert_eq!(moved.new.priority, Priority::High);
    assert_eq!(moved.new.task.options.admission.order, Some(7));
    assert_eq!(bench.store.execution_get(key).await.unwrap().new, moved.new);
    assert_eq!(bench.event_types_after(seq).await, ["execution_priority_changed"]);
    let order = Reranking { order: Some(1), ..Reranking::default() };
    bench.store.execution_rerank(ExecutionKey::Id(made[1].id), order).await.unwrap();
    let claimed = bench.store.execution_claim(claimant(3)).await.unwrap();
    assert_eq!(ids(&claimed), [made[2].id, made[1].id, made[0].id]);
    let late = bench.store.execution_rerank(key, change).await;
    assert!(matches!(late, Err(StoreError::WrongState { code: "not_waiting", .. })));
}

pub(crate) async fn a_queue_is_told_of_and_forgotten_when_empty(bench: &Bench) {
    let made = make(bench, vec![queued(bench, "once")]).await;
    let page = KeysetRequest { limit: 10, below: None };
    let listed = bench.store.queue_list(page).await.unwrap();
    assert_eq!(listed.items[0].name, "once");
    assert_eq!(listed.items[0].counts.waiting, 1);
    let seq = bench.last_event().await;
    pause(bench, "once", true).await;
    pause(bench, "once", true).await;
    pause(bench, "once", false).await;
    let limit = QueueChange { max_concurrent: Some(Some(1)), ..QueueChange::default() };
    bench.store.queue_put("once".to_owned(), limit).await.unwrap();
    let expected = ["queue_paused", "queue_resumed", "queue_updated"];
    assert_eq!(bench.event_types_after(seq).await, expected);
    let refused = bench.store.queue_delete("once".to_owned()).await;
    assert!(matches!(refused, Err(StoreError::WrongState { code: "queue_not_empty", .. })));
    let claimed = claim(bench, &claimant(1)).await;
    assert_eq!(ids(&claimed.executions), ids(&made));
    bench.finish(completed(&claimed.executions[0])).await;
    bench.store.queue_delete("once".to_owned()).await.unwrap();
    let gone = bench.store.queue_get("once".to_owned()).await;
    assert!(matches!(gone, Err(StoreError::NotFound { what: "queue", .. })));
}

pub(crate) async fn a_deadline_is_met_or_told_of_once(bench: &Bench) {
    let with_deadline = |seconds: i64| {
        let mut row = row(bench.now());
        row.task.options.admission.sla_ms = Some(seconds * 1_000);
        row
    };
    let rows = vec![with_deadline(10), with_deadline(10), with_deadline(10)];
    let mine = claimant(3);
    bench.register(&mine).await;
    let made = bench.store.execution_create_batch(rows, Some(mine)).await.unwrap();
    bench.finish(completed(&made[0])).await;
    bench.finish(cancelled(&made[1])).await;
    bench.advance(10);
    assert!(!bench.store.deadline_due().await.unwrap());
    bench.advance(1);
    bench.finish(completed(&made[2])).await;
    assert!(bench.store.deadline_due().await.unwrap());
    let seq = bench.last_event().await;
    let news = bench.store.deadline_sweep().await.unwrap();
    assert_eq!((news.missed, news.at_risk), (1, 0));
    assert_eq!(bench.store.deadline_sweep().await.unwrap().missed, 0);
    assert_eq!(bench.event_types_after(seq).await, ["sla_missed"]);
}

pub(crate) async fn a_deadline_is_in_doubt_when_the_run_has_not_begun_in_time(bench: &Bench) {
    let schedule = bench.schedule("slow").await;
    let of_schedule = |sla: Option<i64>| {
        let mut row = row(bench.now());
        row.schedule_id = Some(schedule.id);
        row.task.options.admission.sla_ms = sla;
        row
    };
    let mine = claimant(9);
    bench.register(&mine).await;
    for _ in 0..5 {
        let rows = vec![of_schedule(None)];
        let made = bench.store.execution_create_batch(rows, Some(mine.clone())).await.unwrap();
        bench.advance(20);
        bench.finish(completed(&made[0])).await;
    }
    // They take 20 s: what is to end within 30 s must run within 10 s.
    let waits = bench.store.execution_create_batch(vec![of_schedule(Some(30_000))], None);
    waits.await.unwrap();
    let runs = vec![of_schedule(Some(30_000))];
    bench.store.execution_create_batch(runs, Some(mine)).await.unwrap();
    bench.advance(9);
    assert!(!bench.store.deadline_due().await.unwrap());
    bench.advance(1);
    let seq = bench.last_event().await;
    let news = bench.store.deadline_sweep().await.unwrap();
    assert_eq!((news.missed, news.at_risk), (0, 1));
    assert_eq!(bench.store.deadline_sweep().await.unwrap().at_risk, 0);
    assert_eq!(bench.event_types_after(seq).await, ["sla_at_risk"]);
}

pub(crate) async fn a_row_that_waits_for_its_instant_is_looked_for_then(bench: &Bench) {
    let later = bench.now() + chrono::Duration::seconds(30);
    let row = NewExecution { available_at: later, ..keyed(bench, "a", 1) };
    make(bench, vec![row]).await;
    let claimed = claim(bench, &claimant(1)).await;
    assert!(claimed.executions.is_empty());
    assert_eq!(claimed.look_again_at, Some(later));
}

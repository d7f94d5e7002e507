//! Laws of events, nodes, keys, sessions, retention, faults and dropped futures.

use std::time::Duration;

use carillon::domain::error_record::RecoveryDecision;
use carillon::domain::event::{NewEvent, Room};
use carillon::domain::execution::ExecutionStatus;
use carillon::store::{
    ClaimHere, ExecutionFilter, ExecutionKey, FaultPoint, LogRow, NewApiKey, NewSession, Retention,
    Store, StoreError, Topic,
};
use serde_json::json;
use uuid::Uuid;

use super::fixtures::{Bench, PERMANENT, claimant, completed, failed, page, row};

fn notice(number: usize) -> NewEvent {
    NewEvent {
        event_type: "actor_restarted",
        room: Room::Admin,
        schedule_id: None,
        execution_id: Some(i64::try_from(number).unwrap()),
        severity: None,
        tags: vec!["a".into()],
        owner: Some("me".into()),
        payload: json!({"number": number}).to_string(),
    }
}

pub(crate) async fn events_are_dense_under_concurrent_writers(bench: &Bench) {
    assert_eq!(bench.store.event_bounds().await.unwrap(), (0, 0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (store, now) = (bench.store.clone(), bench.now());
        writers.spawn(async move {
            for number in 0..10 {
                store.event_append(vec![notice(number), notice(writer)]).await.unwrap();
                store.execution_create_batch(vec![row(now)], None).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let seqs: Vec<i64> = bench.events().await.into_iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=240).collect::<Vec<i64>>());
    assert_eq!(bench.store.event_bounds().await.unwrap(), (1, 240));
    let some = bench.store.event_list(230, 5).await.unwrap();
    assert_eq!(some.iter().map(|event| event.seq).collect::<Vec<_>>(), [231, 232, 233, 234, 235]);
}

pub(crate) async fn what_fails_beside_others_takes_none_of_them_along(bench: &Bench) {
    bench.store.faults().fail("execution_create_batch", 30, FaultPoint::BeforeCommit);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (store, now) = (bench.store.clone(), bench.now());
        writers.spawn(async move {
            let mut made = 0;
            for number in 0..10 {
                let (good, missing, row) = tokio::join!(
                    store.event_append(vec![notice(number), notice(writer)]),
                    store.schedule_set_enabled(i64::MAX, true),
                    store.execution_create_batch(vec![row(now)], None),
                );
                good.unwrap();
                assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
                made += row.map_or(0, |rows| rows.len());
            }
            made
        });
    }
    let made: usize = writers.join_all().await.into_iter().sum();
    assert_eq!(made, 79, "the planned fault struck one of them");
    let filter = ExecutionFilter::default();
    assert_eq!(bench.store.execution_list(filter, page(1)).await.unwrap().total, 79);
    let seqs: Vec<i64> = bench.events().await.into_iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=160 + 79).collect::<Vec<i64>>(), "each event once");
}

pub(crate) async fn an_event_reads_back_as_it_was_written(bench: &Bench) {
    let mut watch = bench.store.changes(Topic::Events);
    watch.mark_unchanged();
    bench.store.event_append(vec![notice(7)]).await.unwrap();
    assert!(watch.has_changed().unwrap());
    let event = bench.events().await.remove(0);
    assert_eq!((event.seq, event.at, event.room), (1, bench.now(), Room::Admin));
    assert_eq!(event.payload, "{\"number\":7}");
    assert_eq!((event.tags, event.owner), (vec!["a".to_owned()], Some("me".to_owned())));
}

pub(crate) async fn a_beat_extends_a_lease_until_it_is_past(bench: &Bench) {
    let lease = Duration::from_secs(30);
    let claim = claimant(1);
    let boot = claim.claimant.boot_id;
    let row = bench.store.node_register(claim.claimant, lease).await.unwrap();
    assert_eq!(row.lease_until, bench.now() + lease);
    bench.advance(20);
    assert!(bench.store.node_beat(boot, lease).await.unwrap());
    bench.advance(34);
    assert!(bench.store.node_beat(boot, lease).await.unwrap(), "within the grace");
    bench.advance(36);
    assert!(!bench.store.node_beat(boot, lease).await.unwrap());
    assert!(!bench.store.node_beat(Uuid::new_v4(), lease).await.unwrap());
    bench.store.node_stop(boot).await.unwrap();
    let nodes = bench.store.node_list().await.unwrap();
    assert_eq!((nodes.len(), nodes[0].stopped_at), (1, Some(bench.now())));
}

pub(crate) async fn a_stopped_node_holds_no_leases(bench: &Bench) {
    let (execution, claim) = bench.running().await;
    bench.store.node_stop(claim.claimant.boot_id).await.unwrap();
    let expired = bench.store.execution_list_expired(Duration::from_secs(5), 10).await.unwrap();
    assert_eq!(expired.iter().map(|row| row.id).collect::<Vec<_>>(), [execution.id]);
}

pub(crate) async fn state_is_kept_by_key(bench: &Bench) {
    let mut watch = bench.store.changes(Topic::State);
    watch.mark_unchanged();
    assert_eq!(bench.store.state_get("scheduler".into()).await.unwrap(), None);
    for value in [json!({"running": false}), json!(null), json!([1, "two"])] {
        bench.store.state_set("scheduler".into(), value.clone()).await.unwrap();
        assert_eq!(bench.store.state_get("scheduler".into()).await.unwrap(), Some(value));
    }
    assert!(watch.has_changed().unwrap());
}

pub(crate) async fn keys_are_found_by_prefix_and_revoked_once(bench: &Bench) {
    let new = NewApiKey {
        prefix: "abcd1234".into(),
        secret_hash: "00ff".into(),
        name: "ci".into(),
        role: "operator".into(),
        expires_at: Some(bench.now() + chrono::Duration::days(1)),
    };
    let key = bench.store.key_create(new.clone()).await.unwrap();
    let again = bench.store.key_create(new).await;
    assert!(matches!(again, Err(StoreError::Duplicate { what: "prefix", .. })));
    assert_eq!(bench.store.key_find("abcd1234".into()).await.unwrap(), Some(key.clone()));
    assert_eq!(bench.store.key_find("x".into()).await.unwrap(), None);
    bench.store.key_touch(vec![key.id]).await.unwrap();
    let revoked = bench.store.key_revoke(key.id).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(bench.now()));
    assert_eq!(revoked.last_used_at, Some(bench.now()));
    bench.advance(5);
    assert_eq!(bench.store.key_revoke(key.id).await.unwrap(), revoked);
    assert_eq!(bench.store.key_list().await.unwrap(), [revoked]);
    assert_eq!(bench.store.key_count().await.unwrap(), 1);
    assert!(matches!(bench.store.key_revoke(99).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn stale_sessions_are_closed(bench: &Bench) {
    let (here, gone) = (claimant(0), claimant(0));
    bench.register(&here).await;
    let open = async |boot_id| {
        let session_id = Uuid::new_v4();
        let client_info = json!({"ip": "::1"});
        let session = NewSession { session_id, boot_id, key_name: None, client_info };
        bench.store.session_open(session).await.unwrap();
        session_id
    };
    let alive = open(here.claimant.boot_id).await;
    bench.store.session_subscribe(alive, json!({"rooms": ["tasks"]})).await.unwrap();
    open(here.claimant.boot_id).await;
    open(gone.claimant.boot_id).await;
    let closed = open(here.claimant.boot_id).await;
    bench.store.session_close(closed).await.unwrap();
    let close =
        async |alive| bench.store.session_close_stale(here.claimant.boot_id, alive).await.unwrap();
    assert_eq!(close(vec![alive]).await, 2);
    assert_eq!(close(vec![alive]).await, 0);
    assert_eq!(close(Vec::new()).await, 1);
}

pub(crate) async fn sessions_follow_their_node_to_a_new_boot(bench: &Bench) {
    let (old, new, other) = (claimant(0), claimant(0), claimant(0));
    let open = async |session_id| {
        let client_info = json!({"ip": "::1"});
        let boot_id = old.claimant.boot_id;
        let session = NewSession { session_id, boot_id, key_name: None, client_info };
        bench.store.session_open(session).await.unwrap();
    };
    let (alive, ended) = (Uuid::new_v4(), Uuid::new_v4());
    open(alive).await;
    open(ended).await;
    let sweep = async |boot: &ClaimHere, alive: Vec<Uuid>| {
        bench.store.session_close_stale(boot.claimant.boot_id, alive).await.unwrap()
    };
    // The old boot holds no lease: another node takes both for orphans.
    bench.register(&other).await;
    assert_eq!(sweep(&other, Vec::new()).await, 2);
    bench.register(&new).await;
    assert_eq!(sweep(&new, vec![alive]).await, 0);
    assert_eq!(sweep(&other, Vec::new()).await, 0, "they are its own again");
    assert_eq!(sweep(&new, Vec::new()).await, 1, "the one that was alive was open");
}

pub(super) fn keep_nothing() -> Retention {
    let none = Duration::ZERO;
    Retention {
        completed: none,
        failed: none,
        logs: none,
        events: none,
        events_min: 0,
        dead_letters: none,
        audit: none,
        batch: 10,
    }
}

pub(crate) async fn retention_deletes_what_is_past_its_time_alone(bench: &Bench) {
    let rows = (0..25).map(|_| row(bench.now())).collect();
    let made = bench.store.execution_create_batch(rows, Some(claimant(25))).await.unwrap();
    let mut batch: Vec<_> = made.iter().take(24).map(completed).collect();
    batch[0] = failed(&made[0], PERMANENT);
    let retry_at = bench.now() + chrono::Duration::days(400);
    let decision = carillon::domain::error_record::RecoveryDecision::RetryAt(retry_at);
    batch[1] = failed(&made[1], decision);
    bench.store.execution_finish(batch).await.unwrap();
    let at = bench.now() + chrono::Duration::days(300);
    let line = LogRow::new((made[2].id, 1), at, "system", "x");
    bench.store.log_append(vec![line]).await.unwrap();
    bench.advance(3_600);
    let mut keep = keep_nothing();
    keep.completed = Duration::from_secs(7_200);
    keep.failed = Duration::from_secs(7_200);
    keep.logs = Duration::from_secs(7_200);
    keep.dead_letters = Duration::from_secs(7_200);
    for (kept, left) in [(29, 78), (28, 28)] {
        keep.events_min = kept;
        assert!(!bench.store.retention_sweep(keep.clone()).await.unwrap());
        let (oldest, newest) = bench.store.event_bounds().await.unwrap();
        assert_eq!(newest - oldest + 1, left, "what one transaction wrote goes as a whole");
    }
    let newest = bench.last_event().await;
    while bench.store.retention_sweep(keep_nothing()).await.unwrap() {}
    let left = bench.store.execution_list(ExecutionFilter::default(), page(50)).await.unwrap();
    let left: Vec<i64> = left.items.iter().map(|row| row.id).collect();
    assert_eq!(left, [made[24].id, made[1].id], "what runs and what waits for a retry stays");
    assert!(bench.store.log_list(made[2].id, 0, 9).await.unwrap().is_empty());
    assert_eq!(bench.store.event_bounds().await.unwrap(), (newest + 1, newest));
    bench.store.event_append(vec![notice(1)]).await.unwrap();
    assert_eq!(bench.store.event_bounds().await.unwrap(), (newest + 1, newest + 1));
}

pub(crate) async fn a_dropped_future_is_whole_or_not_at_all(bench: &Bench) {
    for round in 0..40_u64 {
        let rows = vec![row(bench.now()), row(bench.now())];
        let work = bench.store.execution_create_batch(rows, None);
        let patience = Duration::from_micros(round * 40);
        drop(tokio::time::timeout(patience, work).await);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut seen = -1;
    loop {
        let filter = ExecutionFilter::default();
        let total = bench.store.execution_list(filter, page(1)).await.unwrap().total;
        let events = bench.last_event().await;
        assert!(tokio::time::Instant::now() < deadline, "{total} rows, {events} events");
        if total == events && total % 2 == 0 && total == seen {
            break;
        }
        seen = total;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.pending(1).await;
}

pub(crate) async fn a_planned_fault_strikes_before_or_after_the_commit(bench: &Bench) {
    let create = async || {
        let made = bench.store.execution_create_batch(vec![row(bench.now())], None).await;
        matches!(made, Err(StoreError::Unavailable(_)))
    };
    let total = async || {
        let filter = ExecutionFilter::default();
        bench.store.execution_list(filter, page(1)).await.unwrap().total
    };
    bench.store.faults().fail("execution_create_batch", 2, FaultPoint::BeforeCommit);
    assert!(!create().await);
    assert!(create().await, "the second call fails");
    assert_eq!((total().await, bench.last_event().await), (1, 1), "and wrote nothing");
    bench.store.faults().fail("execution_create_batch", 1, FaultPoint::AfterCommit);
    assert!(create().await);
    assert_eq!((total().await, bench.last_event().await), (2, 2), "this one wrote");
    assert!(!create().await);
}

pub(crate) async fn a_store_opens_again_with_what_it_held(bench: &Bench) {
    let (execution, claim) = bench.running().await;
    bench.store.ping().await.unwrap();
    assert_eq!(bench.store.now().await.unwrap(), bench.now());
    bench.store.close().await;
    assert!(matches!(bench.store.ping().await, Err(StoreError::Unavailable(_))));
    let again = Store::open(bench.options.clone(), bench.clock.clone()).await.unwrap();
    let key = ExecutionKey::Id(execution.id);
    let read = again.execution_get(key).await.unwrap();
    assert_eq!((read.status, &read), (ExecutionStatus::Running, &execution));
    let next = claimant(1);
    again.node_register(next.claimant, Duration::from_secs(30)).await.unwrap();
    bench.advance(3);
    let expired = again.execution_list_expired(Duration::ZERO, 9).await.unwrap();
    let is_void = again.backend_name() == "sqlite";
    assert_eq!(expired.len(), usize::from(is_void), "one process owns a file, many a server");
    let beats = again.node_beat(claim.claimant.boot_id, Duration::from_secs(6)).await.unwrap();
    assert!(beats, "{beats}");
    again.close().await;
}

pub(super) async fn a_clock_that_was_set_back_holds_nothing_up(bench: &Bench) {
    let (store, before) = (&bench.store, bench.now());
    // Due now, due in a minute, and one that failed and is retried in ten minutes.
    let later = before + chrono::Duration::minutes(1);
    let rows = vec![row(before), row(later)];
    let made = store.execution_create_batch(rows, None).await.unwrap();
    let (running, _) = bench.running().await;
    let retry_at = before + chrono::Duration::minutes(10);
    bench.finish(failed(&running, RecoveryDecision::RetryAt(retry_at))).await;
    assert_eq!(store.clock_set_back().await.unwrap(), 0, "nothing was set back");
    for step in [chrono::Duration::hours(1), chrono::Duration::days(1)] {
        let now = bench.now() - step;
        bench.clock.set(now);
        assert!(
            store.execution_claim(claimant(9)).await.unwrap().is_empty(),
            "still in the future"
        );
        // Any number of nodes may see the step.
        for _ in 0..3 {
            store.clock_set_back().await.unwrap();
        }
        let at =
            async |id| store.execution_get(ExecutionKey::Id(id)).await.unwrap().new.available_at;
        assert_eq!(at(made[0].id).await, now);
        assert_eq!(at(made[1].id).await, now + chrono::Duration::minutes(1));
        let due = store.error_next_due().await.unwrap();
        assert_eq!(due, Some(now + chrono::Duration::minutes(10)));
    }
    let claimed = store.execution_claim(claimant(9)).await.unwrap();
    assert_eq!(claimed.iter().map(|row| row.id).collect::<Vec<_>>(), [made[0].id]);
}

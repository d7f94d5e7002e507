//! Laws of one back end alone: the file and its lock; the server, its restarts and other nodes.

use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use carillon::clock::Clock;
use carillon::store::{ExecutionFilter, Retention, Store, StoreError, StoreLocation, Topic};
use serde_json::json;

use super::fixtures::{Bench, Home, claimant, options, page, row, start};
use crate::support::postgres::{Cluster, database};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn two_processes_never_share_a_file() {
    let bench = Bench::sqlite().await;
    let second = Store::open(bench.options.clone(), Clock::system()).await;
    let Err(StoreError::Internal(message)) = second else { panic!("it opened") };
    assert!(message.contains("in use by another process"), "{message}");
    bench.store.close().await;
    Store::open(bench.options.clone(), Clock::system()).await.unwrap().close().await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carillon.db");
    std::fs::write(&path, "this is a letter to my aunt, not a database ".repeat(200)).unwrap();
    let options = options(StoreLocation::Sqlite(path.clone()));
    let opened = Store::open(options.clone(), Clock::system()).await;
    let Err(StoreError::Internal(message)) = opened else { panic!("it opened") };
    assert!(message.contains("backup"), "{message}");

    std::fs::remove_file(&path).unwrap();
    let store = Store::open(options.clone(), Clock::system()).await.unwrap();
    let rows = (0..500).map(|_| row(start())).collect();
    store.execution_create_batch(rows, None).await.unwrap();
    store.close().await;
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length > 200_000, "closing leaves all in the file: {length}");
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(length / 2)).unwrap();
    file.write_all(&[0x55; 40_960]).unwrap();
    let opened = Store::open(options, Clock::system()).await;
    let Err(StoreError::Internal(message)) = opened else { panic!("it opened") };
    assert!(message.contains("backup"), "{message}");
}

#[tokio::test]
async fn a_copy_of_the_closed_file_alone_is_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = folder.path().join(format!("{round}.db"));
        let place = options(StoreLocation::Sqlite(path.clone()));
        let store = Store::open(place, Clock::system()).await.unwrap();
        let rows = (0..200).map(|_| row(start())).collect();
        store.execution_create_batch(rows, None).await.unwrap();
        // Readers at work when the close comes.
        let reads = (0..8).map(|_| store.execution_list(ExecutionFilter::default(), page(100)));
        let reads = futures_util::future::join_all(reads);
        drop(tokio::time::timeout(Duration::from_micros(round * 300), reads).await);
        store.close().await;
        assert!(!folder.path().join(format!("{round}.db-wal")).exists(), "the log is folded in");
        let copy = folder.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        let again = Store::open(options(StoreLocation::Sqlite(copy.clone())), Clock::system());
        let again = again.await.unwrap();
        let list = again.execution_list(ExecutionFilter::default(), page(1)).await.unwrap();
        assert_eq!(list.total, 200);
        again.close().await;
        std::fs::remove_file(copy).unwrap();
    }
}

#[tokio::test]
async fn a_stepped_clock_neither_ends_nor_prolongs_a_lease_on_a_file() {
    let bench = Bench::sqlite().await;
    let (execution, claim) = bench.running().await;
    let (boot, lease) = (claim.claimant.boot_id, Duration::from_secs(30));
    let keep = Retention {
        completed: Duration::MAX,
        failed: Duration::MAX,
        logs: Duration::MAX,
        events: Duration::MAX,
        events_min: i64::MAX,
        dead_letters: Duration::MAX,
        audit: Duration::MAX,
        batch: 10,
    };
    let expired =
        async |store: &Store| store.execution_list_expired(lease / 6, 9).await.unwrap().len();
    for days in [1, -2, 1] {
        bench.clock.set(bench.now() + chrono::Duration::days(days));
        assert_eq!(expired(&bench.store).await, 0, "{days} days");
        bench.store.retention_sweep(keep.clone()).await.unwrap();
        assert!(bench.store.node_beat(boot, lease).await.unwrap(), "{days} days");
    }
    bench.advance(34);
    assert_eq!(expired(&bench.store).await, 0);
    bench.advance(2);
    assert_eq!(expired(&bench.store).await, 1, "time that passes ends it");
    assert!(!bench.store.node_beat(boot, lease).await.unwrap());
    bench.store.close().await;

    // A start with a clock that is a day behind waits no longer for what earlier boots held.
    let clock = Clock::manual(start() - chrono::Duration::days(1));
    let again = Store::open(bench.options.clone(), clock.clone()).await.unwrap();
    again.node_register(claimant(1).claimant, lease).await.unwrap();
    assert_eq!(again.execution_list_running(boot).await.unwrap()[0].id, execution.id);
    clock.advance(Duration::from_secs(8));
    assert_eq!(expired(&again).await, 1);
    again.close().await;
}

#[tokio::test]
async fn a_restarted_server_is_unavailable_and_then_heals() {
    let cluster = Cluster::start(true);
    let location = StoreLocation::Postgres(cluster.url("postgres"));
    let bench = Bench::open(options(location.clone()), Home::Elsewhere).await;
    bench.pending(5).await;
    cluster.crash();
    let refused = bench.store.execution_create_batch(vec![row(start())], None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(bench.store.ping().await, Err(StoreError::Unavailable(_))));
    let opened = Store::open(options(location), Clock::system()).await;
    assert!(matches!(opened, Err(StoreError::Unavailable(_))));
    let mut listener = bench.store.changes(Topic::State);
    listener.mark_unchanged();
    cluster.resume();
    let healed = async {
        while bench.store.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        listener.changed().await.unwrap();
    };
    tokio::time::timeout(PATIENCE, healed).await.expect("it heals");
    bench.pending(5).await;
    let list = bench.store.execution_list(ExecutionFilter::default(), page(9)).await.unwrap();
    assert_eq!(list.total, 10, "what was answered is there, what was refused is not");
    bench.store.close().await;
}

#[tokio::test]
async fn another_node_hears_of_changes() {
    let database = database();
    let location = StoreLocation::Postgres(database.url.clone());
    let one = Store::open(options(location.clone()), Clock::system()).await.unwrap();
    let two = Store::open(options(location), Clock::system()).await.unwrap();
    let mut heard = two.changes(Topic::State);
    // The listener bumps everything once when it is connected.
    tokio::time::timeout(PATIENCE, heard.changed()).await.unwrap().unwrap();
    one.state_set("scheduler".into(), json!({"running": true})).await.unwrap();
    tokio::time::timeout(PATIENCE, heard.changed()).await.expect("it hears").unwrap();
    assert_eq!(two.state_get("scheduler".into()).await.unwrap(), Some(json!({"running": true})));
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn a_burst_of_callers_waits_for_few_connections() {
    let bench = Bench::postgres().await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (store, now) = (bench.store.clone(), bench.now());
        callers.spawn(async move { store.execution_create_batch(vec![row(now)], None).await });
    }
    assert!(callers.join_all().await.iter().all(Result::is_ok));
    assert_eq!(bench.last_event().await, 100);
    bench.store.close().await;
}

#[tokio::test]
async fn a_real_clock_is_the_servers() {
    let database = database();
    let location = StoreLocation::Postgres(database.url.clone());
    let store = Store::open(options(location), Clock::system()).await.unwrap();
    let ours = Clock::system().now();
    let theirs = store.now().await.unwrap();
    assert!((theirs - ours).num_seconds().abs() < 5);
    let claim = Some(claimant(1));
    let made = store.execution_create_batch(vec![row(ours)], claim).await.unwrap();
    assert!(made[0].started_at.unwrap() >= theirs);
    store.close().await;
}

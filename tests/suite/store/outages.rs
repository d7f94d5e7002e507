//! Laws of PostgreSQL alone that need an odd server or a bad network.

use std::time::Duration;

use carillon::clock::Clock;
use carillon::store::{ExecutionFilter, Store, StoreError, StoreLocation, StoreResult, Topic};
use serde_json::json;
use tokio::time::Instant;

use super::fixtures::{options, page, row, start};
use crate::support::postgres::{Cluster, database};
use crate::support::proxy::{Mood, Proxy};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an answer may take on a machine that does other things too.
const SLOW: Duration = Duration::from_secs(3);

async fn open(url: &str) -> StoreResult<Store> {
    open_patiently(url, Duration::from_millis(500)).await
}

async fn open_patiently(url: &str, acquire: Duration) -> StoreResult<Store> {
    let mut options = options(StoreLocation::Postgres(url.to_owned()));
    options.acquire = acquire;
    Store::open(options, Clock::system()).await
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A write that is refused as unavailable; how long that took.
async fn refused(store: &Store) -> Duration {
    let asked = Instant::now();
    let made = store.execution_create_batch(vec![row(start())], None).await;
    assert!(matches!(made, Err(StoreError::Unavailable(_))), "{made:?}");
    asked.elapsed()
}

async fn heals(store: &Store) {
    until("it writes again", async || {
        store.execution_create_batch(vec![row(start())], None).await.is_ok()
    })
    .await;
}

async fn behind_a_proxy(cluster: &Cluster) -> (Proxy, Store) {
    let (proxy, url) = cluster.through_proxy("postgres");
    let store = open(&url).await.unwrap();
    store.execution_create_batch(vec![row(start())], None).await.unwrap();
    (proxy, store)
}

#[tokio::test]
async fn a_server_that_falls_silent_is_unavailable_within_a_second() {
    let cluster = Cluster::start(false);
    let (proxy, store) = behind_a_proxy(&cluster).await;
    proxy.set(Mood::Silent);
    let mut fastest = SLOW;
    for _ in 0..8 {
        let took = refused(&store).await;
        assert!(took < SLOW, "{took:?}");
        fastest = fastest.min(took);
        let read = store.execution_list(ExecutionFilter::default(), page(1)).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    // The connections of before are dead for good: only new ones lead anywhere.
    proxy.cut();
    proxy.set(Mood::Open);
    heals(&store).await;
    store.close().await;
}

#[tokio::test]
async fn a_slow_network_is_waited_for() {
    let cluster = Cluster::start(false);
    let (proxy, url) = cluster.through_proxy("postgres");
    // A connection takes several trips; an operation longer than the half of it is asked about.
    let store = open_patiently(&url, Duration::from_secs(2)).await.unwrap();
    proxy.set(Mood::Slow(Duration::from_millis(100)));
    let asked = Instant::now();
    store.execution_create_batch(vec![row(start())], None).await.unwrap();
    assert!(asked.elapsed() > Duration::from_millis(300), "several trips");
    store.close().await;
}

#[tokio::test]
async fn a_statement_that_waits_for_a_lock_is_not_taken_for_an_outage() {
    let cluster = Cluster::start(false);
    let store = open(&cluster.url("postgres")).await.unwrap();
    let locker = cluster.lock_table("event_counter", Duration::from_secs(2));
    let asked = Instant::now();
    store.execution_create_batch(vec![row(start())], None).await.unwrap();
    assert!(asked.elapsed() > Duration::from_secs(1), "{:?}", asked.elapsed());
    locker.join().unwrap();
    store.close().await;
}

#[tokio::test]
async fn cut_and_reset_connections_are_replaced() {
    let cluster = Cluster::start(false);
    let (proxy, store) = behind_a_proxy(&cluster).await;
    for _ in 0..3 {
        proxy.cut();
        heals(&store).await;
        proxy.reset();
        heals(&store).await;
    }
    proxy.set(Mood::Refusing);
    proxy.cut();
    until("it is refused", async || store.ping().await.is_err()).await;
    proxy.set(Mood::Open);
    heals(&store).await;
    store.close().await;
}

#[tokio::test]
async fn a_listener_behind_a_silent_network_hears_again() {
    let cluster = Cluster::start(false);
    let (proxy, store) = behind_a_proxy(&cluster).await;
    let other = open(&cluster.url("postgres")).await.unwrap();
    proxy.set(Mood::Silent);
    refused(&store).await;
    proxy.cut();
    proxy.set(Mood::Open);
    heals(&store).await;
    let mut heard = store.changes(Topic::State);
    until("a word of the other node", async || {
        heard.mark_unchanged();
        other.state_set("a".to_owned(), json!(1)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(1), heard.changed()).await.is_ok()
    })
    .await;
    store.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_server_that_speaks_german_is_understood() {
    let cluster = Cluster::german();
    let store = open(&cluster.url("postgres")).await.unwrap();
    let said = cluster.failure("SELECT 1 / 0");
    assert!(said.contains("Division durch Null"), "{said}");
    let locker = cluster.lock_table("event_counter", Duration::from_secs(3));
    let cancelling = async {
        let waits = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
                     WHERE wait_event_type = 'Lock'";
        until("it waits", async || cluster.query(waits) != "0").await;
    };
    let writing = store.execution_create_batch(vec![row(start())], None);
    let (made, ()) = tokio::join!(writing, cancelling);
    assert!(matches!(made, Err(StoreError::Unavailable(_))), "{made:?}");
    locker.join().unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_role_that_may_choose_nothing_is_served() {
    let database = database();
    let role = database.url.rsplit_once('/').unwrap().0;
    assert!(role.contains("postgres@"), "{role}");
    let name = format!("plain_{}", std::process::id());
    database.query(&format!("CREATE ROLE {name} LOGIN; GRANT ALL ON SCHEMA public TO {name}"));
    let store = open(&database.url.replacen("postgres@", &format!("{name}@"), 1)).await.unwrap();
    store.execution_create_batch(vec![row(start())], None).await.unwrap();
    store.close().await;
    database.query(&format!("DROP OWNED BY {name}; DROP ROLE {name}"));
}

#[tokio::test]
async fn connections_are_encrypted_when_they_are_asked_to_be() {
    let cluster = Cluster::encrypted();
    for mode in ["require", "prefer"] {
        let store = open(&cluster.encrypted_url("postgres", mode)).await.unwrap();
        store.execution_create_batch(vec![row(start())], None).await.unwrap();
        let open_ones = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                         WHERE application_name = 'carillon'";
        assert_eq!(cluster.query(open_ones), "t", "{mode}");
        store.close().await;
    }
    let store = open(&cluster.encrypted_url("postgres", "disable")).await.unwrap();
    store.close().await;
    let Err(refused) = open(&cluster.encrypted_url("postgres", "verify-full")).await else {
        panic!("a certificate that nobody vouches for is taken");
    };
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

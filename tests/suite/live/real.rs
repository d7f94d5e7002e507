//! The same laws over real stores: what is committed comes in order and without a gap.

use std::time::Duration;

use carillon::domain::event::{NewEvent, Room};
use carillon::domain::key::Role;
use carillon::store::Store;
use serde_json::json;

use super::delivery::follow;
use super::support::{Live, settings};
use crate::store::fixtures::Bench;

fn notices(count: usize) -> Vec<NewEvent> {
    let notice = NewEvent {
        event_type: "execution_created",
        room: Room::Tasks,
        schedule_id: None,
        execution_id: None,
        severity: None,
        tags: Vec::new(),
        owner: None,
        payload: "{}".to_owned(),
    };
    vec![notice; count]
}

/// Appends 500 events in small commits.
async fn append(store: Store) {
    for _ in 0..100 {
        store.event_append(notices(5)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn resumes_replay_without_a_gap(bench: &Bench) {
    bench.store.event_append(notices(1_000)).await.unwrap();
    let (live, _hub) = Live::over(bench.store.clone(), settings()).await;
    let mut client = live.connect(Role::Admin).await;
    assert_eq!(client.seq, 1_000);
    client.say(json!({"type": "resume", "after": 7})).await;
    let appending = actix_web::rt::spawn(append(bench.store.clone()));
    // The client loses its connection again and again while events are appended.
    let mut seen = 7;
    for stop in [400, 1_000, 1_100, 1_250, 1_300] {
        follow(&mut client, seen, stop, "").await;
        seen = stop;
        client = live.connect(Role::Admin).await;
        client.say(json!({"type": "resume", "after": seen})).await;
    }
    assert_eq!(follow(&mut client, seen, 1_500, "resumed").await, 1);
    appending.await.unwrap();
    bench.store.event_append(notices(1)).await.unwrap();
    assert_eq!(follow(&mut client, 1_500, 1_501, "").await, 0);
}

#[actix_rt::test]
async fn resumes_replay_without_a_gap_over_sqlite() {
    let bench = Bench::sqlite().await;
    resumes_replay_without_a_gap(&bench).await;
    bench.store.close().await;
}

#[actix_rt::test]
async fn resumes_replay_without_a_gap_over_postgresql() {
    let bench = Bench::postgres().await;
    resumes_replay_without_a_gap(&bench).await;
    bench.store.close().await;
}

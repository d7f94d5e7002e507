//! Events reach sessions in order, without a gap, at the client's pace (G8, G9).

use std::time::Duration;

use carillon::domain::event::Room;
use carillon::domain::execution::Severity;
use carillon::domain::key::Role;
use carillon::runtime::events::TransientEvent;
use carillon::runtime::sessions::LiveSettings;
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{Client, Live, settings, start_hub};

/// Reads events that must follow on `after`, to `last`; says how many other messages of `name`
/// came.
pub(super) async fn follow(client: &mut Client, after: i64, last: i64, name: &str) -> usize {
    let (mut seen, mut named) = (after, 0);
    while seen < last {
        let message = client.next().await;
        if let Some(seq) = message["seq"].as_i64().filter(|_| message["type"] != "heartbeat") {
            assert_eq!(seq, seen + 1, "{message}");
            seen = seq;
        } else {
            assert_ne!(message["type"], "lagged", "{message}");
            assert_ne!(message["type"], "resync", "{message}");
            named += usize::from(message["type"] == name);
        }
    }
    named
}

#[actix_rt::test]
async fn a_client_that_says_nothing_hears_everything_without_holes() {
    let (live, _hub) = Live::start(settings(), 5, 100).await;
    let mut client = live.connect(Role::Admin).await;
    assert_eq!(client.seq, 5);
    live.log.append(300);
    follow(&mut client, 5, 305, "").await;
}

#[actix_rt::test]
async fn nothing_is_delivered_before_the_first_subscribe() {
    let settings = LiveSettings {
        grace: Duration::from_secs(60),
        heartbeat: Duration::from_millis(30),
        ..settings()
    };
    let (live, _hub) = Live::start(settings, 0, 100).await;
    let mut client = live.connect(Role::Admin).await;
    live.log.append(3);
    live.until("the hub has them", || live.state.feed.newest() == 3).await;
    for _ in 0..3 {
        let message = client.next().await;
        assert_eq!((&message["type"], &message["seq"]), (&json!("heartbeat"), &json!(0)));
    }
    client.say(json!({"type": "subscribe", "subscriptions": {}})).await;
    client.next_of("subscribed").await;
    follow(&mut client, 0, 3, "").await;
}

#[actix_rt::test]
async fn a_resume_replays_without_gap_while_events_are_appended() {
    let (live, _hub) = Live::start(settings(), 3_000, 100).await;
    let mut client = live.connect(Role::Admin).await;
    client.say(json!({"type": "resume", "after": 7})).await;
    let log = live.log.clone();
    let appending = actix_web::rt::spawn(async move {
        for _ in 0..200 {
            log.append(10);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(follow(&mut client, 7, 5_000, "resumed").await, 1);
    appending.await.unwrap();
}

#[actix_rt::test]
async fn a_resume_from_memory_ends_with_resumed_and_goes_on_live() {
    let (live, _hub) = Live::start(settings(), 0, 1_000).await;
    live.log.append(50);
    live.until("the hub has them", || live.state.feed.newest() == 50).await;
    let mut client = live.connect(Role::Admin).await;
    client.say(json!({"type": "resume", "after": 48})).await;
    follow(&mut client, 48, 50, "").await;
    assert_eq!(client.next().await["to"], 50);
    live.log.append(2);
    follow(&mut client, 50, 52, "").await;
    client.say(json!({"type": "resume", "after": 52})).await;
    assert_eq!(client.next().await["to"], 52);
}

#[actix_rt::test]
async fn a_resume_out_of_reach_is_told_to_resync_and_hears_on() {
    let (live, _hub) = Live::start(settings(), 100, 10).await;
    live.log.trim(20);
    let mut client = live.connect(Role::Admin).await;
    for after in [5, 79, 101] {
        client.say(json!({"type": "resume", "after": after})).await;
        assert_eq!(client.next().await["type"], "resync", "after {after}");
    }
    client.say(json!({"type": "resume", "after": 80})).await;
    follow(&mut client, 80, 100, "").await;
    client.next_of("resumed").await;
    client.say(json!({"type": "resume", "after": 3})).await;
    client.next_of("resync").await;
    live.log.append(1);
    follow(&mut client, 100, 101, "").await;
}

#[actix_rt::test]
async fn a_client_that_confirms_nothing_is_told_that_it_lags_and_resumes() {
    let settings =
        LiveSettings { window_messages: 50, patience: Duration::from_millis(100), ..settings() };
    let (live, _hub) = Live::start(settings, 0, 1_000).await;
    let mut client = live.connect(Role::Admin).await;
    client.confirms = false;
    live.log.append(500);
    let lagged = client.next_of("lagged").await;
    let after = lagged["resumeAfter"].as_i64().unwrap();
    assert!(after < 60, "{lagged}");
    assert_eq!(lagged["dropped"], 500 - after);
    live.log.append(10);
    client.say(json!({"type": "ping"})).await;
    assert_eq!(client.next().await["type"], "pong", "nothing more until it resumes");
    client.confirms = true;
    client.say(json!({"type": "resume", "after": after})).await;
    follow(&mut client, after, 510, "").await;
    assert!(live.state.stats().dropped >= 440);
}

#[actix_rt::test]
async fn a_client_that_keeps_up_is_never_told_that_it_lags() {
    let settings = LiveSettings { window_messages: 100, ..settings() };
    let (live, _hub) = Live::start(settings, 20_000, 500).await;
    let mut client = live.connect(Role::Admin).await;
    client.say(json!({"type": "resume", "after": 0})).await;
    follow(&mut client, 0, 20_000, "").await;
}

#[actix_rt::test]
async fn a_crash_of_the_hub_loses_no_event() {
    let (live, hub) = Live::start(settings(), 0, 100).await;
    let mut client = live.connect(Role::Admin).await;
    live.log.append(10);
    follow(&mut client, 0, 10, "").await;
    hub.stop();
    hub.join().unwrap();
    live.log.append(10);
    let _hub = start_hub(&live.state.feed);
    live.log.append(10);
    follow(&mut client, 10, 30, "").await;
}

#[actix_rt::test]
async fn an_outage_of_the_store_delays_events_and_loses_none() {
    let (live, _hub) = Live::start(settings(), 200, 10).await;
    let mut client = live.connect(Role::Admin).await;
    live.log.set_down(true);
    client.say(json!({"type": "resume", "after": 50})).await;
    live.log.append(10);
    client.say(json!({"type": "ping"})).await;
    assert_eq!(client.next().await["type"], "pong");
    live.log.set_down(false);
    follow(&mut client, 50, 210, "").await;
}

#[actix_rt::test]
async fn a_filter_narrows_and_a_role_hides() {
    let (live, _hub) = Live::start(settings(), 0, 100).await;
    let mut viewer = live.connect(Role::Viewer).await;
    let mut picky = live.connect(Role::Admin).await;
    let wanted = json!({"severities": ["critical"], "rooms": ["tag:nightly"]});
    picky.say(json!({"type": "subscribe", "subscriptions": wanted})).await;
    picky.next_of("subscribed").await;
    live.log.append_with(|event| {
        event.room = Room::Admin;
        event.payload = json!({"secret": 1}).to_string();
    });
    live.log.append_with(|event| event.tags = vec!["nightly".to_owned()]);
    live.log.append_with(|event| {
        event.severity = Some(Severity::Critical);
        event.tags = vec!["nightly".to_owned()];
    });
    assert_eq!(picky.next().await["seq"], 3);
    let stub = viewer.next().await;
    assert_eq!(
        (&stub["type"], &stub["seq"], &stub["payload"]),
        (&json!("restricted"), &json!(1), &Value::Null)
    );
    follow(&mut viewer, 1, 3, "").await;
}

#[actix_rt::test]
async fn output_goes_only_to_who_named_the_execution() {
    let (live, _hub) = Live::start(settings(), 0, 100).await;
    let mut listener = live.connect(Role::Viewer).await;
    let mut other = live.connect(Role::Viewer).await;
    let uuid = Uuid::new_v4();
    listener.say(json!({"type": "subscribe", "subscriptions": {"executionIds": [uuid]}})).await;
    listener.next_of("subscribed").await;
    assert!(live.state.feed.transient().is_wanted(9, uuid));
    live.state.feed.transient().publish(TransientEvent {
        event_type: "execution_log",
        execution_id: 9,
        execution_uuid: uuid,
        at: chrono::DateTime::UNIX_EPOCH,
        payload: json!({"line": "hello"}),
    });
    let heard = listener.next_of("execution_log").await;
    assert_eq!(heard["payload"], json!({"line": "hello", "id": 9, "executionId": uuid}));
    assert!(heard.get("seq").is_none());
    other.say(json!({"type": "ping"})).await;
    assert_eq!(other.next().await["type"], "pong");
    drop(listener);
    let transient = live.state.feed.transient().clone();
    live.until("the interest ends", || !transient.is_wanted(9, uuid)).await;
}

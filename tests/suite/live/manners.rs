//! How sessions begin, go on and end: messages, heartbeats, silence, rows, the way out.

use std::time::Duration;

use actix_web::http::header;
use awc::ws::Message;
use carillon::domain::key::Role;
use carillon::runtime::sessions::LiveSettings;
use serde_json::{Value, json};

use super::support::{Heard, Live, settings};

#[actix_rt::test]
async fn bad_messages_are_answered_and_the_third_in_a_row_closes() {
    let (live, _hub) = Live::start(settings(), 0, 10).await;
    let mut client = live.connect(Role::Viewer).await;
    client.say_text("{".to_owned()).await;
    assert_eq!(client.next().await["code"], "malformed");
    client.say(json!({"type": "dance"})).await;
    assert_eq!(client.next().await["code"], "unknown_type");
    client.say(json!({"type": "ping"})).await;
    assert_eq!(client.next().await["type"], "pong");
    client.say(json!({"type": "subscribe", "subscriptions": {"rooms": ["admin"]}})).await;
    assert_eq!(client.next().await["code"], "forbidden_room");
    client.say(json!({"type": "subscribe", "subscriptions": {"room": []}})).await;
    assert_eq!(client.next().await["code"], "invalid_subscription");
    client.send(Message::Binary("ping".into())).await;
    assert_eq!(client.next().await["code"], "malformed");
    client.say_text(String::new()).await;
    assert_eq!(client.next().await["code"], "malformed");
    assert_eq!(client.closed().await, Some(1008));
}

#[actix_rt::test]
async fn a_message_over_the_limit_closes_with_1009() {
    let (live, _hub) = Live::start(settings(), 0, 10).await;
    let mut client = live.connect(Role::Viewer).await;
    client.say_text(format!("\"{}\"", "x".repeat(65_534))).await;
    assert_eq!(client.next().await["code"], "malformed", "64 KiB are read");
    client.say_text("x".repeat(65_537)).await;
    assert_eq!(client.closed().await, Some(1009));
}

#[actix_rt::test]
async fn heartbeats_and_pings_come_and_a_silent_client_is_closed() {
    let settings = LiveSettings {
        heartbeat: Duration::from_millis(40),
        ping: Duration::from_millis(60),
        idle: Duration::from_millis(400),
        ..settings()
    };
    let (live, _hub) = Live::start(settings, 4, 10).await;
    let mut client = live.connect(Role::Viewer).await;
    let (mut heartbeats, mut pings) = (0, 0);
    // Longer than the silence that closes: the pongs keep it open.
    while heartbeats < 15 {
        match client.hear().await {
            Heard::Message(message) => {
                assert_eq!((&message["type"], &message["seq"]), (&json!("heartbeat"), &json!(4)));
                heartbeats += 1;
            }
            Heard::Ping => pings += 1,
            Heard::Closed(code) => panic!("closed with {code:?}"),
        }
    }
    assert!(pings >= 5, "{pings}");
    client.confirms = false;
    assert_eq!(client.closed().await, Some(1008));
    live.until("the session is gone", || live.state.stats().connections == 0).await;
}

#[actix_rt::test]
async fn the_way_out_delivers_what_is_committed_and_closes_with_1001() {
    let (live, _hub) = Live::start(settings(), 0, 10).await;
    let mut client = live.connect(Role::Admin).await;
    let mut waiting = live.connect(Role::Admin).await;
    client.say(json!({"type": "subscribe"})).await;
    client.next_of("subscribed").await;
    live.log.append_with(|event| event.event_type = "server_shutdown".to_owned());
    let state = live.state.clone();
    let leaving =
        actix_web::rt::spawn(async move { state.close_all(Duration::from_secs(10)).await });
    assert_eq!(client.next().await["type"], "server_shutdown");
    assert_eq!(client.closed().await, Some(1001));
    assert_eq!(waiting.closed().await, Some(1001));
    drop((client, waiting));
    leaving.await.unwrap();
    assert_eq!(live.state.stats().connections, 0);
    let late = awc::Client::new().ws(format!("http://127.0.0.1:{}/ws/admin", live.port()));
    assert!(late.connect().await.is_err());
}

#[actix_rt::test]
async fn rows_and_statistics_follow_the_sessions() {
    let (live, _hub) = Live::start(settings(), 0, 10).await;
    let mut client = live.connect(Role::Admin).await;
    let subscriptions = json!({"rooms": ["tag:nightly"]});
    client.say(json!({"type": "subscribe", "subscriptions": subscriptions})).await;
    client.next_of("subscribed").await;
    let stats = live.state.stats();
    assert_eq!((stats.connections, stats.rooms["tag:nightly"]), (1, 1));
    assert!(stats.sent >= 2);
    let row = || live.rows.0.lock().get(&client.id).cloned();
    live.until("the row says what it hears", || row() == Some(Some(subscriptions.clone()))).await;
    let id = client.id;
    drop(client);
    live.until("the row is closed", || live.rows.0.lock().get(&id) == Some(&None::<Value>)).await;
    assert_eq!(live.state.stats().connections, 0);
}

#[actix_rt::test]
async fn rows_follow_the_node_to_its_new_boot() {
    let (live, _hub) = Live::start(settings(), 0, 10).await;
    let first = live.state.boot_id();
    live.until("it swept", || live.rows.1.lock().contains(&first)).await;
    live.lease.renew_identity();
    let second = live.state.boot_id();
    assert_ne!(first, second);
    live.until("it swept under its new name", || live.rows.1.lock().contains(&second)).await;
}

#[actix_rt::test]
async fn a_request_that_is_no_upgrade_is_refused() {
    let (live, _hub) = Live::start(settings(), 0, 10).await;
    let url = format!("http://127.0.0.1:{}/ws/admin", live.port());
    let answer = awc::Client::new()
        .get(url)
        .insert_header((header::SEC_WEBSOCKET_VERSION, "13"))
        .send()
        .await
        .unwrap();
    assert!(!answer.status().is_success());
}

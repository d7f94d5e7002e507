//! Alert channels, rules, alerts and deliveries over HTTP.

use carillon::domain::key::Role;
use serde_json::{Value, json};

use super::failures::fail_one;
use super::server::TestServer;

const CHANNELS: &str = "/api/v2/alert-channels";
const RULES: &str = "/api/v2/alert-rules";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn hook() -> Value {
    json!({"name": "hook", "kind": "webhook", "url": "https://example.org/a?token=b", "secret": SECRET})
}

fn rule() -> Value {
    json!({"name": "night", "on": ["error_recorded"], "channels": ["hook"]})
}

async fn admin(server: &TestServer, method: &str, path: &str, body: Value) -> super::server::Reply {
    server.call(Role::Admin, method, path, body).await
}

#[actix_rt::test]
async fn a_channel_never_shows_its_secrets_and_keeps_them_when_edited() {
    let server = TestServer::start().await;
    let made = admin(&server, "POST", CHANNELS, hook()).await;
    assert_eq!(made.is(201).header("location"), "/api/v2/alert-channels/hook");
    assert_eq!(made.body["url"], "https://example.org/***");
    assert_eq!(made.body["secret"], "***");
    // What is sent back as it was shown changes nothing.
    let path = format!("{CHANNELS}/hook");
    let mut shown = made.body.clone();
    let fields = shown.as_object_mut().unwrap();
    fields.retain(|name, _| ["name", "kind", "url", "secret"].contains(&name.as_str()));
    admin(&server, "PUT", &path, shown).await.is(200);
    let stored = server.store.alert_channel_get("hook".to_owned()).await.unwrap();
    let stored = serde_json::to_value(&stored.spec).unwrap();
    assert_eq!((&stored["secret"], &stored["url"]), (&json!(SECRET), &hook()["url"]));
    let changed = admin(&server, "PUT", &path, json!({"url": "http://10.0.0.1/x"})).await;
    assert_eq!(changed.is(200).body["url"], "http://10.0.0.1/***");
    let mail = json!({
        "name": "mail", "kind": "smtp", "host": "mail.example.org", "user": "me",
        "password": "hunter2", "from": "a@example.org", "to": ["b@example.org"],
    });
    let made = admin(&server, "POST", CHANNELS, mail).await;
    assert_eq!((&made.is(201).body["port"], &made.body["tls"]), (&json!(587), &json!("starttls")));
    let chat = json!({"name": "chat", "kind": "slack", "url": "https://hooks.slack.com/s/T/B/X"});
    admin(&server, "POST", CHANNELS, chat).await.is(201);
    let list = server.call(Role::Operator, "GET", CHANNELS, Value::Null).await;
    for secret in ["hunter2", "MfKQ9r8", "/s/T/B/X", "token"] {
        assert!(!list.is(200).text.contains(secret), "{secret}");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn every_fault_of_a_channel_is_named() {
    let server = TestServer::start().await;
    let cases = [
        (json!({"name": "a", "kind": "pager"}), vec!["kind"]),
        (json!({"name": "a b", "kind": "slack", "url": "ftp://x"}), vec!["name", "url"]),
        (
            json!({"name": "a", "kind": "webhook", "url": "https://u:p@x/", "secret": "x"}),
            vec!["url", "secret"],
        ),
        (json!({"name": "a", "kind": "slack", "url": "https://x/", "to": []}), vec!["to"]),
        (
            json!({"name": "a", "kind": "smtp", "host": "x:25", "tls": "none", "user": "u",
            "password": "p", "from": "nobody", "to": ["x"]}),
            vec!["host", "tls", "from", "to.0"],
        ),
        (
            json!({"name": "a", "kind": "smtp", "host": "x", "user": "u", "from": "a@b",
            "to": []}),
            vec!["password", "to"],
        ),
    ];
    for (body, fields) in cases {
        let reply = admin(&server, "POST", CHANNELS, body.clone()).await;
        let mut found: Vec<&str> = reply.refuses(422, "validation_failed").body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| fault["field"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        let mut fields = fields;
        fields.sort_unstable();
        assert_eq!(found, fields, "{body}");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_rule_reads_back_with_its_defaults_and_names_its_faults() {
    let server = TestServer::start().await;
    server.post(CHANNELS, hook()).await.refuses(403, "forbidden");
    server.post(RULES, rule()).await.refuses(403, "forbidden");
    let refused = admin(&server, "POST", RULES, rule()).await;
    assert_eq!(refused.is(422).body["errors"][0]["field"], "channels");
    admin(&server, "POST", CHANNELS, hook()).await.is(201);
    let made = admin(&server, "POST", RULES, rule()).await;
    assert_eq!(made.is(201).header("location"), format!("{RULES}/{}", made.id()));
    let defaults = json!({"groupBy": "schedule", "groupWaitMs": 5_000, "repeatMs": 14_400_000});
    for (field, value) in defaults.as_object().unwrap() {
        assert_eq!(&made.body[field], value, "{field}");
    }
    let path = format!("{RULES}/{}", made.id());
    let quiet = json!({"from": "22:00", "to": "07:00", "timezone": "Europe/Berlin", "days": ["mon"],
        "exceptSeverity": "critical"});
    let patch = json!({"quietHours": quiet, "count": {"atLeast": 3, "withinMs": 60_000}});
    let edited = admin(&server, "PUT", &path, patch).await;
    assert_eq!(edited.is(200).body["quietHours"], quiet);
    assert_eq!((&edited.body["count"]["atLeast"], &edited.body["version"]), (&json!(3), &json!(2)));
    let bad = json!({
        "name": "bad", "on": ["error_recorded", "alert_raised", "execution_failed"],
        "channels": [], "olderThanMs": 60_000, "groupBy": "moon", "repeatMs": 5,
        "count": {"atLeast": 0}, "quietHours": {"from": "25:00", "to": "07:00", "timezone": "Moon"},
    });
    let refused = admin(&server, "POST", RULES, bad).await;
    let found: std::collections::BTreeSet<&str> =
        refused.refuses(422, "validation_failed").body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| fault["field"].as_str().unwrap())
            .collect();
    let expected = [
        "channels",
        "count.atLeast",
        "count.withinMs",
        "groupBy",
        "on.1",
        "on.2",
        "quietHours.from",
        "quietHours.timezone",
        "repeatMs",
    ];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    admin(&server, "DELETE", &format!("{CHANNELS}/hook"), Value::Null).await.refuses(409, "in_use");
    admin(&server, "DELETE", &path, Value::Null).await.is(204);
    admin(&server, "DELETE", &format!("{CHANNELS}/hook"), Value::Null).await.is(204);
    server.stop().await;
}

#[actix_rt::test]
async fn channels_and_rules_are_made_once_for_a_key() {
    let server = TestServer::start().await;
    for (path, body) in [(CHANNELS, hook()), (RULES, rule())] {
        let request = || {
            let request = server.request("POST", path).bearer_auth(server.key(Role::Admin));
            request.insert_header(("Idempotency-Key", "k"))
        };
        let first = server.send(request(), &body).await;
        let again = server.send(request(), &body).await;
        assert_eq!(
            (&first.is(201).body, again.header("idempotency-replayed")),
            (&again.body, "true")
        );
        assert_eq!(first.header("location"), again.header("location"));
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_preview_tells_what_the_past_would_have_raised() {
    let server = TestServer::start().await;
    fail_one(&server).await;
    let from = "2020-01-01T00:00:00Z";
    let body = json!({"rule": {"on": ["error_recorded"], "channels": ["any"]}, "from": from});
    let told = server.post(&format!("{RULES}/preview"), body).await;
    assert_eq!((&told.is(200).body["raised"], &told.body["isCut"]), (&json!(1), &json!(false)));
    assert_eq!(told.body["alerts"][0]["count"], 1);
    let body = json!({"rule": {"on": ["error_recorded"], "channels": ["any"],
        "count": {"atLeast": 2, "withinMs": 60_000}}, "from": from});
    let told = server.post(&format!("{RULES}/preview"), body).await;
    assert_eq!(told.is(200).body["raised"], 0);
    assert!(
        server.get("/api/v2/alerts").await.is(200).body["items"].as_array().unwrap().is_empty()
    );
    server.stop().await;
}

#[actix_rt::test]
async fn lists_take_only_what_they_know() {
    let server = TestServer::start().await;
    for query in ["alerts?state=pending", "alerts?severity=bad", "alert-deliveries?outcome=x"] {
        server.get(&format!("/api/v2/{query}")).await.is(422);
    }
    for list in ["alerts", "alert-rules", "alert-deliveries"] {
        let found = server.get(&format!("/api/v2/{list}")).await;
        assert_eq!(found.is(200).body, json!({"items": [], "nextCursor": null}));
    }
    server.get("/api/v2/alerts/7").await.refuses(404, "not_found");
    server.get(CHANNELS).await.refuses(403, "forbidden");
    admin(&server, "POST", CHANNELS, hook()).await.is(201);
    let sent = admin(&server, "POST", &format!("{CHANNELS}/hook/test"), Value::Null).await;
    assert!(sent.is(202).body["webhookId"].as_str().unwrap().starts_with("msg_"));
    server.stop().await;
}

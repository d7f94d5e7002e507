//! Named events, webhooks and schedules that hear them.

use carillon::domain::key::Role;
use ring::hmac;
use serde_json::{Value, json};

use super::server::{Reply, TestServer};

const SCHEDULES: &str = "/api/v1/scheduler/schedules";

fn listener(name: &str, config: Value) -> Value {
    json!({
        "name": name, "taskType": "function", "taskConfig": {"name": "noop"},
        "scheduleType": "event", "scheduleConfig": config, "overlapPolicy": "allow",
    })
}

#[actix_rt::test]
async fn a_posted_event_says_what_it_fired() {
    let server = TestServer::start().await;
    let rule = json!({"on": "event", "name": "orders.*",
        "where": [{"path": "total", "op": "gt", "value": 10}]});
    let made = server.post(SCHEDULES, listener("big orders", rule)).await;
    assert_eq!(made.is(201).body["nextRunAt"], Value::Null);
    let event = |total: i64| json!({"name": "orders.created", "payload": {"total": total}});
    let small = server.post("/api/v2/events", event(1)).await;
    assert_eq!(small.is(202).body["deliveries"][0]["outcome"], "filtered");
    let big = server.post("/api/v2/events", event(11)).await;
    let delivery = &big.is(202).body["deliveries"][0];
    assert_eq!(
        (&delivery["outcome"], &delivery["scheduleId"]),
        (&json!("fired"), &json!(made.id()))
    );
    let run = server.get(delivery["execution"].as_str().unwrap()).await;
    assert_eq!(run.is(200).body["trigger"], "event");
    assert_eq!(run.body["traceId"].as_str().unwrap().len(), 32);
    let shown = server.get(&format!("/api/v2/events/{}", big.id())).await;
    assert_eq!(shown.is(200).body["deliveries"], big.body["deliveries"]);
    let listed = server.get("/api/v2/events?name=orders.*&limit=1").await;
    assert_eq!(listed.is(200).body["items"][0]["id"], big.body["id"]);
    assert!(listed.body["nextCursor"].is_string());
    let path = format!("/api/v2/schedules/{}", made.id());
    let kept = server.get(&format!("{path}/deliveries")).await;
    assert_eq!(kept.is(200).body["items"].as_array().unwrap().len(), 2);
    let span =
        json!({"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "dryRun": true});
    let dry = server.post(&format!("{path}/replay"), span.clone()).await;
    assert_eq!((&dry.is(202).body["events"], &dry.body["runs"]), (&json!(1), &json!(1)));
    let mut real = span;
    real["dryRun"] = json!(false);
    let replayed = server.post_once("k", &format!("{path}/replay"), real.clone()).await;
    assert_eq!(replayed.is(202).body["executions"].as_array().unwrap().len(), 1);
    let again = server.post_once("k", &format!("{path}/replay"), real).await;
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&replayed.body, "true"));
    server.stop().await;
}

#[actix_rt::test]
async fn what_is_wrong_with_an_event_or_its_schedule_is_named() {
    let server = TestServer::start().await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": "a b"}), "name"),
        (json!({"name": "webhook.shop"}), "name"),
        (json!({"name": "execution.completed"}), "name"),
        (json!({"name": "a", "occuredAt": "2026-11-21T02:00:00Z"}), "occuredAt"),
        (json!({"name": "a", "payload": "x".repeat(300_000)}), "payload"),
    ] {
        let reply = server.post("/api/v2/events", body).await;
        assert_eq!(reply.is(422).body["errors"][0]["field"], field);
    }
    let on = |more: Value| {
        let mut body = listener("x", json!({"on": "event", "name": "a"}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, field) in [
        (on(json!({"scheduleConfig": {"on": "execution"}})), "scheduleConfig.schedule"),
        (on(json!({"batch": {"size": 0}})), "batch"),
        (on(json!({"batch": {"size": 2}, "debounceMs": 5})), "batch"),
        (on(json!({"maxWaitMs": 5})), "maxWaitMs"),
        (on(json!({"dedupWindowMs": 5})), "dedupWindowMs"),
        (
            on(
                json!({"scheduleType": "interval", "scheduleConfig": {"intervalMs": 1000}, "debounceMs": 5}),
            ),
            "debounceMs",
        ),
    ] {
        let reply = server.post(SCHEDULES, body).await;
        assert_eq!(reply.is(422).body["errors"][0]["field"], field, "{reply:?}");
    }
    let preview = json!({"scheduleType": "event", "scheduleConfig": {"on": "event", "name": "a"}});
    let preview = server.post(&format!("{SCHEDULES}/preview"), preview).await;
    assert_eq!(preview.is(200).body["nextRuns"], json!([]));
    assert!(preview.body["description"].as_str().unwrap().contains("no planned instants"));
    let made = server.post(SCHEDULES, on(json!({"dedupKey": "id", "batch": {"size": 3}}))).await;
    assert_eq!(made.is(201).body["batch"], json!({"size": 3, "maxWaitMs": 60_000}));
    let path = format!("{SCHEDULES}/{}", made.id());
    for verb in ["pause", "resume"] {
        server.post(&format!("{path}/{verb}"), Value::Null).await.is(200);
    }
    server.stop().await;
}

struct Hook {
    path: String,
    secret: String,
    id: i64,
}

async fn hook(server: &TestServer, scheme: &str) -> Hook {
    let body = json!({"name": format!("my-{scheme}"), "scheme": scheme});
    server.post("/api/v2/webhooks", body.clone()).await.refuses(403, "forbidden");
    let made = server.call(Role::Admin, "POST", "/api/v2/webhooks", body).await;
    let text = |name: &str| made.body[name].as_str().unwrap().to_owned();
    let hook = Hook { path: text("path"), secret: text("secret"), id: made.is(201).id() };
    let shown = server.get(&format!("/api/v2/webhooks/{}", hook.id)).await;
    assert!(!shown.is(200).text.contains(&hook.secret), "a secret is shown once");
    hook
}

async fn send(server: &TestServer, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = server.request("POST", path).content_type("application/json");
    for (name, value) in headers {
        request = request.insert_header((*name, *value));
    }
    super::server::read(request.send_body(body.to_owned()).await.unwrap()).await
}

fn sign(key: &[u8], message: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[actix_rt::test]
async fn a_signed_webhook_fires_once_and_a_changed_one_never() {
    let server = TestServer::start().await;
    let rule = json!({"on": "webhook", "webhook": "my-github",
        "where": [{"path": "githubEvent", "op": "eq", "value": "push"}]});
    let made = server.post(SCHEDULES, listener("on push", rule)).await;
    let hook = hook(&server, "github").await;
    let body = r#"{"ref": "refs/heads/main"}"#;
    let signature = format!("sha256={}", hex(&sign(hook.secret.as_bytes(), body)));
    let headers = [
        ("x-hub-signature-256", signature.as_str()),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("x-github-event", "push"),
    ];
    let first = send(&server, &hook.path, &headers, body).await;
    assert_eq!(first.is(202).body["duplicate"], false);
    let again = send(&server, &hook.path, &headers, body).await;
    assert_eq!((again.is(202).status, &again.body["duplicate"]), (202, &json!(true)));
    assert_eq!(again.body["eventId"], first.body["eventId"]);
    let runs = format!("/api/execution/executions?scheduleId={}", made.id());
    assert_eq!(server.get(&runs).await.body["total"], 1);
    // What a stranger is told never depends on what was wrong.
    let nowhere = "/api/v2/hooks/6f1f6f0e-3c8b-4f0a-9f34-0c9a5c7a2b11";
    let replies = [
        send(&server, &hook.path, &headers, r#"{"ref": "refs/heads/evil"}"#).await,
        send(&server, &hook.path, &headers[1..], body).await,
        send(&server, nowhere, &headers, body).await,
    ];
    for reply in &replies {
        reply.refuses(401, "unauthorized");
        assert_eq!(reply.body["detail"], replies[0].body["detail"]);
    }
    let log = server.get(&format!("/api/v2/webhooks/{}/deliveries", hook.id)).await;
    let words: Vec<&Value> =
        log.body["items"].as_array().unwrap().iter().map(|line| &line["outcome"]).collect();
    assert_eq!(words, ["malformed", "bad_signature", "duplicate", "accepted"]);
    server.stop().await;
}

#[actix_rt::test]
async fn a_rotated_secret_works_beside_the_old_one_and_a_disabled_webhook_not_at_all() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let server = TestServer::start().await;
    let hook = hook(&server, "standard").await;
    let body = r#"{"test": 1}"#;
    let now = carillon::clock::Clock::system().now().timestamp();
    let send = async |secret: &str, id: &str, at: i64| {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let signed = STANDARD.encode(sign(&key, &format!("{id}.{at}.{body}")));
        let (at, signed) = (at.to_string(), format!("v1,{signed}"));
        let headers =
            [("webhook-id", id), ("webhook-timestamp", &at), ("webhook-signature", &signed)];
        send(&server, &hook.path, &headers, body).await
    };
    send(&hook.secret, "msg_1", now).await.is(202);
    send(&hook.secret, "msg_2", now - 400).await.refuses(401, "unauthorized");
    let path = format!("/api/v2/webhooks/{}", hook.id);
    let rotated = server.call(Role::Admin, "POST", &format!("{path}/rotate"), Value::Null).await;
    let fresh = rotated.is(200).body["secret"].as_str().unwrap().to_owned();
    send(&fresh, "msg_3", now).await.is(202);
    send(&hook.secret, "msg_4", now).await.is(202);
    let at_once = json!({"overlapMs": 0});
    server.call(Role::Admin, "POST", &format!("{path}/rotate"), at_once).await.is(200);
    send(&fresh, "msg_5", now).await.refuses(401, "unauthorized");
    let disabled = server.call(Role::Admin, "POST", &format!("{path}/disable"), Value::Null).await;
    assert_eq!(disabled.is(200).body["enabled"], false);
    server.call(Role::Admin, "DELETE", &path, Value::Null).await.is(204);
    server.stop().await;
}

#[actix_rt::test]
async fn a_token_webhook_is_disabled_and_enabled() {
    let server = TestServer::start().await;
    let hook = hook(&server, "token").await;
    let headers = [("x-carillon-token", hook.secret.as_str())];
    send(&server, &hook.path, &headers, "{}").await.is(202);
    send(&server, &hook.path, &[("x-carillon-token", "wrong")], "{}").await.is(401);
    let path = format!("/api/v2/webhooks/{}", hook.id);
    server.call(Role::Admin, "POST", &format!("{path}/disable"), Value::Null).await.is(200);
    send(&server, &hook.path, &headers, "{}").await.refuses(403, "webhook_disabled");
    server.call(Role::Admin, "POST", &format!("{path}/enable"), Value::Null).await.is(200);
    send(&server, &hook.path, &headers, "{}").await.is(202);
    send(&server, &hook.path, &headers, "{").await.refuses(400, "malformed_json");
    let large = format!("\"{}\"", "x".repeat(300_000));
    send(&server, &hook.path, &headers, &large).await.refuses(413, "payload_too_large");
    server.stop().await;
}

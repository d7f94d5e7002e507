//! Alerts from a failure to its receiver, with the real binary.

use std::time::{Duration, Instant};

use carillon::tasks::notify::sign;
use serde_json::{Value, json};

use super::on_both_stores;
use super::server::{Backend, Server};
use crate::support::receivers::{MailServer, Received, Receiver};

on_both_stores! {
    a_failure_reaches_a_signed_webhook_a_chat_and_a_mailbox_within_thirty_seconds,
    an_alert_survives_kill_nine_between_raise_and_delivery,
    what_a_receiver_refuses_is_sent_again_under_the_same_name,
    a_channel_reaches_no_forbidden_address,
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CHANNELS: &str = "/api/v2/alert-channels";
const RULES: &str = "/api/v2/alert-rules";

/// A schedule whose runs fail for good.
fn failing(server: &Server) -> Value {
    let schedule = json!({
        "name": "nightly", "taskType": "shell_command",
        "taskConfig": {"command": "echo no space left >&2; exit 3"},
        "scheduleType": "cron", "scheduleConfig": {"cron": "0 0 1 1 *"},
        "retryPolicy": {"maxAttempts": 1}, "severity": "critical", "tags": ["nightly"],
    });
    server.post("/api/scheduler/schedules", &schedule)
}

fn rule(channels: &[&str], group_wait_ms: i64) -> Value {
    json!({
        "name": "night", "on": ["error_recorded", "error_escalated"], "severities": ["critical"],
        "tags": ["nightly"], "groupWaitMs": group_wait_ms, "channels": channels,
    })
}

fn fail(server: &Server, schedule: &Value) {
    server.post(&format!("/api/scheduler/schedules/{}/trigger", schedule["id"]), &Value::Null);
}

fn assert_signed(request: &Received) -> Value {
    let (id, at) = (request.exact("webhook-id"), request.exact("webhook-timestamp"));
    let expected = sign(SECRET, &id, at.parse().unwrap(), &request.body).unwrap();
    assert_eq!(request.exact("webhook-signature"), expected, "{request:?}");
    serde_json::from_str(&request.body).unwrap()
}

fn a_failure_reaches_a_signed_webhook_a_chat_and_a_mailbox_within_thirty_seconds(backend: Backend) {
    let (hook, chat, mail) = (Receiver::start(), Receiver::start(), MailServer::start());
    let mut server = Server::new(backend).started();
    for channel in [
        json!({"name": "hook", "kind": "webhook", "url": hook.url("/a?t=1"), "secret": SECRET}),
        json!({"name": "chat", "kind": "slack", "url": chat.url("/services/T/B/X")}),
        json!({"name": "mail", "kind": "smtp", "host": "127.0.0.1", "port": mail.address.port(),
               "tls": "none", "from": "Carillon <carillon@example.org>", "to": ["ops@example.org"]}),
    ] {
        server.post(CHANNELS, &channel);
    }
    server.post(RULES, &rule(&["hook", "chat", "mail"], 1_000));
    let schedule = failing(&server);
    let failed = Instant::now();
    fail(&server, &schedule);
    server.until("all three were told", |_| {
        !hook.received().is_empty() && !chat.received().is_empty() && !mail.mails().is_empty()
    });
    let request = hook.received().remove(0);
    assert!(request.at - failed < Duration::from_secs(30), "{:?}", request.at - failed);
    let told = assert_signed(&request);
    assert_eq!((&told["type"], &told["data"]["rule"]), (&json!("alert.raised"), &json!("night")));
    let alert = &told["data"]["alerts"][0];
    assert_eq!(
        (&alert["severity"], &alert["scheduleName"]),
        (&json!("critical"), &json!("nightly"))
    );
    assert!(alert["samples"][0]["message"].as_str().unwrap().contains("exit"), "{alert}");
    let chat: Value = serde_json::from_str(&chat.received()[0].body).unwrap();
    assert!(chat["text"].as_str().unwrap().starts_with("[critical] nightly: "), "{chat}");
    assert_eq!(chat["blocks"][0]["type"], "section");
    let mail = mail.mails().remove(0);
    assert_eq!(
        (mail.from.as_str(), mail.to[0].as_str()),
        ("carillon@example.org", "ops@example.org")
    );
    assert!(mail.text.contains("Subject: [critical] nightly: "), "{}", mail.text);

    // Once each, in the log and with the receivers; nothing shows a secret.
    server.until("the log has three", |server| {
        let log = server.get("/api/v2/alert-deliveries?outcome=delivered");
        log["items"].as_array().unwrap().len() == 3
    });
    assert_eq!(hook.received().len(), 1);
    let log = server.get("/api/v2/alert-deliveries").to_string();
    let shown = server.get(CHANNELS).to_string();
    let events = std::fs::read_to_string(server.path("server.log")).unwrap();
    for text in [&log, &shown, &events] {
        assert!(
            !text.contains("MfKQ9r8") && !text.contains("/services/T") && !text.contains("t=1")
        );
    }

    // The error resolved, the alert clears.
    let alerts = server.get("/api/v2/alerts?state=firing");
    let id = alerts["items"][0]["id"].clone();
    let errors = server.get("/api/errors/errors");
    let error = &errors["items"][0]["id"];
    server.post(&format!("/api/errors/errors/{error}/resolve"), &Value::Null);
    server.until("the alert cleared", |server| {
        server.get(&format!("/api/v2/alerts/{id}"))["state"] == "cleared"
    });
}

fn an_alert_survives_kill_nine_between_raise_and_delivery(backend: Backend) {
    let hook = Receiver::start();
    let mut server = Server::new(backend).started();
    let channel =
        json!({"name": "hook", "kind": "webhook", "url": hook.url("/"), "secret": SECRET});
    server.post(CHANNELS, &channel);
    server.post(RULES, &rule(&["hook"], 3_000));
    let schedule = failing(&server);
    fail(&server, &schedule);
    server.until("the alert was raised", |server| {
        server.get("/api/v2/alerts")["items"].as_array().unwrap().len() == 1
    });
    server.kill();
    assert!(hook.received().is_empty(), "the group wait was not over");
    server.start();
    server.until("it was delivered", |server| {
        let log = server.get("/api/v2/alert-deliveries?outcome=delivered");
        !log["items"].as_array().unwrap().is_empty()
    });
    let received = hook.received();
    let names: std::collections::BTreeSet<String> =
        received.iter().map(|one| one.exact("webhook-id")).collect();
    assert_eq!(names.len(), 1, "one message, whatever the attempts: {received:?}");
    assert_signed(&received[0]);
    let alerts = server.get("/api/v2/alerts");
    assert_eq!(alerts["items"].as_array().unwrap().len(), 1);
    assert_eq!(alerts["items"][0]["deliveries"], 1);
}

fn what_a_receiver_refuses_is_sent_again_under_the_same_name(backend: Backend) {
    let hook = Receiver::start();
    hook.answers(503);
    let mut server = Server::new(backend).started();
    let channel =
        json!({"name": "hook", "kind": "webhook", "url": hook.url("/"), "secret": SECRET});
    server.post(CHANNELS, &channel);
    let test = server.post(&format!("{CHANNELS}/hook/test"), &Value::Null);
    server.until("it was refused", |_| !hook.received().is_empty());
    hook.answers(200);
    let path = test["deliveries"].as_str().unwrap().to_owned();
    server.until("it was taken", |server| server.get(&path)["items"][0]["outcome"] == "delivered");
    let log = server.get(&path);
    let log = log["items"].as_array().unwrap();
    assert_eq!(
        (log.len(), &log[1]["outcome"], &log[1]["status"]),
        (2, &json!("failed"), &json!(503))
    );
    let received = hook.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].exact("webhook-id"), received[1].exact("webhook-id"));
    assert_eq!(received[0].exact("webhook-id"), test["webhookId"].as_str().unwrap());
    assert_signed(&received[1]);
}

fn a_channel_reaches_no_forbidden_address(backend: Backend) {
    let mut server = Server::new(backend).started();
    let own = format!("{}/api/admin/keys?private=1", server.url());
    for channel in [
        json!({"name": "meta", "kind": "slack", "url": "http://169.254.169.254/private"}),
        json!({"name": "own", "kind": "webhook", "url": own, "secret": SECRET}),
        json!({"name": "mail", "kind": "smtp", "host": "169.254.169.254", "tls": "none",
               "from": "a@example.org", "to": ["b@example.org"]}),
    ] {
        server.post(CHANNELS, &channel);
        let test = format!("{CHANNELS}/{}/test", channel["name"].as_str().unwrap());
        let path = server.post(&test, &Value::Null)["deliveries"].as_str().unwrap().to_owned();
        server.until("it was refused", |server| {
            let log = server.get(&path);
            let first = log["items"].as_array().unwrap().last().cloned().unwrap_or_default();
            let error = first["error"].as_str().unwrap_or_default();
            assert!(!error.contains("private"), "{log}");
            first["outcome"] == "failed" && error.contains("may not be reached")
        });
    }
}

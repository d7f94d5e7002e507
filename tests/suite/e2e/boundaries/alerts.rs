//! The ways to the commits of alerts, and what each leaves.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{EXECUTIONS, Trial, failing, named};

const CHANNELS: &str = "/api/v2/alert-channels";
const RULES: &str = "/api/v2/alert-rules";

/// A channel that nobody listens at.
fn channel(name: &str) -> Value {
    json!({"name": name, "kind": "slack", "url": "http://127.0.0.1:1/boundary"})
}

fn rule(name: &str) -> Value {
    // What the kill itself broke is in the same group.
    json!({"name": name, "on": ["error_recorded"], "channels": [name], "groupWaitMs": 0,
           "groupBy": "rule"})
}

/// A run that fails for good.
fn fails_at_once() -> Value {
    let mut run = failing();
    run["retryPolicy"] = json!({"maxAttempts": 1});
    run
}

impl Trial {
    /// Makes what the boundary needs; a channel and a rule have its name.
    pub(super) fn prepare_alerts(&mut self) -> Value {
        let name = self.boundary;
        if name == "alert_channel_create" {
            return Value::Null;
        }
        self.server.post(CHANNELS, &channel(name));
        match name {
            "alert_rule_update" | "alert_rule_delete" | "alert_advance" | "alert_tick" => {
                self.server.post(RULES, &rule(name))["id"].clone()
            }
            "alert_acknowledge" => {
                let rule = self.server.post(RULES, &rule(name))["id"].clone();
                self.server.post(EXECUTIONS, &fails_at_once());
                let list = format!("/api/v2/alerts?ruleId={rule}&state=firing");
                self.server.until("the alert fires", |server| {
                    !server.get(&list)["items"].as_array().unwrap().is_empty()
                });
                self.server.get(&list)["items"][0]["id"].clone()
            }
            _ => Value::Null,
        }
    }

    /// One try to get there.
    pub(super) fn provoke_alerts(&self) {
        let (server, name, id) = (&self.server, self.boundary, &self.made);
        let channel_path = format!("{CHANNELS}/{name}");
        let (method, path, body) = match name {
            "alert_channel_create" => ("POST", CHANNELS.to_owned(), channel(name)),
            "alert_channel_update" => {
                ("PUT", channel_path, json!({"url": "http://127.0.0.1:1/edited"}))
            }
            "alert_channel_delete" => ("DELETE", channel_path, Value::Null),
            "alert_rule_create" => ("POST", RULES.to_owned(), rule(name)),
            "alert_rule_update" => ("PUT", format!("{RULES}/{id}"), json!({"enabled": false})),
            "alert_rule_delete" => ("DELETE", format!("{RULES}/{id}"), Value::Null),
            "alert_acknowledge" => {
                ("POST", format!("/api/v2/alerts/{id}/acknowledge"), Value::Null)
            }
            "alert_advance" | "alert_tick" => ("POST", EXECUTIONS.to_owned(), fails_at_once()),
            "alert_channel_test" | "alert_message_claim" | "alert_message_end" => {
                ("POST", format!("{channel_path}/test"), Value::Null)
            }
            other => panic!("nothing leads to {other}: say what does"),
        };
        server.call(method, &path, &body);
    }

    /// Whether what the request was to change is there; `None` when no request is answered by it.
    pub(super) fn alerts_show(&self) -> Option<bool> {
        let (server, name, id) = (&self.server, self.boundary, &self.made);
        let channel_path = format!("{CHANNELS}/{name}");
        let status = |path: &str| server.call("GET", path, &Value::Null).0;
        match name {
            "alert_channel_create" => Some(status(&channel_path) == 200),
            "alert_channel_update" => Some(server.get(&channel_path)["version"] == 2),
            "alert_channel_delete" => Some(status(&channel_path) == 404),
            "alert_rule_create" => Some(!named(&server.get(RULES), name).is_empty()),
            "alert_rule_update" => Some(server.get(&format!("{RULES}/{id}"))["enabled"] == false),
            "alert_rule_delete" => Some(status(&format!("{RULES}/{id}")) == 404),
            "alert_acknowledge" => {
                let alert = server.get(&format!("/api/v2/alerts/{id}"));
                Some(alert["state"] == "acknowledged")
            }
            _ => None,
        }
    }

    /// What was begun is ended by the next server: no more is told than alerts were raised, each
    /// message under one name.
    pub(super) fn verify_alerts(&mut self) {
        let (name, id) = (self.boundary, self.made.clone());
        if !matches!(name, "alert_advance" | "alert_tick") {
            return;
        }
        // What a kill itself broke may have raised one before, which ended when its retry passed,
        // or led the server there before a run was asked for: one that fails keeps it firing.
        self.server.post(EXECUTIONS, &fails_at_once());
        let list = format!("/api/v2/alerts?ruleId={id}&state=firing");
        self.server
            .until("the alert is told", |server| server.get(&list)["items"][0]["deliveries"] == 1);
        assert_eq!(self.server.get(&list)["items"].as_array().unwrap().len(), 1);
        let log = format!("/api/v2/alert-deliveries?channel={name}");
        self.server.until("its message is tried", |server| {
            !server.get(&log)["items"].as_array().unwrap().is_empty()
        });
        let log = self.server.get(&log);
        let told = log["items"].as_array().unwrap();
        let raised = told.iter().filter(|one| one["kind"] == "alert.raised");
        let names: BTreeSet<&str> = raised.map(|one| one["webhookId"].as_str().unwrap()).collect();
        let alerts = self.server.get(&format!("/api/v2/alerts?ruleId={id}"));
        assert!(names.len() <= alerts["items"].as_array().unwrap().len(), "{log} {alerts}");
        for one in told {
            let same = told.iter().filter(|other| other["messageId"] == one["messageId"]);
            assert!(
                same.map(|other| &other["webhookId"]).all(|id| *id == one["webhookId"]),
                "{log}"
            );
        }
    }
}

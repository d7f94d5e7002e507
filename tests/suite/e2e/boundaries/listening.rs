//! Ways to the boundaries of what listens: posted events, webhooks, schedules of type `event`.

use serde_json::{Value, json};

use super::{SCHEDULES, Trial, far_away, named};

const EVENTS: &str = "/api/v2/events";
const WEBHOOKS: &str = "/api/v2/webhooks";

impl Trial {
    /// Makes what the boundary needs.
    pub(super) fn prepare_listening(&self, boundary: &str) -> Value {
        match boundary {
            "inbox_dispatch" => {
                let heard = self.server.post(SCHEDULES, &far_away(&self.key()))["id"].clone();
                let rule = json!({"on": "execution", "schedule": self.key()});
                self.server.post(SCHEDULES, &listener("hears an end", &rule));
                heard
            }
            "event_replay" => {
                let rule = json!({"on": "event", "name": "replayed"});
                let id = self.server.post(SCHEDULES, &listener("hears again", &rule))["id"].clone();
                self.server.post(EVENTS, &json!({"name": "replayed"}));
                id
            }
            "webhook_change" | "webhook_delete" => {
                self.server.post(WEBHOOKS, &self.webhook())["id"].clone()
            }
            "webhook_receive" => self.server.post(WEBHOOKS, &self.webhook())["path"].clone(),
            _ => Value::Null,
        }
    }

    /// One try to get there.
    pub(super) fn provoke_listening(&self, boundary: &str) {
        let (server, id) = (&self.server, &self.made);
        match boundary {
            "event_post" => self.event_once(),
            "event_replay" => {
                let span = json!({"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
                server.call("POST", &format!("/api/v2/schedules/{id}/replay"), &span);
            }
            "inbox_dispatch" => {
                server.call("POST", &format!("{SCHEDULES}/{id}/trigger"), &Value::Null);
            }
            "webhook_create" => drop(server.call("POST", WEBHOOKS, &self.webhook())),
            "webhook_change" => {
                server.call("POST", &format!("{WEBHOOKS}/{id}/disable"), &Value::Null);
            }
            "webhook_delete" => {
                server.call("DELETE", &format!("{WEBHOOKS}/{id}"), &Value::Null);
            }
            // A request without a signature is refused, and that is written down.
            "webhook_receive" => drop(server.call("POST", id.as_str().unwrap(), &json!({}))),
            other => panic!("nothing leads to {other}: say what does"),
        }
    }

    /// Whether what the request was to change is there; none when nothing tells.
    pub(super) fn listening_shows(&self, boundary: &str) -> Option<bool> {
        let webhook = format!("{WEBHOOKS}/{}", self.made);
        match boundary {
            "event_post" => Some(!self.events().is_empty()),
            "webhook_create" => Some(!named(&self.server.get(WEBHOOKS), &self.key()).is_empty()),
            "webhook_change" => Some(self.server.get(&webhook)["enabled"] == false),
            "webhook_delete" => Some(self.server.call("GET", &webhook, &Value::Null).0 == 404),
            _ => None,
        }
    }

    /// Sends again what has a key, and waits for what comes with time.
    pub(super) fn settle_listening(&mut self, boundary: &str) {
        match boundary {
            "event_post" => {
                self.event_once();
                assert_eq!(self.events().len(), 1, "one event a key");
            }
            "inbox_dispatch" => self.server.until("who listens has run", |server| {
                let list = "/api/execution/executions?status=completed&limit=500";
                let found = server.get(list);
                let mut found = found["items"].as_array().unwrap().iter();
                found.any(|row| row["scheduleName"] == "hears an end")
            }),
            _ => {}
        }
    }

    fn event_once(&self) {
        self.keyed(EVENTS, &json!({"name": self.key()}));
    }

    fn events(&self) -> Vec<Value> {
        let list = self.server.get(&format!("{EVENTS}?name={}", self.key()));
        list["items"].as_array().unwrap().clone()
    }

    fn webhook(&self) -> Value {
        json!({"name": self.key(), "scheme": "standard"})
    }
}

fn listener(name: &str, rule: &Value) -> Value {
    json!({
        "name": name, "taskType": "shell_command", "taskConfig": {"command": "true"},
        "scheduleType": "event", "scheduleConfig": rule, "overlapPolicy": "allow",
    })
}

//! Ways to the boundaries of what looks after failures: breakers, groups of errors and letters.

use serde_json::{Value, json};

use super::{Trial, failing};

const BREAKER: &str = "/api/v2/breakers/key:boundary";

impl Trial {
    /// Makes what the boundary needs.
    pub(super) fn prepare_failures(&mut self, boundary: &str) -> Value {
        match boundary {
            "dead_letters_resubmit" | "dead_letters_discard" | "dead_letters_alert" => {
                self.failed("dlq", &failing(), false)
            }
            "breaker_act" => self.server.post(&format!("{BREAKER}/force-open"), &Value::Null),
            "error_group_resolve" => {
                let id = self.failed("errors/errors", &failing(), false);
                self.server.get(&format!("/api/errors/errors/{id}"))["fingerprint"].clone()
            }
            other => self.prepare_policies(other),
        }
    }

    /// One try to get there.
    pub(super) fn provoke_failures(&self, boundary: &str) {
        let (server, id) = (&self.server, &self.made);
        match boundary {
            // It comes with time.
            "dead_letters_alert" => {}
            "dead_letters_resubmit" => self.resubmit_many_once(),
            "dead_letters_discard" => {
                let order = json!({"ids": [id], "reason": "boundary"});
                server.call("POST", "/api/v2/dead-letters/discard", &order);
            }
            "breaker_act" => drop(server.call("POST", &format!("{BREAKER}/reset"), &Value::Null)),
            "error_group_resolve" => {
                let path = format!("{}/resolve", group(id));
                server.call("POST", &path, &Value::Null);
            }
            other => self.provoke_policies(other),
        }
    }

    /// Whether what the request was to change is there; none when nothing tells.
    pub(super) fn failure_shows(&self, boundary: &str) -> Option<bool> {
        let (server, id) = (&self.server, &self.made);
        match boundary {
            "breaker_act" => Some(server.get(BREAKER)["state"] == "closed"),
            "error_group_resolve" => Some(server.get(&group(id))["status"] == "resolved"),
            "dead_letters_discard" => {
                // The list is of letters that wait for a verdict.
                let letters = server.get("/api/dlq?limit=500");
                let mut letters = letters["items"].as_array().unwrap().iter();
                Some(!letters.any(|letter| letter["id"] == *id))
            }
            other => self.policy_shows(other),
        }
    }

    /// Ends what would never settle by itself, and sends again what may be sent again.
    pub(super) fn settle_failures(&mut self, boundary: &str) {
        match boundary {
            "dead_letters_resubmit" => self.resubmit_many_once(),
            other => self.settle_policies(other),
        }
    }

    fn resubmit_many_once(&self) {
        self.keyed("/api/v2/dead-letters/resubmit", &json!({ "ids": [self.made] }));
    }
}

/// Where a group of errors is read.
fn group(fingerprint: &Value) -> String {
    format!("/api/v2/errors/groups/{}", fingerprint.as_str().unwrap())
}

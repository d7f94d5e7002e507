//! Ways to the boundaries of what admits work: queues, ranks, deadlines.

use serde_json::{Value, json};

use super::{EXECUTIONS, SCHEDULES, Trial, far_away};

const QUEUE: &str = "/api/v2/queues/boundary";

impl Trial {
    /// Makes what the boundary needs.
    pub(super) fn prepare_policies(&self, boundary: &str) -> Value {
        match boundary {
            "deadline_sweep" => {
                let mut late = far_away("late");
                late["scheduleConfig"]["intervalMs"] = json!(500);
                late["slaMs"] = json!(1);
                late["taskConfig"]["command"] = json!("sleep 0.2");
                self.server.post(SCHEDULES, &late)["id"].clone()
            }
            "queue_delete" => self.server.call("PUT", QUEUE, &json!({"maxConcurrent": 2})).1,
            "execution_rerank" => {
                let run = json!({"taskType": "shell_command", "taskConfig": {"command": "true"},
                                 "runAt": "2999-01-01T00:00:00Z"});
                self.server.post(EXECUTIONS, &run)["id"].clone()
            }
            other => self.prepare_planning(other),
        }
    }

    /// One try to get there.
    pub(super) fn provoke_policies(&self, boundary: &str) {
        let (server, id) = (&self.server, &self.made);
        match boundary {
            // It comes with time.
            "deadline_sweep" => {}
            "execution_claim_gated" => {
                let run = json!({"taskType": "shell_command", "taskConfig": {"command": "true"},
                                 "concurrencyKey": "boundary"});
                server.call("POST", EXECUTIONS, &run);
            }
            "execution_rerank" => {
                let path = format!("/api/v2/executions/{id}/priority");
                server.call("POST", &path, &json!({"priority": "low"}));
            }
            "queue_put" => drop(server.call("PUT", QUEUE, &json!({"maxConcurrent": 2}))),
            "queue_delete" => drop(server.call("DELETE", QUEUE, &Value::Null)),
            other => self.provoke_planning(other),
        }
    }

    /// Whether what the request was to change is there; none when nothing tells.
    pub(super) fn policy_shows(&self, boundary: &str) -> Option<bool> {
        match boundary {
            "queue_put" => Some(self.server.call("GET", QUEUE, &Value::Null).0 == 200),
            "queue_delete" => Some(self.server.call("GET", QUEUE, &Value::Null).0 == 404),
            other => self.planning_shows(other),
        }
    }

    /// Ends what would never settle by itself.
    pub(super) fn settle_policies(&mut self, boundary: &str) {
        let (server, id) = (&self.server, &self.made);
        match boundary {
            "deadline_sweep" => {
                drop(server.call("DELETE", &format!("{SCHEDULES}/{id}"), &Value::Null));
            }
            "execution_rerank" => {
                drop(server.post(&format!("{EXECUTIONS}/{id}/cancel"), &Value::Null));
            }
            other => self.settle_planning(other),
        }
    }
}

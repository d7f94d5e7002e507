//! Ways to the boundaries of what people do: to executions, to errors, and outside the store.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{EXECUTIONS, Trial, failing};

impl Trial {
    /// Makes what the boundary needs.
    pub(super) fn prepare_acts(&mut self, boundary: &str) -> Value {
        match boundary {
            "error_assign" | "error_escalate" => self.failed("errors/errors", &failing(), false),
            "execution_override" => {
                let error = self.failed("errors/errors", &failing(), false);
                self.server.get(&format!("/api/errors/errors/{error}"))["executionId"].clone()
            }
            "execution_skip" => {
                let run = json!({"taskType": "shell_command", "taskConfig": {"command": "true"},
                                 "runAt": "2999-01-01T00:00:00Z"});
                self.server.post(EXECUTIONS, &run)["id"].clone()
            }
            other => self.prepare_failures(other),
        }
    }

    /// One try to get there.
    pub(super) fn provoke_acts(&self, boundary: &str) {
        let (server, id) = (&self.server, &self.made);
        match boundary {
            "execution_skip" => self.act("skip", &Value::Null),
            "execution_pause" | "execution_resume" => self.pause_and_resume(),
            "execution_override" => self.act("succeed", &json!({"reason": "by hand"})),
            "error_assign" => {
                let given = json!({"assignee": "ada"});
                server.call("POST", &format!("/api/v2/errors/{id}/assign"), &given);
            }
            "error_escalate" => {
                let given = json!({"assignee": "bob"});
                server.call("POST", &format!("/api/v2/errors/{id}/escalate"), &given);
            }
            // An act outside the store, whose row comes after it.
            "audit_append" => {
                server.call("PUT", "/api/admin/log-level", &json!({"level": "info"}));
            }
            other => self.provoke_failures(other),
        }
    }

    /// Whether what the request was to change is there; none when nothing tells.
    pub(super) fn act_shows(&self, boundary: &str) -> Option<bool> {
        let (server, id) = (&self.server, &self.made);
        match boundary {
            "error_assign" | "error_escalate" => {
                let assignee = &server.get(&format!("/api/v2/errors/{id}"))["assignee"];
                Some(!assignee.is_null())
            }
            "execution_skip" => {
                Some(server.get(&format!("/api/v2/executions/{id}"))["status"] == "skipped")
            }
            "execution_override" => {
                let run = server.get(&format!("/api/v2/executions/{id}"));
                Some(run["outcomeOverride"]["outcome"] == "succeeded")
            }
            other => self.failure_shows(other),
        }
    }

    /// The row of an act is there exactly when the act is.
    pub(super) fn verify_audit(&self, is_committed: bool) {
        let (action, kind) = match self.boundary {
            "execution_skip" => ("execution.skip", "execution"),
            "execution_override" => ("execution.succeed", "execution"),
            "error_assign" => ("error.assign", "error"),
            "error_escalate" => ("error.escalate", "error"),
            "schedule_update" => ("schedule.update", "schedule"),
            "key_revoke" => ("key.delete", "key"),
            _ => return,
        };
        let path = format!("/api/v2/audit?action={action}&subject={kind}:{}", self.made);
        let rows = self.server.get(&path)["items"].as_array().unwrap().len();
        assert_eq!(rows, usize::from(is_committed), "{}", self.boundary);
    }

    /// Ends what would never settle by itself.
    pub(super) fn settle_acts(&mut self, boundary: &str) {
        match boundary {
            // Refused when it was skipped before the end.
            "execution_skip" => self.act("skip", &Value::Null),
            other => self.settle_failures(other),
        }
    }

    /// Does something to the run that was made.
    fn act(&self, verb: &str, body: &Value) {
        self.server.call("POST", &format!("/api/v2/executions/{}/{verb}", self.made), body);
    }

    /// Lets a run stand still and go on, as soon as it runs.
    fn pause_and_resume(&self) {
        let run = json!({"taskType": "shell_command", "taskConfig": {"command": "sleep 2"}});
        let (status, run) = self.server.call("POST", EXECUTIONS, &run);
        let path = format!("/api/v2/executions/{}", run["id"]);
        for verb in ["pause", "resume"] {
            let deadline = Instant::now() + Duration::from_secs(2);
            let act = || self.server.call("POST", &format!("{path}/{verb}"), &Value::Null).0;
            while status == 202 && act() == 409 && Instant::now() < deadline {
                super::super::pause(Duration::from_millis(10));
            }
        }
    }
}

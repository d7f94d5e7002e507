//! Ways to the boundaries of what plans: calendars, pauses, skipped instants, backfills.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, SCHEDULES, Trial, far_away, named};

const CALENDARS: &str = "/api/v2/calendars";
const BACKFILLS: &str = "/api/v2/backfills";

impl Trial {
    /// Makes what the boundary needs.
    pub(super) fn prepare_planning(&self, boundary: &str) -> Value {
        match boundary {
            "schedule_pause" | "schedule_skip" => {
                self.server.post(SCHEDULES, &far_away(&self.key()))["id"].clone()
            }
            "schedule_set_enabled" => self.paused(&Value::Null),
            "schedule_resume_due" => {
                let until = carillon::clock::Clock::system().now() + chrono::TimeDelta::seconds(2);
                self.paused(&json!({"until": until.to_rfc3339()}))
            }
            "calendar_update" | "calendar_delete" => {
                self.server.post(CALENDARS, &calendar(&self.key()))["id"].clone()
            }
            "backfill_create" | "backfill_advance" => self.hourly(),
            "backfill_stop" => {
                let path = format!("/api/v2/schedules/{}/backfills", self.hourly());
                let mut slow = january();
                slow["ratePerMinute"] = json!(1);
                self.server.post(&path, &slow)["id"].clone()
            }
            other => self.prepare_listening(other),
        }
    }

    /// One try to get there.
    pub(super) fn provoke_planning(&self, boundary: &str) {
        let (server, id) = (&self.server, &self.made);
        match boundary {
            // It comes with time.
            "schedule_resume_due" => {}
            "schedule_pause" => {
                server.call("POST", &format!("{SCHEDULES}/{id}/pause"), &Value::Null);
            }
            "schedule_set_enabled" => {
                server.call("POST", &format!("{SCHEDULES}/{id}/resume"), &Value::Null);
            }
            "schedule_skip" => {
                server.call("POST", &format!("/api/v2/schedules/{id}/skip-next"), &Value::Null);
            }
            "calendar_create" => self.keyed(CALENDARS, &calendar(&self.key())),
            "calendar_update" => {
                server.call("PUT", &format!("{CALENDARS}/{id}"), &json!({"description": "edited"}));
            }
            "calendar_delete" => {
                server.call("DELETE", &format!("{CALENDARS}/{id}"), &Value::Null);
            }
            "backfill_create" | "backfill_advance" => self.backfill_once(),
            "backfill_stop" => {
                server.call("POST", &format!("{BACKFILLS}/{id}/stop"), &Value::Null);
            }
            other => self.provoke_listening(other),
        }
    }

    /// Whether what the request was to change is there; none when nothing tells.
    pub(super) fn planning_shows(&self, boundary: &str) -> Option<bool> {
        let (server, id) = (&self.server, &self.made);
        let schedule = format!("{SCHEDULES}/{id}");
        let calendar = format!("{CALENDARS}/{id}");
        match boundary {
            "schedule_pause" => Some(server.get(&schedule)["enabled"] == false),
            "schedule_set_enabled" => Some(server.get(&schedule)["enabled"] == true),
            "schedule_skip" => Some(server.get(&schedule)["version"] == 2),
            "calendar_create" => Some(!named(&server.get(CALENDARS), &self.key()).is_empty()),
            "calendar_update" => Some(server.get(&calendar)["description"] == "edited"),
            "calendar_delete" => Some(server.call("GET", &calendar, &Value::Null).0 == 404),
            "backfill_create" => Some(!self.backfills().is_empty()),
            "backfill_stop" => {
                Some(server.get(&format!("{BACKFILLS}/{id}"))["status"] == "stopped")
            }
            other => self.listening_shows(other),
        }
    }

    /// Sends again what has a key, and waits for what comes with time.
    pub(super) fn settle_planning(&mut self, boundary: &str) {
        match boundary {
            "calendar_create" => {
                self.keyed(CALENDARS, &calendar(&self.key()));
                assert_eq!(named(&self.server.get(CALENDARS), &self.key()).len(), 1);
            }
            "backfill_create" | "backfill_advance" => {
                self.backfill_once();
                assert_eq!(self.backfills().len(), 1, "{boundary}");
                let path = format!("{BACKFILLS}/{}", self.backfills()[0]["id"]);
                self.wait_for(&path, "status", &json!("completed"));
                assert_eq!(self.server.get(&path)["made"], 24, "{boundary}");
            }
            "backfill_stop" => {
                let path = format!("{BACKFILLS}/{}/stop", self.made);
                self.server.post(&path, &Value::Null);
            }
            "schedule_resume_due" => {
                self.wait_for(&format!("{SCHEDULES}/{}", self.made), "enabled", &json!(true));
            }
            other => self.settle_listening(other),
        }
    }

    fn wait_for(&self, path: &str, field: &str, value: &Value) {
        let deadline = Instant::now() + PATIENCE;
        while self.server.get(path)[field] != *value {
            assert!(Instant::now() < deadline, "{field} of {path} never became {value}");
            super::super::pause(Duration::from_millis(20));
        }
    }

    /// A schedule that is paused; its id.
    fn paused(&self, pause: &Value) -> Value {
        let made = self.server.post(SCHEDULES, &far_away(&self.key()));
        self.server.post(&format!("{SCHEDULES}/{}/pause", made["id"]), pause);
        made["id"].clone()
    }

    /// A schedule with a past; its id.
    fn hourly(&self) -> Value {
        let mut body = far_away(&self.key());
        body["scheduleType"] = json!("cron");
        body["scheduleConfig"] = json!({"cron": "0 * * * *", "timezone": "UTC"});
        self.server.post(SCHEDULES, &body)["id"].clone()
    }

    fn backfill_once(&self) {
        self.keyed(&format!("/api/v2/schedules/{}/backfills", self.made), &january());
    }

    fn backfills(&self) -> Vec<Value> {
        let list = self.server.get(&format!("{BACKFILLS}?scheduleId={}", self.made));
        list["items"].as_array().unwrap().clone()
    }
}

/// A day of hourly instants.
fn january() -> Value {
    json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T23:30:00Z", "maxConcurrent": 24})
}

fn calendar(name: &str) -> Value {
    json!({"name": name, "entries": [{"kind": "date", "date": "2026-12-24"}]})
}

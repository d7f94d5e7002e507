//! A disk that takes nothing for a while: a small file system that is really full, and a limit on
//! the size of the server's files, which needs no privilege. Both are set and lifted from outside
//! while the server runs.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use super::server::{Backend, Server};

const LIST: &str = "/api/execution/executions";

/// Lets no file of the server grow past that size.
fn limit(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, limit).unwrap();
}

/// A file system of a few megabytes over a folder.
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// `None` where this user may not mount anything.
    fn over(at: PathBuf) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs"]).arg(&at);
        command.output().is_ok_and(|output| output.status.success()).then_some(Self { at })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        let block = [0_u8; 4096];
        while file.write(&block).is_ok_and(|count| count > 0) {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.at).status());
    }
}

/// A server whose tasks keep a ledger on another disk, with a schedule that fires all the time.
struct Busy {
    server: Server,
    outside: tempfile::TempDir,
    schedule: Value,
    acknowledged: Vec<Value>,
}

impl Busy {
    fn start(mut server: Server) -> Self {
        server.start();
        let outside = tempfile::tempdir().unwrap();
        let mut busy = Self { server, outside, schedule: Value::Null, acknowledged: Vec::new() };
        busy.schedule = busy.server.post(
            "/api/scheduler/schedules",
            &json!({
                "name": "ticker", "taskType": "shell_command", "taskConfig": busy.task()["taskConfig"],
                "scheduleType": "interval", "scheduleConfig": {"intervalMs": 500},
                "overlapPolicy": "allow", "misfirePolicy": "run_all",
            }),
        );
        busy
    }

    fn ledger(&self) -> PathBuf {
        self.outside.path().join("ledger")
    }

    fn task(&self) -> Value {
        let ledger = self.ledger();
        let command = format!("echo $CARILLON_EXECUTION_ID >> {}", ledger.display());
        json!({"taskType": "shell_command", "taskConfig": {"command": command}})
    }

    /// Asks for one more run; whether it was acknowledged.
    fn create(&mut self) -> bool {
        let (status, answer) = self.server.call("POST", LIST, &self.task());
        assert!(status < 300 || status == 503, "{status} {answer}");
        if status < 300 {
            self.acknowledged.push(answer);
        }
        status < 300
    }

    /// All that was acknowledged ran once; no instant of the schedule was lost or doubled.
    fn check(mut self) {
        for made in std::mem::take(&mut self.acknowledged) {
            let ended = self.server.ended(&made["id"]);
            assert_eq!((&ended["status"], &ended["attempt"]), (&json!("completed"), &json!(1)));
        }
        let id = &self.schedule["id"];
        self.server.post(&format!("/api/scheduler/schedules/{id}/pause"), &Value::Null);
        self.server.until("everything settled", |server| {
            server.get(&format!("{LIST}?status=pending,running"))["total"] == 0
        });
        let rows = self.server.get(&format!("{LIST}?scheduleId={id}&limit=500"));
        let rows = rows["items"].as_array().unwrap();
        let mut at: Vec<i64> = rows
            .iter()
            .map(|row| row["scheduledAt"].as_str().unwrap())
            .map(|at| at.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_millis())
            .collect();
        at.sort_unstable();
        assert!(at.len() > 4 && at.windows(2).all(|two| two[1] - two[0] == 500), "{at:?}");
        assert!(rows.iter().all(|row| row["status"] == "completed"), "{rows:?}");
        let text = std::fs::read_to_string(self.ledger()).unwrap();
        let mut starts: Vec<&str> = text.lines().collect();
        let count = starts.len();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), count, "an execution started twice");
    }
}

/// The law, whatever fills the disk: `fill` and `free` are that.
fn a_full_disk_refuses_and_heals(server: Server, fill: impl Fn(&Server), free: impl Fn(&Server)) {
    let mut busy = Busy::start(server.with("CARILLON_EXECUTOR__LEASE_MS", "1000"));
    let gate = busy.outside.path().join("gate");
    let command = format!("until test -e {}; do sleep 0.05; done; echo done", gate.display());
    let run = json!({"taskType": "shell_command", "taskConfig": {"command": command}});
    let run = busy.server.post(LIST, &run);
    let path = format!("{LIST}/{}", run["id"]);
    busy.server.until("it runs", |server| server.get(&path)["status"] == "running");
    assert!(busy.create());

    fill(&busy.server);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while busy.create() {
        assert!(tokio::time::Instant::now() < deadline, "writes were never refused");
        fill(&busy.server);
    }
    let (head, body) = busy.server.exchange("POST", LIST, &busy.task()).unwrap();
    assert!(head.contains("\r\nretry-after: "), "{head}");
    assert!(body.contains("\"storage_unwritable\""), "{body}");
    // Not a wait for something: longer than the lease is the point.
    super::pause(Duration::from_millis(2_500));
    let health = busy.server.get("/api/health");
    assert_eq!(health["status"], "degraded", "{health}");
    assert!(health.to_string().contains("nothing can be stored"), "{health}");
    assert_eq!(busy.server.get(&path)["status"], "running", "reads go on");
    // The task ends while its end cannot be stored.
    std::fs::write(&gate, "").unwrap();

    free(&busy.server);
    let ended = busy.server.ended(&run["id"]);
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("completed"), &json!(1)));
    busy.server.until("all is well", |server| server.get("/api/health")["status"] == "ok");
    assert!(busy.create());
    busy.check();
}

#[test]
fn a_full_disk_refuses_writes_keeps_tasks_and_heals_by_itself() {
    let server = Server::new(Backend::Sqlite);
    let Some(mount) = Mount::over(server.path("")) else {
        // The law of the next test is the same; only what refuses the writes differs.
        assert!(!rustix::process::geteuid().is_root(), "root could not mount a file system");
        return a_file_that_may_not_grow();
    };
    a_full_disk_refuses_and_heals(server, |_| mount.fill(), |_| mount.make_room());
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    a_file_that_may_not_grow();
}

fn a_file_that_may_not_grow() {
    let server = Server::new(Backend::Sqlite);
    a_full_disk_refuses_and_heals(
        server,
        |server| limit(server, Some(4096)),
        |server| limit(server, None),
    );
}

//! A server over a real store, with a pretended running system behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use async_trait::async_trait;
use carillon::api::{self, ApiState};
use carillon::clock::Clock;
use carillon::config::Settings;
use carillon::domain::execution::Execution;
use carillon::domain::key::{ApiKey, RANDOM_BYTES, Role};
use carillon::runtime::events::{Feed, RingLimits};
use carillon::runtime::executor::launcher::ClaimTicket;
use carillon::runtime::handles::{
    ActorCommand, ControlError, Handles, HealthState, HealthStatus, Phase, Readiness,
    SchedulerStatus, Wake,
};
use carillon::runtime::nodes::lease::NodeLease;
use carillon::runtime::sessions::{LiveSettings, LiveState};
use carillon::store::{NewApiKey, Store, StoreLocation, StoreOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The running system as far as the API needs it; remembers what it was asked.
pub(crate) struct Pretended {
    pub(crate) phase: Mutex<Phase>,
    pub(crate) wakes: Mutex<Vec<Wake>>,
    pub(crate) commands: Mutex<Vec<(String, ActorCommand)>>,
    level: Mutex<String>,
}

#[async_trait]
impl Handles for Pretended {
    fn claim_here(&self, _wanted: usize) -> Option<ClaimTicket> {
        None
    }
    fn launched(&self, _rows: Vec<Execution>, _ticket: Option<ClaimTicket>) {}
    fn wake(&self, what: Wake) {
        self.wakes.lock().push(what);
    }
    fn cancel_requested(&self, _id: i64) {}
    fn resources(&self) -> Value {
        json!({ "nodeId": "pretended", "bootId": null })
    }
    fn scheduler_status(&self) -> SchedulerStatus {
        SchedulerStatus { running: true, ..SchedulerStatus::default() }
    }
    async fn tree_report(&self) -> Value {
        json!({ "path": "root", "children": [] })
    }
    async fn actor_report(&self, path: &str) -> Result<Value, ControlError> {
        match path {
            "time.scheduler" => Ok(json!({ "path": path, "state": "running" })),
            other => Err(ControlError::NotFound(other.to_owned())),
        }
    }
    async fn actor_command(
        &self,
        path: &str,
        command: ActorCommand,
    ) -> Result<Value, ControlError> {
        let report = self.actor_report(path).await?;
        self.commands.lock().push((path.to_owned(), command));
        Ok(report)
    }
    fn crash_at_message(&self, path: &str, _: &str) -> Result<Value, ControlError> {
        Err(ControlError::NotFound(path.to_owned()))
    }
    fn health(&self) -> Vec<(String, HealthState)> {
        let state = HealthState { status: HealthStatus::Ok, detail: None };
        vec![("scheduler".to_owned(), state)]
    }
    fn readiness(&self) -> Readiness {
        Readiness { ready: true, reason: None }
    }
    fn phase(&self) -> Phase {
        *self.phase.lock()
    }
    async fn drain(&self) {
        *self.phase.lock() = Phase::Draining;
    }
    fn log_level(&self) -> String {
        self.level.lock().clone()
    }
    fn set_log_level(&self, level: &str) -> Result<(), String> {
        if level == "loud" {
            return Err("use info or debug".to_owned());
        }
        level.clone_into(&mut self.level.lock());
        Ok(())
    }
    fn websocket_stats(&self) -> Value {
        json!({ "connections": 0 })
    }
    fn conductor_workers(&self) -> Value {
        json!([])
    }
    fn functions(&self) -> Value {
        json!([])
    }
    fn metrics_text(&self) -> String {
        "carillon_up 1\n".to_owned()
    }
    fn system(&self) -> Value {
        json!({ "nodeId": "test" })
    }
    fn uptime(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// A running server; ends with the value.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) system: Arc<Pretended>,
    keys: [(Role, String); 3],
    client: awc::Client,
    handle: actix_web::dev::ServerHandle,
    _folder: tempfile::TempDir,
}

/// An answer, read whole.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: actix_web::http::header::HeaderMap,
    pub(crate) text: String,
    /// Null when the body is no JSON.
    pub(crate) body: Value,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.text)
    }
}

impl Reply {
    /// A header's text, empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts a refusal: its status, its code, and its form.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["requestId"], self.header("x-request-id"));
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        self
    }

    /// Asserts the status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The id in the body.
    #[track_caller]
    pub(crate) fn id(&self) -> i64 {
        self.body["id"].as_i64().unwrap_or_else(|| panic!("no id in {self:?}"))
    }
}

impl TestServer {
    /// A server with the default settings.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.server.listen = "127.0.0.1:0".parse().unwrap();
        settings.server.data_dir = folder.path().to_owned();
        settings.server.workers = 1;
        change(&mut settings);
        let location = StoreLocation::Sqlite(settings.sqlite_path());
        let options = StoreOptions { location, pool_max: 4, acquire: Duration::from_millis(500) };
        let store = Store::open(options, Clock::system()).await.unwrap();
        let mut keys = Vec::new();
        for (index, role) in Role::ALL.iter().enumerate() {
            let seed = u8::try_from(index).unwrap() + 1;
            let key = ApiKey::from_random(&[seed; RANDOM_BYTES]);
            let row = NewApiKey {
                prefix: key.prefix().to_owned(),
                secret_hash: key.secret_hash(),
                name: format!("{role} key"),
                role: role.as_str().to_owned(),
                expires_at: None,
            };
            store.key_create(row).await.unwrap();
            keys.push((*role, key.reveal().to_owned()));
        }
        let system = Arc::new(Pretended {
            phase: Mutex::new(Phase::Running),
            wakes: Mutex::default(),
            commands: Mutex::default(),
            level: Mutex::new("info".to_owned()),
        });
        let feed = Arc::new(Feed::new(Arc::new(store.clone()), RingLimits::default()));
        let sessions = LiveSettings::default();
        let lease = NodeLease::new("test".to_owned(), Duration::from_secs(30));
        let live = Arc::new(LiveState::new(feed, Clock::system(), sessions, lease));
        let listener = api::bind(&settings).unwrap();
        let address = api::local_address(&listener).unwrap();
        let state =
            ApiState::new(store.clone(), system.clone(), Clock::system(), Arc::new(settings));
        let server = api::serve(listener, state, live).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let client = awc::Client::builder().timeout(Duration::from_secs(20)).finish();
        let keys = keys.try_into().unwrap();
        Self { address, store, system, keys, client, handle, _folder: folder }
    }

    /// The key of a role.
    pub(crate) fn key(&self, role: Role) -> &str {
        &self.keys.iter().find(|(of, _)| *of == role).unwrap().1
    }

    /// A request without a key; the path as it stands.
    pub(crate) fn request(&self, method: &str, path: &str) -> awc::ClientRequest {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// Sends a request and reads the answer; `body` null sends none.
    pub(crate) async fn send(&self, request: awc::ClientRequest, body: &Value) -> Reply {
        let sent =
            if body.is_null() { request.send().await } else { request.send_json(body).await };
        read(sent.unwrap()).await
    }

    /// A call with the key of `role`.
    pub(crate) async fn call(&self, role: Role, method: &str, path: &str, body: Value) -> Reply {
        self.send(self.request(method, path).bearer_auth(self.key(role)), &body).await
    }

    /// An operator's `POST`.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Role::Operator, "POST", path, body).await
    }

    /// An operator's `POST` with an `Idempotency-Key`.
    pub(crate) async fn post_once(&self, key: &str, path: &str, body: Value) -> Reply {
        let request = self.request("POST", path).bearer_auth(self.key(Role::Operator));
        self.send(request.insert_header(("Idempotency-Key", key)), &body).await
    }

    /// A viewer's `GET`.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(Role::Viewer, "GET", path, Value::Null).await
    }

    /// Ends the server and closes the store.
    pub(crate) async fn stop(self) {
        self.handle.stop(false).await;
        self.store.close().await;
    }
}

/// Reads an answer whole.
pub(crate) async fn read<S>(mut answer: awc::ClientResponse<S>) -> Reply
where
    S: futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>>,
{
    let text = answer.body().await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Reply { status: answer.status().as_u16(), headers: answer.headers().clone(), text, body }
}

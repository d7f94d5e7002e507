//! An event log in memory, a server over it, and a client that decides for itself what it confirms.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::Actor;
use actix_codec::Framed;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use async_trait::async_trait;
use awc::BoxedSocket;
use awc::ws::{Codec, Frame, Message};
use carillon::api::ws::{self, Identity};
use carillon::clock::Clock;
use carillon::domain::event::{Event, Room};
use carillon::domain::key::Role;
use carillon::runtime::events::{EventHub, EventSource, Feed, HubSettings, OnPass, RingLimits};
use carillon::runtime::nodes::lease::NodeLease;
use carillon::runtime::sessions::{LiveSettings, LiveState, SessionRegistry, SessionRows};
use carillon::store::{NewSession, Store, StoreError, StoreResult};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

/// No wait of these tests may be longer.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Log {
    events: Mutex<Vec<Event>>,
    is_down: AtomicBool,
    changed: watch::Sender<u64>,
}

impl Log {
    fn new() -> Self {
        Self {
            events: Mutex::default(),
            is_down: AtomicBool::new(false),
            changed: watch::Sender::new(0),
        }
    }

    pub(super) fn append(&self, count: i64) {
        for _ in 0..count {
            self.append_with(|_| {});
        }
    }

    pub(super) fn append_with(&self, change: impl FnOnce(&mut Event)) {
        let mut events = self.events.lock();
        let seq = events.last().map_or(1, |event| event.seq + 1);
        let mut event = Event {
            seq,
            at: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            event_type: "execution_created".to_owned(),
            room: Room::Tasks,
            schedule_id: None,
            execution_id: None,
            severity: None,
            tags: Vec::new(),
            owner: None,
            payload: json!({"n": seq}).to_string(),
        };
        change(&mut event);
        events.push(event);
        drop(events);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Forgets all but the newest `keep`.
    pub(super) fn trim(&self, keep: usize) {
        let mut events = self.events.lock();
        let surplus = events.len() - keep;
        events.drain(..surplus);
    }

    pub(super) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    fn check(&self) -> StoreResult<()> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("down for the test".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl EventSource for Log {
    async fn list(&self, after: i64, limit: i64) -> StoreResult<Vec<Event>> {
        self.check()?;
        let events = self.events.lock();
        let from = events.partition_point(|event| event.seq <= after);
        Ok(events[from..].iter().take(usize::try_from(limit).unwrap()).cloned().collect())
    }

    async fn bounds(&self) -> StoreResult<(i64, i64)> {
        self.check()?;
        let events = self.events.lock();
        Ok((
            events.first().map_or(0, |event| event.seq),
            events.last().map_or(0, |event| event.seq),
        ))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// What the rows of sessions say: `None` where closed; and the boots that swept.
#[derive(Default)]
pub(super) struct Rows(pub(super) Mutex<HashMap<Uuid, Option<Value>>>, pub(super) Mutex<Vec<Uuid>>);

#[async_trait]
impl SessionRows for Rows {
    async fn open(&self, session: NewSession) -> StoreResult<()> {
        self.0.lock().insert(session.session_id, Some(Value::Null));
        Ok(())
    }

    async fn subscribe(&self, session_id: Uuid, subscriptions: Value) -> StoreResult<()> {
        self.0.lock().insert(session_id, Some(subscriptions));
        Ok(())
    }

    async fn close(&self, session_id: Uuid) -> StoreResult<()> {
        self.0.lock().insert(session_id, None);
        Ok(())
    }

    async fn close_stale(&self, boot_id: Uuid, _alive: Vec<Uuid>) -> StoreResult<u64> {
        self.1.lock().push(boot_id);
        Ok(0)
    }
}

pub(super) fn settings() -> LiveSettings {
    LiveSettings { grace: Duration::from_millis(20), ..LiveSettings::default() }
}

pub(super) struct Live {
    pub(super) log: Arc<Log>,
    pub(super) rows: Arc<Rows>,
    pub(super) state: Arc<LiveState>,
    pub(super) lease: NodeLease,
    port: u16,
}

/// What a server is made of.
struct Parts {
    source: Arc<dyn EventSource>,
    rows: Arc<dyn SessionRows>,
    settings: LiveSettings,
    ring: usize,
    stall: Option<Duration>,
}

/// A hub on an arbiter of its own, so that a test can end it as brutally as a crash does.
pub(super) fn start_hub(feed: &Arc<Feed>) -> actix::Arbiter {
    let arbiter = actix::Arbiter::new();
    let feed = Arc::clone(feed);
    let settings = HubSettings { interval: Duration::from_millis(50), ..HubSettings::default() };
    arbiter.spawn_fn(move || {
        EventHub::new(feed, Clock::system(), settings, no_pass()).start();
    });
    arbiter
}

fn no_pass() -> OnPass {
    Arc::new(|| {})
}

async fn open(
    request: HttpRequest,
    payload: web::Payload,
    live: web::Data<LiveState>,
    role: web::Path<String>,
) -> HttpResponse {
    let role = Role::parse(&role).unwrap();
    let identity = Identity { key_name: Some("test".to_owned()), role };
    ws::connect(&request, payload, identity, &live.into_inner())
        .unwrap_or_else(|_| HttpResponse::ServiceUnavailable().finish())
}

async fn echo(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    ws::echo(&request, payload).unwrap_or_else(|_| HttpResponse::BadRequest().finish())
}

impl Live {
    /// A server over a log that holds `events` already and of which `ring` stay in memory.
    pub(super) async fn start(
        settings: LiveSettings,
        events: i64,
        ring: usize,
    ) -> (Self, actix::Arbiter) {
        Self::stalling(settings, events, ring, None).await
    }

    /// The same, with a limit to how long a client may take nothing.
    pub(super) async fn stalling(
        settings: LiveSettings,
        events: i64,
        ring: usize,
        stall: Option<Duration>,
    ) -> (Self, actix::Arbiter) {
        let (log, rows) = (Arc::new(Log::new()), Arc::new(Rows::default()));
        log.append(events);
        let parts = Parts { source: log.clone(), rows: rows.clone(), settings, ring, stall };
        Self::serve(log, rows, parts).await
    }

    /// A server over a real store; its own log and rows stay empty.
    pub(super) async fn over(store: Store, settings: LiveSettings) -> (Self, actix::Arbiter) {
        let (source, rows) = (Arc::new(store.clone()), Arc::new(store));
        let parts = Parts { source, rows, settings, ring: 100, stall: None };
        Self::serve(Arc::new(Log::new()), Arc::default(), parts).await
    }

    async fn serve(log: Arc<Log>, rows: Arc<Rows>, parts: Parts) -> (Self, actix::Arbiter) {
        let Parts { source, rows: written, settings, ring, stall } = parts;
        let limits = RingLimits { frames: ring, bytes: usize::MAX };
        let feed = Arc::new(Feed::new(source, limits));
        let hub = start_hub(&feed);
        let lease = NodeLease::new("test".to_owned(), Duration::from_secs(30));
        let state = Arc::new(LiveState::new(feed, Clock::system(), settings, lease.clone()));
        SessionRegistry::new(Arc::clone(&state), written, no_pass()).start();
        let data = web::Data::from(Arc::clone(&state));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/ws/{role}", web::get().to(open))
                .route("/ws-echo", web::get().to(echo))
        })
        .workers(1)
        .on_connect(move |connection, _| {
            if let Some(stall) = stall {
                ws::limit_stall(connection, stall);
            }
        })
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let port = server.addrs()[0].port();
        actix_web::rt::spawn(server.run());
        let live = Self { log, rows, state, lease, port };
        live.until("the end of the log is known", || live.state.feed.is_loaded()).await;
        (live, hub)
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    pub(super) async fn connect(&self, role: Role) -> Client {
        let url = format!("http://127.0.0.1:{}/ws/{role}", self.port);
        let (_, framed) =
            awc::Client::new().ws(url).max_frame_size(1 << 20).connect().await.unwrap();
        let mut client = Client { framed, confirms: true, seq: 0, id: Uuid::nil() };
        let connected = client.next().await;
        assert_eq!(connected["type"], "connected");
        assert!(connected["timestamp"].is_string());
        client.seq = connected["seq"].as_i64().unwrap();
        client.id = connected["sessionId"].as_str().unwrap().parse().unwrap();
        client
    }
}

/// What came.
#[derive(Debug)]
pub(super) enum Heard {
    Message(Value),
    Ping,
    Closed(Option<u16>),
}

pub(super) struct Client {
    framed: Framed<BoxedSocket, Codec>,
    /// Whether pings are answered.
    pub(super) confirms: bool,
    /// The newest event at the time of connecting.
    pub(super) seq: i64,
    pub(super) id: Uuid,
}

impl Client {
    pub(super) async fn hear(&mut self) -> Heard {
        let frame = tokio::time::timeout(DEADLINE, self.framed.next());
        match frame.await.expect("the server says nothing") {
            Some(Ok(Frame::Text(bytes))) => Heard::Message(serde_json::from_slice(&bytes).unwrap()),
            Some(Ok(Frame::Ping(bytes))) => {
                if self.confirms {
                    self.framed.send(Message::Pong(bytes)).await.unwrap();
                }
                Heard::Ping
            }
            Some(Ok(Frame::Close(reason))) => {
                Heard::Closed(reason.map(|reason| reason.code.into()))
            }
            Some(Ok(other)) => panic!("unexpected {other:?}"),
            Some(Err(_)) | None => Heard::Closed(None),
        }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Value {
        loop {
            match self.hear().await {
                Heard::Message(message) => return message,
                Heard::Ping => {}
                Heard::Closed(code) => panic!("closed with {code:?}"),
            }
        }
    }

    /// The next message of a type, others left out.
    pub(super) async fn next_of(&mut self, name: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == name {
                return message;
            }
        }
    }

    /// The code the server closes with, whatever comes before.
    pub(super) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Heard::Closed(code) = self.hear().await {
                return code;
            }
        }
    }

    pub(super) async fn say(&mut self, message: Value) {
        self.say_text(message.to_string()).await;
    }

    pub(super) async fn say_text(&mut self, text: String) {
        self.framed.send(Message::Text(text.into())).await.unwrap();
    }

    pub(super) async fn send(&mut self, message: Message) {
        self.framed.send(message).await.unwrap();
    }
}

//! The session actor: one client's socket.
//!
//! Here is its life: what the client says, heartbeats, pings, silence, closing. What it is served
//! is in [`super::deliver`].

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, SpawnHandle, StreamHandler};
use actix_web_actors::ws::WebsocketContext;
use bytestring::ByteString;
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::filter::{FORBIDDEN_ROOM, Filter, Refusal, Subscriptions};
use super::frames::{Incoming, Violation};
use super::messages::{self, ClientMessage, MALFORMED};
use super::window::Window;
use super::{Unused, close_frame};
use crate::domain::key::Role;
use crate::runtime::events::{Interest, Outbox};
use crate::runtime::sessions::{LiveState, SessionGuard};

/// Bad messages in a row that close the session.
const BAD_MESSAGES_MAX: u8 = 3;
/// How long a session that must close goes on delivering what is committed.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) type Context = WebsocketContext<Session>;

/// What the session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Giving the client time to say what it wants.
    Waiting,
    /// Delivering.
    Live,
    /// Told that it lags; waiting for it to resume.
    Lagging,
    /// The close frame is out.
    Closing,
}

/// Something in the feed changed.
pub(super) struct Signal;

/// Output of a running task waits in the box.
pub(super) struct Filled;

/// The session's interest in output of running tasks.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) outbox: Arc<Outbox>,
    stream: SpawnHandle,
    _interest: Interest,
}

/// One client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) live: Arc<LiveState>,
    pub(super) filter: Filter,
    pub(super) phase: Phase,
    /// The last event the client was served, or that its filter left out.
    pub(super) cursor: i64,
    /// Where a resume that is under way ends.
    pub(super) target: Option<i64>,
    pub(super) window: Window,
    /// A read or a continuation is under way; it belongs to the turn of that number.
    pub(super) is_busy: bool,
    pub(super) turn: u64,
    /// Since when a full window has not moved although events wait.
    pub(super) full_since: Option<Instant>,
    pub(super) listening: Option<Box<Listening>>,
    guard: SessionGuard,
    role: Role,
    heard_at: Instant,
    bad_messages: u8,
    is_leaving: bool,
}

/// The feed's changes as a stream.
pub(super) fn signals(signal: watch::Receiver<u64>) -> impl Stream<Item = Signal> {
    stream::unfold(signal, |mut signal| async move {
        signal.changed().await.ok()?;
        Some((Signal, signal))
    })
}

impl Session {
    pub(super) fn new(live: Arc<LiveState>, guard: SessionGuard, role: Role) -> Self {
        let window = Window::new(live.settings.window_messages, live.settings.window_bytes);
        Self {
            filter: Filter::everything(role),
            phase: Phase::Waiting,
            cursor: live.feed.newest(),
            target: None,
            window,
            is_busy: false,
            turn: 0,
            full_since: None,
            listening: None,
            guard,
            role,
            heard_at: Instant::now(),
            bad_messages: 0,
            is_leaving: false,
            live,
        }
    }

    /// Sends a text that is ready.
    pub(super) fn send(&mut self, text: ByteString, context: &mut Context) {
        self.window.record(text.len());
        self.live.feed.count_sent(1);
        context.text(text);
    }

    /// Sends a message of our own.
    pub(super) fn say(&mut self, name: &'static str, fields: Value, context: &mut Context) {
        let text = messages::message(name, self.live.clock.now(), fields);
        self.send(text, context);
    }

    /// Sends a ping that will tell what the client has read.
    pub(super) fn ping(&mut self, context: &mut Context) {
        let payload = self.window.ping();
        context.ping(&payload);
    }

    /// Sends the close frame and waits a little for the client's.
    pub(super) fn begin_close(&mut self, code: u16, reason: &str, context: &mut Context) {
        if self.phase == Phase::Closing {
            return;
        }
        self.phase = Phase::Closing;
        self.listening = None;
        context.close(Some(close_frame(code, reason)));
        context.run_later(self.live.settings.close_wait, |_, context| context.stop());
    }

    /// Closes when the server stops and what is committed has been delivered.
    pub(super) fn close_if_asked(&mut self, context: &mut Context) {
        let Some(closing) = self.live.closing() else { return };
        let is_served = self.phase != Phase::Live || self.cursor >= closing.last;
        if is_served {
            self.begin_close(closing.code, closing.reason, context);
        } else if !self.is_leaving {
            self.is_leaving = true;
            context.run_later(FAREWELL, move |session, context| {
                session.begin_close(closing.code, closing.reason, context);
            });
        }
    }

    fn watch_silence(&self, wait: Duration, context: &mut Context) {
        let _ = self;
        context.run_later(wait, |session, context| {
            let idle = session.live.settings.idle;
            match idle.checked_sub(session.heard_at.elapsed()) {
                Some(left) if !left.is_zero() => session.watch_silence(left, context),
                _ => session.begin_close(1008, "idle_timeout", context),
            }
        });
    }

    fn refuse(&mut self, refusal: &Refusal, context: &mut Context) {
        let fields = json!({"code": refusal.code, "detail": refusal.detail});
        self.say("error", fields, context);
        if refusal.code == FORBIDDEN_ROOM {
            // Understood, and refused: not the babble that the limit is for.
            return;
        }
        self.bad_messages += 1;
        if self.bad_messages >= BAD_MESSAGES_MAX {
            self.begin_close(1008, "too many bad messages", context);
        }
    }

    fn hear(&mut self, text: &str, context: &mut Context) {
        match messages::parse(text) {
            Ok(ClientMessage::Ping) => {
                self.bad_messages = 0;
                self.say("pong", Value::Null, context);
            }
            Ok(ClientMessage::Subscribe(wanted)) => self.subscribe(&wanted, context),
            Ok(ClientMessage::Resume(after)) => {
                self.bad_messages = 0;
                self.resume(after, context);
            }
            Err(refusal) => self.refuse(&refusal, context),
        }
    }

    fn subscribe(&mut self, wanted: &Subscriptions, context: &mut Context) {
        let filter = match Filter::parse(wanted, self.role) {
            Ok(filter) => filter,
            Err(refusal) => return self.refuse(&refusal, context),
        };
        self.bad_messages = 0;
        let shown = serde_json::to_value(wanted).unwrap_or_default();
        self.guard.subscribed(filter.room_names(wanted), shown.clone());
        self.filter = filter;
        self.listen(context);
        self.say("subscribed", json!({"subscriptions": shown}), context);
        if self.phase == Phase::Waiting {
            self.phase = Phase::Live;
        }
        self.pump(context);
    }

    /// Opens or closes the box for output of the executions the client named.
    fn listen(&mut self, context: &mut Context) {
        if let Some(old) = self.listening.take() {
            context.cancel_future(old.stream);
        }
        if self.filter.executions().is_empty() {
            return;
        }
        let outbox = Arc::<Outbox>::default();
        let names = self.filter.executions().to_vec();
        let interest = self.live.feed.transient().join(names, &outbox);
        let filled = stream::unfold(Arc::clone(&outbox), |outbox| async move {
            outbox.filled().await;
            Some((Filled, outbox))
        });
        let stream = context.add_stream(filled);
        self.listening = Some(Box::new(Listening { outbox, stream, _interest: interest }));
    }
}

impl Actor for Session {
    type Context = Context;

    fn started(&mut self, context: &mut Context) {
        let id = self.guard.session_id();
        self.say("connected", json!({"sessionId": id, "seq": self.cursor}), context);
        let settings = self.live.settings;
        context.run_later(settings.grace, |session, context| {
            if session.phase == Phase::Waiting && session.turn == 0 {
                session.phase = Phase::Live;
                session.pump(context);
            }
        });
        context.run_interval(settings.heartbeat, |session, context| {
            if session.phase != Phase::Closing {
                session.say("heartbeat", json!({"seq": session.cursor}), context);
            }
        });
        context.run_interval(settings.ping, |session, context| {
            if session.phase != Phase::Closing {
                session.ping(context);
            }
        });
        self.watch_silence(settings.idle, context);
        self.close_if_asked(context);
    }
}

impl StreamHandler<Unused> for Session {
    fn handle(&mut self, _item: Unused, _context: &mut Context) {}
}

impl StreamHandler<Signal> for Session {
    fn handle(&mut self, _item: Signal, context: &mut Context) {
        self.pump(context);
    }
}

impl StreamHandler<Filled> for Session {
    fn handle(&mut self, _item: Filled, context: &mut Context) {
        self.pump_transient(context);
    }

    fn finished(&mut self, _context: &mut Context) {}
}

impl StreamHandler<Result<Incoming, Violation>> for Session {
    fn handle(&mut self, item: Result<Incoming, Violation>, context: &mut Context) {
        self.heard_at = Instant::now();
        match item {
            Ok(Incoming::Close(reason)) => {
                if self.phase != Phase::Closing {
                    self.phase = Phase::Closing;
                    context.close(reason.map(|(code, _)| close_frame(code, "")));
                }
                context.stop();
            }
            _ if self.phase == Phase::Closing => {}
            Ok(Incoming::Text(text)) => self.hear(&text, context),
            Ok(Incoming::Binary(_)) => {
                let detail = "messages are text".to_owned();
                self.refuse(&Refusal { code: MALFORMED, detail }, context);
            }
            Ok(Incoming::Ping(bytes)) => context.pong(&bytes),
            Ok(Incoming::Pong(bytes)) => self.confirmed(&bytes, context),
            Err(violation) => self.begin_close(violation.code, violation.reason, context),
        }
    }
}

//! What a session delivers, and how fast: the pull side of the feed.
//!
//! The session knows the last event it served and asks for what follows: from memory or, when it
//! stands further back, from the store. It stops where the window is full and goes on when a pong
//! opens it. It delivers in slices and yields between them: the connection polls the actor again
//! only once the slice is on its way, so a client that does not read holds a slice, not a window,
//! of our memory. A client that confirms nothing for the patience, with events waiting, is told
//! that it lags, once, and gets nothing more until it resumes.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use serde_json::json;
use tokio::time::Instant;

use super::filter::Verdict;
use super::session::{Context, Phase, Session};
use super::window::Window;
use crate::runtime::events::{Frame, RingRead, event_text};
use crate::telemetry::names;

/// Events taken from memory at once.
const SLICE: usize = 64;
/// Events read from the store at once.
const PAGE: usize = 200;
/// Wait before a read of the store that failed is tried again.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivered {
    /// All was delivered.
    All,
    /// The window is full.
    Full,
    /// The next event is not the one that follows: it is past retention.
    Gap,
}

impl Session {
    /// Delivers what there is, as far as the window allows.
    pub(super) fn pump(&mut self, context: &mut Context) {
        if self.phase != Phase::Live {
            return self.close_if_asked(context);
        }
        if self.is_busy {
            return self.close_if_asked(context);
        }
        self.end_resume(context);
        if self.window.is_full() {
            self.note_stall(context);
            return self.close_if_asked(context);
        }
        match self.live.feed.read(self.cursor, SLICE) {
            RingRead::UpToDate => {
                // The hub may be gone already when the server stops: the store still knows.
                if self.live.closing().is_some_and(|closing| closing.last > self.cursor) {
                    self.read_store(context);
                }
                self.close_if_asked(context);
            }
            RingRead::Behind => self.read_store(context),
            RingRead::Frames(frames) => {
                let outcome = self.deliver(frames.iter().map(AsRef::as_ref), context);
                self.go_on(outcome, context);
            }
        }
    }

    fn deliver<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a Frame>,
        context: &mut Context,
    ) -> Delivered {
        for frame in frames {
            if frame.seq != self.cursor + 1 {
                return Delivered::Gap;
            }
            if self.window.is_full() {
                return Delivered::Full;
            }
            match self.filter.judge(&frame.facts) {
                Verdict::Deliver => self.send(frame.text.clone(), context),
                Verdict::Stub => {
                    let text = event_text("restricted", Some(frame.seq), frame.at, "null");
                    self.send(text, context);
                }
                Verdict::Skip => {}
            }
            self.cursor = frame.seq;
            self.end_resume(context);
            if self.window.is_ping_due() {
                self.ping(context);
            }
        }
        Delivered::All
    }

    fn go_on(&mut self, outcome: Delivered, context: &mut Context) {
        match outcome {
            // The usual case, one event for an idle client, costs no second turn.
            Delivered::All if self.cursor >= self.live.feed.newest() => {
                self.close_if_asked(context);
            }
            Delivered::All => self.yield_turn(context),
            Delivered::Full => {
                self.note_stall(context);
                self.close_if_asked(context);
            }
            Delivered::Gap => self.resync(self.live.feed.newest(), context),
        }
    }

    /// Goes on when the connection polls us again. When that takes longer than the patience, the
    /// client has stopped reading although the window has room.
    fn yield_turn(&mut self, context: &mut Context) {
        let yielded_at = Instant::now();
        let turn = self.begin_turn();
        let again = tokio::task::yield_now().into_actor(self).map(move |(), session, context| {
            if !session.end_turn(turn) {
                return;
            }
            let is_late = yielded_at.elapsed() > session.live.settings.patience;
            if is_late && session.live.feed.newest() > session.cursor {
                session.lag(context);
            } else {
                session.pump(context);
            }
        });
        context.spawn(again);
    }

    fn begin_turn(&mut self) -> u64 {
        self.turn += 1;
        self.is_busy = true;
        self.turn
    }

    /// Whether what was begun is still wanted: a later resume makes it void.
    fn end_turn(&mut self, turn: u64) -> bool {
        let is_current = self.turn == turn;
        if is_current {
            self.is_busy = false;
        }
        is_current && self.phase != Phase::Closing
    }

    fn read_store(&mut self, context: &mut Context) {
        let turn = self.begin_turn();
        let (feed, after) = (self.live.feed.clone(), self.cursor);
        let read = async move {
            loop {
                match feed.read_store(after, PAGE).await {
                    Ok(frames) => return frames,
                    // Silent: the hub says once for all that the store does not answer.
                    Err(_) => tokio::time::sleep(READ_AGAIN).await,
                }
            }
        };
        context.spawn(read.into_actor(self).map(move |frames, session, context| {
            if !session.end_turn(turn) || session.phase != Phase::Live {
                return;
            }
            if frames.is_empty() {
                return session.resync(session.live.feed.newest(), context);
            }
            let outcome = session.deliver(frames.iter(), context);
            session.go_on(outcome, context);
        }));
    }

    /// Rewinds to `after`, or says `resync` when that is not kept or not there yet.
    pub(super) fn resume(&mut self, after: i64, context: &mut Context) {
        if self.phase == Phase::Lagging {
            // It read our word that it lags, and so all that went before.
            let settings = self.live.settings;
            self.window = Window::new(settings.window_messages, settings.window_bytes);
        }
        self.full_since = None;
        self.target = None;
        // Voids what is under way.
        self.turn += 1;
        self.is_busy = false;
        let newest = self.live.feed.newest();
        let is_near = match self.live.feed.read(after, 1) {
            RingRead::Frames(_) => true,
            RingRead::UpToDate => after == newest,
            RingRead::Behind => false,
        };
        if is_near {
            return self.rewind(after, newest, context);
        }
        let turn = self.begin_turn();
        let feed = self.live.feed.clone();
        let bounds = async move {
            loop {
                match feed.source().bounds().await {
                    Ok(bounds) => return bounds,
                    Err(_) => tokio::time::sleep(READ_AGAIN).await,
                }
            }
        };
        context.spawn(bounds.into_actor(self).map(move |(oldest, newest), session, context| {
            if !session.end_turn(turn) {
                return;
            }
            let newest = newest.max(session.live.feed.newest());
            if after > newest || after + 1 < oldest {
                session.resync(newest, context);
            } else {
                session.rewind(after, newest, context);
            }
        }));
    }

    fn rewind(&mut self, after: i64, newest: i64, context: &mut Context) {
        self.phase = Phase::Live;
        self.cursor = after;
        self.target = Some(newest);
        self.pump(context);
    }

    /// Says that events are lost to this client, and after which number it hears on.
    fn resync(&mut self, newest: i64, context: &mut Context) {
        self.phase = Phase::Live;
        self.target = None;
        self.cursor = newest;
        self.say("resync", json!({"seq": self.cursor}), context);
        self.pump(context);
    }

    fn end_resume(&mut self, context: &mut Context) {
        if self.target.is_some_and(|target| self.cursor >= target) {
            self.target = None;
            self.say("resumed", json!({"to": self.cursor}), context);
        }
    }

    /// A pong came.
    pub(super) fn confirmed(&mut self, payload: &[u8], context: &mut Context) {
        if self.window.pong(payload) {
            // Even a small step forward starts the patience anew.
            self.full_since = None;
            self.pump(context);
        }
    }

    /// The window is full: waits for a pong, for the patience at most.
    fn note_stall(&mut self, context: &mut Context) {
        if self.full_since.is_some() || self.live.feed.newest() <= self.cursor {
            return;
        }
        let since = Instant::now();
        self.full_since = Some(since);
        context.run_later(self.live.settings.patience, move |session, context| {
            if session.full_since == Some(since) && session.window.is_full() {
                session.lag(context);
            }
        });
    }

    fn lag(&mut self, context: &mut Context) {
        if self.phase != Phase::Live {
            return;
        }
        let dropped = u64::try_from(self.live.feed.newest() - self.cursor).unwrap_or_default();
        self.phase = Phase::Lagging;
        self.full_since = None;
        self.target = None;
        self.count_dropped(dropped, "lagged");
        let fields = json!({"dropped": dropped, "resumeAfter": self.cursor});
        self.say("lagged", fields, context);
        self.close_if_asked(context);
    }

    fn count_dropped(&self, messages: u64, reason: &'static str) {
        if messages > 0 {
            self.live.feed.count_dropped(messages);
            metrics::counter!(names::WS_DROPPED, "reason" => reason).increment(messages);
        }
    }

    /// Sends output and progress of running tasks; what the window does not take is dropped.
    pub(super) fn pump_transient(&mut self, context: &mut Context) {
        let Some(outbox) = self.listening.as_ref().map(|listening| listening.outbox.clone()) else {
            return;
        };
        let mut dropped = u64::try_from(outbox.take_dropped()).unwrap_or_default();
        while let Some(frame) = outbox.take() {
            if self.phase != Phase::Live || self.window.is_full() {
                dropped += 1;
            } else if self.filter.wants_transient(frame.event_type) {
                self.send(frame.text, context);
                if self.window.is_ping_due() {
                    self.ping(context);
                }
            }
        }
        self.count_dropped(dropped, "output");
    }
}
